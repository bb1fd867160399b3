//! Each fault of the proxy, against an echo server.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use walpost_tests::{Direction, Proxy, free_port, wait_until};

use crate::SOON;

#[test]
fn bytes_pass_both_ways_and_connections_are_counted() {
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    let mut one = connect(&proxy);
    let mut two = connect(&proxy);
    assert_eq!(exchange(&mut one, b"abc"), Some(b"abc".to_vec()));
    assert_eq!(exchange(&mut two, b"defg"), Some(b"defg".to_vec()));
    assert_eq!((proxy.connections(), proxy.accepted()), (2, 2));
    wait_until(SOON, "7 bytes each way", || {
        let counted = Direction::BOTH.map(|direction| proxy.forwarded(direction));
        (counted == [7, 7]).then_some(())
    });
    drop(one);
    wait_until(SOON, "the end of one", || {
        (proxy.connections() == 1).then_some(())
    });
}

#[test]
fn cut_closes_what_is_open_and_takes_new_connections() {
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    let mut client = connect(&proxy);
    assert!(exchange(&mut client, b"x").is_some());
    proxy.cut();
    assert_eq!(exchange(&mut client, b"x"), None);
    assert_eq!(proxy.connections(), 0);
    assert!(exchange(&mut connect(&proxy), b"x").is_some());
}

#[test]
fn reset_resets_what_is_open_and_takes_new_connections() {
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    let mut client = connect(&proxy);
    assert!(exchange(&mut client, b"x").is_some());
    proxy.reset();
    let ended = client.read(&mut [0]).unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.connections(), 0);
    assert!(exchange(&mut connect(&proxy), b"x").is_some());
}

#[test]
fn what_is_split_or_trickles_arrives_whole() {
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    let mut client = connect(&proxy);
    let bytes: Vec<u8> = (0..200).collect();
    proxy.split(1);
    assert_eq!(exchange(&mut client, &bytes), Some(bytes.clone()));
    proxy.resume();
    proxy.trickle(1000);
    // Four pieces, and 50 ms between two of them.
    let began = Instant::now();
    assert_eq!(exchange(&mut client, &bytes), Some(bytes));
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[test]
fn refuse_keeps_what_is_open_and_refuses_new_connections_until_resume() {
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    let mut client = connect(&proxy);
    assert!(exchange(&mut client, b"x").is_some());
    proxy.refuse();
    // A child process that is being started may hold the listener for a moment.
    let refused = wait_until(SOON, "a connection is refused", || {
        TcpStream::connect(("127.0.0.1", proxy.port())).err()
    });
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(exchange(&mut client, b"x").is_some());
    proxy.resume();
    assert!(exchange(&mut connect(&proxy), b"x").is_some());
}

#[test]
fn stall_holds_everything_back_and_resume_delivers_it() {
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    let mut client = connect(&proxy);
    for direction in Direction::BOTH {
        proxy.stall_one_way(direction);
        client
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert_eq!(exchange(&mut client, b"late"), None);
        assert_eq!(proxy.connections(), 1);
        proxy.resume();
        client.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"late");
    }
}

#[test]
fn a_stalled_connection_can_be_cut() {
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    let mut client = connect(&proxy);
    assert!(exchange(&mut client, b"x").is_some());
    proxy.stall();
    client.write_all(b"held").unwrap();
    proxy.cut();
    assert_closed(&mut client);
}

#[test]
fn a_black_hole_swallows_one_way_and_resume_closes_what_was_torn() {
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    let mut client = connect(&proxy);
    let mut untouched = connect(&proxy);
    assert!(exchange(&mut client, b"x").is_some());
    assert!(exchange(&mut untouched, b"x").is_some());
    proxy.black_hole(Direction::ToClient);
    client
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert_eq!(exchange(&mut client, b"lost"), None);
    wait_until(SOON, "the server got it", || {
        (proxy.forwarded(Direction::ToServer) == 6).then_some(())
    });
    proxy.resume();
    client.set_read_timeout(Some(SOON)).unwrap();
    assert_closed(&mut client);
    assert!(exchange(&mut untouched, b"y").is_some());
}

#[test]
fn a_delay_is_latency_and_not_a_lower_rate() {
    const CHUNKS: usize = 64;
    const EACH_WAY: Duration = Duration::from_millis(150);
    let echo = Echo::start();
    let proxy = Proxy::new(&echo.address);
    proxy.delay(EACH_WAY);
    let mut client = connect(&proxy);
    let began = Instant::now();
    let sent = vec![7; 4096];
    for _ in 0..CHUNKS {
        client.write_all(&sent).unwrap();
        // Apart from each other: together they would be one chunk.
        thread::sleep(Duration::from_millis(5));
    }
    let mut received = vec![0; CHUNKS * 4096];
    client.read_exact(&mut received).unwrap();
    let took = began.elapsed();
    assert!(took >= 2 * EACH_WAY, "{took:?} with {EACH_WAY:?} each way");
    // 10 s if each waited for the one before it; half a second on an idle machine.
    let one_by_one = EACH_WAY * u32::try_from(CHUNKS).unwrap();
    assert!(took < one_by_one, "{took:?}: chunks waited for each other");
}

#[test]
fn a_target_that_is_down_closes_the_connection() {
    let port = free_port();
    let proxy = Proxy::new(&format!("127.0.0.1:{}", port.number()));
    assert_eq!(exchange(&mut connect(&proxy), b"x"), None);
}

#[test]
fn a_port_that_a_closed_listener_still_holds_for_a_moment_is_waited_for() {
    let port = free_port();
    let held = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
    thread::scope(|scope| {
        let proxy = scope.spawn(|| Proxy::at(port.number(), "127.0.0.1:1"));
        thread::sleep(Duration::from_millis(100));
        assert!(!proxy.is_finished());
        drop(held);
        let proxy = proxy.join().unwrap();
        TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    });
}

/// A server that sends back what it gets.
struct Echo {
    address: String,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    io::copy(&mut &stream, &mut writer).ok();
                });
            }
        });
        Self { address }
    }
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, sent: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(sent).ok()?;
    let mut received = vec![0; sent.len()];
    stream.read_exact(&mut received).ok()?;
    Some(received)
}

/// The other side has ended the connection, with a reset or without, and sent nothing before.
#[track_caller]
fn assert_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 16]) {
        Ok(0) => {}
        Ok(count) => panic!("{count} bytes came"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}
