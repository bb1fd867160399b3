//! What `delivery.on_undeliverable` does with events that can't be delivered, and `walpost skip`.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use walpost_tests::{Consumer, Record, scaled, unique, wait_until};

use crate::{
    EVENTS, SOON,
    events::{alter_topic, raise_limit, random},
    stage::{Refusal, Stage},
};

/// One try of a held event after the other.
const RETRY: Duration = Duration::from_secs(30);

#[test]
fn an_event_that_an_operator_lets_pass_is_passed_over_and_everything_else_arrives() {
    let scene = Scene::new("skip", "");
    scene.write(1..=2);
    let bad = scene.write_null();
    scene.write(3..=4);
    let refusal = scene
        .stage
        .refused(65, &["payload is NULL", "walpost skip"]);
    let (position, id) = named(&refusal.message);
    assert_eq!(id, bad);
    let fix = refusal.fix.unwrap();
    assert!(
        fix.contains(&format!("walpost skip {position} {id} --reason")),
        "{fix}"
    );

    let skip = |args: &[&str]| scene.stage.finish(&[&["skip"], args].concat());
    let done = skip(&[&position, &id, "--reason", "delivered by hand"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("delivered by hand"), "{}", done.stdout);
    let again = skip(&[&position, &id, "--reason", "delivered by hand"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let shouted = skip(&[
        &position,
        &id.to_uppercase(),
        "--reason",
        "x",
        "--by",
        "Ada",
    ]);
    assert_eq!(shouted.code, 0, "{}", shouted.stderr);

    let finished = scene.stage.once();
    assert!(
        finished.stderr.contains("passed over"),
        "{}",
        finished.stderr
    );
    assert_eq!(scene.numbers(), [1, 2, 3, 4]);
    let list = skip(&["--list", "--json"]);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let listed = &list["result"]["skips"];
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "{list}");
    let reasons = |is_adas: bool| {
        let by = |line: &&Value| line["by"] == "Ada as postgres";
        let mut lines = listed.iter().filter(|line| by(line) == is_adas);
        lines.next().map(|line| line["reason"].as_str().unwrap())
    };
    assert_eq!(reasons(true), Some("x"));
    assert_eq!(reasons(false), Some("delivered by hand"));

    scene.stage.once();
    let refusal = Refusal::of(&skip(&[&position, &id, "--reason", "again"]));
    refusal.assert(64, &["is delivered and confirmed", "nothing to pass over"]);
    let title = "`walpost skip` for what is confirmed already";
    let words = refusal.message.split("up to ").nth(1).unwrap();
    let confirmed = words.split(')').next().unwrap();
    let names = [
        (position.as_str(), "00000000016B3748/00000000"),
        (confirmed, "0/16B3900"),
    ];
    scene.stage.lists_with(EVENTS, title, &refusal, &names);
}

#[test]
fn a_skip_with_another_id_lets_nothing_pass() {
    let scene = Scene::new("other_id", "");
    let bad = scene.write_null();
    let refusal = scene.stage.refused(65, &["payload is NULL"]);
    let (position, id) = named(&refusal.message);
    assert_eq!(id, bad);
    let args = [
        "skip",
        &position,
        &unique("another"),
        "--reason",
        "a typing error",
    ];
    assert_eq!(scene.stage.finish(&args).code, 0);
    scene.stage.refused(65, &["payload is NULL", &bad]);
}

#[test]
fn without_a_checkpoint_an_event_is_passed_over_by_a_flag() {
    let scene = Scene::new("stateless", "");
    let none = "--set=postgres.checkpoint=none";
    scene.write(1..=1);
    let bad = scene.write_null();
    scene.write(2..=2);
    let refusal = Refusal::of(&scene.stage.finish(&["run", "--once", none]));
    refusal.assert(
        65,
        &["payload is NULL", &format!("walpost run --skip-id={bad}")],
    );
    let args = [
        "skip",
        &named(&refusal.message).0,
        &bad,
        "--reason",
        "x",
        none,
    ];
    let refusal = Refusal::of(&scene.stage.finish(&args));
    refusal.assert(78, &["postgres.checkpoint is none", "--skip-id"]);
    scene
        .stage
        .lists(EVENTS, "`walpost skip` without a checkpoint", &refusal);
    let args = ["run", "--once", "--skip-id", &bad];
    let refusal = Refusal::of(&scene.stage.finish(&args));
    refusal.assert(64, &["--skip-id is for postgres.checkpoint: none"]);
    scene
        .stage
        .lists(EVENTS, "`--skip-id` with a checkpoint", &refusal);
    let finished = scene.stage.finish(&[&args[..], &[none]].concat());
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(scene.numbers(), [1, 2]);
}

#[test]
fn where_the_table_of_skips_can_not_be_read_it_is_told() {
    let scene = Scene::new("no_table", "");
    scene.stage.database.execute("drop table walpost.skip");
    let findings = |scene: &Scene| {
        let check = scene.stage.finish(&["check", "--json"]);
        check.stdout.contains("WP-SKIP-TABLE")
    };
    assert!(findings(&scene));
    scene.write(1..=1);
    scene.stage.once();
    let args = ["skip", "FFFFFFFF00000000/00000000", "id", "--reason", "x"];
    let refusal = Refusal::of(&scene.stage.finish(&args));
    refusal.assert(78, &["walpost.skip", "walpost init --apply"]);
    scene.stage.init();
    assert!(!findings(&scene));
}

#[test]
fn a_relay_that_holds_stays_without_a_stream_and_goes_on_when_an_operator_lets_the_event_pass() {
    let scene = Scene::new("hold", "delivery:\n  on_undeliverable: hold\n");
    scene.write(1..=2);
    let bad = scene.write_null();
    scene.write(3..=4);
    let running = scene.stage.walpost.start(&["run"]);
    let log = running.wait_for_log("holding the line", SOON);
    let line = log
        .lines()
        .find(|line| line.contains("holding the line"))
        .unwrap();
    let (position, id) = named(line);
    assert_eq!(id, bad);
    wait_until(SOON, "the slot is free", || {
        let slot = scene.stage.database.slot(&scene.stage.slot)?;
        slot.active_pid.is_none().then_some(())
    });
    assert_eq!(scene.numbers(), [1, 2]);
    let args = ["skip", &position, &id, "--reason", "not needed"];
    assert_eq!(scene.stage.finish(&args).code, 0);
    scene.consumer().wait_for(4, SOON);
    assert!(running.log().contains("an operator lets the event pass"));
    scene.write(5..=5);
    scene.consumer().wait_for(5, SOON);
    assert_eq!(scene.numbers(), [1, 2, 3, 4, 5]);
    let log = running.stop(SOON).stderr;
    assert_eq!(log.matches("holding the line").count(), 1, "{log}");
}

#[test]
fn a_relay_that_holds_tries_the_event_again_and_stops_when_it_is_asked_to() {
    let sections = "delivery:\n  on_undeliverable: hold\n  unknown_topic_after: 1s\n";
    let scene = Scene::new("retry", sections);
    let missing = unique("missing");
    scene.stage.write(&missing, "1");
    scene.write(2..=2);
    let running = scene.stage.walpost.start(&["run"]);
    running.wait_for_log("holding the line", SOON);
    assert_eq!(scene.numbers(), [0; 0], "nothing later of any topic");
    scene.stage.kafka.create_topic(&missing, 1, &[]);
    scene.consumer().wait_for(1, SOON + RETRY);
    assert_eq!(scene.stage.read(&missing).len(), 1);
    scene.write_null();
    running.wait_for_log("payload is NULL", SOON);
    let finished = running.stop(SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(
        Refusal::of(&scene.stage.finish(&["run", "--once"])).code,
        65
    );
}

/// The client itself refuses what no topic takes. The topics are asked again, but not at every try.
#[test]
fn a_relay_that_holds_goes_on_when_a_topic_takes_larger_events() {
    let scene = Scene::new("raised", "delivery:\n  on_undeliverable: hold\n");
    scene.insert(&scene.topic, &random(2_000_000), "{}");
    let running = scene.stage.walpost.start(&["run"]);
    running.wait_for_log("holding the line", SOON);
    raise_limit(&scene.stage.kafka.brokers(), &scene.topic, 3_000_000);
    scene.consumer().wait_for(1, SOON + 3 * RETRY);
    assert_eq!(running.stop(SOON).code, 0);
}

#[test]
fn what_can_not_be_delivered_goes_to_the_dead_letter_topic_and_the_rest_arrives_in_order() {
    let scene = Scene::dead("dead", "  unknown_topic_after: 1s\n");
    let mut bad = Vec::new();
    let mut number = 0;
    let mut between = |scene: &Scene| {
        number += 3;
        scene.write(number - 2..=number);
    };
    between(&scene);
    let Scene { topic, small, .. } = &scene;
    let missing = unique("missing");
    for (error, destination, payload, headers) in [
        ("null-payload", topic.as_str(), "null".to_owned(), "{}"),
        ("illegal-topic", "no topic", "'1'".to_owned(), "{}"),
        ("bad-headers", topic, "'1'".to_owned(), r#"{"a": {}}"#),
        ("topic-missing", &missing, "'1'".to_owned(), "{}"),
        ("topic-missing", &missing, "'2'".to_owned(), "{}"),
        ("too-large", small, random(20_000), "{}"),
        ("too-large", topic, random(2_000_000), "{}"),
    ] {
        let id = scene.insert(destination, &payload, headers);
        bad.push((error, id, destination.to_owned(), payload));
        between(&scene);
    }
    scene.stage.once();
    let mut arrived = scene.numbers();
    arrived.dedup();
    // A suffix may come again where only the broker saw it.
    let firsts: Vec<_> = firsts(&arrived);
    assert_eq!(firsts, (1..=number).collect::<Vec<_>>());
    let letters = scene.stage.read(&scene.dead);
    let ids: Vec<_> = letters
        .iter()
        .filter_map(|record| record.header("id"))
        .collect();
    let expected: Vec<_> = bad.iter().map(|(_, id, ..)| id.as_str()).collect();
    assert_eq!(ids, expected, "once each, in order");
    for (letter, (error, id, destination, payload)) in letters.iter().zip(&bad) {
        assert_eq!(letter.header("walpost-error"), Some(*error), "{letter:?}");
        assert_eq!(letter.header("walpost-topic"), Some(destination.as_str()));
        assert_eq!(letter.key_text(), Some(id.as_str()));
        assert!(letter.header("walpost-position").is_some());
        assert!(letter.header("walpost-error-detail").is_some());
        let value = letter.value.as_deref().map(String::from_utf8_lossy);
        let length = letter.header("walpost-payload-bytes");
        if *error == "too-large" {
            assert_eq!(value, None);
            assert_eq!(length, Some((payload.len() - 2).to_string().as_str()));
        } else {
            let payload = payload
                .strip_prefix('\'')
                .and_then(|text| text.strip_suffix('\''));
            assert_eq!(value.as_deref(), payload, "{error}");
            assert_eq!(length, None);
        }
    }
    // Nothing of it comes again, and all of it is confirmed.
    scene.stage.once();
    assert_eq!(scene.stage.read(&scene.dead).len(), bad.len());
}

#[test]
fn a_dead_letter_that_no_topic_takes_stops_the_line() {
    let scene = Scene::dead("no_letters", "  unknown_topic_after: 1s\n");
    scene.stage.kafka.delete_topic(&scene.dead);
    let check = scene.stage.finish(&["check"]);
    assert!(check.stdout.contains(&scene.dead), "{}", check.stdout);
    scene.write(1..=1);
    let id = scene.write_null();
    scene.write(2..=2);
    let refusal = scene
        .stage
        .refused(65, &[&id, "nor can its dead letter", &scene.dead]);
    let (position, _) = named(&refusal.message);
    let names = [
        (position.as_str(), "00000000016B3748/00000000"),
        (&id, ID),
        (&scene.dead, "walpost.dead-letter"),
    ];
    let title = "No topic for dead letters";
    scene.stage.lists_with(EVENTS, title, &refusal, &names);
    scene.stage.kafka.create_topic(&scene.dead, 1, &[]);
    scene.stage.once();
    assert_eq!(firsts(&scene.numbers()), [1, 2]);
    assert_eq!(scene.stage.read(&scene.dead).len(), 1);
}

#[test]
fn a_dead_letter_that_is_too_large_for_its_topic_goes_there_without_its_value() {
    let scene = Scene::dead("large_letter", "");
    alter_topic(
        &scene.stage.kafka.brokers(),
        &scene.dead,
        "max.message.bytes",
        "5000",
    );
    scene.write(1..=2);
    let payload = random(20_000);
    scene.insert(&scene.topic, &payload, r#"{"a": {}}"#);
    scene.write(3..=4);
    scene.stage.once();
    assert_eq!(firsts(&scene.numbers()), [1, 2, 3, 4]);
    let letters = scene.stage.read(&scene.dead);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].header("walpost-error"), Some("bad-headers"));
    assert_eq!(letters[0].value, None);
    let bytes = (payload.len() - 2).to_string();
    assert_eq!(
        letters[0].header("walpost-payload-bytes"),
        Some(bytes.as_str())
    );
}

/// The time is that of the relay's machine: no event is at fault.
#[test]
fn a_time_that_the_topic_does_not_take_stops_the_line_and_makes_no_dead_letter() {
    let mut scene = Scene::dead("times", "");
    let property = "message.timestamp.before.max.ms";
    let kafka = &scene.stage.kafka;
    scene.topic = kafka.topic_with("times", 1, &[(property, "0")]);
    let running = scene.stage.walpost.start(&["run"]);
    // What arrives within its millisecond is in time.
    let mut written = 0;
    let log = wait_until(SOON, "a record that is late", || {
        written += 1;
        scene.write(written..=written);
        let log = running.log();
        log.contains("INVALID_TIMESTAMP").then_some(log)
    });
    assert!(log.contains("clock"), "{log}");
    alter_topic(
        &scene.stage.kafka.brokers(),
        &scene.topic,
        property,
        "86400000",
    );
    scene
        .consumer()
        .wait_for(usize::try_from(written).unwrap(), SOON);
    assert_eq!(running.stop(SOON).code, 0);
    assert_eq!(firsts(&scene.numbers()), (1..=written).collect::<Vec<_>>());
    assert!(scene.stage.read(&scene.dead).is_empty());
}

/// A compacted topic takes no record without a key, and refuses its batch.
#[test]
fn a_record_that_the_broker_refuses_for_itself_is_found_among_its_neighbours() {
    let events = scaled(500, 100_000);
    let sections = "route:\n  key: ${aggregate_type}\n";
    let scene = Scene::dead("keyless", sections);
    let compacted = scene
        .stage
        .kafka
        .topic_with("compacted", 1, &[("cleanup.policy", "compact")]);
    scene.stage.database.execute(&format!(
        "insert into outbox (destination, aggregate_type, aggregate_id, payload)
         select '{compacted}', case when n % {} <> 7 then n::text end, 'a', to_jsonb(n)
         from generate_series(1, {events}) n",
        events / 2
    ));
    let finished = scene.stage.once();
    assert!(
        finished.stderr.contains("refused records together"),
        "{}",
        finished.stderr
    );
    let arrived: Vec<_> = numbers(&scene.stage.read(&compacted));
    let good = (1..=events as u64).filter(|n| n % (events as u64 / 2) != 7);
    assert_eq!(firsts(&arrived), good.collect::<Vec<_>>());
    let letters = scene.stage.read(&scene.dead);
    // Up to the end of their transaction they come again with every session.
    assert_eq!(firsts(&numbers(&letters)), [7, 7 + events as u64 / 2]);
    for letter in &letters {
        assert_eq!(letter.header("walpost-error"), Some("rejected"));
    }
}

#[test]
fn twenty_starts_against_an_event_that_the_broker_refuses_repeat_at_most_twenty_events() {
    let scene = Scene::new("restarts", "");
    scene.write(1..=30);
    scene.insert(&scene.small, &random(20_000), "{}");
    scene.write(31..=60);
    for _ in 0..scaled(5, 20) {
        scene.stage.refused(65, &["MSG_SIZE_TOO_LARGE"]);
    }
    let repeats = scene.numbers().len() - firsts(&scene.numbers()).len();
    assert!(repeats <= 20, "{repeats} repeats");
    raise_limit(&scene.stage.kafka.brokers(), &scene.small, 50_000);
    scene.stage.once();
    assert_eq!(firsts(&scene.numbers()), (1..=60).collect::<Vec<_>>());
    assert_eq!(scene.stage.read(&scene.small).len(), 1);
}

/// A value of more than half a gigabyte is more than a gigabyte of text, which the server can't
/// make.
#[test]
fn a_row_that_the_server_can_not_decode_is_told_apart_from_an_outage_and_can_be_stepped_over() {
    let scene = Scene::new("undecodable", "");
    let database = &scene.stage.database;
    database.execute("alter table outbox add blob bytea");
    scene.write(1..=1);
    database.execute(&format!(
        "insert into outbox (destination, payload, blob)
         values ('{}', '0', convert_to(repeat('x', 537000000), 'UTF8'))",
        scene.topic
    ));
    let behind = database.current_lsn().to_string();
    scene.write(2..=2);
    let running = scene.stage.walpost.start(&["run"]);
    let log = running.wait_for_log("the server can't decode what is next", SOON);
    assert!(log.contains("pg_replication_slot_advance"), "{log}");
    assert!(log.contains("--accept-slot-position"), "{log}");
    scene.consumer().wait_for(1, SOON);
    running.stop(SOON);
    let slot = &scene.stage.slot;
    database.execute(&format!(
        "select pg_replication_slot_advance('{slot}', '{behind}')"
    ));
    let position = scene.stage.confirmed().to_string();
    let args = ["run", "--once", "--accept-slot-position", &position];
    let finished = scene.stage.finish(&args);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(scene.numbers(), [1, 2]);
}

#[test]
fn three_bad_events_among_many_become_dead_letters_and_nothing_else_does() {
    let scene = Scene::dead("many_dead", "");
    let bad = scene.write_many();
    let finished = scene.stage.once();
    let letters = scene.stage.read(&scene.dead);
    let ids: Vec<_> = letters
        .iter()
        .filter_map(|record| record.header("id"))
        .collect();
    assert_eq!(
        ids,
        [&bad.null, &bad.illegal, &bad.large],
        "{}",
        finished.stderr
    );
    scene.assert_all();
}

#[test]
fn at_each_of_three_bad_events_among_many_the_line_stops_until_it_is_let_pass() {
    let scene = Scene::new("many_halts", "");
    let bad = scene.write_many();
    let mut seen = 0;
    for (id, behind) in [(&bad.null, 1), (&bad.illegal, 2), (&bad.large, 3)] {
        let refusal = scene.stage.refused(65, &[id]);
        let numbers = firsts(&scene.numbers());
        let is_ahead = |number: &u64| *number > between() * behind;
        // What only the broker saw is alone in its topic; others may be ahead.
        assert!(behind == 3 || !numbers.iter().any(is_ahead), "{numbers:?}");
        assert!(numbers.len() > seen || behind == 3, "it had gone on");
        seen = numbers.len();
        let (position, _) = named(&refusal.message);
        let args = ["skip", &position, id, "--reason", "a test"];
        assert_eq!(scene.stage.finish(&args).code, 0);
    }
    scene.stage.once();
    scene.assert_all();
}

#[test]
fn a_relay_that_holds_goes_on_behind_each_of_three_bad_events_among_many() {
    let scene = Scene::new("many_holds", "delivery:\n  on_undeliverable: hold\n");
    let bad = scene.write_many();
    let running = scene.stage.walpost.start(&["run"]);
    for id in [&bad.null, &bad.illegal, &bad.large] {
        let cause = format!("event {id} at ");
        let log = running.wait_for_log(&cause, SOON);
        let (_, rest) = log.split_once(&cause).unwrap();
        let position = rest.split(' ').next().unwrap();
        let args = ["skip", position, id, "--reason", "a test"];
        assert_eq!(scene.stage.finish(&args).code, 0);
    }
    scene
        .consumer()
        .wait_until("the last event", SOON, |records| {
            let last = records.last().and_then(Record::json);
            last.and_then(|last| last.as_u64()) == Some(between() * 4)
        });
    assert_eq!(running.stop(SOON).code, 0);
    scene.assert_all();
}

/// Events before, between and behind the bad ones, in transactions of ten.
fn between() -> u64 {
    scaled(500, 25_000)
}

/// Their ids.
struct ThreeBad {
    null: String,
    illegal: String,
    large: String,
}

/// A database, a topic, one that takes little, and one for dead letters: one partition each.
struct Scene {
    stage: Stage,
    topic: String,
    small: String,
    dead: String,
}

const ID: &str = "018f4d6e-0bad-7bad-8bad-0badbadbad00";

impl Scene {
    fn new(hint: &str, sections: &str) -> Self {
        let stage = Stage::ready(hint);
        let topic = stage.kafka.topic(hint, 1);
        let small = stage
            .kafka
            .topic_with("small", 1, &[("max.message.bytes", "5000")]);
        let dead = stage.kafka.topic("dead", 1);
        stage.configure(sections);
        Self {
            stage,
            topic,
            small,
            dead,
        }
    }

    /// With dead letters; `more` are further keys of `delivery`, or sections.
    fn dead(hint: &str, more: &str) -> Self {
        let scene = Self::new(hint, "");
        let dead = &scene.dead;
        scene.stage.configure(&format!(
            "delivery:\n  on_undeliverable: dead_letter\n  dead_letter_topic: {dead}\n{more}"
        ));
        scene
    }

    /// Events with these numbers, each in a transaction of its own.
    fn write(&self, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            self.stage.write(&self.topic, &number.to_string());
        }
    }

    /// An event without a payload. Returns its id.
    fn write_null(&self) -> String {
        self.insert(&self.topic, "null", "{}")
    }

    /// `payload` is an SQL value.
    fn insert(&self, destination: &str, payload: &str, headers: &str) -> String {
        let sql = format!(
            "insert into outbox (destination, aggregate_id, payload, headers)
             values ('{destination}', 'a', {payload}, '{headers}') returning id::text"
        );
        let row = self.stage.database.client().query_one(&sql, &[]);
        row.expect("insert an event").get(0)
    }

    /// Many good events with three bad ones among them. The large one is for the topic that takes
    /// little, so that only the broker sees it.
    fn write_many(&self) -> ThreeBad {
        let write = |part: u64| {
            let (first, last) = (part * between() + 1, (part + 1) * between());
            let topic = &self.topic;
            self.stage.database.execute(&format!(
                "do $$ begin
                     for number in {first}..{last} loop
                         insert into outbox (destination, aggregate_id, payload)
                         values ('{topic}', 'a', to_jsonb(number));
                         if number % 10 = 0 then commit; end if;
                     end loop;
                 end $$"
            ));
        };
        write(0);
        let null = self.write_null();
        write(1);
        let illegal = self.insert("no topic", "'1'", "{}");
        write(2);
        let large = self.insert(&self.small, &random(20_000), "{}");
        write(3);
        ThreeBad {
            null,
            illegal,
            large,
        }
    }

    /// All that `write_many` wrote for the topic is there, in order.
    fn assert_all(&self) {
        let expected: Vec<_> = (1..=between() * 4).collect();
        assert_eq!(firsts(&self.numbers()), expected);
        assert_eq!(self.stage.read(&self.small).len(), 0);
    }

    fn consumer(&self) -> Consumer {
        Consumer::new(&self.stage.kafka.brokers(), &self.topic)
    }

    /// The numbers in the topic.
    fn numbers(&self) -> Vec<u64> {
        numbers(&self.stage.read(&self.topic))
    }
}

fn numbers(records: &[Record]) -> Vec<u64> {
    let number = |record: &Record| record.json().and_then(|json| json.as_u64());
    records.iter().filter_map(number).collect()
}

/// Each number where it is for the first time.
fn firsts(numbers: &[u64]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    numbers
        .iter()
        .copied()
        .filter(|number| seen.insert(*number))
        .collect()
}

/// Position and id in the text of an undeliverable event.
fn named(text: &str) -> (String, String) {
    let events = text.split("event ").skip(1);
    let mut named = events.filter_map(|event| event.split_once(" at "));
    let (id, rest) = named
        .find(|(id, _)| !id.contains(' '))
        .expect("an event is named");
    let position = rest.split(' ').next().expect("its position follows");
    (position.to_owned(), id.to_owned())
}
