//! What a server says at a login: the input from the first byte on, or as its part of SCRAM.
//!
//! No input may panic, hang, or be believed: the client has a password, and a server that does not
//! know it can't finish SCRAM. What is told of an error never has the password in it.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::peer::{message, read_message, read_startup, say, with_pair};

const AUTHENTICATION: u8 = b'R';

pub(crate) fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    with_pair(|pair| {
        pair.runtime.block_on(async {
            let speaks_scram = *first % 2 == 1;
            let (connected, _socket) = pair
                .connect(async |socket| {
                    if speaks_scram {
                        scram(socket, rest).await;
                    } else {
                        say(socket, rest).await;
                    }
                    let _ = socket.shutdown().await;
                })
                .await;
            match connected {
                // A server may let anybody in. One that was asked for a proof must give it.
                Ok(_) => assert!(!speaks_scram, "a server without the password was believed"),
                Err(error) => check_told(&error),
            }
        });
    });
}

/// The input as the server's two messages, behind the client's own nonce, and what follows them.
async fn scram(socket: &mut TcpStream, input: &[u8]) -> Option<()> {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    read_startup(socket).await?;
    let offer = [&10_i32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat();
    say(socket, &message(AUTHENTICATION, &offer)).await;
    let initial = read_message(socket).await?;
    let nonce = initial.rsplit(|byte| *byte == b',').next()?;
    let first = [&11_i32.to_be_bytes()[..], nonce, parts.next()?].concat();
    say(socket, &message(AUTHENTICATION, &first)).await;
    let last = parts.next()?;
    read_message(socket).await?;
    let last = [&12_i32.to_be_bytes()[..], last].concat();
    say(socket, &message(AUTHENTICATION, &last)).await;
    say(socket, parts.next()?).await;
    Some(())
}

fn check_told(error: &walpost_walsender::Error) {
    let mut told = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told.push_str(&error.to_string());
        cause = error.source();
    }
    assert!(!told.contains("fuzz-hunter"), "the password was told");
}
