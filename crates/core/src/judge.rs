//! What a process knows of single events over all its sessions, and what follows when one of them
//! is in the way.
//!
//! Kafka refuses a batch as a whole. So what it refused is sent again, each record alone: the one
//! that is refused then is at fault. By its size a batch can be refused whose records are all small
//! enough; then the next ones are smaller. And a record that the client refuses for its size may be
//! one that its topic takes: the topics are asked first.

mod sizes;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use self::sizes::{Fit, Refused};
pub use self::sizes::{Sizes, TopicSizes};
use crate::error::Reason;
use crate::event::Position;
use crate::rulings::{Found, Halt, Rulings};
use crate::start::Identity;

/// What is known of single events, over all sessions.
#[derive(Debug)]
pub struct Judge {
    rulings: Rulings,
    fit: Fit,
    /// What Kafka refused together, for its size, and what is at fault is not known yet.
    refused_together: BTreeSet<Position>,
    /// There is a topic for events that can't be delivered.
    has_letters: bool,
    /// How long topics are asked that do not answer, while a record waits that the client refuses.
    patience: Duration,
    /// Where the last session was.
    last: Option<Identity>,
}

/// What follows a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another session, with another producer: it knows more than the last one did.
    Again(Finding),
    /// Another session after a pause: no topic has told what it takes.
    Later,
    /// The line stands before the event.
    Stand {
        /// Not every topic says what it takes: one may take the record that the client refuses.
        may_be_innocent: bool,
    },
}

/// What is known after a halt that was not known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// So many records were refused together: one of them may be at fault, or all.
    Together(usize),
    /// The topics are to be asked how large a record may be.
    AsksTopics,
    /// The event goes to the dead letters.
    Condemned,
}

impl Judge {
    /// Of a process that begins. `rulings`: what it was told of single events. `has_letters`: an
    /// event that can't be delivered goes to the dead-letter topic. `patience`: how long topics
    /// are asked that do not answer, while a record waits that the client refuses.
    pub fn new(rulings: Rulings, sizes: Sizes, has_letters: bool, patience: Duration) -> Self {
        Self {
            rulings,
            fit: Fit::new(sizes),
            refused_together: BTreeSet::new(),
            has_letters,
            patience,
            last: None,
        }
    }

    /// A session begins on that server, and these events may pass there: position, and id as an
    /// operator typed it. Returns what the session is to know.
    pub fn session_begins(
        &mut self,
        identity: Identity,
        skips: impl IntoIterator<Item = (Position, String)>,
    ) -> Rulings {
        if self.last.is_some_and(|last| last != identity) {
            // Positions of another history are no positions here.
            self.rulings.forget_found();
        }
        self.rulings.forget_skips();
        for (position, id) in skips {
            self.rulings.skip(position, id);
        }
        self.last = Some(identity);
        self.rulings.clone()
    }

    /// The session hands back what it knows. What is delivered behind `recorded`, which the
    /// checkpoint holds, comes again.
    pub fn session_ended(&mut self, rulings: Rulings, recorded: walpost_pgoutput::Lsn) {
        self.rulings = rulings;
        self.rulings.forget_before(recorded);
    }

    /// An event is in the way.
    pub fn after_halt(&mut self, halt: &Halt, now: Instant) -> Next {
        let Halt {
            event,
            found,
            topic,
        } = halt;
        let is_too_large = event.reason.is_too_large();
        let mut may_be_innocent = false;
        match found {
            Found::Among(refused) => {
                if is_too_large {
                    self.fit.refuse_batch();
                    self.refused_together.clone_from(refused);
                } else {
                    self.rulings.suspect(refused.clone());
                }
                return Next::Again(Finding::Together(refused.len()));
            }
            Found::BeforeSending | Found::Alone => {
                if let Some(topic) = topic {
                    let record = (event.position, topic.as_str());
                    match self.fit.refuse_record(record, now, self.patience) {
                        Refused::Asking => return Next::Again(Finding::AsksTopics),
                        Refused::Unanswered => return Next::Later,
                        Refused::ForGood => {}
                        // A topic that does not say what it takes may take it.
                        Refused::Unknown => may_be_innocent = true,
                    }
                } else {
                    self.fit.found_record();
                }
            }
        }
        let is_letter = matches!(event.reason, Reason::DeadLetter { .. });
        if self.has_letters && !is_letter && !may_be_innocent {
            self.rulings.condemn(event.clone());
            return Next::Again(Finding::Condemned);
        }
        Next::Stand { may_be_innocent }
    }

    /// Which of the topics are to be asked what they take before the next session begins. `None`:
    /// nothing is to be asked or decided.
    pub fn question(&self, topics: impl Iterator<Item = String>) -> Option<Vec<String>> {
        let due = self.fit.due(topics);
        (!due.is_empty() || self.fit.is_in_doubt()).then_some(due)
    }

    /// Takes the answer; `None` where nobody answered. `known`: the topics that have events.
    /// Returns whether the producer has to be made anew.
    pub fn take_answer(
        &mut self,
        answer: Option<TopicSizes>,
        known: &BTreeSet<String>,
        now: Instant,
    ) -> bool {
        let is_in_doubt = self.fit.is_in_doubt();
        let changes = self.fit.learn(answer, known, now);
        if !is_in_doubt {
            return changes;
        }
        let refused = std::mem::take(&mut self.refused_together);
        if !self.fit.blames_record() {
            return true;
        }
        self.rulings.suspect(refused);
        changes
    }

    /// The client's limits by now.
    pub fn sizes(&self) -> Sizes {
        self.fit.sizes()
    }

    /// Until when a record that the client refuses is refused for good, in a session that begins
    /// `now`.
    pub fn size_is_final_until(&self, now: Instant) -> Option<Instant> {
        self.fit.is_final_until(now)
    }
}

#[cfg(test)]
mod tests;
