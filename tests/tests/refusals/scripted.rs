//! Servers that answer what a test wants.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Answers the first bytes of each connection with the next of its answers, again and again with
/// the last one, and hangs up. Lives as long as the process.
pub(crate) struct ScriptedServer {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl ScriptedServer {
    pub(crate) fn new(answers: &[Vec<u8>]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (answers, counter) = (answers.to_vec(), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let before = counter.fetch_add(1, Ordering::SeqCst);
                answer(stream, &answers[before.min(answers.len() - 1)]);
            }
        });
        Self { port, connections }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, bytes: &[u8]) {
    // Who goes away at once gets no answer, and wants none.
    if matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
        stream.write_all(bytes).ok();
    }
}

/// What Postgres sends when it refuses a session.
pub(crate) fn fatal(sqlstate: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{sqlstate}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).expect("it is short");
    [b"E".as_slice(), &length.to_be_bytes(), fields.as_bytes()].concat()
}

/// Passes everything on to a server, and its answers with some texts in the place of others of the
/// same length. Takes connections without TLS, for as long as the process lives.
pub(crate) struct AlteringProxy {
    port: u16,
}

impl AlteringProxy {
    pub(crate) fn new(target: u16, changes: &[(String, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let changes = changes.to_vec();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", target)).expect("the server listens");
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(from, to, &[]));
                let changes = changes.clone();
                thread::spawn(move || pass(server, client, &changes));
            }
        });
        Self { port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Until either end is closed. An answer to a question is small, and arrives as it was sent.
fn pass(mut from: TcpStream, mut to: TcpStream, changes: &[(String, String)]) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..count];
        for (old, new) in changes {
            for start in 0..(bytes.len() + 1).saturating_sub(old.len()) {
                if bytes[start..].starts_with(old.as_bytes()) {
                    bytes[start..start + new.len()].copy_from_slice(new.as_bytes());
                }
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    to.shutdown(std::net::Shutdown::Both).ok();
}
