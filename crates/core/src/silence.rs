//! How long a stream may be silent before it is taken for dead.
//!
//! Silence is not death: a server that decodes a large transaction of other tables sends nothing of
//! it. Mostly it sends a keepalive when half of its `wal_sender_timeout` has passed, also then. So
//! a stream that was silent for all of it has lost its way in one direction, and the server would
//! not know: what we send may still arrive. At half of the time the server is asked for an answer,
//! for one that has only nothing to say; and one that is seen at work on another connection is
//! waited for, because a new stream would only begin the same work again.

use std::time::{Duration, Instant};

/// A server that was seen at work so short ago is alive.
const WORK_SEEN: Duration = Duration::from_secs(5);

/// Also one that works is not waited for longer than this.
const WORK_MAX: Duration = Duration::from_secs(900);

/// What a server may be late.
const SLACK: Duration = Duration::from_secs(1);

/// What to do about a stream that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait.
    Alive,
    /// Ask for an answer.
    Ask,
    /// Close it and connect again: it was silent for so long.
    Dead(Duration),
}

/// One stream's silence.
#[derive(Debug)]
pub struct Silence {
    /// None: the server has no timeout, and may be silent for as long as it likes.
    limit: Option<Duration>,
    heard_at: Instant,
    worked_at: Option<Instant>,
    has_asked: bool,
}

impl Silence {
    /// Of a stream that begins now. `wal_sender_timeout` is the server's for this connection; zero
    /// is off.
    pub fn new(now: Instant, wal_sender_timeout: Duration) -> Self {
        let limit = wal_sender_timeout + SLACK;
        Self {
            limit: (!wal_sender_timeout.is_zero()).then_some(limit),
            heard_at: now,
            worked_at: None,
            has_asked: false,
        }
    }

    /// Somebody else saw the server decode for this stream.
    pub fn at_work(&mut self, now: Instant) {
        self.worked_at = Some(now);
    }

    /// Something was read, or nothing could have been: the stream is not read now.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.has_asked = false;
    }

    /// The judgement of this moment. It says once that the server is to be asked.
    pub fn judge(&mut self, now: Instant) -> Verdict {
        let silent = now.saturating_duration_since(self.heard_at);
        let Some(limit) = self.limit else {
            return Verdict::Alive;
        };
        let works = self
            .worked_at
            .is_some_and(|at| now.saturating_duration_since(at) < WORK_SEEN);
        if silent >= WORK_MAX.max(limit) || silent >= limit && !works {
            return Verdict::Dead(silent);
        }
        if silent < limit / 2 || self.has_asked {
            return Verdict::Alive;
        }
        self.has_asked = true;
        Verdict::Ask
    }

    /// When to judge again if nothing is heard.
    pub fn deadline(&self) -> Option<Instant> {
        let limit = self.limit?;
        let limit = self.heard_at + if self.has_asked { limit } else { limit / 2 };
        let worked = self.worked_at.map(|at| at + WORK_SEEN);
        Some(worked.map_or(limit, |worked| worked.max(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instants::{seconds_after as at, start};

    #[test]
    fn a_silent_server_is_asked_once_at_half_time_and_given_up_after_its_timeout() {
        let t = start();
        let mut silence = Silence::new(t, Duration::from_secs(15));
        assert_eq!(silence.deadline(), Some(at(t, 8)));
        assert_eq!(silence.judge(at(t, 7)), Verdict::Alive);
        assert_eq!(silence.judge(at(t, 8)), Verdict::Ask);
        assert_eq!(silence.judge(at(t, 9)), Verdict::Alive);
        assert_eq!(silence.deadline(), Some(at(t, 16)));
        assert_eq!(silence.judge(at(t, 15)), Verdict::Alive);
        let dead = Verdict::Dead(Duration::from_secs(16));
        assert_eq!(silence.judge(at(t, 16)), dead);
    }

    #[test]
    fn whatever_is_heard_begins_the_time_anew() {
        let t = start();
        let mut silence = Silence::new(t, Duration::from_secs(15));
        silence.judge(at(t, 8));
        silence.heard(at(t, 10));
        assert_eq!(silence.judge(at(t, 17)), Verdict::Alive);
        assert_eq!(silence.judge(at(t, 18)), Verdict::Ask);
    }

    #[test]
    fn a_server_that_is_seen_at_work_may_be_silent_for_longer() {
        let t = start();
        let dead = |seconds| Verdict::Dead(Duration::from_secs(seconds));
        let mut silence = Silence::new(t, Duration::from_secs(15));
        silence.judge(at(t, 8));
        silence.at_work(at(t, 14));
        assert_eq!(silence.judge(at(t, 18)), Verdict::Alive);
        assert_eq!(silence.deadline(), Some(at(t, 19)));
        assert_eq!(silence.judge(at(t, 19)), dead(19));
        silence.at_work(at(t, 899));
        assert_eq!(silence.judge(at(t, 899)), Verdict::Alive);
        silence.at_work(at(t, 900));
        assert_eq!(silence.judge(at(t, 900)), dead(900));
    }

    #[test]
    fn a_server_without_a_timeout_may_be_silent_for_ever() {
        let t = start();
        let mut silence = Silence::new(t, Duration::ZERO);
        assert_eq!(silence.judge(at(t, 1_000_000)), Verdict::Alive);
        assert_eq!(silence.deadline(), None);
    }
}
