//! Whether the relay gets ahead: a run that is to end by itself gives up when it does not.

use std::time::{Duration, Instant};

use walpost_pgoutput::Lsn;

/// When the relay last got ahead, over all sessions: more is confirmed, or a session has delivered
/// more behind that than any before it. Sessions that end again and again, each after the same
/// records, get nowhere.
#[derive(Debug)]
pub(crate) struct Progress {
    at: Instant,
    confirmed: Lsn,
    /// How much the present session had delivered when that was confirmed.
    delivered_before: u64,
    /// The most that a session has delivered behind it.
    best: u64,
}

impl Progress {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            at: now,
            confirmed: Lsn::ZERO,
            delivered_before: 0,
            best: 0,
        }
    }

    /// How long nothing has moved.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    /// A session begins, and counts from zero.
    pub(super) fn session_begins(&mut self) {
        self.delivered_before = 0;
    }

    /// `delivered`: how many records the session has delivered.
    pub(super) fn see(&mut self, now: Instant, confirmed: Lsn, delivered: u64) {
        let ahead = delivered.saturating_sub(self.delivered_before);
        if confirmed > self.confirmed {
            self.at = now;
        } else if confirmed == self.confirmed {
            if ahead > self.best {
                self.best = ahead;
                self.at = now;
            }
            return;
        }
        self.confirmed = confirmed;
        self.delivered_before = delivered;
        self.best = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a session sees a second after the other. Returns when it last got ahead.
    fn session(progress: &mut Progress, start: Instant, seen: &[(u64, u64, u64)]) -> u64 {
        progress.session_begins();
        let mut age = 0;
        for (second, confirmed, delivered) in seen {
            let now = start + Duration::from_secs(*second);
            progress.see(now, Lsn::new(*confirmed), *delivered);
            age = second - progress.age(now).as_secs();
        }
        age
    }

    #[test]
    fn what_is_delivered_or_confirmed_is_progress() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        let seen = [(1, 100, 0), (2, 100, 1), (3, 100, 1), (4, 200, 1)];
        assert_eq!(session(&mut progress, start, &seen), 4);
        assert_eq!(session(&mut progress, start, &[(5, 200, 0)]), 4);
    }

    #[test]
    fn sessions_that_deliver_the_same_again_get_nowhere() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        let first = [(1, 100, 0), (2, 100, 5), (3, 200, 6), (4, 200, 8)];
        assert_eq!(session(&mut progress, start, &first), 4);
        let again = [(5, 200, 0), (6, 200, 1), (7, 200, 2)];
        assert_eq!(session(&mut progress, start, &again), 4);
        assert_eq!(session(&mut progress, start, &again), 4);
        let further = [(8, 200, 2), (9, 200, 3)];
        assert_eq!(session(&mut progress, start, &further), 9);
    }

    #[test]
    fn a_position_that_was_taken_back_is_no_progress_and_what_follows_is() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        assert_eq!(session(&mut progress, start, &[(1, 200, 0)]), 1);
        assert_eq!(session(&mut progress, start, &[(2, 100, 0)]), 1);
        assert_eq!(session(&mut progress, start, &[(3, 100, 1)]), 3);
    }
}
