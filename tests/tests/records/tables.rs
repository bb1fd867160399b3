//! Outbox tables of other names and kinds, and those that change while the relay reads them.

use std::collections::BTreeMap;

use walpost_tests::{Consumer, Postgres};

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

/// The server decodes with the catalogue of each row's time, as long as nobody on the stream's own
/// connection has looked at the table as it is now.
#[test]
fn rows_that_waited_are_read_as_the_table_was_when_they_were_written() {
    waiting_rows(Postgres::shared());
    if let Some(postgres) = Postgres::major(18) {
        waiting_rows(&postgres);
    }
}

fn waiting_rows(postgres: &Postgres) {
    for payload in ["text", "bytea"] {
        let stage = Stage::on(postgres, "waiting");
        stage.database.execute(&format!(
            "create table outbox (first text, id bigint primary key, destination text,
                 event_type text, payload {payload})"
        ));
        stage.walpost.init();
        let topic = stage.kafka.topic("waiting", 1);
        let insert = |id: u32, kind: &str| {
            format!(
                "insert into outbox (id, destination, event_type, payload)
                 values ({id}, '{topic}', '{kind}', '{id}')"
            )
        };
        for statement in [
            insert(1, "word"),
            "alter table outbox alter event_type type int using 7".to_owned(),
            insert(2, "2"),
            "alter table outbox drop event_type; alter table outbox add event_type uuid".to_owned(),
            insert(3, "00000000-0000-0000-0000-000000000003"),
            "alter table outbox drop first; alter table outbox add first int default 5".to_owned(),
            insert(4, "00000000-0000-0000-0000-000000000004"),
            "create type kind as enum ('größer')".to_owned(),
            "alter table outbox alter event_type type kind using 'größer'".to_owned(),
            insert(5, "größer"),
        ] {
            stage.database.execute(&statement);
        }
        stage.once();
        let records = stage.read(&topic);
        assert_eq!(values(&records), ["1", "2", "3", "4", "5"]);
        let kinds: Vec<_> = records.iter().map(|record| record.header("type")).collect();
        let expected = [
            "word",
            "2",
            "00000000-0000-0000-0000-000000000003",
            "00000000-0000-0000-0000-000000000004",
            "größer",
        ];
        assert_eq!(kinds, expected.map(Some), "{payload}");
        assert_stamps(&records);
    }
}

/// Partitions come under the name of their root whatever their schema, their columns' order, and
/// what was dropped from them; without `publish_via_partition_root` there would be no root.
#[test]
fn partitions_of_other_schemas_and_shapes_are_one_outbox() {
    let stage = Stage::new("leaves");
    stage.configure("outbox:\n  table: '\"Events\".\"Out.Box\"'\n");
    stage.database.execute(
        r#"create schema "Events"; create schema archive; create schema "2024";
           create table "Events"."Out.Box" (gone int, id uuid default gen_random_uuid(),
               day int not null, destination text not null, aggregate_id text, payload bytea)
               partition by range (day);
           alter table "Events"."Out.Box" drop gone;
           create table archive.old (payload bytea, extra int, destination text not null,
               day int not null, aggregate_id text, id uuid default gen_random_uuid());
           alter table archive.old drop extra;
           alter table "Events"."Out.Box" attach partition archive.old for values from (0) to (10);
           create table "2024"."Leaf" partition of "Events"."Out.Box" for values from (10) to (20)
               partition by hash (day);
           create table "2024".outbox partition of "2024"."Leaf"
               for values with (modulus 1, remainder 0);"#,
    );
    stage.walpost.init();
    let topic = stage.kafka.topic("leaves", 3);
    let insert = |table: &str, day: u32, value: &str| {
        stage.database.execute(&format!(
            "insert into {table} (day, destination, aggregate_id, payload)
             values ({day}, '{topic}', 'one', '{value}')"
        ));
    };
    insert(r#""Events"."Out.Box""#, 1, "1");
    insert(r#""Events"."Out.Box""#, 11, "2");
    insert("archive.old", 2, "3");
    insert(r#""2024".outbox"#, 12, "4");
    stage.database.execute(
        r#"create table public.late (like archive.old including all);
           alter table "Events"."Out.Box" attach partition public.late for values from (20) to (30);
           alter table "Events"."Out.Box" add note text default 'x';"#,
    );
    insert(r#""Events"."Out.Box""#, 21, "5");
    stage.once();
    let records = stage.read(&topic);
    assert_eq!(values(&records), ["1", "2", "3", "4", "5"]);
    assert!(
        records
            .iter()
            .all(|record| record.partition == records[0].partition)
    );
    assert_stamps(&records);

    let slot = &stage.slot;
    stage.database.execute(&format!(
        "alter publication {slot} set (publish_via_partition_root = false)"
    ));
    let refused = stage.walpost.finish(&["run", "--once"], SOON);
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    let fix = "set (publish_via_partition_root = true);";
    assert!(refused.stderr.contains(fix), "{}", refused.stderr);
}

/// What a table without partitions is published as is its own name either way.
#[test]
fn a_plain_table_needs_no_root() {
    let stage = Stage::new("rootless");
    stage.database.create_outbox();
    stage.walpost.init();
    let slot = &stage.slot;
    stage.database.execute(&format!(
        "alter publication {slot} set (publish_via_partition_root = false)"
    ));
    let topic = stage.kafka.topic("rootless", 1);
    stage.database.execute(&format!(
        "insert into outbox (destination, payload) values ('{topic}', '1')"
    ));
    stage.once();
    assert_eq!(values(&stage.read(&topic)), ["1"]);
}
