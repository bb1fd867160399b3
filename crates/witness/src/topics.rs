//! Kafka: everything in the topics, and samples of their ends.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use postgres::Client;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
};

use crate::{
    history::{Lsn, Sample},
    postgres::{confirmed, connect},
    record::Record,
};

/// Topics of a cluster.
#[derive(Clone, Debug)]
pub struct Topics {
    brokers: String,
    properties: Vec<(String, String)>,
    names: Vec<String>,
}

impl Topics {
    /// Topics by their names, and further properties of librdkafka.
    pub fn new(brokers: &str, names: &[String], properties: &[(String, String)]) -> Self {
        Self {
            brokers: brokers.to_owned(),
            properties: properties.to_vec(),
            names: names.to_vec(),
        }
    }

    /// Everything from each partition's first record to its end as it is now. What was written in
    /// transactions that were aborted is not among it.
    ///
    /// # Errors
    ///
    /// When the cluster does not give it within the deadline.
    pub fn read(&self, deadline: Duration) -> Result<Vec<Record>, String> {
        let until = Instant::now() + deadline;
        let Opened {
            consumer,
            ends: mut missing,
        } = loop {
            match self.open() {
                Ok(opened) => break opened,
                Err(_) if Instant::now() < until => std::thread::sleep(ASK_INTERVAL),
                Err(error) => return Err(format!("ask for the ends of the topics: {error}")),
            }
        };
        let mut records = Vec::new();
        while !missing.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            match consumer.poll(left.min(ANSWER_TIMEOUT)) {
                Some(Ok(message)) => {
                    let record = Record::from(&message);
                    let place = (record.topic.clone(), record.partition);
                    if let Some(end) = missing.get(&place)
                        && record.offset + 1 >= *end
                    {
                        missing.remove(&place);
                    }
                    records.push(record);
                }
                Some(Err(KafkaError::MessageConsumption(_))) | None if !left.is_zero() => {}
                Some(Err(error)) => return Err(format!("read the topics: {error}")),
                None => return Err(format!("not within {deadline:?}: the ends {missing:?}")),
            }
        }
        Ok(records)
    }

    fn open(&self) -> KafkaResult<Opened> {
        let consumer = self.consumer()?;
        let mut assignment = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for (topic, partition) in self.partitions(&consumer, ANSWER_TIMEOUT)? {
            let (first, end) = consumer.fetch_watermarks(&topic, partition, ANSWER_TIMEOUT)?;
            assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
            if end > first {
                ends.insert((topic, partition), end);
            }
        }
        consumer.assign(&assignment)?;
        Ok(Opened { consumer, ends })
    }

    fn partitions(
        &self,
        consumer: &BaseConsumer,
        timeout: Duration,
    ) -> KafkaResult<Vec<(String, i32)>> {
        let mut partitions = Vec::new();
        for name in &self.names {
            let metadata = consumer.fetch_metadata(Some(name), timeout)?;
            let topics = metadata.topics().iter();
            for topic in topics.filter(|topic| topic.name() == name) {
                let ids = topic.partitions().iter().map(|partition| partition.id());
                partitions.extend(ids.map(|id| (name.clone(), id)));
            }
        }
        Ok(partitions)
    }

    fn consumer(&self) -> KafkaResult<BaseConsumer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "walpost-witness")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "50")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "500")
            // A broker that is away is part of many histories.
            .set("log_level", "0");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.create()
    }
}

/// A reader of all partitions from their beginnings, and where those that hold something end.
struct Opened {
    consumer: BaseConsumer,
    ends: BTreeMap<(String, i32), i64>,
}

/// Looks at what is confirmed, and then where the topics end.
pub struct Sampler {
    url: String,
    slot: String,
    topics: Topics,
    database: Option<Client>,
    cluster: Option<BaseConsumer>,
}

impl Sampler {
    /// For the slot of a relay in a database, and the topics that it sends to.
    pub fn new(url: &str, slot: &str, topics: Topics) -> Self {
        Self {
            url: url.to_owned(),
            slot: slot.to_owned(),
            topics,
            database: None,
            cluster: None,
        }
    }

    /// One look.
    ///
    /// # Errors
    ///
    /// Which side does not answer: no finding, only no sample.
    pub fn sample(&mut self) -> Result<Sample, String> {
        // The order matters: what is confirmed has to be in Kafka already.
        let confirmed = self
            .confirmed()
            .map_err(|error| format!("Postgres: {error}"))?;
        let ends = self.ends().map_err(|error| format!("Kafka: {error}"))?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_ms = at.ok().and_then(|at| i64::try_from(at.as_millis()).ok());
        Ok(Sample {
            confirmed,
            ends,
            at_ms: at_ms.ok_or("the clock is wrong")?,
        })
    }

    fn confirmed(&mut self) -> Result<Lsn, postgres::Error> {
        let mut session = match self.database.take() {
            Some(session) => session,
            None => {
                let mut session = connect(&self.url)?;
                session.batch_execute(LIMIT)?;
                session
            }
        };
        let found = confirmed(&mut session, &self.slot)?;
        self.database = Some(session);
        Ok(found)
    }

    fn ends(&mut self) -> KafkaResult<BTreeMap<(String, i32), i64>> {
        let cluster = match self.cluster.take() {
            Some(cluster) => cluster,
            None => self.topics.consumer()?,
        };
        let mut ends = BTreeMap::new();
        // Asked each time: a topic may get further partitions.
        for (topic, partition) in self.topics.partitions(&cluster, SAMPLE_TIMEOUT)? {
            let (_, end) = cluster.fetch_watermarks(&topic, partition, SAMPLE_TIMEOUT)?;
            ends.insert((topic, partition), end);
        }
        self.cluster = Some(cluster);
        Ok(ends)
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler")
            .field("slot", &self.slot)
            .field("topics", &self.topics.names)
            .finish_non_exhaustive()
    }
}

/// A side that is away is no reason to miss the next sample.
const SAMPLE_TIMEOUT: Duration = Duration::from_millis(500);
const LIMIT: &str = "set statement_timeout = '500ms'; set lock_timeout = '500ms'";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_INTERVAL: Duration = Duration::from_millis(100);
