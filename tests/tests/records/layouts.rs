//! Layouts, columns of other names, templates.

use uuid::Uuid;

use walpost_witness::partition;

use crate::{
    expected::{Arrived, Expected, assert_stamps, is_rfc3339_with_microseconds},
    stage::{Stage, headers, pairs, values},
};

#[test]
fn the_layout_of_debezium_is_routed_as_debezium_does() {
    let stage = Stage::new("debezium");
    stage.configure("outbox:\n  layout: debezium\n");
    stage.walpost.init();
    let aggregate_type = walpost_tests::unique("order");
    let topic = format!("outbox.event.{aggregate_type}");
    stage.kafka.create_topic(&topic, 5, &[]);
    stage.database.execute(&format!(
        "insert into outbox (aggregatetype, aggregateid, type, payload)
         select '{aggregate_type}', 'order ' || n % 9, 'OrderCreated', jsonb_build_object('n', n)
         from generate_series(1, 50) n"
    ));
    stage.once();
    let records = stage.read(&topic);
    assert_stamps(&records);
    let mut arrived = Arrived::new(&records, 5);
    let rows = stage.database.client().query(
        "select id, aggregateid, convert_to(payload::text, 'UTF8') from outbox
         order by (payload->>'n')::int",
        &[],
    );
    let rows = rows.unwrap();
    arrived.take_all(rows.iter().map(|row| {
        let (id, key): (Uuid, String) = (row.get(0), row.get(1));
        Expected {
            id,
            key: Some(key.clone().into_bytes()),
            placed_by: key.into_bytes(),
            value: Some(row.get(2)),
            headers: pairs(&[("id", &id.to_string())]),
        }
    }));
    arrived.assert_empty();
}

#[test]
fn columns_have_any_name_and_templates_take_any_column() {
    let stage = Stage::new("custom");
    stage.database.execute(
        "create table outbox (body text, tenant text, entity bigint, kind varchar, event_id text
             primary key, meta json, extra int[])",
    );
    stage.configure(
        "outbox:
  columns: { id: event_id, payload: body, aggregate_id: entity, headers: meta }
route:
  topic: \"custom.${kind}-${tenant}\"
  key: \"${tenant}:${aggregate_id}\"
  headers:
    who: \"${tenant}/${entity}\"
    dollar: \"$${tenant} costs $5\"
    xid: \"${walpost.xid}\"
    at: \"${walpost.position} ${walpost.commit_time}\"
    list: \"${extra}\"
    kind: \"${kind}\"
",
    );
    stage.walpost.init();
    let tenant = walpost_tests::unique("t");
    let topic = format!("custom.big-{tenant}");
    stage.kafka.create_topic(&topic, 4, &[]);
    let mut client = stage.database.client();
    let mut transaction = client.transaction().unwrap();
    let insert = "insert into outbox (event_id, body, tenant, entity, kind, meta, extra)
                  values ($1, $2, $3, 42, 'big', '{\"own\": \"x\"}', $4)";
    let none: Option<Vec<i32>> = None;
    transaction
        .execute(
            insert,
            &[&"event one", &"first", &tenant, &Some(vec![1, 2])],
        )
        .unwrap();
    transaction
        .execute(insert, &[&"event two", &"second", &tenant, &none])
        .unwrap();
    let xid: i64 = transaction
        .query_one("select txid_current() % (1::bigint << 32)", &[])
        .unwrap()
        .get(0);
    transaction.commit().unwrap();
    stage.once();

    let records = stage.read(&topic);
    assert_eq!(values(&records), ["first", "second"]);
    assert_stamps(&records);
    for record in &records {
        let key = format!("{tenant}:42");
        assert_eq!(record.key_text(), Some(key.as_str()));
        assert_eq!(record.partition, partition(key.as_bytes(), 4));
        let stamps = ["walpost-position", "walpost-commit-time"];
        let stamps = stamps.map(|name| record.header(name).expect("every record has it"));
        assert!(is_rfc3339_with_microseconds(stamps[1]));
        let mut expected = vec![
            ("who".to_owned(), format!("{tenant}/42")),
            ("dollar".to_owned(), "${tenant} costs $5".to_owned()),
            ("xid".to_owned(), xid.to_string()),
            ("at".to_owned(), stamps.join(" ")),
            ("list".to_owned(), "{1,2}".to_owned()),
            ("kind".to_owned(), "big".to_owned()),
            ("own".to_owned(), "x".to_owned()),
        ];
        if record.value.as_deref() == Some(b"second") {
            // A template of a column that is NULL gives no header.
            expected.retain(|(name, _)| name != "list");
        }
        assert_eq!(headers(record), expected);
    }
}

#[test]
fn an_id_needs_not_be_a_uuid() {
    let stage = Stage::new("bigint_id");
    stage.database.execute(
        "create table outbox (id bigint generated always as identity primary key,
             destination text not null, payload jsonb not null)",
    );
    stage.walpost.init();
    let topic = stage.kafka.topic("bigint_id", 3);
    stage.database.execute(&format!(
        "insert into outbox (destination, payload) select '{topic}', '{{}}'
         from generate_series(1, 20)"
    ));
    stage.once();
    let records = stage.read(&topic);
    let mut keys: Vec<i64> = Vec::new();
    for record in &records {
        let key = record.key_text().expect("the id is the key");
        assert_eq!(headers(record), pairs(&[("id", key)]));
        assert_eq!(record.partition, partition(key.as_bytes(), 3));
        keys.push(key.parse().unwrap());
    }
    keys.sort_unstable();
    assert_eq!(keys, Vec::from_iter(1..=20));
}
