//! Loopback ports that stay ours while a server is down.
//!
//! Asking the kernel for any port gives one of the range that outgoing connections use too: while
//! a server is down between a kill and a start, its port can go to somebody's connection, and a
//! client that retries such a port can even connect to itself. So ports are taken below that
//! range, and a UDP socket on the same number reserves each one against the other tests on this
//! machine; the kernel lets go of it when the process ends.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::try_wait_until;

/// A TCP port of 127.0.0.1, reserved for the life of this value.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reservation: UdpSocket,
}

impl Port {
    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Reserves a port on which nobody listens.
///
/// # Panics
///
/// When a thousand random ports are all taken.
pub fn free_port() -> Port {
    let end = ephemeral_start().max(LOWEST + 1000);
    (0..1000)
        .find_map(|_| reserve(fastrand::u16(LOWEST..end)))
        .expect("a free loopback port within a thousand tries")
}

fn reserve(number: u16) -> Option<Port> {
    let reservation = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
    nobody_listens(number).then_some(Port {
        number,
        _reservation: reservation,
    })
}

/// Asked with a socket that is bound and never listens: it is in nobody's way, also where it lives
/// on for a moment in a child process that was started meanwhile.
fn nobody_listens(number: u16) -> bool {
    let bind = || -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, number)).into())
    };
    bind().is_ok()
}

/// Listens on a port of 127.0.0.1 that is the caller's.
///
/// A listener that was there and is closed can live on for a moment: a child process that another
/// thread starts has all sockets of this process until it becomes another program. So a port that
/// is in use is asked for again.
///
/// # Panics
///
/// When the port can't be had within ten seconds.
#[track_caller]
pub(crate) fn listen(number: u16) -> TcpListener {
    let mut refused = None;
    let listener = try_wait_until(Duration::from_secs(10), || {
        TcpListener::bind((Ipv4Addr::LOCALHOST, number))
            .map_err(|error| refused = Some(error))
            .ok()
    });
    listener.unwrap_or_else(|| panic!("listen on port {number}: {refused:?}"))
}

/// The first port that the kernel gives to outgoing connections.
fn ephemeral_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

/// Above the ports of well-known services that a developer may run (5432, 9092, 9464).
const LOWEST: u16 = 12_000;
