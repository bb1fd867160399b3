//! What walpost refuses: with which exit code, in which words, and that nothing goes past it.
//!
//! Every command of this file is run by [`stage::Stage`], which looks for planted secrets in
//! everything that it printed and logged.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as its test does"
)]
#![allow(clippy::print_stdout, reason = "figures for whoever asks for them")]

mod check;
mod checkpoint;
mod configuration;
mod drift;
mod events;
mod frozen;
mod init;
mod scripted;
mod secrets;
mod servers;
mod setup;
mod small_disk;
mod spare;
mod stage;
mod tls;
mod undeliverable;

use std::time::Duration;

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(60);

/// Headings of the page of mistakes.
const CONFIGURATION: &str = "Configuration";
const POSTGRES: &str = "Connecting to Postgres";
const SERVER: &str = "Server, slot, publication and table";
const KAFKA: &str = "Connecting to Kafka";
const TOPICS: &str = "Topics";
const EVENTS: &str = "Events";
