//! The keys that there are. A key that is not in this table is an error.

/// A key of the configuration: `section.name`.
#[derive(Debug)]
pub(super) struct Key {
    pub path: &'static str,
    pub kind: Kind,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One scalar.
    Text,
    /// One scalar, or a list of them.
    List,
    /// Scalars by name.
    Map,
    /// Scalars by the path below it, with dots.
    Tree,
}

pub(super) const KEYS: &[Key] = &[
    text("postgres.url"),
    text("postgres.password"),
    text("postgres.password_file"),
    text("postgres.slot"),
    text("postgres.publication"),
    list("outbox.table"),
    text("outbox.layout"),
    map("outbox.columns"),
    text("outbox.null_payload"),
    text("route.topic"),
    list("route.allow"),
    text("route.key"),
    text("route.partition_by"),
    map("route.headers"),
    list("kafka.brokers"),
    map(PROPERTIES),
    text("kafka.unsafe"),
    tree(TOPICS),
    text("delivery.in_flight_events"),
    text("delivery.in_flight_bytes"),
    text("delivery.unknown_topic_after"),
    text("shutdown.drain"),
];

/// The one map whose names have dots in them.
pub(super) const PROPERTIES: &str = "kafka.properties";

/// What is done about topics.
pub(super) const TOPICS: &str = "kafka.topics";

/// Keys and sections that are documented for later versions: no misspellings.
const LATER: &[&str] = &[
    "postgres.password_command",
    "postgres.checkpoint",
    "postgres.checkpoint_grace",
    "delivery.on_undeliverable",
    "delivery.dead_letter_topic",
    "http",
];

/// How alike two keys have to be to be taken for a misspelling, from 0 to 1.
const ALIKE_MIN: f64 = 0.75;

const fn text(path: &'static str) -> Key {
    Key {
        path,
        kind: Kind::Text,
    }
}

const fn list(path: &'static str) -> Key {
    Key {
        path,
        kind: Kind::List,
    }
}

const fn tree(path: &'static str) -> Key {
    Key {
        path,
        kind: Kind::Tree,
    }
}

const fn map(path: &'static str) -> Key {
    Key {
        path,
        kind: Kind::Map,
    }
}

/// The key of that path.
pub(super) fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
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

/// What to say about a path that is no key.
pub(super) fn unknown(path: &str) -> String {
    if LATER.contains(&path) || path.starts_with("http.") {
        return "is not available in this version".to_owned();
    }
    let candidates: Vec<&str> = match path.split_once('.') {
        Some(_) => KEYS.iter().map(|key| key.path).collect(),
        None => sections().collect(),
    };
    match nearest(path, candidates) {
        Some(known) => format!("there is no such key; did you mean {known}?"),
        None => "there is no such key".to_owned(),
    }
}

/// The candidate that a misspelt name most likely means.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A key that only lacks its section, or is in the wrong one, is more alike than its text.
    let likeness = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, candidate);
        let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
        if last(name) == last(candidate) {
            whole.max(ALIKE_MIN)
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
        assert_eq!(unknown("nothing.like_it"), "there is no such key");
        assert_eq!(unknown("http"), "is not available in this version");
    }

    #[test]
    fn every_path_has_a_section_and_a_name() {
        for key in KEYS {
            assert_eq!(key.path.split('.').count(), 2, "{}", key.path);
        }
        let sections: Vec<_> = sections().collect();
        assert_eq!(
            sections,
            [
                "postgres", "outbox", "route", "kafka", "delivery", "shutdown"
            ]
        );
    }
}
