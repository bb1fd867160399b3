//! `walpost config print`: what every key came to and why, secrets masked. `walpost config schema`:
//! what keys there are, for editors.

use std::io::IsTerminal;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use walpost_core::{Layout, NullPayload, Role};
use walpost_kafka::TopicPlan;

use crate::config::{
    Config, MASK, Origins, PasswordCommand, PasswordSource, json_schema, table_text,
};
use crate::error::Error;
use crate::output::{self, Output};

/// Of a value that nobody gave.
const DEFAULT: &str = "default";

/// Prints the configuration, with the origin of each value if that is asked for or somebody looks.
pub(super) fn print(config: &Config, origins: bool, output: Output) -> Result<(), Error> {
    let rows = rows(config);
    let printed = Printed {
        rows: &rows,
        with_origins: origins,
    };
    let with_comments = origins || std::io::stdout().is_terminal();
    output.report(&printed, None, |_| yaml(&rows, with_comments))
}

/// Prints the JSON Schema.
pub(super) fn print_schema() -> Result<(), Error> {
    let schema = serde_json::to_string_pretty(&json_schema()).map_err(anyhow::Error::from)?;
    output::print(&format!("{schema}\n"))
}

/// A key, in the order and with the names of the file.
struct Row {
    path: &'static str,
    value: Shown,
    origin: String,
}

/// A value as it may be shown.
enum Shown {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
    /// Name, value and origin.
    Map(Vec<(String, String, String)>),
}

fn rows(config: &Config) -> Vec<Row> {
    let mut rows = Rows {
        origins: &config.origins,
        rows: Vec::new(),
    };
    rows.postgres(config);
    rows.outbox(config);
    rows.route(config);
    rows.kafka(config);
    let delivery = &config.delivery;
    rows.text(
        "delivery.on_undeliverable",
        delivery.on_undeliverable.word(),
    );
    rows.text(
        "delivery.dead_letter_topic",
        delivery.dead_letter_topic.as_str(),
    );
    let window = config.delivery.window;
    rows.add(
        "delivery.in_flight_events",
        Shown::Number(window.events.into()),
    );
    let bytes = u64::try_from(window.bytes).unwrap_or(u64::MAX);
    rows.add("delivery.in_flight_bytes", Shown::Number(bytes));
    let after = duration(config.delivery.unknown_topic_after);
    rows.text("delivery.unknown_topic_after", &after);
    rows.text("shutdown.drain", &duration(config.drain));
    rows.rows
}

struct Rows<'a> {
    origins: &'a Origins,
    rows: Vec<Row>,
}

impl Rows<'_> {
    fn add(&mut self, path: &'static str, value: Shown) {
        let origin = self.origins.get(path).unwrap_or(DEFAULT).to_owned();
        self.rows.push(Row {
            path,
            value,
            origin,
        });
    }

    fn text(&mut self, path: &'static str, text: &str) {
        self.add(path, Shown::Text(text.to_owned()));
    }

    fn postgres(&mut self, config: &Config) {
        const URL: &str = "postgres.url";
        const PASSWORD: &str = "postgres.password";
        let postgres = &config.postgres;
        self.rows.push(Row {
            path: URL,
            value: Shown::Text(postgres.shown_url.clone()),
            origin: self.origins.get(URL).unwrap_or("PG… variables").to_owned(),
        });
        match &postgres.password {
            PasswordSource::Fixed if self.origins.get(PASSWORD).is_some() => {
                self.text(PASSWORD, MASK);
            }
            PasswordSource::Fixed => {}
            PasswordSource::File(path) => self.text("postgres.password_file", path),
            PasswordSource::Command(command) => {
                self.add("postgres.password_command", shown_command(command));
            }
        }
        self.text("postgres.slot", &postgres.slot);
        self.text("postgres.publication", &postgres.publication);
        let checkpoint = postgres.checkpoint.as_ref();
        let table = checkpoint.map_or("none".to_owned(), |checkpoint| {
            table_text(&checkpoint.table)
        });
        self.text("postgres.checkpoint", &table);
        if let Some(checkpoint) = checkpoint {
            self.text("postgres.checkpoint_grace", &duration(checkpoint.grace));
        }
    }

    fn outbox(&mut self, config: &Config) {
        const COLUMNS: &str = "outbox.columns";
        let spec = &config.mapping_spec;
        let tables = spec.tables.iter().map(table_text).collect();
        self.add("outbox.table", Shown::List(tables));
        let layout = match spec.layout {
            Layout::Walpost => "walpost",
            Layout::Debezium => "debezium",
        };
        self.text("outbox.layout", layout);
        let columns = Role::ALL.map(|role| {
            let column = config.mapping.column(role).to_owned();
            (role.name().to_owned(), column)
        });
        self.map(COLUMNS, columns);
        let null_payload = match spec.null_payload {
            NullPayload::Refuse => "refuse",
            NullPayload::Tombstone => "tombstone",
        };
        self.text("outbox.null_payload", null_payload);
    }

    fn route(&mut self, config: &Config) {
        let spec = &config.mapping_spec;
        let layout = spec.layout;
        self.text(
            "route.topic",
            spec.topic.as_deref().unwrap_or(layout.topic()),
        );
        if !spec.allow.is_empty() {
            self.add("route.allow", Shown::List(spec.allow.clone()));
        }
        self.text("route.key", spec.key.as_deref().unwrap_or(layout.key()));
        if let Some(partition_by) = &spec.partition_by {
            self.text("route.partition_by", partition_by);
        }
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let default_headers = || layout.headers().iter().map(owned).collect();
        let headers = spec.headers.clone().unwrap_or_else(default_headers);
        self.map("route.headers", headers);
    }

    fn kafka(&mut self, config: &Config) {
        const PROPERTIES: &str = "kafka.properties";
        let kafka = &config.kafka;
        self.text("kafka.brokers", &kafka.brokers);
        let settings = &kafka.settings;
        // A property can be given under another spelling, or as the file that holds it.
        let origin = |name: &str| {
            let value = settings.get(name)?;
            self.origins.inside(PROPERTIES).find_map(|(given, origin)| {
                let given = given.strip_suffix("_file").unwrap_or(given);
                let same = settings.get(given)?;
                (given == name || std::ptr::eq(value, same)).then(|| origin.to_owned())
            })
        };
        let properties = settings
            .masked()
            .filter(|(name, _)| *name != "bootstrap.servers")
            .map(|(name, value)| {
                let origin = origin(name).unwrap_or_else(|| DEFAULT.to_owned());
                (name.to_owned(), value.to_owned(), origin)
            })
            .collect();
        self.add(PROPERTIES, Shown::Map(properties));
        self.add("kafka.unsafe", Shown::Flag(kafka.allow_unsafe));
        if let Some(plan) = &kafka.create_topics {
            self.topics(plan);
        }
    }

    fn topics(&mut self, plan: &TopicPlan) {
        const PARTITIONS: &str = "kafka.topics.create.partitions";
        const REPLICATION: &str = "kafka.topics.create.replication";
        let numbers = [
            (PARTITIONS, plan.partitions),
            (REPLICATION, plan.replication),
        ];
        for (path, number) in numbers {
            if let Some(number) = number.and_then(|number| u64::try_from(number).ok()) {
                self.add(path, Shown::Number(number));
            }
        }
        self.map("kafka.topics.create.config", plan.config.clone());
    }

    fn map(&mut self, path: &'static str, pairs: impl IntoIterator<Item = (String, String)>) {
        let origins = self.origins;
        let entry = |(name, text): (String, String)| {
            let origin = origins.get(&format!("{path}.{name}")).unwrap_or(DEFAULT);
            (name, text, origin.to_owned())
        };
        self.add(path, Shown::Map(pairs.into_iter().map(entry).collect()));
    }
}

/// The program alone: an argument can be a secret, and so can a word of a shell's command.
fn shown_command(command: &PasswordCommand) -> Shown {
    match command {
        PasswordCommand::Shell(_) => Shown::Text(MASK.to_owned()),
        PasswordCommand::Program(program, arguments) => {
            let masked = arguments.iter().map(|_| MASK.to_owned());
            Shown::List(std::iter::once(program.clone()).chain(masked).collect())
        }
    }
}

fn duration(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// All rows, with their origins beside the sections if that is asked for.
struct Printed<'a> {
    rows: &'a [Row],
    with_origins: bool,
}

impl Serialize for Printed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, group) in groups(self.rows, 0) {
            map.serialize_entry(name, &Group(group, 1))?;
        }
        if self.with_origins {
            map.serialize_entry("origins", &OriginsOf(self.rows))?;
        }
        map.end()
    }
}

/// Rows that have so many levels of their paths in common.
struct Group<'a>(&'a [Row], usize);

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(rows, depth) = *self;
        let mut map = serializer.serialize_map(None)?;
        for (name, group) in groups(rows, depth) {
            match group {
                [row] if level(row, depth + 1).is_none() => {
                    map.serialize_entry(name, &row.value)?;
                }
                group => map.serialize_entry(name, &Group(group, depth + 1))?,
            }
        }
        map.end()
    }
}

/// Neighbours with the same name at a level of their paths.
fn groups(rows: &[Row], depth: usize) -> impl Iterator<Item = (&'static str, &[Row])> {
    rows.chunk_by(move |left, right| level(left, depth) == level(right, depth))
        .filter_map(move |group| Some((level(group.first()?, depth)?, group)))
}

fn level(row: &Row, depth: usize) -> Option<&'static str> {
    row.path.split('.').nth(depth)
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::List(texts) => serializer.collect_seq(texts),
            Self::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(name, text, _)| (name, text)))
            }
        }
    }
}

/// Origins by path, in the order of the rows.
struct OriginsOf<'a>(&'a [Row]);

impl Serialize for OriginsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for Row {
            path,
            value,
            origin,
        } in self.0
        {
            match value {
                Shown::Map(entries) => {
                    for (name, _, origin) in entries {
                        map.serialize_entry(&format!("{path}.{name}"), origin)?;
                    }
                }
                Shown::Text(_) | Shown::Number(_) | Shown::Flag(_) | Shown::List(_) => {
                    map.serialize_entry(path, origin)?;
                }
            }
        }
        map.end()
    }
}

/// The rows as a configuration file, with the origins as comments.
fn yaml(rows: &[Row], with_origins: bool) -> String {
    let mut yaml = Yaml {
        text: String::new(),
        with_origins,
    };
    yaml.group(rows, 0);
    yaml.text
}

struct Yaml {
    text: String,
    with_origins: bool,
}

impl Yaml {
    fn group(&mut self, rows: &[Row], depth: usize) {
        for (name, group) in groups(rows, depth) {
            match group {
                [row] if level(row, depth + 1).is_none() => self.row(name, row, depth),
                group => {
                    self.line(depth, name, "", "");
                    self.group(group, depth + 1);
                }
            }
        }
    }

    fn row(&mut self, name: &str, row: &Row, depth: usize) {
        let shown = match &row.value {
            Shown::Text(text) => scalar(text),
            Shown::Number(number) => number.to_string(),
            Shown::Flag(flag) => flag.to_string(),
            Shown::List(texts) => {
                let items: Vec<_> = texts.iter().map(|text| scalar(text)).collect();
                format!("[{}]", items.join(", "))
            }
            Shown::Map(entries) if entries.is_empty() => "{}".to_owned(),
            Shown::Map(entries) => {
                self.line(depth, name, "", "");
                for (name, text, origin) in entries {
                    self.line(depth + 1, &scalar(name), &scalar(text), origin);
                }
                return;
            }
        };
        self.line(depth, name, &shown, &row.origin);
    }

    fn line(&mut self, depth: usize, name: &str, value: &str, origin: &str) {
        self.text.push_str(&"  ".repeat(depth));
        self.text.push_str(name);
        self.text.push(':');
        if !value.is_empty() {
            self.text.push(' ');
            self.text.push_str(value);
        }
        if self.with_origins && !origin.is_empty() {
            self.text.push_str("  # ");
            // A file's name can hold anything.
            self.text
                .extend(origin.chars().filter(|char| !char.is_control()));
        }
        self.text.push('\n');
    }
}

/// A text as a YAML scalar: as it is where nobody can take it for something else, in double quotes
/// as JSON writes them otherwise.
fn scalar(text: &str) -> String {
    const OTHERS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "nan"];
    let of_plain = |char: char| char.is_ascii_alphanumeric() || "_./-".contains(char);
    let is_plain = text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '/')
        && text.chars().all(of_plain)
        && !OTHERS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn config(set: &[&str]) -> Config {
        let minimal = [
            "postgres.url=postgresql://u:hunter2@db/shop",
            "kafka.brokers=k:9092",
        ];
        let set = minimal.iter().chain(set);
        Config::load(&Sources {
            set: set.map(|set| (*set).to_owned()).collect(),
            ..Sources::default()
        })
        .unwrap()
    }

    fn json(config: &Config) -> String {
        let rows = rows(config);
        let printed = Printed {
            rows: &rows,
            with_origins: true,
        };
        serde_json::to_string(&printed).unwrap()
    }

    #[test]
    fn secrets_are_masked_and_order_is_kept() {
        let config = config(&[
            "kafka.properties={security.protocol: sasl_ssl, sasl.mechanism: PLAIN, \
             sasl.username: u, sasl.password: hunter2}",
            "postgres.password=hunter2",
            "route.headers={z: '${id}', a: '${id}'}",
        ]);
        for text in [json(&config), yaml(&rows(&config), true)] {
            assert!(!text.contains("hunter2"), "{text}");
            assert_eq!(text.matches(MASK).count(), 3, "{text}");
            let (_, headers) = text.split_once("headers").unwrap();
            assert!(
                headers.find('z').unwrap() < headers.find("a\"").or(headers.find("a:")).unwrap(),
                "{text}"
            );
        }
    }

    #[test]
    fn of_a_command_only_the_program_is_shown() {
        for command in ["[vault, read, hunter2]", "vault read hunter2"] {
            let config = config(&[&format!("postgres.password_command={command}")]);
            let text = yaml(&rows(&config), true);
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("password_command: "), "{text}");
        }
    }

    #[test]
    fn every_value_tells_where_it_comes_from() {
        let variables = [("WALPOST_POSTGRES__SLOT", "s"), ("TOPIC", "orders")];
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("walpost.yaml");
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "hunter2").unwrap();
        let text = format!(
            "postgres: {{ url: 'postgresql://u@db/shop' }}\nkafka:\n  brokers: k:1\n  \
             properties:\n    \
             queue.buffering.max.ms: 7\n    security.protocol: sasl_ssl\n    sasl.mechanism: \
             PLAIN\n    \
             sasl.username: u\n    sasl.password_file: {}\nroute:\n  topic: x.${{env:TOPIC}}\n",
            secret.display()
        );
        std::fs::write(&file, text).unwrap();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let config = Config::load(&Sources {
            file: Some(file.clone()),
            set: vec!["shutdown.drain=1s".to_owned()],
            variables: variables.map(owned).into(),
            ..Sources::default()
        })
        .unwrap();
        let text = yaml(&rows(&config), true);
        let file = file.display();
        for line in [
            "  slot: s  # WALPOST_POSTGRES__SLOT\n".to_owned(),
            "  publication: walpost  # default\n".to_owned(),
            "  drain: \"1s\"  # --set\n".to_owned(),
            format!("  topic: x.orders  # {file}:11 ${{env:TOPIC}}\n"),
            format!("    linger.ms: \"7\"  # {file}:5\n"),
            format!("    sasl.password: \"****\"  # {file}:9\n"),
            "    acks: all  # default\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }

    /// The keys below a path of the JSON Schema, each with its example.
    fn keys_with_examples(
        path: &str,
        schema: &serde_json::Value,
        keys: &mut Vec<(String, String)>,
    ) {
        if let Some(example) = schema["examples"].get(0) {
            // JSON is YAML, but for a text of one value, which is taken as it stands.
            let text = example.as_str().map(str::to_owned);
            let text = text.unwrap_or_else(|| example.to_string());
            keys.push((path.to_owned(), text));
            return;
        }
        for (name, below) in schema["properties"].as_object().unwrap() {
            let path = format!("{path}.{name}");
            keys_with_examples(path.trim_start_matches('.'), below, keys);
        }
    }

    #[test]
    fn every_key_is_printed_with_its_origin() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "hunter2").unwrap();
        let mut keys = Vec::new();
        keys_with_examples("", &json_schema(), &mut keys);
        assert!(keys.len() > 20, "{keys:?}");
        for (path, example) in keys {
            let example = match path.as_str() {
                // References are resolved in the file only.
                "postgres.password" => "hunter2".to_owned(),
                "postgres.password_file" => secret.path().display().to_string(),
                _ => example,
            };
            let config = config(&[&format!("{path}={example}")]);
            let printed = rows(&config);
            let row = printed.iter().find(|row| row.path == path);
            let row = row.unwrap_or_else(|| panic!("{path} is not printed"));
            let is_told = if let Shown::Map(entries) = &row.value {
                entries.iter().any(|(_, _, origin)| origin == "--set")
            } else {
                row.origin == "--set"
            };
            assert!(is_told, "{path}: {}", row.origin);
        }
    }

    #[test]
    fn what_is_printed_is_a_configuration_that_says_the_same() {
        let config = config(&[
            "outbox.table=[a, '\"B c\"']",
            "outbox.columns.payload=bo'dy",
            "route.allow=['/a\\..*/', true]",
            "route.partition_by=key",
            "route.headers={\"a\\tb\": '# ${id}', 'x: y': \"1\"}",
            "kafka.properties.linger.ms=5",
            "kafka.topics.create.partitions=3",
            "kafka.topics.create.config.retention.ms=-1",
            "delivery.in_flight_bytes=1MiB",
        ]);
        let text = yaml(&rows(&config), true);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("walpost.yaml");
        std::fs::write(&file, &text).unwrap();
        let again = Config::load(&Sources {
            file: Some(file),
            ..Sources::default()
        })
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(yaml(&rows(&again), false), yaml(&rows(&config), false));
        assert_eq!(again.mapping_spec.headers, config.mapping_spec.headers);
        assert_eq!(again.kafka.create_topics, config.kafka.create_topics);
        assert_eq!(again.mapping_spec.allow, config.mapping_spec.allow);
    }
}
