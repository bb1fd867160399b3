//! What can go wrong on a connection, and what the server has to say about it.

use std::{borrow::Cow, fmt, io, time::Duration};

use walpost_pgoutput::DecodeError;

use crate::{
    hosts::Target,
    tls::{TlsError, TlsFault},
};

/// An operation on a connection failed.
///
/// `Display` is one line that names the operation; [`source`](std::error::Error::source) gives the
/// cause. After any error other than a SQL error of [`Connection::query`](crate::Connection::query)
/// the connection is of no further use.
#[derive(Debug)]
pub struct Error {
    action: Cow<'static, str>,
    cause: Box<Cause>,
}

impl Error {
    pub(crate) fn new(action: impl Into<Cow<'static, str>>, cause: Cause) -> Self {
        Self {
            action: action.into(),
            cause: Box::new(cause),
        }
    }

    /// What decided. Of several attempts to connect it is the last: the one after which no other
    /// was made.
    fn deciding(&self) -> &Cause {
        if let Cause::Attempts { last, .. } = &*self.cause {
            last.cause.main()
        } else {
            self.cause.main()
        }
    }

    /// The server's error, where it sent one.
    pub fn server(&self) -> Option<&ServerError> {
        if let Cause::Server(error) = self.deciding() {
            Some(error)
        } else {
            None
        }
    }

    /// What is wrong with TLS, where it is that.
    pub fn tls(&self) -> Option<TlsFault> {
        if let Cause::Tls(error) = self.deciding() {
            Some(error.fault)
        } else {
            None
        }
    }

    /// What to do about it, where the error is about what both sides demand of each other: TLS, and
    /// ways to authenticate.
    pub fn advice(&self) -> Option<&str> {
        if let Cause::Tls(error) = self.deciding() {
            error.advice.as_deref()
        } else if let Cause::Authentication { advice, .. } = self.deciding() {
            *advice
        } else {
            None
        }
    }

    /// The five characters of the server's error code, where it sent one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.server().map(|error| error.code.as_str())
    }

    /// The function of the server that reported the error: it tells errors of one code apart.
    pub fn routine(&self) -> Option<&str> {
        self.server()?.routine.as_deref()
    }

    /// Whether the server, or something on the way to it, closed an established connection.
    pub fn is_closed(&self) -> bool {
        matches!(self.deciding(), Cause::Closed)
            || matches!(self.deciding(), Cause::Io(source) if is_hangup(source))
    }

    /// Whether a time limit ran out: that of the call, or the kernel's for an answer of the peer.
    pub fn is_timeout(&self) -> bool {
        if let Cause::Io(source) | Cause::Connect { source, .. } = self.deciding() {
            source.kind() == io::ErrorKind::TimedOut
        } else {
            matches!(self.deciding(), Cause::Timeout(_) | Cause::NotLetIn(_))
        }
    }

    /// Whether the operating system refused: no route, connection refused or reset, unknown host
    /// name.
    pub fn is_io(&self) -> bool {
        matches!(self.deciding(), Cause::Io(_) | Cause::Connect { .. })
    }

    /// Whether the two ends could not agree on a way to authenticate: no password where the server
    /// wants one, a method that is not spoken here, or a server that failed to prove itself. A
    /// password that the server refuses is a [`server`](Self::server) error, 28P01.
    pub fn is_authentication(&self) -> bool {
        matches!(self.deciding(), Cause::Authentication { .. })
    }

    /// Whether the bytes were not those of the protocol, or came where it has no place for them.
    pub fn is_protocol(&self) -> bool {
        matches!(
            self.deciding(),
            Cause::Protocol { .. } | Cause::Decode { .. }
        )
    }

    /// Whether what answers is no Postgres server: it said something else before it had let us in.
    pub fn is_foreign(&self) -> bool {
        matches!(self.deciding(), Cause::Foreign(_))
    }

    /// Whether a server let us in that is not of the kind that `target_session_attrs` asks for.
    pub fn is_target(&self) -> bool {
        matches!(self.deciding(), Cause::Target(_))
    }

    /// Whether a message was larger than `ConnectOptions::message_bytes_max`.
    pub fn is_too_large(&self) -> bool {
        matches!(self.deciding(), Cause::TooLarge { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.action)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("{}", unreachable(.addresses))]
    Connect {
        /// What was tried, in order; empty when the name could not be resolved.
        addresses: Vec<String>,
        /// The last address's error.
        source: io::Error,
    },
    /// The attempts to connect failed.
    #[error("{}", told(.earlier, .last))]
    Attempts {
        /// In order.
        earlier: Vec<Attempt>,
        last: Box<Attempt>,
    },
    #[error("{0}, and target_session_attrs asks for another")]
    Target(Target),
    #[error(transparent)]
    Io(io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Of an attempt to connect that came as far as the socket.
    #[error("the other side took the connection, and did not let us in within {0:?}")]
    NotLetIn(Duration),
    #[error(transparent)]
    Server(Box<ServerError>),
    #[error("{what} (message {}, byte {offset} of the connection)", Tag(*.tag))]
    Protocol {
        what: &'static str,
        tag: u8,
        /// Bytes that the server had sent before the message.
        offset: u64,
    },
    #[error("undecodable replication message (message 'd', byte {offset} of the connection)")]
    Decode {
        offset: u64,
        #[source]
        source: DecodeError,
    },
    #[error(
        "message {} of {bytes} bytes is above the limit of {bytes_max} bytes \
         (byte {offset} of the connection)",
        Tag(*.tag)
    )]
    TooLarge {
        tag: u8,
        bytes: usize,
        bytes_max: usize,
        offset: u64,
    },
    /// What answers is no Postgres server, but that.
    #[error("what answers there is no Postgres server, but {0}")]
    Foreign(String),
    #[error("{problem}")]
    Authentication {
        problem: String,
        advice: Option<&'static str>,
    },
    #[error(transparent)]
    Tls(TlsError),
    /// With TLS and without it, each for its own cause.
    #[error("{text}")]
    Both {
        /// The cause that says more.
        main: Box<Self>,
        /// Both.
        text: String,
    },
    #[error("{0}")]
    Usage(&'static str),
}

impl Cause {
    pub(crate) fn protocol(what: &'static str, tag: u8, offset: u64) -> Self {
        Self::Protocol { what, tag, offset }
    }

    pub(crate) fn authentication(problem: impl Into<String>) -> Self {
        Self::Authentication {
            problem: problem.into(),
            advice: None,
        }
    }

    pub(crate) fn server(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }

    /// An error of the socket, or of TLS above it.
    pub(crate) fn io(error: io::Error) -> Self {
        match error.downcast::<TlsError>() {
            Ok(error) => Self::Tls(error),
            Err(error) => Self::Io(error),
        }
    }

    /// One cause, and beside it the one of another attempt, of which `how` tells.
    pub(crate) fn both(main: Self, how: &str, other: &Self) -> Self {
        let text = format!("{}; {how}: {}", chain(&main), chain(other));
        Self::Both {
            main: Box::new(main),
            text,
        }
    }

    /// The cause that decides what the error is.
    pub(crate) fn main(&self) -> &Self {
        if let Self::Both { main, .. } = self {
            main.main()
        } else {
            self
        }
    }
}

/// A cause and its causes in one line.
fn chain(cause: &Cause) -> String {
    let mut text = cause.to_string();
    let mut source = std::error::Error::source(cause);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// An attempt to connect that failed. `Display` is one line.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The server, and its address where that says more.
    pub(crate) place: String,
    pub(crate) cause: Cause,
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, cause } = self;
        if let Cause::Connect { addresses, source } = cause
            && !addresses.is_empty()
        {
            // The place says what was tried.
            return write!(formatter, "{place}: {source}");
        }
        write!(formatter, "{place}: {cause}")?;
        let mut source = std::error::Error::source(cause);
        while let Some(cause) = source {
            write!(formatter, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

fn told(earlier: &[Attempt], last: &Attempt) -> String {
    let attempts = earlier.iter().chain([last]);
    let lines: Vec<_> = attempts.map(Attempt::to_string).collect();
    lines.join("; ")
}

/// Whether the error says that the other side is gone.
pub(crate) fn is_hangup(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
    )
}

fn unreachable(addresses: &[String]) -> String {
    match addresses {
        [] => "the host name has no address".to_owned(),
        addresses => format!("can't reach {}", addresses.join(", ")),
    }
}

/// A message's tag, or a byte that stands where one should: the letter that the manual calls it by
/// where it is one.
pub(crate) struct Tag(pub(crate) u8);

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(formatter, "'{}'", char::from(self.0))
        } else {
            write!(formatter, "0x{:02x}", self.0)
        }
    }
}

/// An `ErrorResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`, never translated.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// What happened, in the server's language.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What could be done about it.
    pub hint: Option<String>,
    /// The function of the server that reports it: never translated, unlike the message.
    pub routine: Option<String>,
}

impl ServerError {
    /// Whether the server starts, stops or is a standby without sessions: it may be asked again.
    pub(crate) fn takes_no_sessions(&self) -> bool {
        const CANNOT_CONNECT_NOW: &str = "57P03";
        self.code == CANNOT_CONNECT_NOW
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, code, .. } = self;
        write!(formatter, "{severity} {code}: {}", OneLine(&self.message))?;
        if let Some(detail) = &self.detail {
            write!(formatter, "; detail: {}", OneLine(detail))?;
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "; hint: {}", OneLine(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

/// A `NoticeResponse`: something the server says without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// `WARNING`, `NOTICE`, `INFO`, `LOG` or `DEBUG`, never translated.
    pub severity: String,
    /// SQLSTATE.
    pub sqlstate: String,
    /// What the server says, in its language.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// The function of the server that says it: never translated, unlike the message.
    pub routine: Option<String>,
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity, sqlstate, ..
        } = self;
        write!(
            formatter,
            "{severity} {sqlstate}: {}",
            OneLine(&self.message)
        )?;
        if let Some(detail) = &self.detail {
            write!(formatter, "; detail: {}", OneLine(detail))?;
        }
        Ok(())
    }
}

/// The server's text on one line, whatever it holds: a log line must not be forged by it.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        for char in self.0.chars() {
            formatter.write_char(if char.is_control() { ' ' } else { char })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_text_stays_on_one_line() {
        let error = ServerError {
            severity: "ERROR".to_owned(),
            code: "42704".to_owned(),
            message: "a\nb".to_owned(),
            detail: Some("c\r\nd".to_owned()),
            hint: Some("e".to_owned()),
            routine: None,
        };
        assert_eq!(error.to_string(), "ERROR 42704: a b; detail: c  d; hint: e");
    }

    #[test]
    fn hangups_are_closed_connections_and_others_are_not() {
        for (kind, closed) in [
            (io::ErrorKind::ConnectionReset, true),
            (io::ErrorKind::BrokenPipe, true),
            (io::ErrorKind::PermissionDenied, false),
        ] {
            let error = Error::new("read", Cause::Io(kind.into()));
            assert_eq!(error.is_closed(), closed, "{kind:?}");
            assert!(error.is_io());
        }
        let timed_out = Error::new("read", Cause::Io(io::ErrorKind::TimedOut.into()));
        assert!(timed_out.is_timeout() && !timed_out.is_closed());
    }
}
