//! A partition's first record travels alone.
//!
//! What keeps later records behind a rejected batch is the broker: it refuses a batch whose
//! sequence number does not follow the last one that it took from this producer. But a partition
//! that has taken none yet accepts any number. If the first batch is rejected there, those that
//! were sent close behind it are written, and have overtaken it. So until the broker has taken a
//! first record from this producer into a partition, no second one is sent there.
//!
//! Brokers forget a producer that was silent for long (`producer.id.expiration.ms`, a day unless
//! configured otherwise); then its next record is a first one again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A partition that was silent for so long counts as new. Shorter than any sensible expiration.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// What the partitions know of one producer.
#[derive(Debug, Default)]
pub(crate) struct Firsts {
    topics: HashMap<String, HashMap<i32, Reach>>,
    awaited: usize,
}

#[derive(Debug, Clone, Copy)]
enum Reach {
    /// The first record is on its way.
    Awaited,
    /// The broker has taken records from us.
    Reached { last_sent: Instant },
}

/// Whether a record may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may, as the first one: [`Firsts::sent`] must be told.
    First,
    /// It may.
    Later,
    /// Not before the first one is reported.
    Held,
}

impl Firsts {
    pub(crate) fn admit(&mut self, topic: &str, partition: i32, now: Instant) -> Admission {
        match self
            .topics
            .get_mut(topic)
            .and_then(|known| known.get_mut(&partition))
        {
            None => Admission::First,
            Some(Reach::Awaited) => Admission::Held,
            Some(Reach::Reached { last_sent }) => {
                if now.saturating_duration_since(*last_sent) >= FORGOTTEN_AFTER {
                    return Admission::First;
                }
                *last_sent = now;
                Admission::Later
            }
        }
    }

    /// A first record is on its way.
    pub(crate) fn sent(&mut self, topic: &str, partition: i32) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), HashMap::new());
        }
        if let Some(known) = self.topics.get_mut(topic) {
            known.insert(partition, Reach::Awaited);
            self.awaited += 1;
        }
    }

    /// Whether reports matter at all.
    pub(crate) fn is_waiting(&self) -> bool {
        self.awaited > 0
    }

    /// A record was reported. After an error the next one is a first one again.
    pub(crate) fn reported(&mut self, topic: &str, partition: i32, is_delivered: bool) {
        let Some(known) = self.topics.get_mut(topic) else {
            return;
        };
        let Some(Reach::Awaited) = known.get(&partition) else {
            return;
        };
        self.awaited -= 1;
        if is_delivered {
            known.insert(
                partition,
                Reach::Reached {
                    last_sent: Instant::now(),
                },
            );
        } else {
            known.remove(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_record_is_held_until_the_first_is_delivered() {
        let mut firsts = Firsts::default();
        let now = Instant::now();
        assert_eq!(firsts.admit("orders", 0, now), Admission::First);
        firsts.sent("orders", 0);
        assert!(firsts.is_waiting());
        assert_eq!(firsts.admit("orders", 0, now), Admission::Held);
        assert_eq!(
            firsts.admit("orders", 1, now),
            Admission::First,
            "another partition"
        );
        assert_eq!(
            firsts.admit("payments", 0, now),
            Admission::First,
            "another topic"
        );
        firsts.reported("orders", 0, true);
        assert!(!firsts.is_waiting());
        assert_eq!(firsts.admit("orders", 0, now), Admission::Later);
    }

    #[test]
    fn a_rejected_first_record_makes_the_next_one_the_first() {
        let mut firsts = Firsts::default();
        let now = Instant::now();
        firsts.sent("orders", 0);
        firsts.reported("orders", 0, false);
        assert_eq!(firsts.admit("orders", 0, now), Admission::First);
        assert!(!firsts.is_waiting());
    }

    #[test]
    fn a_partition_that_was_silent_for_long_counts_as_new() {
        let mut firsts = Firsts::default();
        firsts.sent("orders", 0);
        firsts.reported("orders", 0, true);
        let soon = Instant::now() + FORGOTTEN_AFTER / 2;
        assert_eq!(firsts.admit("orders", 0, soon), Admission::Later);
        let later = soon + FORGOTTEN_AFTER * 3 / 4;
        assert_eq!(
            firsts.admit("orders", 0, later),
            Admission::Later,
            "it was not silent"
        );
        assert_eq!(
            firsts.admit("orders", 0, later + FORGOTTEN_AFTER),
            Admission::First
        );
    }

    #[test]
    fn reports_of_later_records_change_nothing() {
        let mut firsts = Firsts::default();
        firsts.sent("orders", 0);
        firsts.reported("orders", 7, true);
        firsts.reported("payments", 0, true);
        assert_eq!(firsts.admit("orders", 0, Instant::now()), Admission::Held);
        firsts.reported("orders", 0, true);
        firsts.reported("orders", 0, false);
        assert_eq!(firsts.admit("orders", 0, Instant::now()), Admission::Later);
    }
}
