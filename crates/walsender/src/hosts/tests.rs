use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use socket2::{Domain, Type};

use super::*;
use crate::error::Error;

#[tokio::test]
async fn servers_are_tried_until_one_answers() {
    // Bound, but not listening: nobody else can take the port.
    let (closed, refused) = bound();
    let answers = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = answers.local_addr().unwrap().port();
    let text = format!("host=127.0.0.1,127.0.0.1 port={refused},{port} user=u connect_timeout=1");
    let error = failure(&text).await;
    assert_eq!(
        error,
        format!(
            "127.0.0.1:{refused}: Connection refused (os error 111); \
             127.0.0.1:{port}: the other side took the connection, and did not let us in within \
             1s"
        )
    );
    drop(closed);
}

#[tokio::test]
async fn server_that_is_silent_does_not_take_the_time_of_the_next() {
    let (silent, _queue) = full_listener();
    let (_closed, refused) = bound();
    let text = format!(
        "host=127.0.0.1,127.0.0.1 port={},{refused} user=u connect_timeout=1",
        silent.port()
    );
    let error = failure(&text).await;
    let expected = format!("127.0.0.1:{refused}: Connection refused (os error 111)");
    assert!(
        error.contains("no answer within 1s; ") && error.ends_with(&expected),
        "{error}"
    );
}

#[tokio::test]
async fn place_that_is_passed_over_is_not_tried() {
    let (_closed, refused) = bound();
    let text = format!("host=127.0.0.1,localhost port={refused} user=u");
    let conninfo = Conninfo::parse(&text, &|_| None).unwrap();
    let place = |index, address: &str| Endpoint {
        index,
        address: Some(address.parse().unwrap()),
    };
    let mut options = ConnectOptions::default();
    options.passed_over.push(place(0, "127.0.0.1"));
    let error = connect(&conninfo, &options).await.unwrap_err().to_string();
    assert!(error.starts_with("localhost:"), "{error}");
    let others = ["127.0.0.1", "::1"].map(|address| place(1, address));
    options.passed_over.extend(others);
    let error = connect(&conninfo, &options).await.unwrap_err().to_string();
    assert_eq!(error, "no server is named");
}

#[tokio::test]
async fn error_names_the_server_and_its_address() {
    let (_closed, refused) = bound();
    let text = format!("host=db,other hostaddr=127.0.0.1,127.0.0.1 port={refused} user=u");
    assert_eq!(
        failure(&text).await,
        format!(
            "db:{refused} (127.0.0.1): Connection refused (os error 111); \
             other:{refused} (127.0.0.1): Connection refused (os error 111)"
        )
    );
    let text = format!("host=/nonexistent,no-such-host.invalid port={refused} user=u");
    let error = failure(&text).await;
    let expected = format!(
        "/nonexistent/.s.PGSQL.{refused}: No such file or directory (os error 2); \
         no-such-host.invalid:{refused}: the host name has no address: "
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn second_round_does_not_tell_the_same_again() {
    let (_closed, refused) = bound();
    let text = format!("host=127.0.0.1 port={refused} user=u target_session_attrs=prefer-standby");
    let conninfo = Conninfo::parse(&text, &|_| None).unwrap();
    let cause = connect(&conninfo, &ConnectOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(cause, Cause::Connect { .. }), "{cause:?}");
}

#[tokio::test]
async fn server_that_does_not_tell_what_it_is_is_asked() {
    const READ_ONLY: &str = "SHOW transaction_read_only";
    const RECOVERY: &str = "SELECT pg_catalog.pg_is_in_recovery()";
    for (target, question, answer, fits) in [
        ("read-write", READ_ONLY, "off", true),
        ("read-write", READ_ONLY, "on", false),
        ("read-only", READ_ONLY, "on", true),
        ("read-only", READ_ONLY, "off", false),
        ("primary", RECOVERY, "f", true),
        ("primary", RECOVERY, "t", false),
        ("standby", RECOVERY, "t", true),
        ("standby", RECOVERY, "f", false),
    ] {
        let (port, server) = old_server(answer);
        let text = format!("host=127.0.0.1 port={port} user=u sslmode=disable");
        let text = format!("{text} target_session_attrs={target}");
        let conninfo = Conninfo::parse(&text, &|_| None).unwrap();
        let connected = connect(&conninfo, &ConnectOptions::default()).await;
        match connected {
            Ok(_) => assert!(fits, "{target} {answer}"),
            Err(Cause::Target(_)) => assert!(!fits, "{target} {answer}"),
            Err(cause) => panic!("{target} {answer}: {cause}"),
        }
        assert_eq!(server.join().unwrap(), question, "{target}");
    }
}

/// A server of before 14, for one session with one question, which it returns.
fn old_server(answer: &str) -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let message = |tag: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], length.as_slice(), body].concat()
    };
    let greeting = [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0013.4\0"),
        message(b'K', &[0; 8]),
        message(b'Z', b"I"),
    ]
    .concat();
    let column = [b"\x00\x01x\0".as_slice(), &[0; 18]].concat();
    let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
    let row = [&[0, 1], length.as_slice(), answer.as_bytes()].concat();
    let result = [
        message(b'T', &column),
        message(b'D', &row),
        message(b'C', b"SHOW\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut receive = |bytes: &[u8], header: usize| {
            peer.write_all(bytes).unwrap();
            let mut head = vec![0; header];
            peer.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes(head[header - 4..].try_into().unwrap());
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            peer.read_exact(&mut body).unwrap();
            body
        };
        receive(&[], 4);
        let question = receive(&greeting, 5);
        peer.write_all(&result).unwrap();
        String::from_utf8(question)
            .unwrap()
            .trim_end_matches('\0')
            .to_owned()
    });
    (port, server)
}

#[test]
fn what_decided_is_the_last_attempt() {
    let attempt = |cause| Attempt {
        place: "a".to_owned(),
        cause,
    };
    let cause = |last| Cause::Attempts {
        earlier: vec![attempt(Cause::Closed)],
        last: Box::new(attempt(last)),
    };
    let timeout = Error::new("connect", cause(Cause::Timeout(Duration::from_secs(1))));
    assert!(timeout.is_timeout() && !timeout.is_closed());
    let target = Error::new("connect", cause(Cause::Target(Target::Standby)));
    assert!(target.is_target() && !target.is_timeout());
    assert_eq!(
        std::error::Error::source(&target).unwrap().to_string(),
        "a: the server closed the connection; a: the server is not in hot standby mode, and \
         target_session_attrs asks for another"
    );
}

#[test]
fn every_order_comes_up() {
    let mut orders = std::collections::BTreeSet::new();
    // Of 1000 shuffles of three, one order is missing once in 10^78.
    for _ in 0..1000 {
        let mut items = [1, 2, 3];
        shuffle(&mut items);
        orders.insert(items);
    }
    assert_eq!(orders.len(), 6);
    shuffle::<u8>(&mut []);
}

/// The cause of the connection's failure.
async fn failure(text: &str) -> String {
    let conninfo = Conninfo::parse(text, &|_| None).unwrap();
    let failed = connect(&conninfo, &ConnectOptions::default()).await;
    failed.unwrap_err().to_string()
}

/// A listener whose queue is full, so that further connections get no answer.
fn full_listener() -> (SocketAddr, impl Sized) {
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).unwrap();
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

fn bound() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}
