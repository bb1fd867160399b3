//! A second connection while the stream is not read.
//!
//! A server that stops waits until its walsenders have sent everything and were answered. While the
//! window is full nobody reads the stream, so its question would not be heard, and a Kafka that is
//! down would hold up the server. The lookout is another session on the same server: its end says
//! that the server is stopping, and then the stream is closed, which the server takes for an
//! answer.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::debug;
use walpost_walsender::{ConnectOptions, Connection, Error, Mode};

use crate::config::Postgres;
use crate::connect::{ConnectError, connect};

/// A stream that is not read for a shorter time than this waits for a busy Kafka, not for a dead
/// one.
const UNREAD_PATIENCE: Duration = Duration::from_millis(500);

/// How long after a failure the next connection is tried.
const RETRY: Duration = Duration::from_secs(1);

/// What the session does: nothing, in a statement that a stopping server ends. Short, because the
/// server notices only after it that we have gone.
const WAIT: &str = "select pg_catalog.pg_sleep(1)";

/// Whether the stream is read, and who listens while it is not.
#[derive(Debug)]
pub(super) enum Lookout {
    /// It is read.
    Off,
    /// It is not read, maybe for a moment only.
    Due(Instant),
    /// Somebody listens.
    Out { _held: Watch },
}

impl Lookout {
    /// To be called on every turn of the loop.
    pub(super) fn turn(&mut self, now: Instant, is_read: bool, start: impl FnOnce() -> Watch) {
        *self = match std::mem::replace(self, Self::Off) {
            _ if is_read => Self::Off,
            Self::Off => Self::Due(now + UNREAD_PATIENCE),
            Self::Due(at) if at <= now => Self::Out { _held: start() },
            same @ (Self::Due(_) | Self::Out { .. }) => same,
        };
    }

    /// When the next turn has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Due(at) => Some(*at),
            Self::Off | Self::Out { .. } => None,
        }
    }
}

/// A task that listens. Dropping it ends the connection.
#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    /// Calls `stops` once when the server is stopping.
    pub(super) fn start(
        side: &Handle,
        postgres: &Postgres,
        stops: impl FnOnce() + Send + 'static,
    ) -> Self {
        let postgres = postgres.clone();
        // An ordinary session would hold up a smart shutdown by itself.
        let options = ConnectOptions {
            mode: Mode::Replication,
            application_name: format!("walpost {} lookout", postgres.slot),
            ..ConnectOptions::default()
        };
        Self(side.spawn(async move {
            loop {
                let error = match connect(&postgres, &options).await {
                    Ok(connection) => end_of(connection).await.into(),
                    Err(error) => error,
                };
                if let ConnectError::Postgres(error) = &error
                    && matches!(error.sqlstate(), Some("57P01" | "57P02" | "57P03"))
                {
                    return stops();
                }
                debug!(%error, "the lookout's connection failed");
                tokio::time::sleep(RETRY).await;
            }
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn end_of(mut connection: Connection) -> Error {
    loop {
        if let Err(error) = connection.query(WAIT).await {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn somebody_listens_only_after_the_stream_was_not_read_for_a_while() {
        let start = Instant::now();
        let watch = || Watch(tokio::spawn(std::future::pending()));
        let mut lookout = Lookout::Off;
        lookout.turn(start, false, watch);
        assert_eq!(lookout.deadline(), Some(start + UNREAD_PATIENCE));
        lookout.turn(start + UNREAD_PATIENCE / 2, false, watch);
        assert!(matches!(lookout, Lookout::Due(_)));
        lookout.turn(start + UNREAD_PATIENCE, false, watch);
        assert!(matches!(lookout, Lookout::Out { .. }));
        assert_eq!(lookout.deadline(), None);
        lookout.turn(start + UNREAD_PATIENCE, true, watch);
        assert!(matches!(lookout, Lookout::Off));
    }
}
