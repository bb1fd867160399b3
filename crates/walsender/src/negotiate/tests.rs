use std::{net::SocketAddr, path::PathBuf};

use super::*;
use crate::error::ServerError;

#[test]
fn modes_have_an_order_of_attempts_and_unix_sockets_have_none() {
    let tcp = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 5432)));
    let unix = Address::Unix(PathBuf::from("/tmp/.s.PGSQL.5432"));
    for (mode, expected) in [
        (SslMode::Disable, (Method::Plain, None)),
        (SslMode::Allow, (Method::Plain, Some(Method::Tls))),
        (SslMode::Prefer, (Method::Tls, Some(Method::Plain))),
        (SslMode::Require, (Method::Tls, None)),
        (SslMode::VerifyCa, (Method::Tls, None)),
        (SslMode::VerifyFull, (Method::Tls, None)),
    ] {
        assert_eq!(methods(&tcp, mode), expected, "{mode:?}");
        assert_eq!(methods(&unix, mode), (Method::Plain, None), "{mode:?}");
    }
}

#[test]
fn answer_to_the_request_is_one_byte_and_nothing_more() {
    assert!(read_answer(b"S").unwrap());
    assert!(!read_answer(b"N").unwrap());
    for (answer, fault, expected) in [
        (&b""[..], TlsFault::Broken, "closed the connection"),
        (b"Sx", TlsFault::Settings, "more than one byte"),
        (b"N\x00", TlsFault::Settings, "more than one byte"),
        (
            b"\x15\x03\x01\x00\x02\x02\x16",
            TlsFault::Settings,
            "speak the Postgres protocol",
        ),
        (
            b"Ecould not fork new process for connection: no memory\n\0",
            TlsFault::Broken,
            "could not fork new process for connection: no memory",
        ),
        (
            b"E\0\0\0\x30SFATAL\0VFATAL\0C53300\0Mtoo many\x1b[2J clients\0\0",
            TlsFault::Broken,
            "vouches for: too many [2J clients",
        ),
        (b"E", TlsFault::Broken, "an error"),
        (b"E\0\0\0\x05\0", TlsFault::Broken, "an error"),
    ] {
        let error = match read_answer(answer) {
            Err(Cause::Tls(error)) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(error.fault, fault, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
}

#[test]
fn answer_that_is_no_answer_tells_another_server() {
    for (answer, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "an HTTP server"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "an SSH server"),
        (b"\x00", "something whose answer begins with 0x00"),
        (b"-ERR\r\n", "something whose answer begins with '-'"),
    ] {
        let cause = read_answer(answer).unwrap_err();
        assert!(matches!(cause, Cause::Foreign(_)), "{cause:?}");
        let expected = format!("what answers there is no Postgres server, but {expected}");
        assert_eq!(cause.to_string(), expected);
    }
}

#[test]
fn of_two_causes_the_one_that_says_more_decides() {
    let server = |code: &str| {
        Cause::server(ServerError {
            severity: "FATAL".to_owned(),
            code: code.to_owned(),
            message: "no".to_owned(),
            detail: None,
            hint: None,
            routine: None,
        })
    };
    let tls = |fault| Cause::Tls(TlsError::new(fault, "tls"));
    for (first, refused, last, expected) in [
        (
            Method::Tls,
            server("28P01"),
            server("28000"),
            "FATAL 28P01: no; without TLS: FATAL 28000: no",
        ),
        (
            Method::Tls,
            tls(TlsFault::Untrusted),
            server("28000"),
            "tls; without TLS: FATAL 28000: no",
        ),
        (
            Method::Plain,
            server("28000"),
            tls(TlsFault::Unsupported),
            "FATAL 28000: no; with TLS: tls",
        ),
        (
            Method::Plain,
            server("28000"),
            server("28P01"),
            "FATAL 28P01: no; without TLS: FATAL 28000: no",
        ),
        (
            Method::Tls,
            tls(TlsFault::Broken),
            Cause::Closed,
            "the server closed the connection; with TLS: tls",
        ),
        (
            Method::Tls,
            server("28P01"),
            server("28P01"),
            "FATAL 28P01: no",
        ),
    ] {
        assert_eq!(both(first, refused, last).to_string(), expected);
    }
}
