//! The messages of the output plugin `pgoutput`, protocol version 1.
//!
//! The formats are in the manual's "Logical Replication Message Formats"; what is sent when is in
//! "Logical Streaming Replication Protocol". Names are raw bytes in the client encoding: a database
//! in `SQL_ASCII` may hold any.

use std::fmt;

use bytes::Bytes;

use crate::{lsn::Lsn, time::PgTimestamp, tuple::Tuple};

mod decode;
mod encode;

/// One message of the output plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A committed transaction starts.
    Begin(Begin),
    /// It ends.
    Commit(Commit),
    /// The transaction was replicated to this server from elsewhere. It follows Begin.
    Origin(Origin),
    /// The columns of a table, before its first row on this connection and again after a change.
    Relation(Relation),
    /// The name of a type that is not built in, before the first Relation that uses it.
    Type(Type),
    /// A new row.
    Insert(Insert),
    /// A changed row.
    Update(Update),
    /// A removed row.
    Delete(Delete),
    /// Tables that were emptied.
    Truncate(Truncate),
    /// What somebody passed to `pg_logical_emit_message`. It is sent only with the option
    /// `messages`.
    Logical(LogicalMessage),
}

impl Message {
    /// The name that the manual gives to this kind of message, for logs and errors.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Begin(_) => "Begin",
            Self::Commit(_) => "Commit",
            Self::Origin(_) => "Origin",
            Self::Relation(_) => "Relation",
            Self::Type(_) => "Type",
            Self::Insert(_) => "Insert",
            Self::Update(_) => "Update",
            Self::Delete(_) => "Delete",
            Self::Truncate(_) => "Truncate",
            Self::Logical(_) => "Message",
        }
    }
}

/// A committed transaction starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Start of the transaction's commit record; equal to [`Commit::commit_lsn`] of its end.
    pub final_lsn: Lsn,
    /// When it was committed, by the clock of the server that committed it.
    pub commit_time: PgTimestamp,
    /// The transaction's id. It wraps around.
    pub xid: u32,
}

/// A transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Not used by the server so far: 0.
    pub flags: u8,
    /// Start of the commit record.
    pub commit_lsn: Lsn,
    /// End of the commit record: confirming it confirms the transaction. The next one's commit
    /// record may start exactly here.
    pub end_lsn: Lsn,
    /// When it was committed, by the clock of the server that committed it.
    pub commit_time: PgTimestamp,
}

/// Where a transaction came from that was replicated to this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The transaction's commit position on the server of origin.
    pub commit_lsn: Lsn,
    /// The origin's name in `pg_replication_origin`.
    pub name: Bytes,
}

/// The `oid` of a table in `pg_class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u32);

/// The columns of a table, as its rows are sent from here on.
///
/// It has a buffer of its own, so keeping it does not keep the buffer it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The table, or the partitioned root where the publication says so.
    pub id: RelationId,
    /// Its schema; empty for `pg_catalog`.
    pub namespace: Bytes,
    /// Its name.
    pub name: Bytes,
    /// `relreplident` of `pg_class`: `d` default, `n` nothing, `f` full, `i` index.
    pub replica_identity: u8,
    /// The published columns, in the order of the cells of a row. Generated columns are not among
    /// them.
    pub columns: Vec<Column>,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Whether the column is part of the replica identity.
    pub is_key: bool,
    /// Its name.
    pub name: Bytes,
    /// `atttypid` of `pg_attribute`.
    pub type_oid: u32,
    /// `atttypmod` of `pg_attribute`; -1 where the type has none.
    pub type_modifier: i32,
}

/// The name of a type that is not built in.
///
/// For a domain the id is the domain's, but schema and name are those of the type below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// The type's `oid` in `pg_type`, as in [`Column::type_oid`].
    pub type_oid: u32,
    /// Its schema; empty for `pg_catalog`.
    pub namespace: Bytes,
    /// Its name.
    pub name: Bytes,
}

/// A new row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// The table.
    pub relation: RelationId,
    /// The row.
    pub new: Tuple,
}

/// A changed row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The table.
    pub relation: RelationId,
    /// The row before, where the replica identity is full or a column of it changed.
    pub old: Option<OldTuple>,
    /// The row after.
    pub new: Tuple,
}

/// A removed row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// The table.
    pub relation: RelationId,
    /// The row.
    pub old: OldTuple,
}

/// A row as it was before an UPDATE or a DELETE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldTuple {
    /// Only the columns of the replica identity have values; the others are NULL.
    Key(Tuple),
    /// The whole row: the table's replica identity is full.
    Full(Tuple),
}

/// Tables that were emptied by one TRUNCATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// Bit 0: CASCADE; bit 1: RESTART IDENTITY.
    pub options: u8,
    /// The tables.
    pub relations: Vec<RelationId>,
}

/// What somebody passed to `pg_logical_emit_message` ("Message" in the manual).
///
/// `Debug` shows the length of the content, never the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct LogicalMessage {
    /// Whether it belongs to a transaction. If not, it is sent outside of Begin and Commit, also
    /// when the transaction that emitted it was rolled back.
    pub transactional: bool,
    /// Its position.
    pub lsn: Lsn,
    /// Says who it is meant for.
    pub prefix: Bytes,
    /// Its bytes.
    pub content: Bytes,
}

impl fmt::Debug for LogicalMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LogicalMessage")
            .field("transactional", &self.transactional)
            .field("lsn", &self.lsn)
            .field("prefix", &self.prefix)
            .field("content", &format_args!("{} bytes", self.content.len()))
            .finish()
    }
}

#[cfg(test)]
mod tests;
