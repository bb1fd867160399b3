//! `walpost check`: every problem at once, each with its code and a fix, and nothing changed.

use serde_json::Value;
use walpost_tests::{Finished, Postgres};

use crate::stage::{FILE_SECRET, LOCKED, Nowhere, PLAIN, Stage, postgres};

/// On a cluster of its own: slots of other tests hold the horizon back that `check` looks at.
#[test]
fn a_whole_set_up_has_no_problem() {
    let server = Postgres::new();
    let stage = Stage::bare("whole");
    let topic = stage.kafka.topic("whole", 3);
    let url = server.database("whole").url();
    let sections = format!("route:\n  topic: {topic}\n");
    let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), &sections);
    stage.walpost.configure(&yaml);
    stage.init();
    let found = check(&stage);
    assert_eq!((found.code, found.codes()), (0, vec![]), "{found:?}");
    assert_eq!(found.json["ok"], true);
    assert_eq!(found.json["error"], Value::Null);
    assert!(
        found.json["result"]["checks"]
            .to_string()
            .contains("3 partitions")
    );
}

#[test]
fn a_publication_that_was_made_after_its_slot_is_found() {
    let server = Postgres::new();
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
    let found = check(&stage).codes().join(" ");
    assert!(found.contains("WP-PUB-YOUNGER"), "{found}");
}

#[test]
fn a_publication_is_not_called_younger_because_another_slot_lags() {
    let server = Postgres::new();
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
        "WP-KAFKA-TOPIC",
        "WP-PUB-MISSING",
        "WP-SLOT-MISSING",
        "WP-TABLE-MISSING",
    ];
    assert_eq!((found.code, found.codes()), (1, expected.to_vec()));
    assert_eq!(found.json["ok"], false);
    assert!(
        found.json["error"]["message"]
            .as_str()
            .unwrap()
            .contains("4 errors")
    );
}

/// Each is planted alone in a whole set-up: SQL in which `@` is the name of slot and publication,
/// the code that tells of it, and whether it is an error.
#[test]
fn every_planted_problem_has_its_code() {
    for (plant, code, is_error) in PLANTED {
        let stage = Stage::ready("planted");
        let topic = stage.kafka.topic("planted", 1);
        stage.configure(&format!("route:\n  topic: {topic}\n"));
        for statement in plant.replace('@', &stage.slot).split(";; ") {
            stage.database.execute(statement);
        }
        let found = check(&stage);
        let context = format!("{plant}: {found:#?}");
        assert_eq!(found.code, i32::from(*is_error), "{context}");
        assert!(found.codes().contains(code), "{context}");
        let text = stage.finish(&["check"]);
        assert_eq!(text.code, found.code, "{context}");
        assert!(
            text.stdout.contains(&format!("{code}: ")),
            "{}",
            text.stdout
        );
        assert!(text.stdout.contains("fix: "), "{}", text.stdout);
    }
}

const PLANTED: &[(&str, &str, bool)] = &[
    (
        "drop table outbox;; create view outbox as select 1 as id",
        "WP-TABLE-KIND",
        true,
    ),
    (
        "drop publication @, @_spare;; alter table outbox set unlogged",
        "WP-TABLE-PERSISTENCE",
        true,
    ),
    ("alter table outbox drop payload", "WP-TABLE-COLUMN", true),
    ("drop publication @", "WP-PUB-MISSING", true),
    (
        "alter publication @ set (publish = 'delete')",
        "WP-PUB-INSERT",
        true,
    ),
    (
        "alter publication @ set (publish = 'insert, update')",
        "WP-PUB-MORE",
        false,
    ),
    (
        "alter publication @ set (publish_via_partition_root = false)",
        "WP-PUB-ROOT",
        false,
    ),
    (
        "drop table outbox;; create table outbox (id int, destination text, payload text)
             partition by list (id);; create table p1 partition of outbox default;;
         alter publication @ add table outbox;;
         alter publication @ set (publish_via_partition_root = false)",
        "WP-PUB-ROOT",
        true,
    ),
    (
        "alter publication @ drop table outbox",
        "WP-PUB-TABLE",
        true,
    ),
    (
        "create table audit (id int);; alter publication @ add table audit",
        "WP-PUB-FOREIGN",
        true,
    ),
    (
        "drop publication @;; create publication @ for all tables with (publish = 'insert')",
        "WP-PUB-FOREIGN",
        true,
    ),
    (
        "alter publication @ set table outbox where (event_type = 'x')",
        "WP-PUB-FILTER",
        true,
    ),
    (
        "alter publication @ set table outbox (id, destination)",
        "WP-PUB-COLUMN",
        true,
    ),
    ("drop publication @_spare", "WP-PUB-SPARE", false),
    (
        "alter publication @_spare drop table outbox",
        "WP-PUB-SPARE",
        false,
    ),
    (
        "select pg_drop_replication_slot('@')",
        "WP-SLOT-MISSING",
        true,
    ),
    (
        "select pg_drop_replication_slot('@');;
         select pg_create_logical_replication_slot('@', 'test_decoding')",
        "WP-SLOT-PLUGIN",
        true,
    ),
    (
        "select pg_drop_replication_slot('@');;
         select pg_create_logical_replication_slot('@', 'pgoutput', false, true)",
        "WP-SLOT-TWO-PHASE",
        true,
    ),
];

#[test]
fn a_slot_of_another_database_is_found() {
    let stage = Stage::ready("check_slot");
    stage.database.drop_slot(&stage.slot);
    postgres().database("elsewhere").execute(&format!(
        "select pg_create_logical_replication_slot('{}', 'pgoutput')",
        stage.slot
    ));
    let found = check(&stage);
    assert_eq!((found.code, found.errors()), (1, vec!["WP-SLOT-DATABASE"]));
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

/// What `check --json` told.
#[derive(Debug)]
struct Found {
    code: i32,
    json: Value,
}

impl Found {
    /// Codes of everything that is not ok, sorted.
    fn codes(&self) -> Vec<&str> {
        self.codes_of(&["error", "warning"])
    }

    fn errors(&self) -> Vec<&str> {
        self.codes_of(&["error"])
    }

    fn codes_of(&self, severities: &[&str]) -> Vec<&str> {
        let checks = self.json["result"]["checks"].as_array().expect("a list");
        let mut codes: Vec<_> = checks
            .iter()
            .filter(|check| severities.contains(&check["severity"].as_str().unwrap()))
            .map(|check| {
                assert!(check["fix"].is_string(), "{check} has no fix");
                check["code"].as_str().expect("a problem has a code")
            })
            .collect();
        codes.sort_unstable();
        codes
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
fn object(finished: &Finished) -> Value {
    let json: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error} in {finished:?}"));
    let fields: Vec<_> = json.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["command", "error", "ok", "result"]);
    json
}
