//! What is sent arrives, in order, and every record is reported once.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::{PATIENCE, consume, header, record, send, settings, settings_with, settle, warm};
use walpost_kafka::{ErrorCode, MockBroker, Producer, Record, SendError};

#[tokio::test]
async fn records_arrive_in_order_in_their_partitions_and_bring_their_opaque_back() {
    const PARTITIONS: i32 = 4;
    const COUNT: u64 = 10_000;
    let broker = MockBroker::start(3).unwrap();
    broker.create_topic("orders", PARTITIONS, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    // Not from 0 and not small: the number must survive its journey through a C pointer.
    let base = u64::MAX - COUNT;
    let partition_of = |number: u64| i32::try_from((number * 7) % 4).unwrap();

    let mut deliveries = Vec::new();
    for number in 0..COUNT {
        let value = number.to_be_bytes();
        let record = record("orders", partition_of(number), &value, base + number);
        send(&mut producer, &record, &mut deliveries).await;
        if number % 1_000 == 0 {
            producer.poll(&mut deliveries);
        }
    }
    settle(&mut producer, &mut deliveries).await;

    let mut last = [None; PARTITIONS as usize];
    assert_eq!(deliveries.len(), 10_000);
    for delivery in &deliveries {
        let number = delivery.opaque - base;
        let placed = delivery.result.clone().unwrap();
        assert_eq!(placed.partition, partition_of(number));
        let before = &mut last[usize::try_from(placed.partition).unwrap()];
        assert!(
            *before < Some((number, placed.offset)),
            "reports of a partition are in order"
        );
        *before = Some((number, placed.offset));
    }

    let seen = consume(&broker, "orders", PARTITIONS, 10_000);
    for partition in 0..PARTITIONS {
        let numbers: Vec<u64> = seen
            .iter()
            .filter(|seen| seen.partition == partition)
            .map(|seen| u64::from_be_bytes(seen.value.as_deref().unwrap().try_into().unwrap()))
            .collect();
        let expected: Vec<u64> = (0..COUNT)
            .filter(|number| partition_of(*number) == partition)
            .collect();
        assert_eq!(numbers, expected);
    }
}

#[tokio::test]
async fn key_value_and_headers_arrive_byte_for_byte_and_null_is_not_empty() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    let headers = [
        header("id", Some(b"6f1f")),
        header("empty", Some(b"")),
        header("null", None),
        header("id", Some(b"a name may come twice")),
        header("größe", Some(&[0, 255, 128])),
    ];
    let full = Record {
        topic: "orders",
        partition: 0,
        key: Some(b"key\0with a zero"),
        value: Some(&[0, 1, 2, 255]),
        headers: &headers,
        opaque: 1,
    };
    let empty = Record {
        key: Some(b""),
        value: Some(b""),
        headers: &[],
        opaque: 2,
        ..full
    };
    let tombstone = Record {
        key: Some(b"k"),
        value: None,
        headers: &[],
        opaque: 3,
        ..full
    };
    let mut deliveries = Vec::new();
    for record in [full, empty, tombstone] {
        send(&mut producer, &record, &mut deliveries).await;
    }
    settle(&mut producer, &mut deliveries).await;

    let seen = consume(&broker, "orders", 1, 3);
    assert_eq!(seen[0].key.as_deref(), full.key);
    assert_eq!(seen[0].value.as_deref(), full.value);
    let arrived: Vec<_> = seen[0]
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    let sent: Vec<_> = headers
        .iter()
        .map(|header| (header.name, header.value))
        .collect();
    assert_eq!(arrived, sent);
    assert_eq!(seen[1].key.as_deref(), Some(&b""[..]));
    assert_eq!(seen[1].value.as_deref(), Some(&b""[..]));
    assert_eq!(seen[2].value, None, "a tombstone");
}

/// Reports arrive in small portions here, so the queue runs empty and is filled again thousands of
/// times: a wake-up that is lost once stops the test.
#[tokio::test]
async fn every_acknowledgement_wakes_the_owner_without_a_timer() {
    const COUNT: usize = 100_000;
    const WINDOW: usize = 50;
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 4, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    warm(&mut producer, "orders", 4).await;
    let deadline = tokio::time::Instant::now() + 4 * PATIENCE;
    let (mut sent, mut acknowledged, mut wakes) = (0, 0, 0);
    let mut deliveries = Vec::new();
    while acknowledged < COUNT {
        while sent < COUNT && producer.in_flight() < WINDOW {
            let partition = i32::try_from(sent % 4).unwrap();
            producer
                .send(&record("orders", partition, b"value", sent as u64))
                .unwrap();
            sent += 1;
        }
        tokio::time::timeout_at(deadline, producer.ready())
            .await
            .unwrap_or_else(|_| {
                panic!(
                    "no wake-up with {} in flight after {wakes} wakes",
                    producer.in_flight()
                )
            });
        wakes += 1;
        producer.poll(&mut deliveries);
        acknowledged += deliveries
            .drain(..)
            .filter(|delivery| delivery.result.is_ok())
            .count();
    }
    assert!(wakes > 1_000, "{wakes} wakes are too few to show anything");
    assert_eq!(producer.in_flight(), 0);
}

#[tokio::test]
async fn a_producer_with_nothing_to_report_does_not_wake_its_owner() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    let mut deliveries = Vec::new();
    producer.send(&record("orders", 0, b"value", 1)).unwrap();
    settle(&mut producer, &mut deliveries).await;
    // Log lines and a byte that was already on its way may still wake it a few times.
    let mut wakes = 0;
    while tokio::time::timeout(Duration::from_millis(300), producer.ready())
        .await
        .is_ok()
    {
        producer.poll(&mut deliveries);
        wakes += 1;
        assert!(wakes < 20, "it wakes without a reason");
    }
}

#[tokio::test]
async fn a_wait_that_was_given_up_loses_nothing() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    warm(&mut producer, "orders", 1).await;
    let mut deliveries = Vec::new();
    for number in 0..500 {
        producer
            .send(&record("orders", 0, b"value", number))
            .unwrap();
        let wait = Duration::from_micros(number % 50 * 20);
        let _ = tokio::time::timeout(wait, producer.ready()).await;
        if number % 3 == 0 {
            producer.poll(&mut deliveries);
        }
    }
    settle(&mut producer, &mut deliveries).await;
    let opaques: Vec<u64> = deliveries.iter().map(|delivery| delivery.opaque).collect();
    assert_eq!(opaques, (0..500).collect::<Vec<_>>());
}

#[test]
fn a_producer_can_be_made_outside_a_runtime_and_moved_to_one() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    producer.send(&record("orders", 0, b"value", 9)).unwrap();
    let relay = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut deliveries = Vec::new();
        runtime.block_on(settle(&mut producer, &mut deliveries));
        deliveries
    });
    assert_eq!(relay.join().unwrap()[0].opaque, 9);
}

#[tokio::test]
async fn a_full_queue_is_reported_and_the_record_can_be_sent_later() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let small = settings(&broker).with("queue.buffering.max.messages", "10");
    let mut producer = Producer::new(&small).unwrap();
    warm(&mut producer, "orders", 1).await;
    let mut deliveries = Vec::new();
    let mut sent = 0;
    let refusal = loop {
        match producer.send(&record("orders", 0, b"value", sent)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000, "the queue never filled");
    };
    assert_eq!(refusal, SendError::QueueFull);
    assert_eq!(
        producer.in_flight() as u64,
        sent,
        "the refused record is not in flight"
    );
    settle(&mut producer, &mut deliveries).await;
    producer.send(&record("orders", 0, b"value", sent)).unwrap();
    settle(&mut producer, &mut deliveries).await;
    let opaques: Vec<u64> = deliveries.iter().map(|delivery| delivery.opaque).collect();
    assert_eq!(opaques, (0..=sent).collect::<Vec<_>>());
}

#[tokio::test]
async fn our_own_window_never_fills_the_queue() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let window = settings(&broker).with_window(2_000, 1_000_000);
    let mut producer = Producer::new(&window).unwrap();
    warm(&mut producer, "orders", 1).await;
    broker.all_down().unwrap();
    let value = vec![0; 500];
    for number in 0..2_000 {
        producer.send(&record("orders", 0, &value, number)).unwrap();
    }
    assert_eq!(producer.in_flight(), 2_000);
}

/// A partition that has taken nothing from this producer yet accepts any sequence number: what
/// follows a rejected first batch closely would overtake it.
#[tokio::test]
async fn the_first_record_for_a_partition_travels_alone() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 2, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    producer.send(&record("orders", 0, b"value", 1)).unwrap();
    let refused = producer.send(&record("orders", 0, b"value", 2));
    assert_eq!(refused, Err(SendError::QueueFull));
    producer.send(&record("orders", 1, b"value", 3)).unwrap();
    assert_eq!(producer.in_flight(), 2);

    let mut deliveries = Vec::new();
    settle(&mut producer, &mut deliveries).await;
    for number in 10..30 {
        producer
            .send(&record("orders", number % 2, b"value", 9))
            .unwrap();
    }
    assert_eq!(producer.in_flight(), 20);
    settle(&mut producer, &mut deliveries).await;
    assert_eq!(deliveries.len(), 22);
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_before_it_is_sent() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let limited = settings_with(&broker, &[("message.max.bytes", "100000")]);
    let mut producer = Producer::new(&limited).unwrap();
    let value = vec![b'x'; 100_000];
    let error = producer.send(&record("orders", 0, &value, 1)).unwrap_err();
    let SendError::Rejected(rejection) = error else {
        panic!("{error:?}")
    };
    assert_eq!(rejection.code, ErrorCode::MSG_SIZE_TOO_LARGE);
    assert!(
        rejection.detail.contains("message.max.bytes=100000"),
        "{rejection}"
    );
    assert_eq!(producer.in_flight(), 0);

    let mut deliveries = Vec::new();
    producer
        .send(&record("orders", 0, &value[..99_000], 2))
        .unwrap();
    settle(&mut producer, &mut deliveries).await;
    assert!(deliveries[0].result.is_ok(), "{deliveries:?}");
}

#[tokio::test]
async fn a_record_for_a_partition_or_a_topic_that_can_not_be_is_refused() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 2, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    let count = producer
        .metadata()
        .partition_count("orders", PATIENCE)
        .unwrap();
    assert_eq!(count, 2);
    let mut code =
        |topic: &str, partition| match producer.send(&record(topic, partition, b"value", 1)) {
            Err(SendError::Rejected(rejection)) => rejection.code,
            other => panic!("{topic} {partition}: {other:?}"),
        };
    assert_eq!(code("orders", 2), ErrorCode::UNKNOWN_PARTITION);
    assert_eq!(code("orders", -1), ErrorCode::UNKNOWN_PARTITION);
    assert_eq!(code("ord\0ers", 0), ErrorCode::TOPIC_EXCEPTION);
    assert_eq!(producer.in_flight(), 0);
}

#[tokio::test]
async fn an_outage_delays_records_and_neither_loses_nor_reorders_them() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 2, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    warm(&mut producer, "orders", 2).await;
    let mut deliveries = Vec::new();
    let send = |producer: &mut Producer, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let partition = i32::try_from(number % 2).unwrap();
            let value = number.to_be_bytes();
            producer
                .send(&record("orders", partition, &value, number))
                .unwrap();
        }
    };
    send(&mut producer, 0..100);
    settle(&mut producer, &mut deliveries).await;
    assert_eq!(deliveries.len(), 100);

    broker.all_down().unwrap();
    send(&mut producer, 100..1_100);
    let down = tokio::time::Instant::now();
    let seen_down = loop {
        let wait = producer.ready();
        assert!(
            tokio::time::timeout(PATIENCE, wait).await.is_ok(),
            "no error was reported"
        );
        assert_eq!(
            producer.poll(&mut deliveries),
            0,
            "a report came from a broker that is down"
        );
        if let Some(fault) = producer.last_error() {
            break fault;
        }
    };
    assert!(seen_down.code.0 < 0, "the client says so: {seen_down}");
    while down.elapsed() < Duration::from_millis(500) {
        let _ = tokio::time::timeout(Duration::from_millis(50), producer.ready()).await;
        assert_eq!(
            producer.poll(&mut deliveries),
            0,
            "a report came from a broker that is down"
        );
    }
    assert_eq!(producer.in_flight(), 1_000);

    broker.all_up().unwrap();
    settle(&mut producer, &mut deliveries).await;
    assert!(deliveries.iter().all(|delivery| delivery.result.is_ok()));
    assert_eq!(producer.last_error(), None, "a delivery clears the error");
    assert_eq!(producer.fatal(), None);
    let seen = consume(&broker, "orders", 2, 1_102);
    for partition in 0..2 {
        let numbers: Vec<u64> = seen
            .iter()
            .filter(|seen| seen.partition == partition && seen.offset > 0)
            .map(|seen| u64::from_be_bytes(seen.value.as_deref().unwrap().try_into().unwrap()))
            .collect();
        let expected: Vec<u64> = (0..1_100)
            .filter(|n| n % 2 == u64::from(partition == 1))
            .collect();
        assert_eq!(numbers, expected, "partition {partition}");
    }
}

#[tokio::test]
async fn purge_reports_every_record_as_an_error() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    let mut deliveries = Vec::new();
    producer.send(&record("orders", 0, b"value", 0)).unwrap();
    settle(&mut producer, &mut deliveries).await;
    // Slow answers: a part of what follows is in flight, the rest waits.
    const DELAY: Duration = Duration::from_secs(60);
    broker.delay_answers(DELAY).unwrap();
    for number in 1..=1_000 {
        producer
            .send(&record("orders", 0, &[0; 3_000], number))
            .unwrap();
    }
    assert!(
        tokio::time::timeout(Duration::from_millis(200), producer.ready())
            .await
            .is_err()
    );
    let started = Instant::now();
    producer.purge();
    deliveries.clear();
    settle(&mut producer, &mut deliveries).await;
    let took = started.elapsed();
    assert!(took < DELAY / 2, "{took:?}: an answer was waited for");

    let opaques: BTreeSet<u64> = deliveries.iter().map(|delivery| delivery.opaque).collect();
    assert_eq!((deliveries.len(), opaques), (1_000, (1..=1_000).collect()));
    let refused = producer.send(&record("orders", 0, b"value", 0));
    assert!(matches!(refused, Err(SendError::Fatal(_))), "{refused:?}");
    let codes: BTreeSet<String> = deliveries
        .iter()
        .map(|delivery| delivery.result.clone().unwrap_err().code.name())
        .collect();
    let expected = ["_PURGE_INFLIGHT", "_PURGE_QUEUE"].map(str::to_owned);
    assert_eq!(codes, expected.into_iter().collect());
}

#[tokio::test]
async fn a_producer_with_records_in_flight_is_dropped_at_once() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    for is_down in [false, true] {
        // One that waits for reports in vain does so for half a second, and each time. A busy
        // machine makes some of them slow.
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            fastest = fastest.min(time_to_drop(&broker, is_down).await);
        }
        assert!(
            fastest < Duration::from_millis(400),
            "{fastest:?} with is_down={is_down}"
        );
    }
}

/// How long it takes to drop a producer that has records in flight, to a broker that does not
/// answer.
async fn time_to_drop(broker: &MockBroker, is_down: bool) -> Duration {
    let mut producer = Producer::new(&settings(broker)).unwrap();
    let mut deliveries = Vec::new();
    producer.send(&record("orders", 0, b"value", 0)).unwrap();
    settle(&mut producer, &mut deliveries).await;
    if is_down {
        broker.all_down().unwrap();
    } else {
        broker.delay_answers(Duration::from_secs(10)).unwrap();
    }
    for number in 0..1_000 {
        producer
            .send(&record("orders", 0, b"value", number))
            .unwrap();
    }
    let started = Instant::now();
    drop(producer);
    let took = started.elapsed();
    broker.delay_answers(Duration::ZERO).unwrap();
    broker.all_up().unwrap();
    took
}
