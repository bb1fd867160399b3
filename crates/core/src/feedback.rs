//! When a standby status update is due, and what it says.
//!
//! * `flush` and `apply` carry the confirmed LSN, never anything else.
//! * `write` carries the highest position received: with it the server stops asking after every
//!   message that it sent.
//! * A status goes out when the confirmed LSN moved (at most every 100 ms), when the server asked
//!   for one, and on a timer well below the server's timeout. Plain keepalives are never answered
//!   one by one: while an older LSN is held, that would be a ping-pong at the cost of the database.
//! * *Courtesy.* A walsender that shuts down waits until `flush` reaches what it sent, or `write`
//!   when `flush` is 0. So a question whose `walEnd` is above what can be confirmed is answered
//!   with `flush = 0`, "nothing to say": the slot stays where it is and Postgres can stop. What
//!   could be confirmed is told first, in a status of its own.

use std::time::{Duration, Instant};

use walpost_pgoutput::Lsn;

use crate::limits::{STATUS_INTERVAL_MAX, STATUS_MOVED_INTERVAL};

/// What the next standby status update says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Highest position received.
    pub write: Lsn,
    /// Confirmed LSN, or zero as the courtesy answer.
    pub flush: Lsn,
    /// Whether the server shall answer with a keepalive.
    pub reply_requested: bool,
}

/// The timers and memory of one session's status updates.
#[derive(Clone, Debug)]
pub(crate) struct Feedback {
    interval: Duration,
    received: Lsn,
    /// The last one that was sent with a flush position: none before the first.
    told: Option<Lsn>,
    sent_at: Option<Instant>,
    asked: Option<Lsn>,
    ping: bool,
}

impl Feedback {
    /// `wal_sender_timeout` is the server's setting for this connection; zero switches it off
    /// there.
    pub(crate) fn new(wal_sender_timeout: Duration) -> Self {
        let interval = if wal_sender_timeout.is_zero() {
            STATUS_INTERVAL_MAX
        } else {
            STATUS_INTERVAL_MAX.min(wal_sender_timeout / 4)
        };
        Self {
            interval,
            received: Lsn::ZERO,
            told: None,
            sent_at: None,
            asked: None,
            ping: false,
        }
    }

    /// The server sent everything up to `lsn`.
    pub(crate) fn received(&mut self, lsn: Lsn) {
        self.received = self.received.max(lsn);
    }

    /// Highest position received.
    pub(crate) fn highest(&self) -> Lsn {
        self.received
    }

    /// The server wants an answer to the keepalive that said `wal_end`.
    pub(crate) fn asked(&mut self, wal_end: Lsn) {
        self.asked = Some(wal_end);
    }

    /// The next status asks the server for a keepalive.
    pub(crate) fn ping(&mut self) {
        self.ping = true;
    }

    /// The status that is due now. Call until there is none.
    pub(crate) fn poll(&mut self, now: Instant, confirmed: Lsn) -> Option<Status> {
        let write = self.received.max(confirmed);
        if let Some(wal_end) = self.asked
            && self.told == Some(confirmed)
            && wal_end > confirmed
        {
            self.asked = None;
            self.sent_at = Some(now);
            return Some(Status {
                write,
                flush: Lsn::ZERO,
                reply_requested: false,
            });
        }
        let due = self
            .deadline(confirmed)
            .is_none_or(|deadline| deadline <= now);
        if !due && self.asked.is_none() && !self.ping {
            return None;
        }
        // A question above what can be confirmed stays open for the courtesy answer that follows.
        self.asked = self.asked.filter(|wal_end| *wal_end > confirmed);
        self.told = Some(confirmed);
        self.sent_at = Some(now);
        let reply_requested = std::mem::take(&mut self.ping);
        Some(Status {
            write,
            flush: confirmed,
            reply_requested,
        })
    }

    /// When the next status is due if nothing more is received. None: at once.
    pub(crate) fn deadline(&self, confirmed: Lsn) -> Option<Instant> {
        let moved = self.told.is_none_or(|told| told < confirmed);
        let interval = if moved {
            STATUS_MOVED_INTERVAL
        } else {
            self.interval
        };
        Some(self.sent_at? + interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instants::start;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn lsn(lsn: u64) -> Lsn {
        Lsn::new(lsn)
    }

    fn status(write: u64, flush: u64) -> Option<Status> {
        Some(Status {
            write: lsn(write),
            flush: lsn(flush),
            reply_requested: false,
        })
    }

    #[test]
    fn the_first_status_goes_out_at_once_and_carries_the_floor() {
        let t = start();
        let mut feedback = Feedback::new(TIMEOUT);
        assert_eq!(feedback.poll(t, lsn(7)), status(7, 7));
        assert_eq!(feedback.poll(t, lsn(7)), None);
    }

    #[test]
    fn progress_is_told_at_most_every_100_ms() {
        let t = start();
        let mut feedback = Feedback::new(TIMEOUT);
        feedback.poll(t, lsn(1));
        feedback.received(lsn(9));
        assert_eq!(feedback.poll(at(t, 99), lsn(5)), None);
        assert_eq!(feedback.deadline(lsn(5)), Some(at(t, 100)));
        assert_eq!(feedback.poll(at(t, 100), lsn(5)), status(9, 5));
    }

    #[test]
    fn without_progress_the_timer_is_the_smaller_of_5_s_and_a_quarter_of_the_timeout() {
        for (timeout_ms, interval_ms) in [(60_000, 5_000), (8_000, 2_000), (0, 5_000)] {
            let t = start();
            let mut feedback = Feedback::new(Duration::from_millis(timeout_ms));
            feedback.poll(t, lsn(1));
            assert_eq!(feedback.deadline(lsn(1)), Some(at(t, interval_ms)));
            assert_eq!(feedback.poll(at(t, interval_ms - 1), lsn(1)), None);
            assert_eq!(feedback.poll(at(t, interval_ms), lsn(1)), status(1, 1));
        }
    }

    #[test]
    fn a_question_that_can_be_confirmed_is_answered_with_the_confirmed_lsn() {
        let t = start();
        let mut feedback = Feedback::new(TIMEOUT);
        feedback.poll(t, lsn(1));
        feedback.received(lsn(9));
        feedback.asked(lsn(9));
        assert_eq!(feedback.poll(t, lsn(9)), status(9, 9));
        assert_eq!(feedback.poll(t, lsn(9)), None);
    }

    #[test]
    fn a_question_above_the_confirmed_lsn_is_answered_with_flush_zero_after_the_truth_was_told() {
        let t = start();
        let mut feedback = Feedback::new(TIMEOUT);
        feedback.poll(t, lsn(1));
        feedback.received(lsn(9));
        feedback.asked(lsn(9));
        assert_eq!(feedback.poll(t, lsn(5)), status(9, 5));
        assert_eq!(feedback.poll(t, lsn(5)), status(9, 0));
        assert_eq!(feedback.poll(t, lsn(5)), None);
    }

    #[test]
    fn each_further_question_of_a_stopping_server_gets_its_courtesy_answer() {
        let t = start();
        let mut feedback = Feedback::new(TIMEOUT);
        feedback.poll(t, lsn(1));
        feedback.received(lsn(9));
        for _ in 0..3 {
            feedback.asked(lsn(9));
            assert_eq!(feedback.poll(t, lsn(1)), status(9, 0));
            assert_eq!(feedback.poll(t, lsn(1)), None);
        }
    }

    #[test]
    fn a_courtesy_answer_is_a_sign_of_life_like_any_other() {
        let t = start();
        let mut feedback = Feedback::new(TIMEOUT);
        feedback.poll(t, lsn(1));
        feedback.received(lsn(9));
        feedback.asked(lsn(9));
        assert_eq!(feedback.poll(at(t, 3_000), lsn(1)), status(9, 0));
        assert_eq!(feedback.deadline(lsn(1)), Some(at(t, 8_000)));
    }

    #[test]
    fn a_ping_goes_out_at_once_with_the_reply_flag_and_only_once() {
        let t = start();
        let mut feedback = Feedback::new(TIMEOUT);
        feedback.poll(t, lsn(1));
        feedback.ping();
        let ping = Status {
            write: lsn(1),
            flush: lsn(1),
            reply_requested: true,
        };
        assert_eq!(feedback.poll(t, lsn(1)), Some(ping));
        assert_eq!(feedback.poll(t, lsn(1)), None);
    }
}
