//! A standby that was behind takes over: events of commits that it has never had are in Kafka.

use std::collections::BTreeSet;

use uuid::Uuid;
use walpost_tests::{Consumer, Ledger, Lsn, Record};

use crate::{
    SOON,
    pair::{Pair, check_all, field, last_start, phantoms},
};

/// The load before the fault, and what was delivered beyond what the standby has.
struct Behind {
    ledger: Ledger,
    phantoms: BTreeSet<Uuid>,
    /// The slot's position on the old primary: above what the new one will write next.
    confirmed: Lsn,
}

/// The standby is cut off, the relay goes on, and the primary dies. `before` is done before the
/// standby is promoted.
fn promote_behind(pair: &Pair, consumer: &mut Consumer, before: impl FnOnce()) -> Behind {
    let writer = pair.writer_of(&pair.primary).start();
    consumer.wait_for_new_events(100, SOON);
    pair.wait_until_synchronised();
    pair.way.down();
    consumer.read_to_end(SOON);
    consumer.wait_for_new_events(100, SOON);
    let written = writer.stop();
    consumer.wait_for_events(&written, SOON);
    let old = pair.old();
    old.wait_until_confirmed(&pair.slot, old.current_lsn(), SOON);
    let slot = old.slot(&pair.slot).expect("the slot");
    pair.primary.kill();
    before();
    pair.standby.promote();
    let (ledger, phantoms) = pair.split(written);
    assert!(phantoms.len() >= 20, "the standby was not behind");
    assert!(ledger.committed.len() >= 100, "the standby had nothing");
    Behind {
        ledger,
        phantoms,
        confirmed: slot.confirmed.expect("a logical slot has a position"),
    }
}

/// What the new primary commits lies where the lost commits of the old one did, and all of it
/// arrives.
fn go_on(pair: &Pair, consumer: &mut Consumer, behind: &Behind) -> Ledger {
    let writer = pair.writer_of(&pair.standby).start();
    consumer.wait_for_new_events(100, SOON);
    let ledger = writer.stop();
    consumer.wait_for_events(&ledger, SOON);
    let first = ledger.committed[0].id;
    let mut records = consumer.records().iter();
    let first = records.find(|record| record.event_id() == Some(first));
    let first = first.expect("the first event").commit_lsn();
    let confirmed = behind.confirmed;
    assert!(first < confirmed, "{first} is not below {confirmed}");
    ledger
}

#[test]
fn a_standby_that_was_behind_takes_over_and_what_it_never_had_is_listed() {
    let Some(pair) = Pair::synchronised("behind") else {
        return;
    };
    let running = pair.run();
    let mut consumer = pair.consumer();
    let behind = promote_behind(&pair, &mut consumer, || {});
    let after = go_on(&pair, &mut consumer, &behind);
    running.wait_for_log("another server was promoted", SOON);
    let log = running.log();
    let listed = phantoms(&log);
    assert_eq!(listed, behind.phantoms);
    let summary = running.wait_for_log("that was behind: these events", SOON);
    assert_eq!(field(&summary, "count"), listed.len().to_string());
    let ledgers = [&behind.ledger, &after];
    let records = pair.end(running, &ledgers);
    let repeats = check_all(&ledgers, &behind.phantoms, &records, last_start(&log));
    let committed = behind.ledger.committed.len() + after.committed.len();
    println!(
        "behind: {committed} events, {} phantoms, {repeats} repeats",
        listed.len()
    );
}

/// A process that was started after the promotion knows no ids. It knows where the histories
/// parted, and since when it is there: the records themselves say the rest.
#[test]
fn a_relay_that_was_restarted_says_how_to_find_what_the_new_server_never_had() {
    let Some(pair) = Pair::synchronised("restarted") else {
        return;
    };
    let running = pair.run();
    let mut consumer = pair.consumer();
    let behind = promote_behind(&pair, &mut consumer, || {
        running.kill();
        drop(running);
    });
    let running = pair.run();
    let told = running.wait_for_log("another server was promoted", SOON);
    let from = field(&told, "from_position");
    let before: i64 = field(&told, "before_ms").parse().expect("milliseconds");
    let after = go_on(&pair, &mut consumer, &behind);
    let found: BTreeSet<Uuid> = consumer
        .records()
        .iter()
        .filter(|record| record.header("walpost-position") >= Some(from.as_str()))
        .filter(|record| record.timestamp < Some(before))
        .filter_map(Record::event_id)
        .collect();
    assert_eq!(found, behind.phantoms);
    assert!(!running.log().contains("\"phantoms\""));
    let ledgers = [&behind.ledger, &after];
    let floor = last_start(&running.log());
    let records = pair.end(running, &ledgers);
    check_all(&ledgers, &behind.phantoms, &records, floor);
}
