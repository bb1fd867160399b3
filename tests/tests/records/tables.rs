//! Outbox tables of other names and kinds, and those that change while the relay reads them.

use std::collections::BTreeMap;

use walpost_tests::Consumer;

use crate::{
    SOON,
    expected::assert_stamps,
    stage::{Stage, headers, in_order, pairs, stop, values},
};

#[test]
fn names_that_need_quotes_are_quoted_wherever_they_stand() {
    let stage = Stage::new("quoted");
    let slot = &stage.slot;
    let (url, brokers) = (stage.database.url(), stage.kafka.brokers());
    stage.walpost.configure(&format!(
        r#"
postgres:
  url: "{url}"
  slot: {slot}
  publication: 'My "Pub", it''s'
kafka:
  brokers: "{brokers}"
outbox:
  table: '"Out.Box"."t ""able''s"'
  columns:
    id: 'I d'
    payload: 'Pay"load'
    destination: select
    aggregate_id: "agg'id"
    event_type: 'größe'
"#
    ));
    stage.database.execute(r#"create schema "Out.Box""#);
    stage.walpost.init();
    // What is there is found again.
    let again = stage.walpost.init();
    assert!(!again.stdout.contains("created"), "{}", again.stdout);
    let topic = stage.kafka.topic("quoted", 1);
    stage.database.execute(&format!(
        r#"insert into "Out.Box"."t ""able's" ("select", "agg'id", größe, "Pay""load")
           values ('{topic}', 'a', 'made', '1')"#
    ));
    stage.once();
    let records = stage.read(&topic);
    assert_eq!(values(&records), ["1"]);
    let id = records[0].key_text().unwrap();
    assert_eq!(headers(&records[0]), pairs(&[("id", id), ("type", "made")]));
}

#[test]
fn several_tables_share_one_stream_and_one_order() {
    let stage = Stage::new("several");
    stage.configure("outbox:\n  table: [orders, billing.outbox, '\"Third\"']\n");
    stage.database.execute("create schema billing");
    stage.walpost.init();
    // Of one shape as far as it is mapped: the columns may stand elsewhere.
    stage.database.execute(
        "alter table billing.outbox add extra int default 7;
         alter table billing.outbox drop destination;
         alter table billing.outbox add destination text;",
    );
    let topic = stage.kafka.topic("several", 1);
    let insert = |table: &str, number: u32| {
        format!("insert into {table} (destination, payload) values ('{topic}', '{number}');")
    };
    let tables = ["orders", "billing.outbox", "\"Third\""];
    let statements: Vec<_> = (0..30_u32)
        .map(|n| insert(tables[n as usize * 7 % 3], n))
        .collect();
    let transactions: Vec<_> = statements
        .chunks(4)
        .map(|chunk| format!("begin; {} commit;", chunk.concat()))
        .collect();
    stage.database.execute(&transactions.concat());
    stage.once();
    let records = stage.read(&topic);
    let expected: Vec<_> = (0..30).map(|n| n.to_string()).collect();
    assert_eq!(values(&records), expected);
    assert_stamps(&records);
}

#[test]
fn rows_of_partitions_come_under_the_name_of_their_root() {
    let stage = Stage::new("partitioned");
    stage.database.execute(
        "create table outbox (id uuid default gen_random_uuid(), destination text not null,
             aggregate_id text, payload jsonb not null, day int not null, primary key (id, day))
             partition by range (day);
         create table outbox_1 partition of outbox for values from (0) to (10);
         create table outbox_2 partition of outbox for values from (10) to (20)
             partition by list (day);
         create table outbox_2_a partition of outbox_2 default;",
    );
    stage.walpost.init();
    let topic = stage.kafka.topic("partitioned", 1);
    // The later partition has another order of columns, and is attached after the slot was made.
    stage.database.execute(&format!(
        "insert into outbox (destination, payload, day) values ('{topic}', '1', 1),
             ('{topic}', '2', 11);
         create table outbox_3 (day int not null, payload jsonb not null, aggregate_id text,
             id uuid not null default gen_random_uuid(), destination text not null);
         alter table outbox attach partition outbox_3 for values from (20) to (30);
         insert into outbox (destination, payload, day) values ('{topic}', '3', 21);
         insert into outbox_1 (destination, payload, day) values ('{topic}', '4', 2);
         update outbox set day = 25 where day = 1;
         alter table outbox detach partition outbox_1;
         drop table outbox_1;
         insert into outbox (destination, payload, day) values ('{topic}', '5', 12);"
    ));
    stage.once();
    let records = stage.read(&topic);
    // The one UPDATE that is an event: the server moves the row by inserting it elsewhere.
    assert_eq!(values(&records), ["1", "2", "3", "4", "1", "5"]);
    assert_stamps(&records);
}

#[test]
fn a_table_that_changes_in_mid_stream_is_read_as_it_is_at_each_row() {
    let stage = Stage::new("ddl");
    stage.database.create_outbox();
    stage.walpost.init();
    let topic = stage.kafka.topic("ddl", 1);
    let running = stage.stream();
    let mut consumer = Consumer::new(&stage.kafka.brokers(), &topic);
    let changes = [
        "",
        "alter table outbox add note text default 'x'",
        "alter table outbox rename note to remark",
        "alter table outbox drop remark",
        "alter table outbox drop created_at",
        "alter table outbox drop event_type; alter table outbox add event_type text",
        "alter table outbox drop headers; alter table outbox add headers json",
        "alter table outbox alter payload type text",
        "alter table outbox drop aggregate_type; vacuum full outbox",
        "alter table outbox rename to old; alter table old rename to outbox",
    ];
    let insert = |number: usize| {
        format!(
            "insert into outbox (destination, aggregate_id, event_type, payload, headers)
             values ('{topic}', 'a', 't{number}', '{number}', '{{\"h\": {number}}}')"
        )
    };
    for (number, change) in changes.iter().enumerate() {
        for statement in change.split("; ").filter(|statement| !statement.is_empty()) {
            stage.database.execute(statement);
        }
        // Half of them is read while the table is so, half together with the change after it.
        stage.database.execute(&insert(number));
        if number % 2 == 0 {
            consumer.wait_for(number + 1, SOON);
        }
    }
    consumer.wait_for(changes.len(), SOON);
    stop(running);
    // The same once more, from the WAL at a stretch, with the change inside the transaction.
    stage.database.execute(&format!(
        "begin; {}; alter table outbox add late int; {}; alter table outbox drop late; commit",
        insert(10),
        insert(11)
    ));
    stage.once();
    let records = in_order(stage.read(&topic));
    let expected: Vec<_> = (0..12).map(|n| n.to_string()).collect();
    assert_eq!(values(&records), expected);
    assert_stamps(&records);
    for (number, record) in records.iter().enumerate() {
        let own: BTreeMap<_, _> = headers(record).into_iter().collect();
        assert_eq!(own["type"], format!("t{number}"));
        assert_eq!(own["h"], number.to_string());
    }
}
