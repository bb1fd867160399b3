use super::*;

const MEBIBYTE: usize = 1 << 20;

fn sizes(properties: &[(&str, &str)]) -> Sizes {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let properties = properties.iter().map(owned).collect();
    Sizes::new(&Settings::new("kafka:9092", &properties, "test", false).unwrap())
}

/// The topics `a`, `b`, ... answer. One with 0 does not.
fn answer(limits: &[usize]) -> Answer {
    let named = ('a'..).map(String::from).zip(limits.iter().copied());
    let (asked, limits): (Vec<_>, Vec<_>) = named.map(|one| (one.0.clone(), one)).unzip();
    let limits = limits.into_iter().filter(|(_, limit)| *limit > 0).collect();
    Answer { asked, limits }
}

fn both(sizes: &Sizes) -> (usize, usize) {
    (sizes.record, sizes.batch)
}

#[test]
fn topics_as_kafka_makes_them_change_nothing() {
    let mut sizes = sizes(&[]);
    assert!(!sizes.learn(answer(&[MEBIBYTE + 12, MEBIBYTE + 12])));
    assert_eq!(both(&sizes), (MEBIBYTE, 1_000_000));
}

#[test]
fn records_grow_to_the_largest_limit_and_batches_shrink_to_the_smallest() {
    let mut sizes = sizes(&[]);
    assert!(sizes.learn(answer(&[20_000, 5 * MEBIBYTE, 0])));
    assert_eq!(both(&sizes), (5 * MEBIBYTE - 12, 20_000));
    // A topic that compresses well may take larger records than its limit says.
    assert!(!sizes.learn(answer(&[30_000])));
    assert_eq!(both(&sizes), (5 * MEBIBYTE - 12, 20_000));
    assert!(sizes.learn(answer(&[usize::MAX])));
    assert_eq!(
        sizes.record, 1_000_000_000,
        "the most that librdkafka takes"
    );
}

#[test]
fn what_the_operator_chose_stays() {
    let mut sizes = sizes(&[("max.request.size", "2000000"), ("batch.size", "500000")]);
    assert!(!sizes.learn(answer(&[20_000, 5 * MEBIBYTE])));
    assert_eq!(both(&sizes), (2_000_000, 500_000));
    assert!(!sizes.may_grow());
    // A batch that was refused says that it can't.
    assert_eq!(sizes.shrink(), Some(62_500));
    assert!(sizes.learn(answer(&[20_000, 5 * MEBIBYTE])));
    assert_eq!(both(&sizes), (2_000_000, 20_000));
}

#[test]
fn topics_are_asked_once_and_again_when_something_was_refused() {
    let mut sizes = sizes(&[]);
    let topics = || ["b", "a", "a"].map(str::to_owned).into_iter();
    assert_eq!(sizes.due(topics()), ["a", "b"]);
    sizes.learn(answer(&[0]));
    assert_eq!(sizes.due(topics()), ["b"]);
    sizes.shrink();
    assert_eq!(sizes.due(topics()), ["a", "b"]);
    sizes.learn(answer(&[0, 0]));
    assert!(sizes.may_grow());
    assert_eq!(sizes.due(topics()), ["a", "b"]);
}

#[test]
fn a_record_that_was_refused_is_tried_again_once_for_each_size() {
    let mut sizes = sizes(&[]);
    assert!(sizes.may_grow());
    assert!(!sizes.may_grow(), "nothing has grown");
    sizes.learn(answer(&[2 * MEBIBYTE]));
    assert!(sizes.may_grow());
    assert!(!sizes.may_grow());
}

#[test]
fn batches_come_down_to_single_records_where_no_limit_is_known() {
    let mut sizes = sizes(&[]);
    for bytes in [125_000, 15_625, 1_953, 1] {
        assert_eq!(sizes.shrink(), Some(bytes));
        sizes.learn(answer(&[0, MEBIBYTE]));
        assert_eq!(sizes.batch, bytes);
    }
    assert_eq!(sizes.shrink(), None);
}

#[test]
fn a_batch_that_was_refused_is_as_large_as_the_smallest_topic_takes_it() {
    let mut sizes = sizes(&[]);
    sizes.shrink();
    assert!(sizes.learn(answer(&[400_000, MEBIBYTE])));
    assert_eq!(sizes.batch, 400_000);
    // Refused although every topic takes such batches: a record is at fault.
    sizes.shrink();
    assert!(sizes.learn(answer(&[400_000, MEBIBYTE])));
    assert_eq!(sizes.batch, 1);
}

#[test]
fn the_settings_get_what_has_changed() {
    // librdkafka reads hexadecimal numbers.
    let properties = BTreeMap::from([("message.max.bytes".to_owned(), "0x300000".to_owned())]);
    let settings = Settings::new("kafka:9092", &properties, "test", false).unwrap();
    let mut sizes = Sizes::new(&settings);
    assert_eq!(sizes.apply(&settings), settings);
    sizes.learn(answer(&[20_000]));
    let applied = sizes.apply(&settings);
    assert_eq!(applied.get("message.max.bytes"), Some("0x300000"));
    assert_eq!(applied.get("batch.size"), Some("20000"));
    let settings = Settings::new("kafka:9092", &BTreeMap::new(), "test", false).unwrap();
    let mut sizes = Sizes::new(&settings);
    sizes.learn(answer(&[5 * MEBIBYTE]));
    let applied = sizes.apply(&settings);
    assert_eq!(applied.get("message.max.bytes"), Some("5242868"));
    assert_eq!(applied.get("batch.size"), None);
}
