//! From an address to a session: with TLS, without, or first one and then the other.
//!
//! The order is libpq's (`sslmode`), and so is what leads from the first attempt to the second: a
//! handshake that failed for whatever reason, or a server that refused us before it had let us in.
//! A server that is starting is not asked twice, nor one that broke off.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;

use crate::{
    connection::ConnectOptions,
    conninfo::{Conninfo, Host, HostEntry, SslMode, SslNegotiation},
    error::Cause,
    foreign,
    socket::{Address, Socket},
    startup::{self, Greeting, STARTUP_MESSAGE_BYTES_MAX},
    tls::{self, TlsError, TlsFault},
    wire::Wire,
};

/// `SSLRequest` of the frontend/backend protocol.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How much is read of an answer that should be one byte.
const ANSWER_BYTES_MAX: usize = 1024;

/// SQLSTATE of a connection that no rule of the server allows.
const INVALID_AUTHORIZATION: &str = "28000";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Plain,
    Tls,
}

/// Why an attempt failed, and whether the other method may be tried after it.
enum Failure {
    Retry(Cause),
    Final(Cause),
}

/// A session on its way.
struct Negotiation<'a> {
    address: &'a Address,
    entry: &'a HostEntry,
    conninfo: &'a Conninfo,
    options: &'a ConnectOptions,
    is_taken: &'a AtomicBool,
}

/// Connects to one address, negotiates TLS as the settings want it, and authenticates. `is_taken`
/// becomes true as soon as somebody there has taken the connection.
pub(crate) async fn open(
    address: &Address,
    entry: &HostEntry,
    conninfo: &Conninfo,
    options: &ConnectOptions,
    is_taken: &AtomicBool,
) -> Result<(Wire, Greeting), Cause> {
    let negotiation = Negotiation {
        address,
        entry,
        conninfo,
        options,
        is_taken,
    };
    let (first, second) = methods(address, conninfo.tls.effective_mode());
    let refused = match Box::pin(negotiation.attempt(first, second)).await {
        Ok(session) => return Ok(session),
        Err(Failure::Final(cause)) => return Err(cause),
        Err(Failure::Retry(cause)) => cause,
    };
    let Some(second) = second else {
        return Err(refused);
    };
    match Box::pin(negotiation.attempt(second, None)).await {
        Ok(session) => Ok(session),
        Err(Failure::Final(cause) | Failure::Retry(cause)) => Err(both(first, refused, cause)),
    }
}

/// What to try, and what after it. A Unix socket never carries TLS, whatever the mode.
fn methods(address: &Address, mode: SslMode) -> (Method, Option<Method>) {
    match (address, mode) {
        (Address::Unix(_), _) | (_, SslMode::Disable) => (Method::Plain, None),
        (_, SslMode::Allow) => (Method::Plain, Some(Method::Tls)),
        (_, SslMode::Prefer) => (Method::Tls, Some(Method::Plain)),
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => (Method::Tls, None),
    }
}

impl Negotiation<'_> {
    async fn attempt(
        &self,
        method: Method,
        next: Option<Method>,
    ) -> Result<(Wire, Greeting), Failure> {
        let socket = Socket::connect(self.address, &self.conninfo.tcp)
            .await
            .map_err(Failure::Final)?;
        self.is_taken.store(true, Ordering::Relaxed);
        match (method, socket) {
            (Method::Tls, Socket::Tcp(socket)) => {
                let settings = &self.conninfo.tls;
                if settings.negotiation == SslNegotiation::Postgres
                    && !request(&socket).await.map_err(Failure::Final)?
                {
                    // The connection is as good as before.
                    return match next {
                        Some(Method::Plain) => self.log_in(Socket::Tcp(socket)).await,
                        Some(Method::Tls) | None => Err(Failure::Final(unsupported())),
                    };
                }
                let stream = Box::pin(tls::connect(socket, settings, self.host()));
                let stream = stream.await.map_err(|error| match error.is_final {
                    true => Failure::Final(Cause::Tls(error)),
                    false => Failure::Retry(Cause::Tls(error)),
                })?;
                self.log_in(Socket::Tls(Box::new(stream))).await
            }
            (_, socket) => self.log_in(socket).await,
        }
    }

    /// The name that the server's certificate is to be for.
    fn host(&self) -> Option<&str> {
        match &self.entry.host {
            Host::Tcp(name) => Some(name.as_str()).filter(|_| self.entry.is_named),
            Host::Unix(directory) => directory.to_str(),
        }
    }

    async fn log_in(&self, socket: Socket) -> Result<(Wire, Greeting), Failure> {
        let mut wire = Wire::new(socket, STARTUP_MESSAGE_BYTES_MAX);
        let authenticate =
            startup::authenticate(&mut wire, self.entry, self.conninfo, self.options);
        let authenticated = walpost_crashpoint::around!("auth", authenticate.await);
        if let Err(cause) = authenticated {
            return Err(if is_refusal(&cause) {
                Failure::Retry(cause)
            } else {
                Failure::Final(cause)
            });
        }
        let greeting = startup::greet(&mut wire).await.map_err(Failure::Final)?;
        wire.input.limit_messages(self.options.message_bytes_max);
        Ok((wire, greeting))
    }
}

/// Whether the server refused us, by a word of its own: the other way it may let us in.
fn is_refusal(cause: &Cause) -> bool {
    matches!(cause, Cause::Server(error) if !error.takes_no_sessions())
}

/// Asks the server for TLS. Whether it agrees.
async fn request(socket: &TcpStream) -> Result<bool, Cause> {
    let mut left = &SSL_REQUEST[..];
    while !left.is_empty() {
        socket.writable().await.map_err(Cause::Io)?;
        match socket.try_write(left) {
            Ok(bytes) => left = &left[bytes..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Cause::Io(error)),
        }
    }
    let mut answer = [0; ANSWER_BYTES_MAX];
    let bytes = loop {
        socket.readable().await.map_err(Cause::Io)?;
        match socket.try_read(&mut answer) {
            Ok(bytes) => break bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Cause::Io(error)),
        }
    };
    read_answer(&answer[..bytes])
}

/// Anything beyond the one byte was said in the clear, and can't be trusted to be the server's.
fn read_answer(answer: &[u8]) -> Result<bool, Cause> {
    let error = match answer {
        [b'S'] => return Ok(true),
        [b'N'] => return Ok(false),
        [] => TlsError::new(
            TlsFault::Broken,
            "the server closed the connection when it was asked for TLS",
        )
        .with_advice(
            "if a proxy that speaks only TLS answers there, it wants sslnegotiation=direct",
        ),
        [b'E', said @ ..] => TlsError::new(
            TlsFault::Broken,
            format!(
                "the server answered the request for TLS with an error, which nobody vouches for: \
                 {}",
                words(said)
            ),
        ),
        [b'S' | b'N', _, ..] if !foreign::is_known(answer) => TlsError::new(
            TlsFault::Settings,
            "more than one byte came in answer to the request for TLS",
        )
        .with_advice(
            "something in between meddles with the connection, or what answers there is no \
             Postgres server: look at host and port",
        ),
        _ => return Err(foreign::cause(answer)),
    };
    Err(Cause::Tls(error))
}

/// What an error holds for people: the text after its length and the field's letter, or all of it
/// where a server older than the protocol sent it.
fn words(said: &[u8]) -> String {
    let parts = match said {
        [0, 0, _, _, fields @ ..] => fields
            .split(|byte| *byte == 0)
            .find_map(|field| field.strip_prefix(b"M")),
        text => text.split(|byte| *byte == 0 || *byte == b'\n').next(),
    };
    let text = String::from_utf8_lossy(parts.unwrap_or_default()).into_owned();
    text.replace(char::is_control, " ")
}

fn unsupported() -> Cause {
    Cause::Tls(TlsError::new(
        TlsFault::Unsupported,
        "the server does not speak TLS, which sslmode demands",
    )
    .with_advice(
        "set ssl=on in the server's configuration, or sslmode=prefer or disable in the connection \
         string to connect in the clear",
    ))
}

/// The causes of two attempts as one: the one that says more about what is wrong comes first, and
/// decides what the error is.
fn both(first: Method, refused: Cause, last: Cause) -> Cause {
    let (with_first, with_last) = match first {
        Method::Tls => ("with TLS", "without TLS"),
        Method::Plain => ("without TLS", "with TLS"),
    };
    if refused.to_string() == last.to_string() {
        return last;
    }
    if weight(&refused) > weight(&last) && !is_away(&last) {
        Cause::both(refused, with_last, &last)
    } else {
        Cause::both(last, with_first, &refused)
    }
}

/// Whether the server could not even be asked: what is tried next depends on that.
fn is_away(cause: &Cause) -> bool {
    matches!(cause, Cause::Connect { .. })
        || matches!(cause, Cause::Server(error) if error.takes_no_sessions())
}

fn weight(cause: &Cause) -> u8 {
    if let Cause::Server(error) = cause {
        // That there is no rule for one of the two ways is no wonder.
        return if error.code == INVALID_AUTHORIZATION {
            1
        } else {
            3
        };
    }
    let Cause::Tls(error) = cause else {
        return 0;
    };
    match error.fault {
        TlsFault::Settings | TlsFault::Untrusted | TlsFault::Refused => 2,
        TlsFault::Unsupported | TlsFault::Broken => 0,
    }
}

#[cfg(test)]
mod tests;
