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

/// How often it is looked whether the server's patience is another one by now.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// When a slot without a stream is visited next. The server's patience, by which that is known, can
/// change meanwhile; one of zero has no end.
#[derive(Debug)]
pub(super) struct Visits {
    /// When its last stream ended.
    since: Instant,
    /// The last visit failed, which was told: not before then is the next one.
    again_at: Option<Instant>,
}

impl Visits {
    /// Of a slot whose stream has just ended.
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            again_at: None,
        }
    }

    fn at(&self, timeout: Duration) -> Option<Instant> {
        let interval = Some(timeout / PARTS).filter(|_| !timeout.is_zero())?;
        Some(self.again_at.unwrap_or(self.since + interval))
    }

    pub(super) fn is_due(&self, timeout: Duration) -> bool {
        self.at(timeout).is_some_and(|at| at <= Instant::now())
    }

    /// Waits until one is due, or its time is to be looked at anew. Can be dropped and called
    /// again.
    pub(super) async fn due(&self, timeout: Duration) {
        let look_at = Instant::now() + LOOK_AGAIN;
        let at = self.at(timeout).map_or(look_at, |at| at.min(look_at));
        tokio::time::sleep_until(at.into()).await;
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
        match self.stream_for_a_moment().await {
            Ok(()) => *visits = Visits::new(),
            Err(error) if matches!(error.class(), Class::Definite(_)) => return Err(error),
            Err(error) => {
                let again_at = Instant::now() + (timeout / PARTS).min(RETRY);
                let cause = chain(&error);
                if visits.again_at.replace(again_at).is_some() {
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
