//! One connection through the proxy.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{Direction, Shared};

/// Handles for closing a connection from outside.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    /// Whether bytes of it were swallowed.
    pub(super) torn: bool,
}

impl Link {
    /// Lets both connections be reset when they are closed, and wakes who reads from them.
    pub(super) fn reset(&self) {
        for stream in [&self.client, &self.server] {
            // Errors mean that it was closed already.
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
            stream.shutdown(Shutdown::Read).ok();
        }
    }

    pub(super) fn close(&self) {
        // Errors mean that it was closed already.
        self.client.shutdown(Shutdown::Both).ok();
        self.server.shutdown(Shutdown::Both).ok();
    }
}

/// Forwards both ways until both have ended.
pub(super) fn run(shared: &Shared, id: u64, client: &TcpStream, server: &TcpStream) {
    thread::scope(|scope| {
        for direction in Direction::BOTH {
            let (from, to) = match direction {
                Direction::ToServer => (client, server),
                Direction::ToClient => (server, client),
            };
            let way = Way {
                shared,
                id,
                direction,
            };
            let (sender, receiver) = sync_channel(QUEUE_CHUNKS);
            scope.spawn(move || way.read(from, &sender));
            scope.spawn(move || way.write(to, &receiver));
        }
    });
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

/// One direction of one connection.
#[derive(Clone, Copy)]
struct Way<'a> {
    shared: &'a Shared,
    id: u64,
    direction: Direction,
}

impl Way<'_> {
    fn read(self, mut from: &TcpStream, queue: &SyncSender<Chunk>) {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let Ok(count @ 1..) = from.read(&mut buffer) else {
                return;
            };
            let delay = {
                let mut state = self.shared.state();
                if state.swallowing[self.direction as usize] {
                    if let Some(link) = state.links.get_mut(&self.id) {
                        link.torn = true;
                    }
                    continue;
                }
                state.delay
            };
            let chunk = Chunk {
                due: Instant::now() + delay,
                bytes: buffer[..count].to_owned(),
            };
            if queue.send(chunk).is_err() {
                return;
            }
        }
    }

    fn write(self, mut to: &TcpStream, queue: &Receiver<Chunk>) {
        for chunk in queue {
            let mut rest = chunk.bytes.as_slice();
            while !rest.is_empty() {
                let pace = self.shared.state().pace;
                let size = pace.map_or(rest.len(), |pace| pace.piece.min(rest.len()));
                let (piece, behind) = rest.split_at(size);
                if !self.wait_until_open(Some(chunk.due)) || to.write_all(piece).is_err() {
                    // The reader learns it from the queue, or from its socket's end.
                    return;
                }
                let sent = u64::try_from(piece.len()).expect("usize is no larger than u64");
                self.shared.state().forwarded[self.direction as usize] += sent;
                thread::sleep(pace.map_or(Duration::ZERO, |pace| pace.pause));
                rest = behind;
            }
        }
        // The end of a stream is forwarded as the bytes are: not while the way is closed.
        if self.wait_until_open(None) {
            to.shutdown(Shutdown::Write).ok();
        }
    }

    /// Waits for `due` and for the end of a stall; `false` when the connection is closed.
    fn wait_until_open(self, due: Option<Instant>) -> bool {
        let way = self.direction as usize;
        let mut state = self.shared.state();
        loop {
            if !state.links.contains_key(&self.id) {
                return false;
            }
            let early = due.map_or(Duration::ZERO, |due| {
                due.saturating_duration_since(Instant::now())
            });
            // What was read before a black hole began is still on its way; the end is swallowed.
            let closed = state.stalled[way] || (due.is_none() && state.swallowing[way]);
            if closed {
                let waited = self.shared.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            } else if early > Duration::ZERO {
                let waited = self.shared.changed.wait_timeout(state, early);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                return true;
            }
        }
    }
}

const CHUNK_BYTES: usize = 16 * 1024;
/// 1 MiB between reader and writer: a delay of 100 ms still lets 10 MB/s through.
const QUEUE_CHUNKS: usize = 64;
