//! Events that can't be delivered, as the row or Kafka says.

use super::bench::*;

#[test]
fn an_undeliverable_row_stops_exactly_there_and_all_before_it_is_confirmed() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, commit(200, 208), &[]);
    relay.at(4, begin(300), &[]);
    relay.at(5, row("a", "two"), &["record 4 to a/0: two"]);
    let null_payload = insert(OUTBOX, &[Some("id"), Some("a"), None, None, None]);
    let halted = "halted at 300/1: its payload is NULL \
                  (outbox.null_payload: tombstone sends a null value instead)";
    relay.at(6, null_payload, &[halted]);
    assert!(!relay.relay.wants_wal());
    relay.at(7, Acked(3), &[]);
    assert!(!relay.relay.is_drained());
    relay.at(8, Acked(4), &[]);
    assert!(relay.relay.is_drained());
    assert_eq!(relay.confirmed(), 208);
    relay.at(100, Nothing, &["write 208 flush 208"]);
}

#[test]
fn an_undeliverable_row_halts_only_when_the_records_before_it_have_left() {
    let mut relay = Bench::opened(events(8), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    relay.at(4, commit(200, 208), &[]);
    relay.at(5, begin(300), &[]);
    let null_topic = insert(OUTBOX, &[Some("id"), None, None, Some("x"), None]);
    relay.at(6, null_topic, &[]);
    assert!(!relay.relay.wants_wal());
    let outputs = [
        "record 1 to a/0: two",
        "halted at 300/0: a column of route.topic is NULL",
    ];
    relay.at(7, Acked(0), &outputs);
    relay.at(8, Acked(1), &[]);
    assert_eq!(relay.confirmed(), 208);
}

#[test]
fn what_is_wrong_with_a_row_is_named_with_its_id() {
    let topic_missing = Some("id");
    for (cells, reason) in [
        ([None, Some("a"), None, Some("x"), None], "its id is NULL"),
        (
            [topic_missing, None, None, Some("x"), None],
            "a column of route.topic is NULL",
        ),
        (
            [Some("id"), Some("no topic"), None, Some("x"), None],
            "the topic name has ' ' at byte 2",
        ),
        (
            [Some("id"), Some("elsewhere"), None, Some("x"), None],
            "route.allow does not list its topic 'elsewhere'",
        ),
        (
            [Some("id"), Some("a"), None, Some("x"), Some("[]")],
            "the headers are not a flat JSON object",
        ),
    ] {
        let mut relay = Bench::opened(events(1), 1);
        relay.at(1, begin(200), &[]);
        let outputs = relay.input(2, insert(OUTBOX, &cells));
        assert!(
            outputs[0].contains(&format!("200/0: {reason}")),
            "{outputs:?}"
        );
        let id = if cells[0].is_some() { "id" } else { "NULL" };
        assert_eq!(relay.relay.halted().unwrap().id.to_string(), id);
        assert!(!relay.relay.wants_wal());
    }
}

#[test]
fn an_event_that_kafka_refuses_halts_and_earlier_reports_still_count() {
    for code in [10, 17, 87] {
        let mut relay = Bench::opened(events(4), 4);
        relay.at(1, begin(200), &[]);
        relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
        relay.at(3, commit(200, 208), &[]);
        relay.at(4, begin(300), &[]);
        relay.at(5, row("a", "two"), &["record 4 to a/0: two"]);
        let halted = format!("halted at 300/0: Kafka refused it: NAME ({code})");
        relay.at(6, Failed(4, code), &[&halted]);
        assert!(!relay.relay.wants_wal());
        relay.at(7, Acked(3), &[]);
        assert_eq!(relay.confirmed(), 208);
        assert_eq!(
            relay.relay.snapshot().oldest.unwrap().commit_lsn.as_u64(),
            300
        );
        assert!(!relay.relay.is_drained());
    }
}

#[test]
fn the_earliest_of_the_refused_events_is_the_one_in_the_way() {
    for order in [[3, 4, 5], [5, 4, 3], [4, 5, 3]] {
        let mut relay = Bench::opened(events(4), 4);
        relay.at(1, begin(200), &[]);
        for _ in 0..3 {
            relay.input(2, row("a", "x"));
        }
        for ticket in order {
            relay.input(3, Failed(ticket, 10));
        }
        let position = relay.relay.halted().unwrap().position;
        assert_eq!(position.ordinal, 0, "{order:?}");
    }
}

#[test]
fn a_refusal_that_is_not_the_events_fault_ends_the_session_and_confirms_nothing() {
    for code in [3, 5, 19, 29, 35, -150, -152, -187, -188, -190, 9_999] {
        let mut relay = Bench::opened(events(4), 4);
        relay.at(1, begin(200), &[]);
        relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
        relay.at(3, commit(200, 208), &[]);
        relay.at(4, keepalive(300), &[]);
        let error = format!(
            "error: Kafka did not take the event at \
             00000000000000C8/00000000: NAME ({code})"
        );
        relay.at(5, Failed(3, code), &[&error]);
        assert_eq!(relay.confirmed(), 115);
        assert!(relay.relay.halted().is_none());
    }
}
