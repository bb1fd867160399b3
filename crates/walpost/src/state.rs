//! What the relay is doing and what is wrong with it, for whoever asks beside its thread.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::debug;

/// A checkpoint that can't be written for so long is more than a hiccup.
const UNRECORDED_MAX: Duration = Duration::from_secs(10);

/// What the relay is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// There is no stream, or not yet.
    Connecting,
    /// A stream is open.
    Streaming,
    /// A stream is open, and nothing has arrived since Kafka took nothing.
    Trying,
    /// There is no stream because Kafka takes nothing.
    Parked,
    /// There is no stream because an event can't be delivered.
    Holding,
}

/// How it is with the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub activity: Activity,
    /// Tables, publication or role were altered: rows may not be sent.
    pub is_altered: bool,
    /// The line stands for a topic that Kafka does not give us.
    pub is_standing: bool,
    /// Since when the checkpoint can't be written.
    pub unrecorded_since: Option<Instant>,
}

impl State {
    /// Whether events that are committed now are delivered, and everything that is seen says that
    /// none is missed.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        let is_unrecorded = self
            .unrecorded_since
            .is_some_and(|since| now.saturating_duration_since(since) >= UNRECORDED_MAX);
        self.activity == Activity::Streaming
            && !self.is_altered
            && !self.is_standing
            && !is_unrecorded
    }
}

/// Where the state stands. Anybody can subscribe to it.
#[derive(Clone, Debug)]
pub(crate) struct StateCell(watch::Sender<State>);

impl StateCell {
    /// Of a relay that begins.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State {
            activity: Activity::Connecting,
            is_altered: false,
            is_standing: false,
            unrecorded_since: None,
        }))
    }

    pub(crate) fn set_activity(&self, activity: Activity) {
        self.change(|state| state.activity = activity);
    }

    pub(crate) fn set_altered(&self, is_altered: bool) {
        self.change(|state| state.is_altered = is_altered);
    }

    pub(crate) fn set_standing(&self, is_standing: bool) {
        self.change(|state| state.is_standing = is_standing);
    }

    /// The outcome of a write of the checkpoint.
    pub(crate) fn set_recorded(&self, is_recorded: bool, now: Instant) {
        self.change(|state| {
            state.unrecorded_since = match state.unrecorded_since {
                _ if is_recorded => None,
                None => Some(now),
                since => since,
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.0.send_if_modified(|state| {
            let before = *state;
            change(state);
            let is_other = *state != before;
            if is_other {
                let is_ready = state.is_ready(Instant::now());
                debug!(is_ready, ?state, "the relay's state");
            }
            is_other
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_subscribes_sees_every_change_and_nothing_else() {
        let cell = StateCell::new();
        let mut seen = cell.0.subscribe();
        assert_eq!(seen.borrow_and_update().activity, Activity::Connecting);
        for activity in [Activity::Streaming, Activity::Parked, Activity::Trying] {
            cell.set_activity(activity);
            assert!(seen.has_changed().unwrap());
            assert_eq!(seen.borrow_and_update().activity, activity);
            cell.set_activity(activity);
            assert!(!seen.has_changed().unwrap());
        }
    }

    #[test]
    fn a_relay_that_streams_is_ready_as_long_as_nothing_is_wrong() {
        let (cell, now) = (StateCell::new(), Instant::now());
        let is_ready = || cell.0.borrow().is_ready(now);
        for activity in [
            Activity::Connecting,
            Activity::Trying,
            Activity::Parked,
            Activity::Holding,
        ] {
            cell.set_activity(activity);
            assert!(!is_ready(), "{activity:?}");
        }
        cell.set_activity(Activity::Streaming);
        assert!(is_ready());
        cell.set_altered(true);
        assert!(!is_ready());
        cell.set_altered(false);
        cell.set_standing(true);
        assert!(!is_ready());
        cell.set_standing(false);
        assert!(is_ready());
    }

    #[test]
    fn a_checkpoint_that_can_not_be_written_matters_after_a_while() {
        let (cell, began) = (StateCell::new(), Instant::now());
        let is_ready = |after| cell.0.borrow().is_ready(began + after);
        cell.set_activity(Activity::Streaming);
        cell.set_recorded(false, began);
        // What counts is the first failure.
        cell.set_recorded(false, began + UNRECORDED_MAX / 2);
        assert!(is_ready(UNRECORDED_MAX / 2));
        assert!(!is_ready(UNRECORDED_MAX));
        cell.set_recorded(true, began + UNRECORDED_MAX);
        assert!(is_ready(UNRECORDED_MAX));
    }
}
