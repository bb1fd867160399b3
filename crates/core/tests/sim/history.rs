//! What was committed and what Kafka holds, and the promises that tie both together.
//!
//! A broken promise panics: the seed is printed with it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;
use walpost_core::{Position, Record};
use walpost_pgoutput::Lsn;

/// One outbox row, written by the application.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) topic: usize,
    pub(crate) aggregate: u32,
    pub(crate) payload: Option<Bytes>,
    pub(crate) poison: bool,
    /// Set when the commit is on disk.
    committed: Option<Committed>,
    in_kafka: bool,
}

#[derive(Clone, Copy, Debug)]
struct Committed {
    position: Position,
    /// Number among all events, in commit order.
    order: usize,
}

/// One topic-partition, as long as the topic is not made anew and its count stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogKey {
    pub(crate) topic: usize,
    pub(crate) incarnation: u32,
    /// The count that the sender placed by.
    pub(crate) count: u32,
    pub(crate) partition: i32,
}

#[derive(Debug, Default)]
struct Log {
    /// The events in it, by commit order number.
    members: BTreeSet<usize>,
    /// Who appended last, and what.
    last: Option<(u64, usize)>,
}

/// The ledger of a run.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: Vec<Event>,
    /// Committed events in commit order.
    committed: Vec<usize>,
    /// All of `committed` before this one are in Kafka.
    delivered: usize,
    logs: BTreeMap<LogKey, Log>,
    /// The same for each aggregate alone: also a count that changes keeps its order. (It can leave
    /// a partition and come back to it.)
    aggregates: BTreeMap<(usize, u32, i32, u32), Log>,
    placed: BTreeMap<(usize, u32, u32, u32), i32>,
    pub(crate) appended: usize,
}

impl History {
    /// Writes down a new row; nothing is promised before its commit.
    pub(crate) fn write(
        &mut self,
        topic: usize,
        aggregate: u32,
        payload: Option<Bytes>,
        poison: bool,
    ) -> usize {
        let number = self.events.len();
        self.events.push(Event {
            id: Uuid::from_u128(0xA000_0000_0000_4000_8000_0000_0000_0000 + number as u128),
            topic,
            aggregate,
            payload,
            poison,
            committed: None,
            in_kafka: false,
        });
        number
    }

    pub(crate) fn event(&self, number: usize) -> &Event {
        &self.events[number]
    }

    /// A transaction is committed and on disk: from here on its events are owed.
    pub(crate) fn commit(&mut self, commit_lsn: u64, events: &[usize]) {
        for (ordinal, number) in events.iter().enumerate() {
            let position = Position {
                commit_lsn: Lsn::new(commit_lsn),
                ordinal: u32::try_from(ordinal).expect("few rows"),
            };
            let order = self.committed.len();
            self.events[*number].committed = Some(Committed { position, order });
            self.committed.push(*number);
        }
    }

    /// Number of committed events.
    pub(crate) fn owed(&self) -> usize {
        self.committed.len()
    }

    /// Whether every committed event is in Kafka.
    pub(crate) fn is_complete(&self) -> bool {
        self.delivered == self.committed.len()
    }

    /// Where the last commit record with events starts.
    pub(crate) fn last_commit(&self) -> u64 {
        let last = self.committed.last();
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
        let key = record.key.as_ref().expect("every record has a key");
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
    pub(crate) fn check_flush(&self, flush: Lsn) {
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
    pub(crate) fn append(&mut self, record: &Record, key: LogKey, sender: u64) {
        let event = self.find(record);
        let Some(committed) = event.committed else {
            panic!("phantom: {} was never committed", event.id);
        };
        check_content(event, committed.position, record);
        assert_eq!(event.topic, key.topic, "{} is in another topic", event.id);
        let aggregate = event.aggregate;
        let is_new = !event.in_kafka;
        let placed = (key.topic, key.incarnation, key.count, aggregate);
        let partition = *self.placed.entry(placed).or_insert(record.partition);
        assert_eq!(
            partition, record.partition,
            "placement: aggregate {aggregate} moved without need"
        );
        let number = self.committed[committed.order];
        let log = self.logs.entry(key).or_default();
        log.check_gap(committed.order, &key);
        log.append(committed.order, is_new, sender, &key);
        let own = (key.topic, key.incarnation, key.partition, aggregate);
        let log = self.aggregates.entry(own).or_default();
        log.append(committed.order, is_new, sender, &key);
        self.events[number].in_kafka = true;
        self.appended += 1;
        while let Some(number) = self.committed.get(self.delivered)
            && self.events[*number].in_kafka
        {
            self.delivered += 1;
        }
    }
}

impl Log {
    /// A sender goes up; only another one may start further back. What was never in Kafka comes
    /// behind everything that is there.
    fn append(&mut self, order: usize, is_new: bool, sender: u64, key: &LogKey) {
        if let Some((last_sender, last)) = self.last {
            assert!(
                order > last || sender != last_sender,
                "order: {key:?} has event {order} behind {last}"
            );
        }
        if is_new && let Some(later) = self.members.range(order..).next() {
            panic!("order: {key:?} has the new event {order} behind {later}");
        }
        self.members.insert(order);
        self.last = Some((sender, order));
    }

    /// Whoever goes up leaves out nothing that is there.
    fn check_gap(&self, order: usize, key: &LogKey) {
        if let Some((_, last)) = self.last
            && order > last
            && let Some(skipped) = self.members.range(last + 1..order).next()
        {
            panic!("order: {key:?} has event {order} again, but not {skipped} before it");
        }
    }
}

fn check_content(event: &Event, position: Position, record: &Record) {
    let id = event.id.to_string();
    assert_eq!(record.position, position, "{id} has another position");
    assert_eq!(record.value, event.payload, "{id} has another value");
    let header = |name: &str| {
        let found = record.headers.iter().find(|header| header.name() == name);
        found.and_then(|header| header.value.as_deref())
    };
    assert_eq!(header("id"), Some(id.as_bytes()));
    assert_eq!(header("type"), Some(&b"Happened"[..]));
    assert_eq!(header("walpost-position"), Some(&position.to_text()[..]));
    assert!(header("walpost-commit-time").is_some());
}
