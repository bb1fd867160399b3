use proptest::prelude::*;
use walpost_pgoutput::Lsn;

use super::*;

fn limits(events: u32, bytes: usize) -> WindowLimits {
    WindowLimits { events, bytes }
}

/// A window that is open to its limit from the start.
fn wide(floor: u64) -> Window {
    let mut window = Window::new(Lsn::new(floor), limits(100_000, 1 << 20));
    window.open = 100_000;
    window
}

fn admit(window: &mut Window, commit_lsn: u64, ordinal: u32) {
    let position = Position {
        commit_lsn: Lsn::new(commit_lsn),
        ordinal,
    };
    window.take(10, position, EventId::Other(Box::from(&b"e"[..])));
}

/// Takes a record in and lets it leave.
fn take(window: &mut Window, commit_lsn: u64, ordinal: u32) -> Ticket {
    admit(window, commit_lsn, ordinal);
    window.send()
}

fn confirmed(window: &Window) -> u64 {
    window.confirmed().as_u64()
}

#[test]
fn a_commit_is_confirmed_when_the_last_of_its_records_is_settled() {
    let mut window = wide(5);
    let first = take(&mut window, 10, 0);
    let second = take(&mut window, 10, 1);
    window.seal(Lsn::new(20));
    assert_eq!(confirmed(&window), 5);
    window.settle(second);
    assert_eq!(confirmed(&window), 5);
    window.settle(first);
    assert_eq!(confirmed(&window), 20);
    assert!(window.is_settled());
}

#[test]
fn what_had_left_in_a_session_before_is_counted_when_it_leaves_again() {
    let mut before = wide(0);
    for commit in [10, 20, 30] {
        take(&mut before, commit, 0);
    }
    admit(&mut before, 40, 0);
    let recent = before.take_recent();
    assert_eq!(recent.again(), 0);

    let mut window = wide(10);
    window.count_from(recent.highest());
    for commit in [20, 30, 40] {
        admit(&mut window, commit, 0);
    }
    window.send();
    let second = window.send();
    window.take_back(second);
    window.send();
    window.send();
    assert_eq!(window.take_recent().again(), 2);
    // A session whose position is not known counts nothing.
    let mut first = wide(0);
    take(&mut first, 10, 0);
    assert_eq!(first.take_recent().again(), 0);
}

#[test]
fn what_left_is_remembered_whether_it_was_settled_or_not() {
    let mut window = wide(0);
    let first = take(&mut window, 10, 0);
    take(&mut window, 10, 1);
    let third = take(&mut window, 20, 0);
    admit(&mut window, 30, 0);
    window.settle(third);
    window.settle(first);
    let left = window.take_recent().take_from(Lsn::ZERO);
    let positions = left.iter().map(|(position, _)| position.to_string());
    assert_eq!(
        positions.collect::<Vec<_>>(),
        [
            "000000000000000A/00000000",
            "000000000000000A/00000001",
            "0000000000000014/00000000"
        ]
    );
}

#[test]
fn a_later_commit_waits_for_a_hole_in_an_earlier_one() {
    let mut window = wide(0);
    let hole = take(&mut window, 10, 0);
    window.seal(Lsn::new(20));
    let later = take(&mut window, 20, 0);
    window.seal(Lsn::new(30));
    window.settle(later);
    assert_eq!(confirmed(&window), 0);
    window.settle(hole);
    assert_eq!(confirmed(&window), 30);
}

#[test]
fn a_settled_record_without_its_commit_confirms_nothing() {
    let mut window = wide(5);
    let ticket = take(&mut window, 10, 0);
    window.settle(ticket);
    assert_eq!(confirmed(&window), 5);
    window.seal(Lsn::new(20));
    assert_eq!(confirmed(&window), 20);
}

#[test]
fn a_keepalive_behind_records_in_flight_waits_for_them() {
    let mut window = wide(0);
    let ticket = take(&mut window, 10, 0);
    window.seal(Lsn::new(20));
    window.seal(Lsn::new(500));
    assert_eq!(window.boundaries(), 1, "however many keepalives come");
    assert_eq!(confirmed(&window), 0);
    window.settle(ticket);
    assert_eq!(window.boundaries(), 0);
    assert_eq!(confirmed(&window), 500);
}

#[test]
fn a_keepalive_with_nothing_in_flight_is_confirmed_at_once() {
    let mut window = wide(5);
    window.seal(Lsn::new(70));
    assert_eq!(confirmed(&window), 70);
}

#[test]
fn boundaries_behind_the_floor_are_dropped_and_records_are_not() {
    let mut window = wide(100);
    window.seal(Lsn::new(40));
    assert_eq!(confirmed(&window), 100);
    let ticket = take(&mut window, 50, 0);
    window.seal(Lsn::new(60));
    assert_eq!(window.in_flight(), 1);
    window.settle(ticket);
    assert_eq!(confirmed(&window), 100);
}

#[test]
fn the_window_opens_twice_as_far_each_time_that_all_of_it_is_settled() {
    let mut window = Window::new(Lsn::ZERO, limits(6, 1 << 20));
    let mut position = 0;
    for open in [1, 2, 4, 6, 6] {
        assert_eq!(window.open(), open);
        let tickets: Vec<_> = (0..open)
            .map(|_| {
                position += 1;
                take(&mut window, position, 0)
            })
            .collect();
        assert_eq!(window.may_send(), None);
        for ticket in tickets {
            window.settle(ticket);
        }
    }
}

#[test]
fn bytes_close_the_window_and_one_larger_record_passes_alone() {
    let mut window = Window::new(Lsn::ZERO, limits(10, 25));
    window.open = 10;
    assert!(window.admits(1_000));
    let first = take(&mut window, 1, 0);
    let _second = take(&mut window, 2, 0);
    assert!(window.admits(5));
    assert!(!window.admits(6));
    window.settle(first);
    assert_eq!(window.bytes(), 10);
    assert!(!window.admits(1_000));
}

#[test]
fn a_closed_window_takes_records_in_and_lets_them_leave_in_their_turn() {
    let mut window = Window::new(Lsn::ZERO, limits(10, 1 << 20));
    let first = take(&mut window, 1, 0);
    window.seal(Lsn::new(2));
    admit(&mut window, 3, 0);
    window.seal(Lsn::new(4));
    assert_eq!((window.in_flight(), window.queued()), (1, 1));
    assert_eq!(window.may_send(), None);
    window.settle(first);
    assert_eq!(confirmed(&window), 2);
    assert!(window.is_settled());
    let second = window.send();
    assert_eq!((window.in_flight(), window.queued()), (1, 0));
    window.settle(second);
    assert_eq!(confirmed(&window), 4);
}

#[test]
#[should_panic(expected = "never left")]
fn a_report_for_a_record_that_waits_is_a_bug() {
    let mut window = wide(0);
    admit(&mut window, 1, 0);
    window.settle(Ticket(0));
}

#[test]
fn records_settled_ahead_of_a_hole_still_count_as_events() {
    let mut window = Window::new(Lsn::ZERO, limits(3, 1 << 20));
    window.open = 3;
    let _hole = take(&mut window, 1, 0);
    let ahead = [take(&mut window, 2, 0), take(&mut window, 3, 0)];
    ahead.into_iter().for_each(|ticket| window.settle(ticket));
    assert!(!window.admits(1));
    assert_eq!(window.oldest().unwrap().commit_lsn, Lsn::new(1));
}

#[test]
#[should_panic(expected = "others have followed")]
fn a_record_that_others_have_followed_is_not_taken_back() {
    let mut window = wide(0);
    let ticket = take(&mut window, 1, 0);
    take(&mut window, 2, 0);
    window.take_back(ticket);
}

#[test]
#[should_panic(expected = "settled twice")]
fn a_second_report_for_one_record_is_a_bug() {
    let mut window = wide(0);
    let _hole = take(&mut window, 1, 0);
    let ticket = take(&mut window, 2, 0);
    window.settle(ticket);
    window.settle(ticket);
}

#[test]
#[should_panic(expected = "out of commit order")]
fn a_record_behind_the_one_before_it_is_a_bug_also_where_it_is_not_behind_the_first() {
    let mut window = wide(0);
    take(&mut window, 1, 0);
    take(&mut window, 3, 0);
    take(&mut window, 2, 0);
}

#[test]
#[should_panic(expected = "out of commit order")]
fn two_records_at_one_position_are_a_bug() {
    let mut window = wide(0);
    take(&mut window, 1, 7);
    take(&mut window, 1, 7);
}

#[test]
#[should_panic(expected = "never taken")]
fn a_question_for_a_record_that_is_not_there_yet_is_a_bug() {
    let mut window = wide(0);
    take(&mut window, 1, 0);
    window.event(Ticket(1));
}

#[test]
fn nothing_leaves_a_window_that_nothing_was_taken_into() {
    let mut window = wide(0);
    assert_eq!(window.may_send(), None);
    take(&mut window, 1, 0);
    assert_eq!(window.may_send(), None);
}

#[test]
fn a_boundary_between_two_that_wait_is_dropped() {
    let mut window = wide(0);
    let first = take(&mut window, 10, 0);
    window.seal(Lsn::new(20));
    let second = take(&mut window, 20, 0);
    window.seal(Lsn::new(40));
    let third = take(&mut window, 40, 0);
    window.seal(Lsn::new(30));
    window.settle(first);
    assert_eq!(confirmed(&window), 20);
    window.settle(second);
    assert_eq!(confirmed(&window), 40);
    window.settle(third);
    assert_eq!(confirmed(&window), 40);
}

/// One step of a random session.
#[derive(Clone, Debug)]
enum Step {
    Record,
    Commit,
    Keepalive(u64),
    Settle(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Record),
        2 => Just(Step::Commit),
        1 => (0_u64..400).prop_map(Step::Keepalive),
        4 => any::<usize>().prop_map(Step::Settle),
    ];
    prop::collection::vec(step, 0..200)
}

/// What the window means, without any cleverness: a list of everything that happened.
#[derive(Default)]
struct Naive {
    settled: Vec<bool>,
    boundaries: Vec<(usize, u64)>,
}

impl Naive {
    fn confirmed(&self, floor: u64) -> u64 {
        let prefix = self.settled.iter().take_while(|settled| **settled).count();
        let reached = self.boundaries.iter().filter(|(after, _)| *after <= prefix);
        reached.map(|(_, lsn)| *lsn).fold(floor, u64::max)
    }
}

proptest! {
    #[test]
    fn any_order_of_reports_confirms_what_the_naive_model_says(
        floor in 0_u64..200,
        steps in steps(),
    ) {
        let mut window = wide(floor);
        let mut naive = Naive::default();
        let mut open = Vec::new();
        let mut lsn = 1;
        let mut ordinal = 0;
        for step in steps {
            match step {
                Step::Record => {
                    open.push(take(&mut window, lsn, ordinal));
                    naive.settled.push(false);
                    ordinal += 1;
                }
                Step::Commit => {
                    lsn += 3;
                    ordinal = 0;
                    window.seal(Lsn::new(lsn));
                    naive.boundaries.push((naive.settled.len(), lsn));
                }
                Step::Keepalive(ahead) if ordinal == 0 => {
                    lsn += ahead;
                    window.seal(Lsn::new(lsn));
                    naive.boundaries.push((naive.settled.len(), lsn));
                }
                Step::Settle(pick) if !open.is_empty() => {
                    let ticket = open.swap_remove(pick % open.len());
                    window.settle(ticket);
                    naive.settled[usize::try_from(ticket.0).unwrap()] = true;
                }
                Step::Keepalive(_) | Step::Settle(_) => {}
            }
            prop_assert_eq!(confirmed(&window), naive.confirmed(floor));
        }
    }
}
