//! The crate beside libpq: every way to use TLS and to authenticate, against real servers, with
//! `psql` as the judge.
//!
//! A *cell* is one connection string in one environment. `psql` tries it, the crate tries it, and
//! both have to end the same: connected with TLS, connected in the clear, or refused. The cells
//! are the rows and columns of the tables in `docs/tls.md`, which this test writes.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are tests to their readers"
)]

mod cell;
mod certificates;
mod fake;
mod faults;
mod machine;
mod ours;
mod reference;
mod run;
#[path = "../server/mod.rs"]
mod server;
mod table;
