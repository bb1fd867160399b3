//! The keys that there are: the one table behind the reader, `config schema` and the reference in
//! `docs/configuration.md`. A key that is not in it is an error.

use std::borrow::Cow;

/// A key of the configuration: `section.name`, or deeper.
#[derive(Debug)]
pub(super) struct Key {
    pub path: &'static str,
    pub kind: Kind,
    pub form: Form,
    /// As one would write it; none where the key is absent by default.
    pub default: Option<&'static str>,
    /// What it is for, in Markdown.
    pub description: &'static str,
    /// A value, as YAML in one line.
    pub example: &'static str,
}

/// How many values a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One scalar.
    Text,
    /// One scalar, or a list of them.
    List,
    /// Scalars by name.
    Map,
}

/// What one of its scalars is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A libpq connection string.
    Conninfo,
    /// Any text that nobody may see.
    Secret,
    /// A file that holds a secret.
    SecretFile,
    /// A program with its arguments, or one text for the shell.
    Command,
    /// The name of a replication slot.
    Slot,
    /// A name that Postgres takes, of at most so many bytes.
    Name(usize),
    /// A table's name, with or without its schema.
    Table,
    /// One of these words.
    Word(&'static [&'static str]),
    Boolean,
    /// A whole number, both ends included.
    Number(u64, u64),
    Duration,
    /// A number of bytes, at least one.
    Size,
    /// Text with `${column}` in it.
    Template,
    /// A topic's name.
    Topic,
    /// A topic, or a `/regular expression/`.
    TopicRule,
    /// `host:port`.
    Broker,
    /// One of librdkafka's properties.
    Property,
    /// One of Kafka's settings of a topic.
    TopicSetting,
}

impl Form {
    /// Whether `${name}` and its escape belong to the value itself.
    pub(super) fn is_template(self) -> bool {
        self == Self::Template
    }
}

/// Beyond it, tickets and reports alone would take gigabytes.
pub(super) const IN_FLIGHT_EVENTS_MAX: u32 = 10_000_000;

/// Both the slot's and the publication's name.
pub(super) const NAME_DEFAULT: &str = "walpost";

/// The outbox.
pub(super) const TABLE_DEFAULT: &str = "public.outbox";

/// Where the position is kept.
pub(super) const CHECKPOINT_DEFAULT: &str = "walpost.checkpoint";

/// That table's own name.
pub(super) const CHECKPOINT_TABLE: &str = "checkpoint";

/// The table of events that may be passed over, in the same schema.
pub(super) const SKIP_TABLE: &str = "skip";

/// The same where the checkpoint's table has another name: how it ends.
pub(super) const SKIP_SUFFIX: &str = "_skip";

/// In its place: nowhere.
pub(super) const NO_CHECKPOINT: &str = "none";

/// Postgres cuts longer names off, in silence.
pub(super) const IDENTIFIER_BYTES_MAX: usize = 63;

/// What the spare publication's name ends with.
pub(super) const SPARE_SUFFIX: &str = "_spare";

/// librdkafka's properties. Their names have dots in them.
pub(super) const PROPERTIES: &str = "kafka.properties";

/// Whether a missing topic is created. An empty map below it says so too.
pub(super) const CREATE_TOPICS: &str = "kafka.topics.create";

/// Kafka's settings of a topic. Their names have dots in them as well.
pub(super) const TOPIC_SETTINGS: &str = "kafka.topics.create.config";

/// More than any cluster carries.
pub(super) const PARTITIONS_MAX: i32 = 100_000;

/// Kafka keeps it in a 16-bit number.
pub(super) const REPLICATION_MAX: i32 = 32_767;

/// Where dead letters go.
pub(super) const DEAD_LETTER_DEFAULT: &str = "walpost.dead-letter";

/// Every key, by section, in the order in which a file would give them.
pub(super) const KEYS: &[Key] = &[
    Key {
        path: "postgres.url",
        kind: Kind::Text,
        form: Form::Conninfo,
        default: None,
        description: "The database, as libpq takes it: a URL or `key=value` pairs. What it leaves \
            out comes from the variables that libpq reads (`PGHOST`, `PGUSER`, …). It can be \
            absent where `PGHOST`, `PGHOSTADDR`, `PGDATABASE` or `PGSERVICE` is set. In a URL, \
            `@`, `:`, `/` and `%` inside user and password are written `%40`, `%3A`, `%2F` and \
            `%25`.",
        example: "postgresql://walpost@localhost:5432/shop",
    },
    Key {
        path: "postgres.password",
        kind: Kind::Text,
        form: Form::Secret,
        default: None,
        description: "The role's password. It wins over one in `postgres.url` and over \
            `PGPASSWORD`.",
        example: "\"${env:DB_PASSWORD}\"",
    },
    Key {
        path: "postgres.password_file",
        kind: Kind::Text,
        form: Form::SecretFile,
        default: None,
        description: "A file that holds the password. It is read anew for each connection, so a \
            rotated password needs no restart.",
        example: "/run/secrets/walpost-db",
    },
    Key {
        path: "postgres.password_command",
        kind: Kind::List,
        form: Form::Command,
        default: None,
        description: "A command that prints the password, or a token that stands in for one, as \
            the first line of its standard output. It runs anew for each connection and has 10 \
            seconds. A list is a program with its arguments; one text goes to `sh -c`. What it \
            prints, to standard error too, is never logged: run it by hand to see it.",
        example: "[vault, kv, get, -field=password, secret/shop]",
    },
    Key {
        path: "postgres.slot",
        kind: Kind::Text,
        form: Form::Slot,
        default: Some(NAME_DEFAULT),
        description: "The logical replication slot: what Postgres keeps for us until it is \
            delivered. 1 to 63 characters out of `a-z`, `0-9` and `_`. One relay reads from it at \
            a time.",
        example: "orders",
    },
    Key {
        path: "postgres.publication",
        kind: Kind::Text,
        form: Form::Name(IDENTIFIER_BYTES_MAX - SPARE_SUFFIX.len()),
        default: Some(NAME_DEFAULT),
        description: "The publication that carries the outbox tables. A second one with `_spare` \
            at its end takes over when the first is dropped by mistake.",
        example: "orders",
    },
    Key {
        path: "postgres.checkpoint",
        kind: Kind::Text,
        form: Form::Table,
        default: Some(CHECKPOINT_DEFAULT),
        description: "The table that holds the position up to which everything is delivered. The \
            slot knows it too, but goes back when the server crashes, and moves when anybody reads \
            from it. `none`: without one; then neither is noticed, and the role needs no right to \
            any table.",
        example: "none",
    },
    Key {
        path: "postgres.checkpoint_grace",
        kind: Kind::Text,
        form: Form::Duration,
        default: Some("5m"),
        description: "Events are delivered also while the checkpoint can't be written, and nothing \
            is confirmed. After this time positions are confirmed without it, so that a disk that \
            is full does not stay full; a restart then has to be told the position.",
        example: "1m",
    },
    Key {
        path: "outbox.table",
        kind: Kind::List,
        form: Form::Table,
        default: Some(TABLE_DEFAULT),
        description: "The outbox table, or a list of tables that all have the columns that are \
            used. Names are written as in SQL: `schema.name`, with double quotes around a part \
            that has capital letters or special characters. Without a schema it is `public`.",
        example: "[sales.outbox, billing.outbox]",
    },
    Key {
        path: "outbox.layout",
        kind: Kind::Text,
        form: Form::Word(&["walpost", "debezium"]),
        default: Some("walpost"),
        description: "What the other keys default to. `debezium` takes columns, topic, key and \
            headers from Debezium's outbox event router with its defaults.",
        example: "debezium",
    },
    Key {
        path: "outbox.columns",
        kind: Kind::Map,
        form: Form::Name(IDENTIFIER_BYTES_MAX),
        default: None,
        description: "What the table calls its columns, by role: `id`, `destination`, \
            `aggregate_type`, `aggregate_id`, `event_type`, `payload`, `headers` and \
            `created_at`. A role that is left out has a column of its own name. Only `id`, \
            `payload` and what the templates under `route` use have to be there, and what is \
            named here.",
        example: "{ payload: body, event_type: kind }",
    },
    Key {
        path: "outbox.null_payload",
        kind: Kind::Text,
        form: Form::Word(&["refuse", "tombstone"]),
        default: Some("refuse"),
        description: "What a row whose payload is NULL becomes: an event that can't be delivered, \
            or a record without a value, which deletes its key from a compacted topic. The JSON \
            value `null` is four bytes, and no NULL.",
        example: "tombstone",
    },
    Key {
        path: "route.topic",
        kind: Kind::Text,
        form: Form::Template,
        default: Some("${destination}"),
        description: "The topic: a [template](#templates). With `outbox.layout: debezium` it is \
            `outbox.event.${aggregate_type}` by default.",
        example: "\"shop.${aggregate_type}\"",
    },
    Key {
        path: "route.allow",
        kind: Kind::List,
        form: Form::TopicRule,
        default: None,
        description: "The topics that an event may go to: names, and regular expressions between \
            slashes, which have to match the whole name. An event for another topic is not \
            delivered. Without it a row can choose any topic whose name does not start with `__`.",
        example: "[orders, '/billing\\..*/']",
    },
    Key {
        path: "route.key",
        kind: Kind::Text,
        form: Form::Template,
        default: Some("${id}"),
        description: "The record's key: a [template](#templates). With `outbox.layout: debezium` \
            it is `${aggregate_id}` by default.",
        example: "\"${aggregate_id}\"",
    },
    Key {
        path: "route.partition_by",
        kind: Kind::Text,
        form: Form::Template,
        default: None,
        description: "What decides the partition: a [template](#templates), hashed as Java's \
            producer hashes a key, or the word `key`. By default it is the column of \
            `aggregate_id` where the key is the event's id, and the key otherwise: so the events \
            of one aggregate stay in order.",
        example: "\"${customer_id}\"",
    },
    Key {
        path: "route.headers",
        kind: Kind::Map,
        form: Form::Template,
        default: None,
        description: "The record's headers, in this order: name and [template](#templates). They \
            replace `id: ${id}` and `type: ${event_type}` (layout `debezium`: only `id`). A header \
            whose column is NULL is left out. The row's own headers, `walpost-position` and \
            `walpost-commit-time` come after them; names that start with `walpost-` are taken.",
        example: "{ id: \"${id}\", tenant: \"${tenant}\" }",
    },
    Key {
        path: "kafka.brokers",
        kind: Kind::List,
        form: Form::Broker,
        default: None,
        description: "The brokers to ask for the cluster: `host:port`, one or several, with commas \
            between them or as a list.",
        example: "[kafka-1:9092, kafka-2:9092]",
    },
    Key {
        path: PROPERTIES,
        kind: Kind::Map,
        form: Form::Property,
        default: None,
        description: "Any [property of librdkafka's producer]\
            (https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), under its \
            whole name. See [Kafka properties](#kafka-properties).",
        example: "{ security.protocol: ssl, ssl.ca.location: /etc/ssl/kafka.pem }",
    },
    Key {
        path: "kafka.unsafe",
        kind: Kind::Text,
        form: Form::Boolean,
        default: Some("false"),
        description: "Lets through the properties that are refused because events could be lost or \
            change their order, with a warning for each in the log.",
        example: "true",
    },
    Key {
        path: "kafka.topics.create.partitions",
        kind: Kind::Text,
        form: Form::Number(1, PARTITIONS_MAX as u64),
        default: None,
        description: "With any key under `kafka.topics.create`, and with `create: {}`, a topic \
            that is missing when an event names it first is created; otherwise it never is. This \
            is how many partitions it gets: by default as many as the broker gives.",
        example: "12",
    },
    Key {
        path: "kafka.topics.create.replication",
        kind: Kind::Text,
        form: Form::Number(1, REPLICATION_MAX as u64),
        default: None,
        description: "How many brokers hold each partition of a created topic: by default as many \
            as the broker chooses.",
        example: "3",
    },
    Key {
        path: TOPIC_SETTINGS,
        kind: Kind::Map,
        form: Form::TopicSetting,
        default: None,
        description: "Kafka's settings of a created topic, each under its whole name.",
        example: "{ retention.ms: 604800000, min.insync.replicas: 2 }",
    },
    Key {
        path: "delivery.on_undeliverable",
        kind: Kind::Text,
        form: Form::Word(&["halt", "hold", "dead_letter"]),
        default: Some("halt"),
        description: "What happens at an event that can't be delivered: one that is too large, \
            names no topic, …. `halt`: what is before it is delivered and confirmed, then the \
            process ends with exit code 65 and names the event. `hold`: the same, but the process \
            stays, and goes on when the cause is gone or `walpost skip` lets it pass. \
            `dead_letter`: its record goes to `delivery.dead_letter_topic`, and the line goes on. \
            See [events that can't be delivered](undeliverable.md).",
        example: "hold",
    },
    Key {
        path: "delivery.dead_letter_topic",
        kind: Kind::Text,
        form: Form::Topic,
        default: Some(DEAD_LETTER_DEFAULT),
        description: "Where `dead_letter` sends what can't be delivered. `route.allow` does not \
            apply to it.",
        example: "shop.dead-letter",
    },
    Key {
        path: "delivery.in_flight_events",
        kind: Kind::Text,
        form: Form::Number(1, IN_FLIGHT_EVENTS_MAX as u64),
        default: Some("50000"),
        description: "How many events may wait for Kafka's acknowledgement. While it is reached, \
            nothing is read from Postgres.",
        example: "10000",
    },
    Key {
        path: "delivery.in_flight_bytes",
        kind: Kind::Text,
        form: Form::Size,
        default: Some("64MiB"),
        description: "The same for the bytes of their payloads. One event that is larger is let \
            through when nothing else is in flight.",
        example: "16MiB",
    },
    Key {
        path: "delivery.unknown_topic_after",
        kind: Kind::Text,
        form: Form::Duration,
        default: Some("60s"),
        description: "How long a topic that Kafka does not know is waited for before its event \
            counts as undeliverable. With `run --once` the default is 10s.",
        example: "5m",
    },
    Key {
        path: "shutdown.drain",
        kind: Kind::Text,
        form: Form::Duration,
        default: Some("20s"),
        description: "How long a stop waits for what is in flight. What has not arrived by then \
            comes again at the next start.",
        example: "5s",
    },
];

/// Keys and sections that are documented for later versions: no misspellings.
const LATER: &[&str] = &["http"];

/// How alike two keys have to be to be taken for a misspelling, from 0 to 1.
const ALIKE_MIN: f64 = 0.75;

/// The same for what stands after the section.
const OWN_ALIKE_MIN: f64 = 0.5;

/// The key of that path.
pub(super) fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether there are keys below that path.
pub(super) fn is_group(path: &str) -> bool {
    KEYS.iter().any(|key| is_below(key.path, path))
}

/// The sections, in order.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().filter_map(move |key| {
        let section = key.path.split('.').next().unwrap_or(key.path);
        let is_new = section != last;
        last = section;
        is_new.then_some(section)
    })
}

/// The variable that sets a key.
pub(super) fn variable(path: &str) -> String {
    format!("WALPOST_{}", path.replace('.', "__").to_ascii_uppercase())
}

/// What to say about a path that is no key.
pub(super) fn unknown(path: &str) -> String {
    let is_later = |later: &str| later == path || is_below(path, later);
    if LATER.iter().any(|later| is_later(later)) {
        return "is not available in this version".to_owned();
    }
    // Of a variable or a flag what is misspelt may be a level above the last one.
    let above = || Some(path.rsplit_once('.')?.0).filter(|above| !is_group(above));
    match meant(path).or_else(|| meant(above()?)) {
        Some(known) => format!("there is no such key; did you mean {known}?"),
        None => NO_SUCH_KEY.to_owned(),
    }
}

/// Of a path that is not like any key.
pub(super) const NO_SUCH_KEY: &str = "there is no such key";

/// The key, or the section, that a misspelt path most likely means.
fn meant(path: &str) -> Option<&'static str> {
    let candidates: Vec<&str> = match path.split_once('.') {
        Some(_) => KEYS.iter().map(|key| key.path).collect(),
        None => sections().collect(),
    };
    nearest(&path.to_ascii_lowercase(), candidates)
}

/// A path as messages may show it. A name that is nobody's key can be a part of a password that
/// lacks its quotes: it is shown only if it looks like a name.
pub(super) fn shown(path: &str) -> Cow<'_, str> {
    let of_name = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
    };
    if path.len() <= 100 && path.bytes().all(of_name) || meant(path).is_some() {
        return path.into();
    }
    let known = |known: &&str| is_below(path, known);
    let map = KEYS.iter().map(|key| key.path).find(known);
    match map.or_else(|| sections().find(known)) {
        Some(known) => format!("{known}.…").into(),
        None => "…".into(),
    }
}

/// The candidate that a misspelt name most likely means.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, candidate);
        let own = strsim::normalized_damerau_levenshtein(&last(name), &last(candidate));
        if own == 1.0 {
            // It only lacks its section, or is in the wrong one.
            whole.max(ALIKE_MIN)
        } else if own < OWN_ALIKE_MIN {
            // A section that is the same makes no two keys alike.
            0.0
        } else {
            whole
        }
    };
    candidates
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_recognised() {
        let suggests = |path: &str, known: &str| {
            let text = unknown(path);
            assert!(
                text.contains(&format!("did you mean {known}?")),
                "{path}: {text}"
            );
        };
        suggests("postgres.pubication", "postgres.publication");
        suggests("kafka.broker", "kafka.brokers");
        suggests("delivery.inflight_events", "delivery.in_flight_events");
        suggests("postgress", "postgres");
        suggests("outbox.topic", "route.topic");
        suggests("kafka.propertie.acks", "kafka.properties");
        suggests("Delivery.InFlightEvents", "delivery.in_flight_events");
        suggests("KAFKA", "kafka");
        assert_eq!(unknown("nothing.like_it"), NO_SUCH_KEY);
        assert_eq!(unknown("postgres.def"), NO_SUCH_KEY);
        assert_eq!(unknown("http"), "is not available in this version");
        assert_eq!(unknown("http.listen"), "is not available in this version");
    }

    #[test]
    fn the_sections_are_in_the_order_of_a_file() {
        for key in KEYS {
            assert!(key.path.split('.').count() >= 2, "{}", key.path);
        }
        let sections: Vec<_> = sections().collect();
        assert_eq!(
            sections,
            [
                "postgres", "outbox", "route", "kafka", "delivery", "shutdown"
            ]
        );
    }

    #[test]
    fn a_name_that_can_be_a_part_of_a_password_is_not_shown() {
        assert_eq!(shown("postgres.slto"), "postgres.slto");
        assert_eq!(shown("Postgres"), "Postgres");
        assert_eq!(shown("postgres.hunter 2"), "postgres.…");
        assert_eq!(shown("postgras.Hunter2"), "…");
        assert_eq!(shown("kafka.properties.S3cret!"), "kafka.properties.…");
        assert_eq!(shown("S3cret!"), "…");
    }
}
