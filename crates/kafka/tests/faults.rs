//! Errors that the broker raises: nothing goes missing in silence.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{PATIENCE, consume, record, send, settings, settle, warm};
use walpost_kafka::{
    CreateFault, Delivery, ErrorCode, MockBroker, MockRequest, Producer, SendError, TopicFault,
    TopicPlan, reach,
};

/// Delivers one record, lets the next batch fail with `code` and sends fifty more in batches of
/// ten. `followers` batches behind the first are refused for their sequence numbers, as a real
/// broker does and the mock does not. Returns the producer and the reports of the fifty.
async fn fifty_after(
    broker: &MockBroker,
    code: ErrorCode,
    followers: usize,
) -> (Producer, Vec<Delivery>) {
    broker.create_topic("orders", 1, 1).unwrap();
    let batches_of_ten = settings(broker).with("batch.num.messages", "10");
    let mut producer = Producer::new(&batches_of_ten).unwrap();
    warm(&mut producer, "orders", 1).await;

    let mut codes = vec![code];
    codes.resize(1 + followers, OUT_OF_ORDER_SEQUENCE_NUMBER);
    broker.fail_requests(MockRequest::Produce, &codes).unwrap();
    // Held back, so that several batches are on their way when the first one fails, and all fifty
    // are handed over.
    broker.delay_answers(Duration::from_secs(1)).unwrap();
    for number in 10..60 {
        producer
            .send(&record("orders", 0, b"value", number))
            .unwrap();
    }
    broker.delay_answers(Duration::ZERO).unwrap();
    let mut deliveries = Vec::new();
    settle(&mut producer, &mut deliveries).await;
    let opaques: BTreeSet<u64> = deliveries.iter().map(|delivery| delivery.opaque).collect();
    assert_eq!(
        (deliveries.len(), opaques),
        (50, (10..60).collect()),
        "each is reported once"
    );
    (producer, deliveries)
}

const OUT_OF_ORDER_SEQUENCE_NUMBER: ErrorCode = ErrorCode(45);

fn codes(deliveries: &[Delivery]) -> BTreeSet<String> {
    let code = |delivery: &Delivery| match &delivery.result {
        Ok(_) => "delivered".to_owned(),
        Err(rejection) => rejection.code.name(),
    };
    deliveries.iter().map(code).collect()
}

#[tokio::test]
async fn a_rejected_batch_stops_the_producer_and_every_later_record_is_reported() {
    for code in [10, 87, 29].map(ErrorCode) {
        let broker = MockBroker::start(1).unwrap();
        let (mut producer, deliveries) = fifty_after(&broker, code, 50).await;

        let found = codes(&deliveries);
        assert!(found.contains(&code.name()), "{code}: {found:?}");
        assert!(
            !found.contains("delivered"),
            "{code}: a later record overtook: {found:?}"
        );
        let rejected = |delivery: &&Delivery| {
            delivery
                .result
                .as_ref()
                .is_err_and(|rejection| rejection.code == code)
        };
        let rejected: BTreeSet<u64> = deliveries
            .iter()
            .filter(rejected)
            .map(|delivery| delivery.opaque)
            .collect();
        assert_eq!(
            rejected.first(),
            Some(&10),
            "{code}: the first batch is the one that failed"
        );

        let fault = producer.fatal().unwrap();
        assert_eq!(fault.code.name(), "_GAPLESS_GUARANTEE", "{fault}");
        assert!(fault.detail.contains("orders"), "{fault}");
        let refused = producer
            .send(&record("orders", 0, b"value", 99))
            .unwrap_err();
        assert_eq!(refused, SendError::Fatal(fault));
        assert_eq!(producer.in_flight(), 0);

        let seen = consume(&broker, "orders", 1, 1);
        assert_eq!(seen.len(), 1, "the record before them is all that arrived");
    }
}

#[tokio::test]
async fn nothing_overtakes_a_first_record_that_is_rejected() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    broker
        .fail_requests(MockRequest::Produce, &[ErrorCode::MSG_SIZE_TOO_LARGE])
        .unwrap();
    let mut deliveries = Vec::new();
    let mut refusal = None;
    for number in 0..20 {
        let sent = producer.send(&record("orders", 0, b"value", number));
        refusal = refusal.or_else(|| sent.err());
    }
    assert_eq!(refusal, Some(SendError::QueueFull));
    settle(&mut producer, &mut deliveries).await;
    assert_eq!(codes(&deliveries), ["MSG_SIZE_TOO_LARGE".to_owned()].into());
    assert!(producer.fatal().is_some());
    let refused = producer.send(&record("orders", 0, b"value", 1));
    assert!(matches!(refused, Err(SendError::Fatal(_))), "{refused:?}");
}

#[tokio::test]
async fn an_error_that_passes_is_retried_unseen() {
    for code in [19, 6, 3, 2].map(ErrorCode) {
        let broker = MockBroker::start(1).unwrap();
        let (producer, deliveries) = fifty_after(&broker, code, 0).await;
        assert_eq!(
            codes(&deliveries),
            ["delivered".to_owned()].into(),
            "{code}"
        );
        assert_eq!(producer.fatal(), None);
        let opaques: Vec<u64> = deliveries.iter().map(|delivery| delivery.opaque).collect();
        assert_eq!(opaques, (10..60).collect::<Vec<_>>(), "{code}: in order");
    }
}

#[tokio::test]
async fn a_replacement_delivers_what_the_stopped_producer_did_not() {
    let broker = MockBroker::start(1).unwrap();
    let (producer, _) = fifty_after(&broker, ErrorCode::MSG_SIZE_TOO_LARGE, 50).await;
    broker.clear_failures(MockRequest::Produce);
    drop(producer);
    broker.delay_answers(Duration::ZERO).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    let mut deliveries = Vec::new();
    for number in 10..60 {
        send(
            &mut producer,
            &record("orders", 0, b"value", number),
            &mut deliveries,
        )
        .await;
    }
    settle(&mut producer, &mut deliveries).await;
    assert_eq!(codes(&deliveries), ["delivered".to_owned()].into());
}

#[tokio::test]
async fn a_missing_topic_is_missing_until_it_is_created() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 6, 1).unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    let metadata = producer.metadata();
    assert_eq!(
        metadata.partition_count("payments", PATIENCE),
        Err(TopicFault::Missing)
    );
    assert_eq!(metadata.partition_count("orders", PATIENCE), Ok(6));
    assert_eq!(
        metadata.partition_count("payments", PATIENCE),
        Err(TopicFault::Missing)
    );

    broker.create_topic("payments", 2, 1).unwrap();
    assert_eq!(metadata.partition_count("payments", PATIENCE), Ok(2));
    let mut deliveries = Vec::new();
    producer.send(&record("payments", 1, b"value", 1)).unwrap();
    settle(&mut producer, &mut deliveries).await;
    assert!(deliveries[0].result.is_ok(), "{deliveries:?}");
}

#[tokio::test]
async fn a_cluster_that_is_away_is_unreachable_and_says_why() {
    let broker = MockBroker::start(1).unwrap();
    broker.all_down().unwrap();
    let mut producer = Producer::new(&settings(&broker)).unwrap();
    let metadata = producer.metadata();
    let asked = tokio::task::spawn_blocking(move || {
        let timeout = Duration::from_millis(300);
        let count = metadata.partition_count("orders", timeout);
        (
            count,
            metadata.brokers(timeout),
            metadata.cluster_id(timeout),
        )
    });
    let (count, brokers, cluster) = asked.await.unwrap();
    assert!(
        matches!(count, Err(TopicFault::Unreachable(_))),
        "{count:?}"
    );
    assert!(brokers.is_err(), "{brokers:?}");
    assert_eq!(cluster, None);
    producer.poll(&mut Vec::new());
    let fault = producer.last_error().unwrap();
    assert!(!fault.detail.is_empty(), "{fault}");
}

#[tokio::test]
async fn metadata_answers_from_any_thread_and_ends_with_its_producer() {
    let broker = MockBroker::start(3).unwrap();
    broker.create_topic("orders", 6, 1).unwrap();
    let producer = Producer::new(&settings(&broker)).unwrap();
    let metadata = producer.metadata();
    let asked = {
        let metadata = metadata.clone();
        tokio::task::spawn_blocking(move || {
            let count = metadata.partition_count("orders", PATIENCE);
            (
                count,
                metadata.brokers(PATIENCE),
                metadata.cluster_id(PATIENCE),
            )
        })
    };
    let (count, brokers, cluster) = asked.await.unwrap();
    assert_eq!(count, Ok(6));
    let brokers = brokers.unwrap();
    assert_eq!(brokers.len(), 3);
    assert!(
        brokers.iter().all(|broker| reach(broker) == Ok(())),
        "{brokers:?}"
    );
    assert!(cluster.is_some_and(|id| !id.is_empty()));

    drop(producer);
    let gone = metadata.partition_count("orders", PATIENCE);
    assert_eq!(
        gone,
        Err(TopicFault::Unreachable("the producer is gone".to_owned()))
    );
    assert!(metadata.brokers(PATIENCE).is_err());
    assert_eq!(metadata.cluster_id(PATIENCE), None);
}

#[tokio::test]
async fn a_broker_that_does_not_know_a_question_is_an_error_and_no_hang() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let producer = Producer::new(&settings(&broker)).unwrap();
    let metadata = producer.metadata();
    let none = metadata.topic_max_message_bytes(&[], PATIENCE).unwrap();
    assert!(none.is_empty());
    let asked = tokio::task::spawn_blocking(move || {
        // The questions go to the controller. It has none, which is waited for.
        let timed_out = ErrorCode(-185);
        let timeout = Duration::from_millis(500);
        let configs = metadata.topic_max_message_bytes(&["orders"], timeout);
        assert_eq!(configs.unwrap_err().code, timed_out);
        let plan = TopicPlan::default();
        let created = metadata.would_create_topic("new", &plan, timeout);
        let Err(CreateFault::Unreachable(why)) = created else {
            panic!("{created:?}");
        };
        assert!(why.contains("(-185)"), "{why}");
        let rights = metadata.may_write("orders", timeout);
        assert_eq!(rights.unwrap_err().code, timed_out);
        let illegal = metadata.may_write("", timeout).unwrap_err();
        assert_eq!(illegal.code, ErrorCode::TOPIC_EXCEPTION);
    });
    asked.await.unwrap();
}
