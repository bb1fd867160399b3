//! A reader of one topic, outside any group: every partition, from its beginning or its end.
//!
//! It commits nothing and joins nothing. It is for showing what is in a topic, not for processing
//! it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::LOG_TARGET;
use crate::context::LogContext;
use crate::creation;
use crate::error::{Error, ErrorCode};
use crate::native;
use crate::oauth::{Refresher, TokenSource};
use crate::properties::Settings;

/// Where reading begins, in every partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record that the broker still has.
    Beginning,
    /// The first record that comes after [`Consumer::new`].
    End,
}

/// One record, as any consumer sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Where it was read.
    pub topic: String,
    /// The partition, counted from 0.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, by the producer's or the broker's clock as the topic is set.
    pub timestamp_ms: Option<i64>,
    /// The key; `None` is Kafka's null.
    pub key: Option<Vec<u8>>,
    /// The headers in the order of the record. Names can repeat; a `None` is Kafka's null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Shows sizes only: payloads don't belong in logs.
impl fmt::Debug for ConsumedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumedRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("key_bytes", &self.key.as_ref().map(Vec::len))
            .field("headers", &self.headers.len())
            .field("value_bytes", &self.value.as_ref().map(Vec::len))
            .finish()
    }
}

/// Reads every partition of a topic.
///
/// [`poll`](Self::poll) blocks, so it wants a thread of its own. Records come in offset order
/// within a partition, in any order across partitions. Partitions that are added later are not
/// read.
pub struct Consumer {
    _tokens: Option<Refresher>,
    client: Arc<BaseConsumer<LogContext>>,
    partitions: usize,
}

impl Consumer {
    /// Connects and finds the partitions. Of the settings, those of the connection and of fetching
    /// are used. `timeout` covers all of it.
    ///
    /// # Errors
    ///
    /// With [`ErrorCode::UNKNOWN_TOPIC_OR_PART`] when there is no such topic; when the cluster did
    /// not answer in time, or librdkafka takes a setting from no consumer.
    pub fn new(
        settings: &Settings,
        topic: &str,
        from: ReadFrom,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let action = "read a topic";
        let failed = |error: KafkaError| Error::from_kafka(action, &error);
        let deadline = Instant::now() + timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        let context = LogContext {
            redactor: settings.redactor(),
        };
        let client: BaseConsumer<LogContext> = reading_config(settings)
            .create_with_context(context)
            .map_err(|error| creation::explained(action, &error, settings))?;
        let client = Arc::new(client);
        let tokens = settings.tokens().map(|source| supply(&client, source));
        let tokens = tokens
            .transpose()
            .map_err(|error| Error::new(action, format!("no thread for tokens: {error}")))?;

        let partitions = partitions(&client, topic, action, left())?;
        let mut assignment = TopicPartitionList::new();
        for partition in &partitions {
            // The end is asked for now: "the end" as librdkafka knows it would be that of the first
            // fetch, and what came before that would be missed.
            let offset = match from {
                ReadFrom::Beginning => Offset::Beginning,
                ReadFrom::End => {
                    let watermarks = client.fetch_watermarks(topic, *partition, left());
                    Offset::Offset(watermarks.map_err(failed)?.1)
                }
            };
            assignment
                .add_partition_offset(topic, *partition, offset)
                .map_err(failed)?;
        }
        client.assign(&assignment).map_err(failed)?;
        Ok(Self {
            _tokens: tokens,
            client,
            partitions: partitions.len(),
        })
    }

    /// How many partitions are read.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Waits for the next record, at most `timeout`. Trouble with the connection is not an error:
    /// librdkafka goes on trying, and nothing comes until it succeeds.
    ///
    /// # Errors
    ///
    /// When reading can't go on: the topic is gone or may not be read, or the client failed.
    pub fn poll(&self, timeout: Duration) -> Result<Option<ConsumedRecord>, Error> {
        match self.client.poll(timeout) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(owned(&message))),
            Some(Err(error)) if is_passing(&error) => {
                let code = ErrorCode::of(&error);
                tracing::debug!(target: LOG_TARGET, %code, "reading waits for the cluster");
                Ok(None)
            }
            Some(Err(error)) => Err(Error::from_kafka("read a topic", &error)),
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl ConsumerContext for LogContext {}

/// Keeps a consumer supplied with tokens.
fn supply(
    client: &Arc<BaseConsumer<LogContext>>,
    source: &Arc<TokenSource>,
) -> io::Result<Refresher> {
    let client = Arc::downgrade(client);
    Refresher::start(Arc::clone(source), move |token| {
        let Some(client) = client.upgrade() else {
            return false;
        };
        let told = token.map_err(ToString::to_string);
        let told = told.and_then(|token| native::set_token(client.client(), token));
        if let Err(why) = told {
            tracing::warn!(target: LOG_TARGET, why, "no token to read with");
            native::set_token_failure(client.client(), &why);
        }
        true
    })
}

/// The settings of the connection and of fetching. A producer's other settings are unknown to a
/// consumer, which would warn about each of them.
fn reading_config(settings: &Settings) -> ClientConfig {
    const SHARED: &[&str] = &[
        "bootstrap.servers",
        "broker.",
        "client.",
        "enable.sasl.",
        "enable.ssl.",
        "fetch.",
        "metadata.",
        "reconnect.",
        "sasl.",
        "security.",
        "socket.",
        "ssl.",
    ];
    let producing = settings.client_config();
    let mut reading = ClientConfig::new();
    for (name, value) in producing.config_map() {
        if SHARED.iter().any(|prefix| name.starts_with(prefix)) {
            reading.set(name, value);
        }
    }
    // librdkafka assigns partitions to nobody without a group. Nothing is ever committed under it.
    reading
        .set("group.id", "walpost-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("allow.auto.create.topics", "false")
        .set_log_level(producing.log_level);
    reading
}

fn partitions(
    client: &BaseConsumer<LogContext>,
    topic: &str,
    action: &'static str,
    timeout: Duration,
) -> Result<Vec<i32>, Error> {
    let metadata = client
        .fetch_metadata(Some(topic), timeout)
        .map_err(|error| Error::from_kafka(action, &error))?;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PART;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(Error::with_code(action, unknown));
    };
    if let Some(code) = found.error() {
        return Err(Error::with_code(action, ErrorCode(code as i32)));
    }
    if found.partitions().is_empty() {
        return Err(Error::with_code(action, unknown));
    }
    Ok(found.partitions().iter().map(|one| one.id()).collect())
}

/// Whether librdkafka goes on by itself.
fn is_passing(error: &KafkaError) -> bool {
    let lasting = [
        ErrorCode::FATAL,
        ErrorCode::UNKNOWN_TOPIC_OR_PART,
        ErrorCode::UNKNOWN_PARTITION,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::AUTHENTICATION,
    ];
    !lasting.contains(&ErrorCode::of(error))
}

fn owned(message: &BorrowedMessage<'_>) -> ConsumedRecord {
    let headers = message.headers().map(|headers| {
        let owned = |value: &[u8]| value.to_owned();
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(owned)))
            .collect()
    });
    ConsumedRecord {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_owned),
        headers: headers.unwrap_or_default(),
        value: message.payload().map(<[u8]>::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{Header, MockBroker, Producer, Record};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn records_are_read_whole_from_every_partition() {
        let broker = broker();
        let settings = settings(&broker);
        let headers = [
            Header {
                name: "id",
                value: Some(b"1"),
            },
            Header {
                name: "none",
                value: None,
            },
        ];
        let record = Record {
            topic: "t",
            partition: 1,
            key: Some(b"k"),
            value: Some(b"v"),
            headers: &headers,
            opaque: 0,
        };
        let bare = Record {
            partition: 0,
            key: None,
            value: None,
            headers: &[],
            ..record
        };
        produce(&settings, &[record, bare]);

        let consumer = Consumer::new(&settings, "t", ReadFrom::Beginning, PATIENCE).unwrap();
        assert_eq!(consumer.partitions(), 2);
        let mut read = [next(&consumer), next(&consumer)];
        read.sort_by_key(|record| record.partition);
        let [bare, whole] = read;
        assert!(whole.timestamp_ms.is_some());
        assert_eq!((whole.topic.as_str(), whole.offset), ("t", 0));
        assert_eq!(whole.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(whole.value.as_deref(), Some(&b"v"[..]));
        let expected = [
            ("id".to_owned(), Some(b"1".to_vec())),
            ("none".to_owned(), None),
        ];
        assert_eq!(whole.headers, expected);
        assert_eq!((bare.key, bare.value, bare.headers), (None, None, vec![]));
    }

    #[test]
    fn from_the_end_means_the_end_at_the_start() {
        let broker = broker();
        let settings = settings(&broker);
        produce(&settings, &[value(b"before")]);
        let consumer = Consumer::new(&settings, "t", ReadFrom::End, PATIENCE).unwrap();
        produce(&settings, &[value(b"after")]);
        assert_eq!(next(&consumer).value.as_deref(), Some(&b"after"[..]));
    }

    #[test]
    fn a_missing_topic_is_told_and_not_created() {
        let broker = broker();
        let settings = settings(&broker);
        for _ in 0..2 {
            let opened = Consumer::new(&settings, "missing", ReadFrom::Beginning, PATIENCE);
            let code = opened.unwrap_err().code();
            assert_eq!(code, Some(ErrorCode::UNKNOWN_TOPIC_OR_PART));
        }
    }

    #[test]
    fn a_producers_own_settings_are_left_out() {
        let user = BTreeMap::from([
            ("sasl.username".to_owned(), "app".to_owned()),
            ("linger.ms".to_owned(), "5".to_owned()),
        ]);
        let settings = Settings::new("localhost:1", &user, "test", false).unwrap();
        let config = reading_config(&settings.with("fetch.wait.max.ms", "7"));
        assert_eq!(config.get("sasl.username"), Some("app"));
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("bootstrap.servers"), Some("localhost:1"));
        for producing in ["acks", "linger.ms", "enable.idempotence"] {
            assert_eq!(config.get(producing), None, "{producing}");
        }
    }

    #[test]
    fn a_record_shows_no_payload_in_debug() {
        let broker = broker();
        let settings = settings(&broker);
        produce(&settings, &[value(b"hunter2")]);
        let consumer = Consumer::new(&settings, "t", ReadFrom::Beginning, PATIENCE).unwrap();
        assert!(!format!("{:?}", next(&consumer)).contains("hunter2"));
    }

    fn broker() -> MockBroker {
        let broker = MockBroker::start(1).unwrap();
        broker.create_topic("t", 2, 1).unwrap();
        broker
    }

    fn settings(broker: &MockBroker) -> Settings {
        let none = BTreeMap::new();
        Settings::new(&broker.bootstrap(), &none, "test", false).unwrap()
    }

    fn value(value: &[u8]) -> Record<'_> {
        Record {
            topic: "t",
            partition: 0,
            key: None,
            value: Some(value),
            headers: &[],
            opaque: 0,
        }
    }

    fn next(consumer: &Consumer) -> ConsumedRecord {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(record) = consumer.poll(Duration::from_millis(100)).unwrap() {
                return record;
            }
        }
        panic!("no record came");
    }

    fn produce(settings: &Settings, records: &[Record<'_>]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut producer = Producer::new(settings).unwrap();
            for record in records {
                producer.send(record).unwrap();
            }
            let mut deliveries = Vec::new();
            while producer.in_flight() > 0 {
                let ready = tokio::time::timeout(PATIENCE, producer.ready());
                ready.await.expect("no report came");
                producer.poll(&mut deliveries);
            }
            assert!(deliveries.iter().all(|delivery| delivery.result.is_ok()));
        });
    }
}
