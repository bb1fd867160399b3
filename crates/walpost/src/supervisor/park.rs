//! Parked: Kafka takes nothing, so no stream is open until it answers.
//!
//! What would be read could not be delivered, and a walsender whose stream is not read can't be
//! ended by its server. The control connection goes on: it watches the slot and the tables, and
//! nothing on it holds up a server that stops. The slot keeps the WAL, and what was in flight is
//! read again.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tracing::{debug, error, info};
use walpost_kafka::Producer;

use super::visit::Visits;
use super::{AT_ONCE, Next, Supervisor};
use crate::error::{Error, chain};
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
        walpost_crashpoint::around!("unpark", self.unpark(parked).await);
        next
    }

    /// Ends what went on without a stream, and remembers what the checkpoint holds by now.
    pub(super) async fn unpark(&mut self, parked: Parked) {
        let Some(lsn) = parked.close().await else {
            return;
        };
        self.is_recorded = true;
        if let Some((identity, _)) = self.last {
            self.memory.recorded(identity, lsn);
        }
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
        let mut visits = Visits::new();
        let mut pause = if is_news {
            Duration::ZERO
        } else {
            RELAPSE_PAUSE
        };
        loop {
            self.renew();
            self.prepare_producer().await?;
            let mut probe = self.probe(pause);
            match self.hear(&mut probe, parked, &visits).await {
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
                Heard::VisitDue => {
                    let timeout = parked.idle_slot_timeout();
                    if let Err(error) = self.visit(&mut visits, timeout).await {
                        return Ok(self.after_error(error));
                    }
                }
            }
            pause = PROBE_PAUSE;
        }
    }

    /// Asks Kafka a question, where it may block.
    fn probe(&self, pause: Duration) -> JoinHandle<bool> {
        let metadata = self.producer.as_ref().map(Producer::metadata);
        self.side.spawn_blocking(move || {
            std::thread::sleep(pause);
            metadata.is_some_and(|metadata| metadata.is_there(PROBE))
        })
    }

    /// Waits for the answer to a question, or for something else to do.
    async fn hear(
        &mut self,
        probe: &mut JoinHandle<bool>,
        parked: &mut Parked,
        visits: &Visits,
    ) -> Heard {
        loop {
            if self.shutdown.requested() == Shutdown::Drain {
                return Heard::Stop;
            }
            let Some(producer) = self.producer.as_mut() else {
                return Heard::Stop;
            };
            let timeout = parked.idle_slot_timeout();
            tokio::select! {
                () = self.shutdown.stopped() => {}
                answer = &mut *probe => return Heard::Answer(answer.unwrap_or(false)),
                () = self.rotation.due() => return Heard::Rotation,
                () = parked.watch() => return Heard::Loss,
                () = visits.due(timeout) => {
                    if visits.is_due(timeout) {
                        return Heard::VisitDue;
                    }
                }
                () = producer.ready() => {
                    producer.poll(&mut Vec::new());
                    if let Some(refusal) = self.kafka.judge(Instant::now(), producer, true) {
                        return Heard::Refusal(SessionError::Kafka(refusal));
                    }
                }
            }
        }
    }
}
