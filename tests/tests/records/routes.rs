//! Keys, partitions and tombstones.

use walpost_tests::Record;
use walpost_witness::partition;

use crate::stage::{Stage, values};

#[test]
fn a_null_payload_is_a_tombstone_where_the_configuration_says_so() {
    let stage = Stage::new("tombstone");
    stage.database.execute(
        "create table outbox (id uuid primary key default gen_random_uuid(),
             destination text not null, aggregate_id text, payload jsonb)",
    );
    stage.configure("outbox:\n  null_payload: tombstone\nroute:\n  key: \"${aggregate_id}\"\n");
    stage.walpost.init();
    let topic = stage
        .kafka
        .topic_with("tombstone", 1, &[("cleanup.policy", "compact")]);
    stage.database.execute(&format!(
        "insert into outbox (destination, aggregate_id, payload)
         values ('{topic}', 'a', '1'), ('{topic}', 'a', null), ('{topic}', 'a', 'null'),
                ('{topic}', 'a', '\"\"')"
    ));
    stage.once();
    let records = stage.read(&topic);
    let values: Vec<_> = records
        .iter()
        .map(|record| record.value.as_deref())
        .collect();
    let expected: [Option<&[u8]>; 4] = [Some(b"1"), None, Some(b"null"), Some(b"\"\"")];
    assert_eq!(values, expected, "JSON's null is four bytes");
    assert!(
        records.iter().all(|record| record.key_text() == Some("a")),
        "a tombstone deletes its key"
    );
}

#[test]
fn one_aggregate_keeps_to_one_partition_under_keys_that_differ() {
    let records = placed("", "'agg ' || n % 5, 'tenant ' || n % 3");
    for record in &records {
        let (aggregate, key) = (payload(record, "aggregate"), record.key_text().unwrap());
        assert_eq!(record.header("id"), Some(key));
        assert_eq!(record.partition, partition(aggregate.as_bytes(), 5));
    }
}

#[test]
fn without_an_aggregate_the_key_places_the_record() {
    let records = placed("", "null, null");
    for record in &records {
        let key = record.key_text().unwrap();
        assert_eq!(record.partition, partition(key.as_bytes(), 5));
    }
    let used: std::collections::BTreeSet<_> =
        records.iter().map(|record| record.partition).collect();
    assert_eq!(used.len(), 5, "60 ids spread over all partitions");
}

#[test]
fn an_empty_aggregate_is_one_aggregate() {
    let records = placed("", "'', null");
    let place = partition(b"", 5);
    assert!(records.iter().all(|record| record.partition == place));
}

#[test]
fn placement_by_the_key_is_chosen_by_a_word() {
    let records = placed("  partition_by: key\n", "'one', null");
    for record in &records {
        let key = record.key_text().unwrap();
        assert_eq!(record.partition, partition(key.as_bytes(), 5));
    }
}

#[test]
fn placement_by_another_column_leaves_the_key_alone() {
    let records = placed(
        "  partition_by: \"${tenant}\"\n",
        "'one', 'tenant ' || n % 3",
    );
    for record in &records {
        let tenant = payload(record, "tenant");
        assert_eq!(record.header("id"), record.key_text());
        assert_eq!(record.partition, partition(tenant.as_bytes(), 5));
    }
}

#[test]
fn a_key_of_the_aggregate_places_by_the_key_and_its_null_by_the_id() {
    let records = placed(
        "  key: \"${aggregate_id}\"\n",
        "case when n % 2 = 0 then 'agg ' || n % 5 end, null",
    );
    for record in &records {
        let id = record.header("id").unwrap();
        match record.key_text() {
            Some(key) => {
                assert_eq!(key, payload(record, "aggregate"));
                assert_eq!(record.partition, partition(key.as_bytes(), 5));
            }
            None => {
                assert_eq!(record.key, None, "Kafka's null, not an empty key");
                assert_eq!(record.partition, partition(id.as_bytes(), 5));
            }
        }
    }
    let keyless = records.iter().filter(|record| record.key.is_none());
    assert_eq!(keyless.count(), 30);
}

#[test]
fn a_fixed_topic_and_a_composed_key_need_no_destination() {
    let stage = Stage::new("fixed");
    let topic = stage.kafka.topic("fixed", 3);
    stage.database.execute(
        "create table outbox (id uuid primary key default gen_random_uuid(), tenant text,
             number int, payload jsonb)",
    );
    stage.configure(&format!(
        "route:\n  topic: {topic}\n  allow: [\"/{topic}/\"]\n  key: \"${{tenant}}|${{number}}\"\n"
    ));
    stage.walpost.init();
    stage.database.execute(
        "insert into outbox (tenant, number, payload) values ('a', 1, '1'), ('a', null, '2')",
    );
    stage.once();
    let mut records = stage.read(&topic);
    records.sort_by_key(|record| record.value.clone());
    assert_eq!(values(&records), ["1", "2"]);
    assert_eq!(records[0].key_text(), Some("a|1"));
    assert_eq!(records[0].partition, partition(b"a|1", 3));
    assert_eq!(
        records[1].key, None,
        "a part that is NULL makes the whole NULL"
    );
    let id = records[1].header("id").unwrap();
    assert_eq!(records[1].partition, partition(id.as_bytes(), 3));
}

/// Sixty records on five partitions, of rows with these values of `aggregate_id` and `tenant`.
fn placed(route: &str, aggregate_and_tenant: &str) -> Vec<Record> {
    let stage = Stage::new("placed");
    stage.database.create_outbox();
    stage.database.execute("alter table outbox add tenant text");
    let topic = stage.kafka.topic("placed", 5);
    stage.configure(&format!("route:\n  topic: {topic}\n{route}"));
    stage.walpost.init();
    stage.database.execute(&format!(
        "insert into outbox (destination, aggregate_id, tenant, payload)
         select 'elsewhere', aggregate, tenant,
                jsonb_build_object('aggregate', aggregate, 'tenant', tenant)
         from (select {aggregate_and_tenant} from generate_series(1, 60) n) row (aggregate, \
         tenant)"
    ));
    stage.once();
    let records = stage.read(&topic);
    assert_eq!(records.len(), 60);
    records
}

/// What the row said of itself.
fn payload(record: &Record, name: &str) -> String {
    let json = record.json().expect("the payload is JSON");
    json[name].as_str().expect("the payload says so").to_owned()
}
