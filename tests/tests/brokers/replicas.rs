//! Brokers that go, under topics of several replicas, as `check` sees it.

use std::thread;

use serde_json::Value;
use walpost_tests::{Kafka, unique, wait_until};

use crate::{SOON, stage::Stage};

#[test]
fn replicas_and_leaders_that_are_missing_are_seen() {
    let first = Kafka::new();
    let join = |node| Kafka::builder().join(&first, node);
    let (second, third) = thread::scope(|scope| {
        let third = scope.spawn(|| join(3));
        (join(2), third.join().unwrap())
    });
    let topic = |replicas: &[&[i32]], min_in_sync| {
        let config = [("min.insync.replicas", min_in_sync)];
        first.replicated_topic("replicas", replicas, &config)
    };
    let (safe, strict) = (topic(&[&[1, 2, 3]], "2"), topic(&[&[1, 2, 3]], "3"));
    let (careless, lonely) = (topic(&[&[1, 2, 3]], "1"), topic(&[&[2], &[3]], "1"));
    let stage = Stage::new("replicas");
    let route = format!("route:\n  allow: [{safe}, {strict}, {careless}, {lonely}]\n");
    stage.configure(&second.brokers(), &[], &route);
    let check = || {
        let (code, findings) = stage.check();
        assert_eq!(code, 0, "they are warnings: {findings:#?}");
        Found(findings)
    };
    let found = check();
    assert_eq!(found.of(&safe), [""; 0]);
    assert_eq!(found.of(&strict), [""; 0]);
    assert_eq!(found.of(&careless), ["WP-KAFKA-MIN-ISR"]);
    assert_eq!(found.of(&lonely), ["WP-KAFKA-REPLICAS"]);
    assert!(found.says("3 brokers"), "{found:#?}");

    third.kill();
    wait_until(SOON, "the cluster has seen that the broker is away", || {
        (second.partitions(&lonely) == Some(1)).then_some(())
    });
    let found = check();
    assert_eq!(found.of(&safe), [""; 0]);
    assert_eq!(found.of(&strict), ["WP-KAFKA-REPLICAS"]);
    assert!(
        found.says("has 2 replicas in sync, fewer than min.insync.replicas=3"),
        "{found:#?}"
    );
    assert_eq!(found.of(&lonely), ["WP-KAFKA-LEADER", "WP-KAFKA-REPLICAS"]);
    assert!(
        found.says("1 of its 2 partitions has no leader"),
        "{found:#?}"
    );

    // Without its controller the cluster still says what it knows, and decides nothing.
    first.pause();
    let missing = unique("missing");
    let sections = format!("  topics: {{create: {{}}}}\nroute:\n  topic: {missing}\n");
    stage.configure(&second.brokers(), &[], &sections);
    let found = check();
    assert_eq!(found.of(&missing), ["WP-KAFKA-TOPIC-UNKNOWN"]);
}

/// What `check` found about Kafka.
#[derive(Debug)]
struct Found(Vec<Value>);

impl Found {
    /// The problems of a topic, by code.
    fn of(&self, topic: &str) -> Vec<&str> {
        let of_topic = self.0.iter().filter(|finding| finding["object"] == topic);
        of_topic
            .filter_map(|finding| finding["code"].as_str())
            .collect()
    }

    fn says(&self, words: &str) -> bool {
        self.0
            .iter()
            .any(|finding| finding["seen"].to_string().contains(words))
    }
}
