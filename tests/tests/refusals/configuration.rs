//! Configurations and command lines that are not understood.

use crate::stage::{Refusal, Stage};

/// The first line of added sections: six of the configuration stand before it.
const FIRST: usize = 7;

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
    let stage = Stage::bare("unknown_key");
    stage.configure("route:\n  topc: orders\noutboxx:\n  table: outbox\n");
    let refusal = stage.refused(
        78,
        &[
            "2 problems",
            "route.topc: there is no such key; did you mean route.topic?",
            "outboxx: there is no such key; did you mean outbox?",
        ],
    );
    for place in [(FIRST + 1, 3), (FIRST + 2, 1)] {
        let place = format!("walpost.yaml:{}:{}: ", place.0, place.1);
        assert!(refusal.message.contains(&place), "{refusal:#?}");
    }
}

#[test]
fn a_text_that_is_no_yaml_is_named_by_its_place_alone() {
    let stage = Stage::bare("yaml");
    stage.configure("route: [url-hunter-2f6c, {\n");
    let refusal = stage.refused(78, &["not valid YAML"]);
    assert!(refusal.message.contains("walpost.yaml:"), "{refusal:#?}");
}

#[test]
fn every_wrong_value_is_named_at_once() {
    let stage = Stage::bare("values");
    stage.configure(
        "  properties:
    acks: 1
    no.such.property: x
outbox:
  null_payload: keep
  layout: mine
route:
  topic: \"${destination\"
  key: \"${}\"
  partition_by: \"${walpost.lsn}\"
  headers:
    walpost-mine: x
  allow: [\"/(/\"]
delivery:
  in_flight_events: 0
  unknown_topic_after: soon
shutdown:
  drain: 5
",
    );
    let refusal = stage.refused(
        78,
        &[
            "walpost.yaml:8:11: kafka.properties.acks",
            "walpost.yaml:9:23: kafka.properties.no.such.property",
            "walpost.yaml:11:17: outbox.null_payload: expected refuse or tombstone",
            "walpost.yaml:12:11: outbox.layout: expected walpost or debezium",
            "walpost.yaml:14:10: route.topic: the '${' at byte 0 has no '}'",
            "walpost.yaml:15:8: route.key: the '${}' at byte 0 names nothing",
            "walpost.yaml:16:17: route.partition_by: '${walpost.lsn}' is not known",
            "walpost.yaml:18:19: route.headers.walpost-mine",
            "walpost.yaml:19:",
            "walpost.yaml:21:21: delivery.in_flight_events",
            "walpost.yaml:22:24: delivery.unknown_topic_after: expected a number and a unit",
            "walpost.yaml:24:10: shutdown.drain: expected a number and a unit",
        ],
    );
    let problems = refusal.message.matches("walpost.yaml:").count();
    assert_eq!(problems, 12, "{refusal:#?}");
}

#[test]
fn what_is_missing_is_asked_for() {
    let stage = Stage::bare("missing");
    stage.walpost.configure("");
    let words = ["postgres.url: is missing", "kafka.brokers: is missing"];
    stage.refused(78, &words);
    let elsewhere = stage.finish_plain(&["check", "-c", "nowhere.yaml"]);
    Refusal::of(&elsewhere).assert(78, &["nowhere.yaml", "can't read the file"]);
}

#[test]
fn a_variable_and_a_flag_are_named_as_the_place_of_their_mistake() {
    let mut stage = Stage::bare("places");
    stage.walpost = stage
        .walpost
        .env("WALPOST_ROUTE__TOPC", "x")
        .env("WALPOST_POSTGRES__SLOT", "Not A Slot");
    stage.configure("");
    let finished = stage.finish(&["check", "--set", "kafka.unsafe=perhaps"]);
    Refusal::of(&finished).assert(
        78,
        &[
            "WALPOST_ROUTE__TOPC: route.topc: there is no such key; did you mean route.topic?",
            "WALPOST_POSTGRES__SLOT: postgres.slot: expected 1 to 63 characters",
            "--set: kafka.unsafe: expected true or false",
        ],
    );
}

#[test]
fn a_property_that_would_break_the_promise_is_refused() {
    let stage = Stage::bare("promise");
    for (property, value) in [
        ("acks", "1"),
        ("enable.idempotence", "false"),
        ("enable.gapless.guarantee", "false"),
        ("message.timeout.ms", "1000"),
        ("partitioner", "murmur2"),
        ("allow.auto.create.topics", "true"),
    ] {
        stage.configure(&format!("  properties:\n    {property}: {value}\n"));
        let name = format!("kafka.properties.{property}");
        stage.refused(78, &[&name]);
    }
}

#[test]
fn a_command_line_that_is_not_understood_is_a_usage_error() {
    let stage = Stage::bare("usage");
    for args in [
        &[][..],
        &["frobnicate"],
        &["run", "--twice"],
        &["check", "surplus"],
        &["check", "--log-level", "loudest"],
        &["config"],
    ] {
        let finished = stage.finish_plain(args);
        assert_eq!(finished.code, 64, "{args:?}: {finished:?}");
        assert!(finished.stderr.contains("--help"), "{args:?}: {finished:?}");
        assert_eq!(finished.stdout, "", "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let finished = stage.finish_plain(args);
        assert_eq!(finished.code, 0, "{args:?}: {finished:?}");
        assert_ne!(finished.stdout, "", "{args:?}");
    }
}
