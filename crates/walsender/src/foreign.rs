//! What answers there and is no Postgres server, by the first bytes that it said.

use crate::{
    error::{Cause, Tag},
    tls::{TlsError, TlsFault},
};

/// A record of TLS that holds an alert: what a server that speaks only TLS answers to all else.
const TLS_ALERT: u8 = 0x15;

/// Whether it is a server of a kind that says what it is.
pub(crate) fn is_known(said: &[u8]) -> bool {
    kind(said).is_some()
}

/// The error about it.
pub(crate) fn cause(said: &[u8]) -> Cause {
    if said.first() == Some(&TLS_ALERT) {
        let speaks_tls = TlsError::new(
            TlsFault::Settings,
            "the other side does not speak the Postgres protocol here, but TLS",
        );
        return Cause::Tls(
            speaks_tls
                .with_advice("it may want sslnegotiation=direct, with sslmode=require or higher"),
        );
    }
    Cause::Foreign(match (kind(said), said.first()) {
        (Some(kind), _) => kind.to_owned(),
        (None, Some(first)) => format!("something whose answer begins with {}", Tag(*first)),
        (None, None) => "something that says nothing".to_owned(),
    })
}

fn kind(said: &[u8]) -> Option<&'static str> {
    match said {
        [b'H', b'T', b'T', b'P', b'/', ..] => Some("an HTTP server"),
        [b'S', b'S', b'H', b'-', ..] => Some("an SSH server"),
        _ => None,
    }
}
