//! Who is at fault: an event, or what every event would meet.

use walpost_tests::{scaled, wait_until};

use super::{Scene, firsts};
use crate::{SOON, events::numbers, stage::Stage};

/// The time is that of the relay's machine: no event is at fault.
#[test]
fn a_time_that_the_topic_does_not_take_stops_the_line_and_makes_no_dead_letter() {
    let mut scene = Scene::dead("times", "");
    let property = "message.timestamp.before.max.ms";
    let kafka = &scene.stage.kafka;
    scene.topic = kafka.topic_with("times", 1, &[(property, "0")]);
    let running = scene.stage.walpost.start(&["run"]);
    // What arrives within its millisecond is in time.
    let mut written = 0;
    let log = wait_until(SOON, "a record that is late", || {
        written += 1;
        scene.write(written..=written);
        let log = running.log();
        log.contains("INVALID_TIMESTAMP").then_some(log)
    });
    assert!(log.contains("clock"), "{log}");
    scene
        .stage
        .kafka
        .alter_topic(&scene.topic, property, "86400000");
    scene
        .consumer()
        .wait_for(usize::try_from(written).unwrap(), SOON);
    assert_eq!(running.stop(SOON).code, 0);
    assert_eq!(firsts(&scene.numbers()), (1..=written).collect::<Vec<_>>());
    assert!(scene.stage.read(&scene.dead).is_empty());
}

/// A compacted topic takes no record without a key, and refuses its batch.
#[test]
fn a_record_that_the_broker_refuses_for_itself_is_found_among_its_neighbours() {
    let events = scaled(500, 100_000);
    let sections = "route:\n  key: ${aggregate_type}\n";
    let scene = Scene::dead("keyless", sections);
    let compacted = scene
        .stage
        .kafka
        .topic_with("compacted", 1, &[("cleanup.policy", "compact")]);
    scene.stage.database.execute(&format!(
        "insert into outbox (destination, aggregate_type, aggregate_id, payload)
         select '{compacted}', case when n % {} <> 7 then n::text end, 'a', to_jsonb(n)
         from generate_series(1, {events}) n",
        events / 2
    ));
    let finished = scene.stage.once();
    assert!(
        finished.stderr.contains("refused records together"),
        "{}",
        finished.stderr
    );
    let arrived: Vec<_> = numbers(&scene.stage.read(&compacted));
    let good = (1..=events as u64).filter(|n| n % (events as u64 / 2) != 7);
    assert_eq!(firsts(&arrived), good.collect::<Vec<_>>());
    let letters = scene.stage.read(&scene.dead);
    // Up to the end of their transaction they come again with every session.
    assert_eq!(firsts(&numbers(&letters)), [7, 7 + events as u64 / 2]);
    for letter in &letters {
        assert_eq!(letter.header("walpost-error"), Some("rejected"));
        // The text of the code. What the client has of the broker's own is freed memory.
        let detail = letter.header("walpost-error-detail").unwrap_or_default();
        let text = "INVALID_RECORD (87): Broker: Broker failed to validate record";
        assert!(detail.ends_with(text), "{detail:?}");
    }
}

/// A value of more than half a gigabyte is more than a gigabyte of text, which the server can't
/// make.
#[test]
fn a_row_that_the_server_can_not_decode_is_told_apart_from_an_outage_and_can_be_stepped_over() {
    // The row takes the server a while, and whoever makes a slot there meanwhile.
    let scene = Scene::of(Stage::alone("undecodable"), "undecodable", "");
    let database = &scene.stage.database;
    database.execute("alter table outbox add blob bytea");
    scene.write(1..=1);
    database.execute(&format!(
        "insert into outbox (destination, payload, blob)
         values ('{}', '0', convert_to(repeat('x', 537000000), 'UTF8'))",
        scene.topic
    ));
    let behind = database.current_lsn().to_string();
    scene.write(2..=2);
    let running = scene.stage.walpost.start(&["run"]);
    let log = running.wait_for_log("the server can't decode what is next", SOON);
    assert!(log.contains("pg_replication_slot_advance"), "{log}");
    assert!(log.contains("--accept-slot-position"), "{log}");
    scene.consumer().wait_for(1, SOON);
    running.stop(SOON);
    let slot = &scene.stage.slot;
    database.execute(&format!(
        "select pg_replication_slot_advance('{slot}', '{behind}')"
    ));
    let position = scene.stage.confirmed().to_string();
    let args = ["run", "--once", "--accept-slot-position", &position];
    let finished = scene.stage.finish(&args);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(scene.numbers(), [1, 2]);
}
