//! The point that the environment names.

use std::future::poll_fn;
use std::io::Write;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{POINTS, Side};

/// Names the point: `NAME/SIDE:N`, the N-th time.
const VARIABLE: &str = "CRASH_AT";

/// Dies here, if this is the point and the time for it.
pub fn reached(name: &str, side: Side) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let value = std::env::var(VARIABLE).ok()?;
        let armed = Armed::parse(&value);
        Some(armed.unwrap_or_else(|| panic!("{VARIABLE}={value} names no point")))
    });
    let Some(armed) = armed else { return };
    if armed.is_due(name, side) {
        let side = side.name();
        // Whoever reads it knows that the process died here and of nothing else.
        let _ = writeln!(std::io::stderr(), "crash point {name}/{side}");
        std::process::abort();
    }
}

/// The future; dies at its first wait, if this is the point and the time for it.
pub async fn pending<T>(name: &str, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut is_first = true;
    poll_fn(|context| {
        let done = future.as_mut().poll(context);
        if done.is_pending() && std::mem::take(&mut is_first) {
            reached(name, Side::After);
        }
        done
    })
    .await
}

/// A point, and how often it is to be passed.
#[derive(Debug)]
struct Armed {
    name: String,
    side: Side,
    left: AtomicU64,
}

impl Armed {
    fn parse(text: &str) -> Option<Self> {
        let (place, nth) = text.split_once(':')?;
        let (name, side) = place.split_once('/')?;
        let (_, sides) = POINTS.iter().find(|(point, _)| *point == name)?;
        Some(Self {
            name: name.to_owned(),
            side: *sides.iter().find(|known| known.name() == side)?,
            left: AtomicU64::new(nth.parse().ok()?),
        })
    }

    fn is_due(&self, name: &str, side: Side) -> bool {
        self.side == side && self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_due_at_its_own_time_and_side_and_only_then() {
        let armed = Armed::parse("commit/before:2").unwrap();
        assert!(!armed.is_due("commit", Side::Before));
        assert!(!armed.is_due("commit", Side::After));
        assert!(!armed.is_due("row", Side::Before));
        assert!(armed.is_due("commit", Side::Before));
        assert!(!armed.is_due("commit", Side::Before));
    }

    #[test]
    fn what_names_no_point_is_no_point() {
        for text in [
            "",
            "commit",
            "commit/before",
            "commit/x:1",
            "x/after:1",
            "barrier/before:1",
        ] {
            assert!(Armed::parse(text).is_none(), "{text}");
        }
    }
}
