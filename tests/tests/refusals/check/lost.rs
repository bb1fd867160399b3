//! Slots that lose what they keep, and one that stands where there is no WAL yet.

use std::{path::Path, process::Command};

use walpost_tests::{Database, Postgres, PostgresBuilder, Stop, wait_until};

use super::{Stage, at, check};
use crate::stage::{Refusal, psql};

/// A cluster whose slots keep 20 MB, in WAL files of one.
pub(super) fn small(builder: PostgresBuilder) -> Postgres {
    builder
        .initdb("--wal-segsize=1")
        .setting("max_slot_wal_keep_size", "20MB")
        .setting("max_wal_size", "1GB")
        .fsync(false)
        .start()
}

/// Writes WAL until the slot has this state.
fn wait_for_status(database: &Database<'_>, slot: &str, status: &str, statement: &str) {
    wait_until(crate::SOON, &format!("wal_status {status}"), || {
        database.execute(statement);
        let slot = database.slot(slot).expect("the slot is there");
        (slot.wal_status.as_deref() == Some(status)).then_some(())
    });
}

const SWITCH: &str = "select pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()";

/// Writes WAL until the slot is invalidated.
pub(super) fn lose(database: &Database<'_>, slot: &str) {
    wait_for_status(database, slot, "unreserved", SWITCH);
    wait_for_status(database, slot, "lost", "checkpoint");
}

#[test]
fn a_slot_that_is_about_to_be_lost_and_then_is_lost_is_told_at_each_step() {
    let server = small(Postgres::builder());
    let database = server.database("lost");
    let stage = Stage::bare("lost");
    at(&stage, &database.url());
    stage.init();

    let safe = wait_until(crate::SOON, "the room of the slot shrinks", || {
        database.execute(SWITCH);
        let found = check(&stage);
        let is_found = found.codes().contains(&"WP-SLOT-SAFE-SIZE");
        is_found.then(|| found.the("WP-SLOT-SAFE-SIZE"))
    });
    assert!(
        safe.seen.contains("max_slot_wal_keep_size is 20.0 MiB"),
        "{safe:?}"
    );
    assert_eq!(safe.severity, "warning");
    psql(&database.url(), &safe.fix);
    check(&stage).assert_not("WP-SLOT-SAFE-SIZE");

    server.set("max_slot_wal_keep_size", "20MB");
    wait_for_status(&database, &stage.slot, "unreserved", SWITCH);
    let found = check(&stage);
    assert_eq!(found.codes(), ["WP-SLOT-UNRESERVED"], "{found:#?}");
    let unreserved = found.the("WP-SLOT-UNRESERVED");
    assert!(unreserved.seen.contains(&stage.slot), "{unreserved:?}");
    psql(&database.url(), &unreserved.fix);
    assert_eq!(check(&stage).codes(), [""; 0]);

    server.set("max_slot_wal_keep_size", "20MB");
    wait_for_status(&database, &stage.slot, "lost", "checkpoint");
    let found = check(&stage);
    assert_eq!(
        (found.code, found.errors()),
        (1, vec!["WP-SLOT-LOST"]),
        "{found:#?}"
    );
    let lost = found.the("WP-SLOT-LOST");
    assert!(lost.seen.contains("invalidated"), "{lost:?}");
    assert!(lost.seen.contains("confirmed up to"), "{lost:?}");
    stage.refused(
        79,
        &["WP-SLOT-LOST", &stage.slot, "pg_drop_replication_slot"],
    );
    let init = Refusal::of(&stage.finish(&["init", "--apply"]));
    init.assert(79, &["WP-SLOT-LOST", &stage.slot]);
    // After the comparison that nobody can do for him, the owner drops it.
    psql(&database.url(), &lost.fix);
    stage.init_again(&[]);
    assert_eq!(check(&stage).codes(), [""; 0]);
}

/// Segments of 64 MB, of which nothing but the beginning is written.
#[test]
fn a_slot_that_keeps_much_wal_is_told_with_what_keeps_it() {
    let server = Postgres::builder()
        .initdb("--wal-segsize=64")
        .setting("wal_init_zero", "off")
        .setting("max_slot_wal_keep_size", "10GB")
        .setting("max_wal_size", "10GB")
        .setting("max_prepared_transactions", "1")
        .fsync(false)
        .start();
    let database = server.database("lag");
    let stage = Stage::bare("lag");
    at(&stage, &database.url());
    stage.init();
    let switch = || (0..17).for_each(|_| database.execute(SWITCH));
    assert_eq!(check(&stage).codes(), [""; 0]);
    switch();
    let found = check(&stage);
    assert_eq!(
        (found.code, found.codes()),
        (0, vec!["WP-SLOT-LAG"]),
        "{found:#?}"
    );
    let lag = found.the("WP-SLOT-LAG");
    assert!(
        lag.seen.contains("is confirmed up to 1.0 GiB before"),
        "{lag:?}"
    );
    assert!(lag.seen.contains("keeps 1.0 GiB of it"), "{lag:?}");
    assert!(lag.fix.starts_with("walpost run"), "{lag:?}");
    stage.once();
    let confirmed = || {
        database.execute("checkpoint");
        stage.once();
        check(&stage)
    };
    wait_until(crate::SOON, "the slot keeps less", || {
        confirmed().codes().is_empty().then_some(())
    });

    // However far the relay comes, this keeps the WAL since its begin.
    database.execute(
        "create table t (id int); begin; insert into t values (1); prepare transaction 'pins'",
    );
    switch();
    let found = confirmed();
    assert_eq!(found.codes(), ["WP-SLOT-LAG"], "{found:#?}");
    let lag = found.the("WP-SLOT-LAG");
    assert!(
        lag.seen
            .contains(" before the end of the WAL, and keeps 1.0 GiB"),
        "{lag:?}"
    );
    assert!(
        lag.seen.contains("KiB before") || lag.seen.contains("bytes before"),
        "{lag:?}"
    );
    assert!(lag.fix.contains("pg_prepared_xacts"), "{lag:?}");
}

/// As after a restore: the WAL ends before the slot's position.
#[test]
fn a_slot_that_stands_behind_the_end_of_the_wal_is_a_gap() {
    let server = small(Postgres::builder());
    let database = server.database("ahead");
    let stage = Stage::bare("ahead");
    at(&stage, &database.url());
    stage.init();
    server.stop(Stop::Fast);
    let data = server.data_dir();
    let old = data.with_file_name("old");
    copy(&data, &old);
    server.start();
    for _ in 0..3 {
        database.execute(SWITCH);
    }
    database.execute(&format!(
        "select pg_replication_slot_advance('{}', pg_current_wal_lsn())",
        stage.slot
    ));
    server.stop(Stop::Fast);
    let slots = data.join("pg_replslot");
    std::fs::remove_dir_all(old.join("pg_replslot")).unwrap();
    copy(&slots, &old.join("pg_replslot"));
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&old, &data).unwrap();
    server.start();

    let found = check(&stage);
    assert_eq!(
        (found.code, found.errors()),
        (1, vec!["WP-SLOT-AHEAD"]),
        "{found:#?}"
    );
    let ahead = found.the("WP-SLOT-AHEAD");
    assert!(
        ahead.seen.contains("behind the end of the server's WAL"),
        "{ahead:?}"
    );
    stage.refused(79, &["WP-SLOT-AHEAD", &stage.slot]);
    psql(&database.url(), &ahead.fix);
    stage.init_again(&[]);
    assert_eq!(check(&stage).codes(), [""; 0]);
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "copy {}",
        from.display()
    );
}
