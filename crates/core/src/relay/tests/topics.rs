//! Topics whose count is not known, is another one now, or was wrong.

use super::bench::*;
use crate::event::Topic;

#[test]
fn a_first_seen_topic_stops_the_line_until_its_count_is_known() {
    let mut relay = Bench::new();
    relay.input(0, outbox());
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["ask for a"]);
    assert!(relay.relay.waits_for_topic());
    relay.at(3, Nothing, &[]);
    relay.at(4, Counted("a", 1), &["record 0 to a/0: one"]);
    assert!(!relay.relay.waits_for_topic());
    relay.at(5, Acked(0), &[]);
    relay.at(6, row("a", "two"), &["record 1 to a/0: two"]);
}

#[test]
fn a_topic_that_never_was_there_halts_the_line_after_its_time() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(100, Nothing, &["write 115 flush 115"]);
    relay.at(101, begin(200), &[]);
    relay.at(102, row("b", "one"), &["ask for b"]);
    relay.at(103, Unavailable("b"), &[]);
    relay.at(353, Nothing, &["ask for b"]);
    relay.at(400, Missing("b"), &[]);
    assert_eq!(relay.timeout(), Some(650));
    relay.at(60_399, Nothing, &["ask for b", "write 115 flush 115"]);
    relay.at(60_399, Missing("b"), &[]);
    relay.at(60_649, Nothing, &["ask for b"]);
    let halted = "halted at 200/0: its topic 'b' does not exist, also not after 60 s";
    relay.at(60_700, Missing("b"), &[halted]);
    assert!(relay.relay.is_drained());
}

#[test]
fn an_answer_for_another_topic_does_not_start_the_wait_anew() {
    let mut relay = Bench::opened(events(4), 4);
    relay.input(1, begin(200));
    relay.at(2, row("b", "one"), &["ask for b"]);
    relay.at(3, Missing("b"), &[]);
    relay.at(4, Counted("a", 1), &[]);
    relay.at(5, Counted("c", 1), &[]);
    relay.input(60_003, Nothing);
    let halted = "halted at 200/0: its topic 'b' does not exist, also not after 60 s";
    relay.at(60_003, Missing("b"), &[halted]);
}

#[test]
fn a_topic_that_was_there_before_is_waited_for_without_end() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 1 to a/0: one"]);
    let error = "error: Kafka did not take the event at \
                 00000000000000C8/00000000: NAME (3)";
    relay.at(3, Failed(1, 3), &[error]);

    let topics = relay.relay.into_topics();
    let mut relay = Bench::next_session(events(2), topics);
    relay.input(0, outbox());
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["ask for a"]);
    for hour in 1..5 {
        relay.input(hour * 3_600 * SECOND, Missing("a"));
        assert!(relay.relay.halted().is_none());
        assert!(relay.relay.waits_for_topic());
    }
    let outputs = relay.input(4 * 3_600 * SECOND, Counted("a", 1));
    assert_eq!(outputs, ["record 0 to a/0: one"]);
}

#[test]
fn a_question_without_an_answer_is_asked_again_by_the_next_session() {
    let mut relay = Bench::opened(events(2), 2);
    relay.input(300 * SECOND, begin(200));
    let outputs = relay.input(300 * SECOND, row("a", "one"));
    assert_eq!(outputs, ["record 1 to a/0: one", "ask for a"]);

    let start = relay.start;
    let topics = relay.relay.into_topics();
    let mut relay = Bench::next_session(events(2), topics);
    relay.start = start;
    relay.input(301 * SECOND, outbox());
    relay.at(301 * SECOND, begin(200), &[]);
    let outputs = ["record 0 to a/0: one", "ask for a"];
    relay.at(301 * SECOND, row("a", "one"), &outputs);
}

#[test]
fn a_new_count_is_used_when_what_was_placed_by_the_old_one_has_arrived() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, Counted("a", 7), &[]);
    relay.at(4, row("a", "two"), &[]);
    relay.at(5, Acked(3), &["record 4 to a/3: two"]);
    relay.at(6, row("a", "three"), &["record 5 to a/3: three"]);
    relay.at(7, Counted("a", 7), &[]);
    relay.at(8, row("a", "four"), &["record 6 to a/3: four"]);
}

#[test]
fn a_refused_partition_makes_the_next_session_ask_for_the_count() {
    for (code, asks) in [
        (3, true),
        (-188, true),
        (-190, true),
        (19, false),
        (-187, false),
    ] {
        let mut relay = Bench::opened(events(2), 2);
        relay.input(1, begin(200));
        relay.input(2, row("a", "one"));
        relay.input(3, Failed(1, code));
        let topics = relay.relay.into_topics();
        let mut relay = Bench::next_session(events(2), topics);
        relay.input(4, outbox());
        relay.input(5, begin(200));
        let first = if asks {
            "ask for a"
        } else {
            "record 0 to a/0: one"
        };
        relay.at(6, row("a", "one"), &[first]);
    }
}

#[test]
fn a_topic_that_was_there_is_known_and_can_be_asked_for() {
    let topic = |name: &str| name.parse::<Topic>().unwrap();
    let mut relay = Bench::new();
    relay.at(0, Missing("b"), &["write 100 flush 100"]);
    assert!(!relay.relay.knows_topic(&topic("b")));
    assert_eq!(relay.relay.a_topic(), None);
    relay.at(1, Counted("a", 1), &[]);
    assert!(relay.relay.knows_topic(&topic("a")));
    assert_eq!(relay.relay.a_topic(), Some(&topic("a")));
}

#[test]
fn with_another_client_the_count_is_fetched_before_it_is_used() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, begin(200), &[]);
    relay.relay.distrust_topics();
    relay.at(2, row("a", "one"), &["ask for a"]);
    relay.at(3, Counted("a", 1), &["record 1 to a/0: one"]);
}
