//! A Kafka that takes nothing: when the stream is closed because of it, and what goes on without.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{error, info};
use walpost_core::park::{Circuit, Stall};
use walpost_pgoutput::Lsn;

use super::record::Record;
use super::{Answer, Session, SessionError};
use crate::control::{Control, News};
use crate::state::Activity;

/// How long after a write of the checkpoint that failed the next one is tried.
const RECORD_RETRY: Duration = Duration::from_secs(5);

/// One session's part in the circuit.
#[derive(Debug)]
pub(super) struct Breaker {
    stall: Stall,
    /// Everything that was committed when the session began lies before it.
    end: Lsn,
}

impl Breaker {
    /// Of a session that begins when the WAL ends at `end`.
    pub(super) fn new(end: Lsn) -> Self {
        Self {
            stall: Stall::new(),
            end,
        }
    }

    /// When to look again if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stall.deadline()
    }
}

impl Session<'_> {
    /// Ends the session where nothing has arrived for too long. The wait for Kafka's judgement of a
    /// topic does not count; one for a Kafka that is not there does.
    pub(super) fn judge_stall(&mut self, now: Instant) -> Result<(), SessionError> {
        let snapshot = self.relay.snapshot();
        // An acknowledgement that is not believed yet is none.
        let in_flight = self.producer.in_flight() + self.deliveries.len();
        let waits = in_flight > 0
            || self.relay.waits_for_topic() && self.producer.total_trouble().is_some();
        if snapshot.delivered > 0 || snapshot.confirmed >= self.breaker.end {
            self.close_circuit(now);
        }
        let waited = self.breaker.stall.look(now, snapshot.delivered, waits);
        let may_park = !self.context.once && self.ending.is_open() && self.relay.halted().is_none();
        match waited.filter(|_| may_park) {
            None => Ok(()),
            Some(waited) => Err(SessionError::KafkaAway {
                waited,
                in_flight,
                trouble: self.producer.trouble().map(Box::new),
            }),
        }
    }

    fn close_circuit(&mut self, now: Instant) {
        if *self.context.circuit == Circuit::Closed {
            return;
        }
        walpost_crashpoint::at!("recover");
        if let Some(parked) = self.context.circuit.close(now) {
            info!(
                parked_s = parked.as_secs(),
                "Kafka takes records again: no longer parked"
            );
            self.context.state.set_activity(Activity::Streaming);
        }
    }
}

/// What is left of a session while there is no stream: the control connection, and what is heard on
/// it. Dropping it ends the connection.
#[derive(Debug)]
pub(crate) struct Parked {
    control: Control,
    answers: UnboundedReceiver<Answer>,
    record: Record,
    cluster: Option<String>,
    /// Everything before it has arrived.
    confirmed: Lsn,
    /// The end of what was read.
    received: Lsn,
    is_recorded: bool,
    /// Writes of the checkpoint whose outcome is not known yet.
    unanswered: u32,
    /// One of them is for everything that has arrived.
    has_asked: bool,
    retry_at: Instant,
    is_pressed: bool,
}

impl Parked {
    /// Goes on with a session's control connection. `is_recorded`: the checkpoint holds all that
    /// has arrived.
    pub(super) fn new(session: Session<'_>, is_recorded: bool) -> (Self, walpost_core::Topics) {
        let snapshot = session.relay.snapshot();
        let is_writing = session.record.is_writing();
        let parked = Self {
            control: session.control,
            answers: session.answers,
            record: session.record,
            cluster: session.context.kafka.cluster.id().map(str::to_owned),
            confirmed: snapshot.confirmed,
            received: snapshot.received,
            is_recorded,
            unanswered: u32::from(is_writing),
            has_asked: false,
            retry_at: Instant::now() + RECORD_RETRY,
            is_pressed: false,
        };
        (parked, session.relay.into_topics())
    }

    /// Serves the control connection until the slot is lost. Can be dropped and called again.
    pub(crate) async fn watch(&mut self) {
        loop {
            let retry = tokio::time::sleep_until(self.retry_at.into());
            tokio::select! {
                answer = self.answers.recv() => match answer {
                    Some(Answer::Control(news)) if self.is_of_loss(&news) => return,
                    Some(Answer::Control(news)) => self.hear(news),
                    // Asked by the session; the next one asks anew.
                    Some(Answer::Topic { .. } | Answer::Cluster { .. }) => {}
                    // It reached another server, and ended. The next session looks where it is.
                    None => std::future::pending().await,
                },
                () = retry, if !self.is_recorded => {
                    self.retry_at = Instant::now() + RECORD_RETRY;
                    self.unanswered += 1;
                    self.has_asked = true;
                    self.control.record(self.confirmed, self.cluster.clone());
                }
            }
        }
    }

    fn is_of_loss(&self, news: &News) -> bool {
        matches!(news, News::Slot(seen) if seen.is_lost)
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Recorded(outcome) => {
                self.record.see_outcome(&outcome);
                self.unanswered = self.unanswered.saturating_sub(1);
                // What the session asked for may be less.
                let is_of_all = self.has_asked && self.unanswered == 0;
                if is_of_all && outcome.is_ok() && !self.is_recorded {
                    self.is_recorded = true;
                    info!("the checkpoint is written again");
                }
            }
            News::Slot(seen) => {
                self.record.idle_slot_timeout = seen.idle_timeout;
                if seen.is_pressed && !self.is_pressed {
                    error!(
                        "the slot keeps nearly as much WAL as max_slot_wal_keep_size allows: the \
                         server gives it up soon, and the events with it"
                    );
                }
                self.is_pressed = seen.is_pressed;
            }
            News::SetUp(found) => self.record.take_set_up(&found, self.received),
            // No walsender is waited for, and the connection comes back by itself.
            News::ServerStops | News::ServerAnswers => {}
            // The next session looks where it is.
            News::OtherServer(_) => {}
        }
    }

    /// After so long without a walsender the server gives the slot up; zero: never.
    pub(crate) fn idle_slot_timeout(&self) -> Duration {
        self.record.idle_slot_timeout
    }

    /// Ends the connection in order. Returns the position that the checkpoint holds by now, if it
    /// holds everything.
    pub(crate) async fn close(self) -> Option<Lsn> {
        self.control.close().await;
        self.is_recorded.then_some(self.confirmed)
    }
}
