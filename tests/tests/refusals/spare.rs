//! The spare publication: what it is for.

use walpost_tests::{Kafka, Postgres, Walpost, read_all};

use crate::{
    SOON,
    stage::{Stage, ended_by_stop},
};

#[test]
fn a_publication_that_was_made_anew_under_a_slot_that_lags_costs_no_event() {
    let stage = Stage::ready("made_anew");
    stage.kafka.create_topic("made_anew", 1, &[]);
    survives(&stage, |statement| stage.database.execute(statement));
}

/// Where the server would pass over the rows, with a notice.
#[test]
fn a_publication_that_was_made_anew_costs_no_event_on_18() {
    let Some(server) = Postgres::major(18) else {
        return;
    };
    let database = server.database("made_anew");
    let slot = database.slot_name();
    let walpost = Walpost::minimal(&database.url(), &Kafka::shared().brokers(), &slot);
    assert_eq!(walpost.init().code, 0);
    let topic = Kafka::shared().topic("made_anew_18", 1);
    let write = |number: u32| {
        database.execute(&format!(
            "insert into outbox (destination, payload) values ('{topic}', '{number}')"
        ));
    };
    write(1);
    database.execute(&format!("drop publication {slot}"));
    write(2);
    database.execute(&format!(
        "create publication {slot} for table outbox with (publish = 'insert', \
         publish_via_partition_root)"
    ));
    write(3);
    let finished = walpost.finish(&["run", "--once"], SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("the spare takes its place"),
        "{}",
        finished.stderr
    );
    let records = read_all(&Kafka::shared().brokers(), &topic);
    let values: Vec<_> = records
        .into_iter()
        .filter_map(|record| record.value)
        .collect();
    assert_eq!(values, [b"1", b"2", b"3"]);
}

#[test]
fn a_publication_that_is_gone_is_replaced_by_the_spare() {
    let stage = Stage::ready("gone_pub");
    stage.kafka.create_topic("gone_pub", 1, &[]);
    let slot = &stage.slot;
    stage.database.execute(&format!("drop publication {slot}"));
    stage.write("gone_pub", "1");
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log("the spare takes its place", SOON);
    running.wait_for_log("streaming", SOON);
    assert_eq!(ended_by_stop(running).code, 0);
    stage.once();
    assert_eq!(stage.read("gone_pub").len(), 1);
    stage
        .database
        .execute(&format!("drop publication {slot}_spare"));
    stage.refused(78, &["WP-PUB-MISSING", slot]);
}

fn survives(stage: &Stage, execute: impl Fn(&str)) {
    let slot = &stage.slot;
    stage.write("made_anew", "1");
    execute(&format!("drop publication {slot}"));
    stage.write("made_anew", "2");
    execute(&format!(
        "create publication {slot} for table outbox with (publish = 'insert', \
         publish_via_partition_root)"
    ));
    stage.write("made_anew", "3");
    let finished = stage.once();
    assert!(
        finished.stderr.contains("the spare takes its place"),
        "{}",
        finished.stderr
    );
    let records = stage.read("made_anew");
    let values: Vec<_> = records
        .into_iter()
        .filter_map(|record| record.value)
        .collect();
    assert_eq!(values, [b"1", b"2", b"3"]);
    let again = stage.once();
    assert!(!again.stderr.contains("spare"), "{}", again.stderr);
}
