//! What topics take in one batch: records and batches are made to fit it, by whatever way it is
//! known.

use std::collections::BTreeSet;

use walpost_tests::{Finished, Record, Right, SecuredKafka, said};

use crate::stage::{LIMITED_LOGIN, Stage};

const REFUSED: &str = "Kafka refused records together";
const ASKED_AGAIN: &str = "asking the topics again";

#[test]
fn a_topic_that_takes_five_megabytes_gets_an_event_of_three_without_any_configuration() {
    for is_named in [true, false] {
        // A topic that only a column names is not known before.
        let counts = [(ASKED_AGAIN, usize::from(!is_named)), (REFUSED, 0)];
        says(counts, || {
            let stage = Stage::new("large");
            let topic = topic(&stage, 5 << 20);
            configure(&stage, is_named.then_some(&topic));
            write(&stage, &topic, 1, 3_000_000);
            write(&stage, &topic, 10, 100);
            let finished = stage.run_once();
            assert_eq!(finished.code, 0, "{}", finished.stderr);
            assert_eq!(stage.read(&topic).len(), 11);
            finished
        });
    }
}

#[test]
fn thousands_of_small_events_for_a_small_topic_are_never_refused() {
    says([(REFUSED, 0)], || {
        let stage = Stage::new("small");
        let topic = topic(&stage, 20_000);
        configure(&stage, Some(&topic));
        write(&stage, &topic, 5_000, 500);
        let finished = stage.run_once();
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        assert_eq!(ids(&stage, &topic), 5_000);
        let is_first_try = said(&finished.stderr, REFUSED) == 0;
        assert!(!is_first_try || stage.read(&topic).len() == 5_000);
        finished
    });
}

#[test]
fn a_small_topic_that_is_seen_late_refuses_once_and_is_then_known() {
    let finished = says([(REFUSED, 1)], || {
        let stage = Stage::new("late");
        let (large, small) = (topic(&stage, 1 << 20), topic(&stage, 20_000));
        configure(&stage, None);
        write(&stage, &large, 1_000, 500);
        write(&stage, &small, 3_000, 500);
        let finished = stage.run_once();
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        assert_eq!((ids(&stage, &large), ids(&stage, &small)), (1_000, 3_000));
        finished
    });
    let log = finished.stderr;
    assert!(log.contains("\"batch_size\":20000"), "{log}");
}

#[test]
fn batches_shrink_until_they_fit_a_topic_whose_limit_may_not_be_read() {
    let stage = Stage::new("unread");
    let topic = topic(&stage, 5_000);
    stage
        .kafka
        .grant(SecuredKafka::LIMITED, &[Right::Write(&topic)]);
    let route = format!("route:\n  topic: {topic}\n");
    stage.configure(&stage.kafka.listener("SASL"), &LIMITED_LOGIN, &route);
    write(&stage, &topic, 2_000, 500);
    let finished = stage.run_once();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(said(&finished.stderr, REFUSED) > 0, "{}", finished.stderr);
    assert_eq!(ids(&stage, &topic), 2_000);
}

/// A topic of one partition that takes batches of so many bytes.
fn topic(stage: &Stage, bytes: usize) -> String {
    let config = [("max.message.bytes", bytes.to_string())];
    let config = config
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    stage.kafka.topic_with("size", 1, &config)
}

fn configure(stage: &Stage, topic: Option<&String>) {
    let route = topic.map_or_else(String::new, |topic| format!("route:\n  topic: {topic}\n"));
    stage.configure(&stage.kafka.brokers(), &[], &route);
}

/// So many events that do not compress well.
fn write(stage: &Stage, topic: &str, events: usize, bytes: usize) {
    let hashes = bytes.div_ceil(32);
    stage.database.execute(&format!(
        "insert into outbox (destination, aggregate_id, payload)
         select '{topic}', event,
             (select to_jsonb(left(string_agg(md5(event || '.' || hash || random()), ''), {bytes}))
              from generate_series(1, {hashes}) hash)
         from generate_series(1, {events}) event"
    ));
}

/// How many events are in a topic. What was on its way at a refusal can be there twice.
fn ids(stage: &Stage, topic: &str) -> usize {
    let records = stage.read(topic);
    let ids: BTreeSet<_> = records.iter().filter_map(Record::key_text).collect();
    ids.len()
}

/// A run says each of these so many times. Its first question to the topics is given up when a busy
/// broker leaves it without an answer for two seconds, and what follows then is another story: so a
/// run that says something else has two more tries, each on a stage of its own.
#[track_caller]
fn says<const N: usize>(counts: [(&str, usize); N], run: impl Fn() -> Finished) -> Finished {
    let is_so = |finished: &Finished| {
        let mut counts = counts.iter();
        counts.all(|(words, count)| said(&finished.stderr, words) == *count)
    };
    let mut tries = std::iter::repeat_with(run).take(3).inspect(|finished| {
        if !is_so(finished) {
            println!("not {counts:?}:\n{}", finished.stderr);
        }
    });
    tries.find(is_so).expect("one of three runs says that")
}
