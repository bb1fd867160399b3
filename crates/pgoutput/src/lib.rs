//! The bytes of Postgres' logical replication protocol, decoded and encoded.
//!
//! ```text
//! CopyData payload ── CopyMessage::decode ──> Keepalive
//!                                        └──> XLogData.data ── Message::decode ──> Begin, ...
//! StandbyStatus ── encode ──> CopyData payload
//! ```
//!
//! The crate is pure: no sockets, no clock, no state between two messages. It speaks version 1 of
//! the `pgoutput` protocol, which carries committed transactions only, in commit order, never
//! interleaved.
//!
//! * **Nothing is copied.** Names, values and contents are slices of the buffer that came in. The
//!   one exception is [`Relation`]: callers keep it for a whole session, so it gets a buffer of its
//!   own and does not pin the one the socket was read into.
//! * **Checked once, then read freely.** [`Message::decode`] walks every length of a message,
//!   refuses what is cut short or too long, and only then hands out a [`Tuple`], whose cells are
//!   read without allocation and without errors.
//! * **The input is not trusted.** No bytes make a decoder panic or allocate more than they can
//!   describe. A [`DecodeError`] names the message, the field and the byte.
//!
//! The encoders of messages exist for those that play the server: models, property tests, fuzzing.
//!
//! The formats are in the PostgreSQL manual, "Streaming Replication Protocol" and "Logical
//! Replication Message Formats".
//!
//! ```
//! use bytes::Bytes;
//! use walpost_pgoutput::{Cell, Lsn, Message};
//!
//! // Insert into relation 16385 of one row with two columns: the text `42`, and NULL.
//! let data = Bytes::from_static(b"I\x00\x00\x40\x01N\x00\x02t\x00\x00\x00\x0242n");
//! let Message::Insert(insert) = Message::decode(data)? else { panic!("not an insert") };
//! assert_eq!(insert.new.cells().collect::<Vec<_>>(), [Cell::Text(b"42"), Cell::Null]);
//! # Ok::<(), walpost_pgoutput::DecodeError>(())
//! ```

#![warn(missing_docs)]

mod copy;
mod error;
mod lsn;
mod message;
mod read;
mod time;
mod tuple;
mod write;

pub use crate::copy::{CopyMessage, Keepalive, StandbyStatus, XLogData};
pub use crate::error::{DecodeError, DecodeErrorKind};
pub use crate::lsn::{Lsn, ParseLsnError};
pub use crate::message::{
    Begin, Column, Commit, Delete, Insert, LogicalMessage, Message, OldTuple, Origin, Relation,
    RelationId, Truncate, Type, Update,
};
pub use crate::time::PgTimestamp;
pub use crate::tuple::{Cell, Cells, Tuple};
