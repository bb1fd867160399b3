//! What this process has met before, against the server that answers now.
//!
//! A promotion parts two histories. The position is safe from that: it lies in the database, and
//! goes back with it. What a position can't tell is what was sent of the history that is left
//! behind: events of commits that the new server has never had. And a server that was left behind
//! looks whole to whoever asks it alone: its slot and its checkpoint fit each other. Who has met
//! the newer one knows better, until the process ends.

use walpost_pgoutput::Lsn;

use crate::event::{EventId, Position};
use crate::history::History;
use crate::recent::Recent;
use crate::start::Identity;

/// The history that was met last, and what was sent of it.
#[derive(Debug, Default)]
pub struct Past {
    met: Option<(u64, History)>,
    sent: Recent,
}

/// A server that another one has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// The timeline that was met before.
    pub newest: u32,
}

/// Another history than the one that was met last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A standby was promoted.
    Parted {
        /// The timeline that was met before.
        from: u32,
        /// The server's.
        to: u32,
        /// Commits whose records begin here, or later, the server has never had.
        at: Lsn,
        /// What was handed to Kafka of them, in commit order.
        phantoms: Vec<(Position, EventId)>,
        /// The highest position that was handed to Kafka beside these, if one of them is lost too:
        /// its id is not known any more.
        forgotten: Option<Position>,
    },
    /// The server does not tell where its timeline began.
    Untold {
        /// The timeline that was met before.
        from: u32,
        /// The server's.
        to: u32,
    },
}

impl Past {
    /// What a session handed to Kafka.
    pub fn add(&mut self, sent: Recent) {
        self.sent.append(sent);
    }

    /// The highest position that was handed to Kafka.
    pub fn sent_to(&self) -> Option<Position> {
        self.sent.highest()
    }

    /// Compares the history of the server that answers with the one that was met last. What was
    /// sent of another one is told once, also where no session comes of it.
    ///
    /// # Errors
    ///
    /// The server was left behind by one that was met: it is not to be streamed from.
    pub fn meet(
        &mut self,
        identity: Identity,
        history: History,
    ) -> Result<Option<News>, LeftBehind> {
        let system = identity.system_identifier;
        let to = history.timeline();
        let mut news = None;
        match &self.met {
            // Another system is another matter: slot and checkpoint are judged.
            Some((known, last)) if *known == system => {
                let from = last.timeline();
                if to < from {
                    return Err(LeftBehind { newest: from });
                }
                if let Some(at) = last.parts_at(&history) {
                    news = Some(self.part(from, to, at));
                } else if *last != history {
                    news = Some(News::Untold { from, to });
                }
            }
            _ => self.sent = Recent::default(),
        }
        self.met = Some((system, history));
        Ok(news)
    }

    /// The events of the history that ended at `at`. What lies behind it is of another one from
    /// here on.
    fn part(&mut self, from: u32, to: u32, at: Lsn) -> News {
        let forgotten = self.sent.forgotten();
        News::Parted {
            from,
            to,
            at,
            phantoms: self.sent.take_from(at),
            forgotten: forgotten.filter(|forgotten| forgotten.commit_lsn >= at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RECENT_EVENTS_MAX;

    fn identity(timeline: u32) -> Identity {
        Identity {
            system_identifier: 7,
            timeline,
        }
    }

    fn promoted(timeline: u32) -> History {
        History::parse(timeline, "1\t0/50\tno recovery target specified\n")
    }

    fn position(commit_lsn: u64) -> Position {
        Position {
            commit_lsn: Lsn::new(commit_lsn),
            ordinal: 0,
        }
    }

    fn sent(commits: &[u64]) -> Recent {
        let mut recent = Recent::default();
        for commit in commits {
            recent.push(position(*commit), id(*commit));
        }
        recent
    }

    fn id(number: u64) -> EventId {
        EventId::Other(number.to_string().into_bytes().into())
    }

    #[test]
    fn a_server_on_an_earlier_timeline_than_one_that_was_met_was_left_behind() {
        let mut past = Past::default();
        assert_eq!(past.meet(identity(1), History::new(1)), Ok(None));
        assert!(past.meet(identity(2), promoted(2)).is_ok());
        let left_behind = Err(LeftBehind { newest: 2 });
        assert_eq!(past.meet(identity(1), History::new(1)), left_behind);
        assert_eq!(past.meet(identity(2), promoted(2)), Ok(None));
        // One that was promoted beside the other: whoever promoted it later will have meant it.
        assert!(past.meet(identity(3), promoted(3)).is_ok());
        let untold = Some(News::Untold { from: 3, to: 4 });
        assert_eq!(past.meet(identity(4), History::new(4)), Ok(untold));
    }

    #[test]
    fn another_system_is_for_slot_and_checkpoint_to_judge() {
        let mut past = Past::default();
        assert_eq!(past.meet(identity(2), promoted(2)), Ok(None));
        past.add(sent(&[0x60]));
        let other = Identity {
            system_identifier: 8,
            timeline: 1,
        };
        assert_eq!(past.meet(other, History::new(1)), Ok(None));
        assert_eq!(past.sent_to(), None);
        assert_eq!(past.meet(identity(1), History::new(1)), Ok(None));
    }

    #[test]
    fn what_was_sent_behind_the_place_where_two_histories_part_is_named_once() {
        let mut past = Past::default();
        assert_eq!(past.meet(identity(1), History::new(1)), Ok(None));
        past.add(sent(&[0x40, 0x50]));
        past.add(sent(&[0x50, 0x60]));
        let parted = News::Parted {
            from: 1,
            to: 2,
            at: Lsn::new(0x50),
            phantoms: vec![(position(0x50), id(0x50)), (position(0x60), id(0x60))],
            forgotten: None,
        };
        assert_eq!(past.meet(identity(2), promoted(2)), Ok(Some(parted)));
        assert_eq!(past.meet(identity(2), promoted(2)), Ok(None));
        assert_eq!(past.sent_to(), Some(position(0x40)));
    }

    #[test]
    fn events_whose_ids_are_not_kept_are_told_by_their_highest_position() {
        let mut past = Past::default();
        assert_eq!(past.meet(identity(1), History::new(1)), Ok(None));
        let all: Vec<_> = (1..=RECENT_EVENTS_MAX as u64 + 0x50).collect();
        past.add(sent(&all));
        match past.meet(identity(2), promoted(2)) {
            Ok(Some(News::Parted { forgotten, .. })) => {
                assert_eq!(forgotten, Some(position(0x50)));
            }
            other => panic!("{other:?}"),
        }
    }
}
