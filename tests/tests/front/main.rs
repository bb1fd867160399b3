//! The command line as a person and a script meet it: help, pages, reports, colours, logs, signals.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as its test does"
)]

mod color;
mod help;
mod json;
mod logs;
mod pages;
mod signals;
mod sources;
mod streams;

use std::time::Duration;

use walpost_tests::{Finished, Walpost};

/// Enough on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(60);

/// A configuration whose servers nobody asks.
fn offline() -> Walpost {
    Walpost::minimal("postgresql://u@127.0.0.1:1/d", "127.0.0.1:1", "front")
}

/// Runs the binary with exactly these arguments.
#[track_caller]
fn plain(args: &[&str]) -> Finished {
    Walpost::new("").start_plain(args).finish(SOON)
}
