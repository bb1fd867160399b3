//! Moments for unit tests: the core itself never looks at a clock.

use std::time::{Duration, Instant};

/// Any moment.
pub(crate) fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    Instant::now()
}

/// So many seconds after it.
pub(crate) fn seconds_after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}
