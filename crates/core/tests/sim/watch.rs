//! What a session's status updates have to be, given what the session was fed.

use std::collections::BTreeSet;

use bytes::Bytes;
use walpost_core::Status;
use walpost_pgoutput::{CopyMessage, Lsn, Message};

use crate::history::History;

/// How late anything may be, in milliseconds: the owner of the relay has other work too.
const SLACK_MS: u64 = 60;
const MOVED_MS: u64 = 100;

/// Follows one session.
#[derive(Debug)]
pub(crate) struct Watch {
    floor: Lsn,
    interval_ms: u64,
    /// Highest position that the server reported.
    received: Lsn,
    /// Last end of a commit, or keepalive outside a transaction.
    boundary: Lsn,
    /// All of these that were not told yet: nothing else can be.
    boundaries: BTreeSet<Lsn>,
    in_transaction: bool,
    told: Lsn,
    told_at: Option<u64>,
    moved_at: Option<u64>,
    /// The process was stopped until then: what was due before is not late.
    resumed_at: u64,
    /// Where the server's last question stood.
    question: Option<Lsn>,
    /// The same, until it is answered.
    unanswered: Option<Lsn>,
    /// Status updates that may go out without waiting.
    answers: u32,
    pub(crate) statuses: u64,
    pub(crate) courtesies: u64,
    /// Messages read that were not keepalives.
    pub(crate) data: u64,
}

impl Watch {
    pub(crate) fn new(floor: Lsn, interval_ms: u64) -> Self {
        Self {
            floor,
            interval_ms,
            received: Lsn::ZERO,
            boundary: floor,
            boundaries: BTreeSet::from([floor]),
            in_transaction: false,
            told: floor,
            told_at: None,
            moved_at: None,
            resumed_at: 0,
            question: None,
            unanswered: None,
            answers: 1,
            statuses: 0,
            courtesies: 0,
            data: 0,
        }
    }

    /// The relay was fed this message.
    pub(crate) fn fed(&mut self, message: &CopyMessage) {
        match message {
            CopyMessage::Keepalive(keepalive) => {
                self.received = self.received.max(keepalive.wal_end);
                if !self.in_transaction {
                    self.reach(keepalive.wal_end);
                }
                if keepalive.reply_requested {
                    self.question = Some(keepalive.wal_end);
                    self.unanswered = Some(keepalive.wal_end);
                    self.answers += 2;
                }
            }
            CopyMessage::XLogData(data) => {
                self.data += 1;
                self.received = self.received.max(data.wal_end);
                self.advance(data.data.clone());
            }
        }
    }

    fn advance(&mut self, data: Bytes) {
        match data[0] {
            b'B' => self.in_transaction = true,
            b'C' => {
                let Ok(Message::Commit(commit)) = Message::decode(data) else {
                    panic!("the model sends what decodes");
                };
                self.in_transaction = false;
                self.reach(commit.end_lsn);
            }
            _ => {}
        }
    }

    fn reach(&mut self, boundary: Lsn) {
        self.boundary = self.boundary.max(boundary);
        self.boundaries.insert(boundary);
    }

    /// Where the session started.
    pub(crate) fn floor(&self) -> Lsn {
        self.floor
    }

    /// The owner asked for a status.
    pub(crate) fn may_answer(&mut self) {
        self.answers += 1;
    }

    /// Every record that left is acknowledged: then everything fed is confirmed, and nothing else.
    pub(crate) fn check_idle(&self, confirmed: Lsn) {
        assert_eq!(
            confirmed, self.boundary,
            "progress: nothing is in flight and the confirmed LSN is not the last boundary"
        );
    }

    /// The relay sends a status. `owed`: what it may tell for sure.
    pub(crate) fn status(
        &mut self,
        status: &Status,
        owed: Lsn,
        history: Option<&mut History>,
        now: u64,
    ) {
        if let Some(history) = history {
            history.check_flush(status.flush);
        }
        let highest = self.received.max(self.floor);
        assert!(status.write >= status.flush, "status: write below flush");
        assert!(
            status.write <= highest,
            "status: write above what was received"
        );
        self.check_rate(now);
        let answers = status.flush == Lsn::ZERO || self.unanswered <= Some(status.flush);
        self.unanswered = self.unanswered.filter(|_| !answers);
        self.statuses += 1;
        let is_first = self.told_at.replace(now).is_none();
        if status.flush == Lsn::ZERO {
            let question = self.question.take();
            assert!(
                question.is_some_and(|wal_end| wal_end > owed),
                "status: flush 0 without a question that could not be answered"
            );
            let has_told = !is_first && self.told >= owed;
            assert!(
                has_told,
                "status: flush 0 before what is confirmed was told"
            );
            self.courtesies += 1;
            return;
        }
        assert!(
            status.flush >= self.told,
            "status: the confirmed LSN went back"
        );
        assert!(
            status.flush <= highest,
            "status: flush above what was received"
        );
        let known = self.boundaries.contains(&status.flush);
        assert!(known, "status: {} is no boundary", status.flush);
        self.boundaries = self.boundaries.split_off(&status.flush);
        self.told = status.flush;
        if status.flush >= owed {
            self.moved_at = None;
        }
    }

    /// A promise: whatever can be said to a question is said at once.
    pub(crate) fn check_answered(&self) {
        let is_answered = self.unanswered.is_none();
        assert!(is_answered, "status: a question was not answered at once");
    }

    /// Without a question, statuses are at least 100 ms apart: plain keepalives are not answered.
    fn check_rate(&mut self, now: u64) {
        let spaced = self.told_at.is_none_or(|at| now >= at + MOVED_MS);
        if !spaced {
            assert!(self.answers > 0, "status: one too many, nobody asked");
            self.answers -= 1;
        }
    }

    /// The highest position that a status carried.
    pub(crate) fn told(&self) -> Lsn {
        self.told
    }

    /// Whether a status said so much.
    pub(crate) fn has_told(&self, lsn: Lsn) -> bool {
        self.told >= lsn
    }

    /// The process goes on after it was stopped.
    pub(crate) fn resume(&mut self, now: u64) {
        self.resumed_at = now;
    }

    /// Nothing may be overdue.
    pub(crate) fn tick(&mut self, owed: Lsn, now: u64) {
        if owed > self.told {
            self.moved_at.get_or_insert(now);
        } else {
            self.moved_at = None;
        }
        let last = self.told_at.unwrap_or(now).max(self.resumed_at);
        assert!(
            now <= last + self.interval_ms + SLACK_MS,
            "status: none for {} ms",
            now - last
        );
        if let Some(moved) = self.moved_at {
            assert!(
                now <= moved.max(self.resumed_at).max(last + MOVED_MS) + SLACK_MS,
                "status: progress was not told"
            );
        }
    }
}
