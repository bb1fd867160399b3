//! Entries into a [`Config`]: every value is parsed here, and every problem is found.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;
use walpost_core::limits::{UNKNOWN_TOPIC_AFTER, WindowLimits};
use walpost_core::{Layout, Mapping, MappingSpec, NullPayload, Role, SpecError};
use walpost_kafka::{PropertyError, Settings};
use walpost_walsender::Conninfo;

use super::layer::{Entry, Given, Layer};
use super::problem::{Origin, Problem};
use super::schema::{self, PROPERTIES};
use super::{Config, Delivery, Kafka, Postgres, SPARE_SUFFIX, value};

/// Both the slot's and the publication's.
const NAME_DEFAULT: &str = "walpost";

const TABLE_DEFAULT: &str = "public.outbox";

const DRAIN_DEFAULT: Duration = Duration::from_secs(20);

/// Beyond it, tickets and reports alone would take gigabytes.
const IN_FLIGHT_EVENTS_MAX: u32 = 10_000_000;

/// A secret is a line, not a file of data.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// Variables of libpq that say where the server is: with one of them `postgres.url` can be left
/// out.
const PLACE_VARIABLES: [&str; 3] = ["PGHOST", "PGHOSTADDR", "PGDATABASE"];

/// Checks everything.
pub(super) fn build(layer: Layer, variables: &[(String, String)]) -> Result<Config, Vec<Problem>> {
    let mut builder = Builder {
        entries: layer.entries,
        problems: layer.problems,
    };
    let postgres = builder.postgres(variables);
    let mapping_spec = builder.mapping_spec();
    let mapping = builder.mapping(&mapping_spec);
    let delivery = builder.delivery();
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
        }),
        _ => Err(builder.problems),
    }
}

pub(super) struct Builder {
    pub(super) entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Builder {
    fn postgres(&mut self, variables: &[(String, String)]) -> Option<Postgres> {
        let conninfo = self.conninfo(variables);
        let slot = self.parsed("postgres.slot", value::slot);
        let bytes_max = value::IDENTIFIER_BYTES_MAX - SPARE_SUFFIX.len();
        let identifier = |text: &str| value::identifier(text, bytes_max);
        let publication = self.parsed("postgres.publication", identifier);
        Some(Postgres {
            conninfo: conninfo?,
            slot: slot.unwrap_or_else(|| NAME_DEFAULT.to_owned()),
            publication: publication.unwrap_or_else(|| NAME_DEFAULT.to_owned()),
        })
    }

    fn conninfo(&mut self, variables: &[(String, String)]) -> Option<Conninfo> {
        const URL: &str = "postgres.url";
        let password = self.password();
        let env = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        let url = self.text(URL);
        if url.is_none() && PLACE_VARIABLES.iter().all(|name| env(name).is_none()) {
            self.missing(
                URL,
                "is missing: name the database, as postgresql://walpost@localhost:5432/shop \
                 (PGHOST, PGDATABASE and the other variables of libpq do too)",
            );
            return None;
        }
        match Conninfo::parse(&url.unwrap_or_default(), &env) {
            Ok(conninfo) => Some(match password {
                Some(password) => conninfo.with_password(password),
                None => conninfo,
            }),
            Err(error) => {
                self.wrong(URL, error.to_string());
                None
            }
        }
    }

    fn password(&mut self) -> Option<SecretString> {
        const FILE: &str = "postgres.password_file";
        let password = self.text("postgres.password");
        let Some(file) = self.text(FILE) else {
            return password.map(SecretString::from);
        };
        if password.is_some() {
            self.wrong(FILE, "postgres.password is given too: keep one of them");
        }
        match secret(&file) {
            Ok(secret) => Some(secret.into()),
            Err(problem) => {
                self.wrong(FILE, problem);
                None
            }
        }
    }

    fn mapping_spec(&mut self) -> MappingSpec {
        let layout = self.one_of(
            "outbox.layout",
            &[("walpost", Layout::Walpost), ("debezium", Layout::Debezium)],
        );
        let null_payload = self.one_of(
            "outbox.null_payload",
            &[
                ("refuse", NullPayload::Refuse),
                ("tombstone", NullPayload::Tombstone),
            ],
        );
        let headers = self.map("route.headers");
        MappingSpec {
            tables: self.tables(),
            layout: layout.unwrap_or_default(),
            columns: self.columns(),
            null_payload: null_payload.unwrap_or_default(),
            topic: self.text("route.topic"),
            allow: self.list("route.allow").unwrap_or_default(),
            key: self.text("route.key"),
            partition_by: self.text("route.partition_by"),
            headers: (!headers.is_empty()).then_some(headers),
        }
    }

    fn tables(&mut self) -> Vec<walpost_core::TableName> {
        const TABLE: &str = "outbox.table";
        let names = self
            .list(TABLE)
            .unwrap_or_else(|| vec![TABLE_DEFAULT.to_owned()]);
        let mut tables = Vec::new();
        for name in names {
            match value::table(&name) {
                Ok(table) if tables.contains(&table) => {
                    self.wrong(TABLE, format!("{table} is there twice"));
                }
                Ok(table) => tables.push(table),
                Err(expected) => self.wrong(TABLE, expected),
            }
        }
        tables
    }

    fn columns(&mut self) -> Vec<(Role, String)> {
        const COLUMNS: &str = "outbox.columns";
        let mut columns = Vec::new();
        for (name, column) in self.map(COLUMNS) {
            let path = format!("{COLUMNS}.{name}");
            match (
                Role::named(&name),
                value::identifier(&column, value::IDENTIFIER_BYTES_MAX),
            ) {
                (Some(role), Ok(column)) => columns.push((role, column)),
                (Some(_), Err(expected)) => self.wrong(&path, expected),
                (None, _) => {
                    let names = Role::ALL.map(Role::name);
                    let text = match schema::nearest(&name, names) {
                        Some(known) => format!("there is no such role; did you mean {known}?"),
                        None => format!("there is no such role: it is one of {}", names.join(", ")),
                    };
                    self.wrong(&path, text);
                }
            }
        }
        columns
    }

    fn mapping(&mut self, spec: &MappingSpec) -> Option<Mapping> {
        if spec.tables.is_empty() && self.is_blamed("outbox.table") {
            return None;
        }
        match Mapping::new(spec) {
            Ok(mapping) => Some(mapping),
            Err(errors) => {
                for SpecError { key, problem } in errors {
                    self.wrong(&key, problem);
                }
                None
            }
        }
    }

    fn delivery(&mut self) -> Delivery {
        let defaults = WindowLimits::default();
        let events = self.parsed("delivery.in_flight_events", |text| {
            let number = text.parse().ok();
            number
                .filter(|events| (1..=IN_FLIGHT_EVENTS_MAX).contains(events))
                .ok_or_else(|| format!("expected a number from 1 to {IN_FLIGHT_EVENTS_MAX}"))
        });
        let bytes = self.parsed("delivery.in_flight_bytes", |text| {
            match value::size(text)? {
                0 => Err("expected more than 0 bytes".to_owned()),
                bytes => Ok(bytes),
            }
        });
        let unknown_topic_after = self.parsed("delivery.unknown_topic_after", value::duration);
        Delivery {
            window: WindowLimits {
                events: events.unwrap_or(defaults.events),
                bytes: bytes.unwrap_or(defaults.bytes),
            },
            unknown_topic_after: unknown_topic_after.unwrap_or(UNKNOWN_TOPIC_AFTER),
            unknown_topic_after_set: unknown_topic_after.is_some(),
        }
    }

    fn kafka(&mut self, slot: &str, window: WindowLimits) -> Option<Kafka> {
        const BROKERS: &str = "kafka.brokers";
        let allow_unsafe = self.parsed("kafka.unsafe", value::boolean).unwrap_or(false);
        let properties = self.properties();
        let create_topics = self.topic_plan();
        let brokers = self.list(BROKERS).map(|brokers| brokers.join(","));
        match &brokers {
            None => self.missing(BROKERS, "is missing: name at least one, as localhost:9092"),
            Some(brokers) if brokers.split(',').any(|broker| broker.trim().is_empty()) => {
                self.wrong(BROKERS, "one of them is empty: expected host:port, …");
            }
            Some(_) => {}
        }
        // The properties are judged also where no broker is named.
        let some_brokers = brokers
            .as_deref()
            .filter(|brokers| !brokers.trim().is_empty());
        let client_id = format!("walpost-{slot}");
        let settings = Settings::new(
            some_brokers.unwrap_or("localhost:9092"),
            &properties,
            &client_id,
            allow_unsafe,
        );
        match settings {
            Ok(settings) => Some(Kafka {
                brokers: brokers?,
                create_topics,
                settings: settings.with_window(
                    usize::try_from(window.events).unwrap_or(usize::MAX),
                    window.bytes,
                ),
            }),
            Err(errors) => {
                for PropertyError {
                    property,
                    problem,
                    fix,
                } in errors
                {
                    self.wrong_property(&property, format!("{problem}; {fix}"));
                }
                None
            }
        }
    }

    /// The properties by name, the contents of files in place of their names.
    fn properties(&mut self) -> BTreeMap<String, String> {
        let mut properties = BTreeMap::new();
        let given = self.map(PROPERTIES);
        for (name, text) in &given {
            let Some(secret_name) = name.strip_suffix("_file") else {
                properties.insert(name.clone(), text.clone());
                continue;
            };
            let path = format!("{PROPERTIES}.{name}");
            if given.iter().any(|(other, _)| other == secret_name) {
                self.wrong(
                    &path,
                    format!("{secret_name} is given too: keep one of them"),
                );
            }
            match secret(text) {
                Ok(secret) => {
                    properties.insert(secret_name.to_owned(), secret);
                }
                Err(problem) => self.wrong(&path, problem),
            }
        }
        properties
    }

    /// The value of a key with one, if it is given.
    fn text(&self, path: &str) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.key.path == path)?;
        match &entry.value {
            Given::Text(text) => Some(text.clone()),
            Given::List(_) => None,
        }
    }

    /// The values of a key, if it is given.
    fn list(&self, path: &str) -> Option<Vec<String>> {
        let entry = self.entries.iter().find(|entry| entry.key.path == path)?;
        Some(match &entry.value {
            Given::Text(text) => vec![text.clone()],
            Given::List(texts) => texts.clone(),
        })
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
    pub(super) fn wrong(&mut self, path: &str, text: impl Into<String>) {
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

/// The text of a file that holds a secret, without the line's end.
fn secret(file: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(Path::new(file))
        .map_err(|error| format!("can't read the file {file}: {error}"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.len() > SECRET_BYTES_MAX {
        return Err(format!(
            "the file {file} is empty, or too large for a secret"
        ));
    }
    Ok(text.to_owned())
}
