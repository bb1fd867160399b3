//! What the server is set to, on clusters of the tests' own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use walpost_tests::{Mistake, Postgres, Stop, try_wait_until};

use super::{Stage, at, check, cluster, fixed_route};
use crate::{
    SERVER,
    scripted::AlteringProxy,
    stage::{Refusal, STREAMER, postgres, psql},
};

#[test]
fn settings_of_the_server_are_found_and_mended_by_what_is_printed() {
    let server = Postgres::builder()
        .setting("wal_level", "replica")
        .setting("max_replication_slots", "1")
        .setting("max_wal_senders", "2")
        .start();
    let database = server.database("settings");
    let stage = Stage::bare("settings");
    at(&stage, &database.url());

    // The slot is still to be made: one of somebody else takes the only place.
    database.execute("select pg_create_physical_replication_slot('of_others')");
    let found = check(&stage);
    let level = found.the("WP-PG-WAL-LEVEL");
    assert!(level.seen.contains("'replica'"), "{level:?}");
    let slots = found.the("WP-PG-SLOTS");
    assert!(slots.seen.contains("all 1 replication slots"), "{slots:?}");
    let keep = found.the("WP-PG-KEEP-SIZE");
    assert!(
        keep.seen.contains("max_slot_wal_keep_size is -1"),
        "{keep:?}"
    );
    assert_eq!(keep.severity, "warning");
    for finding in [level, slots, keep] {
        psql(&database.url(), &finding.fix);
    }
    server.restart(Stop::Fast);
    let found = check(&stage);
    for code in ["WP-PG-WAL-LEVEL", "WP-PG-SLOTS", "WP-PG-KEEP-SIZE"] {
        found.assert_not(code);
    }
    database.drop_slot("of_others");
    stage.init();
    assert_eq!(check(&stage).codes(), [""; 0]);

    // `init` needs a WAL sender too, and `run`.
    let other = Stage::bare("only_sender");
    let url = format!("{}?application_name=other", database.url());
    let yaml = other.yaml_of(&url, &other.kafka.brokers(), "");
    other
        .walpost
        .configure(&yaml.replace(&other.slot, &stage.slot));
    let running = other.walpost.start(&["run"]);
    running.wait_for_log("\"streaming\"", Duration::from_secs(60));
    // Also where the role may not see whose the others are.
    database.execute(
        "create role streamer login replication; grant usage on schema walpost to streamer;
         grant select, insert, update on walpost.checkpoint to streamer",
    );
    for role in ["postgres", "streamer"] {
        let url = database.url().replace("postgres@", &format!("{role}@"));
        at(&stage, &url);
        let found = check(&stage);
        assert_eq!(found.errors(), ["WP-PG-SENDERS"], "{found:#?}");
        let senders = found.the("WP-PG-SENDERS");
        assert!(senders.seen.contains("all 2 WAL senders"), "{senders:?}");
        assert!(senders.fix.contains("max_wal_senders = '7'"), "{senders:?}");
    }
    let init = Refusal::of(&stage.finish(&["init", "--apply"]));
    init.assert(69, &["max_wal_senders", "restart the server"]);
    at(&stage, &database.url());
    assert_eq!(crate::stage::ended_by_stop(running).code, 0);
    check(&stage).assert_not("WP-PG-SENDERS");
}

#[test]
fn a_relay_that_every_commit_would_wait_for_is_refused_by_check_and_by_run() {
    let server = cluster();
    let database = server.database("sync");
    let stage = Stage::bare("sync");
    at(&stage, &database.url());
    stage.init();
    let name = format!("\"walpost {}\"", stage.slot);
    for names in ["*", &name, &format!("FIRST 1 (nobody, {name})")] {
        server.set("synchronous_standby_names", names);
        let found = wait_for(&stage, "WP-PG-SYNC");
        assert!(found.seen.contains(names), "{found:?}");
        assert_eq!(found.severity, "error");
        stage.refused(78, &["WP-PG-SYNC", "synchronous_standby_names"]);
        psql(&database.url(), &found.fix);
        wait_until_not(&stage, "WP-PG-SYNC");
    }
    server.set("synchronous_standby_names", "walpost_other, \"a walpost\"");
    stage.once();
    check(&stage).assert_not("WP-PG-SYNC");
}

/// A reload takes a moment to reach new sessions.
fn wait_for(stage: &Stage, code: &str) -> super::Finding {
    let found = try_wait_until(crate::SOON, || {
        let found = check(stage);
        found.codes().contains(&code).then(|| found.the(code))
    });
    found.unwrap_or_else(|| panic!("no {code}"))
}

fn wait_until_not(stage: &Stage, code: &str) {
    let gone = try_wait_until(crate::SOON, || {
        (!check(stage).codes().contains(&code)).then_some(())
    });
    assert!(gone.is_some(), "{code} stays");
}

#[test]
fn transactions_that_a_new_slot_would_wait_for_are_found() {
    let server = Postgres::builder()
        .setting("max_prepared_transactions", "5")
        .start();
    let database = server.database("open");
    let stage = Stage::bare("open");
    at(&stage, &database.url());
    database.execute("create table t (id int)");
    database.execute("begin; insert into t values (1); prepare transaction 'it''s'");
    let mut session = database.client();
    session
        .batch_execute("begin; insert into t values (2)")
        .unwrap();
    let both = try_wait_until(crate::SOON, || {
        let found = check(&stage);
        let count = found
            .codes()
            .iter()
            .filter(|code| **code == "WP-PG-TRANSACTION")
            .count();
        (count == 2).then_some(found)
    });
    let text = both.expect("both are found").json.to_string();
    assert!(
        text.contains("prepared transaction 'it''s' of postgres"),
        "{text}"
    );
    let open = check(&stage).the("WP-PG-TRANSACTION");
    for _ in 0..2 {
        let one = check(&stage).the("WP-PG-TRANSACTION");
        assert!(
            one.seen.contains("'walpost init' would wait for it"),
            "{one:?}"
        );
        psql(&database.url(), &one.fix);
        wait_until_one_less(&stage);
    }
    drop(open);
    check(&stage).assert_not("WP-PG-TRANSACTION");
}

/// A session that is ended needs a moment.
fn wait_until_one_less(stage: &Stage) {
    let count = || {
        let found = check(stage);
        let codes = found.codes();
        codes
            .iter()
            .filter(|code| **code == "WP-PG-TRANSACTION")
            .count()
    };
    assert!(try_wait_until(crate::SOON, || (count() < 2).then_some(())).is_some());
}

#[test]
fn a_slot_that_somebody_else_reads_and_a_temporary_one_are_found() {
    let stage = Stage::ready("in_use");
    let url = format!(
        "{}?replication=database&application_name=somebody",
        stage.database.url()
    );
    let slot = &stage.slot;
    let program = stage
        .database
        .postgres()
        .binaries()
        .client("pg_recvlogical");
    let mut reader = std::process::Command::new(program);
    let publication = format!("publication_names={slot}");
    reader
        .args(["-d", &url.replace("replication=database&", "")])
        .args(["-S", slot, "--start", "-f", "/dev/null"])
        .args(["-o", "proto_version=1", "-o", &publication]);
    let reader = walpost_tests::Process::spawn(&mut reader).expect("start pg_recvlogical");
    let found = wait_for(&stage, "WP-SLOT-IN-USE");
    assert!(
        found.seen.contains("in use by 'somebody' (server process "),
        "{found:?}"
    );
    assert!(found.seen.contains("from 127.0.0.1"), "{found:?}");
    assert_eq!(found.severity, "warning");
    at(&stage, &stage.url_as(STREAMER, "any"));
    let found = check(&stage).the("WP-SLOT-IN-USE");
    let words = "in use by 'somebody' (server process ";
    assert!(found.seen.contains(words), "{found:?}");
    assert!(
        found
            .seen
            .contains("from an address that this role may not see"),
        "{found:?}"
    );
    stage.configure("");
    // It starts again at once when it is only disconnected.
    reader.kill();
    wait_until_not(&stage, "WP-SLOT-IN-USE");

    stage.database.drop_slot(slot);
    let mut session = stage.database.client();
    let make = format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput', true)");
    session.batch_execute(&make).unwrap();
    let found = check(&stage);
    assert_eq!(found.errors(), ["WP-SLOT-TEMPORARY"]);
    stage.refused(78, &["WP-SLOT-TEMPORARY", slot]);
    let init = Refusal::of(&stage.finish(&["init", "--apply"]));
    init.assert(78, &["WP-SLOT-TEMPORARY", slot]);
}

/// No machine of the tests' has another clock: the server is made to say it has.
#[test]
fn a_clock_that_is_far_off_and_a_version_to_come_are_found() {
    let stage = Stage::ready("impostor");
    fixed_route(&stage);
    check(&stage).assert_not("WP-PG-CLOCK");
    stage.database.execute(
        "create or replace function pg_catalog.clock_timestamp() returns timestamptz
             language sql volatile as 'select pg_catalog.now() - interval ''1 hour'''",
    );
    let found = check(&stage);
    let clock = found.the("WP-PG-CLOCK");
    assert_eq!((found.code, clock.severity.as_str()), (0, "warning"));
    assert!(clock.seen.contains("s behind this machine's"), "{clock:?}");

    stage.database.execute(
        "create function pg_catalog.setting_of_old(text) returns text
             language internal stable strict as 'show_config_by_name';
         create or replace function pg_catalog.current_setting(text) returns text
             language sql stable as $$ select case $1 when 'server_version_num' then '990001'
                 when 'server_version' then '99.1' else pg_catalog.setting_of_old($1) end $$",
    );
    let found = check(&stage);
    let version = found.the("WP-PG-VERSION");
    assert_eq!(version.severity, "warning");
    assert!(
        version.seen.contains("not tested with PostgreSQL 99"),
        "{version:?}"
    );
    assert!(version.fix.contains("from 15 to 18"), "{version:?}");
}

#[test]
fn a_standby_is_refused_by_check_and_by_init() {
    let server = cluster();
    let database = server.database("standby");
    let stage = Stage::bare("standby");
    at(&stage, &database.url());
    stage.init();
    server.stop(Stop::Fast);
    std::fs::write(server.data_dir().join("standby.signal"), "").unwrap();
    server.start();
    let found = check(&stage);
    assert_eq!(
        (found.code, found.errors()),
        (1, vec!["WP-PG-STANDBY"]),
        "{found:#?}"
    );
    let standby = found.the("WP-PG-STANDBY");
    assert!(standby.fix.contains("target_session_attrs"), "{standby:?}");
    let init = Refusal::of(&stage.finish(&["init", "--apply"]));
    init.assert(78, &["WP-PG-STANDBY", "primary"]);
}

/// What the server says of its clock is altered on the way, by 10 000 s.
#[test]
fn a_clock_that_is_far_off_is_told_with_the_difference() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let thousands = now.as_secs() / 1000;
    // The next thousand can begin while the test runs.
    let changes = [thousands, thousands + 1]
        .map(|thousands| (thousands.to_string(), (thousands - 10).to_string()));
    let proxy = AlteringProxy::new(postgres().port(), &changes);
    let stage = Stage::ready("clock");
    check(&stage).assert_not("WP-PG-CLOCK");
    let (port, name) = (proxy.port(), stage.database.name());
    at(
        &stage,
        &format!("postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable"),
    );
    let clock = check(&stage).the("WP-PG-CLOCK");
    assert_eq!(clock.severity, "warning");
    let seconds = clock
        .seen
        .split(' ')
        .find_map(|word| word.parse::<u64>().ok());
    let seconds = seconds.expect("the difference is told");
    assert!((10_000..11_000).contains(&seconds), "{clock:?}");
    let told = seconds.to_string();
    Mistake {
        section: SERVER,
        title: "A clock that is far off",
        code: None,
        message: &format!("WP-PG-CLOCK: {}", clock.seen),
        fix: Some(&clock.fix),
    }
    .is_listed(&[(&told, "10000")]);
}
