//! A replication stream: `CopyBoth` in both directions, driven by its owner.

use std::{io, time::Duration};

use bytes::BufMut;
use postgres_protocol::message::frontend;
use tokio::{io::Interest, time::timeout};
use walpost_pgoutput::{CopyMessage, StandbyStatus};

use crate::{
    backend::{self, tag},
    error::{Cause, Error, Notice},
    frame::{Filled, Frame},
    wire::Wire,
};

const READ: &str = "read the replication stream";
const WRITE: &str = "write to the replication stream";
const FINISH: &str = "finish the replication stream";

/// A replication stream.
///
/// Nothing happens between calls. The owner repeats:
///
/// 1. [`next`](Self::next) until it returns `None`. This comes first: the start of the stream may
///    have arrived together with the server's consent to it.
/// 2. Wait for [`readable`](Self::readable), and for [`writable`](Self::writable) while
///    [`wants_write`](Self::wants_write).
/// 3. [`try_fill`](Self::try_fill), [`try_flush`](Self::try_flush).
///
/// After a read that brought something, the owner may sleep, its thread with it, and call
/// `try_fill` again without waiting for `readable`: by then more has gathered. After
/// [`Fill::WouldBlock`] it has to wait: only the runtime learns that there is something to read.
///
/// Dropping the stream closes the socket at once. [`finish`](Self::finish) ends it properly.
#[derive(Debug)]
pub struct WalStream {
    wire: Wire,
    phase: Phase,
    closed: Option<Closed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Streaming,
    /// The server has ended the stream in good order.
    Ended,
}

/// Why nothing more can be read.
#[derive(Debug)]
enum Closed {
    Eof,
    Failed(io::Error),
}

/// What [`WalStream::try_fill`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Bytes were read.
    Read {
        /// How many; at least one.
        bytes: usize,
        /// Whether they filled the space that was offered, 64 KiB at least: more is likely to be
        /// waiting.
        full: bool,
    },
    /// There is nothing to read now.
    WouldBlock,
    /// Nothing more will come: the server ended the stream in good order, or it closed the
    /// connection and messages that came before are still to be taken; after them
    /// [`WalStream::next`] returns the error.
    Eof,
}

/// A message of the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamMessage {
    /// Data or a keepalive. Data is a slice of the chunk that was read, up to 256 KiB; the whole
    /// chunk lives as long as any slice of it.
    Copy(CopyMessage),
    /// The server says something. From PostgreSQL 18 on, a missing publication is no more than
    /// that.
    Notice(Notice),
    /// The server has ended the stream in good order; it does so when it shuts down and all it sent
    /// has been confirmed. Comes once; no data follows.
    Ended,
}

impl WalStream {
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            wire,
            phase: Phase::Streaming,
            closed: None,
        }
    }

    /// Waits until there may be something to read. Cancel-safe: it does nothing but wait. Now and
    /// then it yields to the runtime even when there is, so that a busy stream does not stop the
    /// timers.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub async fn readable(&mut self) -> Result<(), Error> {
        self.wait_for(Interest::READABLE, READ).await
    }

    /// Waits until something can be written. Cancel-safe, as [`readable`](Self::readable).
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub async fn writable(&mut self) -> Result<(), Error> {
        self.wait_for(Interest::WRITABLE, WRITE).await
    }

    /// Waits for either, as asked for: something to read, something can be written. With neither
    /// it waits for ever. Cancel-safe, as [`readable`](Self::readable).
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub async fn ready(&mut self, reads: bool, writes: bool) -> Result<(), Error> {
        let interest = match (reads, writes) {
            (false, false) => return std::future::pending().await,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (true, true) => Interest::READABLE | Interest::WRITABLE,
        };
        self.wait_for(interest, READ).await
    }

    async fn wait_for(&self, interest: Interest, action: &'static str) -> Result<(), Error> {
        let ready = self.wire.socket.ready(interest).await;
        ready.map_err(|error| Error::new(action, Cause::Io(error)))
    }

    /// Reads once from the socket into the buffer, without waiting.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) when the connection is gone without an orderly end and no
    /// complete message is left in the buffer; other errors of the socket likewise.
    pub fn try_fill(&mut self) -> Result<Fill, Error> {
        if self.closed.is_none() {
            match self.wire.try_fill() {
                Ok(None) => return Ok(Fill::WouldBlock),
                Ok(Some(Filled { bytes: 0, .. })) => self.closed = Some(Closed::Eof),
                Ok(Some(Filled { bytes, full })) => return Ok(Fill::Read { bytes, full }),
                Err(error) => self.closed = Some(Closed::Failed(error)),
            }
        }
        match self.phase {
            Phase::Ended => Ok(Fill::Eof),
            Phase::Streaming if self.wire.input.has_frame() => Ok(Fill::Eof),
            Phase::Streaming => Err(Error::new(READ, self.why_closed())),
        }
    }

    /// The next message that is completely in the buffer. Reads nothing from the socket, copies
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`server`](Error::server) for an error that the server sent; the stream is over, whether or
    /// not the server closes the connection. [`is_closed`](Error::is_closed) when the connection is
    /// gone and nothing is left to take. [`is_protocol`](Error::is_protocol) and
    /// [`is_too_large`](Error::is_too_large) for bytes that can't be gone past.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's `None` is its end; here it means that more has to be read"
    )]
    pub fn next(&mut self) -> Result<Option<StreamMessage>, Error> {
        self.next_message().map_err(|cause| Error::new(READ, cause))
    }

    fn next_message(&mut self) -> Result<Option<StreamMessage>, Cause> {
        while let Some(frame) = self.wire.input.next_frame()? {
            match (frame.tag, self.phase) {
                (tag::COPY_DATA, Phase::Streaming) => {
                    let offset = frame.offset;
                    let message = CopyMessage::decode(frame.body)
                        .map_err(|source| Cause::Decode { offset, source })?;
                    return Ok(Some(StreamMessage::Copy(message)));
                }
                (tag::NOTICE_RESPONSE, _) => {
                    return Ok(Some(StreamMessage::Notice(backend::notice(frame)?)));
                }
                _ => {
                    if self.end_of_stream(frame)? {
                        return Ok(Some(StreamMessage::Ended));
                    }
                }
            }
        }
        match (&self.closed, self.phase) {
            (Some(_), Phase::Streaming) => Err(self.why_closed()),
            (Some(_), Phase::Ended) | (None, _) => Ok(None),
        }
    }

    /// Takes a message that is neither data nor a notice. Whether it ends the stream.
    fn end_of_stream(&mut self, frame: Frame) -> Result<bool, Cause> {
        match (frame.tag, self.phase) {
            (tag::COPY_DONE | tag::COMMAND_COMPLETE, Phase::Streaming) => {
                self.phase = Phase::Ended;
                Ok(true)
            }
            // The end takes several messages: CopyDone, CommandComplete twice, ReadyForQuery.
            (tag::COPY_DONE | tag::COMMAND_COMPLETE | tag::READY_FOR_QUERY, Phase::Ended) => {
                Ok(false)
            }
            // A reload of the server's configuration is told in any phase.
            (tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE, _) => Ok(false),
            (tag::ERROR_RESPONSE, _) => Err(Cause::server(backend::server_error(frame)?)),
            (tag, _) => Err(Cause::protocol(
                "unexpected in the stream",
                tag,
                frame.offset,
            )),
        }
    }

    /// The reason that was kept; told once in full.
    fn why_closed(&mut self) -> Cause {
        match self.closed.replace(Closed::Eof) {
            Some(Closed::Failed(error)) => Cause::io(error),
            Some(Closed::Eof) | None => Cause::Closed,
        }
    }

    /// Bytes that were read and not taken by [`next`](Self::next) yet.
    pub fn buffered(&self) -> usize {
        self.wire.input.buffered()
    }

    /// Puts a status update into the queue for [`try_flush`](Self::try_flush).
    pub fn queue_status(&mut self, status: &StandbyStatus) {
        const LENGTH_BYTES: usize = 4;
        let payload = status.encode();
        let length =
            u32::try_from(LENGTH_BYTES + payload.len()).expect("a status has a fixed size");
        self.wire.output.put_u8(tag::COPY_DATA);
        self.wire.output.put_u32(length);
        self.wire.output.put_slice(&payload);
    }

    /// Whether something is queued.
    pub fn wants_write(&self) -> bool {
        !self.wire.output.is_empty()
    }

    /// Writes what is queued, as far as the socket takes it without waiting. Whether nothing is
    /// left.
    ///
    /// # Errors
    ///
    /// When the connection is gone. The server's reason is given where it had sent one: that
    /// replaces all messages that were not taken yet.
    pub fn try_flush(&mut self) -> Result<bool, Error> {
        self.wire
            .try_flush()
            .map_err(|cause| Error::new(WRITE, cause))
    }

    /// Ends the stream in good order: writes what is queued, says that nothing more comes, reads
    /// and discards until the server agrees, and closes. A socket that is closed with unread data
    /// is reset, and the last status could go with it.
    ///
    /// # Errors
    ///
    /// [`is_timeout`](Error::is_timeout) when the deadline, counted from now, passes first: inside
    /// a large transaction the server sends all of it before it agrees. The connection is closed in
    /// any case.
    pub async fn finish(mut self, deadline: Duration) -> Result<(), Error> {
        frontend::copy_done(&mut self.wire.output);
        match timeout(deadline, self.run_out()).await {
            Ok(result) => result,
            Err(_) => Err(Cause::Timeout(deadline)),
        }
        .map_err(|cause| Error::new(FINISH, cause))
    }

    async fn run_out(&mut self) -> Result<(), Cause> {
        while !self.discard()? {
            let flushed = match self.wire.try_flush() {
                Ok(flushed) => flushed,
                // It ended the stream first, and went away.
                Err(_) if self.phase == Phase::Ended => return Ok(()),
                Err(cause) => return Err(cause),
            };
            match self.wire.try_fill().map_err(Cause::io)? {
                Some(Filled { bytes: 0, .. }) if self.phase == Phase::Ended => return Ok(()),
                Some(Filled { bytes: 0, .. }) if self.wire.input.has_frame() => {}
                Some(Filled { bytes: 0, .. }) => return Err(Cause::Closed),
                Some(_) => {}
                None => {
                    let interest = if flushed {
                        Interest::READABLE
                    } else {
                        Interest::READABLE | Interest::WRITABLE
                    };
                    self.wire.socket.ready(interest).await.map_err(Cause::Io)?;
                }
            }
        }
        frontend::terminate(&mut self.wire.output);
        // The server has confirmed the end; this is only a courtesy to its log.
        drop(self.wire.try_flush());
        Ok(())
    }

    /// Drops what is in the buffer. Whether the server is ready for other commands: the end.
    fn discard(&mut self) -> Result<bool, Cause> {
        while let Some(frame) = self.wire.input.next_frame()? {
            match frame.tag {
                tag::COPY_DATA | tag::NOTICE_RESPONSE => {}
                tag::READY_FOR_QUERY if self.phase == Phase::Ended => return Ok(true),
                _ => drop(self.end_of_stream(frame)?),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
