//! Waiting for conditions with a deadline, and names that no other test has.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Asks `condition` until it gives a value, and returns that value.
///
/// # Panics
///
/// When there is no value `deadline` from now, naming `what` was waited for.
#[track_caller]
pub fn wait_until<T>(deadline: Duration, what: &str, condition: impl FnMut() -> Option<T>) -> T {
    match try_wait_until(deadline, condition) {
        Some(value) => value,
        None => panic!("not within {deadline:?}: {what}"),
    }
}

/// As [`wait_until`], but `None` when the deadline passes. The condition is asked at least once.
pub fn try_wait_until<T>(
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::sleep(ASK_INTERVAL.min(left));
    }
}

/// `hint` made unique within this test binary: for databases, slots, topics.
pub fn unique(hint: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{hint}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Short enough to add no noticeable time to a test, long enough to leave the CPU to the servers.
const ASK_INTERVAL: Duration = Duration::from_millis(10);
