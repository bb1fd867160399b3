//! What the tests of the producer share.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use walpost_kafka::{Delivery, Header, MockBroker, Producer, Record, SendError, Settings};

/// Nothing here takes longer unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn settings(broker: &MockBroker) -> Settings {
    settings_with(broker, &[])
}

pub(crate) fn settings_with(broker: &MockBroker, pairs: &[(&str, &str)]) -> Settings {
    let user: BTreeMap<String, String> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Settings::new(&broker.bootstrap(), &user, "test", false).unwrap()
}

pub(crate) fn record<'a>(
    topic: &'a str,
    partition: i32,
    value: &'a [u8],
    opaque: u64,
) -> Record<'a> {
    Record {
        topic,
        partition,
        key: None,
        value: Some(value),
        headers: &[],
        opaque,
    }
}

/// Sends a record as soon as the producer takes it.
pub(crate) async fn send(
    producer: &mut Producer,
    record: &Record<'_>,
    deliveries: &mut Vec<Delivery>,
) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = producer.send(record) {
        assert_eq!(error, SendError::QueueFull);
        tokio::time::timeout_at(deadline, producer.ready())
            .await
            .expect("no report came");
        producer.poll(deliveries);
    }
}

/// Sends one record to each of the partitions, after which records can be sent close together.
pub(crate) async fn warm(producer: &mut Producer, topic: &str, partitions: i32) {
    let mut deliveries = Vec::new();
    for partition in 0..partitions {
        producer
            .send(&record(topic, partition, b"first", 0))
            .unwrap();
    }
    settle(producer, &mut deliveries).await;
    assert!(
        deliveries.iter().all(|delivery| delivery.result.is_ok()),
        "{deliveries:?}"
    );
}

/// Polls whenever the producer says so, until nothing is in flight.
pub(crate) async fn settle(producer: &mut Producer, deliveries: &mut Vec<Delivery>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while producer.in_flight() > 0 {
        tokio::time::timeout_at(deadline, producer.ready())
            .await
            .expect("no report came");
        producer.poll(deliveries);
    }
}

/// One record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads a topic's partitions from their beginnings until `count` records were seen.
pub(crate) fn consume(
    broker: &MockBroker,
    topic: &str,
    partitions: i32,
    count: usize,
) -> Vec<Seen> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while seen.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} records were seen",
            seen.len()
        );
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            seen.push(as_seen(&message));
        }
    }
    seen
}

fn as_seen(message: &BorrowedMessage<'_>) -> Seen {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    Seen {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

pub(crate) fn header<'a>(name: &'a str, value: Option<&'a [u8]>) -> Header<'a> {
    Header { name, value }
}
