use std::{
    io::{Read, Write},
    os::unix::net::UnixStream as Peer,
    thread,
    time::Duration,
};

use tokio::net::UnixStream;

use super::*;
use crate::socket::Socket;

#[test]
fn own_settings_follow_those_of_the_user() {
    let text = options(Some("-c statement_timeout=5"), Mode::Replication);
    assert!(
        text.starts_with("-c statement_timeout=5 -c statement_timeout=0 "),
        "{text}"
    );
    assert!(text.ends_with(" -c wal_sender_timeout=7000"), "{text}");
    assert!(!options(None, Mode::Sql).contains("wal_sender_timeout"));
}

#[test]
fn trailing_backslash_of_the_user_does_not_join_the_two() {
    assert!(options(Some("-c a=b\\"), Mode::Sql).starts_with("-c a=b -c "));
    assert!(options(Some("-c a=b\\\\"), Mode::Sql).starts_with("-c a=b\\\\ -c "));
    assert!(options(Some("-c a=b\\\\\\"), Mode::Sql).starts_with("-c a=b\\\\ -c "));
}

#[tokio::test]
async fn greeting_holds_what_the_server_reports() {
    let script = [
        message(b'R', &[0, 0, 0, 0]),
        message(b'S', b"server_version\x0015.18\0"),
        message(b'N', b"SWARNING\0Mcollation\0\0"),
        message(b'K', &[0, 0, 1, 0, 9, 9, 9, 9]),
        message(b'Z', b"I"),
    ];
    let greeting = handshake(&script.concat(), "user=u password=p")
        .await
        .unwrap();
    assert_eq!(greeting.backend_pid, 256);
    assert_eq!(greeting.parameters["server_version"], "15.18");
}

#[tokio::test]
async fn server_that_skips_its_proof_is_refused() {
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let accepted = message(b'R', &[0, 0, 0, 0]);
    let failure = handshake(&[offer, accepted].concat(), "user=u password=p")
        .await
        .unwrap_err();
    assert!(
        failure.starts_with("expected the server's part of SCRAM"),
        "{failure}"
    );
}

#[tokio::test]
async fn hostile_scram_messages_are_refused() {
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    for challenge in ["", "r=other,s=QQ==,i=4096", "r=", "r=x,s=*,i=0", "\u{ff}"] {
        let challenge = message(b'R', &[&[0, 0, 0, 11], challenge.as_bytes()].concat());
        let script = [offer.clone(), challenge].concat();
        let failure = handshake(&script, "user=u password=hush")
            .await
            .unwrap_err();
        assert!(
            failure.starts_with("the server failed at SCRAM-SHA-256: "),
            "{failure}"
        );
        assert!(!failure.contains("hush"));
    }
}

#[tokio::test]
async fn server_does_not_say_how_long_we_compute() {
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let challenge = message(b'R', b"\0\0\0\x0br=x,s=QQ==,i=100001");
    let failure = handshake(&[offer, challenge].concat(), "user=u password=p").await;
    let expected = "the server demands 100001 iterations of SCRAM, more than the 100000";
    let failure = failure.unwrap_err();
    assert!(failure.starts_with(expected), "{failure}");
}

#[tokio::test]
async fn methods_that_are_not_spoken_are_named() {
    for (body, expected) in [
        (
            &b"\0\0\0\x07"[..],
            "the server asks for authentication by GSSAPI (7), which is not",
        ),
        (
            b"\0\0\0\x63",
            "the server asks for authentication by an unknown method (99), which",
        ),
        (
            b"\0\0\0\x0aNTLM\0\0",
            "the server offers no SASL mechanism that is supported",
        ),
        (
            b"\0\0\0\x05\x01",
            "message is cut short (message 'R', byte 0",
        ),
        (b"\0", "message is cut short (message 'R', byte 0"),
    ] {
        let failure = handshake(&message(b'R', body), "user=u password=p")
            .await
            .unwrap_err();
        assert!(failure.starts_with(expected), "{failure}");
    }
}

#[tokio::test]
async fn demands_that_a_connection_without_tls_can_t_meet_are_told_before_any_password() {
    let plus = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let cleartext = message(b'R', b"\0\0\0\x03");
    let md5 = message(b'R', b"\0\0\0\x05abcd");
    let ok = message(b'R', b"\0\0\0\0");
    for (script, more, expected) in [
        (&plus, "", "something in between may have taken TLS away"),
        (
            &scram,
            "channel_binding=require",
            "demands TLS, and this connection has none",
        ),
        (
            &cleartext,
            "channel_binding=require",
            "demands SCRAM over TLS",
        ),
        (&md5, "channel_binding=require", "demands SCRAM over TLS"),
        (&ok, "channel_binding=require", "without binding"),
        (
            &cleartext,
            "require_auth=scram-sha-256,md5",
            "a password in the clear, which",
        ),
        (&md5, "require_auth=!md5", "by MD5, which"),
        (&scram, "require_auth=none", "by SCRAM-SHA-256, which"),
        (
            &ok,
            "require_auth=md5",
            "did not complete an authentication",
        ),
        (
            &ok,
            "require_auth=!none",
            "did not complete an authentication",
        ),
        (
            &ok,
            "sslcertmode=require",
            "asks for a client certificate, and it did not",
        ),
    ] {
        let (failure, sent) = exchange(script, &format!("user=u password=p {more}")).await;
        let failure = failure.unwrap_err();
        assert!(failure.contains(expected), "{more}: {failure}");
        // The startup message is all that was said.
        let length = u32::from_be_bytes(sent[..4].try_into().unwrap());
        assert_eq!(sent.len(), usize::try_from(length).unwrap(), "{more}");
    }
}

#[tokio::test]
async fn missing_password_is_noticed_when_it_is_asked_for() {
    for body in [
        &b"\0\0\0\x03"[..],
        b"\0\0\0\x05abcd",
        b"\0\0\0\x0aSCRAM-SHA-256\0\0",
    ] {
        let failure = handshake(&message(b'R', body), "user=u").await.unwrap_err();
        assert_eq!(failure, "the server asks for a password, and none is given");
    }
}

#[tokio::test]
async fn what_is_no_postgres_is_told_at_once() {
    for (bytes, expected) in [
        (
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            "what answers there is no Postgres server, but an SSH server",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n",
            "what answers there is no Postgres server, but an HTTP server",
        ),
        (
            b"\x15\x03\x01\0\x02\x02\x16",
            "the other side does not speak the Postgres protocol here, but TLS",
        ),
        (
            b"I\0\0\0\x0a8.0.36\0",
            "what answers there is no Postgres server, but something whose answer begins with 'I'",
        ),
        (
            b"J\0\0\0\x0a8.0.36\0",
            "what answers there is no Postgres server, but something whose answer begins with 'J'",
        ),
        (
            b"Ecould not fork new process for connection: no memory\n\0",
            "FATAL 53000: could not fork new process for connection: no memory",
        ),
        (b"", "the server closed the connection"),
        (b"R\0\0\0\x08", "the server closed the connection"),
    ] {
        let failure = handshake(bytes, "user=u").await.unwrap_err();
        assert!(failure.starts_with(expected), "{failure}");
    }
}

/// Lets a server say all of `script` at once and then hang up.
async fn handshake(script: &[u8], conninfo: &str) -> Result<Greeting, String> {
    exchange(script, conninfo).await.0
}

/// The same; also all that the server was told.
async fn exchange(script: &[u8], conninfo: &str) -> (Result<Greeting, String>, Vec<u8>) {
    let (socket, peer) = UnixStream::pair().unwrap();
    let mut peer: Peer = peer.into_std().unwrap();
    peer.set_nonblocking(false).unwrap();
    peer.write_all(script).unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let reader = thread::spawn(move || {
        let mut sent = Vec::new();
        peer.read_to_end(&mut sent).unwrap();
        sent
    });

    let conninfo = Conninfo::parse(conninfo, &|_| None).unwrap();
    let mut wire = Wire::new(Socket::Unix(socket), STARTUP_MESSAGE_BYTES_MAX);
    let options = ConnectOptions::default();
    let entry = &conninfo.hosts[0];
    let result = match authenticate(&mut wire, entry, &conninfo, &options).await {
        Ok(()) => greet(&mut wire).await,
        Err(cause) => Err(cause),
    };
    drop(wire);
    (
        result.map_err(|cause| cause.to_string()),
        reader.join().unwrap(),
    )
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn options(user_options: Option<&str>, mode: Mode) -> String {
    let options = ConnectOptions {
        mode,
        wal_sender_timeout: Duration::from_secs(7),
        ..ConnectOptions::default()
    };
    startup_options(user_options, &options)
}
