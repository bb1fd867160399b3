//! What was committed and what Kafka holds, and the promises that tie both together.
//!
//! A broken promise panics: the seed is printed with it.

pub(crate) mod content;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;
use walpost_core::{EventId, Position, Record};
use walpost_pgoutput::Lsn;

/// One outbox row, written by the application.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) topic: usize,
    pub(crate) aggregate: u32,
    pub(crate) payload: Option<Bytes>,
    /// Why Kafka does not take it, if it does not.
    pub(crate) poison: Option<i32>,
    /// It is larger than what the producer is configured for.
    pub(crate) is_bulky: bool,
    /// Set when the commit is on disk.
    committed: Option<Committed>,
    in_kafka: bool,
    /// Which process delivered it last, and in which era.
    delivered: Option<(u64, u32)>,
    redirected: Option<Redirected>,
    /// Its dead letter is in Kafka.
    has_letter: bool,
    /// An operator has it passed over.
    skipped: bool,
    /// It is not waited for any more: its server was replaced by one that has not got it, or an
    /// operator gave it up. Sessions up to this one may have sent it.
    given_up: Option<u64>,
    /// No server has it any more.
    is_lost: bool,
    /// The process that had sent it has said so.
    is_named: bool,
    /// Another cluster took it, and those behind it are in ours.
    has_strayed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Committed {
    position: Position,
    /// Its transaction, which says when it was committed.
    xid: u32,
    /// Number among all events, in commit order.
    order: usize,
}

/// An event goes to the dead-letter topic.
#[derive(Clone, Copy, Debug)]
struct Redirected {
    era: u32,
    /// Its topic was missing: that can change at any time.
    for_topic: bool,
}

impl Event {
    /// Whether nobody waits for it any more.
    fn is_done(&self) -> bool {
        self.in_kafka || self.has_letter || self.skipped || self.given_up.is_some()
    }

    /// Whether it goes to the dead letters once more when it comes again.
    fn is_firmly_redirected(&self, era: u32) -> bool {
        let redirected = self.redirected.as_ref();
        redirected.is_some_and(|redirected| redirected.era == era && !redirected.for_topic)
    }
}

/// One topic-partition, as long as the topic is not made anew and its count stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogKey {
    pub(crate) topic: usize,
    pub(crate) incarnation: u32,
    /// The count that the sender placed by, and whether the topic has it. One that it had before it
    /// was made anew can be its count once more.
    pub(crate) count: u32,
    pub(crate) is_count: bool,
    pub(crate) partition: i32,
}

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) session: u64,
    pub(crate) process: u64,
    /// Of its producer: a later one may repeat what an earlier one sent.
    pub(crate) epoch: u32,
    /// The request was on the wire when its producer ended.
    pub(crate) is_late: bool,
    /// The dead-letter topic may have refused this value before.
    pub(crate) may_shorten: bool,
}

#[derive(Debug, Default)]
struct Log {
    /// The events in it, by commit order number.
    members: BTreeSet<usize>,
    /// Who appended last, in which epoch, and what.
    last: Option<((u64, u32), usize)>,
}

/// The ledger of a run.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: Vec<Event>,
    /// Committed events in commit order.
    committed: Vec<usize>,
    /// All of `committed` before this one are in Kafka, or given up.
    delivered: usize,

    logs: BTreeMap<LogKey, Log>,
    /// The same for each aggregate alone: also a count that changes keeps its order. (It can leave
    /// a partition and come back to it.)
    aggregates: BTreeMap<(usize, u32, i32, u32), Log>,
    placed: BTreeMap<(usize, u32, u32, u32), i32>,
    pub(crate) appended: usize,
    /// Dead letters, and those whose value was left out.
    pub(crate) letters: usize,
    pub(crate) letters_without_value: usize,
    /// Counts how often somebody mended what events were refused for.
    pub(crate) era: u32,
    /// What sessions up to this one repeat is not gone on with.
    broken_off: u64,
    /// The highest position that any server was told.
    told: Lsn,
    /// Records that repeat something out of order, because their producer was gone.
    pub(crate) late_repeats: usize,
    /// Events that were committed below it: another server told them otherwise.
    pub(crate) below_told: usize,
}

impl History {
    /// Writes down a new row; nothing is promised before its commit.
    pub(crate) fn write(
        &mut self,
        topic: usize,
        aggregate: u32,
        payload: Option<Bytes>,
        poison: Option<i32>,
        is_bulky: bool,
    ) -> usize {
        let number = self.events.len();
        self.events.push(Event {
            id: Uuid::from_u128(0xA000_0000_0000_4000_8000_0000_0000_0000 + number as u128),
            topic,
            aggregate,
            payload,
            poison,
            is_bulky,
            committed: None,
            in_kafka: false,
            delivered: None,
            redirected: None,
            has_letter: false,
            skipped: false,
            given_up: None,
            is_lost: false,
            is_named: false,
            has_strayed: false,
        });
        number
    }

    pub(crate) fn event(&self, number: usize) -> &Event {
        &self.events[number]
    }

    /// A transaction is committed and on disk: from here on its events are owed.
    pub(crate) fn commit(&mut self, commit_lsn: u64, xid: u32, events: &[usize]) {
        for (ordinal, number) in events.iter().enumerate() {
            let position = Position {
                commit_lsn: Lsn::new(commit_lsn),
                ordinal: u32::try_from(ordinal).expect("few rows"),
            };
            self.below_told += usize::from(position.commit_lsn < self.told);
            let order = self.committed.len();
            self.events[*number].committed = Some(Committed {
                position,
                xid,
                order,
            });
            self.committed.push(*number);
        }
    }

    /// Number of committed events.
    pub(crate) fn owed(&self) -> usize {
        let given_up = |number: &&usize| self.events[**number].given_up.is_some();
        self.committed.len() - self.committed.iter().filter(given_up).count()
    }

    /// Events in Kafka that no server has any more.
    pub(crate) fn phantoms(&self) -> usize {
        let is_phantom = |event: &&Event| event.is_lost && event.in_kafka;
        self.events.iter().filter(is_phantom).count()
    }

    /// A process says that it has sent this event, and that its server has not got it. Promises: it
    /// is true, and said once.
    pub(crate) fn name_phantom(&mut self, position: Position, id: &EventId) {
        let EventId::Uuid(id) = *id else {
            panic!("phantom: {id} is no id of ours");
        };
        let committed = self.named(id).committed.expect("it was committed");
        let event = &mut self.events[self.committed[committed.order]];
        assert_eq!(
            committed.position, position,
            "phantom: {id} stood elsewhere"
        );
        assert!(event.is_lost, "phantom: the server has got {id}");
        assert!(!event.is_named, "phantom: {id} is named twice");
        event.is_named = true;
    }

    /// A promise: what a process delivered, and its server has not got, it names.
    pub(crate) fn check_phantoms(&self, process: u64) {
        let is_missed = |event: &&Event| {
            let is_own = event.delivered.is_some_and(|(by, _)| by == process);
            event.is_lost && event.in_kafka && is_own && !event.is_named
        };
        if let Some(event) = self.events.iter().find(is_missed) {
            panic!("phantom: {} is not named", event.id);
        }
    }

    /// Whether the process has delivered the event of that record before.
    pub(crate) fn was_delivered_by(&self, record: &Record, process: u64) -> bool {
        let delivered = self.find(record).delivered;
        delivered.is_some_and(|(by, _)| by == process)
    }

    /// These events are on no server any more. What is in Kafka of them are phantoms, and stands
    /// outside of the order.
    pub(crate) fn lose(&mut self, events: impl Iterator<Item = usize>, sessions: u64) {
        for number in events {
            let event = &mut self.events[number];
            event.given_up = Some(sessions);
            event.is_lost = true;
            let order = event.committed.expect("it was committed").order;
            self.take_out(order);
        }
        self.advance();
    }

    /// Another cluster took the record, and ours takes those behind it.
    pub(crate) fn stray(&mut self, record: &Record) {
        let id = self.find(record).id;
        let committed = self.named(id).committed.expect("it was committed");
        self.events[self.committed[committed.order]].has_strayed = true;
        self.take_out(committed.order);
    }

    /// From here on this event stands outside of the order.
    fn take_out(&mut self, order: usize) {
        let logs = self.logs.values_mut();
        for log in logs.chain(self.aggregates.values_mut()) {
            log.members.remove(&order);
        }
    }

    /// What events were refused for is mended.
    pub(crate) fn mend(&mut self) {
        self.era += 1;
    }

    /// An operator has the event passed over that is called so and stands there.
    pub(crate) fn skip(&mut self, position: Position, id: Uuid) {
        let committed = self.named(id).committed.expect("it was committed");
        assert_eq!(committed.position, position, "skip: {id} stands elsewhere");
        self.events[self.committed[committed.order]].skipped = true;
        self.take_out(committed.order);
        self.advance();
    }

    /// A process is to send a dead letter. A promise: it has not delivered the event, unless the
    /// topic went away or is about to come.
    pub(crate) fn redirect(&mut self, id: Uuid, for_topic: bool, (process, era): (u64, u32)) {
        let committed = self.named(id).committed.expect("it was committed");
        let event = &mut self.events[self.committed[committed.order]];
        let was_delivered = event.delivered == Some((process, era));
        assert!(
            !was_delivered || for_topic,
            "dead letter: {id} was delivered"
        );
        let redirected = Redirected { era, for_topic };
        if event.redirected.replace(redirected).is_none() {
            self.take_out(committed.order);
        }
    }

    /// A promise: nothing is passed over but what an operator named, by place and id.
    pub(crate) fn check_skipped(&self, position: Position, id: Uuid) {
        let event = self.named(id);
        let at = event.committed.map(|committed| committed.position);
        assert_eq!(at, Some(position), "skip: {id} stands elsewhere");
        assert!(event.skipped, "skip: nobody wanted {id} passed over");
    }

    /// Whoever sends next may start further on than the last one, who repeated something.
    /// `sessions` were there until now.
    pub(crate) fn break_off_repeats(&mut self, sessions: u64) {
        self.broken_off = sessions;
        let logs = self.logs.values_mut();
        for log in logs.chain(self.aggregates.values_mut()) {
            log.last = None;
        }
    }

    /// An operator accepts that what is not in Kafka by now and was committed before this position
    /// is missing. Says how much that is.
    pub(crate) fn give_up_before(&mut self, lsn: Lsn, sessions: u64) -> usize {
        let mut missing = 0;
        for number in &self.committed {
            let event = &mut self.events[*number];
            let position = event.committed.expect("it was committed").position;
            if !event.is_done() && position.commit_lsn < lsn {
                event.given_up = Some(sessions);
                missing += 1;
            }
        }
        self.break_off_repeats(sessions);
        self.advance();
        missing
    }

    fn advance(&mut self) {
        while let Some(number) = self.committed.get(self.delivered)
            && let event = &self.events[*number]
            && event.is_done()
        {
            self.delivered += 1;
        }
    }

    /// Whether every committed event is in Kafka, or needs not be.
    pub(crate) fn is_complete(&self) -> bool {
        self.delivered == self.committed.len()
    }

    /// Where the last commit record starts with events that are sent.
    pub(crate) fn last_commit(&self) -> u64 {
        let mut committed = self.committed.iter().rev();
        let last = committed.find(|number| {
            let event = &self.events[**number];
            event.given_up.is_none() && !event.skipped
        });
        let position = last.and_then(|number| self.events[*number].committed);
        position.map_or(0, |committed| committed.position.commit_lsn.as_u64())
    }

    /// Names the first event that is not in Kafka.
    pub(crate) fn first_missing(&self) -> Option<(Position, &Event)> {
        let event = &self.events[*self.committed.get(self.delivered)?];
        Some((event.committed?.position, event))
    }

    /// The event behind a record that is on its way.
    pub(crate) fn find(&self, record: &Record) -> &Event {
        let key = record.key().expect("every record has a key");
        self.named(Uuid::try_parse_ascii(key).expect("the key is the id"))
    }

    /// The event of that id.
    pub(crate) fn named(&self, id: Uuid) -> &Event {
        let number = id.as_u128() & 0xFFFF_FFFF;
        let number = usize::try_from(number).expect("few events");
        assert!(
            number < self.events.len(),
            "phantom: {id} was never written"
        );
        assert_eq!(self.events[number].id, id, "phantom: no such id");
        &self.events[number]
    }

    /// A promise: the slot never passes an event that is not in Kafka.
    pub(crate) fn check_flush(&mut self, flush: Lsn) {
        self.told = self.told.max(flush);
        if let Some((position, event)) = self.first_missing() {
            assert!(
                flush <= position.commit_lsn,
                "ack safety: {flush} was confirmed and event {} at {position} is not in Kafka",
                event.id
            );
        }
    }

    /// Kafka appended a record. Promises: it was committed, it is what was written, it stands where
    /// its aggregate stands, and it keeps the order.
    /// A request of a producer that is gone may come `late`, and stands outside of the order if it
    /// repeats something.
    pub(crate) fn append(&mut self, record: &Record, key: LogKey, sender: Sender) {
        let event = self.find(record);
        let Some(committed) = event.committed else {
            panic!("phantom: {} was never committed", event.id);
        };
        let at = (committed.position, committed.xid);
        content::check(event, at, record, sender.may_shorten);
        let is_letter = content::cause(record).is_some();
        let is_own = event.topic == key.topic;
        assert_eq!(
            is_own, !is_letter,
            "content: {} is in another topic",
            event.id
        );
        if let Some(last_sender) = event.given_up {
            assert!(
                sender.session <= last_sender || !event.is_lost,
                "phantom: {sender:?} sent {}, which its server has not got",
                event.id
            );
        }
        let aggregate = event.aggregate;
        let is_new = !event.in_kafka && !event.has_letter;
        // What was mended came too late: others have overtaken it.
        let is_mended = !is_letter && event.redirected.is_some();
        let stands_outside =
            event.given_up.is_some() || event.skipped || event.has_strayed || is_mended;
        self.note(committed.order, record, sender);
        if stands_outside {
            self.advance();
            return;
        }
        let placed = (key.topic, key.incarnation, key.count, aggregate);
        let partition = *self.placed.entry(placed).or_insert(record.partition);
        assert_eq!(
            partition, record.partition,
            "placement: aggregate {aggregate} moved without need"
        );
        let is_late = sender.is_late || sender.session <= self.broken_off;
        let session = (!is_late).then_some((sender.session, sender.epoch));
        let log = self.logs.entry(key).or_default();
        if !is_late {
            let (events, committed_events, era) = (&self.events, &self.committed, self.era);
            let comes_again = |order: usize| {
                !is_letter || events[committed_events[order]].is_firmly_redirected(era)
            };
            log.check_gap(committed.order, &key, comes_again);
        }
        log.append(committed.order, is_new, session, &key);
        let own = (key.topic, key.incarnation, key.partition, aggregate);
        let log = self.aggregates.entry(own).or_default();
        log.append(committed.order, is_new, session, &key);
        if is_late && !is_new {
            self.late_repeats += 1;
        }
        self.advance();
    }

    /// An event or its dead letter is in Kafka. A promise: what was given up is not delivered where
    /// nothing has changed.
    fn note(&mut self, order: usize, record: &Record, sender: Sender) {
        let era = self.era;
        let event = &mut self.events[self.committed[order]];
        self.appended += 1;
        if content::cause(record).is_some() {
            self.letters += 1;
            let has_value = record.value().is_some() || event.payload.is_none();
            self.letters_without_value += usize::from(!has_value);
            event.has_letter = true;
            return;
        }
        event.in_kafka = true;
        if !sender.is_late {
            event.delivered = Some((sender.process, era));
            let is_firm = event.is_firmly_redirected(era);
            assert!(
                !is_firm,
                "dead letter: {} is delivered all the same",
                event.id
            );
        }
    }
}

impl Log {
    /// A session goes up; only another one may start further back. What was never in Kafka comes
    /// behind everything that is there, also when it comes late.
    fn append(&mut self, order: usize, is_new: bool, session: Option<(u64, u32)>, key: &LogKey) {
        if let Some((last_sender, last)) = self.last
            && let Some(sender) = session
        {
            assert!(
                order > last || sender != last_sender,
                "order: {key:?} has event {order} behind {last}"
            );
        }
        if is_new && let Some(later) = self.members.range(order..).next() {
            panic!("order: {key:?} has the new event {order} behind {later}");
        }
        self.members.insert(order);
        self.last = session.map(|session| (session, order)).or(self.last);
    }

    /// Whoever goes up leaves out nothing that is there.
    fn check_gap(&self, order: usize, key: &LogKey, comes_again: impl Fn(usize) -> bool) {
        if let Some((_, last)) = self.last
            && order > last
            && let mut between = self.members.range(last + 1..order).copied()
            && let Some(skipped) = between.find(|order| comes_again(*order))
        {
            panic!("order: {key:?} has event {order} again, but not {skipped} before it");
        }
    }
}
