//! The checkpoint and the control connection, as the session sees them.

use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};
use walpost_core::slot::{self, Verdict};
use walpost_crashpoint as crash_point;
use walpost_pgoutput::Lsn;

use super::{Answer, Session, SessionError};
use crate::control::{News, SlotSeen};
use crate::finding::Finding;
use crate::state::StateCell;

/// How long the last checkpoint of a session is waited for.
const LAST_RECORD: Duration = Duration::from_secs(2);

/// How it is with the checkpoint, as it was logged.
#[derive(Debug)]
pub(super) struct Record {
    /// A write is under way.
    is_writing: bool,
    /// Why the last one failed.
    failed: Option<String>,
    /// It was logged that positions are confirmed without it.
    is_bypassed: bool,
    /// The server said that it stops.
    server_stops: bool,
    /// What is wrong with tables and publication, and where nothing was for the last time.
    altered: Vec<String>,
    whole_at: Lsn,
    /// After so long without a walsender the server gives the slot up; zero: never.
    pub(super) idle_slot_timeout: Duration,
    /// Where it is said whether something is wrong.
    state: StateCell,
}

impl Record {
    /// Of a session that starts at `floor`.
    pub(super) fn new(floor: Lsn, idle_slot_timeout: Duration, state: StateCell) -> Self {
        // The gate has just looked.
        state.set_altered(false);
        Self {
            is_writing: false,
            failed: None,
            is_bypassed: false,
            server_stops: false,
            altered: Vec::new(),
            whole_at: floor,
            idle_slot_timeout,
            state,
        }
    }

    /// Something was altered under the relay: said once, with the part of the WAL that it may have
    /// left out. `now` is how far the stream was read: it goes on, what it sends is right, and what
    /// it does not send is in the table.
    pub(super) fn take_set_up(&mut self, found: &[Finding], now: Lsn) {
        self.state.set_altered(!found.is_empty());
        for finding in found {
            let line = finding.line();
            if self.altered.contains(&line) {
                continue;
            }
            error!(
                fix = finding.fix.as_deref().unwrap_or_default(),
                from_lsn = %self.whole_at, to_lsn = %now,
                "altered while streaming: {line}"
            );
        }
        let altered: Vec<_> = found.iter().map(Finding::line).collect();
        if altered.is_empty() {
            if !self.altered.is_empty() {
                warn!(
                    from_lsn = %self.whole_at, to_lsn = %now,
                    "tables and publication are whole again: compare what was written in between \
                     with Kafka"
                );
            }
            self.whole_at = now;
        }
        self.altered = altered;
    }

    /// A write succeeded or failed.
    pub(super) fn see_outcome(&self, outcome: &Result<(), String>) {
        self.state.set_recorded(outcome.is_ok(), Instant::now());
    }

    /// Whether the outcome of a write is not known yet.
    pub(super) fn is_writing(&self) -> bool {
        self.is_writing
    }

    /// Why the checkpoint can't be written, if it can't.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}

impl Session<'_> {
    /// Has the checkpoint written that is due.
    pub(super) fn write_checkpoint(&mut self, now: Instant) {
        if let Some(lsn) = self.relay.poll_checkpoint(now) {
            self.record.is_writing = true;
            let cluster = self.context.kafka.cluster.id().map(str::to_owned);
            self.control.record(lsn, cluster);
        }
        self.log_bypass();
    }

    /// Positions are confirmed that the checkpoint does not hold: said once.
    fn log_bypass(&mut self) {
        let unrecorded = self.relay.unrecorded();
        if let Some(lsn) = unrecorded.filter(|_| !self.record.is_bypassed) {
            let cause = self.record.failure().unwrap_or("no answer yet");
            error!(
                %lsn, cause,
                "the checkpoint could not be written for too long: positions are confirmed without \
                 it from here on. This process knows them; a restart needs --accept-slot-position"
            );
            self.record.is_bypassed = true;
        }
    }

    pub(super) fn take_news(&mut self, news: News) -> Result<(), SessionError> {
        match news {
            News::Recorded(outcome) => self.take_recorded(outcome),
            News::Slot(seen) => return self.take_slot(seen),
            News::SetUp(found) => {
                let received = self.relay.snapshot().received;
                self.record.take_set_up(&found, received);
            }
            News::ServerStops => {
                debug!("the server is stopping");
                self.record.server_stops = true;
            }
            News::ServerAnswers => self.record.server_stops = false,
            News::OtherServer(what) => {
                debug!(what, "the control connection reached another server");
                return Err(SessionError::OtherServer);
            }
        }
        Ok(())
    }

    fn take_recorded(&mut self, outcome: Result<(), String>) {
        self.record.is_writing = false;
        let relay = &mut self.relay;
        crash_point::around!(
            "checkpoint-told",
            relay.handle_checkpointed(outcome.is_ok())
        );
        self.record.see_outcome(&outcome);
        match outcome {
            Ok(()) => {
                let has_failed = self.record.failed.take().is_some();
                let was_bypassed = std::mem::take(&mut self.record.is_bypassed);
                if has_failed || was_bypassed {
                    info!("the checkpoint is written again");
                }
            }
            Err(cause) => {
                if self.record.failed.is_none() {
                    warn!(
                        cause,
                        "the checkpoint can't be written: events are delivered, and nothing is \
                         confirmed until it is, or until postgres.checkpoint_grace is over"
                    );
                }
                self.record.failed = Some(cause);
            }
        }
    }

    /// The slot has to be streamed from by our own walsender, and stand where we left it.
    fn take_slot(&mut self, seen: SlotSeen) -> Result<(), SessionError> {
        self.relay.handle_slot(seen.is_pressed);
        self.record.idle_slot_timeout = seen.idle_timeout;
        if seen.is_working {
            self.silence.at_work(Instant::now());
        }
        let told = self.relay.told();
        let slot = || self.context.config.postgres.slot.clone();
        match slot::judge(seen.row, self.stream_pid, told) {
            Verdict::Ours => Ok(()),
            Verdict::Taken => {
                debug!(seen = ?seen.row, ours = self.stream_pid, "the slot is not ours any more");
                Err(SessionError::SlotTaken { slot: slot() })
            }
            Verdict::Moved(confirmed) => Err(SessionError::SlotMoved {
                slot: slot(),
                confirmed,
                told,
            }),
        }
    }

    /// A server that stops waits for its walsender. Where the stream is read, its question comes
    /// with it and is answered; where it is not, closing is the answer.
    pub(super) fn leave_stopping_server(&self) -> Result<(), SessionError> {
        if self.record.server_stops && !self.relay.wants_wal() {
            return Err(SessionError::ServerEnded);
        }
        Ok(())
    }

    /// The checkpoint for everything that is confirmed by now, for the end of the session.
    pub(super) async fn record_last(&mut self) {
        self.relay.record_all();
        let now = Instant::now();
        // A stop has a deadline; something is left for a last write in any case.
        let drained = self.ending.deadline().unwrap_or(now + LAST_RECORD);
        let deadline = drained.clamp(now + LAST_RECORD / 8, now + LAST_RECORD);
        loop {
            self.write_checkpoint(Instant::now());
            if self.relay.is_recorded() || !self.record.is_writing {
                return;
            }
            let answer = match self.heard.take() {
                Some(answer) => Some(answer),
                None => tokio::time::timeout_at(deadline.into(), self.answers.recv())
                    .await
                    .unwrap_or_default(),
            };
            match answer {
                Some(Answer::Control(News::Recorded(outcome))) => self.take_recorded(outcome),
                // The session is over for all the others.
                Some(_) => {}
                None => return,
            }
        }
    }

    /// What the checkpoint holds, and what the server was told beyond it.
    pub(super) fn recorded(&self) -> (Lsn, Option<Lsn>) {
        (self.relay.recorded(), self.relay.unrecorded())
    }
}
