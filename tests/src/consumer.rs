//! Reading topics as any consumer does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use uuid::Uuid;
use walpost_witness::Record;

use crate::{Ledger, try_wait_until};

/// Everything in the topic now: from each partition's first record to its end as it is when this
/// is called.
///
/// # Panics
///
/// When the topic is unknown or the broker does not deliver it within a minute.
#[track_caller]
pub fn read_all(brokers: &str, topic: &str) -> Vec<Record> {
    let mut consumer = Consumer::new(brokers, topic);
    consumer.read_to_end(Duration::from_secs(60));
    consumer.into_records()
}

/// A reader of all partitions of a topic from their first records on, outside any group. Records
/// are kept in the order in which they were read: offset order within each partition.
pub struct Consumer {
    consumer: BaseConsumer,
    topic: String,
    partitions: Vec<i32>,
    next: BTreeMap<i32, i64>,
    records: Vec<Record>,
    events: BTreeSet<Uuid>,
}

impl Consumer {
    /// A reader of the partitions that the topic has now.
    ///
    /// # Panics
    ///
    /// When the broker does not know the topic or does not answer within 30 s.
    #[track_caller]
    pub fn new(brokers: &str, topic: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "unused")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "10")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            // A broker that is down is part of many tests.
            .set("log_level", "0")
            .create()
            .expect("the configuration of the consumer is valid");
        let metadata = consumer
            .fetch_metadata(Some(topic), ANSWER_TIMEOUT)
            .unwrap_or_else(|error| panic!("ask for the topic {topic}: {error}"));
        let described = metadata
            .topics()
            .iter()
            .find(|described| described.name() == topic);
        let partitions: Vec<i32> = described
            .map(|topic| {
                topic
                    .partitions()
                    .iter()
                    .map(|partition| partition.id())
                    .collect()
            })
            .unwrap_or_default();
        assert!(
            !partitions.is_empty(),
            "the broker does not know the topic {topic}"
        );

        let mut assignment = TopicPartitionList::new();
        for partition in &partitions {
            let added = assignment.add_partition_offset(topic, *partition, Offset::Beginning);
            added.expect("the beginning is a valid offset");
        }
        consumer
            .assign(&assignment)
            .expect("assign partitions that exist");
        let topic = topic.to_owned();
        Self {
            consumer,
            topic,
            partitions,
            next: BTreeMap::new(),
            records: Vec::new(),
            events: BTreeSet::new(),
        }
    }

    /// What was read until now.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What was read until now, for keeping.
    pub fn into_records(self) -> Vec<Record> {
        self.records
    }

    /// Reads until there are `count` records in all.
    ///
    /// # Panics
    ///
    /// When there are fewer at the deadline.
    #[track_caller]
    pub fn wait_for(&mut self, count: usize, deadline: Duration) -> &[Record] {
        if !self.read_until(deadline, |records| records.len() >= count) {
            let read = self.records.len();
            panic!(
                "not within {deadline:?}: {count} records in {}; read {read}",
                self.topic
            );
        }
        &self.records
    }

    /// Reads until `enough` says so, which is asked after each record and at least once.
    ///
    /// # Panics
    ///
    /// When it has not by the deadline, naming `what`.
    #[track_caller]
    pub fn wait_until(
        &mut self,
        what: &str,
        deadline: Duration,
        enough: impl FnMut(&[Record]) -> bool,
    ) -> &[Record] {
        if !self.read_until(deadline, enough) {
            let read = self.records.len();
            panic!(
                "not within {deadline:?}: {what}; read {read} records in {}",
                self.topic
            );
        }
        &self.records
    }

    /// How many different events there are in what was read.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Reads until there are `count` more events than now; repeats don't count.
    ///
    /// # Panics
    ///
    /// When there are fewer at the deadline.
    #[track_caller]
    pub fn wait_for_new_events(&mut self, count: usize, deadline: Duration) {
        let wanted = self.events.len() + count;
        let end = Instant::now() + deadline;
        while self.events.len() < wanted {
            let (read, topic) = (self.read_one(end), &self.topic);
            let events = self.events.len();
            assert!(
                read,
                "not within {deadline:?}: {wanted} events in {topic}; read {events}"
            );
        }
    }

    /// Reads until every committed event of the ledger has been seen.
    ///
    /// # Panics
    ///
    /// When some have not by the deadline, with their number.
    #[track_caller]
    pub fn wait_for_events(&mut self, ledger: &Ledger, deadline: Duration) -> &[Record] {
        let mut missing: BTreeSet<Uuid> = ledger.committed.iter().map(|event| event.id).collect();
        missing.retain(|id| !self.events.contains(id));
        let end = Instant::now() + deadline;
        while !missing.is_empty() {
            let (read, topic) = (self.read_one(end), &self.topic);
            let (all, gone) = (ledger.committed.len(), missing.len());
            assert!(
                read,
                "not within {deadline:?}: {gone} of {all} events in {topic}"
            );
            if let Some(id) = self.records.last().and_then(Record::event_id) {
                missing.remove(&id);
            }
        }
        &self.records
    }

    /// Reads for that long, whatever comes: for what should *not* arrive.
    pub fn read_for(&mut self, duration: Duration) -> &[Record] {
        self.read_until(duration, |_| false);
        &self.records
    }

    /// Reads up to the ends that the partitions have now.
    ///
    /// # Panics
    ///
    /// When that takes longer than the deadline.
    #[track_caller]
    pub fn read_to_end(&mut self, deadline: Duration) -> &[Record] {
        let mut missing: BTreeMap<i32, i64> = BTreeMap::new();
        for partition in &self.partitions {
            let (first, end) = self.watermarks(*partition);
            if end > first && self.next.get(partition).is_none_or(|next| *next < end) {
                missing.insert(*partition, end);
            }
        }
        let end = Instant::now() + deadline;
        while !missing.is_empty() {
            let read = self.read_one(end);
            assert!(
                read,
                "not within {deadline:?}: the ends {missing:?} of {}",
                self.topic
            );
            missing
                .retain(|partition, end| self.next.get(partition).is_none_or(|next| *next < *end));
        }
        &self.records
    }

    /// The first offset of a partition and its end.
    ///
    /// A broker that was away a moment ago may answer for a topic of which it does not know every
    /// partition yet. The client keeps such an answer for minutes and looks at nothing else, so
    /// each new try begins with an answer of its own.
    #[track_caller]
    fn watermarks(&self, partition: i32) -> (i64, i64) {
        let mut last = None;
        let found = try_wait_until(ANSWER_TIMEOUT, || {
            if last.is_some() {
                let asked = self.consumer.fetch_metadata(Some(&self.topic), ASK_TIMEOUT);
                asked.map_err(|error| last = Some(error)).ok()?;
            }
            let asked = self
                .consumer
                .fetch_watermarks(&self.topic, partition, ASK_TIMEOUT);
            asked.map_err(|error| last = Some(error)).ok()
        });
        found.unwrap_or_else(|| panic!("ask for the end of {}: {last:?}", self.topic))
    }

    fn read_until(
        &mut self,
        deadline: Duration,
        mut enough: impl FnMut(&[Record]) -> bool,
    ) -> bool {
        let end = Instant::now() + deadline;
        loop {
            if enough(&self.records) {
                return true;
            }
            if !self.read_one(end) {
                return false;
            }
        }
    }

    /// Reads one record; `false` when none came until `end`.
    #[track_caller]
    fn read_one(&mut self, end: Instant) -> bool {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    self.next.insert(message.partition(), message.offset() + 1);
                    let record = Record::from(&message);
                    self.events.extend(record.event_id());
                    self.records.push(record);
                    return true;
                }
                // The broker is away or a topic is being made: the client goes on trying.
                Some(Err(KafkaError::MessageConsumption(_))) if !left.is_zero() => {}
                Some(Err(error)) => panic!("read {}: {error}", self.topic),
                None => return false,
            }
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("topic", &self.topic)
            .field("next", &self.next)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// A question that the broker did not hear is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
