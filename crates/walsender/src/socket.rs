//! The socket to the server, TCP with or without TLS, or Unix, with tokio's readiness rules.
//!
//! `try_read` and `try_write` go to the kernel only while the runtime believes the socket to be
//! ready, and forget that belief when the kernel says "would block". So a caller may really sleep
//! between two reads as long as the first one brought something; after "would block" only
//! [`Socket::ready`] can bring the belief back.

use std::{
    fmt,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use bytes::BufMut;
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use tokio::{
    io::Interest,
    net::{TcpSocket, TcpStream, UnixStream},
};

use crate::{conninfo::TcpSettings, error::Cause, tls::TlsStream};

/// Where exactly to connect to. `Display` is as one would write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// The socket itself.
    Unix(PathBuf),
}

impl Address {
    /// The address alone, where it leads there on its own: one that is valid on one interface does
    /// not.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(SocketAddr::V6(address)) if address.scope_id() != 0 => None,
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

impl Socket {
    /// Connects to one address, without TLS.
    pub(crate) async fn connect(address: &Address, settings: &TcpSettings) -> Result<Self, Cause> {
        let connected = match address {
            Address::Tcp(address) => connect_tcp(*address, settings).await.map(Self::Tcp),
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        };
        connected.map_err(|source| Cause::Connect {
            addresses: vec![address.to_string()],
            source,
        })
    }

    /// The TLS connection, if it is one.
    pub(crate) fn tls(&self) -> Option<&TlsStream> {
        match self {
            Self::Tls(stream) => Some(stream),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Waits until a read or a write, as asked for, is worth trying. Cancel-safe.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<()> {
        // A socket that is ready again and again would otherwise never let the runtime look at its
        // timers and other sockets.
        tokio::task::coop::consume_budget().await;
        let ready = match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
            // What is in our own buffers makes no socket readable.
            Self::Tls(stream) if interest.is_readable() && stream.has_buffered() => return Ok(()),
            Self::Tls(stream) => stream.socket().ready(interest).await,
        };
        ready.map(drop)
    }

    /// Reads once into the space of `buffer`, without waiting. 0 is the end of the stream.
    pub(crate) fn try_read(&mut self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
            Self::Tls(stream) => stream.try_read(buffer),
        }
    }

    /// Writes once, without waiting. What was not written has to be the start of the next write.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Reads what the kernel holds, whatever the runtime believes: for a socket that has failed.
    pub(crate) fn read_past_readiness(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(&*stream),
            Self::Unix(stream) => SockRef::from(&*stream),
            Self::Tls(stream) => return stream.read_past_readiness(bytes),
        };
        (&*socket).read(bytes)
    }
}

async fn connect_tcp(address: SocketAddr, settings: &TcpSettings) -> io::Result<TcpStream> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if settings.keepalives {
        // Also switches them on.
        socket.set_tcp_keepalive(&keepalive(settings))?;
    }
    #[cfg(target_os = "linux")]
    if settings.user_timeout.is_some() {
        socket.set_tcp_user_timeout(settings.user_timeout)?;
    }
    TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
}

fn keepalive(settings: &TcpSettings) -> TcpKeepalive {
    let mut keepalive = TcpKeepalive::new();
    if let Some(idle) = settings.keepalives_idle {
        keepalive = keepalive.with_time(idle);
    }
    if let Some(interval) = settings.keepalives_interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(count) = settings.keepalives_count {
        keepalive = keepalive.with_retries(count);
    }
    keepalive
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn tcp_sockets_notice_a_vanished_peer() {
        let settings = TcpSettings::default();
        let stream = stream(&settings).await;
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        let seconds = Duration::from_secs;
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(10));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(3));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(15)));
    }

    #[tokio::test]
    async fn settings_of_the_system_stay_where_none_are_given() {
        let mut settings = TcpSettings {
            keepalives_idle: None,
            keepalives_interval: None,
            keepalives_count: Some(7),
            user_timeout: None,
            ..TcpSettings::default()
        };
        let untouched = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = stream(&settings).await;
        let socket = SockRef::from(&connected);
        assert!(socket.keepalive().unwrap());
        let idle = untouched.tcp_keepalive_time().unwrap();
        assert_eq!(socket.tcp_keepalive_time().unwrap(), idle);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 7);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);

        settings.keepalives = false;
        let connected = stream(&settings).await;
        assert!(!SockRef::from(&connected).keepalive().unwrap());
    }

    async fn stream(settings: &TcpSettings) -> TcpStream {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        connect_tcp(address, settings).await.unwrap()
    }
}
