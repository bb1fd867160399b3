//! librdkafka's configuration: what we set, what the user may set, what is refused and why.
//!
//! Every property of librdkafka can be set, under its own name or an alias. Java's spellings are
//! translated where they mean the same and explained where they don't. What delivery without gaps
//! and in order rests on is guarded. All problems are found at once.

mod jaas;
mod java;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use self::java::{Given, Stores};
use crate::LOG_TARGET;
use crate::context::Redactor;
use crate::creation;
use crate::oauth::{self, Grant, TokenSource};

/// The caller's default window: records in flight.
const WINDOW_EVENTS: usize = 50_000;

/// The caller's default window: bytes of values in flight.
const WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// librdkafka keeps its queue limits in C integers.
const QUEUE_LIMIT_MAX: usize = 2_147_483_647;

const QUEUE_MESSAGES: &str = "queue.buffering.max.messages";
const QUEUE_KBYTES: &str = "queue.buffering.max.kbytes";
const MESSAGE_MAX_BYTES: &str = "message.max.bytes";
const IDEMPOTENCE: &str = "enable.idempotence";
const GAPLESS: &str = "enable.gapless.guarantee";

/// What we set where the user does not.
const DEFAULTS: &[(&str, &str)] = &[
    ("acks", "all"),
    (IDEMPOTENCE, "true"),
    // A batch that fails for good stops the producer, or later records would overtake it.
    (GAPLESS, "true"),
    // Records never time out in the queue: an outage must not make a gap.
    ("message.timeout.ms", "0"),
    // Batches form by themselves while requests are in flight.
    ("linger.ms", "0"),
    ("compression.type", "lz4"),
    ("reconnect.backoff.max.ms", "1000"),
    ("allow.auto.create.topics", "false"),
    // Kafka's own default limit for a topic, without its allowance for framing.
    (MESSAGE_MAX_BYTES, "1048576"),
    ("socket.keepalive.enable", "true"),
    // How long records wait for a topic that was deleted to come back.
    ("topic.metadata.propagation.max.ms", "10000"),
];

/// A resolved librdkafka configuration. Its `Debug` masks secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// By canonical name.
    properties: BTreeMap<String, String>,
    /// Those that the user set.
    chosen: BTreeSet<String>,
    window_events: usize,
    window_bytes: usize,
    tokens: Option<Arc<TokenSource>>,
}

/// A property that can't be used, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{property}: {problem}; {fix}")]
pub struct PropertyError {
    /// The property, as the user spelled it.
    pub property: String,
    /// What is wrong. Never the value of a secret.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl Settings {
    /// Resolves the user's properties over ours. `brokers` is the bootstrap list
    /// (`host:port,...`). `allow_unsafe` lets through what can lose or reorder records, with a
    /// warning in the log; what can't work at all is refused all the same.
    ///
    /// # Errors
    ///
    /// Every problem at once.
    pub fn new(
        brokers: &str,
        user: &BTreeMap<String, String>,
        client_id: &str,
        allow_unsafe: bool,
    ) -> Result<Self, Vec<PropertyError>> {
        let mut problems = Vec::new();
        if brokers.split(',').all(|broker| broker.trim().is_empty()) {
            problems.push(problem(
                "bootstrap.servers",
                "it is empty",
                "name at least one broker",
            ));
        }
        let given = translated(user, &mut problems);
        let mut chosen: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for Given {
            spelling,
            name,
            value,
        } in &given
        {
            let checked = check(spelling, name, value, allow_unsafe);
            let repeated = chosen.insert(name, (spelling, value));
            match (checked, repeated) {
                (Err(found), _) => problems.push(found),
                (Ok(()), Some((other, _))) => problems.push(problem(
                    spelling,
                    format!("it is another spelling of {other}, which is set too"),
                    "keep one of them",
                )),
                (Ok(()), None) => {}
            }
        }
        for found in rules::contradictions(&chosen) {
            if problems
                .iter()
                .all(|known| known.property != found.property)
            {
                problems.push(found);
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let mut properties = BTreeMap::from([
            ("bootstrap.servers".to_owned(), brokers.to_owned()),
            ("client.id".to_owned(), client_id.to_owned()),
        ]);
        properties.extend(DEFAULTS.iter().map(|(name, value)| owned(name, value)));
        properties.extend(chosen.iter().map(|(name, (_, value))| owned(name, value)));
        let tokens = Grant::of(&properties).map(|grant| Arc::new(TokenSource::new(grant)));
        let mut settings = Self {
            properties,
            chosen: chosen.keys().map(|name| (*name).to_owned()).collect(),
            window_events: WINDOW_EVENTS,
            window_bytes: WINDOW_BYTES,
            tokens,
        };
        settings.weaken();
        Ok(settings)
    }

    /// Sets one property, unguarded: for adjustments of our own, such as `batch.size`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.properties
            .insert(rules::canonical(key).to_owned(), value.to_owned());
        self
    }

    /// Makes librdkafka's queue large enough that it never fills before the caller's window of so
    /// many records and so many bytes of values does. A single record may exceed the bytes.
    #[must_use]
    pub fn with_window(mut self, events: usize, bytes: usize) -> Self {
        self.window_events = events;
        self.window_bytes = bytes;
        self
    }

    /// The value that a property was set to, by the user or by us.
    #[must_use]
    pub fn get(&self, property: &str) -> Option<&str> {
        self.properties
            .get(rules::canonical(property))
            .map(String::as_str)
    }

    /// Whether the user set a property, under any of its names.
    #[must_use]
    pub fn is_chosen(&self, property: &str) -> bool {
        self.chosen.contains(rules::canonical(property))
    }

    /// The value of a property that is a whole number, as librdkafka reads it: like C, decimal,
    /// `0x…` or octal.
    #[must_use]
    pub fn number(&self, property: &str) -> Option<usize> {
        let text = self.get(property)?.trim();
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => usize::from_str_radix(digits, 16).ok(),
            None if text.len() > 1 && text.starts_with('0') => usize::from_str_radix(text, 8).ok(),
            None => text.parse().ok(),
        }
    }

    /// The largest record that the client takes, in bytes, with Kafka's framing.
    #[must_use]
    pub fn message_max_bytes(&self) -> usize {
        self.number(MESSAGE_MAX_BYTES)
            .expect("it has a default, and librdkafka has taken any other value")
    }

    /// Every property with its value, secrets masked: for display.
    pub fn masked(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(name, value)| {
            let shown = if is_secret(name) {
                "****"
            } else {
                value.as_str()
            };
            (name.as_str(), shown)
        })
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set(QUEUE_MESSAGES, self.queue_messages().to_string());
        config.set(QUEUE_KBYTES, self.queue_kbytes().to_string());
        for (name, value) in &self.properties {
            // librdkafka, which can't fetch tokens itself, would refuse these.
            let is_ours = oauth::PROPERTIES.contains(&name.as_str());
            if !(is_ours && self.tokens.is_some()) {
                config.set(name, value);
            }
        }
        config.set_log_level(log_level());
        config
    }

    /// The files, or directories, that certificates and keys are read from.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let names = creation::FILES.iter().chain(&[oauth::CA_LOCATION]);
        let files = names.filter_map(|name| self.get(name));
        files.filter(|file| *file != "probe")
    }

    /// Where tokens come from, if logging in takes them.
    pub(crate) fn tokens(&self) -> Option<&Arc<TokenSource>> {
        self.tokens.as_ref()
    }

    pub(crate) fn redactor(&self) -> Redactor {
        let secrets = self.properties.iter().filter(|(name, _)| is_secret(name));
        Redactor::new(secrets.map(|(_, value)| value.clone()))
    }

    /// Twice the window: reports that wait to be served count as well.
    fn queue_messages(&self) -> usize {
        self.window_events
            .saturating_mul(2)
            .clamp(1_000, QUEUE_LIMIT_MAX)
    }

    /// Room for twice the window, and for one record of the largest size beside it.
    fn queue_kbytes(&self) -> usize {
        let bytes = self
            .window_bytes
            .saturating_mul(2)
            .saturating_add(self.message_max_bytes());
        (bytes / 1024).saturating_add(1).min(QUEUE_LIMIT_MAX)
    }

    /// An unsafe choice of the user takes the defaults with it that librdkafka would refuse beside
    /// it. Nothing happens to what the user has set.
    fn weaken(&mut self) {
        let breaks_idempotence = rules::GUARDS
            .iter()
            .filter(|guard| guard.is_needed_by_idempotence)
            .any(|guard| {
                self.get(guard.property)
                    .is_some_and(|value| !(guard.is_safe)(value))
            });
        if breaks_idempotence && !self.is_chosen(IDEMPOTENCE) {
            self.properties
                .insert(IDEMPOTENCE.to_owned(), "false".to_owned());
        }
        let is_idempotent = self.get(IDEMPOTENCE).is_some_and(rules::is_true);
        if !is_idempotent && !self.is_chosen(GAPLESS) {
            self.properties
                .insert(GAPLESS.to_owned(), "false".to_owned());
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

/// Whether the values of a property must never be shown. Spellings that don't exist count too: a
/// mistyped password is still a password.
#[must_use]
pub fn is_secret(property: &str) -> bool {
    const MARKS: &[&str] = &[
        "pass",
        "pasw",
        "pwd",
        "secret",
        "private.key",
        "keystore.key",
        "jaas",
        "credential",
        "oauthbearer.config",
        "oauthbearer.assertion.file",
    ];
    let property = property.to_ascii_lowercase();
    property.ends_with(".pem") || MARKS.iter().any(|mark| property.contains(mark))
}

/// The user's properties under their canonical names, in a stable order.
fn translated(user: &BTreeMap<String, String>, problems: &mut Vec<PropertyError>) -> Vec<Given> {
    let of = |name: &str| user.get(name).map(String::as_str);
    let stores = Stores {
        trust: of("ssl.truststore.location"),
        trust_type: of("ssl.truststore.type"),
        key_type: of("ssl.keystore.type"),
    };
    let mut given = Vec::new();
    for (spelling, value) in user {
        match java::translated(spelling, value, &stores) {
            Some(Ok(meant)) => given.extend(meant),
            Some(Err(found)) => problems.push(found),
            None => given.push(Given::new(spelling, rules::canonical(spelling), value)),
        }
    }
    given
}

/// Judges one property by itself.
fn check(spelling: &str, name: &str, value: &str, allow_unsafe: bool) -> Result<(), PropertyError> {
    if let Some((why, fix)) = rules::refusal(spelling, name, value) {
        return Err(problem(spelling, why, fix));
    }
    if oauth::PROPERTIES.contains(&name) {
        return rules::judge_oauth(spelling, name, value);
    }
    accepted_by_librdkafka(spelling, name, value)?;
    let guard = rules::GUARDS.iter().find(|guard| guard.property == name);
    match guard {
        Some(guard) if !(guard.is_safe)(value) => {
            if !allow_unsafe {
                let fix = format!("{} (or set kafka.unsafe: true and live with it)", guard.fix);
                return Err(problem(spelling, guard.why, fix));
            }
            tracing::warn!(target: LOG_TARGET, property = spelling, "unsafe: {}", guard.why);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// librdkafka itself knows which properties exist and which values they take.
fn accepted_by_librdkafka(spelling: &str, name: &str, value: &str) -> Result<(), PropertyError> {
    let mut config = ClientConfig::new();
    config.set(name, value);
    let Err(error) = config.create_native_config() else {
        return Ok(());
    };
    // Only a NUL byte makes another error.
    let (result, text) = if let KafkaError::ClientConfig(result, text, ..) = error {
        (result, text)
    } else {
        (RDKafkaConfRes::RD_KAFKA_CONF_INVALID, error.to_string())
    };
    if result == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        let fix = match rules::nearest(spelling) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "see librdkafka's CONFIGURATION.md for the list".to_owned(),
        };
        return Err(problem(spelling, "librdkafka has no such property", fix));
    }
    // librdkafka's text can quote the value.
    let why = if is_secret(spelling) {
        "librdkafka does not take it".to_owned()
    } else {
        text
    };
    Err(problem(
        spelling,
        why,
        "see librdkafka's CONFIGURATION.md for its range",
    ))
}

/// Lines of its information level carry reasons that no error event does; what is shown of them is
/// decided where they are logged.
fn log_level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: LOG_TARGET, tracing::Level::TRACE) {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Info
    }
}

fn problem(property: &str, problem: impl Into<String>, fix: impl Into<String>) -> PropertyError {
    PropertyError {
        property: property.to_owned(),
        problem: problem.into(),
        fix: fix.into(),
    }
}

fn owned(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
