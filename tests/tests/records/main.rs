//! What a record is: which rows become one, with which bytes, where, and in which order.
//!
//! Every test has a database, a slot and topics of its own on the servers of this test binary. What
//! is expected is taken from SQL, from what the documentation promises, and from an implementation
//! of Kafka's placement that stands here: from nothing that the relay says about itself.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as its test does"
)]

mod arrival;
mod expected;
mod formats;
mod layouts;
mod nulls;
mod payloads;
mod routes;
mod stage;
mod tables;
mod topics;
mod transactions;
mod types;

use std::time::Duration;

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(60);

/// Whether the sizes of the acceptance test are asked for.
fn is_full_scale() -> bool {
    std::env::var("WALPOST_TEST_SCALE").is_ok_and(|scale| scale == "full")
}
