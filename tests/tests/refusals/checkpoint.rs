//! The position on record: what a server, a slot or a configuration that are not what they were
//! bring, and the way on.

use std::time::{Duration, Instant};

use walpost_tests::{Lsn, Running, scaled, wait_until};

use crate::{
    SERVER, SOON,
    small_disk::SmallDisk,
    stage::{Lock, Refusal, STREAMER, Stage, ended},
};

#[test]
fn a_slot_that_was_made_anew_is_refused_until_its_position_is_accepted() {
    let stage = delivered("anew");
    stage.database.drop_slot(&stage.slot);
    stage.write("anew", "\"between\"");
    stage.database.execute(&format!(
        "select pg_create_logical_replication_slot('{}', 'pgoutput')",
        stage.slot
    ));
    stage.write("anew", "\"after\"");
    let position = stage.confirmed().to_string();
    let recorded = recorded(&stage).to_string();
    let refusal = stage.refused(79, &["WP-SLOT-MOVED", &stage.slot, &position, &recorded]);
    assert_eq!(values(&stage, "anew"), ["\"first\""]);
    lists_moved(&stage, "A slot that was dropped and made anew", &refusal);
    let wrong = stage.finish(&["run", "--once", "--accept-slot-position", "0/1"]);
    assert_eq!(wrong.code, 79, "{}", wrong.stderr);
    let accepted = stage.finish(&["run", "--once", "--accept-slot-position", &position]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert_eq!(values(&stage, "anew"), ["\"first\"", "\"after\""]);
    stage.once();
}

#[test]
fn a_slot_that_somebody_else_read_is_refused() {
    let stage = delivered("read");
    stage.write("read", "\"swallowed\"");
    let (slot, recorded) = (&stage.slot, recorded(&stage).to_string());
    stage.database.execute(&format!(
        "select count(*) from pg_logical_slot_get_binary_changes('{slot}', null, null, \
         'proto_version', '1', 'publication_names', '{slot}')"
    ));
    let position = stage.confirmed().to_string();
    let refusal = stage.refused(79, &["WP-SLOT-MOVED", slot, &position, &recorded]);
    lists_moved(&stage, "A slot that somebody else read from", &refusal);
    let check = stage.finish(&["check"]);
    assert_eq!(check.code, 1, "{}", check.stdout);
    assert!(check.stdout.contains("WP-SLOT-MOVED"), "{}", check.stdout);
    assert_eq!(values(&stage, "read"), ["\"first\""]);
}

#[test]
fn a_slot_that_is_gone_is_not_made_again_before_its_gap_is_accepted() {
    let stage = delivered("gone");
    stage.database.drop_slot(&stage.slot);
    stage.write("gone", "\"in the gap\"");
    let recorded = recorded(&stage).to_string();
    let refusal = stage.refused(
        79,
        &["WP-SLOT-GONE", &stage.slot, &recorded, "--accept-gap"],
    );
    let names = [
        (recorded.as_str(), "0/16B3748"),
        (refusal.after("there to "), "0/16C0000"),
        (refusal.between("(", " of WAL)"), "50.1 KiB"),
    ];
    stage.lists_with(SERVER, "A slot that is gone", &refusal, &names);
    for args in [
        &["init", "--apply"][..],
        &["init", "--apply", "--accept-gap", "0/1"],
    ] {
        let refusal = Refusal::of(&stage.finish(args));
        refusal.assert(79, &[&stage.slot, &recorded, "--accept-gap"]);
        assert_eq!(stage.database.slot(&stage.slot), None);
    }
    let accepted = stage.finish(&["init", "--apply", "--accept-gap", &recorded]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    stage.write("gone", "\"after\"");
    stage.once();
    assert_eq!(values(&stage, "gone"), ["\"first\"", "\"after\""]);
    // What is missing is inserted once more, as docs/failures.md says.
    stage.database.execute(
        "begin;
         create temp table again as select * from outbox where payload = '\"in the gap\"';
         delete from outbox where id in (select id from again);
         insert into outbox select * from again order by created_at;
         commit",
    );
    stage.once();
    assert_eq!(values(&stage, "gone").len(), 3);
    assert_eq!(values(&stage, "gone")[2], "\"in the gap\"");
}

#[test]
fn a_database_of_another_server_is_refused_until_the_server_is_accepted() {
    let stage = delivered("system");
    stage.write("system", "\"second\"");
    stage.database.execute(&format!(
        "update walpost.checkpoint set system_identifier = '1' where slot = '{}'",
        stage.slot
    ));
    let refusal = stage.refused(79, &["WP-PG-SYSTEM", "restored, copied or upgraded"]);
    assert_eq!(values(&stage, "system"), ["\"first\""]);
    let identifier = refusal.after("system identifier is ").to_owned();
    let names = [(identifier.as_str(), "7412345678901234567")];
    stage.lists_with(
        SERVER,
        "A database that was restored elsewhere",
        &refusal,
        &names,
    );
    let accepted = stage.finish(&["run", "--once", "--accept-system-identifier", &identifier]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert_eq!(values(&stage, "system"), ["\"first\"", "\"second\""]);
    stage.once();
}

#[test]
fn a_server_whose_history_is_another_one_is_refused() {
    let stage = delivered("timeline");
    stage.database.execute(&format!(
        "update walpost.checkpoint set timeline = 99 where slot = '{}'",
        stage.slot
    ));
    let refusal = stage.refused(79, &["WP-PG-TIMELINE", "timeline 99"]);
    stage.lists(SERVER, "An old primary that came back", &refusal);
    let check = stage.finish(&["check"]);
    assert!(check.stdout.contains("WP-PG-TIMELINE"), "{}", check.stdout);
}

#[test]
fn another_kafka_cluster_gets_no_record_before_it_is_accepted() {
    let stage = delivered("cluster");
    stage.write("cluster", "\"second\"");
    let column = |what: &str| text(&stage, what);
    let ours = column("kafka_cluster_id");
    stage.database.execute(&format!(
        "update walpost.checkpoint set kafka_cluster_id = 'other' where slot = '{}'",
        stage.slot
    ));
    let refusal = stage.refused(79, &[&ours, "'other'", "--accept-kafka-cluster"]);
    let names = [(ours.as_str(), "4L6g3nShT-eMCtK--X86sw")];
    stage.lists_with(
        SERVER,
        "Another Kafka cluster than before",
        &refusal,
        &names,
    );
    assert_eq!(values(&stage, "cluster"), ["\"first\""]);
    let check = stage.finish(&["check"]);
    assert!(
        check.stdout.contains("WP-KAFKA-CLUSTER"),
        "{}",
        check.stdout
    );
    let accepted = stage.finish(&["run", "--once", "--accept-kafka-cluster", &ours]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert_eq!(values(&stage, "cluster"), ["\"first\"", "\"second\""]);
    assert_eq!(column("kafka_cluster_id"), ours);
    stage.once();
}

#[test]
fn settings_that_would_place_events_elsewhere_are_refused_until_they_are_accepted() {
    let stage = delivered("settings");
    stage.write("settings", "\"second\"");
    stage.configure("route:\n  key: \"${aggregate_id}\"\n");
    let refusal = stage.refused(
        78,
        &[
            "WP-CHECKPOINT-CONFIG",
            "route.key: '${id}' -> '${aggregate_id}'",
            "route.partition_by: '${aggregate_id}' -> 'key'",
        ],
    );
    stage.lists(SERVER, "Another key than before", &refusal);
    assert_eq!(values(&stage, "settings"), ["\"first\""]);
    let part = ["run", "--once", "--accept-config-change", "route.key"];
    assert_eq!(stage.finish(&part).code, 78, "one of two");
    let keys = "route.key,route.partition_by";
    let accepted = stage.finish(&["run", "--once", "--accept-config-change", keys]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert_eq!(values(&stage, "settings"), ["\"first\"", "\"second\""]);
    stage.once();
}

#[test]
fn a_missing_table_of_the_checkpoint_is_refused() {
    let stage = Stage::ready("no_table");
    stage.database.execute("drop table walpost.checkpoint");
    let refusal = stage.refused(78, &["WP-CHECKPOINT-TABLE", "walpost.checkpoint", "init"]);
    stage.lists(SERVER, "No table for the checkpoint", &refusal);
}

#[test]
fn a_checkpoint_of_a_newer_version_is_refused_and_left_alone() {
    let stage = delivered("newer");
    stage.database.execute(&format!(
        "update walpost.checkpoint set schema_version = 2, version = '9.1.0' where slot = '{}'",
        stage.slot
    ));
    let refusal = stage.refused(78, &["WP-CHECKPOINT-VERSION", "9.1.0"]);
    stage.lists(SERVER, "A checkpoint of a newer version", &refusal);
    assert_eq!(text(&stage, "version"), "9.1.0");
}

#[test]
fn a_role_that_may_not_write_the_checkpoint_is_refused_and_needs_none_without_it() {
    let stage = delivered("no_right");
    stage.write("no_right", "\"second\"");
    stage
        .database
        .execute(&format!("revoke all on walpost.checkpoint from {STREAMER}"));
    let (url, brokers) = (stage.url_as(STREAMER, ""), stage.kafka.brokers());
    stage.walpost.configure(&stage.yaml_of(&url, &brokers, ""));
    let refusal = stage.refused(77, &["WP-CHECKPOINT-RIGHT", "walpost.checkpoint", "grant"]);
    stage.lists(SERVER, "A role that may not write the checkpoint", &refusal);
    let none =
        stage
            .yaml_of(&url, &brokers, "")
            .replacen("kafka:", "  checkpoint: none\nkafka:", 1);
    stage.walpost.configure(&none);
    stage.once();
    assert_eq!(values(&stage, "no_right"), ["\"first\"", "\"second\""]);
    let check = stage.finish(&["check"]);
    assert!(
        check.stdout.contains("WP-CHECKPOINT-NONE"),
        "{}",
        check.stdout
    );
}

#[test]
fn a_control_connection_that_is_lost_is_made_again_and_the_stream_goes_on() {
    let topic = "control_lost";
    let stage = delivered(topic);
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log("streaming", SOON);
    let control = || stage.database.sessions(&control_of(&stage));
    let first = wait_until(SOON, "the control connection", || control().pop());
    let before = stage.confirmed();
    let end = format!("select pg_terminate_backend({first})");
    stage.database.execute(&end);
    wait_until(SOON, "another control connection", || {
        control().into_iter().find(|pid| *pid != first)
    });
    stage.write(topic, "\"second\"");
    wait_for_values(&stage, topic, 2);
    wait_until(SOON, "the slot to move", || {
        (stage.confirmed() > before).then_some(())
    });
    let log = running.log();
    assert!(!log.contains("the session ended"), "{log}");
    stop(running);
}

#[test]
fn a_right_to_the_checkpoint_that_is_taken_away_holds_positions_back_and_not_events() {
    let topic = "right_gone";
    let stage = delivered(topic);
    let (url, brokers) = (stage.url_as(STREAMER, ""), stage.kafka.brokers());
    stage.walpost.configure(&stage.yaml_of(&url, &brokers, ""));
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log("streaming", SOON);
    let right = |sql: &str| stage.database.execute(&format!("{sql} {STREAMER}"));
    right("revoke update on walpost.checkpoint from");
    let unwritten = Unwritten::since_now(&stage);
    stage.write(topic, "\"second\"");
    running.wait_for_log("the checkpoint can't be written", SOON);
    let written = unwritten.holds_while_events_arrive(topic, 2);
    right("grant update on walpost.checkpoint to");
    running.wait_for_log("the checkpoint is written again", SOON);
    unwritten.wait_for_its_end();
    stop(running);
    stage.once();
    assert_eq!(values(&stage, topic).len(), written, "nothing came again");
}

#[test]
fn a_slot_without_a_row_is_adopted_where_it_stands() {
    let stage = delivered("adopted");
    stage.write("adopted", "\"second\"");
    stage.database.execute("delete from walpost.checkpoint");
    let finished = stage.finish(&["run", "--once"]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("there was no checkpoint"),
        "{}",
        finished.stderr
    );
    assert_eq!(values(&stage, "adopted"), ["\"first\"", "\"second\""]);
    stage.once();
}

#[test]
fn while_the_row_is_locked_events_are_delivered_and_nothing_is_confirmed() {
    let stage = delivered("locked_row");
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log("streaming", SOON);
    let lock = Lock::against_writers(&stage);
    let unwritten = Unwritten::since_now(&stage);
    stage.write("locked_row", "\"second\"");
    running.wait_for_log("the checkpoint can't be written", SOON);
    let written = unwritten.holds_while_events_arrive("locked_row", 2);
    drop(lock);
    running.wait_for_log("the checkpoint is written again", SOON);
    unwritten.wait_for_its_end();
    stop(running);
    stage.once();
    let all = values(&stage, "locked_row");
    assert_eq!(all.len(), written, "nothing came again");
}

#[test]
fn past_the_grace_positions_are_confirmed_without_the_row_and_a_restart_has_to_be_told() {
    // The next session can't read the row, either.
    let stage = Stage::alone("grace");
    deliver_first(&stage, "grace");
    let yaml = stage
        .yaml("")
        .replacen("kafka:", "  checkpoint_grace: 3s\nkafka:", 1);
    stage.walpost.configure(&yaml);
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log("streaming", SOON);
    let lock = Lock::against_readers(&stage);
    let unwritten = Unwritten::since_now(&stage);
    stage.write("grace", "\"second\"");
    running.wait_for_log("positions are confirmed without it", SOON);
    unwritten.wait_for_its_end();
    // The process knows the position, also in its next session.
    stage.database.execute(&format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{}'",
        stage.slot
    ));
    running.wait_for_log("the slot stands where this process left it", SOON);
    stage.write("grace", "\"third\"");
    wait_for_values(&stage, "grace", 3);
    running.kill();
    ended(running);
    // What it had told last may still be heard, and its last write still wait for the lock.
    stage.database.wait_until_free(&stage.slot, SOON);
    wait_until(SOON, "the last write to be given up", || {
        let left = stage.database.sessions(&control_of(&stage));
        left.is_empty().then_some(())
    });
    drop(lock);
    let position = stage.confirmed().to_string();
    stage.refused(79, &["WP-SLOT-MOVED", "--accept-slot-position", &position]);
    let accepted = stage.finish(&["run", "--once", "--accept-slot-position", &position]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    let values = values(&stage, "grace");
    assert_eq!(values[..2], ["\"first\"", "\"second\""], "{values:?}");
}

/// The row's new versions need a page that the file system has no room for.
#[test]
fn a_full_disk_under_the_checkpoint_holds_positions_back_and_not_events() {
    let topic = "full_disk";
    let stage = delivered(topic);
    let Some(disk) = SmallDisk::mount(&stage) else {
        return;
    };
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log("streaming", SOON);
    disk.fill();
    // Versions that somebody may still look at are not replaced.
    let mut client = stage.database.client();
    let mut snapshot = client.transaction().unwrap();
    snapshot
        .batch_execute("set transaction isolation level repeatable read; select 1 from outbox")
        .unwrap();
    let mut written = 1;
    wait_until(SOON, "the disk to be full", || {
        stage.write(topic, "\"more\"");
        written += 1;
        running
            .log()
            .contains("No space left on device")
            .then_some(())
    });
    let log = running.log();
    assert!(log.contains("the checkpoint can't be written"), "{log}");
    let unwritten = Unwritten::since_now(&stage);
    let written = unwritten.holds_while_events_arrive(topic, written);
    snapshot.commit().unwrap();
    disk.clear();
    running.wait_for_log("the checkpoint is written again", SOON);
    unwritten.wait_for_its_end();
    stop(running);
    stage.once();
    assert_eq!(values(&stage, topic).len(), written, "nothing came again");
}

/// A stage whose first event is delivered and confirmed.
fn delivered(topic: &str) -> Stage {
    let stage = Stage::ready(topic);
    deliver_first(&stage, topic);
    stage
}

fn deliver_first(stage: &Stage, topic: &str) {
    stage.kafka.create_topic(topic, 1, &[]);
    stage.write(topic, "\"first\"");
    stage.once();
}

/// The name of the relay's second session.
fn control_of(stage: &Stage) -> String {
    format!("walpost {} control", stage.slot)
}

fn values(stage: &Stage, topic: &str) -> Vec<String> {
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
    let records = stage.read(topic);
    records
        .into_iter()
        .map(|record| text(record.value))
        .collect()
}

fn wait_for_values(stage: &Stage, topic: &str, count: usize) {
    wait_until(SOON, "records", || {
        (values(stage, topic).len() >= count).then_some(())
    });
}

/// A time in which the checkpoint can't be written.
struct Unwritten<'a> {
    stage: &'a Stage,
    /// Nothing that is committed behind it may be confirmed. What is confirmed before it may
    /// still move: other databases of the server write WAL, too.
    since: Lsn,
}

impl<'a> Unwritten<'a> {
    fn since_now(stage: &'a Stage) -> Self {
        let since = stage.database.current_lsn();
        Self { stage, since }
    }

    /// Writes events for two minutes at full scale, one otherwise: each arrives, none is
    /// confirmed. `written` are there before them. Returns how many there are in the end.
    fn holds_while_events_arrive(&self, topic: &str, mut written: usize) -> usize {
        let until = Instant::now() + scaled(Duration::ZERO, Duration::from_secs(120));
        loop {
            self.stage.write(topic, "\"meanwhile\"");
            written += 1;
            assert!(self.stage.confirmed() <= self.since);
            if Instant::now() >= until {
                break;
            }
        }
        wait_for_values(self.stage, topic, written);
        assert!(self.stage.confirmed() <= self.since);
        written
    }

    fn wait_for_its_end(&self) {
        wait_until(SOON, "the slot to move", || {
            (self.stage.confirmed() > self.since).then_some(())
        });
    }
}

/// A column of the slot's row.
fn text(stage: &Stage, column: &str) -> String {
    let sql = format!("select {column}::text from walpost.checkpoint where slot = $1");
    let row = stage.database.client().query_one(&sql, &[&stage.slot]);
    row.unwrap().get(0)
}

fn recorded(stage: &Stage) -> Lsn {
    text(stage, "lsn").parse().unwrap()
}

fn lists_moved(stage: &Stage, title: &str, refusal: &Refusal) {
    let (confirmed, recorded) = (stage.confirmed().to_string(), recorded(stage).to_string());
    let size = refusal.between("(", " of WAL)").to_owned();
    let names = [
        (confirmed.as_str(), "0/16C0000"),
        (recorded.as_str(), "0/16B3748"),
        (size.as_str(), "50.1 KiB"),
    ];
    stage.lists_with(SERVER, title, refusal, &names);
}

fn stop(running: Running) {
    let finished = crate::stage::ended_by_stop(running);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}
