//! The socket to the server, TCP or Unix, with tokio's readiness rules.
//!
//! `try_read` and `try_write` go to the kernel only while the runtime believes the socket to be
//! ready, and forget that belief when the kernel says "would block". So a caller may really sleep
//! between two reads as long as the first one brought something; after "would block" only
//! [`Socket::ready`] can bring the belief back.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use bytes::BufMut;
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use tokio::{
    io::Interest,
    net::{TcpSocket, TcpStream, UnixStream},
    time::{Instant, timeout_at},
};

use crate::{
    conninfo::{Conninfo, Host},
    error::Cause,
};

/// A peer that vanished is noticed on an idle connection after 10 + 3 * 3 s,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;

/// and on one that has sent something after this time without an acknowledgement.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to the first address that answers. Addresses share the time that is left.
    pub(crate) async fn connect(conninfo: &Conninfo, deadline: Instant) -> Result<Self, Cause> {
        let name = match &conninfo.host {
            Host::Unix(directory) => return Self::connect_unix(directory, conninfo.port).await,
            Host::Tcp(name) => name,
        };
        let addresses = match conninfo.hostaddr {
            Some(address) => vec![SocketAddr::new(address, conninfo.port)],
            None => resolve(name, conninfo.port).await?,
        };
        Self::connect_any(&addresses, deadline).await
    }

    async fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> Result<Self, Cause> {
        let mut failed = Vec::new();
        let mut last = None;
        for (index, address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            match timeout_at(Instant::now() + share, connect_tcp(*address)).await {
                Ok(Ok(stream)) => return Ok(Self::Tcp(stream)),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
            failed.push(address.to_string());
        }
        Err(Cause::Connect {
            addresses: failed,
            source: last.unwrap_or_else(|| io::ErrorKind::NotFound.into()),
        })
    }

    async fn connect_unix(directory: &Path, port: u16) -> Result<Self, Cause> {
        let path = directory.join(format!(".s.PGSQL.{port}"));
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(Self::Unix(stream)),
            Err(source) => Err(Cause::Connect {
                addresses: vec![path.display().to_string()],
                source,
            }),
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
        };
        ready.map(drop)
    }

    /// Reads once into the space of `buffer`, without waiting. 0 is the end of the stream.
    pub(crate) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    /// Writes once, without waiting.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Reads what the kernel holds, whatever the runtime believes: for a socket that has failed.
    pub(crate) fn read_past_readiness(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        };
        (&*socket).read(bytes)
    }
}

async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, Cause> {
    // A numeric address needs no look-up, nor the thread that a look-up takes.
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let addresses = tokio::net::lookup_host((name, port)).await;
    addresses
        .map(Iterator::collect)
        .map_err(|source| Cause::Connect {
            addresses: Vec::new(),
            source,
        })
}

async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_tried_until_one_answers() {
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = open.local_addr().unwrap();
        // Bound, but not listening: nobody else can take the port.
        let closed = bound();
        let refused = closed.local_addr().unwrap().as_socket().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let addresses = [refused, answers];
        let Socket::Tcp(stream) = Socket::connect_any(&addresses, deadline).await.unwrap() else {
            panic!("not TCP");
        };
        assert_eq!(stream.peer_addr().unwrap(), answers);

        let failure = Socket::connect_any(&[refused, refused], deadline)
            .await
            .unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!("can't reach {refused}, {refused}")
        );
    }

    #[tokio::test]
    async fn address_that_is_silent_leaves_time_for_the_next() {
        let silent = full_listener();
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [silent.0, open.local_addr().unwrap()];
        let deadline = Instant::now() + Duration::from_secs(1);
        Socket::connect_any(&addresses, deadline).await.unwrap();
    }

    /// A listener whose queue is full, so that further connections get no answer.
    fn full_listener() -> (SocketAddr, impl Sized) {
        let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Vec<_> = (0..8)
            .map(|_| {
                let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                drop(socket.connect(&address));
                socket
            })
            .collect();
        (address.as_socket().unwrap(), (listener, connections))
    }

    fn bound() -> socket2::Socket {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket
    }

    #[tokio::test]
    async fn tcp_sockets_notice_a_vanished_peer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connect_tcp(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }
}
