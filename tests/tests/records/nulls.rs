//! NULL in each column of a row, in a text stream and in a binary one.

use walpost_witness::partition;

use crate::{
    SOON,
    stage::{Stage, headers, pairs},
};

const COLUMNS: &str = "id, destination, aggregate_id, event_type, headers, created_at, payload";

/// A table whose columns may all be NULL, with a payload of that type.
fn nullable(payload: &str) -> Stage<'static> {
    let stage = Stage::new("nulls");
    stage.database.execute(&format!(
        "create table outbox (id text, destination text, aggregate_id text, event_type text,
             headers jsonb, created_at timestamptz, payload {payload})"
    ));
    stage.configure(
        "route:
  headers:
    id: \"${id}\"
    type: \"${event_type}\"
    at: \"${created_at}\"
    both: \"${event_type}/${aggregate_id}\"
",
    );
    stage.walpost.init();
    stage
}

#[test]
fn a_null_in_a_column_that_may_lack_it_leaves_out_what_it_would_have_been() {
    for payload in ["jsonb", "bytea"] {
        let stage = nullable(payload);
        let topic = stage.kafka.topic("nulls", 5);
        let rows = [
            ("1", "'a', 't', '{\"h\": 1}', '2000-01-01 00:00+00'"),
            ("2", "null, 't', '{\"h\": 1}', '2000-01-01 00:00+00'"),
            ("3", "'a', null, '{\"h\": 1}', '2000-01-01 00:00+00'"),
            ("4", "'a', 't', null, '2000-01-01 00:00+00'"),
            ("5", "'a', 't', 'null', '2000-01-01 00:00+00'"),
            ("6", "'a', 't', '{\"h\": null}', null"),
            ("7", "null, null, null, null"),
            ("8", "'', '', '{\"h\": \"\"}', '2000-01-01 00:00+00'"),
        ];
        let values = rows.map(|(id, values)| format!("('{id}', '{topic}', {values}, '1')"));
        stage.database.execute(&format!(
            "insert into outbox ({COLUMNS}) values {}",
            values.join(", ")
        ));
        stage.once();
        let mut records = stage.read(&topic);
        records.sort_by_key(|record| record.key.clone());
        let at = ("at", "2000-01-01 00:00:00+00");
        let expected: [(&str, &[(&str, &str)]); 8] = [
            (
                "a",
                &[("id", "1"), ("type", "t"), at, ("both", "t/a"), ("h", "1")],
            ),
            ("2", &[("id", "2"), ("type", "t"), at, ("h", "1")]),
            ("a", &[("id", "3"), at, ("h", "1")]),
            ("a", &[("id", "4"), ("type", "t"), at, ("both", "t/a")]),
            ("a", &[("id", "5"), ("type", "t"), at, ("both", "t/a")]),
            (
                "a",
                &[("id", "6"), ("type", "t"), ("both", "t/a"), ("h", "null")],
            ),
            ("7", &[("id", "7")]),
            (
                "",
                &[("id", "8"), ("type", ""), at, ("both", "/"), ("h", "")],
            ),
        ];
        assert_eq!(records.len(), expected.len());
        for (record, (placed, own)) in records.iter().zip(expected) {
            assert_eq!(headers(record), pairs(own), "{payload}");
            assert_eq!(record.partition, partition(placed.as_bytes(), 5), "{own:?}");
            assert_eq!(record.value.as_deref(), Some(&b"1"[..]));
        }
    }
}

#[test]
fn a_null_where_the_record_needs_a_value_stops_the_line() {
    for payload in ["jsonb", "bytea"] {
        for (id, destination, value, words) in [
            ("null", "'somewhere'", "'1'", "its id is NULL"),
            ("'a'", "null", "'1'", "NULL"),
            ("'a'", "'somewhere'", "null", "payload is NULL"),
        ] {
            let stage = nullable(payload);
            stage.database.execute(&format!(
                "insert into outbox (id, destination, payload)
                 values ({id}, {destination}, {value})"
            ));
            let finished = stage.walpost.finish(&["run", "--once"], SOON);
            assert_eq!(finished.code, 65, "{}", finished.stderr);
            assert!(
                finished.stderr.contains(words),
                "{words}: {}",
                finished.stderr
            );
        }
    }
}

/// Kafka's null key and its empty key are two things.
#[test]
fn an_empty_key_is_a_key_and_an_empty_value_no_tombstone() {
    for payload in ["text", "bytea"] {
        let stage = nullable(payload);
        stage.configure(
            "outbox: { null_payload: tombstone }\nroute: { key: \"${aggregate_id}\" }\n",
        );
        let topic = stage.kafka.topic("empty", 3);
        stage.database.execute(&format!(
            "insert into outbox (id, destination, aggregate_id, payload) values
                 ('1', '{topic}', '', ''), ('2', '{topic}', null, null), ('3', '{topic}', '', \
                 null)"
        ));
        stage.once();
        let mut records = stage.read(&topic);
        records.sort_by_key(|record| record.header("id").map(str::to_owned));
        let have: Vec<_> = records
            .iter()
            .map(|record| {
                (
                    record.key.as_deref(),
                    record.value.as_deref(),
                    record.partition,
                )
            })
            .collect();
        let (empty, by_id) = (partition(b"", 3), partition(b"2", 3));
        let none: Option<&[u8]> = None;
        assert_eq!(
            have,
            [
                (Some(&b""[..]), Some(&b""[..]), empty),
                (none, none, by_id),
                (Some(&b""[..]), none, empty)
            ]
        );
    }
}
