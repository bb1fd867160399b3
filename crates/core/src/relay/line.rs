//! The line to Kafka: events in commit order, from the row to the acknowledgement, and what stands
//! in their way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::{Delivery, Session};
use crate::class::{self, KafkaClass};
use crate::dead_letter::{Refusal, leave_value_out};
use crate::error::{Reason, Rejection, RelayError, Undeliverable};
use crate::event::{Position, Record, Ticket, Topic};
use crate::mapping::Event;
use crate::placement;
use crate::rulings::{Exception, Found, Halt, Policy, Rulings};
use crate::topics::{Place, Topics};
use crate::window::Window;

/// Events between the stream and Kafka.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub window: Window,
    pub topics: Topics,
    policy: Policy,
    rulings: Rulings,
    /// Until when a record that the client refuses for its size is refused for good.
    size_is_final_until: Option<Instant>,
    /// An event that the window has no room for yet.
    pending: Option<Event>,
    /// Events in the window that have not left yet.
    ready: VecDeque<Event>,
    /// An event that can't leave. It halts the relay once everything before it has arrived: what
    /// is in flight may fail for other reasons, and would then stand in its way.
    refused: Option<Undeliverable>,
    /// The record that the client would not send for its size, and its topic.
    too_large: Option<(Position, Topic)>,
    /// A topic's count changed: what is in flight was placed by the old one and has to arrive
    /// before anything is placed by the new one. Failing, it would come again behind what had
    /// overtaken it.
    recounted: bool,
    /// A suspect that is in flight: nothing else leaves until Kafka has said what it thinks of it.
    alone: Option<Event>,
    /// Dead letters in flight, with their causes.
    letters: BTreeMap<Ticket, Box<Reason>>,
    /// How many other records are in flight. Each can still become a dead letter, and would come
    /// behind one that left meanwhile.
    originals: usize,
    /// What Kafka refused and called the events' own fault.
    failed: BTreeSet<Position>,
    halted: Option<Undeliverable>,
    exceptions: VecDeque<Exception>,
    pub counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub delivered: u64,
    pub skipped: u64,
    pub dead_letters: u64,
}

impl Line {
    pub(super) fn new(session: &Session, rulings: Rulings, topics: Topics) -> Self {
        Self {
            window: Window::new(session.floor, session.window),
            topics,
            policy: session.policy.clone(),
            rulings,
            size_is_final_until: session.size_is_final_until,
            pending: None,
            ready: VecDeque::new(),
            refused: None,
            too_large: None,
            recounted: false,
            alone: None,
            letters: BTreeMap::new(),
            originals: 0,
            failed: BTreeSet::new(),
            halted: None,
            exceptions: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The next row, as an event or not.
    pub(super) fn take(&mut self, row: Result<Event, Refusal>) {
        let (position, id) = match &row {
            Ok(event) => (event.position, &event.id),
            Err(refusal) => (refusal.position, &refusal.id),
        };
        if self.rulings.skips(position, id) {
            self.counts.skipped += 1;
            let id = id.clone();
            self.exceptions
                .push_back(Exception::Skipped { id, position });
            return;
        }
        let row = match (self.rulings.verdict(position, id), row) {
            (Some(reason), Ok(event)) => Err(Refusal::of(event, reason.clone())),
            (_, row) => row,
        };
        match row {
            Ok(event) => self.pending = Some(event),
            Err(refusal) => match self.redirect(refusal) {
                Ok(letter) => self.pending = Some(letter),
                Err(event) => self.refuse(event),
            },
        }
        self.admit();
    }

    /// The dead letter of an event, where that is the policy.
    fn redirect(&mut self, refusal: Refusal) -> Result<Event, Undeliverable> {
        let event = refusal.undeliverable();
        let Policy::DeadLetter(topic) = &self.policy else {
            return Err(event);
        };
        self.counts.dead_letters += 1;
        self.exceptions.push_back(Exception::DeadLetter(event));
        Ok(refusal.into_dead_letter(topic))
    }

    /// Takes the pending event into the window when there is room.
    pub(super) fn admit(&mut self) {
        if let Some(event) = self
            .pending
            .take_if(|event| self.window.admits(event.bytes))
        {
            self.window
                .take(event.bytes, event.position, event.id.clone());
            self.ready.push_back(event);
        }
    }

    /// The next record for Kafka.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Record> {
        self.admit();
        loop {
            if self.halted.is_some() {
                return None;
            }
            let is_next = |event: &&Event| !stops(self.refused.as_ref(), event.position);
            let Some(event) = self.ready.front().filter(is_next) else {
                if self.window.is_settled() {
                    self.halted = self.refused.take();
                }
                return None;
            };
            self.window.may_send()?;
            let is_settled = self.window.is_settled();
            self.recounted &= !is_settled;
            let suspected = self.rulings.suspects(event.position);
            let waits = event.cause.is_some() && self.originals > 0;
            if self.recounted || self.alone.is_some() || (suspected && !is_settled) || waits {
                return None;
            }
            let partitions = match self.topics.place(&event.topic, now) {
                Place::Partitions(partitions) => partitions,
                Place::Wait => return None,
                Place::Missing(waited) => {
                    let topic = event.topic.clone();
                    self.give_up_first(Reason::TopicMissing { topic, waited });
                    continue;
                }
            };
            if suspected {
                self.alone = self.ready.front().cloned();
            }
            return self.send_first(partitions);
        }
    }

    fn send_first(&mut self, partitions: u32) -> Option<Record> {
        let event = self.ready.pop_front()?;
        let partition = placement::partition(&event.placement, partitions);
        let ticket = self.window.send();
        match &event.cause {
            Some(cause) => {
                self.letters.insert(ticket, cause.clone());
            }
            None => self.originals += 1,
        }
        Some(Record {
            ticket,
            partition,
            event,
        })
    }

    /// The event that is next can't be delivered.
    fn give_up_first(&mut self, reason: Reason) {
        let Some(event) = self.ready.pop_front() else {
            return;
        };
        self.give_up_or_refuse(event, reason);
    }

    /// The event that would be next goes as a dead letter, or stands in the way.
    fn give_up_or_refuse(&mut self, event: Event, why: Reason) {
        match self.give_up(event, why) {
            Ok(letter) => self.ready.push_front(letter),
            Err(event) => self.refuse(event),
        }
    }

    /// Nothing from that event on leaves.
    fn refuse(&mut self, event: Undeliverable) {
        if !stops(self.refused.as_ref(), event.position) {
            self.refused = Some(event);
        }
    }

    /// What is sent in the place of an event that can't be delivered, if anything is.
    fn give_up(&mut self, mut event: Event, why: Reason) -> Result<Event, Undeliverable> {
        let Some(cause) = event.cause.clone() else {
            return self.redirect(Refusal::of(event, why));
        };
        if why.is_too_large() && leave_value_out(&mut event) {
            return Ok(event);
        }
        Err(Undeliverable {
            id: event.id,
            position: event.position,
            reason: of_dead_letter(event.topic, cause, why),
        })
    }

    /// A record that Kafka's client would not send.
    pub(super) fn take_back(
        &mut self,
        now: Instant,
        record: Record,
        rejection: Rejection,
    ) -> Result<(), RelayError> {
        let Record { ticket, event, .. } = record;
        let position = event.position;
        if class::kafka(rejection.code) != KafkaClass::Event {
            return Err(self.cluster_fault(position, rejection));
        }
        self.alone = None;
        self.originals -= usize::from(event.cause.is_none());
        self.letters.remove(&ticket);
        self.window.take_back(ticket);
        // Nothing leaves any more, and it comes again.
        if stops(self.halted.as_ref(), position) {
            return Ok(());
        }
        let reason = Reason::Rejected(rejection);
        // Another producer may take it: the topics' limits can have been raised.
        let is_final = self.size_is_final_until.is_some_and(|until| now < until);
        if reason.is_too_large() && !is_final && event.cause.is_none() {
            self.too_large = Some((position, event.topic));
            self.refuse(Undeliverable {
                id: event.id,
                position,
                reason,
            });
            return Ok(());
        }
        self.give_up_or_refuse(event, reason);
        Ok(())
    }

    /// That event is in the way, unless an earlier one is.
    fn halt_at(&mut self, event: Undeliverable) {
        if !stops(self.halted.as_ref(), event.position) {
            self.halted = Some(event);
        }
    }

    /// Kafka's report for one record.
    pub(super) fn report(&mut self, delivery: Delivery) -> Result<(), RelayError> {
        let ticket = delivery.ticket;
        let letter = self.letters.remove(&ticket);
        self.originals -= usize::from(letter.is_none());
        // Nothing else is in flight beside it.
        let alone = self.alone.take();
        let Err(rejection) = delivery.result else {
            self.window.settle(ticket);
            self.counts.delivered += 1;
            // Where the owner has no room for a record, nothing polls; the stream is read on.
            self.admit();
            return Ok(());
        };
        let (id, position) = self.window.event(ticket);
        if class::kafka(rejection.code) != KafkaClass::Event {
            return Err(self.cluster_fault(position, rejection));
        }
        let reason = Reason::Rejected(rejection);
        // Nothing has left behind it: what is sent instead takes its turn.
        if let (Some(event), Policy::DeadLetter(_)) = (alone, &self.policy) {
            self.window.take_back(ticket);
            if event.cause.is_none() {
                self.rulings
                    .condemn(Refusal::of(event.clone(), reason.clone()).undeliverable());
                // Its dead letter is under suspicion as well.
                self.rulings.suspect([position].into());
            }
            self.give_up_or_refuse(event, reason);
            return Ok(());
        }
        let reason = match (letter, &self.policy) {
            (Some(cause), Policy::DeadLetter(topic)) => {
                of_dead_letter(topic.clone(), cause, reason)
            }
            _ => reason,
        };
        let id = id.clone();
        self.failed.insert(position);
        self.halt_at(Undeliverable {
            id,
            position,
            reason,
        });
        Ok(())
    }

    fn cluster_fault(&mut self, position: Position, rejection: Rejection) -> RelayError {
        if class::contradicts_partition_count(rejection.code) {
            self.topics.distrust();
        }
        RelayError::Cluster {
            position,
            rejection,
        }
    }

    /// A topic has another number of partitions by now.
    pub(super) fn recount(&mut self) {
        self.recounted = true;
    }

    /// Drops what did not leave yet.
    pub(super) fn drop_unsent(&mut self) {
        self.pending = None;
        self.refused = None;
        self.ready.clear();
    }

    /// Whether the next row may come.
    pub(super) fn has_room(&self) -> bool {
        self.halted.is_none()
            && self.refused.is_none()
            && self.pending.is_none()
            && self.window.admits(0)
    }

    /// Where the next event stands that was read and did not leave yet.
    pub(super) fn next_unsent(&self) -> Option<Position> {
        let event = self.ready.front().or(self.pending.as_ref())?;
        Some(event.position)
    }

    /// Whether a record waits for its topic.
    pub(super) fn waits_for_topic(&self) -> bool {
        !self.ready.is_empty() && self.topics.is_waiting()
    }

    pub(super) fn refused(&self) -> Option<&Undeliverable> {
        self.refused.as_ref()
    }

    pub(super) fn halted(&self) -> Option<&Undeliverable> {
        self.halted.as_ref()
    }

    pub(super) fn halt(&self) -> Option<Halt> {
        let event = self.halted.clone()?;
        let position = event.position;
        let suspected = self.rulings.suspects(position);
        // Without its value a dead letter may be small enough: it is tried alone.
        let may_shrink =
            matches!(&event.reason, Reason::DeadLetter { why, .. } if why.is_too_large());
        let found = if !self.failed.contains(&position) {
            if suspected {
                Found::Alone
            } else {
                Found::BeforeSending
            }
        } else if suspected || (self.failed.len() == 1 && !may_shrink) {
            Found::Alone
        } else {
            Found::Among(self.failed.clone())
        };
        let too_large = self.too_large.as_ref();
        let topic = too_large.filter(|(refused, _)| *refused == position);
        Some(Halt {
            event,
            found,
            topic: topic.map(|(_, topic)| topic.clone()),
        })
    }

    pub(super) fn rulings(&self) -> &Rulings {
        &self.rulings
    }

    pub(super) fn poll_exception(&mut self) -> Option<Exception> {
        self.exceptions.pop_front()
    }
}

/// Whether that event is in the way of what stands at `position`.
fn stops(event: Option<&Undeliverable>, position: Position) -> bool {
    event.is_some_and(|event| event.position <= position)
}

fn of_dead_letter(topic: Topic, cause: Box<Reason>, why: Reason) -> Reason {
    let why = Box::new(why);
    Reason::DeadLetter { topic, cause, why }
}
