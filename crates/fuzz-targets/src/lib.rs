//! What the fuzzers run: one function for each target, from bytes to nothing, or to a panic.
//!
//! The same functions are run by `fuzz/` under a fuzzer, which needs a nightly toolchain, and by
//! `tests/replay.rs` over the inputs that are kept in `fuzz/seeds`, in every `make test`. There
//! the memory that an input takes is counted too.

#![warn(missing_docs)]
// The modules of the relay bring their own tests, which run where they belong.
#![cfg(not(test))]

mod copy_both;
mod decode;
mod peer;
mod quoting;
mod startup;

#[cfg(feature = "relay")]
mod relay;

// Modules of the relay, which is a program and no library. It has more uses for them.
#[cfg(feature = "relay")]
#[allow(dead_code, unused_imports, unreachable_pub)]
#[path = "../../walpost/src/config/mod.rs"]
mod config;
#[cfg(feature = "relay")]
#[allow(dead_code)]
#[path = "../../walpost/src/error.rs"]
mod error;
#[cfg(feature = "relay")]
#[allow(dead_code)]
#[path = "../../walpost/src/exit.rs"]
mod exit;
#[cfg(feature = "relay")]
#[path = "../../walpost/src/checkpoint/record.rs"]
mod record;
#[cfg(feature = "relay")]
#[allow(dead_code)]
#[path = "../../walpost/src/sql.rs"]
mod sql;

/// A target: its name, and what it does with an input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As its fuzzer and its seeds are called.
    pub name: &'static str,
    /// Panics at an input that shows a fault.
    pub run: fn(&[u8]),
    /// How much memory an input may take at once, beside a mebibyte and some multiple of itself:
    /// what the parsers declare as their limits.
    pub bytes_max: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "copy_message",
        run: decode::copy_message,
        bytes_max: 0,
    },
    Target {
        name: "pgoutput",
        run: decode::pgoutput,
        bytes_max: 0,
    },
    Target {
        name: "copy_both",
        run: copy_both::run,
        bytes_max: peer::MESSAGE_BYTES_MAX + peer::BUFFER_BYTES_MAX,
    },
    Target {
        name: "startup",
        run: startup::run,
        bytes_max: peer::MESSAGE_BYTES_MAX + peer::BUFFER_BYTES_MAX,
    },
    Target {
        name: "quoting",
        run: quoting::run,
        bytes_max: 0,
    },
    #[cfg(feature = "relay")]
    Target {
        name: "config",
        run: relay::config,
        // The nodes that are taken of a text, which can name one many times, and what each takes.
        bytes_max: 20_000 << 8,
    },
    #[cfg(feature = "relay")]
    Target {
        name: "checkpoint",
        run: relay::checkpoint,
        bytes_max: 0,
    },
];

/// Runs the target of that name.
///
/// # Panics
///
/// When the input shows a fault, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("there is no target {name}"));
    (target.run)(input);
}
