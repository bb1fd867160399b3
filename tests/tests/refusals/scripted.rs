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
