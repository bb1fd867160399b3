//! Every decision of the relay, as values: WAL in, records out, LSN confirmed.
//!
//! ```text
//! CopyMessage -> stream -> mapping -> window -> Record -> (Kafka) -> Delivery -> window -> LSN
//!                   |                   ^                                              |
//!                   +---- boundaries ---+                        feedback <------------+
//! ```
//!
//! The crate is pure: no async, no clock, no randomness, no sockets, no environment. [`Relay`] is
//! one session's state machine and holds its contract; [`start`] says where a session may begin,
//! [`ending`] when it is over, [`slot`] whose the slot is meanwhile, [`silence`] when a stream is
//! dead, [`park`] when Kafka is, [`hold`] when an event that is in the way is worth another try,
//! [`class`] what an error means, [`backoff`] how long to wait before the next one.
//!
//! What always holds, and is asserted in every build:
//!
//! * the confirmed LSN never decreases, and only a commit's end or a keepalive's position outside a
//!   transaction can become it, when every record before it is acknowledged;
//! * a status update never reports more than it, nor, until the grace is over, more than the
//!   checkpoint holds;
//! * records leave in commit order, each with a ticket that is settled at most once;
//! * what is in flight stays within [`limits::WindowLimits`].

#![warn(missing_docs)]

pub mod backoff;
pub mod class;
pub mod cluster;
mod dead_letter;
pub mod ending;
mod error;
mod event;
mod feedback;
mod history;
pub mod hold;
#[cfg(test)]
mod instants;
pub mod judge;
pub mod limits;
mod mapping;
pub mod park;
pub mod past;
mod placement;
mod recent;
mod recorder;
mod relay;
mod rulings;
pub mod silence;
pub mod slot;
pub mod start;
mod stream;
mod topics;
mod window;

pub use crate::error::{Reason, Rejection, RelayError, Undeliverable};
pub use crate::event::{EventId, Header, Position, Record, Ticket, Topic};
pub use crate::feedback::Status;
pub use crate::history::History;
pub use crate::mapping::{
    BindError, Format, Layout, Mapping, MappingSpec, NeededColumn, NullPayload, Role, SpecError,
    TableName, is_read_in_binary,
};
pub use crate::recent::Recent;
pub use crate::recorder::Recording;
pub use crate::relay::{Delivery, Relay, Session, Snapshot};
pub use crate::rulings::{Exception, Found, Halt, Policy, Rulings};
pub use crate::stream::ProtocolError;
pub use crate::topics::{TopicFault, TopicNews, Topics};
