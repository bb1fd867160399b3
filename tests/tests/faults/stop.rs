//! Orderly ends: of Postgres while Kafka is dead, and of the relay.

use std::{
    thread,
    time::{Duration, Instant},
};

use walpost_tests::{Lsn, Running, Stop, check, wait_until};

use crate::{
    SOON,
    relay::STREAMING,
    rig::{Relay, Rig},
    scaled,
};

/// The promise itself: the relay does not hold up a server that is stopping.
const POSTGRES_STOPS_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn postgres_stops_within_two_seconds_while_kafka_is_dead_and_events_wait() {
    let rig = Rig::take_alone();
    let relay = rig.relay("courtesy");
    let writer = relay.writer().start();
    let running = relay.run();
    relay.consumer().wait_for_new_events(200, SOON);
    rig.kafka.kill();
    let waiting = writer.committed() + scaled(500, 20_000);
    writer.wait_for(waiting, SOON);
    relay.wait_until_sent();
    let first = stop_postgres(&rig, &running);
    rig.postgres.start();

    // A new relay knows no topic yet, and its window is still closed but for one event.
    running.kill();
    let running = relay.run();
    running.wait_for_log(STREAMING, SOON);
    writer.wait_for(writer.committed() + scaled(300, 5000), SOON);
    relay.wait_until_sent();
    let second = stop_postgres(&rig, &running);
    rig.postgres.start();

    rig.kafka.start();
    let ledger = writer.stop();
    let duplicates = relay.finish(running, &ledger);
    println!(
        "stop fast with Kafka dead: down after {first:.2?} and, the relay just started, after \
         {second:.2?}; {} events, {duplicates} duplicates",
        ledger.committed.len()
    );
}

#[test]
fn postgres_stops_within_two_seconds_while_kafka_is_dead_and_the_window_is_full() {
    let rig = Rig::take_alone();
    let mut relay = rig.relay("unread");
    relay.walpost = relay
        .walpost
        .env("WALPOST_DELIVERY__IN_FLIGHT_EVENTS", "100");
    let writer = relay.writer().start();
    let running = relay.run();
    relay.consumer().wait_for_new_events(100, SOON);
    rig.kafka.pause();
    // The stream is no longer read, and more than the buffers of both ends hold is waiting in it.
    let bulk = relay
        .writer()
        .payload_bytes(1000)
        .bulk_transactions(30, 1000);
    wait_until_unread(&relay);
    let stopped = stop_postgres(&rig, &running);
    rig.postgres.start();
    rig.kafka.resume();
    let ledger = writer.stop();
    relay.consumer().wait_for_events(&bulk, SOON);
    let records = relay.end(running, &ledger);
    let duplicates = check(&[&ledger, &bulk], &records).assert_clean();
    println!(
        "stop fast with Kafka dead and the window full: down after {stopped:.2?}, {} events, \
         {duplicates} duplicates",
        ledger.committed.len() + bulk.committed.len()
    );
}

/// Waits until the server can't send any more: the relay does not read.
fn wait_until_unread(relay: &Relay) {
    let mut client = relay.database.client();
    let statement = "select sent_lsn, pg_current_wal_lsn() from pg_stat_replication
                     where application_name = $1";
    let name = format!("walpost {}", relay.slot);
    let mut last = None;
    wait_until(SOON, "the server stands before a full socket", || {
        thread::sleep(Duration::from_secs(1));
        let row = client.query_opt(statement, &[&name]).ok()??;
        let sent: Lsn = row.get(0);
        let stands = last.replace(sent) == Some(sent) && sent < row.get(1);
        stands.then_some(())
    });
}

/// Stops Postgres as its service does, and returns how long that took. What the server has to write
/// is written before: only the relay is left to be waited for.
#[track_caller]
pub(crate) fn stop_postgres(rig: &Rig, running: &Running) -> Duration {
    rig.postgres
        .client()
        .batch_execute("checkpoint")
        .expect("a checkpoint");
    let asked = Instant::now();
    rig.postgres.begin_stop(Stop::Fast);
    if !rig.postgres.wait_stopped(POSTGRES_STOPS_WITHIN) {
        let stopped = rig.postgres.wait_stopped(SOON);
        panic!(
            "Postgres is down after {:?} ({stopped}):\n{}\n{}",
            asked.elapsed(),
            rig.postgres.log(),
            running.log()
        );
    }
    asked.elapsed()
}

#[test]
fn a_relay_that_is_asked_to_stop_under_load_leaves_nothing_to_be_sent_again() {
    let rig = Rig::take();
    let relay = rig.relay("asked");
    let writer = relay.writer().start();
    let mut consumer = relay.consumer();
    let rounds = scaled(3, 10);
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let running = relay.run();
        consumer.wait_for_new_events(scaled(100, 3000), SOON);
        let asked = Instant::now();
        let finished = running.stop(SOON);
        slowest = slowest.max(asked.elapsed());
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    }
    let ledger = writer.stop();
    let once = relay.walpost.finish(&["run", "--once"], SOON);
    assert_eq!(once.code, 0, "{}", once.stderr);
    let records = consumer.read_to_end(SOON);
    let duplicates = check(&[&ledger], records).assert_clean();
    assert_eq!(duplicates, 0, "duplicates although every end was in order");
    println!(
        "asked to stop: {} events, {rounds} times, down after at most {slowest:.2?}, no duplicate",
        ledger.committed.len()
    );
}

#[test]
fn runs_until_caught_up_beside_writers_leave_nothing_to_be_sent_again() {
    let rig = Rig::take();
    let relay = rig.relay("caught_up");
    let writer = relay.writer().rate(5_000.0).rows_between(1, 200).start();
    let rounds = scaled(5, 30);
    for _ in 0..rounds {
        writer.wait_for(writer.committed() + 500, SOON);
        let once = relay.walpost.finish(&["run", "--once"], SOON);
        assert_eq!(once.code, 0, "{}", once.stderr);
    }
    let ledger = writer.stop();
    let once = relay.walpost.finish(&["run", "--once"], SOON);
    assert_eq!(once.code, 0, "{}", once.stderr);
    let mut consumer = relay.consumer();
    let records = consumer.read_to_end(SOON);
    let duplicates = check(&[&ledger], records).assert_clean();
    println!(
        "run --once {rounds} times beside writers: {} events, {duplicates} duplicates",
        ledger.committed.len()
    );
    assert_eq!(duplicates, 0, "duplicates although every end was in order");
}

#[test]
fn a_relay_that_is_asked_to_stop_amid_a_transaction_sends_it_to_its_end() {
    let rig = Rig::take();
    let relay = rig.relay("amid");
    let running = relay.run();
    running.wait_for_log(STREAMING, SOON);
    let ledger = relay.writer().bulk(scaled(30_000, 300_000));
    let mut consumer = relay.consumer();
    consumer.wait_for_new_events(100, SOON);
    let asked = Instant::now();
    let finished = running.stop(SOON);
    let stopped = asked.elapsed();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let arrived = consumer.read_to_end(SOON).len();
    let once = relay.walpost.finish(&["run", "--once"], SOON);
    assert_eq!(once.code, 0, "{}", once.stderr);
    let records = consumer.read_to_end(SOON);
    let duplicates = check(&[&ledger], records).assert_clean();
    assert_eq!((arrived, duplicates), (ledger.committed.len(), 0));
    println!("asked to stop amid a transaction of {arrived} rows: down after {stopped:.2?}");
}

#[test]
fn a_relay_that_is_asked_to_stop_while_kafka_is_dead_says_how_many_events_come_again() {
    let rig = Rig::take_alone();
    let mut relay = rig.relay("drain");
    relay.walpost = relay.walpost.env("WALPOST_SHUTDOWN__DRAIN", "2s");
    let writer = relay.writer().start();
    let running = relay.run();
    relay.consumer().wait_for_new_events(200, SOON);
    rig.kafka.kill();
    writer.wait_for(writer.committed() + 300, SOON);
    relay.wait_until_sent();
    let asked = Instant::now();
    let finished = running.stop(SOON);
    let stopped = asked.elapsed();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    // The drain, a second for the end of the stream, and what a busy machine adds.
    assert!(stopped < Duration::from_secs(6), "down after {stopped:?}");
    let said = finished
        .stderr
        .lines()
        .find(|line| line.contains("come again"))
        .and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let again = said.as_ref().and_then(|line| line["in_flight"].as_u64());
    assert!(again.is_some_and(|again| again > 0), "{}", finished.stderr);

    rig.kafka.start();
    let running = relay.run();
    let duplicates = relay.finish(running, &writer.stop());
    println!(
        "asked to stop with Kafka dead: down after {stopped:.2?}, {again:?} come again, \
         {duplicates} duplicates"
    );
}

#[test]
fn a_second_interrupt_ends_the_relay_at_once() {
    let rig = Rig::take_alone();
    let relay = rig.relay("twice");
    let writer = relay.writer().start();
    let running = relay.run();
    relay.consumer().wait_for_new_events(100, SOON);
    rig.kafka.pause();
    writer.wait_for(writer.committed() + 100, SOON);
    relay.wait_until_sent();
    running.interrupt();
    running.wait_for_log("waiting for what is in flight", SOON);
    let asked = Instant::now();
    // One that comes within an instant of the first counts as its echo.
    wait_until(SOON, "the relay ends", || {
        running.interrupt();
        (!running.is_running()).then_some(())
    });
    let stopped = asked.elapsed();
    let finished = running.finish(SOON);
    rig.kafka.resume();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(stopped < Duration::from_secs(2), "down after {stopped:?}");
    let running = relay.run();
    let duplicates = relay.finish(running, &writer.stop());
    println!("interrupted twice: down after {stopped:.2?}, {duplicates} duplicates");
}
