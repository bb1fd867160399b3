//! Events that can't be delivered: at whose fault, what becomes of them, and how one is let pass.

mod fault;
mod policies;
mod skips;

use std::collections::BTreeSet;

use walpost_tests::{Consumer, scaled};

use crate::{
    events::{numbers, random},
    stage::Stage,
};

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
        Self::of(Stage::ready(hint), hint, sections)
    }

    fn of(stage: Stage, hint: &str, sections: &str) -> Self {
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
        scene.make_dead_letters(more);
        scene
    }

    fn make_dead_letters(&self, more: &str) {
        let dead = &self.dead;
        self.stage.configure(&format!(
            "delivery:\n  on_undeliverable: dead_letter\n  dead_letter_topic: {dead}\n{more}"
        ));
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
