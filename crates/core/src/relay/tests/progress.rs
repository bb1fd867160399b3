//! What is confirmed, and what the server is told of it.

use super::bench::*;
use super::*;

#[test]
fn a_commit_is_confirmed_with_the_report_of_its_last_record() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", "two"), &["record 4 to a/0: two"]);
    relay.at(4, commit(200, 208), &[]);
    relay.at(5, Acked(4), &[]);
    assert_eq!(relay.confirmed(), 115);
    relay.at(6, Acked(3), &[]);
    assert_eq!(relay.confirmed(), 208);
    relay.at(100, Nothing, &["write 208 flush 208"]);
}

#[test]
fn a_commit_that_arrives_after_its_reports_is_confirmed_at_once() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, Acked(0), &[]);
    assert_eq!(relay.confirmed(), FLOOR);
    relay.at(4, commit(200, 208), &[]);
    assert_eq!(relay.confirmed(), 208);
}

#[test]
fn the_first_status_carries_the_floor_and_goes_out_before_anything_is_received() {
    let mut relay = Bench::new();
    assert_eq!(relay.timeout(), None);
    relay.at(0, Nothing, &["write 100 flush 100"]);
    assert_eq!(relay.timeout(), Some(5 * u128::from(SECOND)));
}

#[test]
fn a_keepalive_waits_for_what_is_in_flight_before_it() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 1 to a/0: one"]);
    relay.at(3, commit(200, 208), &[]);
    relay.at(4, keepalive(300), &[]);
    relay.at(5, begin(300), &[]);
    relay.at(6, row("a", "two"), &["record 2 to a/0: two"]);
    assert_eq!(relay.confirmed(), 111);
    relay.at(7, Acked(1), &[]);
    assert_eq!(relay.confirmed(), 300);
}

#[test]
fn a_keepalive_inside_a_transaction_promises_nothing() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, begin(200), &[]);
    relay.at(2, keepalive(900), &[]);
    assert_eq!(relay.confirmed(), 111);
    relay.at(3, row("a", "one"), &["record 1 to a/0: one"]);
    relay.at(4, keepalive(900), &[]);
    relay.at(5, Acked(1), &[]);
    relay.at(6, commit(200, 208), &[]);
    assert_eq!(relay.confirmed(), 208);
    relay.at(100, Nothing, &["write 900 flush 208"]);
}

#[test]
fn positions_behind_the_floor_change_nothing_and_their_rows_leave() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, keepalive(40), &[]);
    relay.at(2, begin(50), &[]);
    relay.at(3, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(4, Acked(0), &[]);
    relay.at(5, commit(50, 60), &[]);
    assert_eq!(relay.confirmed(), FLOOR);
    relay.at(5 * SECOND, Nothing, &["write 100 flush 100"]);
}

#[test]
fn plain_keepalives_are_not_answered_and_their_progress_is_told_every_100_ms() {
    let mut relay = Bench::opened(events(1), 1);
    for ms in 1..100 {
        relay.at(ms, keepalive(200 + ms), &[]);
    }
    relay.at(100, keepalive(300), &["write 300 flush 300"]);
    relay.at(199, keepalive(301), &[]);
    assert_eq!(relay.timeout(), Some(200));
    relay.at(200, Nothing, &["write 301 flush 301"]);
    relay.at(201, keepalive(301), &[]);
    assert_eq!(relay.timeout(), Some(200 + 5 * u128::from(SECOND)));
    relay.at(5_199, Nothing, &[]);
    relay.at(5_200, Nothing, &["write 301 flush 301"]);
}

#[test]
fn a_question_that_can_be_confirmed_is_answered_with_its_position() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, question(300), &["write 300 flush 300"]);
    relay.at(2, question(300), &["write 300 flush 300"]);
}

#[test]
fn a_question_above_what_is_delivered_is_told_the_truth_and_then_flush_zero() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(100, Nothing, &["write 115 flush 115"]);
    relay.at(101, begin(200), &[]);
    relay.at(102, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(103, commit(200, 208), &[]);
    relay.at(104, begin(208), &[]);
    relay.at(105, row("a", "two"), &["record 4 to a/0: two"]);
    relay.at(106, commit(208, 220), &[]);
    relay.at(107, question(230), &["write 230 flush 0"]);
    relay.at(108, question(230), &["write 230 flush 0"]);
    relay.at(109, Acked(3), &[]);
    let both = ["write 230 flush 208", "write 230 flush 0"];
    relay.at(110, question(230), &both);
    relay.at(111, Acked(4), &[]);
    relay.at(112, question(230), &["write 230 flush 230"]);
}

#[test]
fn a_question_inside_a_transaction_is_answered_too() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, question(150), &["write 150 flush 0"]);
    assert_eq!(relay.confirmed(), FLOOR);
}

#[test]
fn a_ping_goes_out_at_once_and_asks_for_an_answer() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, Ping, &["write 100 flush 100 and a ping"]);
    relay.at(2, Nothing, &[]);
}

#[test]
fn the_last_status_says_what_is_confirmed_although_none_is_due() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, keepalive(200), &[]);
    relay.at(2, begin(200), &[]);
    relay.at(3, row("a", "one"), &["record 1 to a/0: one"]);
    relay.at(4, commit(200, 208), &[]);
    assert_eq!(status_text(&relay.last_status()), "write 208 flush 200");
}

#[test]
fn a_stopping_server_gets_its_answer_behind_records_that_wait_for_their_turn() {
    let mut relay = Bench::opened(events(8), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    relay.at(4, commit(200, 215), &[]);
    relay.at(5, question(300), &["write 300 flush 0"]);
}

#[test]
fn a_snapshot_counts_what_is_in_flight_and_what_arrived() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", "two"), &["record 4 to a/0: two"]);
    relay.at(4, commit(200, 208), &[]);
    relay.at(5, Acked(4), &[]);
    let snapshot = relay.relay.snapshot();
    assert_eq!(snapshot.received, Lsn::new(208));
    assert_eq!(snapshot.confirmed, Lsn::new(115));
    assert_eq!(snapshot.delivered, 4);
    assert_eq!(snapshot.in_flight, 2);
    assert_eq!(snapshot.window, 4);
    assert_eq!(
        snapshot.oldest,
        Some(Position {
            commit_lsn: Lsn::new(200),
            ordinal: 0
        })
    );
    assert_eq!(snapshot.undelivered_bytes, ROW_BYTES);
}

#[test]
fn the_rows_of_a_transaction_count_as_received_before_its_end_does() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(100, Nothing, &["write 115 flush 115"]);
    relay.at(101, begin(200), &[]);
    let row = row_at(150, "a", "one");
    relay.at(102, row, &["record 3 to a/0: one"]);
    relay.at(103, Ping, &["write 150 flush 115 and a ping"]);
}

#[test]
fn a_commit_counts_as_received_to_the_end_of_its_record() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(100, Nothing, &["write 115 flush 115"]);
    relay.at(101, begin(200), &[]);
    relay.at(102, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(103, commit_at(200, 200, 208), &[]);
    relay.at(104, Ping, &["write 208 flush 115 and a ping"]);
}
