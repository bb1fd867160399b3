//! The way it should be: a failover slot that the standby copies, and nothing sent before the
//! standby has it.

use std::{collections::BTreeSet, time::Instant};

use walpost_tests::{Consumer, Running, Stop, wait_until};

use crate::{
    SOON,
    pair::{Pair, check_all, last_start},
};

/// Commits wait for the standby too, so that what an application was told is what is there.
#[test]
fn a_standby_that_has_everything_takes_over_and_nothing_is_lost_or_made_up() {
    let Some(pair) = Pair::synchronised("takeover") else {
        return;
    };
    pair.primary.set("synchronized_standby_slots", &pair.name);
    pair.primary.set("synchronous_standby_names", &pair.name);
    let running = pair.run();
    let writer = pair.writer().start();
    let mut consumer = pair.consumer();
    consumer.wait_for_new_events(100, SOON);
    pair.wait_until_synchronised();
    consumer.read_to_end(SOON);
    consumer.wait_for_new_events(100, SOON);
    pair.primary.kill();
    pair.standby.promote();
    let promoted = Instant::now();
    consumer.read_to_end(SOON);
    consumer.wait_for_new_events(1, SOON);
    let back = promoted.elapsed();
    consumer.wait_for_new_events(200, SOON);
    let (ledger, lost) = pair.split(writer.stop());
    assert_eq!(lost, BTreeSet::new(), "what was told to be committed");
    let told = running.wait_for_log("another server was promoted", SOON);
    let none = running.wait_for_log("nothing was handed to Kafka that it has not got", SOON);
    assert!(!running.log().contains("phantoms"), "{told}\n{none}");
    let floor = last_start(&running.log());
    let records = pair.end(running, &[&ledger]);
    let repeats = check_all(&[&ledger], &BTreeSet::new(), &records, floor);
    println!(
        "synchronised: {} events, back after {back:.2?}, {repeats} repeats",
        ledger.committed.len()
    );
}

/// The server sends nothing that the standby has not got: that is what the setting is for.
#[test]
fn a_standby_that_is_away_holds_the_stream_and_not_the_relay() {
    let Some(pair) = Pair::synchronised("held") else {
        return;
    };
    let (running, mut consumer) = run_until_standby_is_missed(&pair);
    let waiting = pair.old();
    wait_until(SOON, "the walsender to wait for the standby", || {
        let sql = "select from pg_stat_activity where backend_type = 'walsender'
                   and wait_event = 'WaitForStandbyConfirmation'";
        let row = waiting.client().query_opt(sql, &[]);
        row.expect("read pg_stat_activity").map(drop)
    });
    assert_eq!(consumer.read_to_end(SOON).len(), 1);
    pair.standby.start();
    consumer.wait_for(2, SOON);
    let log = running.log();
    assert!(!log.contains("the session ended"), "{log}");
    let told = log.matches("does not have active_pid").count();
    assert_eq!(told, 1, "{log}");
    assert_eq!(running.stop(SOON).code, 0);
}

/// It does not wait for the standby any more then, and gives the stream up with an error.
#[test]
fn a_primary_that_stops_while_its_standby_is_away_is_waited_for() {
    let Some(pair) = Pair::synchronised("stopping") else {
        return;
    };
    let (running, mut consumer) = run_until_standby_is_missed(&pair);
    pair.primary.stop(Stop::Fast);
    running.wait_for_log("the session ended", SOON);
    pair.primary.start();
    pair.standby.start();
    consumer.wait_for(2, SOON);
    let log = running.log();
    assert!(log.contains("55000"), "{log}");
    assert_eq!(running.stop(SOON).code, 0);
}

/// A relay to which one event was sent, and another one is not: the standby has stopped.
fn run_until_standby_is_missed(pair: &Pair) -> (Running, Consumer) {
    pair.primary.set("synchronized_standby_slots", &pair.name);
    let running = pair.run();
    let mut consumer = pair.consumer();
    pair.old().insert_event(&pair.topic, "a", "1");
    consumer.wait_for(1, SOON);
    pair.standby.stop(Stop::Fast);
    pair.old().insert_event(&pair.topic, "a", "2");
    running.wait_for_log("does not have active_pid", SOON);
    (running, consumer)
}
