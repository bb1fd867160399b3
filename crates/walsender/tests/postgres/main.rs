//! The crate against a real PostgreSQL server.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are tests to their readers"
)]

mod cluster;
mod connecting;
mod libpq;
#[path = "../server/mod.rs"]
mod server;
mod shutdown;
mod streaming;
mod tls;
