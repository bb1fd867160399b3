//! A replication stream: the input is what the server says from the first message on.
//!
//! No input may panic or hang, and where the socket's reads cut the bytes makes no difference: one
//! byte at a time they are the same messages, and end by the same error, as all at once.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use walpost_pgoutput::Lsn;
use walpost_walsender::{Fill, StartReplication, StreamMessage, WalStream};

use crate::peer::{Pair, message, read_message, read_startup, say, with_pair};

/// So many pieces at most: each costs some system calls.
const PIECES_MAX: usize = 256;

pub(crate) fn run(input: &[u8]) {
    with_pair(|pair| {
        pair.runtime.block_on(async {
            let whole = read(pair, input, input.len().max(1)).await;
            let size = input.len().div_ceil(PIECES_MAX).max(1);
            let pieces = read(pair, input, size).await;
            assert_eq!(whole, pieces, "in pieces of {size}");
        });
    });
}

/// What a client makes of the input when it comes in pieces of that size.
async fn read(pair: &Pair, input: &[u8], size: usize) -> Vec<String> {
    let (mut stream, mut socket) = open(pair).await;
    let mut heard = Vec::new();
    for piece in input.chunks(size) {
        say(&mut socket, piece).await;
        if !take(&mut stream, piece.len(), &mut heard).await {
            return heard;
        }
    }
    let _ = socket.shutdown().await;
    take(&mut stream, usize::MAX, &mut heard).await;
    heard
}

/// Reads so many bytes, or up to the end, and takes the messages. False: the stream is over.
async fn take(stream: &mut WalStream, mut bytes: usize, heard: &mut Vec<String>) -> bool {
    while bytes > 0 {
        if let Err(error) = stream.readable().await {
            heard.push(told(&error));
            return false;
        }
        match stream.try_fill() {
            Ok(Fill::Read { bytes: read, .. }) => bytes = bytes.saturating_sub(read),
            Ok(Fill::WouldBlock) => continue,
            Ok(Fill::Eof) => bytes = 0,
            Err(error) => {
                heard.push(told(&error));
                return false;
            }
        }
        loop {
            match stream.next() {
                Ok(Some(message)) => {
                    heard.push(format!("{message:?}"));
                    if message == StreamMessage::Ended {
                        return false;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    heard.push(told(&error));
                    return false;
                }
            }
        }
    }
    true
}

fn told(error: &walpost_walsender::Error) -> String {
    let source = std::error::Error::source(error);
    let source = source.map(ToString::to_string).unwrap_or_default();
    format!("{error}: {source}")
}

/// A stream that the server has consented to, and nothing else.
async fn open(pair: &Pair) -> (WalStream, TcpStream) {
    let (connected, mut socket) = pair
        .connect(async |socket| {
            read_startup(socket).await;
            let welcome = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
            say(socket, &welcome).await;
        })
        .await;
    let connection = connected.expect("a server that lets everybody in");
    let start = StartReplication {
        slot: "fuzz",
        start: Lsn::ZERO,
        publications: &["fuzz"],
        binary: false,
        messages: false,
    };
    let consent = async {
        read_message(&mut socket).await;
        say(&mut socket, &message(b'W', &[0; 3])).await;
    };
    let (stream, ()) = tokio::join!(connection.start_replication(&start), consent);
    (stream.expect("a server that consents"), socket)
}
