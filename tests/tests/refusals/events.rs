//! Events that can't be delivered: the line stops exactly there, and goes on when that is mended.

use std::collections::BTreeSet;

use walpost_tests::{Lsn, Record, unique};

use crate::{
    EVENTS, TOPICS,
    stage::{Refusal, Stage, ended},
};

#[test]
fn a_null_payload_stops_the_line() {
    let scene = Scene::new("null_payload", &[], "");
    scene.write(&Bad {
        payload: "null",
        ..scene.good()
    });
    let refusal = scene.stops_at_it(&["payload is NULL", "outbox.null_payload"], Later::Nothing);
    scene.lists(EVENTS, "A NULL payload", &refusal, &scene.topic);
    scene
        .stage
        .configure("outbox:\n  null_payload: tombstone\n");
    scene.goes_on();
}

#[test]
fn nested_headers_stop_the_line() {
    let scene = Scene::new("nested", &[], "");
    scene.write(&Bad {
        headers: r#"{"trace": {"id": 1}}"#,
        ..scene.good()
    });
    let refusal = scene.stops_at_it(&["the value of 'trace' is nested"], Later::Nothing);
    scene.lists(EVENTS, "Nested headers", &refusal, &scene.topic);
    scene
        .stage
        .configure("outbox:\n  columns:\n    headers: spare\n");
    scene.goes_on();
}

#[test]
fn a_header_of_a_reserved_name_stops_the_line() {
    for name in ["id", "type", "walpost-anything"] {
        let scene = Scene::new("reserved", &[], "");
        scene.write(&Bad {
            headers: &format!(r#"{{"fine": 1, "{name}": "mine"}}"#),
            ..scene.good()
        });
        let words = format!("the name '{name}' is walpost's own");
        let refusal = scene.stops_at_it(&[&words], Later::Nothing);
        if name == "id" {
            scene.lists(
                EVENTS,
                "A header with a reserved name",
                &refusal,
                &scene.topic,
            );
        }
    }
}

#[test]
fn a_topic_that_kafka_could_not_name_stops_the_line() {
    let scene = Scene::new("illegal", &[], "");
    scene.write(&Bad {
        destination: "orders/new ones",
        ..scene.good()
    });
    let refusal = scene.stops_at_it(&["topic name has '/' at byte 6"], Later::Nothing);
    scene.lists(
        TOPICS,
        "A topic name that Kafka does not allow",
        &refusal,
        &scene.topic,
    );
    scene
        .stage
        .configure("route:\n  topic: \"${aggregate_type}\"\n");
    scene.goes_on_with(&["--accept-config-change", "route.topic"]);
}

#[test]
fn a_topic_of_kafkas_own_stops_the_line() {
    let scene = Scene::new("internal", &[], "");
    scene.write(&Bad {
        destination: "__consumer_offsets",
        ..scene.good()
    });
    let refusal = scene.stops_at_it(&["belong to Kafka itself"], Later::Nothing);
    scene.lists(TOPICS, "A topic of Kafka itself", &refusal, &scene.topic);
}

#[test]
fn a_topic_that_is_not_listed_stops_the_line() {
    let scene = Scene::new("listed", &[], "");
    let allow = |more: &str| {
        let Scene { topic, other, .. } = &scene;
        scene.stage.configure(&format!(
            "route:\n  allow: [{topic}, \"/{other}/\"{more}]\n"
        ));
    };
    allow("");
    let third = scene.stage.kafka.topic("third", 1);
    scene.write(&Bad {
        destination: &third,
        ..scene.good()
    });
    let words = format!("route.allow does not list its topic '{third}'");
    let refusal = scene.stops_at_it(&[&words], Later::Nothing);
    scene.lists(
        TOPICS,
        "A topic that route.allow does not list",
        &refusal,
        &third,
    );
    assert_eq!(scene.stage.read(&third), []);
    allow(&format!(", {third}"));
    scene.goes_on();
    assert_eq!(ids(&scene.stage.read(&third)), BTreeSet::from([BAD]));
}

#[test]
fn a_topic_that_kafka_has_not_got_stops_the_line_after_a_wait() {
    let scene = Scene::new("unknown", &[], "delivery:\n  unknown_topic_after: 1s\n");
    let missing = unique("missing");
    scene.write(&Bad {
        destination: &missing,
        ..scene.good()
    });
    let words = format!("its topic '{missing}' does not exist");
    let refusal = scene.stops_at_it(&[&words], Later::Nothing);
    scene.lists(TOPICS, "A topic that does not exist", &refusal, &missing);
    scene.stage.kafka.create_topic(&missing, 2, &[]);
    scene.goes_on();
}

#[test]
fn a_record_above_the_clients_limit_stops_the_line() {
    let limit = |bytes: usize| format!("  properties:\n    message.max.bytes: {bytes}\n");
    let scene = Scene::new("client_limit", &[], &limit(5_000));
    scene.write(&Bad {
        payload: &random(20_000),
        ..scene.good()
    });
    let refusal = scene.stops_at_it(&["message.max.bytes=5000", "(10)"], Later::Nothing);
    scene.lists(
        EVENTS,
        "A record above message.max.bytes",
        &refusal,
        &scene.topic,
    );
    scene.stage.configure(&limit(50_000));
    scene.goes_on();
}

/// The broker refuses its whole batch: the neighbours in it are not to be blamed.
#[test]
fn a_record_above_its_topics_limit_stops_its_partition() {
    let scene = Scene::new("topic_limit", &[("max.message.bytes", "5000")], "");
    scene.write(&Bad {
        payload: &random(20_000),
        ..scene.good()
    });
    let refusal = scene.stops_at_it(&["MSG_SIZE_TOO_LARGE", "(10)"], Later::OtherPartitions);
    scene.lists(
        EVENTS,
        "A record above what its topic takes",
        &refusal,
        &scene.topic,
    );
    scene
        .stage
        .kafka
        .alter_topic(&scene.topic, "max.message.bytes", "50000");
    scene.goes_on();
}

/// Each of the records is far below the limit of the topic, all of them together are above it.
#[test]
fn records_that_fit_are_delivered_whatever_their_batch_would_be() {
    let stage = Stage::ready("small_limit");
    let topic = stage
        .kafka
        .topic_with("small_limit", 1, &[("max.message.bytes", "20000")]);
    let rows: Vec<_> = (0..100)
        .map(|_| format!("('{topic}', {})", random(1_500)))
        .collect();
    stage.database.execute(&format!(
        "insert into outbox (destination, payload) values {}",
        rows.join(", ")
    ));
    stage.once();
    assert_eq!(ids(&stage.read(&topic)).len(), 100);
}

#[test]
fn a_stream_ends_as_a_single_run_does() {
    let scene = Scene::new("stream", &[], "");
    scene.write(&Bad {
        payload: "null",
        ..scene.good()
    });
    let refusal = Refusal::of(&ended(scene.stage.walpost.start(&["run"])));
    scene.assert_refusal(&refusal, &["payload is NULL"]);
    assert_eq!(numbers(&scene.stage.read(&scene.topic)), [1, 2, 3, 4]);
}

/// A table with good events around a bad one, for two topics of one partition each.
struct Scene {
    stage: Stage,
    topic: String,
    other: String,
}

/// SQL values of the bad event.
struct Bad<'a> {
    destination: &'a str,
    payload: &'a str,
    headers: &'a str,
}

/// What may be in Kafka of what was committed after the bad event.
#[derive(PartialEq, Eq)]
enum Later {
    Nothing,
    /// Only the broker could see it.
    OtherPartitions,
}

impl Scene {
    fn new(hint: &str, topic_config: &[(&str, &str)], sections: &str) -> Self {
        let stage = Stage::ready(hint);
        stage.database.execute("alter table outbox add spare jsonb");
        stage.configure(sections);
        let topic = stage.kafka.topic_with(hint, 1, topic_config);
        let other = stage.kafka.topic("other", 1);
        Self {
            stage,
            topic,
            other,
        }
    }

    /// Values that would be fine.
    fn good(&self) -> Bad<'_> {
        Bad {
            destination: &self.topic,
            payload: "'{}'",
            headers: "{}",
        }
    }

    /// Commits three events, then one, the bad one and two more, then two.
    fn write(&self, bad: &Bad<'_>) {
        let Self {
            topic,
            other,
            stage,
        } = self;
        let insert = |destination: &str, number: u32| {
            format!(
                "insert into outbox (destination, aggregate_type, payload)
                 values ('{destination}', '{destination}', '{number}');"
            )
        };
        let Bad {
            destination,
            payload,
            headers,
        } = bad;
        let bad = format!(
            "insert into outbox (id, destination, aggregate_type, payload, headers)
             values ('{BAD}', '{destination}', '{topic}', {payload}, '{headers}');"
        );
        let transactions = [
            [1, 2, 3].map(|number| insert(topic, number)).concat(),
            insert(topic, 4) + &bad + &insert(other, 5) + &insert(topic, 6),
            insert(other, 7) + &insert(topic, 8),
        ];
        for transaction in transactions {
            stage
                .database
                .execute(&format!("begin; {transaction} commit;"));
        }
    }

    /// Twice: nothing is mended by trying again, and only what is not confirmed comes again.
    #[track_caller]
    fn stops_at_it(&self, words: &[&str], later: Later) -> Refusal {
        let mut last = None;
        let Self {
            stage,
            topic,
            other,
        } = self;
        for attempt in 1..=2 {
            let refusal = Refusal::of(&stage.finish(&["run", "--once"]));
            let commit = self.assert_refusal(&refusal, words);
            let records = stage.read(topic);
            let mut arrived = numbers(&records);
            if later == Later::Nothing {
                assert_eq!(arrived.len(), 3 + attempt, "{arrived:?}");
                assert_eq!(numbers(&stage.read(other)), [0; 0], "attempt {attempt}");
            }
            arrived.dedup();
            assert_eq!(arrived, [1, 2, 3, 4], "attempt {attempt}");
            // The first transaction is confirmed, the one with the bad event is not.
            let confirmed = stage.confirmed();
            assert!(records[2].commit_lsn() < confirmed, "{confirmed}");
            assert!(commit >= confirmed, "{commit} is confirmed ({confirmed})");
            last = Some(refusal);
        }
        last.expect("it was tried twice")
    }

    /// The refusal is on the page of mistakes.
    #[track_caller]
    fn lists(&self, section: &str, title: &str, refusal: &Refusal, topic: &str) {
        let position = position(refusal);
        let names = [
            (BAD, "018f4d6e-0bad-7bad-8bad-0badbadbad00"),
            (position, "00000000016B3748/00000001"),
            (topic, "orders"),
        ];
        self.stage.lists_with(section, title, refusal, &names);
    }

    /// It names the event, and returns where its transaction was committed.
    #[track_caller]
    fn assert_refusal(&self, refusal: &Refusal, words: &[&str]) -> Lsn {
        let what = format!("event {BAD} at ");
        refusal.assert(
            65,
            &[words, &[&what, "can't be delivered", "start again"]].concat(),
        );
        let (lsn, ordinal) = position(refusal)
            .split_once('/')
            .expect("a position has a slash");
        assert_eq!(ordinal, "00000001", "it is the second of its transaction");
        parse_lsn(lsn)
    }

    /// After the cause is mended everything arrives, what was in between included.
    #[track_caller]
    fn goes_on(&self) {
        self.goes_on_with(&[]);
    }

    #[track_caller]
    fn goes_on_with(&self, args: &[&str]) {
        let finished = self.stage.finish(&[&["run", "--once"], args].concat());
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let [topic, other] = [&self.topic, &self.other].map(|topic| self.stage.read(topic));
        let without_repeats = |records: &[Record]| {
            let mut numbers = numbers(records);
            numbers.dedup();
            numbers
        };
        assert_eq!(without_repeats(&topic), [1, 2, 3, 4, 6, 8]);
        assert_eq!(numbers(&other).last_chunk(), Some(&[5, 7]));
        let end = self.stage.database.current_lsn();
        self.stage.once();
        assert!(self.stage.confirmed() >= end);
        assert_eq!(self.stage.read(&self.topic), topic, "nothing is left");
    }
}

/// The position that a refusal names.
fn position(refusal: &Refusal) -> &str {
    let (_, rest) = refusal
        .message
        .split_once(&format!("event {BAD} at "))
        .expect("the event is named with its position");
    rest.split(' ').next().unwrap_or_default()
}

/// The numbers of the good events.
pub(crate) fn numbers(records: &[Record]) -> Vec<u64> {
    let number = |record: &Record| record.json().and_then(|json| json.as_u64());
    records.iter().filter_map(number).collect()
}

fn ids(records: &[Record]) -> BTreeSet<&str> {
    records.iter().filter_map(Record::key_text).collect()
}

fn parse_lsn(digits: &str) -> Lsn {
    u64::from_str_radix(digits, 16)
        .expect("sixteen hex digits")
        .into()
}

/// An SQL value of JSON of that size that does not compress well.
pub(crate) fn random(bytes: usize) -> String {
    let filler = std::iter::repeat_with(fastrand::alphanumeric).take(bytes);
    format!("'\"{}\"'", filler.collect::<String>())
}

const BAD: &str = "0badbadb-0bad-0bad-0bad-0badbadbad00";
