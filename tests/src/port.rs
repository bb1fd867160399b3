//! Loopback ports that stay ours while a server is down.
//!
//! Asking the kernel for any port gives one of the range that outgoing connections use too: while
//! a server is down between a kill and a start, its port can go to somebody's connection, and a
//! client that retries such a port can even connect to itself. So ports are taken below that
//! range, and a UDP socket on the same number reserves each one against the other tests on this
//! machine; the kernel lets go of it when the process ends.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
};

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
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
    drop(listener);
    Some(Port {
        number,
        _reservation: reservation,
    })
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
