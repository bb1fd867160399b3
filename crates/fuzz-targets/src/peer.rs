//! The other end of a connection: a server that says what an input has it say.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use walpost_walsender::{ConnectOptions, Connection, Conninfo, Error};

/// The limit for one message that the client is given.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What the client may hold beside it: a chunk that is read into, and the one after it.
pub(crate) const BUFFER_BYTES_MAX: usize = 2 * (256 << 10);

/// Nothing that an input says takes so long.
const DEADLINE: Duration = Duration::from_secs(20);

/// A client and its server, in one thread.
pub(crate) struct Pair {
    pub(crate) runtime: Runtime,
    listener: TcpListener,
    conninfo: Conninfo,
}

thread_local! {
    static PAIR: Pair = Pair::new();
}

/// With the pair of this thread.
pub(crate) fn with_pair<T>(run: impl FnOnce(&Pair) -> T) -> T {
    PAIR.with(run)
}

impl Pair {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let text = format!(
            "host=127.0.0.1 port={port} user=fuzz password=fuzz-hunter dbname=fuzz \
             sslmode=disable gssencmode=disable connect_timeout=10"
        );
        let conninfo = Conninfo::parse(&text, &|_| None).expect("a connection string");
        Self {
            runtime,
            listener,
            conninfo,
        }
    }

    /// Connects to a server that does `serve` meanwhile.
    pub(crate) async fn connect(
        &self,
        serve: impl AsyncFnOnce(&mut TcpStream),
    ) -> (Result<Connection, Error>, TcpStream) {
        let options = ConnectOptions {
            message_bytes_max: MESSAGE_BYTES_MAX,
            ..ConnectOptions::default()
        };
        let serving = async {
            let (mut socket, _) = self.listener.accept().await.expect("the client comes");
            // Single bytes leave at once.
            socket.set_nodelay(true).expect("a socket of TCP");
            serve(&mut socket).await;
            socket
        };
        let both = async { tokio::join!(Connection::connect(&self.conninfo, &options), serving) };
        let both = tokio::time::timeout(DEADLINE, both).await;
        both.expect("a login ends in time")
    }
}

/// Reads the client's first message, which has no tag.
pub(crate) async fn read_startup(socket: &mut TcpStream) -> Option<()> {
    let length = socket.read_u32().await.ok()?;
    read_body(socket, length).await.map(drop)
}

/// Reads a message of the client.
pub(crate) async fn read_message(socket: &mut TcpStream) -> Option<Vec<u8>> {
    socket.read_u8().await.ok()?;
    let length = socket.read_u32().await.ok()?;
    read_body(socket, length).await
}

async fn read_body(socket: &mut TcpStream, length: u32) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?.checked_sub(4)?;
    assert!(
        length <= MESSAGE_BYTES_MAX,
        "the client says {length} bytes"
    );
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// Says something. A client that has gone does not hear it.
pub(crate) async fn say(socket: &mut TcpStream, bytes: &[u8]) {
    let _ = socket.write_all(bytes).await;
}

/// A message with its tag and its length.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}
