//! Waiting for librdkafka without a timer and without a thread.
//!
//! librdkafka writes one byte to a socket pair when its event queue stops being empty; the other
//! end is readable in tokio. A byte comes only for the step from empty to not empty, so whoever is
//! woken must serve the queue until it is empty. A queue that is not empty counts as ready whatever
//! the socket says, so neither a byte that was read too early nor a future that was dropped can
//! lose an event.
//!
//! A socket pair and not a pipe: the standard library can make it non-blocking, so a producer can
//! be born on any thread; only waiting needs a runtime.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::LOG_TARGET;
use crate::context::Client;
use crate::native::MainQueue;

/// Sleep between two looks where no byte can be waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The readable end and the queue that writes to the other one.
#[derive(Debug)]
pub(crate) struct Wakeup {
    queue: MainQueue,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    /// Not known to a runtime yet: that happens at the first wait.
    Idle(UnixStream),
    Watched(tokio::net::UnixStream),
    /// The runtime can't watch the socket. Looking at intervals is slow, but it loses nothing.
    Degraded,
}

impl Wakeup {
    pub(crate) fn new(client: Arc<Client>) -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let queue = MainQueue::waking(client, writer);
        Ok(Self {
            queue,
            reader: Reader::Idle(reader),
        })
    }

    /// Whether events wait.
    pub(crate) fn is_pending(&self) -> bool {
        self.queue.len() > 0
    }

    /// Returns when events may be waiting. Nothing is lost when the future is dropped.
    pub(crate) async fn ready(&mut self) {
        if self.is_pending() {
            return;
        }
        if let Reader::Idle(_) = self.reader {
            self.watch();
        }
        let woken = match &self.reader {
            Reader::Watched(stream) => wait(stream).await,
            Reader::Idle(_) | Reader::Degraded => {
                look_again().await;
                Ok(())
            }
        };
        if let Err(error) = woken {
            self.degrade(&error);
        }
    }

    /// Returns in a moment, whatever happens: for the end of a producer, where records can fall
    /// back into a queue without an event.
    pub(crate) async fn soon(&mut self) {
        if !self.is_pending() {
            look_again().await;
        }
    }

    /// Hands the socket to the runtime that the caller is in.
    fn watch(&mut self) {
        let reader = std::mem::replace(&mut self.reader, Reader::Degraded);
        let Reader::Idle(stream) = reader else {
            self.reader = reader;
            return;
        };
        match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => self.reader = Reader::Watched(stream),
            Err(error) => self.degrade(&error),
        }
    }

    fn degrade(&mut self, error: &io::Error) {
        tracing::error!(
            target: LOG_TARGET,
            %error,
            "can't watch the producer's wake-up socket; its events are polled for from here on"
        );
        self.reader = Reader::Degraded;
    }
}

/// Pauses for a millisecond, and once gives way to whatever else the caller waits for: a time limit
/// around it must be able to fire.
async fn look_again() {
    std::thread::sleep(LOOK_INTERVAL);
    tokio::task::yield_now().await;
}

/// Waits for a byte and takes what is there, so that the next wait starts afresh.
async fn wait(stream: &tokio::net::UnixStream) -> io::Result<()> {
    let mut bytes = [0; 64];
    loop {
        stream.readable().await?;
        let mut woken = false;
        loop {
            match stream.try_read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => woken = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if woken {
            return Ok(());
        }
    }
}
