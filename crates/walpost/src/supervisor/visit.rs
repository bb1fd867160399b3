//! Visits: a slot that nobody streams from is given up by its server after
//! `idle_replication_slot_timeout` (PostgreSQL 18). A stream that is opened for a moment, and
//! brings nothing, begins that time anew.

use std::time::{Duration, Instant};

use tracing::{debug, warn};
use walpost_core::class::Class;

use super::Supervisor;
use crate::error::chain;
use crate::gate;
use crate::session::SessionError;

/// A slot is visited when this part of its server's patience is over.
const PARTS: u32 = 3;

/// Pause before the next visit where the last one failed, at most.
const RETRY: Duration = Duration::from_secs(5);

/// How long the server may take to end a visit's stream.
const LEAVE: Duration = Duration::from_secs(1);

/// No visit is due within any time that matters.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// When a slot without a stream is visited next.
#[derive(Debug)]
pub(super) struct Visits {
    at: Instant,
    /// The last one failed, which was told.
    has_failed: bool,
}

impl Visits {
    /// Of a slot whose stream has just ended. `timeout` is the server's patience; zero has no end.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            at: Instant::now() + interval(timeout),
            has_failed: false,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.at <= Instant::now()
    }

    /// Waits until one is due. Can be dropped and called again.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.at.into()).await;
    }
}

impl Supervisor<'_> {
    /// Streams for a moment, so that the server sees the slot in use. `timeout` is what it says of
    /// its patience by now.
    ///
    /// Errors where no later visit can do better.
    pub(super) async fn visit(
        &mut self,
        visits: &mut Visits,
        timeout: Duration,
    ) -> Result<(), SessionError> {
        let pause = interval(timeout);
        match self.stream_for_a_moment().await {
            Ok(()) => *visits = Visits::new(timeout),
            Err(error) if matches!(error.class(), Class::Definite(_)) => return Err(error),
            Err(error) => {
                visits.at = Instant::now() + pause.min(RETRY);
                let cause = chain(&error);
                if std::mem::replace(&mut visits.has_failed, true) {
                    debug!(cause, "the slot still can't be visited");
                } else {
                    warn!(
                        cause,
                        timeout_s = timeout.as_secs(),
                        "the slot can't be visited: the server gives it up after \
                         idle_replication_slot_timeout, and the events with it"
                    );
                }
            }
        }
        Ok(())
    }

    async fn stream_for_a_moment(&mut self) -> Result<(), SessionError> {
        let open = gate::open(self.config, false, &self.accepted, &mut self.memory);
        let opening = tokio::select! {
            opening = open => opening?,
            () = self.shutdown.stopped() => return Ok(()),
        };
        if let Err(error) = opening.stream.finish(LEAVE).await {
            debug!(%error, "the stream of a visit did not end in order");
        }
        opening.post.connection.close().await;
        debug!("the slot was visited");
        Ok(())
    }
}

fn interval(timeout: Duration) -> Duration {
    if timeout.is_zero() {
        NEVER
    } else {
        timeout / PARTS
    }
}
