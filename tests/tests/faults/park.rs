//! A Kafka that is away for longer than it is waited for with an open stream.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use walpost_tests::{
    Binaries, Database, PARKED, Postgres, UNPARKED, Walpost, free_port, said, wait_until,
};

use crate::{
    SOON, mebibytes,
    rig::{BACK, Relay, Rig, Turn},
    scaled,
    stop::stop_postgres,
};

/// At full scale.
const LONG_OUTAGE: Duration = Duration::from_secs(600);

#[test]
fn a_kafka_that_stays_away_is_waited_for_without_a_stream() {
    let rig = Rig::take_alone();
    let relay = rig.relay("parked");
    // A load that a reader can check also after a long outage.
    let writer = relay.writer().rows_between(1, 5).rate(100.0).start();
    let running = relay.run();
    let other = rig.relay("parked_stop");
    let others = other.run();
    let mut first = other.writer().bulk(20);
    other.consumer().wait_for_events(&first, SOON);
    let mut consumer = relay.consumer();
    consumer.wait_for_new_events(200, SOON);
    rig.kafka.kill();
    let killed = Instant::now();
    first.committed.extend(other.writer().bulk(20).committed);
    for running in [&running, &others] {
        running.wait_for_log(PARKED, SOON);
    }
    let parked = killed.elapsed();
    for relay in [&relay, &other] {
        relay.database.wait_until_free(&relay.slot, SOON);
        wait_for_control(relay);
    }

    // It is asked to stop: there is nothing to wait for.
    let asked = Instant::now();
    let finished = others.stop(SOON);
    let stopped = asked.elapsed();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(said(&finished.stderr, "stopped"), 1, "{}", finished.stderr);
    assert!(stopped < Duration::from_secs(2), "down after {stopped:?}");

    // Postgres comes and goes.
    let down = stop_postgres(&rig, &running);
    rig.postgres.start();
    wait_for_control(&relay);
    writer.wait_for(writer.committed() + 100, SOON);
    let before = running.rss_peak_bytes();
    thread::sleep(scaled(
        Duration::ZERO,
        LONG_OUTAGE.saturating_sub(killed.elapsed()),
    ));
    let after = running.rss_peak_bytes();
    assert!(
        after <= before + before / 10,
        "{} MiB resident, {} before",
        mebibytes(after),
        mebibytes(before)
    );
    assert!(running.is_running(), "{}", running.log());
    let away = killed.elapsed();

    rig.kafka.start();
    let answers = Instant::now();
    running.wait_for_log(UNPARKED, BACK);
    consumer.wait_for_new_events(1, BACK);
    let event = answers.elapsed();
    writer.wait_for(writer.committed() + 100, SOON);
    let log = running.log();
    assert_eq!((said(&log, PARKED), said(&log, UNPARKED)), (1, 1), "{log}");
    let duplicates = relay.finish(running, &writer.stop());
    let running = other.run();
    other.finish(running, &first);
    println!(
        "parked after {parked:.1?}, asked to stop: down after {stopped:.2?}, Postgres down after \
         {down:.2?}, resident {} MiB before and {} MiB after {away:.0?}, first event {event:.2?} \
         after Kafka's return, {duplicates} duplicates",
        mebibytes(before),
        mebibytes(after)
    );
}

/// After a broken connection acknowledgements wait until a broker has said which cluster it is of.
/// When they fill the window, and Kafka goes away before it has said so, nothing is on its way.
#[test]
fn acknowledgements_that_are_not_believed_yet_are_waited_for_no_longer_than_others() {
    let rig = Rig::take();
    let relay = rig.relay("unbelieved");
    let way = rig.kafka.proxy();
    relay.walpost.configure(&format!(
        "postgres:\n  url: \"{}\"\n  slot: {slot}\n  publication: {slot}\n\
         kafka:\n  brokers: \"{}\"\ndelivery:\n  in_flight_events: 1\n",
        relay.database.url(),
        way.address(),
        slot = relay.slot,
    ));
    let write = |number: &str| relay.database.insert_event(&relay.topic, "a", number);
    let running = relay.run();
    let mut consumer = relay.consumer();
    write("1");
    consumer.wait_for(1, SOON);
    relay.wait_until_steady();
    way.delay(UNBELIEVED / 2);
    way.cut();
    write("2");
    write("3");
    consumer.wait_for(2, SOON);
    // The acknowledgement is there after one delay, the answer to the question after three. Should
    // either be late, the relay waits for what is in flight, and parks all the same.
    thread::sleep(UNBELIEVED);
    way.down();
    running.wait_for_log(PARKED, SOON);
    way.resume();
    running.wait_for_log(UNPARKED, BACK);
    relay.wait_until_steady();
    relay.walpost.stop_in_order(running, &mut consumer, SOON);
    let mut values = consumer.into_records();
    values.dedup_by_key(|record| record.event_id());
    let values: Vec<_> = values.iter().map(|record| record.value.clone()).collect();
    assert_eq!(values, ["1", "2", "3"].map(|value| Some(value.into())));
}

/// Between the arrival of a record and the fall of the way back.
const UNBELIEVED: Duration = Duration::from_secs(2);

/// Waits until a parked relay's control connection is there.
fn wait_for_control(relay: &Relay) {
    let name = format!("walpost {} control", relay.slot);
    wait_until(SOON, "the control connection", || {
        relay.database.sessions(&name).pop()
    });
}

/// From 18 on a server can give up a slot that nobody streams from. The relay visits it three times
/// while the server waits, also when it learns of that only while it is parked.
#[test]
fn a_parked_relay_visits_its_slot_before_the_server_gives_it_up() {
    let Some(binaries) = Binaries::major(18) else {
        return;
    };
    // What is late for a visit by a few seconds has lost the slot.
    let _alone = Turn::take_alone();
    let server = Postgres::builder().binaries(binaries).start();
    let database = server.database("idle");
    let slot = database.slot_name();
    let nowhere = free_port();
    let brokers = format!("127.0.0.1:{}", nowhere.number());
    let walpost = Walpost::minimal(&database.url(), &brokers, &slot);
    walpost.init();
    database.insert_event("nowhere", "a", "{}");
    let running = walpost.start(&["run"]);
    running.wait_for_log(PARKED, SOON);
    server.set("idle_replication_slot_timeout", "30s");
    let mut times = BTreeSet::new();
    let mut checkpointed = Instant::now();
    wait_until(SOON, "two visits", || {
        // It is at checkpoints that slots are given up.
        if checkpointed.elapsed() >= Duration::from_secs(1) {
            database.execute("checkpoint");
            checkpointed = Instant::now();
        }
        let (since, reason) = idle_since(&database, &slot);
        assert_eq!(reason, None, "{}", running.log());
        times.extend(since);
        (times.len() > 2).then_some(())
    });
    assert_eq!(said(&running.log(), PARKED), 1, "{}", running.log());
    let finished = running.stop(SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}

/// Since when nobody has streamed from the slot, and why it was given up.
fn idle_since(database: &Database<'_>, slot: &str) -> (Option<String>, Option<String>) {
    let sql = "select inactive_since::text, invalidation_reason from pg_replication_slots
               where slot_name = $1";
    let row = database
        .client()
        .query_one(sql, &[&slot])
        .expect("the slot");
    (row.get(0), row.get(1))
}
