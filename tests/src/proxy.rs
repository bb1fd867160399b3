//! A TCP proxy that misbehaves on request.
//!
//! Each connection has a reader and a writer thread per direction with a bounded queue between
//! them, so that a delay is latency and not a lower rate, and a stalled direction pushes back on
//! its sender as a full window does.

mod link;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use self::link::Link;
use crate::{Port, free_port, port};

/// A proxy in front of one server. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    /// Where the proxy chose its port itself.
    _reservation: Option<Port>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// One of the two ways through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the client sends.
    ToServer,
    /// What the server sends.
    ToClient,
}

impl Direction {
    /// Both, for a whole stall.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];
}

impl Proxy {
    /// A proxy on a free port in front of `target` (`host:port`).
    ///
    /// # Panics
    ///
    /// When it can't listen.
    #[track_caller]
    pub fn new(target: &str) -> Self {
        let port = free_port();
        let mut proxy = Self::at(port.number(), target);
        proxy._reservation = Some(port);
        proxy
    }

    /// A proxy on a certain port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When it can't listen there.
    #[track_caller]
    pub fn at(port: u16, target: &str) -> Self {
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let proxy = Self {
            shared,
            port,
            _reservation: None,
            acceptor: Mutex::new(None),
        };
        proxy.listen();
        proxy
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Closes all connections now; new ones are still taken.
    pub fn cut(&self) {
        self.shared.state().close_all(|_| true);
        self.shared.changed.notify_all();
    }

    /// Resets all connections now (RST), as a router does that has forgotten them; new ones are
    /// taken. One whose receiver does not read is reset when it does.
    pub fn reset(&self) {
        let mut state = self.shared.state();
        let links = std::mem::take(&mut state.links);
        for (id, link) in links {
            link.reset();
            state.resetting.insert(id);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Refuses new connections (connection refused) until [`Proxy::resume`]; open ones go on.
    pub fn refuse(&self) {
        self.shared.state().refusing = true;
        let acceptor = self
            .acceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(acceptor) = acceptor {
            // A connection of our own wakes the thread, which sees the flag and stops listening.
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
            acceptor.join().expect("the acceptor does not panic");
        }
    }

    /// Refuses new connections and closes those that there are: the server is gone.
    pub fn down(&self) {
        self.refuse();
        self.cut();
    }

    /// Stops forwarding both ways. Sockets stay open, new connections are taken; after
    /// [`Proxy::resume`] everything arrives late.
    pub fn stall(&self) {
        for direction in Direction::BOTH {
            self.stall_one_way(direction);
        }
    }

    /// Stops forwarding one way, until [`Proxy::resume`].
    pub fn stall_one_way(&self, direction: Direction) {
        self.shared.state().stalled[direction as usize] = true;
    }

    /// Swallows what goes that way, until [`Proxy::resume`]: the sender sees it leave, it never
    /// arrives. A connection that lost something is closed by `resume`, since its stream is torn.
    pub fn black_hole(&self, direction: Direction) {
        self.shared.state().swallowing[direction as usize] = true;
    }

    /// Delays what is read from now on by that long, each way.
    pub fn delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// Forwards pieces of so many bytes at most, each by itself.
    pub fn split(&self, bytes: usize) {
        self.shared.state().pace = Some(Pace {
            piece: bytes,
            pause: Duration::ZERO,
        });
    }

    /// Forwards so many bytes a second, each way of each connection.
    pub fn trickle(&self, bytes_per_second: usize) {
        self.shared.state().pace = Some(Pace {
            piece: (bytes_per_second / 20).max(1),
            pause: Duration::from_millis(50),
        });
    }

    /// Ends every fault: forwards at once, takes new connections.
    ///
    /// # Panics
    ///
    /// When the port was taken by somebody else while the proxy refused.
    #[track_caller]
    pub fn resume(&self) {
        let refused = {
            let mut state = self.shared.state();
            state.stalled = [false; 2];
            state.swallowing = [false; 2];
            state.delay = Duration::ZERO;
            state.pace = None;
            state.close_all(|link| link.torn);
            std::mem::take(&mut state.refusing)
        };
        self.shared.changed.notify_all();
        if refused {
            self.listen();
        }
    }

    /// How many connections are open through the proxy now.
    pub fn connections(&self) -> usize {
        self.shared.state().links.len()
    }

    /// How many connections were opened through the proxy in its life: reconnects can be counted.
    pub fn accepted(&self) -> u64 {
        self.shared.state().accepted
    }

    /// Bytes that were forwarded that way until now.
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.shared.state().forwarded[direction as usize]
    }

    #[track_caller]
    fn listen(&self) {
        let listener = port::listen(self.port);
        let shared = Arc::clone(&self.shared);
        let acceptor = thread::spawn(move || shared.accept(&listener));
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = Some(acceptor);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.down();
    }
}

/// What the threads of a proxy share.
#[derive(Debug)]
struct Shared {
    target: String,
    state: Mutex<State>,
    /// Told whenever a fault ends or a connection is closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    refusing: bool,
    stalled: [bool; 2],
    swallowing: [bool; 2],
    delay: Duration,
    pace: Option<Pace>,
    links: BTreeMap<u64, Link>,
    /// Links that end with a reset.
    resetting: BTreeSet<u64>,
    accepted: u64,
    forwarded: [u64; 2],
}

/// How what was read is written.
#[derive(Clone, Copy, Debug)]
struct Pace {
    piece: usize,
    pause: Duration,
}

impl State {
    fn close_all(&mut self, which: impl Fn(&Link) -> bool) {
        self.links.retain(|_, link| {
            let closing = which(link);
            if closing {
                link.close();
            }
            !closing
        });
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.state().refusing {
                return;
            }
            // Anything else than a new connection is a client that has gone again.
            if let Ok((client, _)) = accepted {
                let shared = Arc::clone(&self);
                thread::spawn(move || shared.serve(client));
            }
        }
    }

    /// Connects to the target and forwards until both ways have ended.
    fn serve(self: Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.target) else {
            // The client sees its connection closed, as with a server that is going down.
            return;
        };
        if let Ok(id) = self.register(&client, &server) {
            link::run(&self, id, &client, &server);
            let mut state = self.state();
            state.links.remove(&id);
            if state.resetting.remove(&id) {
                // What was asked to linger for no time is reset when it is closed.
                return;
            }
        }
        client.shutdown(Shutdown::Both).ok();
        server.shutdown(Shutdown::Both).ok();
    }

    fn register(&self, client: &TcpStream, server: &TcpStream) -> io::Result<u64> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let link = Link {
            client: client.try_clone()?,
            server: server.try_clone()?,
            torn: false,
        };
        let mut state = self.state();
        if state.refusing {
            // Taken before, and not closed with the others, since it was none of them yet.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let id = state.accepted;
        state.accepted += 1;
        state.links.insert(id, link);
        Ok(id)
    }
}
