//! The messages inside `CopyData` while a replication stream is open (`CopyBoth` mode).
//!
//! The formats are in the manual's "Streaming Replication Protocol", under `START_REPLICATION`.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    error::{DecodeError, DecodeErrorKind},
    lsn::Lsn,
    read::Reader,
    time::PgTimestamp,
};

const XLOG_DATA: u8 = b'w';
const KEEPALIVE: u8 = b'k';
const STANDBY_STATUS: u8 = b'r';

/// What the server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyMessage {
    /// A piece of the stream; for `pgoutput` exactly one [`Message`](crate::Message).
    XLogData(XLogData),
    /// A sign of life between pieces.
    Keepalive(Keepalive),
}

impl CopyMessage {
    /// Decodes the payload of one `CopyData` message.
    ///
    /// # Errors
    ///
    /// When the payload is neither of the two messages, or is longer or shorter than it.
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        const TAG: &str = "the tag 'w' or 'k'";
        let mut reader = Reader::new(&payload, "replication message");
        let message = match reader.u8(TAG)? {
            XLOG_DATA => Self::XLogData(XLogData::read(&mut reader.named("XLogData"))?),
            KEEPALIVE => {
                let mut reader = reader.named("Keepalive");
                let keepalive = Keepalive::read(&mut reader)?;
                reader.end()?;
                Self::Keepalive(keepalive)
            }
            tag => return Err(reader.error_at(0, TAG, DecodeErrorKind::UnknownTag { tag })),
        };
        Ok(message)
    }

    /// Appends the payload, for those who play the server.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::XLogData(data) => data.encode(out),
            Self::Keepalive(keepalive) => keepalive.encode(out),
        }
    }
}

/// A piece of the stream.
///
/// `Debug` shows the length of the data, never the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct XLogData {
    /// Where the piece starts. With `pgoutput`: the end of the commit record for Commit, 0 for what
    /// has no position, such as Relation, else the position of the change.
    pub wal_start: Lsn,
    /// The end of the log on the server. A walsender that decodes logically repeats `wal_start`
    /// here.
    pub wal_end: Lsn,
    /// The server's clock when it sent this.
    pub server_time: PgTimestamp,
    /// The output plugin's message.
    pub data: Bytes,
}

impl XLogData {
    /// Appends the payload, for those who play the server.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(XLOG_DATA);
        out.put_u64(self.wal_start.as_u64());
        out.put_u64(self.wal_end.as_u64());
        out.put_i64(self.server_time.as_micros());
        out.put_slice(&self.data);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            wal_start: reader.lsn("the start of the data")?,
            wal_end: reader.lsn("the end of the log")?,
            server_time: reader.timestamp("the server's clock")?,
            data: reader.rest(),
        })
    }
}

impl fmt::Debug for XLogData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("XLogData")
            .field("wal_start", &self.wal_start)
            .field("wal_end", &self.wal_end)
            .field("server_time", &self.server_time)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .finish()
    }
}

/// The server's sign of life ("Primary keepalive message").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How far the server has read and sent: everything below it that this stream carries is in
    /// front.
    pub wal_end: Lsn,
    /// The server's clock when it sent this.
    pub server_time: PgTimestamp,
    /// Whether a status is due at once, so that the server does not take the client for dead.
    pub reply_requested: bool,
}

impl Keepalive {
    /// Appends the payload, for those who play the server.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(KEEPALIVE);
        out.put_u64(self.wal_end.as_u64());
        out.put_i64(self.server_time.as_micros());
        out.put_u8(u8::from(self.reply_requested));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            wal_end: reader.lsn("the end of the log")?,
            server_time: reader.timestamp("the server's clock")?,
            reply_requested: reader.u8("the request for a reply")? != 0,
        })
    }
}

/// What the client answers ("Standby status update").
///
/// All positions are those of the last byte plus one. 0 means that there is nothing to say: the
/// server leaves the slot where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyStatus {
    /// Up to where the client has received.
    pub write: Lsn,
    /// Up to where the client never asks again: the slot's `confirmed_flush_lsn` moves here, and
    /// the server may remove the log below it.
    pub flush: Lsn,
    /// Up to where the client has applied; only shown in `pg_stat_replication`.
    pub apply: Lsn,
    /// The client's clock.
    pub client_time: PgTimestamp,
    /// Whether the server shall answer with a keepalive at once.
    pub reply_requested: bool,
}

impl StandbyStatus {
    /// Length of the encoded message in bytes.
    pub const LEN: usize = 34;

    /// The payload of the `CopyData` message to send, tag included.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut payload = [0; Self::LEN];
        let mut out = payload.as_mut_slice();
        out.put_u8(STANDBY_STATUS);
        out.put_u64(self.write.as_u64());
        out.put_u64(self.flush.as_u64());
        out.put_u64(self.apply.as_u64());
        out.put_i64(self.client_time.as_micros());
        out.put_u8(u8::from(self.reply_requested));
        assert!(out.is_empty(), "LEN is the sum of the fields");
        payload
    }

    /// Decodes the payload of one `CopyData` message, for those who play the server.
    ///
    /// # Errors
    ///
    /// When the payload is another message, or is longer or shorter than this one.
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        const TAG: &str = "the tag 'r'";
        let mut reader = Reader::new(&payload, "StandbyStatus");
        let tag = reader.u8(TAG)?;
        if tag != STANDBY_STATUS {
            return Err(reader.error_at(0, TAG, DecodeErrorKind::UnknownTag { tag }));
        }
        let status = Self {
            write: reader.lsn("the write position")?,
            flush: reader.lsn("the flush position")?,
            apply: reader.lsn("the apply position")?,
            client_time: reader.timestamp("the client's clock")?,
            reply_requested: reader.u8("the request for a reply")? != 0,
        };
        reader.end()?;
        Ok(status)
    }
}

#[cfg(test)]
mod tests;
