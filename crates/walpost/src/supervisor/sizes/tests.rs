use walpost_pgoutput::Lsn;

use super::*;

const MEBIBYTE: usize = 1 << 20;

fn sizes(properties: &[(&str, &str)]) -> Sizes {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let properties = properties.iter().map(owned).collect();
    Sizes::new(&Settings::new("kafka:9092", &properties, "test", false).unwrap())
}

/// The topics `a`, `b`, ... answer. One with 0 does not.
fn answer(limits: &[usize]) -> Option<Answer> {
    let named = ('a'..).map(String::from).zip(limits.iter().copied());
    let (asked, limits): (Vec<_>, Vec<_>) = named.map(|one| (one.0.clone(), one)).unzip();
    let told = |limit| Some(limit).filter(|limit| *limit > 0);
    let limits = limits
        .into_iter()
        .map(|(topic, limit)| (topic, told(limit)));
    let limits = limits.collect();
    Some(Answer { asked, limits })
}

fn at(lsn: u64) -> Position {
    Position {
        commit_lsn: Lsn::new(lsn),
        ordinal: 0,
    }
}

/// Every topic that was asked has events.
fn learn(sizes: &mut Sizes, answer: Option<Answer>) -> bool {
    let asked = answer.as_ref().map(|answer| answer.asked.clone());
    let known = asked.into_iter().flatten().collect();
    sizes.learn(answer, &known, Instant::now())
}

fn both(sizes: &Sizes) -> (usize, usize) {
    (sizes.record, sizes.batch)
}

#[test]
fn topics_as_kafka_makes_them_change_nothing() {
    let mut sizes = sizes(&[]);
    assert!(!learn(&mut sizes, answer(&[MEBIBYTE + 12, MEBIBYTE + 12])));
    assert_eq!(both(&sizes), (MEBIBYTE, 1_000_000));
}

#[test]
fn records_grow_to_the_largest_limit_and_batches_shrink_to_the_smallest() {
    let mut sizes = sizes(&[]);
    assert!(learn(&mut sizes, answer(&[20_000, 5 * MEBIBYTE, 0])));
    assert_eq!(both(&sizes), (5 * MEBIBYTE - 12, 20_000));
    // A topic that compresses well may take larger records than its limit says.
    assert!(!learn(&mut sizes, answer(&[30_000])));
    assert_eq!(both(&sizes), (5 * MEBIBYTE - 12, 20_000));
    assert!(learn(&mut sizes, answer(&[usize::MAX])));
    assert_eq!(
        sizes.record, 1_000_000_000,
        "the most that librdkafka takes"
    );
}

#[test]
fn what_the_operator_chose_stays() {
    let mut sizes = sizes(&[("max.request.size", "2000000"), ("batch.size", "500000")]);
    assert!(!learn(&mut sizes, answer(&[20_000, 5 * MEBIBYTE])));
    assert_eq!(both(&sizes), (2_000_000, 500_000));
    let now = Instant::now();
    assert_eq!(
        sizes.refuse_record(at(1), Instant::now(), PATIENCE),
        Refused::ForGood
    );
    assert!(sizes.is_final_until(now).is_some_and(|until| until > now));
    // A batch that was refused says that it can't.
    sizes.refuse_batch();
    assert!(learn(&mut sizes, answer(&[20_000, 5 * MEBIBYTE])));
    assert!(!sizes.blames_record());
    assert_eq!(both(&sizes), (2_000_000, 20_000));
}

#[test]
fn topics_are_asked_once_and_again_when_something_was_refused() {
    let mut sizes = sizes(&[]);
    let topics = || ["b", "a", "a"].map(str::to_owned).into_iter();
    assert_eq!(sizes.due(topics()), ["a", "b"]);
    learn(&mut sizes, answer(&[0]));
    assert_eq!(sizes.due(topics()), ["b"]);
    sizes.refuse_batch();
    assert_eq!(sizes.due(topics()), ["a", "b"]);
    learn(&mut sizes, answer(&[0, 0]));
    assert_eq!(
        sizes.refuse_record(at(1), Instant::now(), PATIENCE),
        Refused::Asking
    );
    assert_eq!(sizes.due(topics()), ["a", "b"]);
}

#[test]
fn a_record_that_was_refused_is_tried_again_once_when_every_topic_has_told_its_limit() {
    let mut sizes = sizes(&[]);
    let now = Instant::now();
    assert_eq!(sizes.is_final_until(now), None);
    assert_eq!(
        sizes.refuse_record(at(1), Instant::now(), PATIENCE),
        Refused::Asking
    );
    // Nobody answered: it is asked again.
    learn(&mut sizes, None);
    assert_eq!(
        sizes.refuse_record(at(1), Instant::now(), PATIENCE),
        Refused::Unanswered
    );
    learn(&mut sizes, answer(&[MEBIBYTE]));
    assert_eq!(
        sizes.refuse_record(at(1), Instant::now(), PATIENCE),
        Refused::ForGood
    );
    assert!(sizes.is_final_until(now) >= Some(now + REFUSAL_HOLDS));
    // Limits can be raised.
    let later = Instant::now() + 2 * REFUSAL_HOLDS;
    assert_eq!(sizes.refuse_record(at(1), later, PATIENCE), Refused::Asking);
    learn(&mut sizes, answer(&[MEBIBYTE]));
    let slow = later + 2 * REFUSAL_HOLDS;
    let first = sizes.refuse_record(at(1), slow, PATIENCE);
    assert_eq!(first, Refused::ForGood, "it took that long to come to it");
    // Another one asks again.
    assert_eq!(
        sizes.refuse_record(at(2), Instant::now(), PATIENCE),
        Refused::Asking
    );
    assert_eq!(sizes.is_final_until(now), None);
    learn(&mut sizes, answer(&[2 * MEBIBYTE]));
    let grown = sizes.refuse_record(at(2), Instant::now(), PATIENCE);
    assert_eq!(grown, Refused::Asking, "the client takes more");
}

#[test]
fn a_record_is_not_refused_for_good_while_a_topic_does_not_say_what_it_takes() {
    let mut sizes = sizes(&[]);
    assert_eq!(
        sizes.refuse_record(at(1), Instant::now(), PATIENCE),
        Refused::Asking
    );
    learn(&mut sizes, answer(&[MEBIBYTE, 0]));
    assert_eq!(
        sizes.refuse_record(at(1), Instant::now(), PATIENCE),
        Refused::Unknown
    );
    assert_eq!(sizes.is_final_until(Instant::now()), None);
}

#[test]
fn a_topic_that_is_gone_says_nothing_of_what_it_takes() {
    let mut sizes = sizes(&[]);
    let refused = sizes.refuse_record(at(1), Instant::now(), PATIENCE);
    assert_eq!(refused, Refused::Asking);
    let mut told = answer(&[MEBIBYTE, MEBIBYTE]);
    if let Some(told) = &mut told {
        told.limits.remove("b");
    }
    learn(&mut sizes, told);
    let refused = sizes.refuse_record(at(1), Instant::now(), PATIENCE);
    assert_eq!(refused, Refused::ForGood);
}

#[test]
fn topics_that_never_answer_are_taken_for_some_that_do_not_say_what_they_take() {
    let mut sizes = sizes(&[]);
    let now = Instant::now();
    let mut at_second =
        |second| sizes.refuse_record(at(1), now + Duration::from_secs(second), PATIENCE);
    assert_eq!(at_second(0), Refused::Asking);
    assert_eq!(at_second(1), Refused::Unanswered);
    assert_eq!(at_second(2), Refused::Unknown);
    assert_eq!(at_second(3), Refused::Unknown);
}

#[test]
fn where_no_limit_is_known_records_are_tried_alone_before_batches_get_smaller() {
    for nobody in [None, answer(&[0, MEBIBYTE])] {
        let mut sizes = sizes(&[]);
        let refused = |sizes: &mut Sizes| {
            sizes.refuse_batch();
            assert!(sizes.is_in_doubt());
            learn(
                sizes,
                nobody.as_ref().map(|answer| Answer {
                    asked: answer.asked.clone(),
                    limits: answer.limits.clone(),
                }),
            );
            let blames_record = sizes.blames_record();
            assert!(!sizes.is_in_doubt());
            blames_record
        };
        for bytes in [125_000, 15_625, 1_953, 1] {
            let before = sizes.batch;
            assert!(refused(&mut sizes));
            assert_eq!(sizes.batch, before);
            assert!(!refused(&mut sizes), "none was refused alone");
            assert_eq!(sizes.batch, bytes);
        }
        // Smaller they can't be.
        assert!(refused(&mut sizes));
        assert!(refused(&mut sizes));
    }
}

#[test]
fn a_record_that_was_refused_alone_leaves_the_batches_as_they_are() {
    let mut sizes = sizes(&[]);
    for _ in 0..3 {
        sizes.refuse_batch();
        learn(&mut sizes, None);
        assert!(sizes.blames_record());
        sizes.found_record();
        assert_eq!(sizes.batch, 1_000_000);
    }
}

#[test]
fn a_batch_that_was_refused_is_as_large_as_the_smallest_topic_takes_it() {
    let mut sizes = sizes(&[]);
    sizes.refuse_batch();
    assert!(learn(&mut sizes, answer(&[400_000, MEBIBYTE])));
    assert!(!sizes.blames_record());
    assert_eq!(sizes.batch, 400_000);
    // Refused although every topic takes such batches: a record is at fault.
    sizes.refuse_batch();
    assert!(!learn(&mut sizes, answer(&[400_000, MEBIBYTE])));
    assert!(sizes.blames_record());
    assert_eq!(sizes.batch, 400_000);
}

#[test]
fn the_settings_get_what_has_changed() {
    // librdkafka reads hexadecimal numbers.
    let properties = BTreeMap::from([("message.max.bytes".to_owned(), "0x300000".to_owned())]);
    let settings = Settings::new("kafka:9092", &properties, "test", false).unwrap();
    let mut sizes = Sizes::new(&settings);
    assert_eq!(sizes.apply(&settings), settings);
    learn(&mut sizes, answer(&[20_000]));
    let applied = sizes.apply(&settings);
    assert_eq!(applied.get("message.max.bytes"), Some("0x300000"));
    assert_eq!(applied.get("batch.size"), Some("20000"));
    let settings = Settings::new("kafka:9092", &BTreeMap::new(), "test", false).unwrap();
    let mut sizes = Sizes::new(&settings);
    learn(&mut sizes, answer(&[5 * MEBIBYTE]));
    let applied = sizes.apply(&settings);
    assert_eq!(applied.get("message.max.bytes"), Some("5242868"));
    assert_eq!(applied.get("batch.size"), None);
}
