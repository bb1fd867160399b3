//! `walpost init`: SQL that psql runs, and the same done at once.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use postgres::SimpleQueryMessage;

use crate::stage::{PLAIN, Refusal, Stage, postgres};

#[test]
fn psql_runs_what_init_prints_and_runs_it_again() {
    let stage = Stage::bare("psql");
    let printed = stage.finish(&["init"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    psql(&stage, &printed.stdout);
    let made = catalogue(&stage);
    assert_eq!(made.len(), 4, "table, two publications, slot: {made:#?}");
    psql(&stage, &printed.stdout);
    assert_eq!(catalogue(&stage), made);
    assert_works(&stage);
}

#[test]
fn init_applied_twice_changes_nothing_the_second_time() {
    let stage = Stage::bare("applied");
    let first = stage.init();
    assert_eq!(first.stdout.matches("created").count(), 4, "{first:?}");
    let made = catalogue(&stage);
    assert_eq!(made.len(), 4, "table, two publications, slot: {made:#?}");
    let second = stage.init();
    assert_eq!(second.stdout.matches("exists").count(), 4, "{second:?}");
    assert!(!second.stdout.contains("created"), "{second:?}");
    assert_eq!(catalogue(&stage), made);
    assert_works(&stage);
}

#[test]
fn both_ways_make_the_same() {
    let [printed, applied] = ["printed", "applied"].map(Stage::bare);
    let sections = "outbox:\n  table: ['\"A b\"', orders]\n  layout: debezium\n";
    for stage in [&printed, &applied] {
        stage.configure(sections);
    }
    psql(&printed, &printed.finish(&["init"]).stdout);
    applied.init();
    let shape = |stage: &Stage| {
        let columns = rows(
            stage,
            "select table_name, column_name, data_type, is_nullable, column_default
             from information_schema.columns where table_schema = 'public' order by 1, 2",
        );
        let publications = rows(
            stage,
            "select right(p.pubname, 5) = 'spare', tablename, pubinsert, pubupdate, pubdelete,
                    pubtruncate, pubviaroot, rowfilter
             from pg_publication p join pg_publication_tables using (pubname) order by 1, 2",
        );
        (columns, publications)
    };
    assert_eq!(shape(&printed), shape(&applied));
    assert_eq!(shape(&printed).1.len(), 4);
}

#[test]
fn init_leaves_what_is_wrong_and_says_how_to_mend_it() {
    let stage = Stage::bare("init_wrong");
    let slot = &stage.slot;
    stage.database.create_outbox();
    stage.database.execute(&format!(
        "create table audit ();
         create publication {slot} for table audit with (publish = 'update')"
    ));
    let refusal = Refusal::of(&stage.finish(&["init", "--apply"]));
    refusal.assert(
        78,
        &[
            "does not publish inserts",
            "does not carry the table",
            "public.audit",
        ],
    );
    assert_eq!(stage.database.slot(slot), None, "the slot comes last");

    // The fix is SQL that mends it.
    let fix = refusal.fix.expect("there is a fix");
    let (_, statements) = fix.split_once(":\n").expect("a list of statements");
    psql(&stage, statements);
    stage.init();
    assert_works(&stage);
}

#[test]
fn a_role_that_may_not_is_told_which_right_it_lacks() {
    let stage = Stage::bare("init_right");
    let url = stage.url_as(PLAIN, "any");
    let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let words = [
        "create the table public.outbox",
        "permission denied",
        "grant create",
    ];
    Refusal::of(&stage.finish(&["init", "--apply"])).assert(77, &words);

    stage.configure("");
    stage.database.execute(&format!(
        "create table outbox (id uuid primary key, destination text, payload jsonb);
         alter table outbox owner to {PLAIN};
         grant create on database \"{}\" to {PLAIN};",
        stage.database.name()
    ));
    stage.walpost.configure(&yaml);
    let refusal = Refusal::of(&stage.finish(&["init", "--apply"]));
    let words = [
        "create the slot",
        &stage.slot,
        "alter role \"plain\" replication",
    ];
    refusal.assert(77, &words);
}

#[test]
fn a_slot_that_is_not_usable_is_left_alone() {
    let stage = Stage::bare("init_slot");
    let slot = &stage.slot;
    stage.database.execute(&format!(
        "select pg_create_logical_replication_slot('{slot}', 'test_decoding')"
    ));
    let before = stage.database.slot(slot);
    let refusal = Refusal::of(&stage.finish(&["init", "--apply"]));
    refusal.assert(78, &[slot, "test_decoding", "pgoutput"]);
    assert_eq!(stage.database.slot(slot), before);
}

/// One event goes through what was made, and `check` finds nothing.
#[track_caller]
fn assert_works(stage: &Stage) {
    let check = stage.finish(&["check"]);
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
    assert!(check.stdout.contains("\n0 errors"), "{}", check.stdout);
    let topic = stage.kafka.topic("works", 1);
    stage.write(&topic, "1");
    stage.once();
    assert_eq!(stage.read(&topic).len(), 1);
}

/// What there is that init makes, with identities that a second making would change.
fn catalogue(stage: &Stage) -> Vec<String> {
    let slot = &stage.slot;
    rows(
        stage,
        &format!(
            "select relname, oid::text, xmin::text from pg_class where relname = 'outbox'
             union all
             select pubname, oid::text, xmin::text from pg_publication
             where pubname ~ '^{slot}(_spare)?$'
             union all
             select slot_name, confirmed_flush_lsn::text, plugin
             from pg_replication_slots where slot_name = '{slot}' order by 1"
        ),
    )
}

fn rows(stage: &Stage, query: &str) -> Vec<String> {
    let messages = stage.database.client().simple_query(query).unwrap();
    let row = |message: &SimpleQueryMessage| {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        let values: Vec<_> = (0..row.len())
            .map(|n| row.get(n).unwrap_or("NULL"))
            .collect();
        Some(values.join(" | "))
    };
    messages.iter().filter_map(row).collect()
}

#[track_caller]
fn psql(stage: &Stage, statements: &str) {
    let program = postgres().binaries().dir().join("psql");
    let mut psql = Command::new(program)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
        .arg(stage.database.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run psql");
    let mut stdin = psql.stdin.take().expect("it was asked for");
    stdin
        .write_all(statements.as_bytes())
        .expect("write to psql");
    drop(stdin);
    let output = psql.wait_with_output().expect("wait for psql");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{statements}");
}
