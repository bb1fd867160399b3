//! How a session ends in order.

use super::bench::*;
use super::*;
use crate::ending::{Ending, Over};

const PATIENCE: Duration = Duration::from_millis(500);

/// A relay whose window has room for some, and the end of its session.
struct Session {
    bench: Bench,
    ending: Ending,
}

impl Session {
    fn new() -> Self {
        Self {
            bench: Bench::opened(events(8), 4),
            ending: Ending::new(None, PATIENCE),
        }
    }

    /// One of which the first row of a transaction has left. The second has not been read.
    fn in_a_transaction() -> Self {
        let mut session = Self::new();
        session.bench.input(1, begin(200));
        session.bench.input(2, row("a", "one"));
        session
    }

    fn moment(&self, ms: u64) -> Instant {
        self.bench.start + Duration::from_millis(ms)
    }

    /// SIGTERM, with so much time for what is in flight. Whether that is news.
    fn stop(&mut self, ms: u64, until: u64) -> bool {
        assert!(until >= ms);
        self.ending.stop(self.moment(until))
    }

    fn try_drain(&mut self, ms: u64) -> bool {
        let now = self.moment(ms);
        self.ending.try_drain(&mut self.bench.relay, false, now)
    }

    fn look(&mut self, ms: u64, in_flight: usize) -> Option<String> {
        let now = self.moment(ms);
        let over = self.ending.look(&mut self.bench.relay, in_flight, now)?;
        Some(match over {
            Over::Drained { cut: false } => "drained".to_owned(),
            Over::Drained { cut: true } => "drained in a transaction".to_owned(),
            Over::DrainDeadline { in_flight } => format!("{in_flight} in flight"),
            Over::MadeRoom => "made room".to_owned(),
            Over::CaughtUp {
                confirmed,
                in_flight,
            } => format!("caught up at {}, {in_flight} in flight", confirmed.as_u64()),
            Over::Halted(halt) => format!("halted at {}", halt.event.position.commit_lsn.as_u64()),
        })
    }
}

fn is(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_session_that_nobody_ends_goes_on() {
    let mut session = Session::new();
    assert!(session.ending.is_open() && session.ending.may_send());
    assert!(!session.ending.has_target());
    assert_eq!(session.ending.deadline(), None);
    assert!(!session.try_drain(1));
    assert_eq!(session.look(1, 0), None);
    assert!(session.bench.relay.wants_wal());
}

#[test]
fn a_stop_ends_once_the_last_report_is_there() {
    let mut session = Session::in_a_transaction();
    session.bench.input(3, commit(200, 208));
    assert!(session.stop(4, 1_000));
    assert!(!session.ending.is_open() && session.ending.may_send());
    assert_eq!(session.ending.deadline(), Some(session.moment(1_000)));
    assert!(session.try_drain(4), "nothing is cut in two");
    assert!(!session.ending.may_send() && !session.bench.relay.wants_wal());
    assert!(!session.try_drain(5), "it has begun");
    assert_eq!(session.look(999, 1), None);
    session.bench.input(999, Acked(3));
    assert_eq!(session.look(999, 0), is("drained"));
}

#[test]
fn a_stop_in_a_transaction_waits_for_its_end() {
    let mut session = Session::in_a_transaction();
    session.stop(3, 1_000);
    assert!(!session.try_drain(999));
    assert_eq!(session.look(999, 0), None, "the other row has not left");
    assert!(session.ending.may_send() && session.bench.relay.wants_wal());
    session.bench.input(999, row("a", "two"));
    assert!(!session.try_drain(999));
    session.bench.input(999, commit(200, 208));
    assert!(session.try_drain(999));
}

#[test]
fn a_record_that_is_held_has_to_leave_before_the_drain() {
    let mut session = Session::new();
    session.stop(1, 1_000);
    let (relay, now) = (&mut session.bench.relay, session.bench.start);
    assert!(!session.ending.try_drain(relay, true, now));
    assert!(session.ending.try_drain(relay, false, now));
}

#[test]
fn a_stop_waits_no_longer_than_its_deadline() {
    let mut session = Session::in_a_transaction();
    session.stop(3, 1_000);
    assert!(!session.try_drain(999));
    assert!(session.try_drain(1_000), "the transaction is cut in two");
    assert_eq!(session.look(1_000, 1), is("1 in flight"));
    assert_eq!(session.look(1_000, 0), is("drained in a transaction"));
}

#[test]
fn only_the_first_stop_is_news_and_has_the_say() {
    let mut session = Session::in_a_transaction();
    assert!(session.stop(3, 1_000));
    assert!(!session.stop(4, 2_000));
    let now = session.moment(5);
    session.ending.make_room(now);
    assert_eq!(session.ending.deadline(), Some(session.moment(1_000)));
    assert!(session.try_drain(1_000));
    assert!(!session.stop(1_000, 2_000));
    assert_eq!(session.look(1_000, 0), is("drained in a transaction"));
}

#[test]
fn room_is_made_as_for_a_stop_and_no_longer_than_its_deadline() {
    for (in_flight, ms) in [(0, 4), (1, 100)] {
        let mut session = Session::in_a_transaction();
        session.bench.input(3, commit(200, 208));
        let deadline = session.moment(100);
        session.ending.make_room(deadline);
        session.ending.make_room(deadline + PATIENCE);
        assert_eq!(session.ending.deadline(), Some(deadline));
        assert!(session.try_drain(4));
        assert_eq!(session.look(99, 1), None);
        assert_eq!(session.look(ms, in_flight), is("made room"));
    }
}

#[test]
fn a_stop_takes_the_place_of_making_room() {
    let mut session = Session::in_a_transaction();
    let soon = session.moment(100);
    session.ending.make_room(soon);
    assert!(session.stop(4, 1_000));
    assert!(!session.stop(4, 2_000));
    assert!(
        !session.try_drain(999),
        "it goes on to the transaction's end"
    );
    session.bench.input(999, commit(200, 208));
    assert!(session.try_drain(999));
    assert_eq!(session.look(999, 0), is("drained"));
}

/// What was read of a transaction, and did not leave before the drain, has its end nowhere.
#[test]
fn a_stop_after_the_drain_has_begun_waits_for_no_transaction() {
    let limits = WindowLimits {
        events: 8,
        bytes: 300,
    };
    let mut session = Session::new();
    session.bench = Bench::opened(limits, 4);
    session.bench.input(1, begin(200));
    let large = row("a", &"x".repeat(1_000));
    session.bench.input(2, row("b", "it waits for its topic"));
    session.bench.input(3, large);
    let soon = session.moment(100);
    session.ending.make_room(soon);
    assert!(session.try_drain(4), "nothing of it has left");
    assert!(session.bench.relay.splits_transaction());
    assert!(session.stop(5, 20_000));
    assert!(!session.ending.may_send());
    assert_eq!(session.look(5, 1), None);
    assert_eq!(session.look(6, 0), is("drained"), "not at 20 s");
    assert_eq!(session.ending.deadline(), Some(session.moment(20_000)));
}

#[test]
fn an_event_in_the_way_ends_the_session_when_what_left_before_it_has_a_report() {
    let mut session = Session::in_a_transaction();
    let null_payload = insert(OUTBOX, &[Some("id"), Some("a"), None, None, None]);
    session.bench.input(3, null_payload);
    assert_eq!(session.look(3, 1), None);
    assert!(session.ending.is_open(), "it halts behind the first row");
    session.bench.input(4, Acked(3));
    assert_eq!(session.look(4, 1), None);
    assert!(!session.ending.may_send());
    let deadline = session.moment(4) + PATIENCE;
    assert_eq!(session.ending.deadline(), Some(deadline));
    assert!(!session.stop(5, 2_000), "the end is near already");
    assert_eq!(session.look(5, 0), is("halted at 200"));
    assert_eq!(session.look(503, 1), None);
    assert_eq!(session.look(504, 1), is("halted at 200"));
}

#[test]
fn an_event_in_the_way_is_told_although_a_stop_or_room_was_asked_for() {
    for stops in [true, false] {
        let mut session = Session::in_a_transaction();
        let null_payload = insert(OUTBOX, &[Some("id"), Some("a"), None, None, None]);
        session.bench.input(3, null_payload);
        let deadline = session.moment(900);
        if stops {
            session.ending.stop(deadline);
        } else {
            session.ending.make_room(deadline);
        }
        session.bench.input(4, Acked(3));
        assert_eq!(session.look(899, 1), None, "it has the time of the stop");
        assert_eq!(session.look(899, 0), is("halted at 200"));
        assert_eq!(session.look(900, 1), is("halted at 200"));
    }
}

#[test]
fn a_session_with_a_target_ends_when_that_is_delivered_and_on_record() {
    let grace = Duration::from_secs(300);
    let recorded = Lsn::new(FLOOR);
    let mut session = Session::new();
    session.bench = Bench::recorded(Recording::On { recorded, grace });
    session.ending = Ending::new(Some(Lsn::new(208)), PATIENCE);
    assert!(session.ending.has_target());
    session.bench.input(1, keepalive(207));
    assert_eq!(session.look(1, 0), None);
    session.bench.input(2, keepalive(209));
    assert_eq!(session.look(2, 0), None, "the row is not written");
    session.bench.input(3, Nothing);
    session.bench.input(4, Written(true));
    assert_eq!(session.look(4, 0), is("caught up at 209, 0 in flight"));
}

/// One that has delivered what it was to deliver, and sent the first row of a transaction behind
/// that.
fn caught_up() -> Session {
    let mut session = Session::new();
    session.ending = Ending::new(Some(Lsn::new(150)), PATIENCE);
    session.bench.input(1, keepalive(150));
    session.bench.input(1, begin(200));
    session.bench.input(1, row("a", "one"));
    assert_eq!(session.look(1, 1), None);
    assert!(!session.ending.is_open() && session.ending.may_send());
    assert_eq!(session.ending.deadline(), Some(session.moment(501)));
    session
}

#[test]
fn a_session_that_has_reached_its_target_cuts_nothing_behind_it_in_two() {
    let mut session = caught_up();
    assert!(!session.try_drain(2));
    assert!(!session.stop(2, 20_000), "the end is near already");
    session.bench.input(3, commit(200, 208));
    assert!(session.try_drain(3));
    assert_eq!(session.look(3, 1), None);
    session.bench.input(4, Acked(3));
    assert_eq!(session.look(4, 0), is("caught up at 208, 0 in flight"));
}

#[test]
fn a_session_that_has_reached_its_target_waits_no_longer_than_its_deadline() {
    let mut session = caught_up();
    assert!(!session.try_drain(500));
    assert!(session.try_drain(501));
    assert_eq!(session.look(501, 1), is("caught up at 150, 1 in flight"));
}

#[test]
fn an_event_in_the_way_behind_the_target_is_not_this_sessions() {
    let mut session = caught_up();
    let null_payload = insert(OUTBOX, &[Some("id"), Some("a"), None, None, None]);
    session.bench.input(2, null_payload);
    session.bench.input(3, Acked(3));
    assert_eq!(
        session.look(3, 1),
        None,
        "what left before it is waited for"
    );
    assert!(!session.ending.may_send());
    assert_eq!(session.look(4, 0), is("caught up at 150, 0 in flight"));
}
