//! Parked: Kafka takes nothing, so no stream is open until it answers.
//!
//! What would be read could not be delivered, and a walsender whose stream is not read can't be
//! ended by its server. The control connection goes on: it watches the slot and the tables, and
//! nothing on it holds up a server that stops. The slot keeps the WAL, and what was in flight is
//! read again.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tracing::{debug, error, info};
use walpost_core::class::Class;
use walpost_kafka::Producer;

use super::{Next, Supervisor};
use crate::error::{Error, chain};
use crate::gate;
use crate::session::{Parked, SessionError};
use crate::shutdown::Shutdown;
use crate::state::Activity;

/// How long one question to Kafka waits for an answer. It is asked over a connection that is being
/// made again all the time, so the answer comes as soon as there is one.
const PROBE: Duration = Duration::from_secs(5);

/// Pause before the next question where the last one failed at once.
const PROBE_PAUSE: Duration = Duration::from_millis(500);

/// Pause before Kafka is asked that has answered, and taken nothing all the same.
const RELAPSE_PAUSE: Duration = Duration::from_secs(5);

/// A slot that nobody streams from is visited when this part of its server's patience is over.
const VISITS: u32 = 3;

/// Pause before the next visit where the last one failed, at most.
const VISIT_RETRY: Duration = Duration::from_secs(5);

/// How long the server may take to end a visit's stream.
const LEAVE: Duration = Duration::from_secs(1);

/// No visit is due within any time that matters.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

const AT_ONCE: Next = Next::Again {
    delay: Duration::ZERO,
};

/// What ends the wait for an answer.
enum Heard {
    /// Kafka answered, or not in time.
    Answer(bool),
    /// It will not let us in.
    Refusal(SessionError),
    /// There are other certificates or passwords for it.
    Rotation,
    /// The slot is gone, or lost.
    Loss,
    /// Nobody has streamed from the slot for some time.
    VisitDue,
    /// The process is asked to stop.
    Stop,
}

impl Supervisor<'_> {
    /// Waits until Kafka answers, or there is another reason to go on or to end.
    pub(super) async fn park(
        &mut self,
        cause: &SessionError,
        mut parked: Parked,
    ) -> Result<Next, Error> {
        let is_news = self.circuit.park(Instant::now());
        // One that was connected before knows the answer without asking.
        self.producer = None;
        self.state.set_activity(Activity::Parked);
        self.log_parked(cause, is_news);
        let next = self.wait_for_kafka(&mut parked, is_news).await;
        if let Some(lsn) = parked.close().await {
            self.memory.recorded(lsn);
            self.is_recorded = true;
        }
        next
    }

    fn log_parked(&self, cause: &SessionError, is_news: bool) {
        let fix = cause.fix(&self.config.postgres.conninfo);
        let cause = chain(cause);
        if is_news {
            error!(
                cause,
                fix,
                "parked: the stream is closed until Kafka answers. Postgres keeps what is \
                 committed; what was in flight is sent again"
            );
        } else {
            debug!(cause, "parked again: nothing has arrived since");
        }
    }

    async fn wait_for_kafka(&mut self, parked: &mut Parked, is_news: bool) -> Result<Next, Error> {
        let mut visit_at = Instant::now() + visit_interval(parked);
        let mut pause = if is_news {
            Duration::ZERO
        } else {
            RELAPSE_PAUSE
        };
        loop {
            self.renew();
            self.prepare_producer().await?;
            let mut probe = self.probe(pause);
            match self.hear(&mut probe, parked, visit_at).await {
                Heard::Answer(true) => {
                    debug!("Kafka answers: trying");
                    self.circuit.try_again();
                    return Ok(AT_ONCE);
                }
                Heard::Answer(false) => debug!("parked: Kafka does not answer"),
                // The next question is asked with other certificates or passwords.
                Heard::Rotation => {}
                Heard::Refusal(error) => return Ok(self.after_error(error)),
                Heard::Loss => {
                    debug!("the slot is gone, or lost: the next session says how");
                    return Ok(AT_ONCE);
                }
                Heard::Stop => {
                    info!("stopped while parked: what had not arrived comes at the next start");
                    return Ok(Next::Stop(self.stopped()));
                }
                Heard::VisitDue => match self.visit().await {
                    Ok(()) => visit_at = Instant::now() + visit_interval(parked),
                    Err(error) if matches!(error.class(), Class::Definite(_)) => {
                        return Ok(self.after_error(error));
                    }
                    Err(error) => {
                        debug!(error = chain(&error), "the slot can't be visited");
                        visit_at = Instant::now() + visit_interval(parked).min(VISIT_RETRY);
                    }
                },
            }
            pause = PROBE_PAUSE;
        }
    }

    /// Asks Kafka a question, where it may block.
    fn probe(&self, pause: Duration) -> JoinHandle<bool> {
        let metadata = self.producer.as_ref().map(Producer::metadata);
        self.side.spawn_blocking(move || {
            std::thread::sleep(pause);
            metadata.is_some_and(|metadata| metadata.cluster_id(PROBE).is_some())
        })
    }

    /// Waits for the answer to a question, or for something else to do.
    async fn hear(
        &mut self,
        probe: &mut JoinHandle<bool>,
        parked: &mut Parked,
        visit_at: Instant,
    ) -> Heard {
        loop {
            if self.shutdown.requested() == Shutdown::Drain {
                return Heard::Stop;
            }
            let Some(producer) = self.producer.as_mut() else {
                return Heard::Stop;
            };
            tokio::select! {
                () = self.shutdown.stopped() => {}
                answer = &mut *probe => return Heard::Answer(answer.unwrap_or(false)),
                () = self.rotation.due() => return Heard::Rotation,
                () = parked.watch() => return Heard::Loss,
                () = tokio::time::sleep_until(visit_at.into()) => return Heard::VisitDue,
                () = producer.ready() => {
                    producer.poll(&mut Vec::new());
                    if let Some(refusal) = self.kafka.judge(Instant::now(), producer, true) {
                        return Heard::Refusal(SessionError::Kafka(refusal));
                    }
                }
            }
        }
    }

    /// Streams for a moment, so that the server sees the slot in use.
    async fn visit(&mut self) -> Result<(), SessionError> {
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

/// How long the slot may be left alone. Where the server does not give it up, as good as for ever.
fn visit_interval(parked: &Parked) -> Duration {
    let timeout = parked.idle_slot_timeout();
    timeout.map_or(NEVER, |timeout| timeout / VISITS)
}
