//! A judge of walpost that shares no code with it.
//!
//! A [`History`] is what can be known from outside: what was committed, as another logical slot
//! with Postgres' own `test_decoding` tells it ([`decoding`]) or as the writers wrote it down; the
//! records of the topics ([`Topics`]); and, taken while the relay ran, what it had confirmed beside
//! where the topics ended ([`Sampler`]). [`judge`] finds every [`Anomaly`] in it. It is a function
//! of its argument: what it finds is tested with histories that have each anomaly planted.
//!
//! The binary of the same name does it for a database and topics of anybody's.

mod content;
pub mod decoding;
mod history;
mod order;
mod placement;
mod postgres;
mod progress;
mod record;
mod topics;
mod verdict;
mod versions;
mod walk;

pub use content::expected;
pub use history::{Commit, Event, Expected, History, Lsn, Rules, Sample, Version};
pub use order::judge;
pub use placement::partition;
pub use postgres::{Ledger, Witness};
pub use record::Record;
pub use topics::{Sampler, Topics};
pub use verdict::{Anomaly, Kind, Verdict};
