//! Configurations and command lines that are not understood.

use std::fs;

use crate::{
    CONFIGURATION,
    stage::{FILE_SECRET, LOCKED, Refusal, Stage, URL_SECRET, VARIABLE_SECRET},
};

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
    lists(&stage, "A text that is no YAML", &refusal);
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
fn a_mistake_in_a_key_or_a_template_is_on_the_page() {
    for (title, sections, words) in [
        (
            "A key that does not exist",
            "route:\n  topc: orders\n",
            "did you mean route.topic?",
        ),
        (
            "A key twice",
            "route:\n  topic: orders\n  topic: others\n",
            "route.topic",
        ),
        (
            "A template that is not closed",
            "route:\n  topic: \"${destination\"\n",
            "has no '}'",
        ),
        (
            "A number without its unit",
            "shutdown:\n  drain: 5\n",
            "a number and a unit",
        ),
    ] {
        let stage = Stage::bare("mistake");
        stage.configure(sections);
        let refusal = stage.refused(78, &[words]);
        lists(&stage, title, &refusal);
    }
}

/// The refusal is on the page, by the name of the file that a user would have.
#[track_caller]
fn lists(stage: &Stage, title: &str, refusal: &Refusal) {
    let dir = format!("{}/", stage.walpost.dir().display());
    stage.lists_with(CONFIGURATION, title, refusal, &[(&dir, "")]);
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
fn a_table_that_is_wrong_hides_nothing_behind_it() {
    let stage = Stage::bare("hides");
    stage.configure(
        "outbox:\n  table: [a, b.c.d]\nroute:\n  topic: \"${destination\"\n  key: \"\"\n",
    );
    stage.refused(
        78,
        &[
            "3 problems",
            "walpost.yaml:8:14: outbox.table: expected schema.name",
            "walpost.yaml:10:10: route.topic: the '${' at byte 0 has no '}'",
            "walpost.yaml:11:8: route.key: the template is empty",
        ],
    );
}

#[test]
fn what_a_reference_names_has_to_be_there() {
    let mut stage = Stage::bare("references");
    stage.walpost = stage.walpost.env("NAMED", VARIABLE_SECRET);
    stage.configure(
        "route:
  topic: \"${env:NO_SUCH}.${env:NOR_THIS}\"
  key: \"${file:no-such-file}\"
  allow: [\"${env:NAMED} b\"]
shutdown:
  drain: \"${DRAIN}\"
",
    );
    stage.refused(
        78,
        &[
            "walpost.yaml:8:10: route.topic: the environment variable NO_SUCH is not set",
            "walpost.yaml:8:10: route.topic: the environment variable NOR_THIS is not set",
            "walpost.yaml:9:8: route.key: can't read the file no-such-file: ",
            "walpost.yaml:10:10: route.allow: '**** b'",
            "walpost.yaml:12:10: shutdown.drain: '${…}' names neither a variable nor a file",
        ],
    );
}

#[test]
fn a_secret_is_given_once() {
    let stage = Stage::bare("once");
    fs::write(stage.walpost.dir().join("secret"), FILE_SECRET).unwrap();
    let both = format!(
        "\n  password: {URL_SECRET}\n  password_file: secret\n  password_command: 'true'\n  slot:"
    );
    let yaml = stage.yaml("").replace("\n  slot:", &both);
    stage.walpost.configure(&yaml);
    stage.refused(
        78,
        &[
            "walpost.yaml:4:18: postgres.password_file: postgres.password is given too",
            "walpost.yaml:5:21: postgres.password_command: postgres.password is given too",
        ],
    );
}

#[test]
fn a_text_in_another_encoding_is_named() {
    let stage = Stage::bare("encoding");
    let path = stage.walpost.dir().join("walpost.yaml");
    for (bytes, words) in [
        (&b"\xff\xfep\0o\0"[..], "UTF-16 or UTF-32: save it as UTF-8"),
        (
            b"postgres: {slot: \xe4}\n",
            "1:18: a byte that is not UTF-8",
        ),
        (b"postgres: {slot: a\0}\n", "1:19: a NUL byte"),
        (b"postgres: {}\n---\nkafka: {}\n", "more than one document"),
        (b"postgres:\n\tslot: a\n", "walpost.yaml:2:"),
    ] {
        fs::write(&path, bytes).unwrap();
        stage.refused(78, &[words]);
    }
}

#[test]
fn a_command_gives_the_password_anew_for_each_connection() {
    let stage = Stage::ready("command");
    let topic = stage.kafka.topic("command", 1);
    stage.write(&topic, "1");
    let configure = |command: &str| {
        let url = stage.url_as(LOCKED, URL_SECRET);
        let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
        let command = format!("\n  password_command: {command}\n  slot:");
        stage
            .walpost
            .configure(&yaml.replace("\n  slot:", &command));
    };
    configure(&format!("\"echo asked >> asked; echo {FILE_SECRET}\""));
    stage.once();
    assert_eq!(stage.read(&topic).len(), 1);
    let asked = stage.walpost.dir().join("asked");
    let times = || fs::read_to_string(&asked).unwrap().lines().count();
    let before = times();
    assert!(before >= 1);
    assert_eq!(stage.finish(&["check"]).code, 0);
    assert!(times() > before);
    let printed = stage.finish(&["config", "print"]);
    assert!(
        printed.stdout.contains("password_command: \"****\""),
        "{}",
        printed.stdout
    );

    configure(&format!(
        "[sh, -c, 'echo {FILE_SECRET}; echo {FILE_SECRET} >&2; exit 3']"
    ));
    let words = ["'sh' ended with exit code 3", "run the command by hand"];
    stage.refused(77, &words);
    assert_eq!(stage.finish(&["check"]).code, 77);
    Refusal::of(&stage.finish(&["init", "--apply"])).assert(77, &words);
    configure("[no-such-program]");
    stage.refused(77, &["'no-such-program' can't be run: "]);
}

#[test]
fn the_origin_of_each_value_is_told_and_the_schema_is_json() {
    let mut stage = Stage::bare("origins");
    stage.walpost = stage.walpost.env("WALPOST_SHUTDOWN__DRAIN", "7s");
    stage.configure("");
    let printed = stage.finish(&["config", "print", "--origins"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    for line in [
        "drain: \"7s\"  # WALPOST_SHUTDOWN__DRAIN",
        "walpost.yaml:3\n",
        "in_flight_events: 50000  # default",
    ] {
        assert!(printed.stdout.contains(line), "{line}\n{}", printed.stdout);
    }
    let plain = stage.finish(&["config", "print"]);
    assert!(!plain.stdout.contains('#'), "{}", plain.stdout);
    let schema = stage.finish_plain(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    stage.configure("route: {topc: x}\ndelivery: {in_flight_events: x}\n");
    let finished = stage.finish(&["config", "print"]);
    Refusal::of(&finished).assert(78, &["2 problems", "route.topc", "in_flight_events"]);
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
