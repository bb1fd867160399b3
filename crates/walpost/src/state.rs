//! What the relay is doing, for whoever asks beside its thread.

use tokio::sync::watch;
use tracing::debug;

/// What the relay is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no stream, or not yet.
    Connecting,
    /// A stream is open.
    Streaming,
    /// A stream is open, and nothing has arrived since Kafka took nothing.
    Trying,
    /// There is no stream because Kafka takes nothing.
    Parked,
}

/// Where the state stands. Anybody can subscribe to it.
#[derive(Debug)]
pub(crate) struct StateCell(watch::Sender<State>);

impl StateCell {
    /// Of a relay that begins.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State::Connecting))
    }

    /// The state is another one, or the same.
    pub(crate) fn set(&self, state: State) {
        if self.0.send_replace(state) != state {
            debug!(?state, "the relay's state");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_subscribes_sees_every_change() {
        let cell = StateCell::new();
        let mut seen = cell.0.subscribe();
        assert_eq!(*seen.borrow_and_update(), State::Connecting);
        for state in [State::Streaming, State::Parked, State::Trying] {
            cell.set(state);
            assert!(seen.has_changed().unwrap());
            assert_eq!(*seen.borrow_and_update(), state);
        }
    }
}
