//! Topics of a real broker.

use super::{Stage, check};

fn route(stage: &Stage, topic: &str, key: &str) {
    stage.configure(&format!("route:\n  topic: {topic}\n  key: \"{key}\"\n"));
}

#[test]
fn a_compacted_topic_is_judged_by_the_key() {
    let stage = Stage::ready("compacted");
    let topic = |policy: &str| {
        let config = [("cleanup.policy", policy)];
        stage.kafka.topic_with("compacted", 1, &config)
    };
    let (compacted, both) = (topic("compact"), topic("compact,delete"));
    route(&stage, &compacted, "${id}");
    let found = check(&stage).the("WP-COMPACT");
    assert!(found.seen.contains("grows for ever"), "{found:?}");
    assert_eq!(
        (found.severity.as_str(), found.object),
        ("warning", compacted.clone())
    );
    assert!(found.fix.contains("cleanup.policy=delete"), "{}", found.fix);
    route(&stage, &compacted, "${aggregate_id}");
    let found = check(&stage).the("WP-COMPACT");
    assert!(found.seen.contains("older ones are removed"), "{found:?}");
    route(&stage, &both, "${id}");
    check(&stage).assert_not("WP-COMPACT");
}

#[test]
fn what_a_topic_is_set_to_is_looked_at_for_every_topic_that_is_named() {
    let stage = Stage::ready("settings");
    let config = [
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "2"),
        ("max.message.bytes", "1000"),
    ];
    let odd = stage.kafka.topic_with("odd", 2, &config);
    let plain = stage.kafka.topic("plain", 1);
    stage.database.execute(
        "insert into outbox (destination, payload)
         select 'x', to_jsonb(repeat('x', 3000)) from generate_series(1, 20)",
    );
    stage.configure(&format!("route:\n  allow: [{odd}, {plain}, '/more.*/']\n"));
    let found = check(&stage);
    let unclean = found.the("WP-KAFKA-UNCLEAN");
    assert_eq!(unclean.object, odd);
    assert!(
        unclean.fix.contains("unclean.leader.election.enable=false"),
        "{unclean:?}"
    );
    let replicas = found.the("WP-KAFKA-REPLICAS");
    assert!(
        replicas.seen.contains("fewer than min.insync.replicas=2"),
        "{replicas:?}"
    );
    let bytes = found.the("WP-KAFKA-MAX-BYTES");
    assert!(bytes.seen.contains("a payload of 2.9 KiB"), "{bytes:?}");
    assert!(bytes.seen.contains("up to 1000 bytes"), "{bytes:?}");
    assert_eq!(found.code, 0, "they are warnings: {found:#?}");
    let fine = found.fine();
    assert!(
        fine.contains(&format!(
            "the topic '{plain}': 1 partition, 1 replica, which may be written to"
        )),
        "{fine}"
    );
    assert!(
        !fine.contains("not checked"),
        "a cluster without an authorizer allows everything: {fine}"
    );
}

#[test]
fn a_name_that_kafka_does_not_allow_is_an_error() {
    let stage = Stage::ready("illegal");
    stage.configure("route:\n  topic: a/b\n");
    let found = check(&stage);
    assert_eq!(
        (found.code, found.errors()),
        (1, vec!["WP-KAFKA-TOPIC-NAME"])
    );
    let name = found.the("WP-KAFKA-TOPIC-NAME");
    assert!(name.seen.contains("'a/b'"), "{name:?}");
    assert!(name.fix.contains("route.topic"), "{name:?}");
}

/// Reading the table is optional: the relay needs no right to it.
#[test]
fn a_role_that_may_not_read_the_table_is_told_nothing_of_its_payloads() {
    let stage = Stage::ready("unreadable");
    stage
        .database
        .execute("insert into outbox (destination, payload) values ('x', '1')");
    let url = stage.url_as(crate::stage::STREAMER, "any");
    let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let found = check(&stage);
    assert_eq!(found.errors(), [""; 0], "{found:#?}");
    assert!(
        found.fine().contains("may use replication slots"),
        "{found:#?}"
    );
}
