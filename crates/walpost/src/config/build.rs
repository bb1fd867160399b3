//! Entries into a [`Config`]: every value is parsed here, and every problem is found.

mod mapping;
mod postgres;

use std::collections::BTreeMap;
use std::time::Duration;

use walpost_core::limits::{UNKNOWN_TOPIC_AFTER, WindowLimits};
use walpost_core::{Mapping, Topic};
use walpost_kafka::{PropertyError, TopicPlan};

use super::kafka_files::KafkaFiles;
use super::layer::{Entry, Given, Item, Layer};
use super::origins::Origins;
use super::problem::{Origin, Problem};
use super::references::Variables;
use super::schema::{
    CREATE_TOPICS, DEAD_LETTER_DEFAULT, IN_FLIGHT_EVENTS_MAX, NAME_DEFAULT, PARTITIONS_MAX,
    PROPERTIES, REPLICATION_MAX, TOPIC_SETTINGS,
};
use super::{Config, Delivery, Kafka, OnUndeliverable, file, value};

const DEAD_LETTER_TOPIC: &str = "delivery.dead_letter_topic";

const DRAIN_DEFAULT: Duration = Duration::from_secs(20);

/// Checks everything.
pub(super) fn build(layer: Layer, variables: &Variables) -> Result<Config, Vec<Problem>> {
    let origins = Origins::of(&layer.entries);
    let mut builder = Builder {
        entries: layer.entries,
        problems: layer.problems,
        groups: layer.groups,
    };
    let postgres = builder.postgres(variables);
    let mapping_spec = builder.mapping_spec();
    let mapping = builder.mapping(&mapping_spec);
    let delivery = builder.delivery(mapping.as_ref());
    let slot = postgres
        .as_ref()
        .map_or(NAME_DEFAULT, |postgres| &postgres.slot);
    let kafka = builder.kafka(slot, delivery.window);
    let drain = builder
        .parsed("shutdown.drain", value::duration)
        .unwrap_or(DRAIN_DEFAULT);
    match (postgres, mapping, kafka) {
        (Some(postgres), Some(mapping), Some(kafka)) if builder.problems.is_empty() => Ok(Config {
            postgres,
            mapping,
            mapping_spec,
            kafka,
            delivery,
            drain,
            origins,
        }),
        _ => Err(builder.problems),
    }
}

struct Builder {
    entries: Vec<Entry>,
    problems: Vec<Problem>,
    groups: Vec<String>,
}

impl Builder {
    fn delivery(&mut self, mapping: Option<&Mapping>) -> Delivery {
        let defaults = WindowLimits::default();
        let on_undeliverable = self.one_of("delivery.on_undeliverable", &OnUndeliverable::WORDS);
        let on_undeliverable = on_undeliverable.unwrap_or(OnUndeliverable::Halt);
        let dead_letter_topic = self.dead_letter_topic();
        let fixed = mapping.and_then(Mapping::fixed_topic);
        if on_undeliverable == OnUndeliverable::DeadLetter
            && fixed.as_deref() == Some(dead_letter_topic.as_str())
        {
            let text = "is where route.topic sends every event: dead letters need another topic";
            self.wrong(DEAD_LETTER_TOPIC, text);
        }
        let events = self.parsed("delivery.in_flight_events", |text| {
            value::number(text, 1, IN_FLIGHT_EVENTS_MAX)
        });
        let bytes = self.parsed("delivery.in_flight_bytes", |text| {
            match value::size(text)? {
                0 => Err("expected more than 0 bytes".to_owned()),
                bytes => Ok(bytes),
            }
        });
        let unknown_topic_after = self.parsed("delivery.unknown_topic_after", value::duration);
        Delivery {
            on_undeliverable,
            dead_letter_topic,
            window: WindowLimits {
                events: events.unwrap_or(defaults.events),
                bytes: bytes.unwrap_or(defaults.bytes),
            },
            unknown_topic_after: unknown_topic_after.unwrap_or(UNKNOWN_TOPIC_AFTER),
            unknown_topic_after_set: unknown_topic_after.is_some(),
        }
    }

    fn dead_letter_topic(&mut self) -> Topic {
        let given = self.parsed(DEAD_LETTER_TOPIC, str::parse);
        given.unwrap_or_else(|| {
            let default = DEAD_LETTER_DEFAULT.parse();
            default.expect("the default is a topic's name")
        })
    }

    fn kafka(&mut self, slot: &str, window: WindowLimits) -> Option<Kafka> {
        let allow_unsafe = self.parsed("kafka.unsafe", value::boolean).unwrap_or(false);
        let (properties, secrets) = self.properties();
        let create_topics = self.topic_plan();
        let brokers = self.brokers();
        let files = KafkaFiles {
            // The properties are judged also where no broker is named.
            brokers: brokers.clone().unwrap_or("localhost:9092".to_owned()),
            client_id: format!("walpost-{slot}"),
            allow_unsafe,
            window,
            properties,
            secrets,
        };
        match files.settings(&files.properties) {
            Ok(settings) => Some(Kafka {
                brokers: brokers?,
                allow_unsafe,
                create_topics,
                settings,
                files,
            }),
            Err(errors) => {
                for error in errors {
                    if !self.is_consequence(&error) {
                        let text = format!("{}; {}", error.problem, error.fix);
                        self.wrong_property(&error.property, text);
                    }
                }
                None
            }
        }
    }

    /// All brokers with commas between them, if each is one.
    fn brokers(&mut self) -> Option<String> {
        const BROKERS: &str = "kafka.brokers";
        let items = self.items(BROKERS);
        if items.is_empty() {
            if self.has(BROKERS) {
                self.wrong(BROKERS, "names no broker: expected host:port, …");
            } else {
                self.missing(BROKERS, "is missing: name at least one, as localhost:9092");
            }
            return None;
        }
        let mut brokers = Vec::new();
        let mut is_whole = true;
        for Item { text, origin } in items {
            for broker in text.split(',') {
                match value::broker(broker) {
                    Ok(broker) => brokers.push(broker),
                    Err(expected) => {
                        is_whole = false;
                        let origin = origin.clone();
                        self.problems.push(Problem::new(origin, BROKERS, expected));
                    }
                }
            }
        }
        is_whole.then(|| brokers.join(","))
    }

    /// How a missing topic is made, if it is. An empty plan is one: everything as the broker has
    /// it.
    fn topic_plan(&mut self) -> Option<TopicPlan> {
        let mut number = |name: &str, max: i32| {
            self.parsed(&format!("{CREATE_TOPICS}.{name}"), |text| {
                value::number(text, 1, max)
            })
        };
        let plan = TopicPlan {
            partitions: number("partitions", PARTITIONS_MAX),
            replication: number("replication", REPLICATION_MAX),
            config: self.map(TOPIC_SETTINGS).into_iter().collect(),
        };
        let is_given =
            plan != TopicPlan::default() || self.groups.iter().any(|group| group == CREATE_TOPICS);
        is_given.then_some(plan)
    }

    /// The properties by name, the contents of files in place of their names; and those files.
    fn properties(&mut self) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let (mut properties, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        let given = self.map(PROPERTIES);
        for (name, text) in &given {
            // These are files for librdkafka itself.
            let secret_name = name.strip_suffix("_file").filter(|name| !name.is_empty());
            let Some(secret_name) = secret_name else {
                properties.insert(name.clone(), text.clone());
                continue;
            };
            let path = format!("{PROPERTIES}.{name}");
            if !walpost_kafka::is_secret(secret_name) {
                let text = "a '_file' at its end is for secrets, which this property is not";
                self.wrong(&path, text);
                continue;
            }
            if given.iter().any(|(other, _)| other == secret_name) {
                let text = format!("{secret_name} is given too: keep one of them");
                self.wrong(&path, text);
                continue;
            }
            match file::secret(text) {
                Ok(secret) => {
                    properties.insert(secret_name.to_owned(), secret);
                    secrets.insert(secret_name.to_owned(), text.clone());
                }
                Err(problem) => self.wrong(&path, problem),
            }
        }
        (properties, secrets)
    }

    /// Whether a problem of a property says nothing new, or follows from another one: what could
    /// not be read looks as if it were missing.
    fn is_consequence(&self, error: &PropertyError) -> bool {
        const PROTOCOL: &str = "security.protocol";
        let is_unread = |property: &str| {
            let path = format!("{PROPERTIES}.{property}");
            let file = format!("{path}_file");
            let problems = &self.problems;
            problems
                .iter()
                .any(|problem| problem.key == path || problem.key == file)
        };
        let of_protocol = error.problem.contains(PROTOCOL) && error.property != PROTOCOL;
        is_unread(&error.property) || of_protocol && is_unread(PROTOCOL)
    }

    /// What is given for a key of one value.
    fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.path == path)
    }

    fn has(&self, path: &str) -> bool {
        self.entry(path).is_some()
    }

    /// The value of a key with one, if it is given.
    fn text(&self, path: &str) -> Option<String> {
        match &self.entry(path)?.value {
            Given::Text(text) => Some(text.clone()),
            Given::List(_) => None,
        }
    }

    /// The values of a key, if it is given.
    fn list(&self, path: &str) -> Option<Vec<String>> {
        self.has(path)
            .then(|| self.items(path).into_iter().map(|item| item.text).collect())
    }

    /// The values of a key, each with its place.
    fn items(&self, path: &str) -> Vec<Item> {
        match self.entry(path) {
            None => Vec::new(),
            Some(entry) => match &entry.value {
                Given::List(items) => items.clone(),
                Given::Text(text) => vec![Item {
                    text: text.clone(),
                    origin: entry.origin.clone(),
                }],
            },
        }
    }

    /// Names and values of a map, in order.
    fn map(&self, path: &str) -> Vec<(String, String)> {
        let named = |entry: &Entry| match (&entry.name, &entry.value) {
            (Some(name), Given::Text(text)) if entry.key.path == path => {
                Some((name.clone(), text.clone()))
            }
            _ => None,
        };
        self.entries.iter().filter_map(named).collect()
    }

    fn parsed<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&self.text(path)?) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.wrong(path, expected);
                None
            }
        }
    }

    fn one_of<T: Copy>(&mut self, path: &str, words: &[(&str, T)]) -> Option<T> {
        self.parsed(path, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("expected {}", words.join(" or "))
            })
        })
    }

    /// A problem at the place where the key is given, or of one that nobody gave.
    fn wrong(&mut self, path: &str, text: impl Into<String>) {
        let given = self.entries.iter().find(|entry| entry.path() == path);
        let origin = given.map_or(Origin::Missing, |entry| entry.origin.clone());
        self.problems.push(Problem::new(origin, path, text));
    }

    fn wrong_property(&mut self, property: &str, text: String) {
        let path = format!("{PROPERTIES}.{property}");
        let from_file = format!("{path}_file");
        if self.entries.iter().any(|entry| entry.path() == from_file) {
            self.wrong(&from_file, text);
        } else {
            self.wrong(&path, text);
        }
    }

    /// A key that has to be given, unless it was given wrongly.
    fn missing(&mut self, path: &str, text: &str) {
        if !self.is_blamed(path) {
            self.problems
                .push(Problem::new(Origin::Missing, path, text));
        }
    }

    fn is_blamed(&self, path: &str) -> bool {
        let section = path.split('.').next().unwrap_or(path);
        self.problems.iter().any(|problem| {
            // Of a file that can't be read nobody knows what it gives.
            let unread = problem.key.is_empty() && matches!(problem.origin, Origin::File { .. });
            problem.key == path || problem.key == section || unread
        })
    }
}
