//! Faults of the relay itself, and of its slot.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use walpost_tests::{Settled, Walpost, check, wait_until};

use crate::{
    SOON,
    rig::{BACK, Rig},
    scaled,
};

#[test]
fn a_relay_killed_again_and_again_under_load_loses_nothing_and_repeats_only_suffixes() {
    let rig = Rig::take();
    let relay = rig.relay("killed");
    let writer = relay.writer().start();
    let mut consumer = relay.consumer();
    let kills = scaled(4, 20);
    let begun = Instant::now();
    for round in 0..kills {
        let running = relay.run();
        // In turn while the window opens on the backlog, and while the relay keeps up.
        consumer.wait_for_new_events(scaled(20, 1000) * (1 + round % 4), SOON);
        if round % 2 == 1 {
            relay.wait_until_steady();
        }
        running.kill();
    }
    let running = relay.run();
    let seconds = begun.elapsed().as_secs_f64();
    let ledger = writer.stop();
    let duplicates = relay.finish(running, &ledger);
    let events = ledger.committed.len();
    println!(
        "relay killed: {events} events, {:.0}/s, {kills} kills, {duplicates} duplicates",
        events as f64 / seconds
    );
}

#[test]
fn of_two_relays_on_one_slot_one_streams_and_the_other_takes_over_after_its_death() {
    let rig = Rig::take();
    let relay = rig.relay("standby");
    let writer = relay.writer().start();
    let mut consumer = relay.consumer();
    let first = relay.run();
    first.wait_for_log(STREAMING, SOON);
    let second = relay.run();
    second.wait_for_log("is in use by", SOON);
    let streaming = relay.database.slot(&relay.slot).expect("the slot");
    consumer.wait_for_new_events(scaled(200, 5000), SOON);
    assert!(second.is_running());
    assert!(
        !second.log().contains(STREAMING),
        "both stream: {}",
        second.log()
    );
    let still = relay.database.slot(&relay.slot).expect("the slot");
    assert_eq!(still.active_pid, streaming.active_pid);

    first.kill();
    let died = Instant::now();
    second.wait_for_log(STREAMING, BACK);
    let took_over = died.elapsed();
    let promised = scaled(BACK, Duration::from_secs(2));
    assert!(took_over <= promised, "took over after {took_over:?}");
    consumer.wait_for_new_events(scaled(100, 2000), SOON);
    let duplicates = relay.finish(second, &writer.stop());
    println!("standby: took over after {took_over:.1?}, {duplicates} duplicates");
}

/// The server gives the slot up when it has not heard of the first one for `wal_sender_timeout`.
/// What that one had in flight may leave when it thaws, as repeats that come late: so the first
/// copy of each event is looked at.
#[test]
fn a_relay_that_waits_for_the_slot_takes_over_from_one_that_is_frozen() {
    let rig = Rig::take();
    let relay = rig.relay("frozen_holder");
    let writer = relay.writer().start();
    let mut consumer = relay.consumer();
    let first = relay.run();
    consumer.wait_for_new_events(100, SOON);
    let second = relay.run();
    second.wait_for_log("is in use by", SOON);
    first.pause();
    let frozen = Instant::now();
    second.wait_for_log(STREAMING, SOON);
    let took_over = frozen.elapsed();
    let promised = scaled(SOON, Duration::from_secs(20));
    assert!(took_over <= promised, "took over after {took_over:?}");
    consumer.wait_for_new_events(scaled(100, 2000), SOON);
    first.resume();
    first.wait_for_log("is in use by", SOON);
    let finished = first.stop(SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let ledger = writer.stop();
    let mut records = relay.end(second, &ledger);
    let all = records.len();
    records.sort_by_key(|record| (record.partition, record.offset));
    let mut seen = BTreeSet::new();
    records.retain(|record| seen.insert(record.event_id()));
    check(&[&ledger], &records).assert_clean();
    let duplicates = all - records.len();
    println!("frozen holder: taken over after {took_over:.1?}, {duplicates} duplicates");
}

/// What waited for Kafka when the slot went to the other relay never leaves: it would arrive after
/// what the other one has sent since.
#[test]
fn what_a_relay_had_in_flight_when_it_lost_the_slot_does_not_leave_after_its_settle() {
    let rig = Rig::take();
    let relay = rig.relay("taken");
    let way = rig.kafka.proxy();
    let url = relay.database.url();
    // A small window: when it is full, the stream is not read, and its end not seen.
    let slow = Walpost::minimal(&url, &way.address(), &relay.slot)
        .env("WALPOST_DELIVERY__IN_FLIGHT_EVENTS", "50");
    let writer = relay.writer().start();
    let mut consumer = relay.consumer();
    let first = slow.start(&["run"]);
    consumer.wait_for_new_events(100, SOON);
    let second = relay.run();
    second.wait_for_log("is in use by", SOON);
    // Nothing of the first one arrives from here on.
    way.down();
    writer.wait_for(writer.committed() + scaled(200, 2000), SOON);
    relay.wait_until_sent();
    // Frozen, so that it does not come back to the slot before the other one has it.
    first.pause();
    let slot = relay.database.slot(&relay.slot).expect("the slot");
    let pid = slot.active_pid.expect("the first relay streams");
    relay
        .database
        .execute(&format!("select pg_terminate_backend({pid})"));
    second.wait_for_log(STREAMING, BACK);
    // The slot stands ahead of all that the first one has confirmed: nobody else has moved it than
    // a relay that has it by right.
    consumer.wait_for_new_events(scaled(300, 3000), SOON);
    relay.wait_until_steady();
    first.resume();
    first.wait_for_log("is in use by", SOON);
    let mut settled = Settled::default();
    let end = relay.database.current_lsn();
    settled.note(consumer.read_to_end(SOON), end);
    let met = way.accepted();
    way.resume();
    wait_until(SOON, "the first relay is with Kafka again", || {
        (way.accepted() > met && way.connections() > 0).then_some(())
    });
    // Time in which it could.
    consumer.read_for(Duration::from_secs(3));
    let finished = first.stop(SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let ledger = writer.stop();
    let records = relay.end(second, &ledger);
    let duplicates = check(&[&ledger], &records).assert_clean();
    // The second one has no reason to send anything again.
    settled.assert_final(&records);
    println!("slot taken: {duplicates} duplicates");
}

#[test]
fn a_slot_that_is_dropped_meanwhile_stops_the_relay_and_is_not_made_again() {
    let rig = Rig::take();
    let relay = rig.relay("dropped");
    let writer = relay.writer().start();
    let running = relay.run();
    relay.consumer().wait_for_new_events(100, SOON);

    // Frozen, so that it does not come back to the slot before it is gone.
    running.pause();
    let terminate = format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots
         where slot_name = '{}' and active",
        relay.slot
    );
    wait_until(SOON, "nobody streams from the slot", || {
        relay.database.execute(&terminate);
        let slot = relay.database.slot(&relay.slot).expect("the slot");
        slot.active_pid.is_none().then_some(())
    });
    relay.database.drop_slot(&relay.slot);
    running.resume();

    let resumed = Instant::now();
    let finished = running.finish(SOON);
    let stopped = resumed.elapsed();
    assert_eq!(finished.code, 79, "{finished:?}");
    assert!(finished.stderr.contains(&relay.slot), "{}", finished.stderr);
    assert_eq!(relay.database.slot(&relay.slot), None, "made again");
    // A second try is refused in the same way.
    let again = relay.walpost.finish(&["run"], SOON);
    assert_eq!(again.code, 79, "{}", again.stderr);
    assert_eq!(relay.database.slot(&relay.slot), None, "made again");
    writer.stop();
    println!("slot dropped: exit {} after {stopped:.1?}", finished.code);
}

#[test]
fn a_frozen_relay_goes_on_after_its_thaw() {
    let rig = Rig::take();
    let relay = rig.relay("frozen");
    let writer = relay.writer().start();
    let running = relay.run();
    let mut consumer = relay.consumer();
    consumer.wait_for_new_events(100, SOON);
    running.pause();
    // At full scale longer than the server waits for the relay (15 s).
    let frozen = scaled(Duration::from_secs(2), Duration::from_secs(25));
    let committed = writer.committed();
    let thaw = Instant::now() + frozen;
    wait_until(frozen + SOON, "the time of the freeze", || {
        (Instant::now() >= thaw && writer.committed() > committed).then_some(())
    });
    running.resume();
    consumer.wait_for_new_events(scaled(300, 10_000), BACK);
    let duplicates = relay.finish(running, &writer.stop());
    println!("relay frozen for {frozen:?}: {duplicates} duplicates");
}

/// What the log says when a stream has begun.
pub(crate) const STREAMING: &str = r#""streaming""#;
