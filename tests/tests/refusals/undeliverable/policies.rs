//! What `delivery.on_undeliverable` does with events that can't be delivered.

use std::time::Duration;

use walpost_tests::{Record, scaled, unique};

use super::{ID, Scene, between, firsts, named};
use crate::{EVENTS, SOON, events::random, stage::Refusal};

/// One try of a held event after the other.
const RETRY: Duration = Duration::from_secs(30);

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
    let stage = &scene.stage;
    stage.database.wait_until_free(&stage.slot, SOON);
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
    let kafka = scene.stage.kafka;
    kafka.alter_topic(&scene.topic, "max.message.bytes", "3000000");
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
    let mut scene = Scene::new("large_letter", "");
    let limit = [("max.message.bytes", "5000")];
    scene.dead = scene.stage.kafka.topic_with("dead", 1, &limit);
    scene.make_dead_letters("");
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
    let kafka = scene.stage.kafka;
    kafka.alter_topic(&scene.small, "max.message.bytes", "50000");
    scene.stage.once();
    assert_eq!(firsts(&scene.numbers()), (1..=60).collect::<Vec<_>>());
    assert_eq!(scene.stage.read(&scene.small).len(), 1);
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
