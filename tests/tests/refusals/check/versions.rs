//! What only newer versions have.

use walpost_tests::{Binaries, Database, Postgres};

use super::{Stage, at, check};
use crate::stage::{Refusal, psql};

/// Without the binaries of the newer version there is nothing to look at.
fn newer() -> Option<Postgres> {
    let binaries = Binaries::major(18)?;
    let server = Postgres::builder()
        .binaries(binaries)
        .setting("max_slot_wal_keep_size", "10GB");
    Some(server.start())
}

#[test]
fn what_version_18_has_more_is_looked_at() {
    let Some(server) = newer() else { return };
    let database = server.database("newer");
    let stage = Stage::bare("newer");
    at(&stage, &database.url());
    stage.init();
    assert_eq!(check(&stage).codes(), [""; 0]);
    idle_slots_that_are_given_up(&server, &database, &stage);
    limits_of_the_role(&database, &stage);
    generated_columns(&database, &stage);
    failover(&server, &database, &stage);
}

fn idle_slots_that_are_given_up(server: &Postgres, database: &Database<'_>, stage: &Stage) {
    server.set("idle_replication_slot_timeout", "1h");
    let found = check(stage).the("WP-PG-IDLE-SLOT");
    assert!(found.seen.contains("is 3600 s"), "{found:?}");
    assert_eq!(found.severity, "warning");
    psql(&database.url(), &found.fix);
    check(stage).assert_not("WP-PG-IDLE-SLOT");
}

/// Those that the relay asks for itself can't be taken away by a role's settings.
fn limits_of_the_role(database: &Database<'_>, stage: &Stage) {
    database.execute(
        "alter role postgres set transaction_timeout = '30s';
         alter role postgres set statement_timeout = '30s';
         alter role postgres set idle_session_timeout = '30s';
         alter role postgres set wal_sender_timeout = 0",
    );
    let found = check(stage);
    assert_eq!(found.codes(), ["WP-PG-TIMEOUT"], "{found:#?}");
    let timeout = found.the("WP-PG-TIMEOUT");
    assert!(
        timeout.seen.contains("transaction_timeout is 30000 ms"),
        "{timeout:?}"
    );
    psql(&database.url(), &timeout.fix);
    assert_eq!(check(stage).codes(), [""; 0]);
}

fn generated_columns(database: &Database<'_>, stage: &Stage) {
    database.execute(
        "alter table outbox add stored text generated always as (upper(destination)) stored;
         alter table outbox add made text generated always as (upper(destination)) virtual",
    );
    let topic = super::any_topic();
    let key = |column: &str| {
        let sections = format!("route:\n  topic: {topic}\n  headers:\n    h: \"${{{column}}}\"\n");
        let yaml = stage.yaml_of(&database.url(), &stage.kafka.brokers(), &sections);
        stage.walpost.configure(&yaml);
    };
    key("stored");
    let found = check(stage).the("WP-TABLE-GENERATED");
    assert!(
        found.fix.contains("(publish_generated_columns = stored);"),
        "{found:?}"
    );
    psql(&database.url(), &found.fix);
    check(stage).assert_not("WP-TABLE-GENERATED");
    key("made");
    let found = check(stage).the("WP-TABLE-GENERATED");
    assert!(found.fix.contains("an ordinary one"), "{found:?}");
    at(stage, &database.url());
}

fn failover(server: &Postgres, database: &Database<'_>, stage: &Stage) {
    check(stage).assert_not("WP-SLOT-FAILOVER");
    let exists = stage.finish(&["init", "--apply", "--failover"]);
    assert_eq!(exists.code, 0, "{}", exists.stderr);
    let words = "WP-SLOT-FAILOVER: --failover is given, and the slot";
    assert!(exists.stdout.contains(words), "{}", exists.stdout);
    assert!(!stage.init().stdout.contains("WP-SLOT-FAILOVER"));

    database.execute("select pg_create_physical_replication_slot('standby_1')");
    let found = check(stage).the("WP-SLOT-FAILOVER");
    assert!(found.seen.contains(&stage.slot), "{found:?}");
    assert!(found.fix.contains("(FAILOVER true)"), "{found:?}");
    let exists = stage.init();
    assert!(exists.stdout.contains("WP-SLOT-FAILOVER"), "{exists:?}");

    database.drop_slot(&stage.slot);
    stage.init_again(&["--failover"]);
    let found = check(stage);
    found.assert_not("WP-SLOT-FAILOVER");
    let standbys = found.the("WP-SLOT-STANDBYS");
    assert_eq!(standbys.object, "synchronized_standby_slots");
    server.set("synchronized_standby_slots", "standby_1");
    check(stage).assert_not("WP-SLOT-STANDBYS");
}

#[test]
fn a_slot_that_survives_a_failover_is_refused_where_there_is_none() {
    let stage = Stage::bare("no_failover");
    let refusal = Refusal::of(&stage.finish(&["init", "--apply", "--failover"]));
    if stage.database.postgres().binaries().version() < 17 {
        refusal.assert(
            78,
            &["--failover needs PostgreSQL 17", "nothing was changed"],
        );
        assert_eq!(stage.database.slot(&stage.slot), None);
    }
}

#[test]
fn an_invalidated_slot_tells_its_reason_on_version_18() {
    let Some(binaries) = Binaries::major(18) else {
        return;
    };
    let server = super::lost::small(Postgres::builder().binaries(binaries));
    let database = server.database("reason");
    let stage = Stage::bare("reason");
    at(&stage, &database.url());
    stage.init();
    super::lost::lose(&database, &stage.slot);
    let lost = check(&stage).the("WP-SLOT-LOST");
    assert!(
        lost.seen.contains("(invalidation_reason: wal_removed)"),
        "{lost:?}"
    );
    stage.refused(79, &["WP-SLOT-LOST", "wal_removed"]);
}
