//! One JSON object on stdout, whatever happens.

use serde_json::Value;
use walpost_tests::{Finished, Kafka, Postgres, Walpost};

use crate::{SOON, offline, plain};

/// The envelope, which is all there is.
#[track_caller]
fn envelope(finished: &Finished) -> Value {
    let Finished { stdout, stderr, .. } = finished;
    assert_eq!(stderr, "", "{stdout}");
    let json: Value = serde_json::from_str(stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"));
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["command", "error", "ok", "result"], "{stdout}");
    assert_eq!(
        json["ok"].as_bool().unwrap(),
        finished.code == 0,
        "{stdout}"
    );
    assert_eq!(json["error"].is_null(), finished.code == 0, "{stdout}");
    json
}

#[test]
fn a_usage_error_is_an_object_too() {
    for (args, command, words) in [
        (&["check", "--jsno", "--json"][..], "check", "'--jsno'"),
        (&["--json"], "", "'--json'"),
        (
            &["config", "print", "--json", "--color", "red"],
            "config print",
            "'red'",
        ),
        (&["run", "--json"], "run", "'--json'"),
        (&["config", "--json"], "config", "'--json'"),
    ] {
        let finished = plain(args);
        assert_eq!(finished.code, 64, "{args:?}");
        let json = envelope(&finished);
        assert_eq!(json["command"], command, "{args:?}");
        assert_eq!(json["error"]["code"], "usage");
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        assert!(!json["error"]["hint"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_configuration_that_is_wrong_is_an_object_for_every_command_that_reports() {
    let walpost = Walpost::new("postgres: { slto: x }\n");
    let config = walpost.dir().join("walpost.yaml");
    let config = config.to_str().unwrap();
    for (args, command) in [
        (&["check", "--json"][..], "check"),
        (&["init", "--json"], "init"),
        (&["init", "--apply", "--json"], "init"),
        (&["config", "print", "--json"], "config print"),
    ] {
        let args = [args, &["-c", config]].concat();
        let finished = walpost.start_plain(&args).finish(SOON);
        assert_eq!(finished.code, 78, "{args:?} {finished:?}");
        let json = envelope(&finished);
        assert_eq!(json["command"], command);
        assert_eq!(json["error"]["code"], "configuration");
        assert!(
            json["error"]["message"]
                .as_str()
                .unwrap()
                .contains("postgres.slto")
        );
    }
}

#[test]
fn the_sql_of_init_is_in_its_object() {
    let walpost = offline();
    let json = envelope(&walpost.finish(&["init", "--json"], SOON));
    let text = walpost.finish(&["init"], SOON).stdout;
    assert_eq!(json["result"]["sql"].as_str().unwrap(), text);
}

#[test]
fn a_server_that_is_away_is_an_object() {
    let walpost = offline();
    for args in [&["init", "--apply", "--json"][..], &["check", "--json"]] {
        let finished = walpost.finish(args, SOON);
        assert_eq!(finished.code, 69, "{finished:?}");
        let json = envelope(&finished);
        assert_eq!(json["error"]["code"], "unavailable");
        assert!(!json["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn the_steps_of_init_are_in_its_object_also_when_it_refuses() {
    let database = Postgres::shared().database("steps");
    let slot = database.slot_name();
    let walpost = Walpost::minimal(&database.url(), &Kafka::shared().brokers(), &slot);
    let steps = |json: &Value| -> Vec<String> {
        let steps = json["result"]["steps"].as_array().unwrap();
        let done = |step: &Value| step["done"].as_str().unwrap().to_owned();
        steps.iter().map(done).collect()
    };
    database.execute(&format!(
        "create publication {slot} with (publish = 'update')"
    ));
    let finished = walpost.finish(&["init", "--apply", "--json"], SOON);
    assert_eq!(finished.code, 78, "{finished:?}");
    let json = envelope(&finished);
    assert_eq!(steps(&json)[..2], ["created", "exists"], "{json}");
    let findings = json["result"]["findings"].to_string();
    assert!(findings.contains("alter publication"), "{findings}");

    database.execute(&format!("drop publication {slot}"));
    let mut first = ["created"; 7];
    first[0] = "exists";
    for expected in [&first[..], &["exists"; 6]] {
        let json = envelope(&walpost.finish(&["init", "--apply", "--json"], SOON));
        assert_eq!(steps(&json), expected, "{json}");
    }
}
