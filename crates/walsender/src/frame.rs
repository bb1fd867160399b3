//! Bytes of the socket into messages.
//!
//! The socket is read into chunks; messages are slices of them, so nothing is copied but the start
//! of a message that a chunk's end cuts in two. A chunk that is used up is read into again where
//! all its slices have been dropped by then; where not, it lives until they are, and a new one
//! takes its place. A message larger than a chunk gets a buffer of its own, which grows with what
//! has arrived: a length field alone costs nothing. Nothing beyond such a message is read into its
//! buffer, so it goes away with the message.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Limit};

use crate::{backend::tag, error::Cause};

/// Size of a chunk: some hundred messages of usual size.
const CHUNK_BYTES: usize = 256 * 1024;

/// The least space that a read is offered. With less, a read that fills its space would not tell
/// that more is waiting.
const READ_BYTES_MIN: usize = 64 * 1024;

/// A message's tag and its length, which counts itself but not the tag.
const HEADER_BYTES: usize = 5;

/// One message of the server. Deliberately without `Debug`: the body can be anybody's data.
pub(crate) struct Frame {
    pub(crate) tag: u8,
    /// What follows the length.
    pub(crate) body: Bytes,
    /// Bytes that the server had sent before this message.
    pub(crate) offset: u64,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    /// 0 at the end of the stream.
    pub(crate) bytes: usize,
    /// Whether there was no space for more.
    pub(crate) full: bool,
}

pub(crate) struct FrameBuffer {
    buffer: BytesMut,
    /// Bytes of the messages taken so far.
    offset: u64,
    message_bytes_max: usize,
}

impl FrameBuffer {
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            offset: 0,
            message_bytes_max,
        }
    }

    /// Changes the limit for messages that have not been taken yet.
    pub(crate) fn limit_messages(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
    }

    /// Bytes that were read and not taken yet.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Calls `read` once with the space for it; it returns how many bytes it appended.
    pub(crate) fn fill_with(
        &mut self,
        read: impl FnOnce(&mut Limit<&mut BytesMut>) -> io::Result<usize>,
    ) -> io::Result<Filled> {
        let missing = self.missing_of_large();
        self.make_space(missing);
        let spare = self.buffer.capacity() - self.buffer.len();
        let offered = missing.map_or(spare, |missing| missing.min(spare));
        let bytes = read(&mut (&mut self.buffer).limit(offered))?;
        Ok(Filled {
            bytes,
            full: bytes == offered,
        })
    }

    /// What was read and not taken yet.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Adds bytes that were read elsewhere.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Cause> {
        let Some((tag, total)) = self.front()? else {
            return Ok(None);
        };
        if self.buffer.len() < total {
            return Ok(None);
        }
        // A buffer that this message fills is given away, so that it is not kept for the next ones.
        let mut bytes = if self.buffer.len() == total && total > CHUNK_BYTES {
            std::mem::take(&mut self.buffer).freeze()
        } else {
            self.buffer.split_to(total).freeze()
        };
        bytes.advance(HEADER_BYTES);
        let offset = self.offset;
        self.offset += total as u64;
        Ok(Some(Frame {
            tag,
            body: bytes,
            offset,
        }))
    }

    /// Whether [`next_frame`](Self::next_frame) would return a message or an error.
    pub(crate) fn has_frame(&self) -> bool {
        match self.front() {
            Ok(Some((_, total))) => self.buffer.len() >= total,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Tag and whole length of the message at the front, complete or not.
    fn front(&self) -> Result<Option<(u8, usize)>, Cause> {
        let Some(&tag) = self.buffer.first() else {
            return Ok(None);
        };
        if !tag::is_known(tag) {
            return Err(Cause::protocol("unknown message", tag, self.offset));
        }
        let Some(length) = self.buffer.get(1..HEADER_BYTES) else {
            return Ok(None);
        };
        let length = length
            .try_into()
            .map(u32::from_be_bytes)
            .unwrap_or_default();
        // What doesn't fit is above any limit.
        let total = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        if total < HEADER_BYTES {
            return Err(Cause::protocol(
                "impossible message length",
                tag,
                self.offset,
            ));
        }
        if total > self.message_bytes_max {
            return Err(Cause::TooLarge {
                tag,
                bytes: total,
                bytes_max: self.message_bytes_max,
                offset: self.offset,
            });
        }
        Ok(Some((tag, total)))
    }

    /// How much is missing of a message at the front that is larger than a chunk.
    fn missing_of_large(&self) -> Option<usize> {
        match self.front() {
            Ok(Some((_, total))) if total > CHUNK_BYTES => total
                .checked_sub(self.buffer.len())
                .filter(|missing| *missing > 0),
            _ => None,
        }
    }

    fn make_space(&mut self, missing: Option<usize>) {
        let length = self.buffer.len();
        let spare = self.buffer.capacity() - length;
        if let Some(missing) = missing {
            if spare < missing.min(READ_BYTES_MIN) {
                self.buffer.reserve(missing.min(length.max(CHUNK_BYTES)));
            }
        } else if spare < READ_BYTES_MIN && !self.buffer.try_reclaim(READ_BYTES_MIN) {
            // `reserve` would double the chunk where its slices are gone, again and again.
            let capacity = CHUNK_BYTES.max(length.saturating_mul(2));
            let mut chunk = BytesMut::with_capacity(capacity);
            chunk.extend_from_slice(&self.buffer);
            self.buffer = chunk;
        }
    }
}

#[cfg(test)]
mod tests;
