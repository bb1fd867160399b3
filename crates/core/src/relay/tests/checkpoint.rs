//! The checkpoint, and how far the server is told because of it.

use super::bench::*;
use super::*;

/// A relay whose row stands at the floor, and one event that has arrived behind it.
fn delivered() -> Bench {
    let grace = Duration::from_secs(300);
    let recorded = Lsn::new(FLOOR);
    let mut relay = Bench::recorded(Recording::On { recorded, grace });
    relay.input(0, Counted("a", 1));
    relay.input(0, outbox());
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, commit(200, 208), &[]);
    relay.at(4, Acked(0), &["checkpoint 208"]);
    relay
}

#[test]
fn a_position_is_told_when_the_row_holds_it() {
    let mut relay = delivered();
    assert!(!relay.relay.is_recorded());
    relay.at(200, Nothing, &[]);
    assert_eq!(relay.relay.told(), Lsn::new(FLOOR));
    relay.at(201, Written(true), &["write 208 flush 208"]);
    assert_eq!(relay.relay.told(), Lsn::new(208));
    assert_eq!(relay.relay.recorded(), Lsn::new(208));
    assert_eq!(relay.relay.unrecorded(), None);
    assert!(relay.relay.is_recorded());
    assert!(relay.relay.is_recorded_to(Lsn::new(208)));
    assert!(!relay.relay.is_recorded_to(Lsn::new(209)));
}

#[test]
fn each_event_that_is_confirmed_is_a_reason_to_write_the_row() {
    let mut relay = delivered();
    relay.at(200, Written(true), &["write 208 flush 208"]);
    for (ticket, lsn) in [(1, 300), (2, 400)] {
        relay.input(lsn, begin(lsn));
        relay.input(lsn, row("a", "more"));
        relay.input(lsn, commit(lsn, lsn + 8));
        let write = format!("checkpoint {}", lsn + 8);
        relay.at(lsn + 1, Acked(ticket), &[&write]);
        relay.input(lsn + 2, Written(true));
    }
}

#[test]
fn a_slot_that_is_about_to_be_lost_is_told_what_the_row_does_not_hold() {
    let mut relay = delivered();
    relay.at(100, Written(false), &[]);
    assert_eq!(relay.relay.recorded(), Lsn::new(FLOOR));
    relay.relay.handle_slot(true);
    relay.at(101, Nothing, &["write 208 flush 208"]);
    assert_eq!(relay.relay.unrecorded(), Some(Lsn::new(208)));
}

#[test]
fn at_the_end_the_row_is_written_for_whatever_is_confirmed() {
    let mut relay = delivered();
    relay.at(200, Written(true), &["write 208 flush 208"]);
    relay.at(300, keepalive(300), &[]);
    relay.relay.record_all();
    relay.at(301, Nothing, &["checkpoint 300"]);
    relay.at(302, Written(true), &["write 300 flush 300"]);
    assert!(relay.relay.is_recorded());
}
