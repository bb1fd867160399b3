//! How long to wait before the next session.

use std::time::Duration;

/// Bound of the first wait.
const BASE: Duration = Duration::from_millis(100);

/// Bound of every wait.
const MAX: Duration = Duration::from_secs(30);

/// A session that went well for so long starts the waits anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Exponential backoff with full jitter: a wait is drawn evenly between nothing and a bound that
/// doubles from 100 ms to 30 s.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Starts at the shortest wait.
    pub fn new() -> Self {
        Self::default()
    }

    /// A session ended that had been streaming for `healthy`.
    pub fn session_ended(&mut self, healthy: Duration) {
        if healthy >= HEALTHY_AFTER {
            self.attempts = 0;
        }
    }

    /// The wait before the next attempt. `draw` is a random number of all 32 bits.
    pub fn next_delay(&mut self, draw: u32) -> Duration {
        let bound = BASE.saturating_mul(1 << self.attempts.min(20)).min(MAX);
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(f64::from(draw) / f64::from(u32::MAX))
    }

    /// Waits drawn since the last healthy session.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_from_100_ms_to_30_s() {
        let mut backoff = Backoff::new();
        let bounds: Vec<u128> = (0..11)
            .map(|_| backoff.next_delay(u32::MAX).as_millis())
            .collect();
        assert_eq!(
            bounds,
            [
                100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000
            ]
        );
    }

    #[test]
    fn the_wait_is_drawn_from_the_whole_range() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.next_delay(0), Duration::ZERO);
        let half = backoff.next_delay(u32::MAX / 2).as_millis();
        assert!((99..=101).contains(&half), "{half}");
    }

    #[test]
    fn only_a_minute_of_health_starts_the_waits_anew() {
        let mut backoff = Backoff::new();
        for _ in 0..5 {
            backoff.next_delay(0);
        }
        backoff.session_ended(Duration::from_secs(59));
        assert_eq!(backoff.attempts(), 5);
        backoff.session_ended(Duration::from_secs(60));
        assert_eq!(backoff.attempts(), 0);
    }
}
