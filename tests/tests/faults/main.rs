//! Faults from outside, under load: the relay goes on by itself, and nothing is lost.
//!
//! Each test has a Postgres and a Kafka to itself while it runs, because it stops, kills and
//! freezes both. There are two of each, so two tests run at once; one that asserts how long
//! something takes runs alone. With `WALPOST_TEST_SCALE=full` the load and the outages have the
//! sizes that the documentation speaks of. Every test prints a line of figures (`--nocapture`
//! shows it).

#![allow(
    clippy::print_stdout,
    reason = "figures are what a run at full scale is for"
)]

mod kafka;
mod park;
mod postgres;
mod relay;
mod rig;
mod stop;

use std::time::Duration;

use walpost_tests::scaled;

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(90);

/// A size of bytes for people.
fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}
