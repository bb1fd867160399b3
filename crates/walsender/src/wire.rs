//! Socket and buffers: what a connection has under it in every phase.

use std::{fmt, io};

use bytes::{Buf, BytesMut};
use tokio::io::Interest;

use crate::{
    backend::{self, tag},
    error::{Cause, is_hangup},
    frame::{Filled, Frame, FrameBuffer},
    socket::Socket,
};

/// How much is read, after a write failed, in search of the server's reason.
const LAST_WORDS_BYTES_MAX: usize = 1024 * 1024;

/// `Debug` shows lengths, never bytes: they are passwords and data.
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) input: FrameBuffer,
    pub(crate) output: BytesMut,
}

impl Wire {
    pub(crate) fn new(socket: Socket, message_bytes_max: usize) -> Self {
        Self {
            socket,
            input: FrameBuffer::new(message_bytes_max),
            output: BytesMut::new(),
        }
    }

    /// One read without waiting; `None` when there is nothing to read.
    pub(crate) fn try_fill(&mut self) -> io::Result<Option<Filled>> {
        loop {
            match self.input.fill_with(|space| self.socket.try_read(space)) {
                Ok(filled) => return Ok(Some(filled)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what is queued, without waiting. Whether nothing is left.
    pub(crate) fn try_flush(&mut self) -> Result<bool, Cause> {
        while !self.output.is_empty() {
            match self.socket.try_write(&self.output) {
                Ok(bytes) => self.output.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.why_closed(error)),
            }
        }
        Ok(true)
    }

    /// Writes what is queued.
    pub(crate) async fn flush(&mut self) -> Result<(), Cause> {
        while !self.try_flush()? {
            self.socket
                .ready(Interest::WRITABLE)
                .await
                .map_err(Cause::Io)?;
        }
        Ok(())
    }

    /// The next message, waited for.
    pub(crate) async fn receive(&mut self) -> Result<Frame, Cause> {
        loop {
            if let Some(frame) = self.input.next_frame()? {
                return Ok(frame);
            }
            self.socket
                .ready(Interest::READABLE)
                .await
                .map_err(Cause::Io)?;
            if let Some(Filled { bytes: 0, .. }) = self.try_fill().map_err(Cause::io)? {
                return Err(Cause::Closed);
            }
        }
    }

    /// The server's own reason for hanging up, where it can still be read. It says why, closes, and
    /// does not wait for us: whoever writes next gets an error that says only that.
    fn why_closed(&mut self, error: io::Error) -> Cause {
        if !is_hangup(&error) {
            return Cause::io(error);
        }
        let mut read = 0;
        let mut bytes = [0; 8 * 1024];
        loop {
            while let Ok(Some(frame)) = self.input.next_frame() {
                if frame.tag == tag::ERROR_RESPONSE {
                    return backend::server_error(frame).map_or_else(|cause| cause, Cause::server);
                }
            }
            if self.input.has_frame() || read >= LAST_WORDS_BYTES_MAX {
                return Cause::Io(error);
            }
            match self.socket.read_past_readiness(&mut bytes) {
                Ok(count @ 1..) => {
                    read += count;
                    self.input.append(&bytes[..count]);
                }
                Ok(0) => return Cause::Io(error),
                Err(last) => {
                    let last = Cause::io(last);
                    let is_tls = matches!(last, Cause::Tls(_));
                    return if is_tls { last } else { Cause::Io(error) };
                }
            }
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Wire")
            .field("socket", &self.socket)
            .field("input_bytes", &self.input.buffered())
            .field("output_bytes", &self.output.len())
            .finish()
    }
}
