//! Virtual time: one base instant and an offset.

use std::time::{Duration, Instant};

/// The only clock of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
    ms: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the base")]
        let base = Instant::now();
        Self { base, ms: 0 }
    }

    /// Milliseconds since the start.
    pub(crate) fn ms(&self) -> u64 {
        self.ms
    }

    pub(crate) fn now(&self) -> Instant {
        self.base + Duration::from_millis(self.ms)
    }

    /// The first millisecond that is not before the instant.
    pub(crate) fn ms_of(&self, instant: Instant) -> u64 {
        let micros = instant.saturating_duration_since(self.base).as_micros();
        u64::try_from(micros.div_ceil(1_000)).expect("a run does not last so long")
    }

    pub(crate) fn advance_to(&mut self, ms: u64) {
        self.ms = self.ms.max(ms);
    }
}
