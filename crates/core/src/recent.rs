//! The events that were handed to Kafka last.
//!
//! A standby that takes over may lack commits that were sent already: nothing here prevents that,
//! only the server can. But somebody has to say which events they were, and who sent them knows.

use std::collections::VecDeque;

use walpost_pgoutput::Lsn;

use crate::event::{EventId, Position};
use crate::limits::RECENT_EVENTS_MAX;

/// Position and id of the last events that were handed to Kafka, in the order of their positions.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    events: VecDeque<(Position, EventId)>,
    /// The highest position whose id is not kept any more.
    forgotten: Option<Position>,
    /// How many events of the session had been handed to Kafka before.
    again: u64,
}

impl Recent {
    /// The next event in commit order.
    pub(crate) fn push(&mut self, position: Position, id: EventId) {
        if self.events.len() == RECENT_EVENTS_MAX {
            self.forget_first();
        }
        self.events.push_back((position, id));
    }

    /// So many events left for the second time, or more often.
    pub(crate) fn count_again(&mut self, events: u64) {
        self.again += events;
    }

    /// How many events the session handed to Kafka that had been before: never less than the
    /// repeats that came of it, for not every first try arrived.
    pub fn again(&self) -> u64 {
        self.again
    }

    /// The highest position that was handed to Kafka.
    pub fn highest(&self) -> Option<Position> {
        let last = self.events.back().map(|(position, _)| *position);
        last.max(self.forgotten)
    }

    /// Adds what a later session of the same history sent: some of it for the second time.
    pub fn append(&mut self, later: Self) {
        self.forgotten = self.forgotten.max(later.forgotten);
        self.events.extend(later.events);
        let events = self.events.make_contiguous();
        events.sort_by_key(|(position, _)| *position);
        let mut events: Vec<_> = std::mem::take(&mut self.events).into();
        events.dedup_by_key(|(position, _)| *position);
        self.events = events.into();
        while self.events.len() > RECENT_EVENTS_MAX {
            self.forget_first();
        }
    }

    /// Takes out the events whose commits lie at `lsn` or later, in commit order. What is forgotten
    /// of them is told beforehand.
    pub fn take_from(&mut self, lsn: Lsn) -> Vec<(Position, EventId)> {
        self.forgotten = self.forgotten.filter(|position| position.commit_lsn < lsn);
        let first = self
            .events
            .partition_point(|(position, _)| position.commit_lsn < lsn);
        self.events.split_off(first).into()
    }

    /// The highest position whose id was not kept, because later ones took its place.
    pub fn forgotten(&self) -> Option<Position> {
        self.forgotten
    }

    fn forget_first(&mut self) {
        if let Some((position, _)) = self.events.pop_front() {
            self.forgotten = self.forgotten.max(Some(position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(commit_lsn: u64, ordinal: u32) -> Position {
        Position {
            commit_lsn: Lsn::new(commit_lsn),
            ordinal,
        }
    }

    fn id(number: u64) -> EventId {
        EventId::Other(number.to_string().into_bytes().into())
    }

    fn recent(commits: impl IntoIterator<Item = u64>) -> Recent {
        let mut recent = Recent::default();
        for commit in commits {
            recent.push(position(commit, 0), id(commit));
        }
        recent
    }

    fn commits(events: &[(Position, EventId)]) -> Vec<u64> {
        let lsn = |event: &(Position, EventId)| event.0.commit_lsn.as_u64();
        events.iter().map(lsn).collect()
    }

    #[test]
    fn what_lies_at_a_position_or_behind_it_is_taken_out_once() {
        let mut recent = recent([10, 20, 30]);
        recent.push(position(30, 1), id(31));
        let taken = recent.take_from(Lsn::new(20));
        assert_eq!(commits(&taken), [20, 30, 30]);
        assert_eq!(taken[2].1, id(31));
        assert_eq!(commits(&recent.take_from(Lsn::ZERO)), [10]);
        assert_eq!(recent.forgotten(), None);
    }

    #[test]
    fn the_highest_position_is_known_also_when_it_is_all_that_is() {
        assert_eq!(Recent::default().highest(), None);
        assert_eq!(recent([10, 20]).highest(), Some(position(20, 0)));
        let mut all = recent([10, 20]);
        all.take_from(Lsn::new(20));
        assert_eq!(all.highest(), Some(position(10, 0)));
    }

    #[test]
    fn what_a_session_sent_again_counts_once() {
        let mut all = recent([10, 20, 30, 40]);
        all.append(recent([20, 30]));
        all.append(recent([40, 50]));
        assert_eq!(commits(&all.take_from(Lsn::ZERO)), [10, 20, 30, 40, 50]);
    }

    #[test]
    fn of_more_than_the_limit_the_last_ones_are_kept() {
        let max = RECENT_EVENTS_MAX as u64;
        let mut all = recent(1..=max + 2);
        assert_eq!(all.forgotten(), Some(position(2, 0)));
        all.append(recent(max + 2..=max + 5));
        assert_eq!(all.forgotten(), Some(position(5, 0)));
        assert_eq!(all.take_from(Lsn::new(max + 6)), []);
        assert_eq!(all.forgotten(), Some(position(5, 0)));
        let mut behind_it = all.clone();
        behind_it.take_from(Lsn::new(5));
        assert_eq!(behind_it.forgotten(), None);
        let kept = all.take_from(Lsn::ZERO);
        assert_eq!(kept.len(), RECENT_EVENTS_MAX);
        assert_eq!(kept[0].0, position(6, 0));
        assert_eq!(all.forgotten(), None);
    }
}
