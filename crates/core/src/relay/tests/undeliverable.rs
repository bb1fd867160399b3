//! Events that can't be delivered, as the row or Kafka says.

use bytes::Bytes;

use super::bench::*;
use super::*;
use crate::error::Reason;
use crate::event::EventId;
use crate::rulings::Found;

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
    relay.at(6, null_payload, &[]);
    assert!(!relay.relay.wants_wal());
    relay.at(7, Acked(3), &[]);
    assert!(!relay.relay.is_drained());
    relay.at(8, Acked(4), &[halted]);
    assert!(relay.relay.is_drained());
    assert_eq!(relay.confirmed(), 208);
    relay.at(100, Nothing, &["write 208 flush 208"]);
}

#[test]
fn an_undeliverable_row_halts_only_when_the_records_before_it_have_arrived() {
    let mut relay = Bench::opened(events(8), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    relay.at(4, commit(200, 208), &[]);
    relay.at(5, begin(300), &[]);
    let null_topic = insert(OUTBOX, &[Some("id"), None, None, Some("x"), None]);
    relay.at(6, null_topic, &[]);
    assert!(!relay.relay.wants_wal());
    relay.at(7, Acked(0), &["record 1 to a/0: two"]);
    let halted = "halted at 300/0: a column of route.topic is NULL";
    relay.at(8, Acked(1), &[halted]);
    assert_eq!(relay.confirmed(), 208);
}

#[test]
fn of_two_events_that_can_not_leave_the_earlier_one_halts_though_it_was_found_later() {
    let mut relay = Bench::opened(events(4), 4);
    relay.input(1, begin(200));
    relay.at(2, row("b", "one"), &["ask for b"]);
    let null_topic = insert(OUTBOX, &[Some("id"), None, None, Some("x"), None]);
    relay.at(3, null_topic, &[]);
    relay.at(4, Missing("b"), &[]);
    relay.input(60_004, Nothing);
    let halted = "halted at 200/0: its topic 'b' does not exist, also not after 60 s";
    relay.at(60_004, Missing("b"), &[halted]);
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

#[test]
fn how_it_was_found_out_tells_a_refused_event_from_a_refused_batch() {
    let found = |codes: &[(u64, i32)]| {
        let mut relay = Bench::opened(events(4), 4);
        relay.at(1, begin(200), &[]);
        for _ in 0..3 {
            relay.input(2, row("a", "x"));
        }
        for (ticket, code) in codes {
            relay.input(3, Failed(*ticket, *code));
        }
        relay.relay.halt().unwrap().found
    };
    assert_eq!(found(&[(4, 87)]), Found::Alone);
    // What the one at fault brings down with it has other codes, and comes again.
    assert_eq!(found(&[(4, 87), (5, -152)]), Found::Alone);
    let among = Found::Among([at(200, 0), at(200, 2)].into());
    assert_eq!(found(&[(5, 10), (3, 10)]), among);

    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.input(
        2,
        insert(OUTBOX, &[Some("id"), Some("a"), None, None, None]),
    );
    assert_eq!(relay.relay.halt().unwrap().found, Found::BeforeSending);
}

#[test]
fn a_suspect_leaves_alone_and_what_is_refused_then_is_at_fault() {
    let mut rulings = Rulings::default();
    rulings.suspect([at(200, 1), at(200, 2)].into());
    let mut relay = Bench::ruled(events(8), 8, Policy::Halt, rulings);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 7 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    relay.at(4, row("a", "three"), &[]);
    relay.at(5, row("a", "four"), &[]);
    relay.at(6, Acked(7), &["record 8 to a/0: two"]);
    relay.at(7, Acked(8), &["record 9 to a/0: three"]);
    let halted = "halted at 200/2: Kafka refused it: NAME (10)";
    relay.at(8, Failed(9, 10), &[halted]);
    assert_eq!(relay.relay.halt().unwrap().found, Found::Alone);
}

#[test]
fn behind_the_suspects_records_leave_together_again() {
    let mut rulings = Rulings::default();
    rulings.suspect([at(200, 0)].into());
    let mut relay = Bench::ruled(events(8), 8, Policy::Halt, rulings);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 7 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    relay.at(4, row("a", "three"), &[]);
    let both = ["record 8 to a/0: two", "record 9 to a/0: three"];
    relay.at(5, Acked(7), &both);
}

#[test]
fn an_event_that_an_operator_passed_over_is_not_sent_and_holds_nothing_back() {
    let mut rulings = Rulings::default();
    rulings.skip(at(200, 1), "id".to_owned());
    rulings.skip(at(300, 0), "another".to_owned());
    let mut relay = Bench::ruled(events(4), 4, Policy::Halt, rulings);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    let null_payload = [Some("id"), Some("a"), None, None, None];
    let skipped = ["skipped id at 200/1"];
    relay.at(3, insert(OUTBOX, &null_payload), &skipped);
    relay.at(4, row("a", "two"), &["record 4 to a/0: two"]);
    relay.at(5, commit(200, 208), &[]);
    relay.input(6, Acked(3));
    relay.input(6, Acked(4));
    assert_eq!(relay.confirmed(), 208);
    relay.at(7, begin(300), &[]);
    relay.at(8, row("a", "three"), &["record 5 to a/0: three"]);
    assert_eq!(relay.relay.snapshot().skipped, 1);
}

#[test]
fn a_passed_over_event_counts_in_its_transaction() {
    let mut rulings = Rulings::default();
    rulings.skip(at(200, 0), "id".to_owned());
    let mut relay = Bench::ruled(events(4), 4, Policy::Halt, rulings);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["skipped id at 200/0"]);
    relay.input(3, row("a", "two"));
    assert_eq!(relay.relay.snapshot().oldest, Some(at(200, 1)));
    relay.at(4, commit(200, 208), &[]);
    relay.at(5, begin(300), &[]);
    relay.at(6, commit(300, 308), &[]);
    relay.input(7, Acked(3));
    assert_eq!(relay.confirmed(), 308);
}

#[test]
fn a_row_that_is_no_event_goes_to_the_dead_letter_topic_and_the_line_goes_on() {
    let mut relay = Bench::ruled(events(4), 4, dead_letters(), Rulings::default());
    relay.at(1, Counted("dead", 2), &[]);
    relay.at(1, begin(200), &[]);
    let cells = [Some("id"), Some("no topic"), Some("agg"), Some("x"), None];
    let outputs = [
        "record 3 to dead/0: x",
        "dead letter of 200/0: illegal-topic",
    ];
    relay.at(2, insert(OUTBOX, &cells), &outputs);
    let headers = headers(relay.last.as_ref().unwrap());
    assert_eq!(
        headers[headers.len() - 3..],
        [
            "walpost-error: illegal-topic",
            "walpost-error-detail: the topic name has ' ' at byte 2: Kafka takes letters, digits, \
             '.', '_' and '-'",
            "walpost-topic: no topic",
        ]
    );
    assert_eq!(headers[0], "id: id");
    assert_eq!(relay.relay.snapshot().dead_letters, 1);
    relay.at(3, row("a", "two"), &["record 4 to a/0: two"]);
    relay.at(4, commit(200, 208), &[]);
    relay.input(5, Acked(4));
    assert!(
        relay.confirmed() < 208,
        "the dead letter is not acknowledged"
    );
    relay.input(6, Acked(3));
    assert_eq!(relay.confirmed(), 208);
}

#[test]
fn a_dead_letter_waits_for_the_events_before_it_that_may_become_dead_letters_themselves() {
    let null_payload = || insert(OUTBOX, &[Some("id"), Some("a"), None, None, None]);
    let mut relay = Bench::ruled(events(8), 8, dead_letters(), Rulings::default());
    relay.at(1, Counted("dead", 1), &[]);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 7 to a/0: one"]);
    let told = "dead letter of 200/1: null-payload";
    relay.at(3, null_payload(), &[told]);
    relay.at(4, row("a", "two"), &[]);
    let outputs = ["record 8 to dead/0: NULL", "record 9 to a/0: two"];
    relay.at(5, Acked(7), &outputs);
    relay.at(6, Acked(9), &[]);
    // They don't wait for each other.
    let outputs = [
        "record 10 to dead/0: NULL",
        "dead letter of 200/3: null-payload",
    ];
    relay.at(7, null_payload(), &outputs);
}

#[test]
fn an_event_that_kafka_refused_alone_goes_to_the_dead_letter_topic_in_the_next_session() {
    for (code, value, error) in [(10, "NULL", "too-large"), (87, "one", "rejected")] {
        let mut rulings = Rulings::default();
        rulings.condemn(Undeliverable {
            id: id("id"),
            position: at(200, 0),
            reason: Reason::Rejected(rejection(code)),
        });
        let mut relay = Bench::ruled(events(4), 4, dead_letters(), rulings);
        relay.at(1, Counted("dead", 1), &[]);
        relay.at(1, begin(200), &[]);
        let outputs = [
            format!("record 3 to dead/0: {value}"),
            format!("dead letter of 200/0: {error}"),
        ];
        relay.at(2, row("a", "one"), &outputs.each_ref().map(String::as_str));
        let headers = headers(relay.last.as_ref().unwrap());
        assert!(
            headers.contains(&"walpost-topic: a".to_owned()),
            "{headers:?}"
        );
        let left_out = headers.contains(&"walpost-payload-bytes: 3".to_owned());
        assert_eq!(left_out, value == "NULL", "{headers:?}");
    }
}

#[test]
fn a_dead_letter_that_can_not_be_delivered_halts() {
    let null_payload = || insert(OUTBOX, &[Some("id"), Some("a"), None, None, None]);
    let mut relay = Bench::ruled(events(4), 4, dead_letters(), Rulings::default());
    relay.at(1, Counted("dead", 1), &[]);
    relay.at(1, begin(200), &[]);
    relay.input(2, null_payload());
    let halted = "halted at 200/0: its payload is NULL (outbox.null_payload: tombstone sends a \
                  null value instead); nor can its dead letter, in 'dead': Kafka refused it: NAME \
                  (87)";
    relay.at(3, Failed(3, 87), &[halted]);

    let mut relay = Bench::ruled(events(4), 4, dead_letters(), Rulings::default());
    relay.at(1, begin(200), &[]);
    relay.at(
        2,
        null_payload(),
        &["dead letter of 200/0: null-payload", "ask for dead"],
    );
    relay.input(3, Missing("dead"));
    let outputs = relay.input(3 + 60 * SECOND, Missing("dead"));
    assert!(outputs[1].contains("'dead' does not exist"), "{outputs:?}");
}

#[test]
fn a_record_that_the_client_does_not_send_is_the_next_one_again_as_a_dead_letter() {
    let mut relay = Bench::ruled(events(4), 4, dead_letters(), Rulings::default());
    relay.at(1, Counted("dead", 1), &[]);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    let outputs = [
        "record 3 to dead/0: NULL",
        "dead letter of 200/0: too-large",
    ];
    relay.at(3, Unsent(10), &outputs);
    relay.at(4, row("a", "two"), &["record 4 to a/0: two"]);
    let halted = "halted at 200/0: Kafka refused it: NAME (10); nor can its dead letter, in \
                  'dead': Kafka refused it: NAME (10)";
    relay.at(5, Failed(3, 10), &[halted]);
}

#[test]
fn a_record_that_is_too_large_for_a_client_that_may_grow_halts_under_every_policy() {
    let mut relay = Bench::ruled(events(4), 4, dead_letters(), Rulings::default());
    relay.at(1, Counted("dead", 1), &[]);
    relay.at(1, begin(200), &[]);
    relay.at(
        SECOND,
        row("a", "one"),
        &["record 3 to a/0: one", "write 115 flush 115"],
    );
    let halted = ["halted at 200/0: Kafka refused it: NAME (10)"];
    relay.at(SECOND, Unsent(10), &halted);
    assert_eq!(relay.relay.halt().unwrap().found, Found::BeforeSending);
    assert!(relay.relay.is_drained());
}

#[test]
fn a_record_that_the_client_does_not_send_leaves_an_earlier_event_in_the_way() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", "two"), &["record 4 to a/0: two"]);
    let halted = "halted at 200/0: Kafka refused it: NAME (87)";
    relay.at(4, Failed(3, 87), &[halted]);
    relay.at(5, Unsent(10), &[]);
    let halted = relay.relay.halted().unwrap();
    assert_eq!(halted.position, at(200, 0));
}

#[test]
fn a_record_that_the_client_does_not_send_is_no_dead_letter_yet_where_an_earlier_event_halts() {
    let mut relay = Bench::ruled(events(4), 4, dead_letters(), Rulings::default());
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", "two"), &["record 4 to a/0: two"]);
    let halted = "halted at 200/0: Kafka refused it: NAME (87)";
    relay.at(4, Failed(3, 87), &[halted]);
    relay.at(5, Unsent(10), &[]);
    assert_eq!(relay.relay.snapshot().dead_letters, 0, "it comes again");
}

#[test]
fn a_suspect_that_is_refused_alone_is_replaced_by_its_dead_letter_where_it_stood() {
    let mut rulings = Rulings::default();
    rulings.suspect([at(200, 0), at(200, 1)].into());
    let mut relay = Bench::ruled(events(8), 8, dead_letters(), rulings);
    relay.at(1, Counted("dead", 1), &[]);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 7 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    relay.at(4, row("a", "three"), &[]);
    let letter = ["record 7 to dead/0: one", "dead letter of 200/0: rejected"];
    relay.at(5, Failed(7, 87), &letter);
    assert!(relay.relay.halted().is_none());
    relay.at(6, Acked(7), &["record 8 to a/0: two"]);
    relay.at(7, Acked(8), &["record 9 to a/0: three"]);
    relay.at(8, commit(200, 208), &[]);
    relay.input(9, Acked(9));
    assert_eq!(relay.confirmed(), 208);
    // The next session knows it.
    let ruling = relay.relay.rulings().verdict(at(200, 0), &id("id"));
    assert_eq!(ruling.map(Reason::code), Some("rejected"));
}

#[test]
fn a_dead_letter_that_is_too_large_is_tried_alone_and_then_without_its_value() {
    let null_topic = || insert(OUTBOX, &[Some("id"), None, Some("agg"), Some("x"), None]);
    let mut relay = Bench::ruled(events(4), 4, dead_letters(), Rulings::default());
    relay.at(1, Counted("dead", 1), &[]);
    relay.at(1, begin(200), &[]);
    relay.input(2, null_topic());
    relay.input(3, Failed(3, 10));
    let Found::Among(refused) = relay.relay.halt().unwrap().found else {
        panic!("its size may be at fault");
    };

    let mut rulings = Rulings::default();
    rulings.suspect(refused);
    let mut relay = Bench::ruled(events(4), 4, dead_letters(), rulings);
    relay.at(1, Counted("dead", 1), &[]);
    relay.at(1, begin(200), &[]);
    let sent = ["record 3 to dead/0: x", "dead letter of 200/0: null-topic"];
    relay.at(2, null_topic(), &sent);
    relay.at(3, Failed(3, 10), &["record 3 to dead/0: NULL"]);
    let headers = headers(relay.last.as_ref().unwrap());
    assert_eq!(headers.last().unwrap(), "walpost-payload-bytes: 1");
    let halted = "halted at 200/0: a column of route.topic is NULL; nor can its dead letter, in \
                  'dead': Kafka refused it: NAME (10)";
    relay.at(4, Failed(3, 10), &[halted]);
    assert_eq!(relay.relay.halt().unwrap().found, Found::Alone);
}

#[test]
fn a_topic_that_is_not_there_is_waited_for_once_and_its_events_become_dead_letters() {
    let mut relay = Bench::ruled(events(4), 4, dead_letters(), Rulings::default());
    relay.at(1, Counted("dead", 1), &[]);
    relay.at(1, begin(200), &[]);
    relay.input(2, row("b", "one"));
    relay.input(3, Missing("b"));
    let judged = 3 + 60 * SECOND;
    let outputs = [
        "record 3 to dead/0: one",
        "dead letter of 200/0: topic-missing",
    ];
    let seen = relay.input(judged, Missing("b"));
    assert_eq!(seen[..2], outputs);
    let outputs = [
        "record 4 to dead/0: two",
        "dead letter of 200/1: topic-missing",
    ];
    relay.at(judged + 1, row("b", "two"), &outputs);
    let later = judged + 5 * SECOND;
    let seen = relay.input(later, row("b", "three"));
    assert!(seen.contains(&"ask for b".to_owned()), "{seen:?}");
    relay.at(later, Counted("b", 1), &["record 5 to b/0: three"]);
}

fn at(lsn: u64, ordinal: u32) -> Position {
    Position {
        commit_lsn: Lsn::new(lsn),
        ordinal,
    }
}

fn id(text: &str) -> EventId {
    EventId::Other(text.as_bytes().into())
}

fn dead_letters() -> Policy {
    Policy::DeadLetter(Topic::new(Bytes::from_static(b"dead")).unwrap())
}

fn headers(record: &Record) -> Vec<String> {
    let text = |header: &crate::event::Header| {
        let value = header
            .value
            .as_ref()
            .map(|value| value.escape_ascii().to_string());
        format!("{}: {}", header.name(), value.unwrap().replace("\\'", "'"))
    };
    record.headers().iter().map(text).collect()
}
