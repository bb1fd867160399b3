//! Test harness of walpost: real servers, faults from outside, and an independent checker.
//!
//! * [`Postgres`] and [`Kafka`] are throwaway servers on free loopback ports that can be stopped,
//!   killed, frozen and started again in place. `shared()` gives one per test binary.
//! * [`Proxy`] stands between a client and a server and cuts, stalls, delays or swallows.
//! * [`Walpost`] runs the binary under test as its users do: a file, arguments, signals, logs.
//! * [`Writer`] commits transactions and keeps the [`Ledger`] of what was committed, [`Consumer`]
//!   reads topics, and [`check`] compares both, as `walpost-witness` judges: the checker shares no
//!   code with the relay and believes nothing that it says.
//!
//! Everything that runs outside the test process is registered with the [`Guardian`], so that it
//! ends with the process however that ends. Functions panic with a plain sentence where a test
//! could not go on anyway; they never wait without a deadline.

mod checker;
mod consumer;
mod guardian;
mod kafka;
mod lookup;
mod mistakes;
mod oauth;
mod pgbouncer;
mod pki;
mod port;
mod postgres;
mod process;
mod proxy;
mod scale;
mod settled;
mod wait;
mod walpost;
mod writer;

pub use checker::{Report, check};
pub use consumer::{Consumer, read_all};
pub use guardian::{GuardedDir, Guardian, guardian};
pub use kafka::{Kafka, KafkaBuilder, Right, SecuredKafka};
pub use lookup::{cache_dir, repository_root};
pub use mistakes::Mistake;
pub use oauth::{Answer, Issuer, TokenEndpoint, TokenRequest};
pub use pgbouncer::PgBouncer;
pub use pki::{Authority, Identity};
pub use port::{Port, free_port};
pub use postgres::{
    Binaries, Database, Lsn, Postgres, PostgresBuilder, SlotRow, StandbyBuilder, Stop,
};
pub use process::{Held, Process};
pub use proxy::{Direction, Proxy};
pub use scale::scaled;
pub use settled::Settled;
pub use wait::{try_wait_until, unique, wait_until};
pub use walpost::{Finished, PARKED, Running, SECRET, UNPARKED, Walpost, said};
pub use walpost_witness::Record;
pub use writer::{Ledger, RunningWriter, Writer, Written, copy_text};
