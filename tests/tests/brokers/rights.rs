//! A user who may do less than the relay needs.

use std::{thread, time::Duration};

use walpost_tests::{Right, SecuredKafka, scaled};

use crate::{
    SOON,
    rotation::Loaded,
    stage::{LIMITED_LOGIN, Stage},
};

const LIMITED: &str = SecuredKafka::LIMITED;

#[test]
fn rights_are_asked_for_one_by_one_and_write_alone_is_enough() {
    let stage = Stage::new("rights");
    let brokers = stage.kafka.listener("SASL");
    let topic = stage.kafka.topic("rights", 1);
    stage.write(&topic, "1");
    stage.configure(&brokers, &LIMITED_LOGIN, "");
    // Not even the identity of a producer is given to a user without any right to write.
    // Whichever of the two refusals comes first.
    let _ = stage.refuses(77, &[LIMITED, "kafka-acls.sh"]);

    let elsewhere = stage.kafka.topic("elsewhere", 1);
    stage.kafka.grant(LIMITED, &[Right::Write(&elsewhere)]);
    let refused = stage.refuses(77, &[LIMITED, "DESCRIBE", &topic]);
    refused.is_listed("No right to see the topic", &[(&topic, "orders")]);
    stage.kafka.grant(LIMITED, &[Right::Describe(&topic)]);
    let _ = stage.refuses(77, &["WRITE", "kafka-acls.sh"]);
    assert!(stage.read(&topic).is_empty());

    let other = stage.kafka.topic("write_alone", 1);
    stage
        .kafka
        .grant(LIMITED, &[Right::Write(&topic), Right::Write(&other)]);
    stage.write(&other, "2");
    let finished = stage.run_once();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!((stage.read(&topic).len(), stage.read(&other).len()), (1, 1));

    let sections = "  topics: {create: {}}\n";
    stage.configure(&brokers, &LIMITED_LOGIN, sections);
    let made = walpost_tests::unique("made");
    stage.kafka.grant(LIMITED, &[Right::Write(&made)]);
    stage.write(&made, "3");
    let refused = stage.refuses(77, &[LIMITED, "CREATE", &made]);
    refused.is_listed("No right to create the topic", &[(&made, "orders")]);
    assert_eq!(stage.kafka.partitions(&made), Some(0));
    stage.kafka.grant(LIMITED, &[Right::Create(&made)]);
    let finished = stage.run_once();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(stage.read(&made).len(), 1);
}

#[test]
fn a_right_that_is_taken_away_under_load_stops_the_line_and_makes_no_dead_letter() {
    let loaded = Loaded::new("taken_away");
    let (stage, kafka) = (&loaded.stage, loaded.stage.kafka);
    let dead = kafka.topic("taken_away_dead", 1);
    let write = Right::Write(&loaded.topic);
    kafka.grant(LIMITED, &[write, Right::Write(&dead)]);
    let delivery = format!(
        "delivery:\n  on_undeliverable: dead_letter\n  dead_letter_topic: {dead}\n  \
         unknown_topic_after: 1s\n"
    );
    stage.configure(&kafka.listener("SASL"), &LIMITED_LOGIN, &delivery);
    let writer = loaded.writer().start();
    let running = stage.walpost.start(&["run"]);
    let mut consumer = loaded.consumer();
    consumer.wait_for_new_events(100, SOON);
    kafka.revoke(LIMITED, write);
    running.wait_for_log("TOPIC_AUTHORIZATION_FAILED", SOON);
    thread::sleep(Duration::from_secs(scaled(3, 60)));
    assert!(running.is_running(), "{}", running.log());
    kafka.grant(LIMITED, &[write]);
    consumer.read_to_end(SOON);
    consumer.wait_for_new_events(100, SOON);
    loaded.finish(running, &writer.stop());
    assert!(stage.read(&dead).is_empty());
}

#[test]
fn check_tells_which_rights_are_missing_before_an_event_needs_them() {
    let stage = Stage::new("check_rights");
    let brokers = stage.kafka.listener("SASL");
    let (topic, made) = (stage.kafka.topic("right", 1), walpost_tests::unique("made"));
    let route = format!("route:\n  topic: {topic}\n");
    let code = "WP-KAFKA-TOPIC-RIGHT";
    stage.configure(&brokers, &LIMITED_LOGIN, &route);
    let grant = |right| stage.kafka.grant(LIMITED, &[right]);
    let acl = format!("--allow-principal User:{LIMITED}");
    stage.check_finds(1, code, &[LIMITED, "no right to DESCRIBE", &topic, &acl]);
    grant(Right::Describe(&topic));
    stage.check_finds(1, code, &[LIMITED, "no right to WRITE", &topic, &acl]);
    let (_, findings) = stage.check();
    let seen = format!("{findings:?}");
    assert!(seen.contains("it needs DESCRIBE_CONFIGS"), "{seen}");
    grant(Right::Write(&topic));
    grant(Right::DescribeConfigs(&topic));
    let (exit, findings) = stage.check();
    let seen = format!("{findings:?}");
    assert_eq!(exit, 0, "{seen}");
    assert!(seen.contains("which may be written to"), "{seen}");
    assert!(!seen.contains("not checked"), "{seen}");

    // A topic that would be made. Nothing is.
    let sections = format!("  topics: {{create: {{}}}}\nroute:\n  topic: {made}\n");
    stage.configure(&brokers, &LIMITED_LOGIN, &sections);
    grant(Right::Describe(&made));
    let code = "WP-KAFKA-TOPIC-CREATE";
    stage.check_finds(1, code, &[LIMITED, "no right to CREATE", &made, &acl]);
    grant(Right::Create(&made));
    let (exit, findings) = stage.check();
    let seen = format!("{findings:?}");
    assert_eq!(exit, 0, "{seen}");
    assert!(
        seen.contains("does not exist yet: walpost creates it"),
        "{seen}"
    );
    assert_eq!(stage.kafka.partitions(&made), Some(0));
}
