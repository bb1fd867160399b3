use walpost_pgoutput::Lsn;

use super::*;
use crate::instants::{seconds_after, start};

const MEBIBYTE: usize = 1 << 20;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// As librdkafka has them where nobody has chosen anything.
const DEFAULT: Sizes = Sizes {
    record: MEBIBYTE,
    record_is_fixed: false,
    batch: 1_000_000,
    batch_is_fixed: false,
};

/// The topics `a`, `b`, ... answer. One with 0 does not.
fn answer(limits: &[usize]) -> Option<TopicSizes> {
    let named = ('a'..).map(String::from).zip(limits.iter().copied());
    let (asked, limits): (Vec<_>, Vec<_>) = named.map(|one| (one.0.clone(), one)).unzip();
    let told = |limit| Some(limit).filter(|limit| *limit > 0);
    let limits = limits
        .into_iter()
        .map(|(topic, limit)| (topic, told(limit)));
    let limits = limits.collect();
    Some(TopicSizes { asked, limits })
}

fn at(lsn: u64) -> Position {
    Position {
        commit_lsn: Lsn::new(lsn),
        ordinal: 0,
    }
}

/// Every topic that was asked has events.
fn learn(fit: &mut Fit, answer: Option<TopicSizes>) -> bool {
    let asked = answer.as_ref().map(|answer| answer.asked.clone());
    let known = asked.into_iter().flatten().collect();
    fit.learn(answer, &known, start())
}

fn both(fit: &Fit) -> (usize, usize) {
    (fit.sizes.record, fit.sizes.batch)
}

#[test]
fn topics_as_kafka_makes_them_change_nothing() {
    let mut fit = Fit::new(DEFAULT);
    assert!(!learn(&mut fit, answer(&[MEBIBYTE + 12, MEBIBYTE + 12])));
    assert_eq!(both(&fit), (MEBIBYTE, 1_000_000));
}

#[test]
fn records_grow_to_the_largest_limit_and_batches_shrink_to_the_smallest() {
    let mut fit = Fit::new(DEFAULT);
    assert!(learn(&mut fit, answer(&[20_000, 5 * MEBIBYTE, 0])));
    assert_eq!(both(&fit), (5 * MEBIBYTE - 12, 20_000));
    // A topic that compresses well may take larger records than its limit says.
    assert!(!learn(&mut fit, answer(&[30_000])));
    assert_eq!(both(&fit), (5 * MEBIBYTE - 12, 20_000));
    assert!(learn(&mut fit, answer(&[usize::MAX])));
    assert_eq!(
        fit.sizes.record, 1_000_000_000,
        "the most that librdkafka takes"
    );
}

#[test]
fn what_the_operator_chose_stays() {
    let mut fit = Fit::new(Sizes {
        record: 2_000_000,
        record_is_fixed: true,
        batch: 500_000,
        batch_is_fixed: true,
    });
    assert!(!learn(&mut fit, answer(&[20_000, 5 * MEBIBYTE])));
    assert_eq!(both(&fit), (2_000_000, 500_000));
    let now = start();
    assert_eq!(
        fit.refuse_record((at(1), "a"), start(), PATIENCE),
        Refused::ForGood
    );
    let ten_years = seconds_after(now, 10 * 365 * 24 * 3600);
    assert!(
        fit.is_final_until(now)
            .is_some_and(|until| until > ten_years)
    );
    // A batch that was refused says that it can't.
    fit.refuse_batch();
    assert!(learn(&mut fit, answer(&[20_000, 5 * MEBIBYTE])));
    assert!(!fit.blames_record());
    assert_eq!(both(&fit), (2_000_000, 20_000));
}

#[test]
fn topics_are_asked_once_and_again_when_something_was_refused() {
    let mut fit = Fit::new(DEFAULT);
    let topics = || ["b", "a", "a"].map(str::to_owned).into_iter();
    assert_eq!(fit.due(topics()), ["a", "b"]);
    learn(&mut fit, answer(&[0]));
    assert_eq!(fit.due(topics()), ["b"]);
    fit.refuse_batch();
    assert_eq!(fit.due(topics()), ["a", "b"]);
    learn(&mut fit, answer(&[0, 0]));
    assert_eq!(
        fit.refuse_record((at(1), "a"), start(), PATIENCE),
        Refused::Asking
    );
    assert_eq!(fit.due(topics()), ["a", "b"]);
}

#[test]
fn a_record_that_was_refused_is_tried_again_once_when_every_topic_has_told_its_limit() {
    let mut fit = Fit::new(DEFAULT);
    let now = start();
    assert_eq!(fit.is_final_until(now), None);
    assert_eq!(
        fit.refuse_record((at(1), "a"), start(), PATIENCE),
        Refused::Asking
    );
    // Nobody answered: it is asked again.
    learn(&mut fit, None);
    assert_eq!(
        fit.refuse_record((at(1), "a"), start(), PATIENCE),
        Refused::Unanswered
    );
    learn(&mut fit, answer(&[MEBIBYTE]));
    assert_eq!(
        fit.refuse_record((at(1), "a"), start(), PATIENCE),
        Refused::ForGood
    );
    assert!(fit.is_final_until(now) >= Some(now + REFUSAL_HOLDS));
    // Limits can be raised.
    let later = start() + 2 * REFUSAL_HOLDS;
    assert_eq!(
        fit.refuse_record((at(1), "a"), later, PATIENCE),
        Refused::Asking
    );
    learn(&mut fit, answer(&[MEBIBYTE]));
    let slow = later + 2 * REFUSAL_HOLDS;
    let first = fit.refuse_record((at(1), "a"), slow, PATIENCE);
    assert_eq!(first, Refused::ForGood, "it took that long to come to it");
    // Another one asks again.
    assert_eq!(
        fit.refuse_record((at(2), "a"), start(), PATIENCE),
        Refused::Asking
    );
    assert_eq!(fit.is_final_until(now), None);
    learn(&mut fit, answer(&[2 * MEBIBYTE]));
    let grown = fit.refuse_record((at(2), "a"), start(), PATIENCE);
    assert_eq!(grown, Refused::Asking, "the client takes more");
}

#[test]
fn a_record_is_not_refused_for_good_while_a_topic_does_not_say_what_it_takes() {
    let mut fit = Fit::new(DEFAULT);
    assert_eq!(
        fit.refuse_record((at(1), "a"), start(), PATIENCE),
        Refused::Asking
    );
    learn(&mut fit, answer(&[MEBIBYTE, 0]));
    assert_eq!(
        fit.refuse_record((at(1), "a"), start(), PATIENCE),
        Refused::Unknown
    );
    assert_eq!(fit.is_final_until(start()), None);
}

/// The topic `b` is gone.
fn answer_without_b() -> Option<TopicSizes> {
    let mut told = answer(&[MEBIBYTE, MEBIBYTE])?;
    told.limits.remove("b");
    Some(told)
}

#[test]
fn of_a_topic_that_is_gone_nothing_is_expected_where_another_one_is_meant() {
    let mut fit = Fit::new(DEFAULT);
    let refused = fit.refuse_record((at(1), "a"), start(), PATIENCE);
    assert_eq!(refused, Refused::Asking);
    learn(&mut fit, answer_without_b());
    let refused = fit.refuse_record((at(1), "a"), start(), PATIENCE);
    assert_eq!(refused, Refused::ForGood);
    assert_eq!(fit.is_final_until(start()), None, "it may come back");
}

#[test]
fn a_topic_that_is_gone_is_asked_again_while_its_own_record_is_refused() {
    let mut fit = Fit::new(DEFAULT);
    let refused = fit.refuse_record((at(1), "b"), start(), PATIENCE);
    assert_eq!(refused, Refused::Asking);
    learn(&mut fit, answer_without_b());
    let refused = fit.refuse_record((at(1), "b"), start(), PATIENCE);
    assert_eq!(refused, Refused::Unanswered);
    assert_eq!(fit.due(["b".to_owned()].into_iter()), ["b"]);
    learn(&mut fit, answer(&[MEBIBYTE, 2 * MEBIBYTE]));
    assert_eq!(fit.sizes.record, 2 * MEBIBYTE - 12);
}

#[test]
fn topics_that_never_answer_are_taken_for_some_that_do_not_say_what_they_take() {
    let mut fit = Fit::new(DEFAULT);
    let now = start();
    let mut at_second =
        |second| fit.refuse_record((at(1), "a"), now + Duration::from_secs(second), PATIENCE);
    assert_eq!(at_second(0), Refused::Asking);
    assert_eq!(at_second(1), Refused::Unanswered);
    assert_eq!(at_second(2), Refused::Unknown);
    assert_eq!(at_second(3), Refused::Unknown);
}

#[test]
fn where_no_limit_is_known_records_are_tried_alone_before_batches_get_smaller() {
    for nobody in [None, answer(&[0, MEBIBYTE])] {
        let mut fit = Fit::new(DEFAULT);
        let refused = |fit: &mut Fit| {
            fit.refuse_batch();
            assert!(fit.is_in_doubt());
            learn(
                fit,
                nobody.as_ref().map(|answer| TopicSizes {
                    asked: answer.asked.clone(),
                    limits: answer.limits.clone(),
                }),
            );
            let blames_record = fit.blames_record();
            assert!(!fit.is_in_doubt());
            blames_record
        };
        for bytes in [125_000, 15_625, 1_953, 1] {
            let before = fit.sizes.batch;
            assert!(refused(&mut fit));
            assert_eq!(fit.sizes.batch, before);
            assert!(!refused(&mut fit), "none was refused alone");
            assert_eq!(fit.sizes.batch, bytes);
        }
        // Smaller they can't be.
        assert!(refused(&mut fit));
        assert!(refused(&mut fit));
    }
}

#[test]
fn a_record_that_was_refused_alone_leaves_the_batches_as_they_are() {
    let mut fit = Fit::new(DEFAULT);
    for _ in 0..3 {
        fit.refuse_batch();
        learn(&mut fit, None);
        assert!(fit.blames_record());
        fit.found_record();
        assert_eq!(fit.sizes.batch, 1_000_000);
    }
}

#[test]
fn a_batch_that_was_refused_is_as_large_as_the_smallest_topic_takes_it() {
    let mut fit = Fit::new(DEFAULT);
    fit.refuse_batch();
    assert!(learn(&mut fit, answer(&[400_000, MEBIBYTE])));
    assert!(!fit.blames_record());
    assert_eq!(fit.sizes.batch, 400_000);
    // Refused although every topic takes such batches: a record is at fault.
    fit.refuse_batch();
    assert!(!learn(&mut fit, answer(&[400_000, MEBIBYTE])));
    assert!(fit.blames_record());
    assert_eq!(fit.sizes.batch, 400_000);
}

#[test]
fn a_verdict_holds_for_a_minute_and_no_longer() {
    let mut fit = Fit::new(DEFAULT);
    let begun = start();
    let at_second = |fit: &mut Fit, second| {
        fit.refuse_record((at(1), "a"), seconds_after(begun, second), PATIENCE)
    };
    assert_eq!(at_second(&mut fit, 0), Refused::Asking);
    let known = BTreeSet::from(["a".to_owned()]);
    fit.learn(answer(&[MEBIBYTE]), &known, begun);
    assert_eq!(at_second(&mut fit, 1), Refused::ForGood);
    assert_eq!(at_second(&mut fit, 60), Refused::ForGood);
    assert_eq!(at_second(&mut fit, 61), Refused::Asking);
}

#[test]
fn what_was_judged_by_a_smaller_limit_is_not_final() {
    let mut fit = Fit::new(DEFAULT);
    fit.refuse_record((at(1), "a"), start(), PATIENCE);
    learn(&mut fit, answer(&[2 * MEBIBYTE]));
    assert_eq!(fit.is_final_until(start()), None);
}

#[test]
fn a_limit_that_an_operator_chose_is_final_for_as_long_as_a_session_can_be() {
    let fit = Fit::new(Sizes {
        record_is_fixed: true,
        ..DEFAULT
    });
    let year = seconds_after(start(), 365 * 24 * 3600);
    assert!(fit.is_final_until(start()) > Some(year));
}

#[test]
fn an_answer_that_leaves_a_topic_out_says_nothing_of_it() {
    let mut fit = Fit::new(DEFAULT);
    fit.refuse_record((at(1), "a"), start(), PATIENCE);
    let known = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    fit.learn(answer(&[MEBIBYTE]), &known, start());
    let refused = fit.refuse_record((at(1), "a"), start(), PATIENCE);
    assert_eq!(refused, Refused::Unknown, "b was not asked");
}
