//! `walpost check`: every problem at once, each with its code and a fix, and nothing changed.
//!
//! Where a fix is SQL, the tests run what was printed and look again: the finding has to be gone.

mod codes;
mod lost;
mod managed;
mod planted;
mod pooler;
mod server;
mod topics;
mod versions;
mod way;

use std::sync::OnceLock;

use serde_json::Value;
use walpost_tests::{Finished, Kafka, Postgres};

use crate::stage::{FILE_SECRET, LOCKED, Nowhere, PLAIN, Stage, postgres, psql};

/// On a cluster of its own: slots of other tests hold the horizon back that `check` looks at.
#[test]
fn a_whole_set_up_has_no_problem() {
    let server = cluster();
    let stage = Stage::bare("whole");
    let topic = stage.kafka.topic("whole", 3);
    let url = server.database("whole").url();
    let sections = format!("route:\n  topic: {topic}\n");
    let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), &sections);
    stage.walpost.configure(&yaml);
    stage.init();
    let found = check(&stage);
    assert_eq!((found.code, found.codes()), (0, vec![]), "{found:#?}");
    assert_eq!(found.json["ok"], true);
    assert_eq!(found.json["error"], Value::Null);
    let findings = found.json["result"]["findings"].to_string();
    assert!(findings.contains("3 partitions, 1 replica"), "{findings}");
    let is_tested = server.binaries().version() >= 15;
    let strict = stage.finish(&["check", "--strict"]);
    assert_eq!(strict.code == 0, is_tested, "{}", strict.stdout);
}

#[test]
fn a_publication_that_was_made_after_its_slot_is_found() {
    let server = cluster();
    let stage = Stage::bare("younger");
    let database = server.database("younger");
    let yaml = stage.yaml_of(&database.url(), &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    stage.init();
    assert_eq!(check(&stage).codes(), ["WP-ROUTE-OPEN"]);
    let slot = &stage.slot;
    database.execute(&format!("drop publication {slot}"));
    database.execute(&format!(
        "create publication {slot} for table outbox
         with (publish = 'insert', publish_via_partition_root)"
    ));
    let found = check(&stage);
    let younger = found.the("WP-PUB-YOUNGER");
    assert!(younger.seen.contains(slot.as_str()), "{younger:?}");
    // The fix is for a new slot, as this one is.
    psql(&database.url(), &younger.fix);
    stage.init_again(&[]);
    assert_eq!(check(&stage).codes(), ["WP-ROUTE-OPEN"]);
}

#[test]
fn a_publication_is_not_called_younger_because_another_slot_lags() {
    let server = cluster();
    let stage = Stage::bare("lagging");
    let database = server.database("lagging");
    database.execute("select pg_create_logical_replication_slot('of_others', 'pgoutput')");
    database.execute("create table anything (id int)");
    let yaml = stage.yaml_of(&database.url(), &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    stage.init();
    assert!(!stage.init().stdout.contains("warning"));
    assert_eq!(check(&stage).codes(), ["WP-ROUTE-OPEN"]);
}

#[test]
fn what_is_missing_is_found_at_once() {
    let stage = Stage::bare("nothing");
    stage.configure("route:\n  topic: no-such-topic\n");
    let found = check(&stage);
    let expected = [
        "WP-CHECKPOINT-TABLE",
        "WP-KAFKA-TOPIC",
        "WP-PUB-MISSING",
        "WP-SLOT-MISSING",
        "WP-TABLE-MISSING",
    ];
    assert_eq!(found.errors(), expected);
    assert_eq!((found.code, &found.json["ok"]), (1, &Value::Bool(false)));
    let message = found.json["error"]["message"].as_str().unwrap();
    assert!(message.contains("5 errors"), "{message}");
    let topic = found.the("WP-KAFKA-TOPIC");
    assert!(topic.seen.contains("'no-such-topic'"), "{topic:?}");
    assert!(topic.fix.contains("--topic no-such-topic"), "{topic:?}");
}

#[test]
fn warnings_end_with_one_only_where_they_are_to() {
    let stage = Stage::ready("strict");
    assert_eq!(stage.finish(&["check"]).code, 0);
    let strict = stage.finish(&["check", "--strict", "--json"]);
    let json = object(&strict);
    assert_eq!((strict.code, &json["ok"]), (1, &Value::Bool(false)));
    assert_eq!(json["result"]["errors"], 0);
}

#[test]
fn a_code_is_explained_without_a_configuration() {
    let stage = Stage::bare("explain");
    let explained = stage.finish_plain(&["check", "--explain", "wp-pub-root"]);
    assert_eq!(explained.code, 0, "{}", explained.stderr);
    for word in ["WP-PUB-ROOT", "Looks at:", "publish_via_partition_root"] {
        assert!(explained.stdout.contains(word), "{}", explained.stdout);
    }
    let unknown = stage.finish_plain(&["check", "--explain", "WP-PUB-ROOTS"]);
    assert_eq!(unknown.code, 64, "{}", unknown.stderr);
    assert!(
        unknown.stderr.contains("did you mean WP-PUB-ROOT?"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn people_read_the_same_in_groups_with_counts_at_the_end() {
    let stage = Stage::ready("groups");
    stage.database.execute(&format!(
        "alter publication {} set (publish = 'insert, update')",
        stage.slot
    ));
    let text = stage.finish(&["check"]).stdout;
    let heads: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with(' ') && !line.is_empty())
        .collect();
    let groups = [
        "postgres",
        "slot",
        "publication",
        "table",
        "routing",
        "kafka",
    ];
    assert_eq!(heads[..6], groups, "{text}");
    assert!(heads[6].starts_with("0 errors, "), "{text}");
    assert!(
        text.contains("  warning  WP-PUB-MORE: the publication"),
        "{text}"
    );
    assert!(
        text.contains("\n           fix: alter publication"),
        "{text}"
    );
}

#[test]
fn a_slot_of_another_database_is_found() {
    let stage = Stage::ready("check_slot");
    stage.database.drop_slot(&stage.slot);
    let other = postgres().database("elsewhere");
    other.execute(&format!(
        "select pg_create_logical_replication_slot('{}', 'pgoutput')",
        stage.slot
    ));
    let found = check(&stage);
    assert_eq!((found.code, found.errors()), (1, vec!["WP-SLOT-DATABASE"]));
    let seen = found.the("WP-SLOT-DATABASE").seen;
    assert!(seen.contains(other.name()), "{seen}");
}

#[test]
fn a_role_without_replication_and_an_open_route_are_found() {
    let stage = Stage::ready("check_role");
    let url = stage.url_as(PLAIN, "any");
    stage
        .walpost
        .configure(&stage.yaml_of(&url, &stage.kafka.brokers(), ""));
    let found = check(&stage);
    assert_eq!((found.code, found.errors()), (1, vec!["WP-PG-REPLICATION"]));
    let right = found.the("WP-PG-REPLICATION");
    assert_eq!(right.fix, "alter role \"plain\" replication;");
    assert!(found.codes().contains(&"WP-ROUTE-OPEN"), "{found:?}");
}

#[test]
fn what_can_not_be_looked_at_is_told_by_the_exit_code() {
    let stage = Stage::ready("blind");
    let nowhere = Nowhere::new();
    let away = format!("127.0.0.1:{}", nowhere.port());
    let brokers = stage.kafka.brokers();
    let url = |role: &str, password: &str| stage.url_as(role, password);
    let cases = [
        (
            format!("postgresql://u@{away}/shop"),
            &brokers,
            69,
            "WP-PG-UNREACHABLE",
        ),
        (stage.url(), &away, 69, "WP-KAFKA-UNREACHABLE"),
        (url(LOCKED, "wrong"), &brokers, 77, "WP-PG-CREDENTIALS"),
        (
            stage.url().replace(stage.database.name(), "no_such_shop"),
            &brokers,
            1,
            "WP-PG-DATABASE",
        ),
    ];
    for (url, brokers, exit, code) in cases {
        stage.walpost.configure(&stage.yaml_of(&url, brokers, ""));
        let found = check(&stage);
        assert_eq!(
            (found.code, found.errors()),
            (exit, vec![code]),
            "{found:#?}"
        );
    }
    let yaml = stage.yaml_of(&url(LOCKED, FILE_SECRET), &brokers, "");
    stage.walpost.configure(&yaml);
    assert_eq!(check(&stage).code, 0);
}

#[test]
fn a_configuration_that_is_refused_is_one_object_too() {
    let stage = Stage::bare("check_config");
    stage.configure("route:\n  topc: x\n");
    let finished = stage.finish(&["check", "--json"]);
    let json = object(&finished);
    assert_eq!((finished.code, &json["ok"]), (78, &Value::Bool(false)));
    assert_eq!(json["error"]["code"], "configuration");
    assert_eq!(json["result"], Value::Null);
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.contains("did you mean route.topic?"), "{message}");
}

#[test]
fn a_check_changes_nothing() {
    let stage = Stage::ready("looks_only");
    let topic = stage.kafka.topic("looks_only", 1);
    stage.write(&topic, "1");
    let before = (stage.confirmed(), stage.database.current_lsn());
    check(&stage);
    assert_eq!(stage.confirmed(), before.0);
    assert_eq!(stage.read(&topic), []);
}

/// A cluster on which nothing is to be said of the server.
fn cluster() -> Postgres {
    Postgres::builder()
        .setting("max_slot_wal_keep_size", "10GB")
        .start()
}

/// A topic for all tests that only need one to be there.
fn any_topic() -> &'static str {
    static TOPIC: OnceLock<String> = OnceLock::new();
    TOPIC.get_or_init(|| Kafka::shared().topic("any", 1))
}

/// The configuration with a fixed topic.
fn fixed_route(stage: &Stage) {
    stage.configure(&format!("route:\n  topic: {}\n", any_topic()));
}

/// The configuration for another server, with a fixed topic.
fn at(stage: &Stage, url: &str) {
    let sections = format!("route:\n  topic: {}\n", any_topic());
    let yaml = stage.yaml_of(url, &stage.kafka.brokers(), &sections);
    stage.walpost.configure(&yaml);
}

/// What `check --json` told.
#[derive(Debug)]
struct Found {
    code: i32,
    json: Value,
}

/// One of it.
#[derive(Debug)]
struct Finding {
    severity: String,
    object: String,
    seen: String,
    fix: String,
}

impl Found {
    /// Codes of everything that is not ok, sorted. Which version the tests run on is left out.
    fn codes(&self) -> Vec<&str> {
        self.codes_of(&["error", "warning"])
    }

    fn errors(&self) -> Vec<&str> {
        self.codes_of(&["error"])
    }

    fn codes_of(&self, severities: &[&str]) -> Vec<&str> {
        let findings = self.json["result"]["findings"].as_array().expect("a list");
        let mut codes: Vec<_> = findings
            .iter()
            .filter(|finding| severities.contains(&finding["severity"].as_str().unwrap()))
            .map(|finding| {
                for field in ["area", "title", "object", "seen", "fix"] {
                    assert!(finding[field].is_string(), "{finding} has no {field}");
                }
                finding["code"].as_str().expect("a problem has a code")
            })
            .filter(|code| *code != "WP-PG-VERSION")
            .collect();
        codes.sort_unstable();
        codes
    }

    /// The first finding of this code.
    #[track_caller]
    fn the(&self, code: &str) -> Finding {
        let findings = self.json["result"]["findings"].as_array().expect("a list");
        let finding = findings.iter().find(|finding| finding["code"] == code);
        let finding = finding.unwrap_or_else(|| panic!("no {code} in {self:#?}"));
        let text = |field: &str| finding[field].as_str().expect("a text").to_owned();
        Finding {
            severity: text("severity"),
            object: text("object"),
            seen: text("seen"),
            fix: text("fix"),
        }
    }

    #[track_caller]
    fn assert_not(&self, code: &str) {
        assert!(!self.codes().contains(&code), "{code} in {self:#?}");
    }

    /// The text of what was fine.
    fn fine(&self) -> String {
        let findings = self.json["result"]["findings"].as_array().expect("a list");
        let fine = findings
            .iter()
            .filter(|finding| finding["severity"] == "ok");
        let texts: Vec<_> = fine
            .filter_map(|finding| finding["seen"].as_str())
            .collect();
        texts.join("\n")
    }
}

#[track_caller]
fn check(stage: &Stage) -> Found {
    let finished = stage.finish(&["check", "--json"]);
    Found {
        code: finished.code,
        json: object(&finished),
    }
}

/// The one object of a report, with its four fields.
#[track_caller]
pub(crate) fn object(finished: &Finished) -> Value {
    let json: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error} in {finished:?}"));
    let fields: Vec<_> = json.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["command", "error", "ok", "result"]);
    json
}
