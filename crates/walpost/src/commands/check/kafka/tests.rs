use walpost_kafka::MockBroker;

use super::*;
use crate::config::Sources;
use crate::finding::Severity;

#[test]
fn brokers_and_the_fixed_topic_are_found() {
    let broker = MockBroker::start(2).unwrap();
    broker.create_topic("orders", 3, 2).unwrap();
    let (look, topics) = look(&config(&broker.bootstrap(), &["route.topic=orders"]));
    assert_eq!(look.blind, None);
    assert!(
        look.findings
            .iter()
            .all(|found| found.severity == Severity::Ok),
        "{look:?}"
    );
    assert!(look.findings[0].seen.starts_with("2 brokers"), "{look:?}");
    let seen = &look.findings[1].seen;
    assert!(
        seen.starts_with("the topic 'orders': 3 partitions, 2 replicas"),
        "{look:?}"
    );
    assert_eq!(topics.len(), 1);
}

#[test]
fn one_replica_among_several_brokers_is_a_warning() {
    let broker = MockBroker::start(2).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let (look, _) = look(&config(&broker.bootstrap(), &["route.topic=orders"]));
    assert_eq!(codes(&look.findings), ["WP-KAFKA-REPLICAS"]);
}

#[test]
fn every_topic_that_is_named_in_the_list_is_looked_at() {
    let broker = MockBroker::start(1).unwrap();
    for topic in ["orders", "payments"] {
        broker.create_topic(topic, 1, 1).unwrap();
    }
    let allow = ["route.allow=[orders, payments, '/x.*/']"];
    let (look, topics) = look(&config(&broker.bootstrap(), &allow));
    assert_eq!(codes(&look.findings), [""; 0]);
    let names: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["orders", "payments"]);
}

#[test]
fn a_topic_without_a_legal_name_is_an_error_that_leaves_the_look_whole() {
    let broker = MockBroker::start(1).unwrap();
    let (look, _) = look(&config(&broker.bootstrap(), &["route.topic=a/b"]));
    assert_eq!(codes(&look.findings), ["WP-KAFKA-TOPIC-NAME"]);
    assert_eq!(look.blind, None);
}

#[test]
fn a_cluster_that_is_away_is_told_and_ends_the_look() {
    // Bound, but nobody accepts there once it is closed.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (look, _) = look(&config(&address, &["route.topic=orders"]));
    assert_eq!(codes(&look.findings), ["WP-KAFKA-UNREACHABLE"]);
    assert_eq!(look.blind, Some(Exit::Unavailable));
    assert!(look.findings[0].seen.contains(&address), "{look:?}");
}

fn topic(replicas: usize, in_sync: usize, settings: &[(&str, &str)]) -> Topic {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Topic {
        name: "orders".to_owned(),
        shape: TopicShape {
            partitions: 6,
            leaderless: 0,
            replicas_min: replicas,
            in_sync_min: in_sync,
        },
        config: Ok(settings.iter().map(owned).collect()),
        may_write: Some(true),
    }
}

#[test]
fn replicas_and_what_is_expected_of_them_are_compared() {
    let two = [("min.insync.replicas", "2")];
    for (topic, expected) in [
        (topic(3, 3, &two), None),
        (topic(3, 1, &two), Some("WP-KAFKA-REPLICAS")),
        (topic(1, 1, &two), Some("WP-KAFKA-REPLICAS")),
        (
            topic(3, 3, &[("min.insync.replicas", "1")]),
            Some("WP-KAFKA-MIN-ISR"),
        ),
        (
            topic(
                3,
                3,
                &[
                    ("min.insync.replicas", "2"),
                    ("unclean.leader.election.enable", "true"),
                ],
            ),
            Some("WP-KAFKA-UNCLEAN"),
        ),
    ] {
        let found = topic.findings(3, true, &settings());
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(codes(&found), expected, "{found:?}");
    }
}

#[test]
fn compaction_is_judged_by_the_key() {
    for (policy, key_is_the_id, words) in [
        ("delete", true, None),
        ("delete", false, None),
        ("compact,delete", true, None),
        ("compact", true, Some("grows for ever")),
        ("compact", false, Some("older ones are removed")),
        ("compact, delete", false, Some("older ones are removed")),
    ] {
        let topic = topic(3, 3, &[("cleanup.policy", policy)]);
        let found = topic.compaction_problem(key_is_the_id);
        assert_eq!(found.is_some(), words.is_some(), "{policy}");
        if let (Some(found), Some(words)) = (found, words) {
            assert_eq!(found.code, Some("WP-COMPACT"));
            assert!(found.seen.contains(words), "{found:?}");
        }
    }
}

#[test]
fn a_payload_that_is_larger_than_the_topic_takes_is_found() {
    let topics = [topic(3, 3, &[("max.message.bytes", "1048588")])];
    assert_eq!(payload_problems(&topics, None), []);
    assert_eq!(payload_problems(&topics, Some(1000)), []);
    let found = payload_problems(&topics, Some(2 << 20));
    assert_eq!(codes(&found), ["WP-KAFKA-MAX-BYTES"]);
    assert!(found[0].seen.contains("2.0 MiB"), "{found:?}");
}

#[test]
fn what_kafka_says_of_a_right_is_passed_on_and_what_it_does_not_say_is_owned_up_to() {
    let mut topic = topic(3, 3, &[]);
    let seen = |topic: &Topic| {
        let found = topic.findings(3, true, &settings());
        let seen = found.iter().map(|finding| finding.seen.clone());
        (codes(&found), seen.collect::<Vec<_>>().join("\n"))
    };
    let (found, text) = seen(&topic);
    assert_eq!(found, [""; 0]);
    assert!(text.contains("which may be written to"), "{text}");
    topic.may_write = Some(false);
    let (found, text) = seen(&topic);
    assert_eq!(found, ["WP-KAFKA-TOPIC-RIGHT"]);
    assert!(
        text.contains("has no right to WRITE on the topic 'orders'"),
        "{text}"
    );
    topic.may_write = None;
    topic.config = Err(Fault {
        code: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        detail: "no".to_owned(),
    });
    let (found, text) = seen(&topic);
    assert_eq!(found, [""; 0]);
    assert!(
        text.contains("whether the topic 'orders' may be written to"),
        "{text}"
    );
    assert!(text.contains("it needs DESCRIBE_CONFIGS"), "{text}");
}

fn settings() -> Settings {
    config("kafka:9092", &[]).kafka.settings
}

fn codes(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().filter_map(|finding| finding.code).collect()
}

fn config(brokers: &str, settings: &[&str]) -> Config {
    let given = [
        "postgres.url=postgresql://u@db/shop".to_owned(),
        format!("kafka.brokers={brokers}"),
    ];
    let settings = settings.iter().map(|text| (*text).to_owned());
    Config::load(&Sources {
        set: given.into_iter().chain(settings).collect(),
        ..Sources::default()
    })
    .unwrap()
}
