//! Single events that are not simply sent: what an operator said of them, what Kafka said of them
//! before, and what is done with one that can't be delivered.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Reason, Undeliverable};
use crate::event::{EventId, Position, Topic};

/// What is done with an event that can't be delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The relay halts: the line stands before it.
    #[default]
    Halt,
    /// Its record goes to this topic, with the reason in its headers, and the line goes on when
    /// that one is acknowledged.
    DeadLetter(Topic),
}

/// What is known of single events before they are read.
#[derive(Clone, Debug, Default)]
pub struct Rulings {
    /// Ids as an operator typed them.
    skips: BTreeMap<Position, BTreeSet<String>>,
    skipped_ids: BTreeSet<String>,
    condemned: BTreeMap<Position, (EventId, Reason)>,
    suspects: BTreeSet<Position>,
}

/// How it was found out that an event can't be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Before it was sent: nothing later has left either.
    BeforeSending,
    /// Kafka refused it, and nothing else with it.
    Alone,
    /// Kafka refused it together with others: one of these is at fault, or each, or only what they
    /// were together.
    Among(BTreeSet<Position>),
}

/// An event that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// The event.
    pub event: Undeliverable,
    /// How it was found out.
    pub found: Found,
    /// Its topic, where the client would not send its record for its size: the topic may take it.
    pub topic: Option<Topic>,
}

/// An event that was not sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exception {
    /// An operator had it passed over.
    Skipped {
        /// Which event.
        id: EventId,
        /// Where it stands.
        position: Position,
    },
    /// It can't be delivered, and goes to the dead-letter topic.
    DeadLetter(Undeliverable),
}

impl Rulings {
    /// The event at `position` is passed over, if its id is that one.
    pub fn skip(&mut self, position: Position, id: String) {
        self.skips.entry(position).or_default().insert(id);
    }

    /// Every event of that id is passed over.
    pub fn skip_id(&mut self, id: String) {
        self.skipped_ids.insert(id);
    }

    /// That event can't be delivered: Kafka refused it alone.
    pub fn condemn(&mut self, event: Undeliverable) {
        let Undeliverable {
            id,
            position,
            reason,
        } = event;
        self.suspects.remove(&position);
        self.condemned.insert(position, (id, reason));
    }

    /// Each of these is sent alone: Kafka refused them together.
    pub fn suspect(&mut self, positions: BTreeSet<Position>) {
        self.suspects.extend(positions);
    }

    /// What an operator said before is not known any more.
    pub fn forget_skips(&mut self) {
        self.skips.clear();
    }

    /// Forgets what was found out: positions have another meaning from here on.
    pub fn forget_found(&mut self) {
        self.condemned.clear();
        self.suspects.clear();
    }

    /// Forgets what was found out of events that don't come again: those whose commits lie before
    /// `start`, the earliest position that the next session can start at.
    pub fn forget_before(&mut self, start: walpost_pgoutput::Lsn) {
        let first = Position {
            commit_lsn: start,
            ordinal: 0,
        };
        self.condemned = self.condemned.split_off(&first);
        self.suspects = self.suspects.split_off(&first);
    }

    /// Whether an operator wants it passed over.
    pub fn skips(&self, position: Position, id: &EventId) -> bool {
        let at_place = self.skips.get(&position).into_iter().flatten();
        at_place.chain(&self.skipped_ids).any(|typed| id.is(typed))
    }

    pub(crate) fn verdict(&self, position: Position, id: &EventId) -> Option<&Reason> {
        let (condemned, reason) = self.condemned.get(&position)?;
        (condemned == id).then_some(reason)
    }

    /// Whether it is to be sent alone.
    pub(crate) fn suspects(&self, position: Position) -> bool {
        self.suspects.contains(&position)
    }
}

#[cfg(test)]
mod tests {
    use walpost_pgoutput::Lsn;

    use super::*;

    fn at(lsn: u64, ordinal: u32) -> Position {
        Position {
            commit_lsn: Lsn::new(lsn),
            ordinal,
        }
    }

    fn id(text: &str) -> EventId {
        EventId::Other(text.as_bytes().into())
    }

    #[test]
    fn an_event_is_passed_over_where_place_and_id_are_those_of_the_operator() {
        let mut rulings = Rulings::default();
        rulings.skip(at(8, 1), "b' ".to_owned());
        rulings.skip(at(8, 1), "a".to_owned());
        assert!(rulings.skips(at(8, 1), &id("a")));
        assert!(!rulings.skips(at(8, 1), &id("b")));
        assert!(!rulings.skips(at(8, 0), &id("a")));
        rulings.forget_skips();
        assert!(!rulings.skips(at(8, 1), &id("a")));
    }

    #[test]
    fn an_id_alone_is_passed_over_wherever_it_stands_and_for_good() {
        let mut rulings = Rulings::default();
        rulings.skip_id("a".to_owned());
        rulings.forget_skips();
        assert!(rulings.skips(at(8, 1), &id("a")));
        assert!(!rulings.skips(at(8, 1), &id("b")));
    }

    #[test]
    fn what_was_found_out_is_forgotten_with_the_commits_that_are_confirmed() {
        let mut rulings = Rulings::default();
        for (lsn, ordinal) in [(7, 9), (8, 0), (8, 1)] {
            rulings.condemn(Undeliverable {
                id: id("a"),
                position: at(lsn, ordinal),
                reason: Reason::NullId,
            });
        }
        rulings.suspect(BTreeSet::from([at(7, 10), at(8, 1), at(8, 2)]));
        rulings.forget_before(Lsn::new(8));
        assert_eq!(rulings.verdict(at(7, 9), &id("a")), None);
        assert_eq!(rulings.verdict(at(8, 0), &id("a")), Some(&Reason::NullId));
        assert_eq!(rulings.verdict(at(8, 1), &id("b")), None);
        let places = [at(7, 10), at(8, 1), at(8, 2)];
        let suspects = places.map(|position| rulings.suspects(position));
        assert_eq!(suspects, [false, true, true]);
    }

    #[test]
    fn where_positions_mean_something_else_only_what_an_operator_said_is_known() {
        let mut rulings = Rulings::default();
        rulings.skip_id("a".to_owned());
        rulings.condemn(Undeliverable {
            id: id("b"),
            position: at(8, 0),
            reason: Reason::NullId,
        });
        rulings.suspect(BTreeSet::from([at(8, 1)]));
        rulings.forget_found();
        assert_eq!(rulings.verdict(at(8, 0), &id("b")), None);
        assert!(!rulings.suspects(at(8, 1)));
        assert!(rulings.skips(at(9, 0), &id("a")));
    }
}
