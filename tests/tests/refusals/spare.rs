//! The spare publication: what it is for.

use walpost_tests::{Binaries, Postgres};

use crate::{
    SOON,
    stage::{Stage, ended_by_stop},
};

#[test]
fn a_publication_that_was_made_anew_under_a_slot_that_lags_costs_no_event() {
    survives(&Stage::ready("made_anew"));
}

/// Where the server would pass over the rows, with a notice.
#[test]
fn a_publication_that_was_made_anew_costs_no_event_on_18() {
    if let Some(binaries) = Binaries::major(18) {
        let server = Postgres::builder().binaries(binaries);
        survives(&Stage::alone_on(server, "made_anew"));
    }
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

fn survives(stage: &Stage) {
    let slot = &stage.slot;
    let execute = |statement: &str| stage.database.execute(statement);
    let topic = stage.kafka.topic("made_anew", 1);
    stage.write(&topic, "1");
    execute(&format!("drop publication {slot}"));
    stage.write(&topic, "2");
    execute(&format!(
        "create publication {slot} for table outbox with (publish = 'insert', \
         publish_via_partition_root)"
    ));
    stage.write(&topic, "3");
    let finished = stage.once();
    assert!(
        finished.stderr.contains("the spare takes its place"),
        "{}",
        finished.stderr
    );
    let records = stage.read(&topic);
    let values: Vec<_> = records
        .into_iter()
        .filter_map(|record| record.value)
        .collect();
    assert_eq!(values, [b"1", b"2", b"3"]);
    let again = stage.once();
    assert!(!again.stderr.contains("spare"), "{}", again.stderr);
}
