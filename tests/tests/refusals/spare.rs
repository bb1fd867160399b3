//! The spare publication: what it is for.

use walpost_tests::{Binaries, Postgres, wait_until};

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

/// Between two looks at the set-up, which would only see that all is well again.
#[test]
fn a_publication_that_was_made_anew_under_an_open_stream_costs_no_event() {
    outlives(&Stage::ready("anew_open"));
}

/// Where a notice in the stream is all that there is to be seen of it.
#[test]
fn a_publication_that_was_made_anew_under_an_open_stream_costs_no_event_on_18() {
    if let Some(binaries) = Binaries::major(18) {
        let server = Postgres::builder().binaries(binaries);
        outlives(&Stage::alone_on(server, "anew_open"));
    }
}

/// What the server tells its clients is a setting, of the role as well.
#[test]
fn a_role_that_hears_errors_only_hears_that_rows_are_skipped() {
    if let Some(binaries) = Binaries::major(18) {
        let server = Postgres::builder().binaries(binaries);
        let stage = Stage::alone_on(server, "anew_quiet");
        stage
            .database
            .execute("alter role postgres set client_min_messages = error");
        outlives(&stage);
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

/// The events are committed while nothing runs, and delivered later.
fn survives(stage: &Stage) {
    let topic = stage.kafka.topic("made_anew", 1);
    stage.write(&topic, "1");
    make_anew(stage, &topic);
    let finished = stage.once();
    assert!(
        finished.stderr.contains("the spare takes its place"),
        "{}",
        finished.stderr
    );
    assert_eq!(values(stage, &topic), [b"1", b"2", b"3"]);
    let again = stage.once();
    assert!(!again.stderr.contains("spare"), "{}", again.stderr);
}

/// The events are committed under a stream that has delivered one.
fn outlives(stage: &Stage) {
    let topic = stage.kafka.topic("made_anew", 1);
    let running = stage.walpost.start(&["run"]);
    running.wait_for_log("streaming", SOON);
    stage.write(&topic, "1");
    let wait_for = |value: &[u8]| {
        wait_until(SOON, "the event is there", || {
            (values(stage, &topic).last()? == value).then_some(())
        });
    };
    wait_for(b"1");
    make_anew(stage, &topic);
    // It comes in any case, and what is missing then does not come any more.
    wait_for(b"3");
    assert_eq!(values(stage, &topic), [b"1", b"2", b"3"]);
    let finished = ended_by_stop(running);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("the spare takes its place"),
        "{}",
        finished.stderr
    );
}

/// One event is committed while there is no publication, and one after it was made again.
fn make_anew(stage: &Stage, topic: &str) {
    let slot = &stage.slot;
    stage.database.execute(&format!("drop publication {slot}"));
    stage.write(topic, "2");
    stage.database.execute(&format!(
        "create publication {slot} for table outbox with (publish = 'insert', \
         publish_via_partition_root)"
    ));
    stage.write(topic, "3");
}

/// What has arrived.
fn values(stage: &Stage, topic: &str) -> Vec<Vec<u8>> {
    let records = stage.read(topic).into_iter();
    records.filter_map(|record| record.value).collect()
}
