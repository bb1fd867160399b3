//! How much is taken in and may leave, and how it ends.

use super::bench::*;
use super::*;

#[test]
fn a_drain_forgets_a_row_that_would_have_halted_later() {
    let mut relay = Bench::opened(events(8), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    let null_topic = insert(OUTBOX, &[Some("id"), None, None, Some("x"), None]);
    relay.at(4, null_topic, &[]);
    relay.at(5, Drain, &[]);
    relay.at(6, Acked(0), &[]);
    assert!(relay.relay.is_drained());
    assert!(relay.relay.halted().is_none());
}

#[test]
fn the_window_opens_as_reports_come_and_is_read_behind_up_to_its_limit() {
    let mut relay = Bench::opened(events(3), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    assert!(relay.relay.wants_wal());
    assert!(!relay.relay.waits_for_topic());
    relay.at(4, row("a", "three"), &[]);
    assert!(!relay.relay.wants_wal());
    assert_eq!(relay.relay.snapshot().queued, 2);
    let outputs = ["record 1 to a/0: two", "record 2 to a/0: three"];
    relay.at(5, Acked(0), &outputs);
    assert!(relay.relay.wants_wal());
    assert_eq!(relay.relay.snapshot().window, 2);
}

#[test]
fn an_event_larger_than_the_window_leaves_alone() {
    let limits = WindowLimits {
        events: 8,
        bytes: 300,
    };
    let mut relay = Bench::opened(limits, 4);
    let large = "x".repeat(1_000);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", &large), &[]);
    assert!(!relay.relay.wants_wal());
    relay.at(4, Acked(3), &[&format!("record 4 to a/0: {large}")]);
    assert!(!relay.relay.wants_wal());
    assert!(relay.relay.snapshot().undelivered_bytes > 1_000);
    relay.at(5, Acked(4), &[]);
    relay.at(6, row("a", "three"), &["record 5 to a/0: three"]);
}

#[test]
fn a_drain_drops_the_record_that_waits_and_lets_the_others_arrive() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, commit(200, 208), &[]);
    relay.at(4, begin(300), &[]);
    relay.at(5, row("b", "two"), &["ask for b"]);
    relay.at(6, Drain, &[]);
    assert!(!relay.relay.wants_wal());
    assert!(!relay.relay.is_drained());
    relay.at(7, Counted("b", 1), &[]);
    relay.at(8, Acked(3), &[]);
    assert!(relay.relay.is_drained());
    assert_eq!(relay.confirmed(), 208);
    assert_eq!(status_text(&relay.last_status()), "write 208 flush 208");
}

#[test]
fn a_drain_drops_a_record_that_the_window_has_no_room_for() {
    let limits = WindowLimits {
        events: 8,
        bytes: 300,
    };
    let mut relay = Bench::opened(limits, 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", &"x".repeat(1_000)), &[]);
    assert!(!relay.relay.waits_for_topic());
    relay.at(4, Drain, &[]);
    relay.at(5, Acked(3), &[]);
    assert!(relay.relay.is_drained());
}

#[test]
fn a_transaction_is_split_from_its_first_record_that_left_to_its_end() {
    let mut relay = Bench::opened(events(8), 2);
    assert!(!relay.relay.splits_transaction());
    relay.at(1, begin(200), &[]);
    assert!(!relay.relay.splits_transaction());
    relay.at(2, row("a", "one"), &["record 1 to a/0: one"]);
    assert!(relay.relay.splits_transaction());
    relay.at(3, row("a", "two"), &["record 2 to a/0: two"]);
    relay.at(4, row("a", "three"), &[]);
    relay.at(5, commit(200, 208), &[]);
    assert!(relay.relay.splits_transaction());
    relay.at(6, begin(300), &[]);
    relay.at(7, row("a", "four"), &[]);
    assert!(relay.relay.splits_transaction());
    relay.at(8, Acked(1), &["record 3 to a/0: three"]);
    assert!(!relay.relay.splits_transaction());
    relay.at(9, Drain, &[]);
    relay.at(10, Acked(2), &[]);
    relay.at(11, Acked(3), &[]);
    assert!(relay.relay.is_drained());
    assert_eq!(relay.confirmed(), 208);
}

#[test]
fn a_drain_with_nothing_in_flight_is_done_at_once() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, Drain, &[]);
    assert!(relay.relay.is_drained());
    assert!(!relay.relay.wants_wal());
}

#[test]
fn rows_are_taken_in_while_nobody_asks_for_records() {
    let Bench { mut relay, .. } = Bench::opened(events(3), 1);
    for input in [begin(200), row("a", "one"), row("a", "two")] {
        let Input::Wal(message) = input else {
            panic!("these are messages of the stream");
        };
        relay.handle_wal(message).unwrap();
        assert!(relay.wants_wal());
    }
    assert_eq!(relay.snapshot().queued, 2);
}

#[test]
fn a_window_that_is_full_to_the_byte_is_read_behind_by_one_row() {
    let limits = WindowLimits {
        events: 8,
        bytes: ROW_BYTES,
    };
    let mut relay = Bench::opened(limits, 2);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 1 to a/0: one"]);
    assert_eq!(relay.relay.snapshot().undelivered_bytes, ROW_BYTES);
    assert!(relay.relay.wants_wal());
    relay.at(3, row("a", "two"), &[]);
    assert!(!relay.relay.wants_wal());
    relay.at(4, Acked(1), &["record 2 to a/0: two"]);
}

#[test]
fn what_a_session_sends_again_is_counted_and_what_it_sent_last_is_known() {
    let mut relay = Bench::opened(events(4), 1);
    let at = |ordinal| Position {
        commit_lsn: Lsn::new(200),
        ordinal,
    };
    relay.relay.count_from(Some(at(0)));
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, Acked(0), &[]);
    relay.at(4, row("a", "two"), &["record 1 to a/0: two"]);
    let mut recent = relay.relay.take_recent();
    assert_eq!(recent.again(), 1);
    let sent: Vec<_> = recent.take_from(Lsn::ZERO);
    let sent: Vec<_> = sent.into_iter().map(|(position, _)| position).collect();
    assert_eq!(sent, [at(0), at(1)]);
}

#[test]
fn a_record_is_handed_over_with_its_key_and_its_headers() {
    let mut relay = Bench::opened(events(4), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    let record = relay.last.take().unwrap();
    assert_eq!(record.key().map(|key| &key[..]), Some(&b"id"[..]));
    let names: Vec<_> = record
        .headers()
        .iter()
        .map(|header| header.name())
        .collect();
    assert_eq!(names, ["id", "walpost-position", "walpost-commit-time"]);
}
