//! The harness itself: a harness that can't fail proves nothing about the relay.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as its test does"
)]

mod guardian;
mod kafka;
mod postgres;
mod proxy;
mod walpost;
mod witness;
mod writer;

use std::time::Duration;

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(30);
