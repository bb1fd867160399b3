//! How often a connection was made after one had broken, and which reports came before that.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Counts how often the connections that records leave by may have begun to lead elsewhere: when
/// one is made after another has broken, and when the first one is. What breaks makes no
/// difference until then, since those that stay lead where they led.
///
/// librdkafka's log lines overtake the reports that wait in the same queue. So a report that is
/// served behind one, before the queue is empty, may be from before the change or from after it.
#[derive(Debug)]
pub(crate) struct Breaks {
    count: u64,
    /// What the count was when the queue was empty, if it has changed since.
    before: Option<u64>,
    /// A connection broke since the count changed last.
    is_broken: bool,
    /// Brokers whose connection goes on while its login is renewed.
    renewing: BTreeSet<String>,
}

impl Default for Breaks {
    fn default() -> Self {
        Self {
            count: 0,
            before: None,
            is_broken: true,
            renewing: BTreeSet::new(),
        }
    }
}

/// What a log line says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Made,
    Broken,
    /// It is not understood: maybe both.
    Any,
}

impl Breaks {
    /// Looks at a log line of librdkafka: `Broker changed state UP -> DOWN`. It is there for every
    /// connection, also for one that is closed in silence, because it was idle or a request was not
    /// answered; and for one that is made, before anything leaves by it.
    pub(crate) fn hear(&mut self, facility: &str, line: &str) {
        if facility != "STATE" {
            return;
        }
        let change = self.change(line);
        self.is_broken |= matches!(change, Change::Broken | Change::Any);
        if matches!(change, Change::Made | Change::Any) && std::mem::take(&mut self.is_broken) {
            self.before.get_or_insert(self.count);
            self.count += 1;
        }
    }

    fn change(&mut self, line: &str) -> Change {
        let Some((broker, (from, to))) = line
            .split_once(": Broker changed state ")
            .and_then(|(broker, states)| Some((broker, states.split_once(" -> ")?)))
        else {
            return Change::Any;
        };
        let renews = self.renewing.contains(broker);
        let is_renewed = !self.renewing.is_empty();
        if to == "REAUTH" {
            self.renewing.insert(broker.to_owned());
        } else if !is_login(to) {
            self.renewing.remove(broker);
        }
        match (from, to) {
            (_, "UP") if !renews => Change::Made,
            (_, "UP" | "REAUTH") => Change::None,
            (_, to) if is_login(to) => Change::None,
            (
                "INIT" | "DOWN" | "TRY_CONNECT" | "CONNECT" | "SSL_HANDSHAKE" | "APIVERSION_QUERY",
                _,
            ) => Change::None,
            (from, _) if is_login(from) && !is_renewed => Change::None,
            _ => Change::Broken,
        }
    }

    /// A record was delivered. Returns what the count was then, at least and at most.
    pub(crate) fn delivered(&mut self) -> RangeInclusive<u64> {
        self.before.unwrap_or(self.count)..=self.count
    }

    /// Nothing waits in the queue any more.
    pub(crate) fn queue_is_empty(&mut self) {
        self.before = None;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// A state of a login: of a new connection, or of one that is up and renews it.
fn is_login(state: &str) -> bool {
    matches!(state, "AUTH_HANDSHAKE" | "AUTH_REQ" | "AUTH_LEGACY")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker goes through these states. Returns how much the count grew.
    fn pass(breaks: &mut Breaks, broker: &str, states: &[&str]) -> u64 {
        let before = breaks.count();
        for change in states.windows(2) {
            let line = format!(
                "{broker}: Broker changed state {} -> {}",
                change[0], change[1]
            );
            breaks.hear("STATE", &line);
        }
        breaks.count() - before
    }

    const NEW: [&str; 4] = ["CONNECT", "SSL_HANDSHAKE", "APIVERSION_QUERY", "UP"];

    #[test]
    fn the_first_connection_counts_and_each_that_is_made_after_one_broke() {
        let mut breaks = Breaks::default();
        let attempt = ["INIT", "TRY_CONNECT", "CONNECT", "DOWN", "TRY_CONNECT"];
        assert_eq!(pass(&mut breaks, "a:9092/1", &attempt), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &NEW), 1);
        assert_eq!(pass(&mut breaks, "b:9092/2", &NEW), 0, "both are open");
        assert_eq!(pass(&mut breaks, "a:9092/1", &["UP", "DOWN"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &attempt[1..]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &NEW), 1);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["UP", "INIT"]), 0);
        assert_eq!(pass(&mut breaks, "c:9092/3", &NEW), 1);
        breaks.hear("STATE", "something that nobody has seen yet");
        assert_eq!(breaks.count(), 4);
        breaks.hear("FAIL", "a:9092/1: Disconnected (after 3ms in state UP)");
        assert_eq!(pass(&mut breaks, "b:9092/2", &NEW), 0);
    }

    #[test]
    fn connections_that_are_made_after_several_broke_count_once() {
        let mut breaks = Breaks::default();
        for broker in ["a:9092/1", "b:9092/2"] {
            pass(&mut breaks, broker, &NEW);
        }
        for broker in ["a:9092/1", "b:9092/2"] {
            assert_eq!(pass(&mut breaks, broker, &["UP", "DOWN"]), 0);
        }
        assert_eq!(pass(&mut breaks, "a:9092/1", &NEW), 1);
        assert_eq!(pass(&mut breaks, "b:9092/2", &NEW), 0);
    }

    /// The old one may have told its cluster in the meantime: that says nothing of the next.
    #[test]
    fn a_connection_counts_that_is_made_after_an_old_one_broke_long_after_another() {
        let mut breaks = Breaks::default();
        pass(&mut breaks, "a:9092/1", &NEW);
        pass(&mut breaks, "b:9092/2", &NEW);
        assert_eq!(pass(&mut breaks, "b:9092/2", &["UP", "DOWN"]), 0);
        assert_eq!(breaks.delivered(), 0..=1);
        breaks.queue_is_empty();
        assert_eq!(breaks.delivered(), 1..=1);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["UP", "DOWN"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &NEW), 1);
        assert_eq!(breaks.delivered(), 1..=2);
    }

    #[test]
    fn a_login_that_is_renewed_makes_no_connection_and_one_that_is_refused_ends_it() {
        let mut breaks = Breaks::default();
        let login = ["APIVERSION_QUERY", "AUTH_HANDSHAKE", "AUTH_REQ"];
        let renewal = ["UP", "REAUTH", "AUTH_HANDSHAKE", "AUTH_REQ"];
        assert_eq!(pass(&mut breaks, "a:9092/1", &login), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "DOWN"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &login), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "UP"]), 1);
        assert_eq!(pass(&mut breaks, "a:9092/1", &renewal), 0);
        assert_eq!(pass(&mut breaks, "b:9092/2", &login), 0);
        assert_eq!(pass(&mut breaks, "b:9092/2", &["AUTH_REQ", "UP"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "UP"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &renewal), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "DOWN"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &login), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "UP"]), 1);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["UP", "REAUTH", "DOWN"]), 0);
        assert_eq!(pass(&mut breaks, "b:9092/2", &["AUTH_REQ", "UP"]), 1);
    }

    #[test]
    fn a_report_that_was_overtaken_by_changes_may_be_from_before_them() {
        let mut breaks = Breaks::default();
        assert_eq!(breaks.delivered(), 0..=0);
        pass(&mut breaks, "a:9092/1", &["CONNECT", "UP", "DOWN"]);
        assert_eq!(breaks.delivered(), 0..=1);
        pass(&mut breaks, "a:9092/1", &["CONNECT", "UP", "DOWN"]);
        assert_eq!(breaks.delivered(), 0..=2);
        breaks.queue_is_empty();
        assert_eq!(breaks.delivered(), 2..=2);
    }
}
