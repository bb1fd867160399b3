//! A proxy that resets its connections (RST), as a router does that has forgotten them.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use walpost_tests::{Port, free_port};

/// A proxy in front of one server on this machine.
pub(crate) struct ResettingProxy {
    port: Port,
    /// How often a reset was asked for: a connection that is older than the last one ends.
    resets: Arc<AtomicU64>,
}

impl ResettingProxy {
    pub(crate) fn new(target: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).expect("listen");
        let resets = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&resets);
        // Ends with the process: it waits for a connection, not for a flag.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let resets = Arc::clone(&shared);
                if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) {
                    thread::spawn(move || serve(client, server, &resets));
                }
            }
        });
        Self { port, resets }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Resets every connection as soon as its client sends something more.
    pub(crate) fn reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

fn serve(mut client: TcpStream, mut server: TcpStream, resets: &AtomicU64) {
    let born = resets.load(Ordering::Relaxed);
    let (from, to) = (server.try_clone(), client.try_clone());
    let (Ok(mut from), Ok(mut to)) = (from, to) else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            io::copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Both).ok();
        });
        let mut buffer = [0; 4096];
        loop {
            // Only looked at: a socket that is closed with unread bytes is reset.
            let more = client.peek(&mut buffer).is_ok_and(|count| count > 0);
            if !more || resets.load(Ordering::Relaxed) > born {
                break;
            }
            let forwarded = client
                .read(&mut buffer)
                .and_then(|count| server.write_all(&buffer[..count]));
            if forwarded.is_err() {
                break;
            }
        }
        server.shutdown(Shutdown::Both).ok();
    });
}
