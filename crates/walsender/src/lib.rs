//! One Postgres connection that can stream: connection strings, authentication, SQL, `CopyBoth`.
//!
//! ```text
//! Conninfo::parse -> Connection::connect -> Connection::query
//!                                        -> Connection::start_replication -> WalStream
//! ```
//!
//! The crate knows how bytes reach the server and come back, and nothing of what they mean to the
//! application. Three decisions shape it:
//!
//! * **No task of its own.** A [`WalStream`] is driven by its owner: wait with
//!   [`readable`](WalStream::readable), read with [`try_fill`](WalStream::try_fill), take messages
//!   with [`next`](WalStream::next). No channel lies between the socket and the decoder, and the
//!   owner decides when to read: that is its back-pressure, and the room to let data gather before
//!   it reads.
//! * **No copy.** A message is a slice of the chunk that the socket was read into, or that a record
//!   of TLS was put into. Whoever keeps a slice keeps the chunk: what is to live long must be
//!   copied.
//! * **Everything is bounded.** Each address has one time limit that covers authentication too; a
//!   message has a size limit, and a length field alone never makes the buffer grow.
//!
//! Every [`Error`] names what was being done; its source says what went wrong.

#![warn(missing_docs)]

mod backend;
mod command;
mod connection;
mod conninfo;
mod error;
mod foreign;
mod frame;
mod hosts;
mod negotiate;
mod row;
mod socket;
mod startup;
mod stream;
mod tls;
mod wire;

pub use crate::command::{StartReplication, quote_identifier, quote_literal};
pub use crate::connection::{ConnectOptions, Connection, Mode};
pub use crate::conninfo::{
    AuthMethod, ChannelBinding, Conninfo, ConninfoError, Endpoint, Host, HostEntry, RequireAuth,
    RootCert, SslCertMode, SslMode, SslNegotiation, TargetSessionAttrs, TcpSettings, TlsSettings,
    TlsVersion,
};
pub use crate::error::{Error, Notice, ServerError};
pub use crate::row::{ColumnIndex, Row};
pub use crate::stream::{Fill, StreamMessage, WalStream};
pub use crate::tls::TlsFault;
