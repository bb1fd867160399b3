//! How often a connection broke, and which reports came before it.

use std::ops::RangeInclusive;

/// Counts how often a connection broke. Each time is told twice, and failed attempts to make
/// another one look alike: what comes without a delivery in between counts once.
///
/// librdkafka's log lines overtake the reports that wait in the same queue. So a report that is
/// served behind one, before the queue is empty, may be from before the break or from after it.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    count: u64,
    /// A record was delivered since the count went up.
    has_delivered: bool,
    /// What the count was when the queue was empty, if a connection broke since.
    before: Option<u64>,
}

impl Breaks {
    pub(crate) fn broke(&mut self) {
        self.before.get_or_insert(self.count);
        if std::mem::take(&mut self.has_delivered) || self.count == 0 {
            self.count += 1;
        }
    }

    /// A record was delivered. Returns how often a connection had broken by then, at least and at
    /// most.
    pub(crate) fn delivered(&mut self) -> RangeInclusive<u64> {
        // That may have been before the break that did not count.
        if self.before == Some(self.count) {
            self.count += 1;
        }
        self.has_delivered = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_attempts_to_connect_count_once_and_a_break_after_a_delivery_counts_again() {
        let mut breaks = Breaks::default();
        assert_eq!(breaks.delivered(), 0..=0);
        for _ in 0..3 {
            breaks.broke();
            breaks.queue_is_empty();
        }
        assert_eq!(breaks.count(), 1);
        assert_eq!(breaks.delivered(), 1..=1);
        breaks.broke();
        assert_eq!(breaks.count(), 2);
    }

    #[test]
    fn a_report_that_was_overtaken_by_a_break_may_be_from_before_it() {
        let mut breaks = Breaks::default();
        breaks.delivered();
        breaks.broke();
        assert_eq!(breaks.delivered(), 0..=1);
        breaks.queue_is_empty();
        assert_eq!(breaks.delivered(), 1..=1);
    }

    #[test]
    fn a_delivery_behind_a_break_that_did_not_count_makes_it_count() {
        let mut breaks = Breaks::default();
        breaks.broke();
        breaks.queue_is_empty();
        breaks.broke();
        assert_eq!(breaks.count(), 1, "nothing came in between");
        assert_eq!(breaks.delivered(), 1..=2, "or so it seemed");
    }
}
