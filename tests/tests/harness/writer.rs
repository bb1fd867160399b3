//! The ledger against the table, over crashes and lost answers.

use std::{
    thread,
    time::{Duration, Instant},
};

use walpost_tests::{
    Database, Direction, Ledger, Postgres, Proxy, Record, RunningWriter, Writer, check, wait_until,
};

use crate::SOON;

#[test]
fn the_ledger_is_what_the_table_holds() {
    let database = Postgres::shared().database("ledger");
    database.create_outbox();
    let writer = Writer::new(&database, "topic")
        .rows_between(1, 6)
        .rollbacks(0.3)
        .savepoints(true)
        .headers(r#"{"a": "b"}"#)
        .transactions(100);
    let ledger = writer.run(SOON);
    assert!(ledger.transactions < 90, "some of 100 were rolled back");
    assert!(!ledger.rolled_back.is_empty());
    assert_table_holds(&database, &ledger);
}

#[test]
fn a_bulk_is_in_the_table_with_its_payloads_intact() {
    let database = Postgres::shared().database("bulk");
    database.create_outbox();
    let writer = Writer::new(&database, "to\\pic").payload_bytes(100);
    let mut ledger = writer.bulk_transactions(3, 50);
    assert_eq!((ledger.committed.len(), ledger.transactions), (150, 3));
    assert_table_holds(&database, &ledger);
    let other = writer.bulk(10);
    assert_ne!(other.committed[0].aggregate, ledger.committed[0].aggregate);
    ledger.committed.extend(other.committed);
    assert_table_holds(&database, &ledger);
    let count = "select count(*) from outbox where destination = 'to\\pic'
                 and length(payload ->> 'filler') = 100";
    let row = database.client().query_one(count, &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 160);
}

#[test]
fn the_ledger_is_true_over_crashes_of_the_server() {
    let postgres = Postgres::new();
    let database = postgres.database("crash");
    database.create_outbox();
    let running = Writer::new(&database, "topic")
        .rows(3)
        .rollbacks(0.1)
        .start();
    for round in 1..=3 {
        running.wait_for(running.committed() + 100 * round, SOON);
        postgres.kill();
        postgres.start();
    }
    running.wait_for(running.committed() + 50, SOON);
    let ledger = running.stop();
    assert!(ledger.reconnects >= 3, "{} reconnects", ledger.reconnects);
    assert_eq!(ledger.unknown, []);
    assert_table_holds(&database, &ledger);
}

#[test]
fn the_ledger_is_true_when_answers_to_commits_are_lost() {
    let database = Postgres::shared().database("answers");
    database.create_outbox();
    let proxy = Proxy::new(&format!("127.0.0.1:{}", database.postgres().port()));
    let writer = Writer::new(&database, "topic")
        .rows(2)
        .url(&database.url_through(proxy.port()));
    let running = writer.start();
    for _ in 0..20 {
        running.wait_for(running.committed() + 10, SOON);
        proxy.black_hole(Direction::ToClient);
        thread::sleep(Duration::from_millis(5));
        proxy.resume();
        proxy.cut();
    }
    let ledger = running.stop();
    assert!(ledger.reconnects >= 10, "{} reconnects", ledger.reconnects);
    assert_table_holds(&database, &ledger);
}

/// What is rolled back, by itself or because others were in the way, takes its versions with it.
#[test]
fn writers_that_share_aggregates_leave_no_hole_in_their_versions() {
    const AGGREGATES: usize = 4;
    const TRANSACTIONS: u64 = 60;
    let database = Postgres::shared().database("shared");
    database.create_outbox();
    database.execute(
        "create table ledger (id uuid primary key, aggregate text, version bigint);
         create table aggregate (name text primary key, version bigint)",
    );
    for index in 0..AGGREGATES {
        let name = Writer::shared_aggregate(index);
        database.execute(&format!("insert into aggregate values ('{name}', 0)"));
    }
    let began = Instant::now();
    let writers: Vec<_> = (1..=3)
        .map(|seed| {
            Writer::new(&database, "topic")
                .ledger("ledger")
                .shared_aggregates("aggregate")
                .aggregates(AGGREGATES)
                .rows_between(1, 6)
                .rollbacks(0.2)
                .savepoints(true)
                .seed(seed)
                .transactions(TRANSACTIONS)
                .start()
        })
        .collect();
    let ended = || writers.iter().all(|writer| writer.is_finished());
    wait_until(SOON, "the writers end", || ended().then_some(()));
    let took = began.elapsed();
    let mut all = Ledger::default();
    for ledger in writers.into_iter().map(RunningWriter::stop) {
        assert!(ledger.transactions < TRANSACTIONS, "some were rolled back");
        assert_eq!(ledger.reconnects, 0);
        all.committed.extend(ledger.committed);
    }
    let per_second = all.committed.len() as f64 / took.as_secs_f64();
    println!("writers that share {AGGREGATES} aggregates: {per_second:.0} events/s");
    assert_rows_are(&database, &all);
    let differences = "select count(*) from (
            select id, aggregate_id, (payload ->> 'version')::bigint from outbox
            except select id, aggregate, version from ledger) as row";
    let holes = "select count(*) from (
            select max(l.version) = count(*) and max(l.version) = max(a.version) as fits
            from ledger l join aggregate a on a.name = l.aggregate group by l.aggregate) as one
        where not fits";
    for sql in [differences, holes] {
        let row = database.client().query_one(sql, &[]).unwrap();
        assert_eq!(row.get::<_, i64>(0), 0, "{sql}");
    }
}

#[test]
fn a_rate_is_kept() {
    let database = Postgres::shared().database("rate");
    database.create_outbox();
    let began = Instant::now();
    let ledger = Writer::new(&database, "topic")
        .rate(50.0)
        .transactions(21)
        .run(SOON);
    let took = began.elapsed();
    assert_eq!(ledger.committed.len(), 21);
    assert!(
        took >= Duration::from_millis(400),
        "20 gaps of 20 ms, not {took:?}"
    );
}

/// Versions without gaps per aggregate in commit order, and exactly the ids of the table.
fn assert_table_holds(database: &Database<'_>, ledger: &Ledger) {
    assert_rows_are(database, ledger);
    // What a perfect relay would have produced.
    let records: Vec<Record> = ledger
        .committed
        .iter()
        .zip(0..)
        .map(|(event, offset)| Record {
            offset,
            key: Some(event.id.to_string().into_bytes()),
            ..Record::default()
        })
        .collect();
    assert_eq!(check(&[ledger], &records).assert_clean(), 0);
}

/// The table has exactly what the ledger says.
fn assert_rows_are(database: &Database<'_>, ledger: &Ledger) {
    let query = "select id::text, aggregate_id, (payload ->> 'version')::bigint from outbox
                 order by 1";
    let rows = database.client().query(query, &[]).unwrap();
    let mut found: Vec<(String, String, u64)> = rows
        .iter()
        .map(|row| {
            (
                row.get(0),
                row.get(1),
                u64::try_from(row.get::<_, i64>(2)).unwrap(),
            )
        })
        .collect();
    let mut written: Vec<(String, String, u64)> = ledger
        .committed
        .iter()
        .map(|event| (event.id.to_string(), event.aggregate.clone(), event.version))
        .collect();
    found.sort();
    written.sort();
    assert!(
        found == written,
        "{} rows, {} in the ledger",
        found.len(),
        written.len()
    );
}
