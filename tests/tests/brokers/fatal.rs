//! Brokers that take nothing: for good, so that a new producer goes on, or for a while.

use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use walpost_tests::{Consumer, PARKED, UNPARKED, Writer, check, said, wait_until};

use crate::{
    SOON,
    stage::{Stage, guarded},
};

/// As many requests of one connection are on their way at once. A real broker refuses those behind
/// the first one as well, and the mock does not.
const IN_FLIGHT: usize = 5;

#[test]
fn a_producer_that_fails_for_good_is_replaced_and_costs_nothing() {
    let mock = MockCluster::new(1).expect("the mock cluster starts");
    let topic = "fatal";
    mock.create_topic(topic, 4, 1).expect("a topic");
    let stage = Stage::new("fatal");
    stage.configure(&mock.bootstrap_servers(), &[], "");
    let writer = Writer::new(&stage.database, topic);
    let writer = writer.aggregates(20).rows_between(1, 5).rate(100.0).start();
    let running = stage.walpost.start(&["run"]);
    let mut consumer = Consumer::new(&mock.bootstrap_servers(), topic);
    consumer.wait_for_new_events(100, SOON);
    let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    mock.request_errors(RDKafkaApiKey::Produce, &[code; IN_FLIGHT]);
    running.wait_for_log("OUT_OF_ORDER_SEQUENCE_NUMBER (45): Broker", SOON);
    // What a session takes with it when it ends is not the relay's return.
    consumer.read_to_end(SOON);
    consumer.wait_for_new_events(100, SOON);
    let ledger = writer.stop();
    consumer.wait_for_events(&ledger, SOON);
    let finished = guarded(running.stop(SOON));
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(
        !finished.stderr.contains("can't be delivered"),
        "{}",
        finished.stderr
    );
    let duplicates = check(&[&ledger], consumer.read_to_end(SOON)).assert_clean();
    println!("producers failed for good: {duplicates} duplicates");
}

/// It answers every question, so it is tried again; but until a record arrives it is one outage.
#[test]
fn a_kafka_that_answers_and_takes_nothing_is_told_once() {
    let mock = MockCluster::new(1).expect("the mock cluster starts");
    let topic = "replicas";
    mock.create_topic(topic, 1, 1).expect("a topic");
    let stage = Stage::new("replicas");
    stage.configure(&mock.bootstrap_servers(), &[], "");
    let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    // More than are asked for in the time of this test.
    mock.request_errors(RDKafkaApiKey::Produce, &[code; 5000]);
    stage.write(topic, "1");
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log(PARKED, SOON);
    for is_streaming in [true, false] {
        wait_until(SOON, "Kafka is tried, and given up again", || {
            let slot = stage.database.slot(&stage.slot).expect("the slot");
            (slot.active_pid.is_some() == is_streaming).then_some(())
        });
    }
    mock.clear_request_errors(RDKafkaApiKey::Produce);
    running.wait_for_log(UNPARKED, SOON);
    let finished = guarded(running.stop(SOON));
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let words = [PARKED, UNPARKED, "\"streaming\""];
    let counts = words.map(|words| said(&finished.stderr, words));
    assert_eq!(counts, [1, 1, 1], "{}", finished.stderr);
    let mut consumer = Consumer::new(&mock.bootstrap_servers(), topic);
    assert_eq!(consumer.read_to_end(SOON).len(), 1);
}
