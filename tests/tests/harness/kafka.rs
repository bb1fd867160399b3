//! Brokers, topics, and reading them.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use walpost_tests::{Consumer, Kafka, Record, read_all};

use crate::SOON;

#[test]
fn records_come_back_as_they_were_produced() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("round_trip", 3);
    produce(&kafka.brokers(), &topic, 0..30);
    let records = read_all(&kafka.brokers(), &topic);
    assert_eq!(records.len(), 30);
    for partition in 0..3 {
        let of: Vec<&Record> = records
            .iter()
            .filter(|r| r.partition == partition)
            .collect();
        assert_eq!(of.len(), 10);
        assert!(
            of.iter()
                .zip(0..)
                .all(|(record, offset)| record.offset == offset)
        );
    }
    let record = &records
        .iter()
        .find(|record| record.key_text() == Some("7"))
        .unwrap();
    assert_eq!(record.partition, 1);
    assert_eq!(record.json(), Some(serde_json::json!({"n": 7})));
    assert!(record.timestamp.is_some());
    assert_eq!(
        record.headers,
        [
            ("id".to_owned(), Some(b"7".to_vec())),
            ("none".to_owned(), None)
        ]
    );
}

#[test]
fn a_killed_broker_keeps_its_records_and_its_address() {
    let kafka = Kafka::new();
    let topic = kafka.topic_with("kept", 1, &[("max.message.bytes", "5000")]);
    produce(&kafka.brokers(), &topic, 0..10);
    let brokers = kafka.brokers();
    kafka.kill();
    assert!(!kafka.is_running());
    let started = Instant::now();
    kafka.start();
    println!("started again in {:?}", started.elapsed());
    assert_eq!(kafka.brokers(), brokers);
    produce(&kafka.brokers(), &topic, 10..20);
    assert_eq!(read_all(&brokers, &topic).len(), 20);

    let started = Instant::now();
    kafka.stop();
    println!("stopped in {:?}", started.elapsed());
    kafka.start();
    assert_eq!(read_all(&brokers, &topic).len(), 20);
}

#[test]
fn topics_are_deleted_grown_and_never_made_by_accident() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("changing", 1);
    kafka.grow_topic(&topic, 4);
    assert_eq!(kafka.partitions(&topic), Some(4));
    kafka.delete_topic(&topic);
    assert_eq!(kafka.partitions(&topic), Some(0));
    assert_eq!(kafka.partitions("nobody_made_this"), Some(0));
}

#[test]
fn a_consumer_waits_for_what_comes_later() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("later", 2);
    let mut consumer = Consumer::new(&kafka.brokers(), &topic);
    assert!(consumer.read_for(Duration::from_millis(50)).is_empty());
    produce(&kafka.brokers(), &topic, 0..4);
    assert_eq!(consumer.wait_for(4, SOON).len(), 4);
    produce(&kafka.brokers(), &topic, 4..6);
    consumer.wait_until("key 5", SOON, |records| {
        records.iter().any(|record| record.key_text() == Some("5"))
    });
    assert_eq!(consumer.read_to_end(SOON).len(), 6);
}

#[test]
fn a_client_of_a_proxied_listener_never_goes_past_the_proxy() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("proxied", 1);
    let proxy = kafka.proxy();
    produce(&proxy.address(), &topic, 0..5);
    assert_eq!(read_all(&kafka.brokers(), &topic).len(), 5);

    let producer = producer(&proxy.address());
    send(&producer, &topic, 5);
    producer.flush(SOON).unwrap();
    proxy.down();
    send(&producer, &topic, 6);
    assert!(producer.flush(Duration::from_millis(500)).is_err());
    assert_eq!(read_all(&kafka.brokers(), &topic).len(), 6);
    proxy.resume();
    producer.flush(SOON).unwrap();
    assert_eq!(read_all(&kafka.brokers(), &topic).len(), 7);
}

#[test]
fn a_frozen_broker_answers_when_it_goes_on() {
    let kafka = Kafka::new();
    let topic = kafka.topic("frozen", 1);
    let producer = producer(&kafka.brokers());
    send(&producer, &topic, 0);
    producer.flush(SOON).unwrap();
    kafka.pause();
    send(&producer, &topic, 1);
    assert!(producer.flush(Duration::from_millis(500)).is_err());
    kafka.resume();
    producer.flush(SOON).unwrap();
    assert_eq!(read_all(&kafka.brokers(), &topic).len(), 2);
}

fn producer(brokers: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("reconnect.backoff.max.ms", "100")
        .set("log_level", "0")
        .create()
        .unwrap()
}

fn produce(brokers: &str, topic: &str, numbers: Range<i32>) {
    let producer = producer(brokers);
    numbers.for_each(|number| send(&producer, topic, number));
    producer.flush(SOON).unwrap();
}

fn send(producer: &BaseProducer, topic: &str, number: i32) {
    let partitions = producer
        .client()
        .fetch_metadata(Some(topic), Duration::from_secs(10))
        .map_or(1, |metadata| {
            i32::try_from(metadata.topics()[0].partitions().len()).unwrap()
        });
    let (key, value) = (number.to_string(), format!(r#"{{"n": {number}}}"#));
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "id",
            value: Some(&key),
        })
        .insert(Header::<&[u8]> {
            key: "none",
            value: None,
        });
    let record = BaseRecord::to(topic)
        .key(&key)
        .payload(&value)
        .partition(number % partitions)
        .headers(headers);
    producer.send(record).map_err(|(error, _)| error).unwrap();
}
