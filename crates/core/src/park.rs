//! When a Kafka that takes nothing is no longer waited for with the stream open: the circuit
//! breaker.
//!
//! A walsender whose stream is not read, and that is answered all the same, can't be ended by
//! anybody but us, and it keeps its server's resources for nothing. So after a while without a
//! delivery the stream is closed (the relay *parks*), and opened again when Kafka answers. An
//! answer is no delivery yet: the circuit counts as closed again only when something has arrived.

use std::time::{Duration, Instant};

use crate::limits::PARK_AFTER;

/// Time between two looks counts for no more than this: a process that did not run has not waited.
const LOOK_MAX: Duration = Duration::from_secs(6);

/// How long one session has waited for Kafka.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stall {
    seen: Option<Seen>,
}

/// The last look at a session that waits.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    delivered: u64,
    waited: Duration,
}

impl Stall {
    /// Of a session that begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// A look: so many records were `delivered` until now, and something `waits` for Kafka, or not.
    /// Returns how long nothing has arrived, once that is too long.
    pub fn look(&mut self, now: Instant, delivered: u64, waits: bool) -> Option<Duration> {
        let waited = match self.seen.filter(|seen| seen.delivered == delivered) {
            Some(seen) => seen.waited + now.saturating_duration_since(seen.at).min(LOOK_MAX),
            None => Duration::ZERO,
        };
        self.seen = waits.then_some(Seen {
            at: now,
            delivered,
            waited,
        });
        (waits && waited >= PARK_AFTER).then_some(waited)
    }

    /// When to look again if nothing happens. One that has waited too long, and may not park, has
    /// time.
    pub fn deadline(&self) -> Option<Instant> {
        let seen = self.seen?;
        let left = match PARK_AFTER.saturating_sub(seen.waited) {
            Duration::ZERO => LOOK_MAX,
            left => left,
        };
        Some(seen.at + left.min(LOOK_MAX))
    }
}

/// The circuit between Postgres and Kafka, over all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Circuit {
    /// Records arrive, or none are there.
    #[default]
    Closed,
    /// Kafka takes nothing: no stream is open.
    Parked {
        /// When it began.
        since: Instant,
    },
    /// Kafka answers, and nothing has arrived yet.
    Trying {
        /// When the circuit was closed for the last time.
        since: Instant,
    },
}

impl Circuit {
    /// A session has waited too long. Returns whether that is news: it is none when nothing has
    /// arrived since the last time.
    pub fn park(&mut self, now: Instant) -> bool {
        let since = match *self {
            Self::Closed => now,
            Self::Parked { since } | Self::Trying { since } => since,
        };
        let is_news = *self == Self::Closed;
        *self = Self::Parked { since };
        is_news
    }

    /// Kafka answers: the next session may try.
    pub fn try_again(&mut self) {
        if let Self::Parked { since } = *self {
            *self = Self::Trying { since };
        }
    }

    /// A record has arrived, or none is left. Returns how long that was not so, if it is news.
    pub fn close(&mut self, now: Instant) -> Option<Duration> {
        match std::mem::take(self) {
            Self::Closed => None,
            Self::Parked { since } | Self::Trying { since } => {
                Some(now.saturating_duration_since(since))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instants::{seconds_after as at, start};

    #[test]
    fn one_that_may_not_park_is_not_looked_at_all_the_time() {
        let start = start();
        let mut stall = Stall::new();
        let parked = looked(&mut stall, start, at(start, 60)).expect("it waits for too long");
        let next = stall.deadline().expect("it still waits");
        assert!(next > parked, "at once, again and again");
    }

    /// Looks whenever the stall asks for it, until `end`. Returns when it was too long.
    fn looked(stall: &mut Stall, mut now: Instant, end: Instant) -> Option<Instant> {
        while now <= end {
            if stall.look(now, 7, true).is_some() {
                return Some(now);
            }
            now = stall.deadline()?;
        }
        None
    }

    #[test]
    fn twenty_seconds_without_a_delivery_are_too_long() {
        let t = start();
        let mut stall = Stall::new();
        assert_eq!(looked(&mut stall, t, at(t, 60)), Some(at(t, 20)));
        let waited = stall.look(at(t, 21), 7, true);
        assert_eq!(waited, Some(Duration::from_secs(21)));
    }

    #[test]
    fn every_delivery_begins_the_time_anew() {
        let t = start();
        let mut stall = Stall::new();
        assert_eq!(looked(&mut stall, t, at(t, 19)), None);
        assert_eq!(stall.look(at(t, 19), 8, true), None);
        assert_eq!(stall.look(at(t, 24), 8, true), None);
        assert_eq!(stall.look(at(t, 30), 8, true), None);
        assert_eq!(stall.look(at(t, 36), 8, true), None);
        let waited = stall.look(at(t, 39), 8, true);
        assert_eq!(
            waited,
            Some(Duration::from_secs(20)),
            "from the 19th second on"
        );
    }

    #[test]
    fn nothing_to_wait_for_is_no_wait() {
        let t = start();
        let mut stall = Stall::new();
        assert_eq!(looked(&mut stall, t, at(t, 19)), None);
        assert_eq!(stall.look(at(t, 19), 7, false), None);
        assert_eq!(stall.deadline(), None);
        assert_eq!(looked(&mut stall, at(t, 25), at(t, 60)), Some(at(t, 45)));
    }

    #[test]
    fn a_process_that_did_not_run_has_not_waited() {
        let t = start();
        let mut stall = Stall::new();
        assert_eq!(stall.look(t, 0, true), None);
        assert_eq!(
            stall.look(at(t, 3_600), 0, true),
            None,
            "frozen for an hour"
        );
        assert_eq!(stall.look(at(t, 3_606), 0, true), None);
        assert_eq!(stall.look(at(t, 3_612), 0, true), None);
        assert!(stall.look(at(t, 3_614), 0, true).is_some());
    }

    #[test]
    fn only_a_delivery_closes_the_circuit_and_only_the_first_break_of_it_is_news() {
        let t = start();
        let mut circuit = Circuit::default();
        assert_eq!(circuit.close(t), None);
        assert!(circuit.park(t));
        circuit.try_again();
        assert_eq!(circuit, Circuit::Trying { since: t });
        assert!(!circuit.park(at(t, 30)), "nothing has arrived in between");
        circuit.try_again();
        assert_eq!(circuit.close(at(t, 50)), Some(Duration::from_secs(50)));
        assert_eq!(circuit.close(at(t, 51)), None);
        circuit.try_again();
        assert_eq!(circuit, Circuit::Closed);
    }
}
