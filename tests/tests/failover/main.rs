//! A physical standby takes over under load: the relay goes on there by itself where it can, and
//! says what it can't know.
//!
//! Each test has two servers of its own. Those that need failover slots run on PostgreSQL 18, where
//! it is there; `WALPOST_TEST_FAILOVER_PG_BIN` names the `bin` directory of another version from 17
//! on. Every test prints a line of figures (`--nocapture` shows it).

#![allow(
    clippy::print_stdout,
    reason = "figures are what somebody who runs them wants to see"
)]

mod behind;
mod pair;
mod returned;
mod synchronised;
mod unsynchronised;
mod upgrade;

use std::time::Duration;

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(90);
