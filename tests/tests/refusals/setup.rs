//! A database that is not set up as it has to be.

use walpost_tests::{Mistake, Postgres};

use crate::{
    SERVER, SOON,
    stage::{Refusal, Stage, ended, postgres},
};

#[test]
fn a_missing_slot_is_refused_and_never_made() {
    let scene = Scene::new("slot_missing");
    let stage = &scene.stage;
    stage.forget_slot();
    scene.write("1");
    let refusal = stage.refused(78, &["WP-SLOT-MISSING", &stage.slot, "walpost init"]);
    stage.lists(SERVER, "No slot of that name", &refusal);
    assert_eq!(stage.database.slot(&stage.slot), None);
    assert_eq!(stage.read(&scene.topic), []);
}

#[test]
fn a_slot_of_another_plugin_is_refused() {
    let scene = Scene::new("slot_plugin");
    let stage = &scene.stage;
    stage.database.drop_slot(&stage.slot);
    stage.database.execute(&format!(
        "select pg_create_logical_replication_slot('{}', 'test_decoding')",
        stage.slot
    ));
    let refusal = scene.is_refused(&[&stage.slot, "test_decoding", "pgoutput"]);
    scene
        .stage
        .lists(SERVER, "A slot of another output plugin", &refusal);
}

#[test]
fn a_slot_of_another_database_is_refused() {
    let scene = Scene::new("slot_database");
    let stage = &scene.stage;
    stage.database.drop_slot(&stage.slot);
    let other = postgres().database("elsewhere");
    other.execute(&format!(
        "select pg_create_logical_replication_slot('{}', 'pgoutput')",
        stage.slot
    ));
    let refusal = scene.is_refused(&[&stage.slot, other.name()]);
    let names = [(other.name(), "elsewhere")];
    stage.lists_with(SERVER, "A slot of another database", &refusal, &names);
}

#[test]
fn a_physical_slot_is_refused() {
    let scene = Scene::new("slot_physical");
    let stage = &scene.stage;
    stage.database.drop_slot(&stage.slot);
    stage.database.execute(&format!(
        "select pg_create_physical_replication_slot('{}', true)",
        stage.slot
    ));
    scene.write("1");
    stage.refused(78, &[&stage.slot, "pgoutput"]);
    assert_eq!(stage.read(&scene.topic), []);
}

#[test]
fn a_slot_that_sends_prepared_transactions_early_is_refused() {
    let scene = Scene::new("slot_two_phase");
    let stage = &scene.stage;
    stage.database.drop_slot(&stage.slot);
    stage.database.execute(&format!(
        "select pg_create_logical_replication_slot('{}', 'pgoutput', false, true)",
        stage.slot
    ));
    let refusal = scene.is_refused(&[&stage.slot, "two_phase"]);
    scene
        .stage
        .lists(SERVER, "A slot with two_phase on", &refusal);
}

#[test]
fn a_missing_publication_is_refused() {
    let scene = Scene::new("pub_missing");
    let stage = &scene.stage;
    let slot = &stage.slot;
    stage
        .database
        .execute(&format!("drop publication {slot}, {slot}_spare"));
    let refusal = scene.is_refused(&["WP-PUB-MISSING", slot, "does not exist", "walpost init"]);
    scene
        .stage
        .lists(SERVER, "No publication of that name", &refusal);
}

#[test]
fn a_publication_without_the_table_is_refused() {
    let scene = Scene::new("pub_table");
    let stage = &scene.stage;
    let slot = &stage.slot;
    stage
        .database
        .execute(&format!("alter publication {slot} drop table outbox"));
    let refusal = scene.is_refused(&[slot, "does not carry the table public.outbox"]);
    scene
        .stage
        .lists(SERVER, "A publication without the outbox", &refusal);
}

#[test]
fn a_publication_without_inserts_is_refused() {
    let scene = Scene::new("pub_insert");
    let stage = &scene.stage;
    let slot = &stage.slot;
    stage.database.execute(&format!(
        "alter publication {slot} set (publish = 'update')"
    ));
    let refusal = scene.is_refused(&[slot, "does not publish inserts"]);
    scene
        .stage
        .lists(SERVER, "A publication without inserts", &refusal);
}

#[test]
fn a_publication_with_a_row_filter_is_refused() {
    if postgres().binaries().version() < 15 {
        return;
    }
    let scene = Scene::new("pub_filter");
    let stage = &scene.stage;
    let slot = &stage.slot;
    stage.database.execute(&format!(
        "alter publication {slot} set table outbox where (event_type = 'x')"
    ));
    let refusal = scene.is_refused(&[slot, "filter"]);
    stage.lists(SERVER, "A publication with a row filter", &refusal);
}

/// It is no mistake where the other one is a standby: so it waits.
#[test]
fn a_slot_that_another_process_streams_from_is_waited_for() {
    let scene = Scene::new("slot_active");
    let stage = &scene.stage;
    let first = stage.walpost.start(&["run"]);
    first.wait_for_log("\"streaming\"", SOON);
    let second = stage.walpost.start(&["run"]);
    let line = second.wait_for_log("is in use by", SOON);
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of the log is JSON");
    let cause = line["cause"].as_str().expect("it has a cause");
    let pid = stage
        .database
        .slot(&stage.slot)
        .expect("the slot")
        .active_pid;
    let pid = pid.expect("somebody streams").to_string();
    let (before, after) = cause.split_once(&pid).expect("the cause names the process");
    Mistake {
        section: SERVER,
        title: "A slot that another process streams from",
        code: None,
        message: &format!("{before}4711{after}"),
        fix: None,
    }
    .is_listed(&[(&stage.slot, "walpost")]);
    scene.write("1");
    assert!(second.is_running());
    first.kill();
    second.wait_for_log("\"streaming\"", SOON);
}

#[test]
fn a_table_that_is_not_there_is_refused() {
    let scene = Scene::new("table_missing");
    scene.stage.configure("outbox:\n  table: shop.outbox\n");
    let refusal = scene.is_refused(&[
        "the outbox table shop.outbox does not exist",
        "walpost init",
    ]);
    scene.stage.lists(SERVER, "No table of that name", &refusal);
}

#[test]
fn a_publication_with_a_table_that_is_no_outbox_is_refused() {
    let scene = Scene::new("pub_foreign");
    let stage = &scene.stage;
    stage.database.execute(&format!(
        "create table audit (id int); alter publication {} add table audit",
        stage.slot
    ));
    let refusal = scene.is_refused(&[&stage.slot, "public.audit", "drop table"]);
    scene
        .stage
        .lists(SERVER, "A publication with another table in it", &refusal);
}

/// Once such a row is in the WAL no change of the publication takes it out: it has to be read.
#[test]
fn rows_of_a_table_that_is_no_outbox_are_refused_rather_than_passed_over() {
    let scene = Scene::new("foreign_row");
    let (stage, topic) = (&scene.stage, &scene.topic);
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log("\"streaming\"", SOON);
    stage.database.execute(&format!(
        "create table audit (like outbox including all);
         alter publication {} add table audit;",
        stage.slot
    ));
    scene.write("1");
    let end = stage.database.current_lsn();
    stage.database.wait_until_confirmed(&stage.slot, end, SOON);
    stage.database.execute(&format!(
        "begin;
         insert into outbox (destination, payload) values ('{topic}', '2');
         insert into audit (destination, payload) values ('{topic}', '3');
         insert into outbox (destination, payload) values ('{topic}', '4');
         commit;"
    ));
    scene.write("5");
    let words = ["public.audit", "outbox.table"];
    Refusal::of(&ended(running)).assert(78, &words);
    // What stands before it in its own transaction may have left, and is not confirmed.
    let is_nothing_past_it = |numbers: Vec<u64>| numbers[0] == 1 && numbers[1..] <= [2, 2][..];
    assert!(is_nothing_past_it(scene.numbers()), "{:?}", scene.numbers());
    let confirmed = stage.confirmed();

    let publication = |change: &str| {
        let slot = &stage.slot;
        stage
            .database
            .execute(&format!("alter publication {slot} {change} table audit"));
    };
    publication("drop");
    stage.refused(78, &words);
    assert!(is_nothing_past_it(scene.numbers()), "{:?}", scene.numbers());
    assert_eq!(stage.confirmed(), confirmed);

    // Listed, its rows are events.
    publication("add");
    stage.configure("outbox:\n  table: [outbox, audit]\n");
    stage.once();
    let mut numbers = scene.numbers();
    numbers.dedup();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[test]
fn a_column_that_the_configuration_needs_and_the_table_lacks_is_refused() {
    let scene = Scene::new("column");
    let stage = &scene.stage;
    stage.configure("route:\n  key: \"${tenant}\"\n");
    let refusal = scene.is_refused(&["public.outbox", "column 'tenant'", "route.key"]);
    stage.lists(SERVER, "A column that does not exist", &refusal);
    stage.configure("outbox:\n  columns:\n    event_type: kind\n");
    scene.is_refused(&["column 'kind'", "outbox.columns.event_type"]);
    stage.configure("");
    stage.once();
    assert_eq!(scene.numbers(), [1, 1]);
}

#[test]
fn a_column_that_can_not_be_printed_beside_a_bytea_payload_is_refused() {
    let scene = Scene::new("column_type");
    let stage = &scene.stage;
    stage.database.execute(
        "alter table outbox alter payload type bytea using convert_to(payload::text, 'UTF8');
         alter table outbox add price numeric default 1.10;",
    );
    stage.configure("route:\n  headers:\n    id: \"${id}\"\n    price: \"${price}\"\n");
    let refusal = scene.is_refused(&[
        "'price'",
        "public.outbox",
        "route.headers.price",
        "make it text",
    ]);
    let title = "A type that can't be read beside a bytea payload";
    stage.lists(SERVER, title, &refusal);
    stage.configure("");
    stage.once();
    assert_eq!(scene.numbers(), [1]);
}

#[test]
fn a_server_that_does_not_write_enough_is_refused_by_every_command() {
    let server = Postgres::builder().setting("wal_level", "replica").start();
    let database = server.database("replica");
    database.create_outbox();
    let stage = Stage::bare("replica");
    let yaml = stage.yaml_of(&database.url(), &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let refusal = stage.refused(
        78,
        &["WP-PG-WAL-LEVEL", "wal_level", "'replica'", "logical"],
    );
    stage.lists(SERVER, "A server with wal_level = replica", &refusal);
    let init = Refusal::of(&stage.finish(&["init", "--apply"]));
    init.assert(78, &["wal_level", "'replica'", "restart"]);
    let check = stage.finish(&["check"]);
    assert_eq!(check.code, 1, "{}", check.stderr);
    assert!(check.stdout.contains("WP-PG-WAL-LEVEL"), "{}", check.stdout);
}

/// A set-up that a test breaks, and a topic that must stay empty.
struct Scene {
    stage: Stage,
    topic: String,
}

impl Scene {
    fn new(hint: &str) -> Self {
        let stage = Stage::ready(hint);
        let topic = stage.kafka.topic(hint, 1);
        Self { stage, topic }
    }

    fn write(&self, payload: &str) {
        self.stage.write(&self.topic, payload);
    }

    /// A row is committed, and neither produced nor confirmed.
    #[track_caller]
    fn is_refused(&self, words: &[&str]) -> Refusal {
        let stage = &self.stage;
        let before = stage.confirmed();
        self.write("1");
        let refusal = stage.refused(78, words);
        assert_eq!(stage.read(&self.topic), [], "nothing is produced");
        assert_eq!(stage.confirmed(), before, "nothing is confirmed");
        refusal
    }

    fn numbers(&self) -> Vec<u64> {
        let records = self.stage.read(&self.topic);
        let number = |json: Option<serde_json::Value>| json.and_then(|json| json.as_u64());
        let numbers = records.iter().map(|record| number(record.json()));
        numbers
            .map(|number| number.expect("payloads are numbers"))
            .collect()
    }
}
