//! The thread that keeps one client supplied with tokens.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::{Token, TokenError, TokenSource};

/// Pause after the first failure; each further one doubles it.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Tokens that are about to expire come no more often than this.
const REFRESH_MIN: Duration = Duration::from_millis(100);

/// A running thread. It ends soon after this is dropped; nobody waits for it, because it may be
/// waiting for the endpoint.
#[derive(Debug)]
pub(crate) struct Refresher {
    _alive: Sender<()>,
}

impl Refresher {
    /// Hands a token to `apply`, at once and each time that the last one gets old, and what went
    /// wrong where there is none. `apply` returns whether its client is still there.
    pub(crate) fn start(
        source: Arc<TokenSource>,
        mut apply: impl FnMut(Result<&Token, &TokenError>) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (alive, wait) = channel::<()>();
        thread::Builder::new()
            .name("kafka-token".to_owned())
            .spawn(move || {
                let mut backoff = BACKOFF_MIN;
                loop {
                    let token = source.token();
                    if !apply(token.as_ref()) {
                        return;
                    }
                    let pause = if let Ok(token) = &token {
                        backoff = BACKOFF_MIN;
                        token.refresh_in().max(REFRESH_MIN)
                    } else {
                        let pause = backoff;
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                        pause
                    };
                    if wait.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })?;
        Ok(Self { _alive: alive })
    }
}
