//! Every type that a column may have, in a text stream and in a binary one, against SQL's own text.

use std::collections::BTreeMap;

use walpost_tests::{Kafka, Postgres, Record, Walpost};
use walpost_witness::partition;

use crate::{
    SOON,
    expected::assert_stamps,
    stage::{Stage, headers, pairs, stop},
};

#[test]
fn every_value_of_every_type_is_its_text_in_both_formats() {
    same_in_both_formats(Postgres::shared());
}

#[test]
fn every_value_of_every_type_is_its_text_on_a_newer_server_too() {
    let Some(postgres) = Postgres::major(18) else {
        println!("skipped: PostgreSQL 18 is not there");
        return;
    };
    same_in_both_formats(&postgres);
    generated_columns(&postgres);
    enums_of_an_open_stream(&postgres);
}

#[test]
fn a_generated_column_is_refused_where_it_is_read() {
    generated_columns(Postgres::shared());
}

/// Two streams of the same rows: one is binary because its payload is `bytea`.
fn same_in_both_formats(postgres: &Postgres) {
    let stage = Stage::on(postgres, "types");
    let topics = ["binary", "text"].map(|hint| {
        let limit = [("max.message.bytes", "8000000")];
        stage.kafka.topic_with(hint, 7, &limit)
    });
    stage.database.execute(TYPES);
    let columns = columns(&stage);
    for (table, payload) in TABLES {
        let definitions: Vec<_> = columns
            .iter()
            .map(|(name, kind, _)| format!("{name} {kind}"))
            .collect();
        let definitions = definitions.join(", ");
        stage.database.execute(&format!(
            "create table {table} (id bigint primary key, payload {payload} not null,
                 {definitions})"
        ));
    }
    let text = Walpost::minimal(&stage.database.url(), &stage.kafka.brokers(), "unused");
    let slots = [stage.slot.clone(), stage.database.slot_name()];
    for (walpost, number) in [(&stage.walpost, 0), (&text, 1)] {
        let (url, brokers) = (stage.database.url(), stage.kafka.brokers());
        let (slot, table, topic) = (&slots[number], TABLES[number].0, &topics[number]);
        let header = |(name, ..): &(&str, &str, &str)| format!("    {name}: \"${{{name}}}\"\n");
        walpost.configure(&format!(
            "postgres: {{ url: \"{url}\", slot: {slot}, publication: {slot} }}
kafka: {{ brokers: \"{brokers}\", properties: {{ message.max.bytes: 8000000 }} }}
outbox: {{ table: {table} }}
route:
  topic: {topic}
  key: \"${{small}}/${{moment}}/${{mood}}/${{raw}}\"
  partition_by: \"${{number_chain}}${{flag}}\"
  headers:
{}",
            columns.iter().map(header).collect::<String>()
        ));
        walpost.init();
    }
    insert(&stage, &columns);
    stage.once();
    let finished = text.finish(&["run", "--once"], SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let [binary, text] = topics.map(|topic| by_place(stage.read(&topic)));
    assert_stamps(&binary);
    assert_eq!(binary.len(), ROWS);
    for (binary, text) in binary.iter().zip(&text) {
        assert!(binary == text, "{binary:.9000?}\n{text:.9000?}");
    }
    compare_with_sql(&stage, &columns, &binary);
}

/// Name, type, and the SQL of the `n`th value.
type Column = (&'static str, &'static str, &'static str);

/// Both tables have the same rows, written by one transaction.
fn insert(stage: &Stage<'_>, columns: &[Column]) {
    let names: Vec<_> = columns.iter().map(|(name, ..)| *name).collect();
    let values: Vec<_> = columns.iter().map(|(_, _, sql)| *sql).collect();
    let (names, values) = (names.join(", "), values.join(",\n"));
    stage.database.execute(&format!(
        "set timezone = 'UTC';
         begin;
         select setseed(0.25);
         insert into of_bytea (id, payload, {names})
         select n, convert_to(payload, 'UTF8'), {values}
         from (select n, case n when 7 then '' when 9 then repeat('xÿ', 600000)
                   else n || E'\\\\x00 \\U0001F600' end as payload
               from generate_series(1, {ROWS}) n) numbered;
         insert into of_text (id, payload, {names})
         select id, convert_from(payload, 'UTF8'), {names} from of_bytea order by id;
         commit;"
    ));
}

/// What the server itself prints for each value is the header, and what it has no value for has
/// none.
fn compare_with_sql(stage: &Stage<'_>, columns: &[Column], records: &[Record]) {
    let mut client = stage.database.client();
    client
        .batch_execute("set timezone = 'UTC'; set datestyle = 'ISO'; set bytea_output = 'hex'")
        .unwrap();
    // With the output function: a cast to text prints some types otherwise.
    let texts: Vec<_> = columns
        .iter()
        .map(|(name, ..)| format!("case when {name} is not null then format('%s', {name}) end"))
        .collect();
    let sql = format!("select id, payload, {} from of_bytea", texts.join(", "));
    let rows = client.query(&sql, &[]).unwrap();
    let expected: BTreeMap<Vec<u8>, _> = rows
        .iter()
        .map(|row| (row.get::<_, Vec<u8>>(1), row))
        .collect();
    let mut nulls = 0;
    for record in records {
        let row = expected[record.value.as_deref().unwrap()];
        let value = |name: &str| {
            let at = columns.iter().position(|(column, ..)| *column == name);
            row.get::<_, Option<String>>(2 + at.unwrap())
        };
        let has: BTreeMap<_, _> = headers(record).into_iter().collect();
        for (name, kind, _) in columns {
            let value = value(name);
            nulls += usize::from(value.is_none());
            assert!(
                has.get(*name) == value.as_ref(),
                "{name} {kind}: {value:.300?}"
            );
        }
        let key = ["small", "moment", "mood", "raw"].map(value);
        let key: Option<Vec<String>> = key.into_iter().collect();
        let key = key.map(|parts| parts.join("/"));
        assert_eq!(record.key_text(), key.as_deref());
        let placed = value("number_chain").zip(value("flag"));
        let id = row.get::<_, i64>(0).to_string();
        let placed = placed
            .map(|(chain, flag)| chain + &flag)
            .or(key)
            .unwrap_or(id);
        assert_eq!(record.partition, partition(placed.as_bytes(), 7));
    }
    assert!(nulls > ROWS, "every column is NULL in some rows: {nulls}");
}

/// Comparable apart from when and where it was read.
fn by_place(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| (record.partition, record.offset));
    for record in &mut records {
        record.timestamp = None;
        record.topic.clear();
    }
    records
}

fn columns(stage: &Stage<'_>) -> Vec<Column> {
    let mut columns = COLUMNS.to_vec();
    let citext = "select from pg_available_extensions where name = 'citext'";
    let mut client = stage.database.client();
    if client.query_opt(citext, &[]).unwrap().is_some() {
        client.batch_execute("create extension citext").unwrap();
        columns.push((
            "folded",
            "citext",
            "(array['Straße', '', null, 'ÄÖ'])[1 + n % 4]",
        ));
    }
    columns
}

const ROWS: usize = 700;

const TABLES: [(&str, &str); 2] = [("of_bytea", "bytea"), ("of_text", "text")];

/// Among them an enum that is called like a built-in type.
const TYPES: &str = "
    create schema shop;
    create type mood as enum ('ok', 'größer', 'it''s \"fine\"', '\\x00', '');
    create domain mood_inner as mood;
    create domain mood_chain as mood_inner not null default 'ok';
    create type shop.int4 as enum ('four', '4');
    create domain shop.text as varchar(30);
    create domain number_inner as bigint check (value <> 5);
    create domain number_chain as number_inner;
    create domain moment_domain as timestamptz;
    create domain bytes as bytea check (length(value) < 10000);
    create domain doc_domain as jsonb";

/// The first rows have the values that stand here; then come values by chance.
const COLUMNS: [Column; 19] = [
    ("flag", "boolean", "(array[true, false, null])[1 + n % 3]"),
    (
        "small",
        "int2",
        "case when n < 8 then (array[0, -0, 1, -1, 32767, -32768, null])[n]
            else (random() * 65535 - 32768)::int2 end",
    ),
    (
        "number",
        "int4",
        "case when n < 8 then (array[0, -0, 1, -1, 2147483647, -2147483648, null])[n]
            else (random() * 4294967295 - 2147483648)::int4 end",
    ),
    (
        "large",
        "int8",
        "case when n < 8 then (array[0, -0, 1, -1, 9223372036854775807, -9223372036854775808,
            null])[n] else ((random() - 0.5) * 18e18)::int8 end",
    ),
    (
        "name",
        "varchar(40)",
        "(array['', ' a ', 'ä😀', null, E'line\\r\\n\\t\"\\\\'])[1 + n % 5]",
    ),
    (
        "plain",
        "text",
        "case n when 1 then '' when 2 then repeat('ä', 524288) when 3 then '\\x00' when 4 then \
         null
            when 5 then E'\\u202e\\ufeff\\x7f\\x01' when 6 then '\\N' else md5(random()::text) end",
    ),
    (
        "fixed",
        "char(9)",
        "(array['', 'a', 'nine char', ' x', 'ü', null])[1 + n % 6]",
    ),
    (
        "ident",
        "name",
        "(array['', 'a', 'Größe', repeat('i', 63), null])[1 + n % 5]",
    ),
    (
        "uid",
        "uuid",
        "case n when 1 then '00000000-0000-0000-0000-000000000000'
            when 2 then 'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF' when 3 then null
            else md5(random()::text)::uuid end",
    ),
    (
        "doc",
        "json",
        r#"(array['null', '""', ' { "b" : 1e400, "a": "\u0000\ud800", "a": -0.0 } ', '[1,2 ]', '-0',
            null]::json[])[1 + n % 6]"#,
    ),
    (
        "docb",
        "jsonb",
        r#"(array['null', '""', '{"b": 1e40, "a": "\u00e4\\\"", "a": -0.0}', '[1.10,2 ]', '-0',
            null]::jsonb[])[1 + n % 6]"#,
    ),
    (
        "moment",
        "timestamptz",
        "case when n < 18 then (array['infinity', '-infinity', '2000-01-01',
            '1999-12-31 23:59:59.9', '1970-01-01', '2024-02-29 12:34:56.7',
            '2024-02-29 12:34:56.000001', '0001-01-01',
            '0001-12-31 23:59:59.999999 BC', '0044-03-15 BC', '4714-11-24 BC',
            '9999-12-31 23:59:59.999999', '10000-01-01', '294276-12-31 23:59:59.999999',
            '1900-02-28', '2000-02-29', null]::timestamptz[])[n]
            else '2000-01-01'::timestamptz
                + make_interval(days => (case n % 2
                    when 0 then random() * 109000000 - 2400000
                    else random() * 40000 - 20000 end)::int,
                  secs => round((random() * 86400)::numeric, n % 7)::float8) end",
    ),
    (
        "raw",
        "bytea",
        "case n when 1 then '' when 2 then '\\x5c' when 3 then decode(repeat('00ff', 100000), \
         'hex')
            when 4 then null else decode(md5(random()::text), 'hex') end",
    ),
    (
        "mood",
        "mood",
        "(array['ok', 'größer', 'it''s \"fine\"', '\\x00', '', null]::mood[])[1 + n % 6]",
    ),
    (
        "mood_chain",
        "mood_chain",
        "(array['ok', 'größer']::mood[])[1 + n % 2]",
    ),
    (
        "fake",
        "shop.int4",
        "(array['four', '4', null]::shop.int4[])[1 + n % 3]",
    ),
    ("fake_text", "shop.text", "'x' || n"),
    (
        "number_chain",
        "number_chain",
        "case n % 4 when 0 then null else n * 1000003 end",
    ),
    (
        "bytes",
        "bytes",
        "case n % 3 when 0 then null else decode(md5(random()::text), 'hex') end",
    ),
];

/// Neither in the stream nor in the table as far as Postgres tells, and so placed otherwise.
fn generated_columns(postgres: &Postgres) {
    let stage = Stage::on(postgres, "generated");
    stage.database.execute(
        "create table outbox (
             twice int generated always as (2 * half) stored, half int,
             id bigint generated always as identity primary key, destination text,
             aggregate_id text generated always as (payload ->> 'who') stored, payload jsonb)",
    );
    stage.walpost.init();
    let refused = stage.walpost.finish(&["run", "--once"], SOON);
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    let is_published = postgres.binaries().version() >= 18;
    let fix = if is_published {
        "set (publish_generated_columns = stored);"
    } else {
        "drop expression;"
    };
    for words in [
        "the column 'aggregate_id' of public.outbox",
        "outbox.columns.aggregate_id needs",
        "generated",
        fix,
    ] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    let checked = stage.walpost.finish(&["check"], SOON);
    assert_eq!(checked.code, 1, "{}", checked.stdout);
    assert!(
        checked.stdout.contains("WP-TABLE-GENERATED"),
        "{}",
        checked.stdout
    );
    assert!(
        !checked.stdout.contains("twice"),
        "nobody reads it: {}",
        checked.stdout
    );

    if postgres.binaries().version() < 18 {
        let drop = "alter table outbox alter column aggregate_id drop expression";
        stage.database.execute(drop);
    } else {
        let publish = format!(
            "alter publication \"{}\" set (publish_generated_columns = stored)",
            stage.slot
        );
        stage.database.execute(&publish);
    }
    let topic = stage.kafka.topic("generated", 5);
    let written = if postgres.binaries().version() < 18 {
        "(destination, payload, half, aggregate_id) values ('@', '{\"who\": \"me\"}', 4, 'me')"
    } else {
        "(destination, payload, half) values ('@', '{\"who\": \"me\"}', 4)"
    };
    let insert = format!("insert into outbox {written}");
    stage.database.execute(&insert.replace('@', &topic));
    stage.once();
    let records = stage.read(&topic);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key_text(), Some("1"));
    assert_eq!(records[0].partition, partition(b"me", 5));
}

#[test]
fn a_type_that_a_binary_stream_can_not_print_is_refused_at_the_start_with_its_cast() {
    let stage = Stage::new("unreadable");
    stage.database.execute(
        "create table outbox (id bigint primary key, destination text, aggregate_id text,
             ignored point, payload bytea)",
    );
    stage.walpost.init();
    stage.database.execute(
        "create domain price as numeric(9, 2);
         alter table outbox add \"The Price\" price;
         alter table outbox alter aggregate_id type int[] using null",
    );
    stage.configure("route:\n  headers:\n    price: \"${The Price}\"\n");
    let refused = stage.walpost.finish(&["run", "--once"], SOON);
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    let cast = r#"alter column \"The Price\" type text;"#;
    assert!(refused.stderr.contains(cast), "{}", refused.stderr);
    let checked = stage.walpost.finish(&["check"], SOON).stdout;
    for words in [
        r#"alter column "aggregate_id" type text;"#,
        r#"alter column "The Price" type text;"#,
        "is of type integer[]",
        "is of type public.price",
        "route.headers.price needs",
    ] {
        assert!(checked.contains(words), "{words} in {checked}");
    }
    assert!(!checked.contains("ignored"), "{checked}");

    // The fixes are applied as they are printed.
    for line in checked.lines().filter(|line| line.contains("type text;")) {
        let (_, statement) = line.split_once("fix: ").unwrap();
        let (statement, _) = statement.split_once(';').unwrap();
        stage.database.execute(statement);
    }
    let topic = stage.kafka.topic("unreadable", 3);
    stage.database.execute(&format!(
        "insert into outbox (id, destination, aggregate_id, \"The Price\", payload)
         values (1, '{topic}', '{{1,2}}', '1.50', '\\xff')"
    ));
    stage.once();
    let records = stage.read(&topic);
    assert_eq!(headers(&records[0]), pairs(&[("price", "1.50")]));
    assert_eq!(records[0].partition, partition(b"{1,2}", 3));
    assert_eq!(records[0].value.as_deref(), Some(&[0xff][..]));
}

#[test]
fn an_enum_that_is_made_while_a_binary_stream_is_open_is_read_all_the_same() {
    enums_of_an_open_stream(Postgres::shared());
}

fn enums_of_an_open_stream(postgres: &Postgres) {
    let stage = Stage::on(postgres, "late_enum");
    stage.database.execute(
        "create table outbox (id bigint primary key, destination text, event_type text,
             payload bytea)",
    );
    stage.walpost.init();
    let topic = stage.kafka.topic("late_enum", 1);
    let running = stage.stream();
    for statement in [
        format!("insert into outbox values (1, '{topic}', 'made', '')"),
        "create type kind as enum ('made', 'größer')".to_owned(),
        "alter table outbox alter event_type type kind using event_type::kind".to_owned(),
        format!("insert into outbox values (2, '{topic}', 'größer', '')"),
    ] {
        stage.database.execute(&statement);
    }
    let end = stage.database.current_lsn();
    stage.database.wait_until_confirmed(&stage.slot, end, SOON);
    stop(running);
    let records = stage.read(&topic);
    let kinds: Vec<_> = records
        .iter()
        .filter_map(|record| record.header("type"))
        .collect();
    assert_eq!(kinds.last(), Some(&"größer"), "{kinds:?}");
    assert_eq!(kinds.first(), Some(&"made"));
}

/// Asked for once, and no more: what can't be read now is not read by trying again.
#[test]
fn a_type_that_can_not_be_read_stops_a_binary_stream_by_its_first_row() {
    let stage = Stage::new("late_type");
    let topic = stage.kafka.topic("late_type", 1);
    stage.database.execute(
        "create table outbox (id bigint primary key, destination text, event_type text,
             payload bytea);
         create type pair as (a int, b int)",
    );
    stage.walpost.init();
    let running = stage.stream();
    let change = |to: &str, using: &str| {
        stage.database.execute(&format!(
            "alter table outbox alter event_type type {to} using {using}"
        ));
    };
    let write = |id: u64, kind: &str| {
        stage.database.execute(&format!(
            "insert into outbox values ({id}, '{topic}', {kind}, '')"
        ));
    };
    write(1, "'made'");
    change("pair", "null");
    write(2, "'(1,2)'");
    let finished = running.finish(SOON);
    assert_eq!(finished.code, 78, "{}", finished.stderr);
    for words in [
        "WP-TABLE-TYPE",
        "'event_type' of public.outbox",
        "alter table",
    ] {
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    }

    // The row is in the WAL as it was, whatever the table is now.
    change("text", "null");
    let finished = stage.walpost.finish(&["run", "--once"], SOON);
    assert_eq!(finished.code, 78, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("'event_type' of public.outbox"),
        "{}",
        finished.stderr
    );
    assert_eq!(
        finished.stderr.matches("\"streaming\"").count(),
        2,
        "{}",
        finished.stderr
    );
    stage.configure("route:\n  headers:\n    id: \"${id}\"\n");
    stage.once();
    let ids: Vec<_> = stage.read(&topic).iter().map(headers).collect();
    assert_eq!(ids.last(), Some(&pairs(&[("id", "2")])));
}

#[test]
fn a_database_of_another_encoding_is_read_as_utf_8() {
    let postgres = Postgres::shared();
    let encoding = "encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0";
    for payload in ["text", "bytea"] {
        let database = postgres.database_with("latin", encoding);
        let slot = database.slot_name();
        let kafka = Kafka::shared();
        let walpost = Walpost::minimal(&database.url(), &kafka.brokers(), &slot);
        let topic = kafka.topic("latin", 3);
        database.execute(&format!(
            "create type size as enum ('größer');
             create table outbox (id text, destination text, aggregate_id varchar, event_type \
             size,
                 payload {payload}, headers json)"
        ));
        walpost.init();
        let value = match payload {
            "bytea" => "'\\xe4'",
            _ => "'ä'",
        };
        database.execute(&format!(
            "insert into outbox
             values ('é', '{topic}', 'ß', 'größer', {value}, '{{\"ü\": \"ö\"}}')"
        ));
        let finished = walpost.finish(&["run", "--once"], SOON);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let records = walpost_tests::read_all(&kafka.brokers(), &topic);
        let [record] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!(record.key_text(), Some("é"));
        assert_eq!(record.partition, partition("ß".as_bytes(), 3));
        let bytes: &[u8] = if payload == "bytea" {
            &[0xe4]
        } else {
            "ä".as_bytes()
        };
        assert_eq!(
            record.value.as_deref(),
            Some(bytes),
            "a bytea is not converted"
        );
        let expected = pairs(&[("id", "é"), ("type", "größer"), ("ü", "ö")]);
        assert_eq!(headers(record), expected);
    }
}
