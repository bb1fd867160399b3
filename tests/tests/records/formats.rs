//! A `bytea` payload makes the stream binary: every other column has to print as it does in text.

use walpost_tests::{Record, Walpost};

use crate::{
    SOON,
    expected::assert_stamps,
    stage::{Stage, headers, pairs, values},
};

#[test]
fn a_binary_and_a_text_stream_of_the_same_rows_give_the_same_records() {
    let binary = Stage::new("formats");
    unusual_settings(&binary);
    let text = Walpost::minimal(&binary.database.url(), &binary.kafka.brokers(), "unused");
    let text_slot = binary.database.slot_name();
    let topics = ["binary", "text"].map(|hint| binary.kafka.topic(hint, 5));
    binary.database.execute(TYPES);
    for (table, payload) in [("of_bytea", "bytea"), ("of_text", "text")] {
        binary.database.execute(&format!(
            "create table {table} (
                 id uuid primary key, aggregate_id text, payload {payload} not null, headers json,
                 flag boolean, small int2, number int4, large int8, name varchar(40), plain text,
                 label label, uid uuid, doc json, docb jsonb, moment timestamptz, raw bytea,
                 chain label_chain)"
        ));
    }
    let sections = |table: &str, topic: &str| {
        let columns = COLUMNS.map(|column| format!("    {column}: \"${{{column}}}\"\n"));
        format!(
            "outbox:\n  table: {table}\nroute:\n  topic: {topic}\n  \
             key: \"${{uid}}/${{moment}}\"\n  partition_by: \"${{aggregate_id}}\"\n  \
             headers:\n    id: \"${{id}}\"\n    xid: \"${{walpost.xid}}\"\n{}",
            columns.concat()
        )
    };
    binary.configure(&sections("of_bytea", &topics[0]));
    let (url, brokers) = (binary.database.url(), binary.kafka.brokers());
    text.configure(&format!(
        "postgres:\n  url: \"{url}\"\n  slot: {text_slot}\n  publication: {text_slot}\n\
         kafka:\n  brokers: \"{brokers}\"\n{}",
        sections("of_text", &topics[1])
    ));
    binary.walpost.init();
    text.init();
    binary.database.execute(ROWS);

    binary.once();
    let finished = text.finish(&["run", "--once"], SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let [of_bytea, of_text] = topics.map(|topic| by_partition(binary.read(&topic)));
    assert_eq!(of_bytea.len(), 40);
    assert_stamps(&of_bytea);
    assert_eq!(of_bytea, of_text);

    let first = of_bytea
        .iter()
        .find(|record| record.header("number") == Some("1"))
        .expect("the first row arrived");
    let mut expected = pairs(FIRST);
    let xid = first
        .header("xid")
        .expect("it has the transaction's number");
    expected.insert(1, ("xid".to_owned(), xid.to_owned()));
    assert_eq!(headers(first), expected);
    assert_eq!(
        first.key_text(),
        Some("00000000-0000-0000-0000-000000000001/2024-02-29 03:34:56.7+00")
    );
}

/// A column that is NULL has no header: of a row without anything only the names remain that have
/// to be there.
#[test]
fn domains_are_what_they_are_made_of() {
    let stage = Stage::new("domains");
    unusual_settings(&stage);
    stage.database.execute(
        "create domain inner_bytes as bytea check (length(value) < 100);
         create domain bytes as inner_bytes;
         create domain event_id as uuid;
         create domain name as text;
         create table outbox (id event_id primary key, destination name, aggregate_id name,
             event_type name, payload bytes not null);",
    );
    stage.walpost.init();
    let topic = stage.kafka.topic("domains", 3);
    stage.database.execute(&format!(
        "insert into outbox values
             ('00000000-0000-0000-0000-000000000001', '{topic}', 'a', null, '\\x00ff5c'),
             ('00000000-0000-0000-0000-000000000002', '{topic}', 'a', 't', '')"
    ));
    stage.once();
    let records = stage.read(&topic);
    let bytes: Vec<_> = records.iter().map(|record| record.value.clone()).collect();
    assert_eq!(bytes, [Some(vec![0, 0xff, 0x5c]), Some(Vec::new())]);
    let ids = [
        "00000000-0000-0000-0000-000000000001",
        "00000000-0000-0000-0000-000000000002",
    ];
    assert_eq!(records[0].key_text(), Some(ids[0]));
    assert_eq!(headers(&records[0]), pairs(&[("id", ids[0])]));
    assert_eq!(
        headers(&records[1]),
        pairs(&[("id", ids[1]), ("type", "t")])
    );
}

#[test]
fn a_text_stream_prints_alike_whatever_the_database_is_set_to() {
    let stage = Stage::new("settings");
    unusual_settings(&stage);
    stage.database.create_outbox();
    stage.configure("route:\n  headers:\n    id: \"${id}\"\n    at: \"${created_at}\"\n");
    stage.walpost.init();
    let topic = stage.kafka.topic("settings", 1);
    stage.database.execute(&format!(
        "insert into outbox (destination, payload, created_at)
         values ('{topic}', '[1.10]', '2024-02-29 12:34:56.789+09')"
    ));
    stage.once();
    let records = stage.read(&topic);
    assert_eq!(values(&records), ["[1.10]"]);
    assert_eq!(records[0].header("at"), Some("2024-02-29 03:34:56.789+00"));
}

/// What a database can be set to that changes how values print.
fn unusual_settings(stage: &Stage<'_>) {
    for setting in [
        "TimeZone = 'Asia/Tokyo'",
        "DateStyle = 'German'",
        "bytea_output = 'escape'",
        "extra_float_digits = -15",
        "search_path = 'nowhere'",
        "client_encoding = 'latin1'",
        "default_transaction_read_only = off",
    ] {
        let name = stage.database.name();
        stage
            .database
            .execute(&format!("alter database \"{name}\" set {setting}"));
    }
    stage.database.execute(&format!(
        "alter database \"{}\" reset search_path",
        stage.database.name()
    ));
}

/// Comparable apart from when and where it was read.
fn by_partition(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| (record.partition, record.offset));
    for record in &mut records {
        record.timestamp = None;
        record.topic.clear();
    }
    records
}

const TYPES: &str = "
    create domain label as text;
    create domain label_chain as label";

const COLUMNS: [&str; 14] = [
    "flag", "small", "number", "large", "name", "plain", "label", "uid", "doc", "docb", "moment",
    "raw", "chain", "headers",
];

/// Every row stands in both tables, written by one transaction: `row` says what is in them.
const ROWS: &str = r#"
    do $$
    declare bytes text[] := array['', '{}', 'a', '\x41', 'ä😀', E'two\nlines', repeat('x', 70000)];
    begin
        for n in 1..40 loop
            insert into of_bytea
            select ('00000000-0000-0000-0000-0000000000' || lpad(to_hex(n), 2, '0'))::uuid,
                case when n % 6 = 5 then null else 'aggregate ' || n % 8 end,
                convert_to(bytes[1 + n % 7], 'UTF8'),
                case when n % 3 = 0 then '{"own": "ü", "n": 1.10}'::json end,
                case when n % 5 <> 4 then n % 2 = 1 end,
                (array[1, -32768, 32767, null])[1 + (n - 1) % 4],
                case when n % 7 = 6 then -2147483648 else n end,
                case n % 3 when 1 then 9223372036854775807 when 2 then -9223372036854775808 end,
                'ä"\' || n, E'\t ' || n, 'label ' || n,
                '00000000-0000-0000-0000-000000000001'::uuid,
                '{ "a" : 1e400, "a": "\u0000" }'::json, '{"b": 1, "a": 1e40}'::jsonb,
                (array['2024-02-29 12:34:56.7+09', 'infinity', '-infinity', '0044-03-15 BC',
                       '2000-01-01 00:00:00+00', '9999-12-31 23:59:59.999999+00', null]
                )[1 + (n - 1) % 7]::timestamptz,
                decode('00ff5c', 'hex'), 'chain';
        end loop;
        insert into of_text
        select id, aggregate_id, convert_from(payload, 'UTF8'), headers, flag, small, number,
            large, name, plain, label, uid, doc, docb, moment, raw, chain
        from of_bytea order by id;
    end $$"#;

const FIRST: &[(&str, &str)] = &[
    ("id", "00000000-0000-0000-0000-000000000001"),
    ("flag", "t"),
    ("small", "1"),
    ("number", "1"),
    ("large", "9223372036854775807"),
    ("name", "ä\"\\1"),
    ("plain", "\t 1"),
    ("label", "label 1"),
    ("uid", "00000000-0000-0000-0000-000000000001"),
    ("doc", r#"{ "a" : 1e400, "a": "\u0000" }"#),
    (
        "docb",
        r#"{"a": 10000000000000000000000000000000000000000, "b": 1}"#,
    ),
    ("moment", "2024-02-29 03:34:56.7+00"),
    ("raw", "\\x00ff5c"),
    ("chain", "chain"),
];
