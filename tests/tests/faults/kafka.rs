//! Faults of Kafka and its topics.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use uuid::Uuid;
use walpost_tests::{
    Kafka, Ledger, PARKED, Proxy, Record, Walpost, Written, check, read_all, wait_until,
};

use crate::{
    SOON, mebibytes,
    rig::{BACK, PARTITIONS, Rig, of_partitions},
    scaled,
};

/// The window holds 50,000 events in at most 64 MiB.
const RSS_PEAK_MAX: u64 = 300 << 20;

#[test]
fn a_killed_kafka_that_stays_away_costs_nothing() {
    let rig = Rig::take();
    let away = Duration::from_secs(scaled(5, 30));
    outage(&rig, "away", away, "killed", || {
        rig.kafka.kill();
        thread::sleep(away);
        rig.kafka.start();
    });
}

#[test]
fn a_frozen_kafka_costs_nothing() {
    let rig = Rig::take();
    let away = Duration::from_secs(scaled(4, 20));
    outage(&rig, "freeze", away, "frozen", || {
        rig.kafka.pause();
        thread::sleep(away);
        rig.kafka.resume();
    });
}

/// Load, the outage, load, and the check. `outage` returns when Kafka answers again.
fn outage(rig: &Rig, hint: &str, away: Duration, how: &str, outage: impl FnOnce()) {
    let relay = rig.relay(hint);
    let writer = relay.writer().start();
    let running = relay.run();
    let mut consumer = relay.consumer();
    consumer.wait_for_new_events(scaled(200, 5000), SOON);
    let before = writer.committed();
    outage();
    let answers = Instant::now();
    let during = writer.committed() - before;
    assert!(during > 0, "there was no load during the outage");
    // What was acknowledged before the outage is not the relay's return.
    consumer.read_to_end(SOON);
    consumer.wait_for_new_events(1, BACK);
    let first = answers.elapsed();
    consumer.wait_for_new_events(during, BACK);
    let caught_up = answers.elapsed();
    let rss = running.rss_peak_bytes();
    assert!(rss < RSS_PEAK_MAX, "{} MiB resident", mebibytes(rss));
    let ledger = writer.stop();
    let duplicates = relay.finish(running, &ledger);
    println!(
        "kafka {how} for {away:?}: {} events, {during} of them meanwhile, first event {first:.2?} \
         and all after {caught_up:.1?}, {duplicates} duplicates, peak {} MiB",
        ledger.committed.len(),
        mebibytes(rss)
    );
}

#[test]
fn a_topic_made_again_with_fewer_partitions_gets_everything_that_is_committed_from_then_on() {
    let rig = Rig::take();
    let relay = rig.relay("remade");
    let writer = relay.writer().start();
    let running = relay.run();
    relay.consumer().wait_for_new_events(200, SOON);
    rig.kafka.delete_topic(&relay.topic);
    // What was acknowledged before went with the topic; what is committed from here on can't have.
    // The transaction that is being booked right now may have been committed before.
    let gone = writer.committed() + ROWS_MAX;
    writer.wait_for(gone + scaled(200, 5000), SOON);
    assert!(running.is_running(), "{}", running.log());

    rig.kafka.create_topic(&relay.topic, 2, &[]);
    let made = Instant::now();
    let mut consumer = relay.consumer();
    consumer.wait_for_new_events(1, BACK);
    let first = made.elapsed();
    writer.wait_for(writer.committed() + scaled(200, 5000), SOON);
    let ledger = writer.stop();
    let after = Ledger {
        committed: ledger.committed[gone..].to_vec(),
        ..Ledger::default()
    };
    let records = relay.end(running, &after);
    assert!(records.iter().all(|record| record.partition < 2));
    let mut report = check(&[&ledger], &records);
    let before: BTreeSet<Uuid> = ledger.committed[..gone]
        .iter()
        .map(|event| event.id)
        .collect();
    report.lost.retain(|id| !before.contains(id));
    // What was placed by the old count is in the new topic beside what is placed by the new one:
    // the order that holds is that of each aggregate, from some version on.
    report.disorder = aggregate_disorder(&ledger, &records);
    let duplicates = report.assert_clean();
    println!("topic made again: first event {first:.2?} after it, {duplicates} duplicates");
}

#[test]
fn a_topic_grown_under_load_goes_on_and_is_used_whole_after_a_restart() {
    let rig = Rig::take();
    let relay = rig.relay("grown");
    let writer = relay.writer().start();
    let running = relay.run();
    let mut consumer = relay.consumer();
    consumer.wait_for_new_events(100, SOON);
    rig.kafka.grow_topic(&relay.topic, 9);
    consumer.wait_for_new_events(scaled(100, 5000), SOON);
    let finished = running.stop(SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);

    let running = relay.run();
    let mut consumer = relay.consumer();
    consumer.wait_until("a record in a new partition", SOON, |records| {
        records.last().is_some_and(|record| record.partition >= 4)
    });
    writer.wait_for(writer.committed() + scaled(200, 5000), SOON);
    let ledger = writer.stop();
    let report = of_partitions(check(&[&ledger], &relay.end(running, &ledger)));
    println!(
        "topic grown: {} events, {} duplicates",
        ledger.committed.len(),
        report.assert_clean()
    );
}

/// Where an aggregate's versions along the offsets skip one, or end below the highest.
fn aggregate_disorder(ledger: &Ledger, records: &[Record]) -> Vec<String> {
    let written: BTreeMap<Uuid, &Written> = ledger
        .committed
        .iter()
        .map(|event| (event.id, event))
        .collect();
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by_key(|record| (record.partition, record.offset));
    let mut next: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut violations = Vec::new();
    for record in sorted {
        let Some(event) = record.event_id().and_then(|id| written.get(&id)) else {
            continue;
        };
        let (expected, highest) = next
            .entry(&event.aggregate)
            .or_insert((event.version, event.version));
        if event.version > *expected {
            violations.push(format!("{event:?} where {expected} was next"));
        }
        *expected = event.version + 1;
        *highest = (*highest).max(event.version);
    }
    let unfinished = next
        .iter()
        .filter(|(_, (expected, highest))| *expected != highest + 1)
        .map(|(aggregate, _)| format!("{aggregate} ends with a repeat that is not finished"));
    violations.extend(unfinished);
    violations
}

/// The largest transaction of the load.
const ROWS_MAX: usize = 50;

/// The address leads to another cluster: after a blink, and after the relay had parked.
#[test]
fn what_another_cluster_takes_is_not_confirmed() {
    let rig = Rig::take();
    let other = Kafka::new();
    for parks in [false, true] {
        let relay = rig.relay("cluster");
        other.create_topic(&relay.topic, PARTITIONS, &[]);
        let running = relay.run();
        let mut ledger = relay.writer().bulk(100);
        relay.consumer().wait_for_events(&ledger, SOON);
        relay.wait_until_steady();
        rig.kafka.kill();
        ledger.committed.extend(relay.writer().bulk(100).committed);
        if parks {
            running.wait_for_log(PARKED, SOON);
        }
        let address = rig.kafka.brokers();
        let (_, port) = address.rsplit_once(':').expect("a port");
        let way = Proxy::at(port.parse().expect("a number"), &other.brokers());
        let finished = running.finish(SOON);
        assert_eq!(finished.code, 79, "{}", finished.stderr);
        assert!(
            finished.stderr.contains("--accept-kafka-cluster"),
            "{}",
            finished.stderr
        );
        let stray = read_all(&other.brokers(), &relay.topic).len();
        if parks {
            assert_eq!(stray, 0, "{}", finished.stderr);
        }
        drop(way);
        rig.kafka.start();
        let running = relay.run();
        let duplicates = relay.finish(running, &ledger);
        println!(
            "another cluster at the address, parked {parks}: it took {stray} records, none is \
             confirmed, {duplicates} duplicates"
        );
    }
}

/// A connection over which nothing went for long is closed in silence, and the name of the cluster
/// was moved meanwhile.
#[test]
fn what_another_cluster_takes_after_a_quiet_time_is_not_confirmed() {
    let rig = Rig::take();
    let other = Kafka::new();
    let mut relay = rig.relay("quiet");
    other.create_topic(&relay.topic, PARTITIONS, &[]);
    let way = rig.kafka.proxy();
    let url = relay.database.url();
    let direct = Walpost::minimal(&url, &rig.kafka.brokers(), &relay.slot);
    relay.walpost = Walpost::minimal(&url, &way.address(), &relay.slot)
        .env("WALPOST_KAFKA__PROPERTIES__CONNECTIONS_MAX_IDLE_MS", "1000");
    let running = relay.run();
    let mut ledger = relay.writer().bulk(100);
    relay.consumer().wait_for_events(&ledger, SOON);
    relay.wait_until_steady();
    wait_until(SOON, "the idle connections are closed", || {
        (way.connections() == 0).then_some(())
    });
    let port = way.port();
    drop(way);
    let _elsewhere = Proxy::at(port, &other.brokers());
    ledger.committed.extend(relay.writer().bulk(5).committed);
    let finished = running.finish(SOON);
    assert_eq!(finished.code, 79, "{}", finished.stderr);
    let stray = read_all(&other.brokers(), &relay.topic).len();
    assert!(stray > 0, "nothing went there: {}", finished.stderr);
    relay.walpost = direct;
    let running = relay.run();
    relay.finish(running, &ledger);
}

/// A broker says which cluster it is of also where it has no topic of that name any more.
#[test]
fn a_topic_that_was_deleted_is_in_nobodys_way_when_a_connection_breaks() {
    let rig = Rig::take();
    let relay = rig.relay("zebra");
    let gone = rig.kafka.topic("aardvark", 1);
    assert!(
        gone < relay.topic,
        "it is the first one that is asked about"
    );
    let running = relay.run();
    relay.database.insert_event(&gone, "a", "1");
    let mut ledger = relay.writer().bulk(50);
    relay.consumer().wait_for_events(&ledger, SOON);
    relay.wait_until_steady();
    rig.kafka.delete_topic(&gone);
    rig.kafka.kill();
    rig.kafka.start();
    ledger.committed.extend(relay.writer().bulk(50).committed);
    relay.consumer().wait_for_events(&ledger, SOON);
    relay.wait_until_steady();
    assert!(!running.log().contains(PARKED), "{}", running.log());
    relay.finish(running, &ledger);
}

/// Kafka is away while the relay comes to an event that it can't deliver, with good ones before it.
#[test]
fn an_event_that_can_not_be_delivered_holds_nothing_up_that_is_before_it() {
    let rig = Rig::take();
    let mut relay = rig.relay("before");
    relay.walpost = relay
        .walpost
        .env("WALPOST_DELIVERY__ON_UNDELIVERABLE", "hold");
    let running = relay.run();
    let mut ledger = relay.writer().bulk(100);
    relay.consumer().wait_for_events(&ledger, SOON);
    rig.kafka.kill();
    ledger.committed.extend(relay.writer().bulk(100).committed);
    relay.database.execute(&format!(
        "alter table outbox alter payload drop not null;
         insert into outbox (destination, aggregate_id, payload) values ('{}', 'a', null)",
        relay.topic
    ));
    running.wait_for_log(PARKED, SOON);
    let log = running.log();
    assert!(!log.contains("holding the line"), "{log}");
    rig.kafka.start();
    running.wait_for_log("holding the line", BACK);
    relay.consumer().wait_for_events(&ledger, SOON);
    assert_eq!(running.stop(SOON).code, 0);
    let records = relay.consumer().read_to_end(SOON).to_vec();
    check(&[&ledger], &records).assert_clean();
}
