//! `walpost init`: SQL that psql runs, and the same done at once.

use std::time::Duration;

use postgres::SimpleQueryMessage;
use walpost_tests::{Postgres, try_wait_until, wait_until};

use crate::{
    SOON,
    check::object,
    stage::{PLAIN, Refusal, STREAMER, Stage, ended, postgres, psql},
};

#[test]
fn psql_runs_what_init_prints_and_runs_it_again() {
    let stage = Stage::bare("psql");
    let printed = stage.finish(&["init"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    psql(&stage.url(), &printed.stdout);
    let made = catalogue(&stage);
    assert_eq!(made.len(), 4, "table, two publications, slot: {made:#?}");
    psql(&stage.url(), &printed.stdout);
    assert_eq!(catalogue(&stage), made);
    assert_works(&stage);
}

/// As `walpost init | psql` does, which goes on after an error.
#[test]
fn no_slot_is_left_behind_by_a_psql_that_could_not_make_the_publication() {
    let stage = Stage::bare("psql_half");
    stage
        .database
        .execute(&format!("create schema app authorization {STREAMER}"));
    let url = stage.url_as(STREAMER, "any");
    let sections = "outbox:\n  table: app.outbox\n";
    stage
        .walpost
        .configure(&stage.yaml_of(&url, &stage.kafka.brokers(), sections));
    for failover in [&[][..], &["--failover"]] {
        let printed = stage.finish(&[&["init"], failover].concat()).stdout;
        if failover.is_empty() || postgres().binaries().version() >= 17 {
            psql(&url, &format!("\\set ON_ERROR_STOP off\n{printed}"));
        }
        assert_eq!(stage.database.slot(&stage.slot), None, "{printed}");
    }
    let table = rows(
        &stage,
        "select relname from pg_class where oid = 'app.outbox'::regclass",
    );
    assert_eq!(table, ["outbox"], "what came before is there");
}

#[test]
fn init_applied_twice_changes_nothing_the_second_time() {
    let stage = Stage::bare("applied");
    let first = stage.init();
    assert_eq!(first.stdout.matches("created").count(), 7, "{first:?}");
    let made = catalogue(&stage);
    assert_eq!(made.len(), 4, "table, two publications, slot: {made:#?}");
    let second = stage.init();
    assert_eq!(second.stdout.matches("exists").count(), 6, "{second:?}");
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
    psql(&printed.url(), &printed.finish(&["init"]).stdout);
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
                    pubtruncate, pubviaroot, to_jsonb(pg_publication_tables) ->> 'rowfilter'
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
         create publication {slot} for table audit with (publish = 'update');
         alter table outbox drop event_type;
         create publication {slot}_spare for table outbox with (publish = 'delete')"
    ));
    stage.configure("route:\n  headers:\n    type: \"${event_type}\"\n");
    let refused = stage.finish(&["init", "--apply", "--json"]);
    let json = object(&refused);
    assert_eq!(refused.code, 78, "{json:#}");
    assert_eq!(
        (&json["ok"], &json["error"]["code"]),
        (&false.into(), &"configuration".into())
    );
    let findings = json["result"]["findings"].as_array().unwrap();
    let codes: Vec<_> = findings
        .iter()
        .map(|found| found["code"].as_str().unwrap())
        .collect();
    let expected = [
        "WP-TABLE-COLUMN",
        "WP-PUB-INSERT",
        "WP-PUB-MORE",
        "WP-PUB-ROOT",
        "WP-PUB-TABLE",
        "WP-PUB-FOREIGN",
        "WP-PUB-SPARE",
    ];
    assert_eq!(codes, expected, "{json:#}");
    assert_eq!(stage.database.slot(slot), None, "the slot comes last");

    let text = stage.finish(&["init", "--apply"]);
    assert_eq!(text.code, 78);
    for words in [
        "error    WP-PUB-INSERT: ",
        "warning  WP-PUB-SPARE: ",
        "fix: alter",
    ] {
        assert!(text.stdout.contains(words), "{}", text.stdout);
    }
    assert!(
        text.stderr.contains("the slot was not touched"),
        "{}",
        text.stderr
    );

    // The fixes are SQL that mends it.
    for finding in findings {
        psql(&stage.url(), finding["fix"].as_str().unwrap());
    }
    stage.init();
    assert_works(&stage);
}

#[test]
fn a_report_of_init_is_one_object() {
    let stage = Stage::bare("init_json");
    let printed = object(&stage.finish(&["init", "--json"]));
    psql(&stage.url(), printed["result"]["sql"].as_str().unwrap());
    stage.forget_slot();
    let applied = object(&stage.finish(&["init", "--apply", "--json"]));
    assert_eq!(
        (&applied["ok"], &applied["error"]),
        (&true.into(), &serde_json::Value::Null)
    );
    let steps = applied["result"]["steps"].as_array().unwrap();
    let steps: Vec<_> = steps
        .iter()
        .map(|step| {
            (
                step["done"].as_str().unwrap(),
                step["what"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("exists", "table"),
        ("exists", "publication"),
        ("exists", "publication"),
        ("exists", "table"),
        ("exists", "table"),
        ("created", "slot"),
        ("created", "checkpoint"),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_role_that_may_not_is_told_which_right_it_lacks() {
    let stage = Stage::bare("init_right");
    let configure = |role: &str| {
        let yaml = stage.yaml_of(&stage.url_as(role, "any"), &stage.kafka.brokers(), "");
        stage.walpost.configure(&yaml);
    };
    configure(PLAIN);
    let refusal = Refusal::of(&stage.finish(&["init", "--apply"]));
    refusal.assert(77, &["WP-PG-REPLICATION", "nothing was changed"]);
    assert_eq!(
        refusal.fix.as_deref(),
        Some("alter role \"plain\" replication;")
    );

    // Before 15 everybody might make tables there.
    stage
        .database
        .execute("revoke create on schema public from public");
    configure(STREAMER);
    let words = [
        "create the table public.outbox",
        "permission denied",
        "grant create",
        "--admin-url",
    ];
    Refusal::of(&stage.finish(&["init", "--apply"])).assert(77, &words);
    stage.database.create_outbox();
    let database = stage.database.name();
    let grant = format!("grant create on database \"{database}\" to \"streamer\";");
    let words = [
        "create the publication",
        "--admin-url",
        &grant,
        "owns the outbox",
    ];
    Refusal::of(&stage.finish(&["init", "--apply"])).assert(77, &words);
    assert_eq!(stage.database.slot(&stage.slot), None);
}

/// The owner makes table and publications, the relay's role its slot, and needs nothing more.
#[test]
fn another_role_can_own_what_the_relay_only_streams() {
    let stage = Stage::bare("init_admin");
    let yaml = stage.yaml_of(&stage.url_as(STREAMER, "any"), &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let owner = stage.url();
    let made = stage.finish(&["init", "--apply", "--admin-url", &owner]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(made.stdout.matches("created").count(), 7, "{}", made.stdout);
    assert_eq!(catalogue(&stage).len(), 4);
    assert_works(&stage);

    let elsewhere = postgres().database("elsewhere").url();
    let refusal = Refusal::of(&stage.finish(&["init", "--apply", "--admin-url", &elsewhere]));
    refusal.assert(78, &["--admin-url", "elsewhere", "of the same server"]);
    let wrong = Refusal::of(&stage.finish(&["init", "--apply", "--admin-url", "x://y"]));
    wrong.assert(78, &["--admin-url"]);
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
    refusal.assert(78, &["WP-SLOT-PLUGIN", slot, "test_decoding", "pgoutput"]);
    assert_eq!(stage.database.slot(slot), before);
    assert_eq!(catalogue(&stage).len(), 1, "nothing was made beside it");
}

#[test]
fn the_slot_waits_for_open_transactions_and_says_for_which() {
    let server = Postgres::new();
    let database = server.database("waits");
    let stage = Stage::bare("waits");
    let yaml = stage.yaml_of(&database.url(), &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let mut session = postgres::Config::new();
    let mut session = session
        .host("127.0.0.1")
        .port(server.port())
        .user("postgres")
        .dbname(database.name())
        .application_name("a long job")
        .connect(postgres::NoTls)
        .unwrap();
    session
        .batch_execute(
            "create table secret_plan (id int); begin; insert into secret_plan values (1)",
        )
        .unwrap();
    let running = stage.walpost.start(&["init", "--apply"]);
    running.wait_for_output("(a long job), open for", SOON);
    running.wait_for_output("select pg_terminate_backend(", SOON);
    assert!(
        !running.output().contains("secret_plan"),
        "no query is shown"
    );
    session.batch_execute("commit").unwrap();
    let made = ended(running);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(made.stdout.contains("created  slot"), "{}", made.stdout);

    // How long it is open, only those may see who may see the session.
    database.drop_slot(&stage.slot);
    database.execute(&format!(
        "create role {STREAMER} login replication;
         truncate walpost.checkpoint;
         grant usage on schema walpost to {STREAMER};
         grant select, insert, update on walpost.checkpoint to {STREAMER};
         grant select, insert on walpost.skip to {STREAMER}"
    ));
    session
        .batch_execute("begin; insert into secret_plan values (2)")
        .unwrap();
    let url = database.url().replace("postgres@", &format!("{STREAMER}@"));
    stage
        .walpost
        .configure(&stage.yaml_of(&url, &stage.kafka.brokers(), ""));
    let running = stage.walpost.start(&["init", "--apply"]);
    let line = running.wait_for_output("(a long job)", SOON);
    assert!(line.ends_with("(a long job)"), "{line}");
    running.wait_for_output("select pg_terminate_backend(", SOON);
    session.batch_execute("commit").unwrap();
    assert_eq!(ended(running).code, 0);
}

/// The server process would go on waiting, and make the slot when nobody wants it any more.
#[test]
fn an_interrupted_init_leaves_no_slot_behind() {
    let server = Postgres::new();
    let database = server.database("interrupted");
    for kind in ["interrupt", "kill"] {
        let stage = Stage::bare(kind);
        let yaml = stage.yaml_of(&database.url(), &stage.kafka.brokers(), "");
        stage.walpost.configure(&yaml);
        database.execute("create table if not exists held (id int)");
        let mut session = database.client();
        session
            .batch_execute("begin; insert into held values (1)")
            .unwrap();
        let running = stage.walpost.start(&["init", "--apply"]);
        running.wait_for_output("waiting", SOON);
        if kind == "interrupt" {
            running.interrupt();
            let finished = ended(running);
            assert_eq!(finished.code, 130, "{}", finished.stderr);
            assert!(
                finished.stderr.contains("no slot was made"),
                "{}",
                finished.stderr
            );
        } else {
            running.kill();
        }
        wait_until(SOON, "the end of the statement", || {
            let query = "select 1 from pg_stat_activity where application_name = 'walpost init'
                         and state = 'active'";
            database
                .client()
                .query(query, &[])
                .unwrap()
                .is_empty()
                .then_some(())
        });
        session.batch_execute("commit").unwrap();
        let made = try_wait_until(Duration::from_millis(300), || database.slot(&stage.slot));
        assert_eq!(made, None, "{kind}");
        assert_eq!(
            stage.finish(&["init", "--apply"]).code,
            0,
            "it can be run again"
        );
    }
}

#[test]
fn a_server_without_a_free_slot_says_how_to_get_one() {
    let server = Postgres::builder()
        .setting("max_replication_slots", "1")
        .start();
    let database = server.database("full");
    database.execute("select pg_create_physical_replication_slot('of_others')");
    let stage = Stage::bare("full");
    let yaml = stage.yaml_of(&database.url(), &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let refusal = Refusal::of(&stage.finish(&["init", "--apply"]));
    let words = [
        "create the slot",
        "pg_drop_replication_slot",
        "max_replication_slots",
    ];
    refusal.assert(78, &words);
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
