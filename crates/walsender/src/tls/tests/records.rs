//! Bytes through an established connection.

use super::*;

/// Bytes of which none can be lost, repeated or swapped unnoticed.
fn bytes(count: usize) -> Vec<u8> {
    (0..251).cycle().take(count).collect()
}

async fn open(address: SocketAddr) -> Socket {
    let settings = Home::new().settings("sslmode=require");
    Socket::Tls(Box::new(connect_to(address, &settings, "h").await.unwrap()))
}

#[tokio::test]
async fn every_byte_arrives_whatever_the_sizes_of_records_and_reads() {
    let sizes = [1, 17, 300, 5_000, 16_384, 16_385, 100_000, 1_000_000];
    let (address, server) = server(
        |_| {},
        move |stream| {
            for size in sizes {
                stream.write_all(&bytes(size)).unwrap();
            }
            for _ in 0..20_000 {
                stream.write_all(&bytes(40)).unwrap();
            }
            stream.shutdown().unwrap();
        },
    );
    let mut expected: Vec<u8> = sizes.iter().flat_map(|size| bytes(*size)).collect();
    expected.extend((0..20_000).flat_map(|_| bytes(40)));

    let mut socket = open(address).await;
    let mut received = BytesMut::new();
    // Spaces that never fit: what is left over must be told without the socket.
    for limit in [1, 7, 100, 16_383, 65_536, 3].into_iter().cycle() {
        timeout(DEADLINE, socket.ready(Interest::READABLE))
            .await
            .unwrap()
            .unwrap();
        match socket.try_read(&mut (&mut received).limit(limit)) {
            Ok(0) => break,
            Ok(count) => assert!(count <= limit),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!(
        received == expected,
        "{} of {}",
        received.len(),
        expected.len()
    );
    server.join().unwrap();
}

#[tokio::test]
async fn records_that_come_in_pieces_are_put_together() {
    let (address, server) = server(
        |_| {},
        |stream| {
            for size in [1, 50, 700, 2_000] {
                stream.write_all(&bytes(size)).unwrap();
            }
            stream.shutdown().unwrap();
        },
    );
    // Something in between that passes on a few bytes at a time.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let between = listener.local_addr().unwrap();
    let middle = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = std::net::TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        let (mut from_client, mut to_server) =
            (client.try_clone().unwrap(), server.try_clone().unwrap());
        let up = thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        let mut piece = [0; 37];
        while let Ok(count @ 1..) = server.read(&mut piece) {
            client.write_all(&piece[..count]).unwrap();
            thread::yield_now();
        }
        drop(client.shutdown(std::net::Shutdown::Write));
        drop(up.join().unwrap());
    });
    let mut socket = open(between).await;
    let mut received = Vec::new();
    loop {
        let read = read(&mut socket).await.unwrap();
        if read.is_empty() {
            break;
        }
        received.extend_from_slice(&read);
    }
    let expected: Vec<u8> = [1, 50, 700, 2_000].into_iter().flat_map(bytes).collect();
    assert!(received == expected);
    drop(socket);
    server.join().unwrap();
    middle.join().unwrap();
}

#[tokio::test]
async fn owner_that_really_sleeps_reads_what_has_gathered() {
    let (sender, receiver) = std::sync::mpsc::channel::<usize>();
    let (sent, was_sent) = std::sync::mpsc::channel();
    let (address, server) = server(
        |_| {},
        move |stream| {
            for records in receiver {
                for _ in 0..records {
                    stream.write_all(&[7; 30]).unwrap();
                }
                sent.send(()).unwrap();
            }
        },
    );
    let mut socket = open(address).await;
    let gather = |records: usize| {
        sender.send(records).unwrap();
        was_sent.recv().unwrap();
    };
    gather(1);
    assert_eq!(read(&mut socket).await.unwrap().len(), 30);
    // Without waiting in between: the first read said nothing of there being no more.
    gather(50);
    let arrived = |socket: &Socket, bytes: usize| {
        let socket = socket2::SockRef::from(socket.tls().unwrap().socket());
        let mut seen = [std::mem::MaybeUninit::uninit(); 4096];
        socket.peek(&mut seen).is_ok_and(|count| count >= bytes)
    };
    // Each record has 22 bytes of its own.
    let begin = std::time::Instant::now();
    while !arrived(&socket, 50 * 52) {
        assert!(begin.elapsed() < DEADLINE);
        thread::sleep(Duration::from_micros(200));
    }
    let mut buffer = BytesMut::with_capacity(1 << 20);
    assert_eq!(
        socket.try_read(&mut (&mut buffer).limit(1 << 20)).unwrap(),
        1_500
    );
    let error = socket
        .try_read(&mut (&mut buffer).limit(1 << 20))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let quiet = socket.ready(Interest::READABLE);
    timeout(Duration::from_millis(20), quiet).await.unwrap_err();
    gather(2);
    let mut count = 0;
    while count < 60 {
        count += read(&mut socket).await.unwrap().len();
    }
    drop(sender);
    drop(socket);
    server.join().unwrap();
}

#[tokio::test]
async fn peer_that_does_not_read_makes_writes_wait_and_loses_nothing() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let (address, server) = server(
        |_| {},
        move |stream| {
            receiver.recv().unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            let expected = bytes(received.len());
            assert!(received == expected);
            assert!(received.len() > 1 << 16);
        },
    );
    let mut socket = open(address).await;
    let mut queue = BytesMut::new();
    let mut pattern = (0..251_u8).cycle();
    let mut blocked = false;
    while !blocked {
        queue.extend(pattern.by_ref().take(10_000));
        blocked = flush(&mut socket, &mut queue).is_err();
    }
    sender.send(()).unwrap();
    while flush(&mut socket, &mut queue).is_err() {
        timeout(DEADLINE, socket.ready(Interest::WRITABLE))
            .await
            .unwrap()
            .unwrap();
    }
    // Unread tickets would reset the connection.
    drop(timeout(Duration::from_millis(10), read(&mut socket)).await);
    // The server reads to the end that this says.
    drop(socket);
    server.join().unwrap();
}

fn flush(socket: &mut Socket, queue: &mut BytesMut) -> std::io::Result<()> {
    while !queue.is_empty() {
        let written = socket.try_write(queue)?;
        drop(queue.split_to(written));
    }
    Ok(())
}

#[tokio::test]
async fn dropped_connection_says_good_bye() {
    let (address, server) = server(
        |acceptor| {
            acceptor.clear_options(SslOptions::IGNORE_UNEXPECTED_EOF);
        },
        |stream| {
            assert_eq!(
                stream.ssl_read(&mut [0; 10]).unwrap_err().code(),
                ErrorCode::ZERO_RETURN
            );
        },
    );
    let mut socket = open(address).await;
    drop(timeout(Duration::from_millis(10), read(&mut socket)).await);
    drop(socket);
    server.join().unwrap();
}

#[tokio::test]
async fn end_comes_after_what_was_sent_before_it_announced_or_not() {
    for announced in [true, false] {
        let (address, server) = server(
            |_| {},
            move |stream| {
                stream.write_all(&[1; 50]).unwrap();
                if announced {
                    stream.shutdown().unwrap();
                }
            },
        );
        let mut socket = open(address).await;
        server.join().unwrap();
        assert_eq!(read(&mut socket).await.unwrap().len(), 50);
        for _ in 0..2 {
            assert_eq!(read(&mut socket).await.unwrap().len(), 0);
        }
    }
}

#[tokio::test]
async fn nobody_waits_for_what_is_in_our_own_buffers() {
    let (address, server) = server(
        |_| {},
        |stream| {
            stream.write_all(&bytes(1_000)).unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        },
    );
    let mut socket = open(address).await;
    let mut received = BytesMut::new();
    while received.len() < 1_000 {
        timeout(DEADLINE, socket.ready(Interest::READABLE))
            .await
            .unwrap()
            .unwrap();
        let limit = 999 - received.len().min(998);
        drop(socket.try_read(&mut (&mut received).limit(limit)));
        // The runtime learns that the kernel has no more.
        let stream = socket.tls().unwrap().socket();
        drop(stream.try_read(&mut [0; 1]));
    }
    assert!(received[..] == bytes(1_000));
    let quiet = socket.ready(Interest::READABLE);
    timeout(Duration::from_millis(20), quiet).await.unwrap_err();
    drop(socket);
    server.join().unwrap();
}
