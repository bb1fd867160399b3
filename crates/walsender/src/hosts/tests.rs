use std::{
    net::{SocketAddr, TcpListener},
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
             127.0.0.1:{port}: no answer within 1s"
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
