//! Every way to connect to Kafka, and what goes wrong on it, with real brokers.
//!
//! One broker with many listeners serves all tests of this binary. Passwords, passphrases and
//! secrets have a word in them that no run may print; [`stage`] and the harness look for it.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as its test does"
)]
#![allow(clippy::print_stdout, reason = "figures for whoever asks for them")]

mod away;
mod codecs;
mod docs;
mod fatal;
mod refusals;
mod replicas;
mod rights;
mod rotation;
mod sizes;
mod stage;
mod tokens;
mod topics;
mod ways;

use std::time::Duration;

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(60);
