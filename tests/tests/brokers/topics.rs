//! Missing topics, created by the configuration's plan and never otherwise.

use walpost_tests::unique;

use crate::{SOON, stage::Stage};

#[test]
fn a_missing_topic_is_made_by_the_plan_and_placed_by_its_partitions() {
    let stage = Stage::new("made");
    let sections = "  topics:\n    create:\n      partitions: 7\n      replication: 1\n      \
                    config:\n        retention.ms: 86400000\n        cleanup.policy: compact\n";
    stage.configure(&stage.kafka.brokers(), &[], sections);
    let topic = unique("made");
    for aggregate in 0..40 {
        let aggregate = aggregate.to_string();
        stage.database.insert_event(&topic, &aggregate, "1");
    }
    let finished = stage.run_once();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(stage.kafka.partitions(&topic), Some(7));
    assert_eq!(
        stage.kafka.topic_config(&topic, "retention.ms").as_deref(),
        Some("86400000")
    );
    assert_eq!(
        stage
            .kafka
            .topic_config(&topic, "cleanup.policy")
            .as_deref(),
        Some("compact")
    );
    let records = stage.read(&topic);
    assert_eq!(records.len(), 40);
    let used: std::collections::BTreeSet<_> = records.iter().map(|one| one.partition).collect();
    assert_eq!(
        used,
        (0..7).collect(),
        "forty aggregates use every partition"
    );
}

#[test]
fn what_is_left_out_of_the_plan_is_the_brokers_choice() {
    let stage = Stage::new("choice");
    stage.configure(&stage.kafka.brokers(), &[], "  topics: {create: {}}\n");
    let topic = unique("choice");
    stage.write(&topic, "1");
    let finished = stage.run_once();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(
        stage.kafka.partitions(&topic),
        Some(1),
        "num.partitions of the broker"
    );
}

#[test]
fn a_plan_that_the_cluster_can_not_carry_out_is_a_matter_of_configuration() {
    let stage = Stage::new("plan");
    let topic = unique("plan");
    stage.write(&topic, "1");
    let cases: [(&str, &[&str], &str); 3] = [
        (
            "replication: 3",
            &["INVALID_REPLICATION_FACTOR", "kafka.topics.create"],
            "A topic with more replicas than there are brokers",
        ),
        (
            "config: {no.such: 1}",
            &["INVALID_CONFIG", "no.such"],
            "A topic with a property that Kafka does not know",
        ),
        (
            "config: {retention.ms: soon}",
            &["INVALID_CONFIG", "retention.ms"],
            "A topic with a value that Kafka does not take",
        ),
    ];
    for (plan, words, title) in cases {
        let sections = format!("  topics: {{create: {{{plan}}}}}\nroute: {{topic: {topic}}}\n");
        stage.configure(&stage.kafka.brokers(), &[], &sections);
        // `check` asks the cluster before an event does.
        stage.check_finds(1, "WP-KAFKA-TOPIC-CREATE", words);
        let refused = stage.refuses(78, &[words, &[topic.as_str()]].concat());
        refused.is_listed(title, &[(&topic, "orders")]);
    }
    assert_eq!(stage.kafka.partitions(&topic), Some(0));
}

#[test]
fn a_topic_that_was_deleted_is_not_made_again() {
    let stage = Stage::new("deleted");
    stage.configure(
        &stage.kafka.brokers(),
        &[],
        "  topics: {create: {partitions: 2}}\n",
    );
    let topic = unique("deleted");
    let running = stage.walpost.start(&["run"]);
    stage.write(&topic, "1");
    running.wait_for_log("created the topic", SOON);
    walpost_tests::wait_until(SOON, "the event arrives", || {
        (stage.kafka.partitions(&topic) == Some(2) && stage.read(&topic).len() == 1).then_some(())
    });
    stage.kafka.delete_topic(&topic);
    stage.write(&topic, "2");
    running.wait_for_log("it was there before and is gone now", SOON);
    assert_eq!(stage.kafka.partitions(&topic), Some(0));

    // Made by hand, the event that waits goes there.
    stage.kafka.create_topic(&topic, 3, &[]);
    walpost_tests::wait_until(SOON, "the second event arrives", || {
        (stage.read(&topic).len() == 1).then_some(())
    });
    crate::stage::guarded(running.stop(SOON));
}
