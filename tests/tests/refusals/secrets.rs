//! Secrets are used, and never told: in any place that they can be given, at any log level.

use std::fs;

use crate::{
    SOON,
    stage::{
        FILE_SECRET, KAFKA_SECRET, LOCKED, Nowhere, Stage, URL_SECRET, VARIABLE_SECRET, ended,
        guarded,
    },
};

#[test]
fn no_command_tells_a_secret_at_any_log_level() {
    let stage = Stage::ready("secrets");
    let topic = stage.kafka.topic("secrets", 1);
    stage.write(&topic, "1");
    let file = stage.walpost.dir().join("password");
    fs::write(&file, format!("{FILE_SECRET}\n")).unwrap();
    let url = stage.url_as(LOCKED, URL_SECRET);
    let yaml = stage
        .yaml_of(&url, &stage.kafka.brokers(), "")
        .replace("\n  slot:", "\n  password_file: password\n  slot:");
    stage.walpost.configure(&yaml);
    for args in [
        &["config", "print"][..],
        &["config", "print", "--json"],
        &["init"],
        &["init", "--apply"],
        &["check"],
        &["check", "--json"],
        &["run", "--once"],
    ] {
        let finished = stage.finish(&[args, &["--log-level", "trace"]].concat());
        assert_eq!(finished.code, 0, "{args:?}: {}", finished.stderr);
    }
    assert_eq!(stage.read(&topic).len(), 1, "the password was used");
    let running = stage.walpost.start(&["run", "--log-level", "trace"]);
    running.wait_for_log("streaming", SOON);
    running.terminate();
    assert_eq!(ended(running).code, 0);
}

#[test]
fn no_log_line_tells_what_an_event_holds_at_any_log_level() {
    const MARKER: &str = "told-to-nobody-91c4";
    let stage = Stage::ready("payload");
    let topic = stage.kafka.topic("payload", 1);
    let insert = |headers: &str| {
        stage.database.execute(&format!(
            r#"insert into outbox (destination, payload, headers)
               values ('{topic}', '{{"value": "{MARKER}"}}', '{headers}')"#
        ));
    };
    insert(&format!(r#"{{"own": "{MARKER}"}}"#));
    insert(&format!(r#"{{"own": {{"nested": "{MARKER}"}}}}"#));
    let finished = stage.finish(&["run", "--once", "--log-level", "trace"]);
    assert_eq!(finished.code, 65, "{}", finished.stderr);
    let told = format!("{}{}", finished.stdout, finished.stderr);
    assert!(told.contains("the value of 'own' is nested"), "{told}");
    assert!(!told.contains(MARKER), "{told}");
    assert_eq!(stage.read(&topic).len(), 1);
}

/// Kafka's own secrets, against a broker that answers nothing and one that does not want them.
#[test]
fn a_secret_of_kafka_is_not_told_when_it_does_not_help() {
    let mut stage = Stage::ready("kafka_secret");
    stage.walpost = stage
        .walpost
        .env("WALPOST_KAFKA__PROPERTIES__SASL_PASSWORD", VARIABLE_SECRET);
    let topic = stage.kafka.topic("kafka_secret", 1);
    stage.write(&topic, "1");
    let nowhere = Nowhere::new();
    let away = format!("127.0.0.1:{}", nowhere.port());
    let sections = format!(
        "  properties:\n    security.protocol: sasl_plaintext\n    sasl.mechanism: PLAIN\n    \
         sasl.username: walpost\n    sasl.password: {KAFKA_SECRET}\n"
    );
    // The first one answers: that it wants no login is certain, and not a matter of reach.
    for (brokers, code) in [(&stage.kafka.brokers(), 1), (&away, 69)] {
        let yaml = stage.yaml_of(&stage.url(), brokers, &sections);
        stage.walpost.configure(&yaml);
        let check = stage.finish(&["check", "--log-level", "trace"]);
        assert_eq!(check.code, code, "{check:?}");
        let running = stage.walpost.start(&["run", "--log-level", "trace"]);
        running.wait_for_log("streaming", SOON);
        running.wait_for_log("walpost_kafka", SOON);
        let (finished, expected) = match code {
            1 => (ended(running), 78),
            _ => (guarded(running.stop(SOON)), 0),
        };
        assert_eq!(finished.code, expected, "{}", finished.stderr);
    }
    let printed = stage.finish(&["config", "print"]);
    assert!(
        printed.stdout.contains("sasl.password: \"****\""),
        "{}",
        printed.stdout
    );
    assert_eq!(stage.read(&topic), []);
}

/// A mistake beside a secret, in the same line and in the value itself.
#[test]
fn a_mistake_beside_a_secret_does_not_quote_it() {
    let mut stage = Stage::bare("beside");
    let brokers = stage.kafka.brokers();
    let mistakes = [
        format!("postgres: {{ url: \"postgresql://u:{URL_SECRET}@h:x/d\", slot: A }}"),
        format!("postgres: {{ url: \"postgresql://u:{URL_SECRET}@h/d?no_such_key=1\" }}"),
        format!("postgres: {{ url: \"postgresql://u@h/d?password={URL_SECRET}&%zz\" }}"),
        format!("postgres: {{ url: \"host=h password='{URL_SECRET}\" }}"),
        format!("postgres: {{ password: {URL_SECRET}, passwrd: {FILE_SECRET} }}"),
        format!("postgres: {{ password: [{URL_SECRET}] }}"),
        format!("postgres: {{ password: {URL_SECRET}"),
        format!("postgres:\n\tpassword: {URL_SECRET}"),
        format!("postgres: {URL_SECRET}"),
        format!(
            "kafka: {{ properties: {{ sasl.password: {KAFKA_SECRET}, ssl.key.password: x }} }}"
        ),
    ];
    for mistake in mistakes {
        let yaml = format!("{mistake}\nshutdown: {{ drain: never }}\n# {brokers}\n");
        stage.walpost.configure(&yaml);
        for args in [&["run"][..], &["check", "--json"], &["config", "print"]] {
            let finished = stage.finish(args);
            assert_eq!(finished.code, 78, "{mistake}: {finished:?}");
        }
    }
    stage.configure("");
    stage.walpost = stage
        .walpost
        .env("WALPOST_POSTGRES__PASSWORD_FILE", VARIABLE_SECRET)
        .env("WALPOST_POSTGRES__PASSWORD__NESTED", FILE_SECRET);
    let set = format!("postgres.password={URL_SECRET}");
    let finished = stage.finish_plain(&["check", "-c", "walpost.yaml", "--set", &set]);
    assert_eq!(finished.code, 78, "{finished:?}");
}
