//! Faults of Postgres and of the way to it.

use std::{
    thread,
    time::{Duration, Instant},
};

use postgres::Client;
use walpost_tests::{Direction, Proxy, Settled, Stop, check, wait_until};

use crate::{
    SOON,
    rig::{BACK, Relay, Rig},
    scaled,
};

#[test]
fn a_server_that_is_stopped_fast_and_started_again_costs_nothing() {
    let rig = Rig::take();
    let relay = rig.relay("fast");
    survives(&relay, "stopped fast", 1, || {
        rig.postgres.restart(Stop::Fast);
    });
}

#[test]
fn a_server_that_is_stopped_immediately_and_started_again_costs_nothing() {
    let rig = Rig::take();
    let relay = rig.relay("immediate");
    survives(&relay, "stopped immediately", 1, || {
        rig.postgres.restart(Stop::Immediate);
    });
}

#[test]
fn a_server_that_is_killed_and_started_again_costs_nothing() {
    let rig = Rig::take();
    let relay = rig.relay("power");
    survives(&relay, "killed", scaled(1, 3), || {
        rig.postgres.kill();
        rig.postgres.start();
    });
}

/// A transaction that is open elsewhere keeps the slot from being saved, so the server forgets all
/// that was confirmed since.
#[test]
fn a_crash_brings_nothing_back_that_is_on_record() {
    let rig = Rig::take();
    let relay = rig.relay("rewound");
    let running = relay.run();
    let mut consumer = relay.consumer();
    let mut ledger = relay.writer().bulk(scaled(2_000, 100_000));
    consumer.wait_for_events(&ledger, SOON);
    for round in 1..=scaled(2, 5) {
        let _open = pin(&relay);
        let more = relay.writer().bulk(scaled(2_000, 100_000));
        consumer.wait_for_events(&more, SOON);
        ledger.committed.extend(more.committed);
        relay.wait_until_steady();
        if round % 2 == 1 {
            rig.postgres.restart(Stop::Immediate);
        } else {
            rig.postgres.kill();
            rig.postgres.start();
        }
        wait_until(SOON, "a session from the position on record", || {
            let told = running.log().matches("the server forgot").count();
            (told >= round).then_some(())
        });
    }
    let duplicates = relay.finish(running, &ledger);
    assert_eq!(duplicates, 0, "nothing was in flight");
}

/// The server forgets what it had confirmed since a transaction pinned the slot; the record on the
/// checkpoint does not. Only what was not confirmed at the crash can come again.
#[test]
fn a_crash_under_load_repeats_nothing_that_was_confirmed() {
    let rig = Rig::take();
    let relay = rig.relay("pinned");
    let writer = relay.writer().start();
    let running = relay.run();
    let mut consumer = relay.consumer();
    let mut settled = Settled::default();
    let mut unsettled = 0;
    let mut crashes = 0;
    for round in 0..scaled(3, 15) {
        let _open = pin(&relay);
        consumer.wait_for_new_events(scaled(50, 20_000), SOON);
        relay.wait_until_steady();
        let ends = || running.log().matches("the session ended").count();
        let before = ends();
        let slot = relay.database.slot(&relay.slot).expect("the slot");
        match round % 3 {
            0 => rig.postgres.kill(),
            1 => rig.postgres.stop(Stop::Immediate),
            _ => rig.postgres.stop(Stop::Fast),
        }
        wait_until(SOON, "what was in flight to arrive", || {
            (ends() > before).then_some(())
        });
        crashes += usize::from(round % 3 < 2);
        let confirmed = slot.confirmed.expect("it has a position");
        let counts = settled.note(consumer.read_to_end(SOON), confirmed);
        assert!(counts.0 > 0, "round {round} had confirmed nothing");
        unsettled += counts.1;
        rig.postgres.start();
        consumer.wait_for_new_events(1, BACK);
    }
    let ledger = writer.stop();
    let forgotten = running.log().matches("the server forgot").count();
    let records = relay.end(running, &ledger);
    let duplicates = check(&[&ledger], &records).assert_clean();
    println!(
        "postgres, crashed with a pinned slot: {} events, {duplicates} duplicates, {unsettled} \
         delivered and not confirmed",
        ledger.committed.len()
    );
    settled.assert_final(&records);
    assert!(forgotten >= crashes, "{forgotten} of {crashes} were such");
}

/// Opens a transaction that has written, to a table that nobody publishes, and waits until the slot
/// has been saved for the last time that its beginning allows: from here on the server has nowhere
/// but in its memory what is confirmed.
fn pin(relay: &Relay) -> Client {
    let table = "create table if not exists unpublished (number int)";
    relay.database.execute(table);
    let mut open = relay.database.client();
    open.batch_execute("begin; insert into unpublished values (1)")
        .expect("pin the slot");
    // It is at checkpoints that the server writes down which transactions run.
    relay.database.execute("checkpoint");
    relay.wait_until_steady();
    open
}

#[test]
fn a_terminated_walsender_costs_nothing() {
    let rig = Rig::take();
    let relay = rig.relay("terminated");
    survives(&relay, "walsender terminated", scaled(2, 5), || {
        relay.database.execute(&format!(
            "select pg_terminate_backend(active_pid) from pg_replication_slots
             where slot_name = '{}' and active",
            relay.slot
        ));
    });
}

#[test]
fn a_connection_that_is_cut_costs_nothing() {
    let rig = Rig::take();
    let proxy = Proxy::new(&format!("127.0.0.1:{}", rig.postgres.port()));
    let relay = rig.relay_through("cut", proxy.port());
    survives(&relay, "connection cut", scaled(2, 5), || proxy.cut());
}

#[test]
fn a_connection_that_is_reset_costs_nothing() {
    let rig = Rig::take();
    let proxy = Proxy::new(&format!("127.0.0.1:{}", rig.postgres.port()));
    let relay = rig.relay_through("reset", proxy.port());
    survives(&relay, "connection reset", scaled(2, 5), || proxy.reset());
}

#[test]
fn a_server_that_is_out_of_reach_for_a_while_costs_nothing() {
    let rig = Rig::take();
    let proxy = Proxy::new(&format!("127.0.0.1:{}", rig.postgres.port()));
    let relay = rig.relay_through("reach", proxy.port());
    let away = Duration::from_secs(scaled(2, 20));
    survives(&relay, "out of reach", 1, || {
        proxy.down();
        thread::sleep(away);
        proxy.resume();
    });
}

#[test]
fn a_connection_that_stalls_costs_nothing() {
    let rig = Rig::take();
    let proxy = Proxy::new(&format!("127.0.0.1:{}", rig.postgres.port()));
    let relay = rig.relay_through("stall", proxy.port());
    // At full scale longer than the server waits for the relay (15 s).
    let stalled = Duration::from_secs(scaled(3, 25));
    survives(&relay, "connection stalled", 1, || {
        proxy.stall();
        thread::sleep(stalled);
        proxy.resume();
    });
}

/// What is sent leaves, and never arrives: neither side is told.
#[test]
fn a_way_that_swallows_everything_is_noticed_and_costs_nothing() {
    let rig = Rig::take();
    let proxy = Proxy::new(&format!("127.0.0.1:{}", rig.postgres.port()));
    let relay = rig.relay_through("hole", proxy.port());
    let writer = relay.writer().start();
    let running = relay.run();
    let mut consumer = relay.consumer();
    let ways: [(&[Direction], &str); 2] = [
        (&[Direction::ToClient], "the connection is dead"),
        (
            &[Direction::ToClient, Direction::ToServer],
            "the connection is dead",
        ),
    ];
    for (ends, (way, words)) in (1..).zip(ways) {
        consumer.wait_for_new_events(scaled(50, 2000), SOON);
        relay.wait_until_steady();
        let began = Instant::now();
        for direction in way {
            proxy.black_hole(*direction);
        }
        wait_until(SOON, "the end of the session", || {
            let ended = running.log().matches(words).count();
            (ended >= ends).then_some(())
        });
        noticed(way, began.elapsed());
        proxy.resume();
    }
    // What the server does not hear is the server's to notice, by its own timeout. What had
    // arrived before is not the relay's return.
    consumer.read_to_end(SOON);
    consumer.wait_for_new_events(1, SOON);
    relay.wait_until_steady();
    let streaming = relay.database.slot(&relay.slot).expect("the slot");
    let walsender = streaming.active_pid.expect("the relay streams");
    let began = Instant::now();
    proxy.black_hole(Direction::ToServer);
    wait_until(SOON, "the server to give the relay up", || {
        let row = relay.database.slot(&relay.slot)?;
        (row.active_pid != Some(walsender)).then_some(())
    });
    noticed(&[Direction::ToServer], began.elapsed());
    proxy.resume();
    consumer.wait_for_new_events(scaled(100, 2000), SOON);
    let ledger = writer.stop();
    relay.finish(running, &ledger);
}

/// Says how long a black hole was not seen, and holds the bound where nothing else is running.
fn noticed(way: &[Direction], after: Duration) {
    println!("postgres, {way:?} swallowed: noticed after {after:.1?}");
    let promised = scaled(SOON, Duration::from_secs(20));
    assert!(after <= promised, "{way:?}: noticed after {after:?}");
}

/// Load, the fault a number of times, load, and the check.
fn survives(relay: &Relay, what: &str, rounds: usize, fault: impl Fn()) {
    let writer = relay.writer().start();
    let running = relay.run();
    let mut consumer = relay.consumer();
    let mut back = Duration::ZERO;
    for _ in 0..rounds {
        consumer.wait_for_new_events(scaled(50, 2000), SOON);
        relay.wait_until_steady();
        fault();
        let over = Instant::now();
        // What had arrived before the fault is not the relay's return.
        consumer.read_to_end(SOON);
        consumer.wait_for_new_events(1, BACK);
        back = back.max(over.elapsed());
    }
    consumer.wait_for_new_events(scaled(100, 2000), BACK);
    let ledger = writer.stop();
    let duplicates = relay.finish(running, &ledger);
    println!(
        "postgres, {what}: {} events, {rounds} times, back after at most {back:.2?}, {duplicates} \
         duplicates",
        ledger.committed.len()
    );
}
