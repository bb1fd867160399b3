use std::{
    error::Error as _,
    io::{Read, Write},
    os::unix::net::UnixStream as Peer,
    thread,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use tokio::net::UnixStream;
use walpost_pgoutput::{Keepalive, Lsn, PgTimestamp, XLogData};

use super::*;
use crate::socket::Socket;

#[tokio::test]
async fn messages_come_out_in_order_and_the_end_comes_once() {
    let (mut stream, mut peer) = stream();
    peer.write_all(&data(b"a")).unwrap();
    peer.write_all(&message(b'S', b"TimeZone\0UTC\0")).unwrap();
    peer.write_all(&keepalive(7)).unwrap();
    let fields = b"SWARNING\0VWARNING\0C55000\0Mskipped\0RLoadPublications\0\0";
    peer.write_all(&message(b'N', fields)).unwrap();
    peer.write_all(&message(b'A', b"\0\0\0\x01channel\0\0"))
        .unwrap();
    peer.write_all(&message(b'C', b"COPY 0\0")).unwrap();
    peer.write_all(&message(b'C', b"START_REPLICATION\0"))
        .unwrap();
    peer.write_all(&message(b'Z', b"I")).unwrap();
    drop(peer);

    assert_eq!(
        receive(&mut stream).await.unwrap(),
        StreamMessage::Copy(wal(b"a"))
    );
    assert_eq!(
        receive(&mut stream).await.unwrap(),
        StreamMessage::Copy(alive(7))
    );
    let StreamMessage::Notice(notice) = receive(&mut stream).await.unwrap() else {
        panic!("not a notice");
    };
    assert_eq!(notice.to_string(), "WARNING 55000: skipped");
    assert_eq!(notice.routine.as_deref(), Some("LoadPublications"));
    assert_eq!(receive(&mut stream).await.unwrap(), StreamMessage::Ended);
    for _ in 0..2 {
        assert_eq!(stream.next().unwrap(), None);
        assert_eq!(stream.try_fill().unwrap(), Fill::Eof);
    }
}

#[tokio::test]
async fn end_of_file_without_an_end_is_a_closed_connection() {
    let (mut stream, peer) = stream();
    drop(peer);
    stream.readable().await.unwrap();
    for _ in 0..2 {
        assert!(stream.try_fill().unwrap_err().is_closed());
        assert!(stream.next().unwrap_err().is_closed());
    }
}

#[tokio::test]
async fn messages_before_the_end_of_file_are_not_lost() {
    let (mut stream, mut peer) = stream();
    peer.write_all(&[data(b"a"), data(b"b"), vec![b'd', 0]].concat())
        .unwrap();
    drop(peer);
    while stream.try_fill_ready().await != Fill::Eof {}
    assert_eq!(stream.next().unwrap(), Some(StreamMessage::Copy(wal(b"a"))));
    assert_eq!(stream.try_fill().unwrap(), Fill::Eof, "one is left");
    assert_eq!(stream.next().unwrap(), Some(StreamMessage::Copy(wal(b"b"))));
    assert!(stream.next().unwrap_err().is_closed());
    assert!(stream.try_fill().unwrap_err().is_closed());
}

#[tokio::test]
async fn error_of_the_server_is_an_error_of_the_stream() {
    let (mut stream, mut peer) = stream();
    peer.write_all(&fatal()).unwrap();
    let error = receive(&mut stream).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57P01"));
    assert_eq!(error.to_string(), "read the replication stream");
    assert_eq!(
        error.source().unwrap().to_string(),
        "FATAL 57P01: terminating"
    );
    assert!(!error.is_closed() && !error.is_io() && !error.is_protocol());
}

#[tokio::test]
async fn message_that_has_no_place_in_the_stream_ends_it() {
    for (bytes, expected) in [
        (
            message(b'T', b"\0\0"),
            "unexpected in the stream (message 'T', byte 31",
        ),
        (
            message(b'Z', b"I"),
            "unexpected in the stream (message 'Z', byte 31",
        ),
        (
            message(b'W', b"\0\0\0"),
            "unexpected in the stream (message 'W', byte 31",
        ),
        (vec![b'!'], "unknown message (message '!', byte 31"),
        (
            message(b'd', b"x"),
            "undecodable replication message (message 'd', byte 31",
        ),
        (
            [message(b'c', b""), data(b"late")].concat(),
            "unexpected in the stream (message 'd', byte 36",
        ),
    ] {
        let (mut stream, mut peer) = stream();
        peer.write_all(&[data(b"a"), bytes].concat()).unwrap();
        assert_eq!(
            receive(&mut stream).await.unwrap(),
            StreamMessage::Copy(wal(b"a"))
        );
        let error = loop {
            match receive(&mut stream).await {
                Ok(StreamMessage::Ended) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(error.is_protocol());
        let cause = error.source().unwrap().to_string();
        assert!(cause.starts_with(expected), "{cause}");
    }
}

#[tokio::test]
async fn owner_that_really_sleeps_reads_what_has_gathered() {
    let (mut stream, mut peer) = stream();
    peer.write_all(&data(b"a")).unwrap();
    let Fill::Read { bytes, full } = stream.try_fill_ready().await else {
        panic!("nothing")
    };
    assert_eq!((bytes, full), (31, false));
    peer.write_all(&data(b"b")).unwrap();
    peer.write_all(&data(b"c")).unwrap();
    thread::sleep(Duration::from_micros(200));
    assert_eq!(
        stream.try_fill().unwrap(),
        Fill::Read {
            bytes: 62,
            full: false
        }
    );

    assert_eq!(stream.try_fill().unwrap(), Fill::WouldBlock);
    peer.write_all(&data(b"d")).unwrap();
    assert_eq!(
        stream.try_fill_ready().await,
        Fill::Read {
            bytes: 31,
            full: false
        }
    );
}

#[tokio::test]
async fn read_that_fills_its_space_says_so() {
    let (mut stream, mut peer) = stream();
    let writer = thread::spawn(move || peer.write_all(&data(&[0; 1 << 20])));
    let mut fills = Vec::new();
    while stream.next().unwrap().is_none() {
        if let Fill::Read { full, .. } = stream.try_fill_ready().await {
            fills.push(full);
        }
        // The writer fills the socket meanwhile.
        thread::sleep(Duration::from_millis(1));
    }
    writer.join().unwrap().unwrap();
    assert!(fills.contains(&true), "{fills:?}");
}

#[tokio::test]
async fn stream_that_is_always_readable_does_not_stop_the_timers() {
    let (mut stream, mut peer) = stream();
    peer.write_all(&data(b"a")).unwrap();
    let long = async {
        for _ in 0..20_000_000 {
            stream.readable().await.unwrap();
        }
    };
    timeout(Duration::from_millis(20), long).await.unwrap_err();
}

#[tokio::test]
async fn wait_for_both_directions_ends_with_the_first_and_for_none_never() {
    const SHORT: Duration = Duration::from_millis(20);
    let (mut stream, mut peer) = stream();
    timeout(SHORT, stream.ready(false, false))
        .await
        .unwrap_err();
    timeout(SHORT, stream.ready(true, false)).await.unwrap_err();
    let long = Duration::from_secs(20);
    timeout(long, stream.ready(false, true))
        .await
        .unwrap()
        .unwrap();
    timeout(long, stream.ready(true, true))
        .await
        .unwrap()
        .unwrap();
    peer.write_all(&data(b"a")).unwrap();
    timeout(long, stream.ready(true, false))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn status_is_written_as_copy_data() {
    let (mut stream, mut peer) = stream();
    assert!(!stream.wants_write());
    let status = status(5);
    stream.queue_status(&status);
    assert!(stream.wants_write());
    assert!(stream.try_flush_ready().await);
    assert!(!stream.wants_write());
    let mut bytes = [0; 39];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..5], *b"d\0\0\0\x26");
    assert_eq!(bytes[5..], status.encode());
}

#[tokio::test]
async fn peer_that_does_not_read_makes_writes_wait_and_loses_nothing() {
    let (mut stream, mut peer) = stream();
    let mut queued = 0;
    loop {
        stream.queue_status(&status(queued));
        queued += 1;
        if !stream.try_flush_ready().await {
            break;
        }
    }
    assert!(stream.wants_write());
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    });
    while !stream.try_flush_ready().await {}
    drop(stream);
    let bytes = reader.join().unwrap();
    assert_eq!(bytes.len() as u64, queued * 39);
    for (number, message) in (0..).zip(bytes.chunks(39)) {
        assert_eq!(message[5..], status(number).encode());
    }
}

#[tokio::test]
async fn failed_write_gives_the_reason_that_the_server_had_sent() {
    let (mut stream, mut peer) = stream();
    peer.write_all(&[data(b"a"), fatal()].concat()).unwrap();
    drop(peer);
    stream.queue_status(&status(1));
    stream.writable().await.unwrap();
    assert_eq!(stream.try_flush().unwrap_err().sqlstate(), Some("57P01"));
}

#[tokio::test]
async fn failed_write_without_a_reason_is_a_closed_connection() {
    let (mut stream, peer) = stream();
    drop(peer);
    stream.queue_status(&status(1));
    stream.writable().await.unwrap();
    assert!(stream.try_flush().unwrap_err().is_closed());
}

#[tokio::test]
async fn finish_writes_the_queue_and_waits_for_the_servers_agreement() {
    let (mut stream, mut peer) = stream();
    let server = thread::spawn(move || {
        // More than the socket holds: both directions are busy at the same time.
        for _ in 0..200 {
            peer.write_all(&data(&[1; 10_000])).unwrap();
        }
        let mut bytes = [0; 39 + 5];
        peer.read_exact(&mut bytes).unwrap();
        for (tag, body) in [
            (b'd', &b"k\0"[..]),
            (b'c', b""),
            (b'C', b"COPY 0\0"),
            (b'Z', b"I"),
        ] {
            peer.write_all(&message(tag, body)).unwrap();
        }
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        (bytes, rest)
    });
    let status = status(9);
    stream.queue_status(&status);
    stream.finish(Duration::from_secs(20)).await.unwrap();
    let (bytes, rest) = server.join().unwrap();
    assert_eq!(bytes[5..39], status.encode());
    assert_eq!(bytes[39..], *b"c\0\0\0\x04");
    assert_eq!(rest, b"X\0\0\0\x04");
}

#[tokio::test]
async fn finish_gives_up_at_its_deadline() {
    let (stream, mut peer) = stream();
    // A server in the middle of a transaction without end.
    let server = thread::spawn(move || while peer.write_all(&data(&[1; 10_000])).is_ok() {});
    let begin = Instant::now();
    let error = stream.finish(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.is_timeout());
    assert!(begin.elapsed() < Duration::from_secs(5));
    server.join().unwrap();
}

#[tokio::test]
async fn finish_tells_of_a_server_that_did_not_agree() {
    let (closing, peer) = stream();
    drop(peer);
    assert!(
        closing
            .finish(Duration::from_secs(20))
            .await
            .unwrap_err()
            .is_closed()
    );

    let (failing, mut peer) = stream();
    peer.write_all(&fatal()).unwrap();
    let error = failing.finish(Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57P01"));
}

#[tokio::test]
async fn finish_after_the_servers_end_is_clean() {
    let (mut stream, mut peer) = stream();
    peer.write_all(&message(b'C', b"COPY 0\0")).unwrap();
    assert_eq!(receive(&mut stream).await.unwrap(), StreamMessage::Ended);
    drop(peer);
    stream.queue_status(&status(1));
    stream.finish(Duration::from_secs(20)).await.unwrap();
}

impl WalStream {
    async fn try_fill_ready(&mut self) -> Fill {
        self.readable().await.unwrap();
        self.try_fill().unwrap()
    }

    async fn try_flush_ready(&mut self) -> bool {
        // A full socket does not become writable: that is what some tests are about.
        drop(timeout(Duration::from_millis(20), self.writable()).await);
        self.try_flush().unwrap()
    }
}

fn stream() -> (WalStream, Peer) {
    let (socket, peer) = UnixStream::pair().unwrap();
    let peer = peer.into_std().unwrap();
    peer.set_nonblocking(false).unwrap();
    (
        WalStream::new(Wire::new(Socket::Unix(socket), 64 << 20)),
        peer,
    )
}

async fn receive(stream: &mut WalStream) -> Result<StreamMessage, Error> {
    loop {
        if let Some(message) = stream.next()? {
            return Ok(message);
        }
        stream.readable().await?;
        stream.try_fill()?;
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn data(data: &[u8]) -> Vec<u8> {
    copy_data(&wal(data))
}

fn keepalive(wal_end: u64) -> Vec<u8> {
    copy_data(&alive(wal_end))
}

fn copy_data(message_inside: &CopyMessage) -> Vec<u8> {
    let mut payload = BytesMut::new();
    message_inside.encode(&mut payload);
    message(b'd', &payload)
}

fn wal(data: &[u8]) -> CopyMessage {
    CopyMessage::XLogData(XLogData {
        wal_start: Lsn::new(1),
        wal_end: Lsn::new(1),
        server_time: PgTimestamp::new(2),
        data: Bytes::copy_from_slice(data),
    })
}

fn alive(wal_end: u64) -> CopyMessage {
    CopyMessage::Keepalive(Keepalive {
        wal_end: Lsn::new(wal_end),
        server_time: PgTimestamp::new(2),
        reply_requested: false,
    })
}

fn fatal() -> Vec<u8> {
    message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0")
}

fn status(position: u64) -> StandbyStatus {
    StandbyStatus {
        write: Lsn::new(position),
        flush: Lsn::new(position),
        apply: Lsn::new(position),
        client_time: PgTimestamp::new(3),
        reply_requested: false,
    }
}
