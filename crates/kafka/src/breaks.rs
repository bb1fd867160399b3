//! How often a connection broke, and which reports came before it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Counts how often a connection broke that records may have left by. Where several break, none has
/// been made in between and nobody was asked where they lead, that counts once: nothing can have
/// come by a new one meanwhile.
///
/// librdkafka's log lines overtake the reports that wait in the same queue. So a report that is
/// served behind one, before the queue is empty, may be from before the break or from after it.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    count: u64,
    /// What the count was when the queue was empty, if a connection broke since.
    before: Option<u64>,
    /// A connection was made since the last break that counted, or a broker was asked.
    has_risen: bool,
    /// Brokers whose connection goes on while its login is renewed.
    renewing: BTreeSet<String>,
}

impl Breaks {
    /// Looks at a log line of librdkafka: `Broker changed state UP -> DOWN`. It is there for every
    /// connection, also for one that is closed in silence, because it was idle or a request was not
    /// answered; an attempt to connect that fails has another one.
    pub(crate) fn hear(&mut self, facility: &str, line: &str) {
        if facility == "STATE" && self.note_change(line) {
            self.before.get_or_insert(self.count);
            self.count += u64::from(std::mem::take(&mut self.has_risen));
        }
    }

    /// A broker is asked which cluster it belongs to, maybe over a connection that is there since
    /// before the last break. What it answers is not to hold for what comes after that one: its end
    /// counts.
    pub(crate) fn question_begins(&mut self) {
        self.has_risen = true;
    }

    /// Returns whether a broker is not connected any more that was. What is not understood may be
    /// that.
    fn note_change(&mut self, line: &str) -> bool {
        let Some((broker, (from, to))) = line
            .split_once(": Broker changed state ")
            .and_then(|(broker, states)| Some((broker, states.split_once(" -> ")?)))
        else {
            self.has_risen = true;
            return true;
        };
        self.has_risen |= to == "UP" && !self.renewing.contains(broker);
        let was_renewing = !self.renewing.is_empty();
        if to == "REAUTH" {
            self.renewing.insert(broker.to_owned());
        } else if !is_login(to) {
            self.renewing.remove(broker);
        }
        let goes_on = matches!(to, "UP" | "REAUTH") || is_login(to);
        match from {
            _ if goes_on => false,
            "INIT" | "DOWN" | "TRY_CONNECT" | "CONNECT" | "SSL_HANDSHAKE" | "APIVERSION_QUERY" => {
                false
            }
            from if is_login(from) => was_renewing,
            _ => true,
        }
    }

    /// A record was delivered. Returns how often a connection had broken by then, at least and at
    /// most.
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

    /// A broker goes through these states. Returns how often a connection broke.
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

    #[test]
    fn each_end_of_a_connection_counts_and_no_attempt_to_make_one() {
        let mut breaks = Breaks::default();
        let attempt = [
            "INIT",
            "TRY_CONNECT",
            "CONNECT",
            "DOWN",
            "TRY_CONNECT",
            "CONNECT",
        ];
        assert_eq!(pass(&mut breaks, "a:9092/1", &attempt), 0);
        let up = ["CONNECT", "SSL_HANDSHAKE", "APIVERSION_QUERY", "UP"];
        assert_eq!(pass(&mut breaks, "a:9092/1", &up), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["UP", "DOWN"]), 1);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["CONNECT", "UP", "INIT"]), 1);
        breaks.hear("STATE", "something that nobody has seen yet");
        assert_eq!(breaks.count(), 3);
        breaks.hear("FAIL", "a:9092/1: Disconnected (after 3ms in state UP)");
        assert_eq!(breaks.count(), 3);
    }

    #[test]
    fn connections_that_break_before_a_new_one_is_made_count_once() {
        let mut breaks = Breaks::default();
        for broker in ["a:9092/1", "b:9092/2", "c:9092/3"] {
            assert_eq!(pass(&mut breaks, broker, &["CONNECT", "UP"]), 0);
        }
        assert_eq!(pass(&mut breaks, "a:9092/1", &["UP", "DOWN"]), 1);
        assert_eq!(pass(&mut breaks, "b:9092/2", &["UP", "DOWN"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["DOWN", "CONNECT", "UP"]), 0);
        assert_eq!(pass(&mut breaks, "c:9092/3", &["UP", "DOWN"]), 1);
        let renewal = ["UP", "REAUTH", "AUTH_REQ", "UP", "DOWN"];
        assert_eq!(pass(&mut breaks, "a:9092/1", &renewal), 0);
    }

    #[test]
    fn a_login_that_is_refused_counts_only_where_it_renews_one() {
        let mut breaks = Breaks::default();
        let login = ["APIVERSION_QUERY", "AUTH_HANDSHAKE", "AUTH_REQ"];
        let renewal = ["UP", "REAUTH", "AUTH_HANDSHAKE", "AUTH_REQ"];
        assert_eq!(pass(&mut breaks, "a:9092/1", &login), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "DOWN"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &login), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "UP"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &renewal), 0);
        assert_eq!(
            pass(
                &mut breaks,
                "b:9092/2",
                &["AUTH_HANDSHAKE", "AUTH_REQ", "UP"]
            ),
            0
        );
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "DOWN"]), 1);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "UP"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &renewal), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "UP"]), 0);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["UP", "REAUTH", "DOWN"]), 1);
        assert_eq!(pass(&mut breaks, "a:9092/1", &["AUTH_REQ", "DOWN"]), 0);
    }

    /// Otherwise the answer, which an old connection may have brought, would still hold when that
    /// one has broken and the next leads to another cluster.
    #[test]
    fn the_first_break_after_a_question_counts_whatever_was_made_since_the_last_one() {
        let mut breaks = Breaks::default();
        pass(&mut breaks, "a:9092/1", &["CONNECT", "UP"]);
        pass(&mut breaks, "b:9092/2", &["CONNECT", "UP"]);
        assert_eq!(pass(&mut breaks, "b:9092/2", &["UP", "DOWN"]), 1);
        breaks.question_begins();
        assert_eq!(pass(&mut breaks, "a:9092/1", &["UP", "DOWN"]), 1);
        assert_eq!(pass(&mut breaks, "c:9092/3", &["UP", "DOWN"]), 0);
    }

    #[test]
    fn a_report_that_was_overtaken_by_breaks_may_be_from_before_them() {
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
