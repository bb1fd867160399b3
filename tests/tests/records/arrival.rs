//! Everything that was committed arrives, byte for byte, where and in the order it should.
//!
//! Two sessions write at once: one commits row by row, the other a thousand rows at a time, by COPY
//! and by multi-row inserts, with transactions in between that it rolls back.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use postgres::{Client, Statement, fallible_iterator::FallibleIterator};
use uuid::Uuid;
use walpost_tests::{Consumer, Database, Postgres, Record, copy_text};

use crate::{
    SOON,
    expected::{Arrived, Expected, assert_stamps},
    is_full_scale,
    payloads::Kind,
    stage::{Stage, stop},
};

#[test]
fn every_committed_jsonb_arrives_byte_for_byte() {
    everything_arrives(Postgres::shared(), Kind::Jsonb, Size::chosen());
}

#[test]
fn every_committed_json_arrives_byte_for_byte() {
    everything_arrives(Postgres::shared(), Kind::Json, Size::chosen());
}

#[test]
fn every_committed_text_arrives_byte_for_byte() {
    everything_arrives(Postgres::shared(), Kind::Text, Size::chosen());
}

#[test]
fn every_committed_bytea_arrives_byte_for_byte() {
    everything_arrives(Postgres::shared(), Kind::Bytea, Size::chosen());
}

#[test]
fn another_major_version_of_postgres_sends_the_same() {
    let Some(postgres) = Postgres::major(18) else {
        let mut stderr = std::io::stderr().lock();
        writeln!(
            stderr,
            "skipped: PostgreSQL 18 is not in the cache; scripts/postgres-major.sh 18"
        )
        .ok();
        return;
    };
    for kind in [Kind::Jsonb, Kind::Bytea] {
        let size = Size {
            singles: 300,
            thousands: 1,
        };
        everything_arrives(&postgres, kind, size);
    }
}

/// How much is committed.
#[derive(Clone, Copy)]
struct Size {
    /// Transactions of one row.
    singles: usize,
    /// Transactions of a thousand rows.
    thousands: usize,
}

impl Size {
    fn chosen() -> Self {
        if is_full_scale() {
            Self {
                singles: 38_000,
                thousands: 38,
            }
        } else {
            Self {
                singles: 1_000,
                thousands: 2,
            }
        }
    }

    fn rows(self) -> usize {
        self.singles + self.thousands * THOUSAND
    }
}

fn everything_arrives(postgres: &Postgres, kind: Kind, size: Size) {
    let stage = Stage::on(postgres, kind.name());
    stage.database.execute(&format!(
        "create table public.outbox (
             id uuid primary key default gen_random_uuid(), destination text not null,
             aggregate_type text, aggregate_id text, event_type text, payload {} not null,
             headers jsonb, created_at timestamptz not null default now(),
             writer int not null, seq int not null, unique (writer, seq))",
        kind.name()
    ));
    stage.walpost.init();
    let topic = stage.kafka.topic(kind.name(), PARTITIONS);
    let running = stage.stream();
    let (begun, before) = (Instant::now(), now(&stage.database));
    thread::scope(|scope| {
        let writer = |number| Writer::new(&stage.database, &topic, kind, number);
        scope.spawn(move || writer(ONE_BY_ONE).commit_singles(size.singles));
        scope.spawn(move || writer(IN_THOUSANDS).commit_thousands(size.thousands));
    });
    let written = begun.elapsed();

    let mut consumer = Consumer::new(&stage.kafka.brokers(), &topic);
    consumer.wait_until("every event", deadline(size), |records| {
        records.len() >= size.rows()
    });
    let delivered = begun.elapsed();
    stop(running);
    consumer.read_to_end(SOON);
    let records = consumer.into_records();
    let bytes = compare(&stage.database, kind, &records);
    assert_stamps(&records);
    assert_times(&records, &before, &now(&stage.database));
    if is_full_scale() {
        report(kind, records.len(), bytes, written, delivered);
    }
}

/// Compares the records with the table, and returns the bytes of all values.
#[track_caller]
fn compare(database: &Database<'_>, kind: Kind, records: &[Record]) -> usize {
    let mut arrived = Arrived::new(records, u32::try_from(PARTITIONS).unwrap());
    let mut client = database.client();
    let mut bytes = 0;
    let mut count = 0;
    for writer in [ONE_BY_ONE, IN_THOUSANDS] {
        // Row by row: all of the payloads at once would take gigabytes.
        let query = format!(
            "select id, aggregate_id, event_type, {}, headers <> '{{}}' from public.outbox
             where writer = $1 order by seq",
            kind.bytes()
        );
        let mut rows = client.query_raw(&query, [writer]).expect("read the table");
        while let Some(row) = rows.next().expect("read the table") {
            let value: Vec<u8> = row.get(3);
            bytes += value.len();
            let expected = expected(
                row.get(0),
                row.get(1),
                row.get(2),
                value,
                row.get::<_, Option<bool>>(4) == Some(true),
            );
            count += arrived.take_all([expected]);
        }
    }
    assert_eq!(count, records.len());
    arrived.assert_empty();
    assert_order(database, records);
    bytes
}

fn expected(
    id: Uuid,
    aggregate: Option<String>,
    event_type: Option<String>,
    value: Vec<u8>,
    has_headers: bool,
) -> Expected {
    let key = id.to_string().into_bytes();
    let mut headers = vec![("id".to_owned(), id.to_string())];
    headers.extend(event_type.map(|event_type| ("type".to_owned(), event_type)));
    if has_headers {
        let own = HEADERS_EXPECTED.map(|(name, value)| (name.to_owned(), value.to_owned()));
        headers.extend(own);
    }
    Expected {
        id,
        placed_by: aggregate.map_or_else(|| key.clone(), String::into_bytes),
        key: Some(key),
        value: Some(value),
        headers,
    }
}

/// What a session committed earlier stands earlier in each partition.
#[track_caller]
fn assert_order(database: &Database<'_>, records: &[Record]) {
    let rows = database
        .client()
        .query("select id, writer, seq from public.outbox", &[])
        .expect("read the table");
    let written: std::collections::HashMap<Uuid, (i32, i32)> = rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();
    let mut last = std::collections::HashMap::new();
    for record in records {
        let id = record.event_id().expect("every record names its event");
        let (writer, sequence) = written[&id];
        let before = last.insert((record.partition, writer), sequence);
        assert!(
            before.is_none_or(|before| before < sequence),
            "{id}: row {sequence} of session {writer} comes after row {before:?}"
        );
    }
}

/// Commit times and timestamps lie between the first and the last moment of the test.
#[track_caller]
fn assert_times(records: &[Record], before: &Moment, after: &Moment) {
    for record in records {
        let time = record
            .header("walpost-commit-time")
            .expect("every record has one");
        assert!(
            before.text.as_str() <= time && time <= after.text.as_str(),
            "{time} is not between {} and {}",
            before.text,
            after.text
        );
        let timestamp = record
            .timestamp
            .expect("a record carries the time of its production");
        assert!((before.millis..=after.millis).contains(&timestamp));
    }
}

/// A moment on the server's clock, which is this machine's.
struct Moment {
    text: String,
    millis: i64,
}

fn now(database: &Database<'_>) -> Moment {
    let row = database
        .client()
        .query_one(
            "select to_char(t at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                    (extract(epoch from t) * 1000)::bigint
             from (select clock_timestamp()) now (t)",
            &[],
        )
        .expect("ask for the time");
    Moment {
        text: row.get(0),
        millis: row.get(1),
    }
}

/// Straight to stderr: the figures are wanted of a test that passes.
fn report(kind: Kind, records: usize, bytes: usize, written: Duration, delivered: Duration) {
    let mut stderr = std::io::stderr().lock();
    writeln!(
        stderr,
        "arrival of {}: {records} rows, {} MB of payload, written in {:.1} s, delivered after \
         {:.1} s ({:.0} a second)",
        kind.name(),
        bytes / 1_000_000,
        written.as_secs_f64(),
        delivered.as_secs_f64(),
        f64::from(u32::try_from(records).unwrap()) / delivered.as_secs_f64(),
    )
    .ok();
}

fn deadline(size: Size) -> Duration {
    SOON + Duration::from_millis(u64::try_from(size.rows()).unwrap())
}

/// A session that writes rows of its own sequence.
struct Writer<'a> {
    client: Client,
    topic: &'a str,
    kind: Kind,
    number: i32,
    next: usize,
    hostile: Vec<String>,
}

struct Row {
    id: Uuid,
    aggregate: Option<String>,
    event_type: Option<&'static str>,
    headers: Option<&'static str>,
    payload: String,
    sequence: i32,
}

impl<'a> Writer<'a> {
    fn new(database: &Database<'_>, topic: &'a str, kind: Kind, number: i32) -> Self {
        let mut client = database.client();
        // Nothing crashes here, so nothing has to wait for the disk.
        client
            .batch_execute("set synchronous_commit = off")
            .unwrap();
        Self {
            client,
            topic,
            kind,
            number,
            next: 0,
            hostile: kind.hostile(),
        }
    }

    fn row(&mut self) -> Row {
        let index = self.next;
        self.next += 1;
        let aggregate = match index % 10 {
            7 => None,
            8 => Some(hostile_key(index)),
            _ => Some(format!("order-{}", index % 97)),
        };
        Row {
            id: Uuid::from_u128(fastrand::u128(..)),
            aggregate,
            event_type: [
                Some("created"),
                None,
                Some(""),
                Some("ty\"p'e\\ \n😀\u{ffff}"),
            ][index % 4],
            headers: [None, Some("{}"), Some(HEADERS)][index % 3],
            payload: self.kind.payload(index, &self.hostile),
            sequence: i32::try_from(index).unwrap(),
        }
    }

    fn commit_singles(mut self, count: usize) {
        let insert = self
            .client
            .prepare(&format!(
                "insert into public.outbox
                     (id, destination, aggregate_id, event_type, payload, headers, writer, seq)
                 values ($1, $2, $3, $4, {}, $6::text::jsonb, $7, $8)",
                self.kind.value_of("$5")
            ))
            .unwrap();
        for _ in 0..count {
            let row = self.row();
            self.insert(&insert, &row);
        }
    }

    fn insert(&mut self, insert: &Statement, row: &Row) {
        let (topic, number) = (self.topic, self.number);
        self.client
            .execute(
                insert,
                &[
                    &row.id,
                    &topic,
                    &row.aggregate,
                    &row.event_type,
                    &row.payload,
                    &row.headers,
                    &number,
                    &row.sequence,
                ],
            )
            .expect("insert a row");
    }

    fn commit_thousands(mut self, count: usize) {
        for transaction in 0..count {
            let first = self.next;
            if transaction.is_multiple_of(2) {
                self.copy(THOUSAND, "rollback");
                // What was rolled back was never there: its numbers are free.
                self.next = first;
                self.copy(THOUSAND, "commit");
            } else {
                self.insert_many(THOUSAND);
            }
        }
    }

    fn copy(&mut self, rows: usize, end: &str) {
        self.client.batch_execute("begin").unwrap();
        let rows: Vec<Row> = (0..rows).map(|_| self.row()).collect();
        let statement = "copy public.outbox (id, destination, aggregate_id, event_type, payload,
             headers, writer, seq) from stdin";
        let mut copy = self.client.copy_in(statement).unwrap();
        for row in rows {
            let optional = |value: Option<&str>| value.map_or_else(|| r"\N".to_owned(), copy_text);
            let payload = match self.kind {
                Kind::Bytea => format!(r"\\x{}", row.payload),
                Kind::Jsonb | Kind::Json | Kind::Text => copy_text(&row.payload),
            };
            writeln!(
                copy,
                "{}\t{}\t{}\t{}\t{payload}\t{}\t{}\t{}",
                row.id,
                self.topic,
                optional(row.aggregate.as_deref()),
                optional(row.event_type),
                optional(row.headers),
                self.number,
                row.sequence,
            )
            .unwrap();
        }
        copy.finish().expect("copy rows");
        self.client.batch_execute(end).unwrap();
    }

    fn insert_many(&mut self, rows: usize) {
        let rows: Vec<Row> = (0..rows).map(|_| self.row()).collect();
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let aggregates: Vec<_> = rows.iter().map(|row| row.aggregate.as_deref()).collect();
        let types: Vec<_> = rows.iter().map(|row| row.event_type).collect();
        let headers: Vec<_> = rows.iter().map(|row| row.headers).collect();
        let payloads: Vec<_> = rows.iter().map(|row| row.payload.as_str()).collect();
        let sequences: Vec<_> = rows.iter().map(|row| row.sequence).collect();
        let statement = format!(
            "insert into public.outbox
                 (id, destination, aggregate_id, event_type, payload, headers, writer, seq)
             select id, $1, aggregate_id, event_type, {}, headers::jsonb, $2, seq
             from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[])
                  row (id, aggregate_id, event_type, payload, headers, seq)",
            self.kind.value_of("row.payload")
        );
        let (topic, number) = (self.topic, self.number);
        self.client
            .execute(
                &statement,
                &[
                    &topic,
                    &number,
                    &ids,
                    &aggregates,
                    &types,
                    &payloads,
                    &headers,
                    &sequences,
                ],
            )
            .expect("insert many rows");
    }
}

/// Aggregates that are no plain words.
fn hostile_key(index: usize) -> String {
    let keys = [
        String::new(),
        "Ω'\"\\\n\t".to_owned(),
        "\u{202e}שלום😀\u{ffff}".to_owned(),
        "k".repeat(10_000),
        "${id}".to_owned(),
        "abc".to_owned(),
    ];
    keys[index / 10 % keys.len()].clone()
}

/// The row's own headers, and what they are in the record: `jsonb` sorts names by their length.
const HEADERS: &str = r#"{"trace": "00-4bf9", "b": "\"ä\\\n😀\"", "yes": true, "nn": 1.10,
    "none": null, "empty": ""}"#;
const HEADERS_EXPECTED: [(&str, &str); 6] = [
    ("b", "\"ä\\\n😀\""),
    ("nn", "1.10"),
    ("yes", "true"),
    ("none", "null"),
    ("empty", ""),
    ("trace", "00-4bf9"),
];

const PARTITIONS: i32 = 7;
const THOUSAND: usize = 1_000;
const ONE_BY_ONE: i32 = 1;
const IN_THOUSANDS: i32 = 2;
