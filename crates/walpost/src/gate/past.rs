//! What this process has met before, against the server that answers now.
//!
//! A promotion parts two histories. The position is safe from that: it lies in the database, and
//! goes back with it. What a position can't tell is what was sent of the history that is left
//! behind: events of commits that the new server has never had. And a server that was left behind
//! looks whole to whoever asks it alone: its slot and its checkpoint fit each other. Who has met
//! the newer one knows better, until the process ends.

use tracing::{error, info, warn};
use walpost_core::start::Identity;
use walpost_core::{EventId, History, Position, Recent};
use walpost_pgoutput::Lsn;

/// Ids in one line of the log.
const IDS_IN_LINE: usize = 50;

/// The history that was met last, and what was sent of it.
#[derive(Debug, Default)]
pub(crate) struct Past {
    met: Option<(u64, History)>,
    sent: Recent,
}

/// A server that another one has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeftBehind {
    /// The timeline that was met before.
    pub newest: u32,
}

impl Past {
    /// What a session handed to Kafka. What of it had been before is told: these are the repeats
    /// that consumers may see of it.
    pub(super) fn add(&mut self, sent: Recent) {
        let again = sent.again();
        self.sent.append(sent);
        if again > 0 {
            info!(
                events = again,
                "sent again: these events had been handed to Kafka before"
            );
        }
    }

    /// The highest position that was handed to Kafka.
    pub(super) fn sent_to(&self) -> Option<Position> {
        self.sent.highest()
    }

    /// Compares the history of the server that answers with the one that was met last. Where they
    /// part, what was sent of the other one is told: once, also where no session comes of it.
    pub(super) fn meet(&mut self, identity: Identity, history: History) -> Result<(), LeftBehind> {
        let system = identity.system_identifier;
        match &self.met {
            // Another system is another matter: slot and checkpoint are judged.
            Some((known, last)) if *known == system => {
                if history.timeline() < last.timeline() {
                    return Err(LeftBehind {
                        newest: last.timeline(),
                    });
                }
                if let Some(parted_at) = last.parts_at(&history) {
                    let (from, to) = (last.timeline(), history.timeline());
                    self.tell(from, to, parted_at);
                } else if *last != history {
                    warn!(
                        from_timeline = last.timeline(),
                        to_timeline = history.timeline(),
                        "the server does not tell where its timeline began: events of commits that \
                         it has never had may be in Kafka"
                    );
                }
            }
            _ => self.sent = Recent::default(),
        }
        self.met = Some((system, history));
        Ok(())
    }

    /// Names the events of the history that ended at `parted_at`. What lies behind it is of another
    /// one from here on.
    fn tell(&mut self, from_timeline: u32, to_timeline: u32, parted_at: Lsn) {
        let forgotten = self.sent.forgotten();
        let phantoms = self.sent.take_from(parted_at);
        if phantoms.is_empty() {
            info!(
                from_timeline, to_timeline, %parted_at,
                "a standby was promoted: nothing was handed to Kafka that it has not got"
            );
            return;
        }
        error!(
            from_timeline, to_timeline, %parted_at, count = phantoms.len(),
            "a standby was promoted that was behind: these events were handed to Kafka, and it has \
             never had their commits"
        );
        for line in phantoms.chunks(IDS_IN_LINE) {
            tell_line(line);
        }
        if let Some(forgotten) = forgotten.filter(|forgotten| forgotten.commit_lsn >= parted_at) {
            error!(
                from_position = %first_at(parted_at), to_position = %forgotten,
                "phantoms, more than there are ids kept of: records with these positions in the \
                 header walpost-position"
            );
        }
    }
}

fn tell_line(events: &[(Position, EventId)]) {
    let ids: Vec<_> = events.iter().map(|(_, id)| id.to_string()).collect();
    if let [(first, _), ..] = events
        && let [.., (last, _)] = events
    {
        error!(
            from_position = %first, to_position = %last, ids = ids.join(" "),
            "phantoms"
        );
    }
}

/// The lowest position of an event whose commit lies at `lsn` or later.
pub(super) fn first_at(lsn: Lsn) -> Position {
    Position {
        commit_lsn: lsn,
        ordinal: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(timeline: u32) -> Identity {
        Identity {
            system_identifier: 7,
            timeline,
        }
    }

    fn promoted(timeline: u32) -> History {
        History::parse(timeline, "1\t0/50\tno recovery target specified\n")
    }

    #[test]
    fn a_server_on_an_earlier_timeline_than_one_that_was_met_was_left_behind() {
        let mut past = Past::default();
        assert_eq!(past.meet(identity(1), History::new(1)), Ok(()));
        assert_eq!(past.meet(identity(2), promoted(2)), Ok(()));
        let left_behind = Err(LeftBehind { newest: 2 });
        assert_eq!(past.meet(identity(1), History::new(1)), left_behind);
        assert_eq!(past.meet(identity(2), promoted(2)), Ok(()));
        // One that was promoted beside the other: whoever promoted it later will have meant it.
        assert_eq!(past.meet(identity(3), promoted(3)), Ok(()));
        assert_eq!(past.meet(identity(4), History::new(4)), Ok(()));
    }

    #[test]
    fn another_system_is_for_slot_and_checkpoint_to_judge() {
        let mut past = Past::default();
        assert_eq!(past.meet(identity(2), promoted(2)), Ok(()));
        let other = Identity {
            system_identifier: 8,
            timeline: 1,
        };
        assert_eq!(past.meet(other, History::new(1)), Ok(()));
        assert_eq!(past.meet(identity(1), History::new(1)), Ok(()));
    }
}
