//! How often a connection broke, and which reports came before it.

use std::ops::RangeInclusive;

/// Counts how often a connection broke that records may have left by.
///
/// librdkafka's log lines overtake the reports that wait in the same queue. So a report that is
/// served behind one, before the queue is empty, may be from before the break or from after it.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    count: u64,
    /// What the count was when the queue was empty, if a connection broke since.
    before: Option<u64>,
}

impl Breaks {
    /// Looks at a log line of librdkafka: `Broker changed state UP -> DOWN`. It is there for every
    /// connection, also for one that is closed in silence, because it was idle or a request was not
    /// answered; an attempt to connect that fails has another one.
    pub(crate) fn hear(&mut self, facility: &str, line: &str) {
        if facility == "STATE" && ends_a_connection(line) {
            self.before.get_or_insert(self.count);
            self.count += 1;
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

/// Whether a broker is not connected any more that was. What is not understood may be that.
fn ends_a_connection(line: &str) -> bool {
    // A login that is renewed goes on with the same connection.
    let is_up = |state: &str| matches!(state, "UP" | "REAUTH");
    let change = line.rsplit_once("changed state ");
    let states = change.and_then(|(_, states)| states.split_once(" -> "));
    states.is_none_or(|(from, to)| is_up(from) && !is_up(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAK: &str = "127.0.0.1:9092/1: Broker changed state UP -> DOWN";

    #[test]
    fn each_end_of_a_connection_counts_and_nothing_else_does() {
        let mut breaks = Breaks::default();
        let quiet = [
            ("STATE", "a:9092/1: Broker changed state CONNECT -> DOWN"),
            (
                "STATE",
                "a:9092/1: Broker changed state APIVERSION_QUERY -> UP",
            ),
            ("STATE", "a:9092/1: Broker changed state UP -> REAUTH"),
            ("STATE", "a:9092/1: Broker changed state REAUTH -> UP"),
            ("FAIL", "a:9092/1: Disconnected (after 3ms in state UP)"),
        ];
        for (facility, line) in quiet {
            breaks.hear(facility, line);
            assert_eq!(breaks.count(), 0, "{line}");
        }
        let loud = [
            BREAK,
            "a:9092/1: Broker changed state REAUTH -> DOWN",
            "a:9092/1: Broker changed state UP -> INIT",
            "a:9092/1: something that nobody has seen yet",
        ];
        for (count, line) in (1..).zip(loud) {
            breaks.hear("STATE", line);
            assert_eq!(breaks.count(), count, "{line}");
        }
    }

    #[test]
    fn a_report_that_was_overtaken_by_breaks_may_be_from_before_them() {
        let mut breaks = Breaks::default();
        assert_eq!(breaks.delivered(), 0..=0);
        breaks.hear("STATE", BREAK);
        assert_eq!(breaks.delivered(), 0..=1);
        breaks.hear("STATE", BREAK);
        assert_eq!(breaks.delivered(), 0..=2);
        breaks.queue_is_empty();
        assert_eq!(breaks.delivered(), 2..=2);
    }
}
