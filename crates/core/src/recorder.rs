//! The checkpoint's pace: when the row is written, and how far a status update may go because of
//! it.
//!
//! `confirmed_flush_lsn` is not durable: after a crash of the server, and before version 17 after
//! any restart, the slot stands where it stood long ago. So the position is kept in a row as well,
//! in the same database, where it rolls back together with the WAL when a standby takes over.
//!
//! * The row is written **before** the status update that carries its LSN: so on one timeline a
//!   slot that stands ahead of the row was moved by somebody else.
//! * It is written when outbox events were confirmed, at most every 100 ms; when more than 1 MiB of
//!   other WAL passed; and at an end. In between the slot stays back by less than 1 MiB.
//! * A row that can't be written must not fill the server's disk, which may be the very reason.
//!   After the grace, or when the slot is about to be lost, positions are confirmed without it.

use std::time::{Duration, Instant};

use walpost_pgoutput::Lsn;

use crate::limits::{CHECKPOINT_INTERVAL, CHECKPOINT_RETRY_INTERVAL, CHECKPOINT_WAL_BYTES};

/// How the checkpoint is kept in one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// It is not: what is acknowledged is confirmed at once.
    Off,
    /// After `grace` without a successful write positions are confirmed without it.
    On {
        /// What the row holds at the session's start: the floor, unless it can't be written.
        recorded: Lsn,
        /// `postgres.checkpoint_grace`.
        grace: Duration,
    },
}

/// What the confirmed LSN is made of, as far as the checkpoint needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// Everything before it is delivered.
    pub(crate) lsn: Lsn,
    /// How many records of this session lie before it.
    pub(crate) events: u64,
}

/// One session's checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    recording: Recording,
    /// What the row holds.
    recorded: Confirmed,
    /// What is being written.
    writing: Option<Confirmed>,
    /// When the last write was begun.
    begun_at: Option<Instant>,
    /// Since when a write was due that did not succeed.
    due_since: Option<Instant>,
    has_failed: bool,
    /// The server is about to give the slot up.
    is_pressed: bool,
    /// Positions are confirmed that the row does not hold.
    is_bypassed: bool,
    /// How far a status update may go.
    allowed: Lsn,
    /// How far one went.
    told: Lsn,
    /// Whatever is confirmed is written at once.
    is_ending: bool,
}

impl Recorder {
    pub(crate) fn new(recording: Recording, floor: Lsn) -> Self {
        let recorded = match recording {
            Recording::Off => floor,
            Recording::On { recorded, .. } => recorded,
        };
        assert!(recorded <= floor, "a session started before its checkpoint");
        Self {
            recording,
            recorded: Confirmed {
                lsn: recorded,
                events: 0,
            },
            writing: None,
            begun_at: None,
            due_since: None,
            has_failed: false,
            is_pressed: false,
            is_bypassed: recording == Recording::Off,
            allowed: floor,
            told: floor,
            is_ending: false,
        }
    }

    /// The position that is to be written now. One write at a time: its outcome goes to `written`.
    pub(crate) fn poll(&mut self, now: Instant, confirmed: Confirmed) -> Option<Lsn> {
        self.look(now, confirmed);
        let may_begin = self.writing.is_none() && self.not_before().is_none_or(|at| now >= at);
        if !self.is_due(confirmed) || !may_begin {
            return None;
        }
        self.writing = Some(confirmed);
        self.begun_at = Some(now);
        Some(confirmed.lsn)
    }

    /// Judges again how far a status update may go.
    pub(crate) fn look(&mut self, now: Instant, confirmed: Confirmed) {
        if let Recording::On { grace, .. } = self.recording {
            if self.is_due(confirmed) {
                self.due_since.get_or_insert(now);
            }
            let is_overdue = self.due_since.is_some_and(|since| now >= since + grace);
            self.is_bypassed = is_overdue || self.is_pressed && self.has_failed;
        }
        let allowed = if self.is_bypassed {
            confirmed.lsn
        } else {
            confirmed.lsn.min(self.recorded.lsn)
        };
        // What was told is not taken back, also when a write that began before it ends the bypass.
        self.allowed = allowed.max(self.told);
    }

    /// A status update carries what is allowed.
    pub(crate) fn tell(&mut self) -> Lsn {
        self.told = self.allowed;
        self.told
    }

    /// The row was written, or was not.
    pub(crate) fn written(&mut self, is_written: bool) {
        let writing = self.writing.take().expect("a write ends after it began");
        self.has_failed = !is_written;
        if is_written {
            assert!(writing.lsn >= self.recorded.lsn, "the checkpoint went back");
            self.recorded = writing;
            // What was confirmed meanwhile is due from the next poll on.
            self.due_since = None;
        }
    }

    /// The server is about to give the slot up for the WAL that it keeps, or is not any more.
    pub(crate) fn press(&mut self, is_pressed: bool) {
        self.is_pressed = is_pressed;
    }

    /// From now on whatever is confirmed is written at once.
    pub(crate) fn end(&mut self) {
        self.is_ending = true;
    }

    /// Whether the row holds all that is confirmed.
    pub(crate) fn is_complete(&self, confirmed: Lsn) -> bool {
        self.recording == Recording::Off || self.recorded.lsn >= confirmed
    }

    /// The highest position that a status update carried; the floor before the first.
    pub(crate) fn told(&self) -> Lsn {
        self.told
    }

    /// What the row is known to hold.
    pub(crate) fn recorded(&self) -> Lsn {
        self.recorded.lsn
    }

    /// How far a status update may go, as of the last look.
    pub(crate) fn allowed(&self) -> Lsn {
        self.allowed
    }

    /// The highest position that may have been confirmed although the row does not hold it.
    pub(crate) fn unrecorded(&self) -> Option<Lsn> {
        let is_kept = self.recording != Recording::Off;
        (is_kept && self.told > self.recorded.lsn).then_some(self.told)
    }

    /// When to poll again if nothing happens.
    pub(crate) fn deadline(&self, confirmed: Confirmed) -> Option<Instant> {
        let Recording::On { grace, .. } = self.recording else {
            return None;
        };
        let write = self.not_before();
        let write = write.filter(|_| self.writing.is_none() && self.is_due(confirmed));
        let bypass = self.due_since.map(|since| since + grace);
        let bypass = bypass.filter(|_| !self.is_bypassed);
        [write, bypass].into_iter().flatten().min()
    }

    fn is_due(&self, confirmed: Confirmed) -> bool {
        let bytes = confirmed.lsn.as_u64() - self.recorded.lsn.as_u64();
        let events = confirmed.events > self.recorded.events;
        let is_kept = self.recording != Recording::Off;
        let told = self.told > self.recorded.lsn;
        is_kept && bytes > 0 && (events || told || self.is_ending || bytes > CHECKPOINT_WAL_BYTES)
    }

    fn not_before(&self) -> Option<Instant> {
        let interval = match (self.has_failed, self.is_ending) {
            (true, _) => CHECKPOINT_RETRY_INTERVAL,
            (false, true) => return None,
            (false, false) => CHECKPOINT_INTERVAL,
        };
        Some(self.begun_at? + interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instants::start;

    const GRACE: Duration = Duration::from_secs(300);

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn lsn(lsn: u64) -> Lsn {
        Lsn::new(lsn)
    }

    fn confirmed(lsn: u64, events: u64) -> Confirmed {
        Confirmed {
            lsn: Lsn::new(lsn),
            events,
        }
    }

    fn recorder() -> Recorder {
        let recording = Recording::On {
            recorded: lsn(100),
            grace: GRACE,
        };
        Recorder::new(recording, lsn(100))
    }

    #[test]
    fn nothing_is_confirmed_that_the_row_does_not_hold() {
        let t = start();
        let mut recorder = recorder();
        assert_eq!(recorder.poll(t, confirmed(110, 1)), Some(lsn(110)));
        assert_eq!(recorder.poll(t, confirmed(120, 2)), None);
        assert_eq!(recorder.allowed(), lsn(100));
        recorder.written(true);
        assert_eq!(recorder.poll(t, confirmed(120, 2)), None);
        assert_eq!(recorder.allowed(), lsn(110));
        assert!(recorder.is_complete(lsn(110)));
        assert!(!recorder.is_complete(lsn(120)));
        assert_eq!(recorder.unrecorded(), None);
    }

    #[test]
    fn events_are_recorded_at_most_every_100_ms_and_one_write_at_a_time() {
        let t = start();
        let mut recorder = recorder();
        assert_eq!(recorder.poll(t, confirmed(110, 1)), Some(lsn(110)));
        assert_eq!(recorder.poll(ms(t, 500), confirmed(120, 2)), None);
        recorder.written(true);
        assert_eq!(recorder.poll(ms(t, 99), confirmed(120, 2)), None);
        let deadline = recorder.deadline(confirmed(120, 2));
        assert_eq!(deadline, Some(ms(t, 100)));
        let polled = recorder.poll(ms(t, 100), confirmed(120, 2));
        assert_eq!(polled, Some(lsn(120)));
    }

    #[test]
    fn wal_without_events_is_recorded_after_a_mebibyte() {
        let t = start();
        let mut recorder = recorder();
        let just = confirmed(100 + (1 << 20), 0);
        assert_eq!(recorder.poll(t, just), None);
        assert_eq!(recorder.deadline(just), None);
        let more = confirmed(101 + (1 << 20), 0);
        assert_eq!(recorder.poll(t, more), Some(more.lsn));
    }

    #[test]
    fn a_row_that_holds_everything_wakes_nobody() {
        let t = start();
        let mut recorder = recorder();
        recorder.poll(t, confirmed(110, 1));
        recorder.written(true);
        assert_eq!(recorder.poll(ms(t, 100), confirmed(110, 1)), None);
        assert_eq!(recorder.deadline(confirmed(110, 1)), None);
    }

    #[test]
    fn at_an_end_whatever_is_confirmed_is_recorded_at_once() {
        let t = start();
        let mut recorder = recorder();
        recorder.poll(t, confirmed(110, 1));
        recorder.written(true);
        assert_eq!(recorder.poll(t, confirmed(111, 1)), None);
        recorder.end();
        assert_eq!(recorder.poll(t, confirmed(111, 1)), Some(lsn(111)));
        recorder.written(true);
        assert!(recorder.is_complete(lsn(111)));
        assert_eq!(recorder.poll(t, confirmed(111, 1)), None);
    }

    #[test]
    fn a_failed_write_is_tried_again_after_a_second_with_what_is_confirmed_then() {
        let t = start();
        let mut recorder = recorder();
        recorder.poll(t, confirmed(110, 1));
        recorder.written(false);
        assert_eq!(recorder.poll(ms(t, 999), confirmed(120, 2)), None);
        assert_eq!(recorder.allowed(), lsn(100));
        recorder.end();
        let at_an_end_too = recorder.poll(ms(t, 999), confirmed(120, 2));
        assert_eq!(at_an_end_too, None);
        let polled = recorder.poll(ms(t, 1_000), confirmed(120, 2));
        assert_eq!(polled, Some(lsn(120)));
    }

    #[test]
    fn past_the_grace_positions_are_confirmed_without_the_row_until_it_is_written_again() {
        let t = start();
        let mut recorder = recorder();
        recorder.poll(t, confirmed(110, 1));
        recorder.written(false);
        let past = t + GRACE;
        let before = past - Duration::from_millis(1);
        recorder.poll(before, confirmed(120, 2));
        recorder.written(false);
        assert_eq!(recorder.allowed(), lsn(100));
        assert_eq!(recorder.deadline(confirmed(120, 2)), Some(past));
        recorder.poll(past, confirmed(125, 3));
        assert_eq!(recorder.allowed(), lsn(125));
        assert_eq!(recorder.unrecorded(), None, "nobody was told yet");
        recorder.tell();
        assert_eq!(recorder.unrecorded(), Some(lsn(125)));
        let polled = recorder.poll(past + CHECKPOINT_RETRY_INTERVAL, confirmed(130, 4));
        assert_eq!(polled, Some(lsn(130)));
        recorder.written(true);
        assert_eq!(recorder.unrecorded(), None);
        recorder.poll(past + CHECKPOINT_RETRY_INTERVAL, confirmed(140, 5));
        assert_eq!(recorder.allowed(), lsn(130));
    }

    #[test]
    fn what_was_told_without_the_row_is_not_taken_back_by_a_write_that_began_before() {
        let t = start();
        let mut recorder = recorder();
        recorder.poll(t, confirmed(110, 1));
        recorder.poll(t + GRACE, confirmed(120, 2));
        assert_eq!(recorder.tell(), lsn(120));
        recorder.poll(t + GRACE, confirmed(125, 3));
        recorder.written(true);
        assert_eq!(recorder.unrecorded(), Some(lsn(120)));
        recorder.poll(t + GRACE, confirmed(125, 3));
        assert_eq!(recorder.allowed(), lsn(120), "and nothing is added to it");
    }

    #[test]
    fn a_session_that_starts_ahead_of_its_row_writes_it_before_anything_else_is_told() {
        let t = start();
        let recording = Recording::On {
            recorded: lsn(80),
            grace: GRACE,
        };
        let mut recorder = Recorder::new(recording, lsn(100));
        assert_eq!(recorder.unrecorded(), Some(lsn(100)));
        assert_eq!(recorder.poll(t, confirmed(100, 0)), Some(lsn(100)));
        recorder.written(false);
        recorder.poll(t, confirmed(110, 1));
        assert_eq!(recorder.allowed(), lsn(100));
    }

    #[test]
    fn a_write_that_hangs_does_not_outlast_the_grace() {
        let t = start();
        let mut recorder = recorder();
        recorder.poll(t, confirmed(110, 1));
        let deadline = recorder.deadline(confirmed(110, 1));
        assert_eq!(deadline, Some(t + GRACE));
        assert_eq!(recorder.poll(t + GRACE, confirmed(110, 1)), None);
        assert_eq!(recorder.allowed(), lsn(110));
        assert_eq!(recorder.deadline(confirmed(110, 1)), None);
    }

    #[test]
    fn a_slot_that_is_about_to_be_lost_does_not_wait_for_the_grace() {
        let t = start();
        let mut recorder = recorder();
        recorder.press(true);
        recorder.poll(t, confirmed(110, 1));
        assert_eq!(recorder.allowed(), lsn(100), "the row may well be written");
        recorder.written(false);
        recorder.poll(ms(t, 1), confirmed(110, 1));
        assert_eq!(recorder.tell(), lsn(110));
        recorder.press(false);
        recorder.poll(ms(t, 2), confirmed(120, 2));
        assert_eq!(recorder.allowed(), lsn(110));
    }

    #[test]
    fn without_a_checkpoint_what_is_acknowledged_is_confirmed() {
        let t = start();
        let mut recorder = Recorder::new(Recording::Off, lsn(100));
        assert_eq!(recorder.poll(t, confirmed(900, 9)), None);
        assert_eq!(recorder.allowed(), lsn(900));
        assert!(recorder.is_complete(lsn(900)));
        assert_eq!(recorder.unrecorded(), None);
        assert_eq!(recorder.deadline(confirmed(900, 9)), None);
    }
}
