//! File, environment and flags become flat lists of entries, and one lies over the other.

use std::sync::Arc;

use super::problem::{Origin, Problem};
use super::raw::{self, Node, Value};
use super::schema::{self, Key, Kind, PROPERTIES, TOPICS};

/// A value that somebody gave.
#[derive(Clone)]
pub(super) struct Entry {
    pub key: &'static Key,
    /// The name inside a map.
    pub name: Option<String>,
    pub value: Given,
    pub origin: Origin,
}

#[derive(Clone)]
pub(super) enum Given {
    Text(String),
    List(Vec<String>),
}

impl Entry {
    /// The whole path, for messages.
    pub(super) fn path(&self) -> String {
        match &self.name {
            Some(name) => format!("{}.{name}", self.key.path),
            None => self.key.path.to_owned(),
        }
    }

    /// Whether both say the same thing: the same path, or a value and the file that holds it.
    fn replaces(&self, other: &Self) -> bool {
        let (new, old) = (self.path(), other.path());
        new == old
            || new.strip_suffix("_file") == Some(&old)
            || old.strip_suffix("_file") == Some(&new)
    }
}

/// What one source says.
#[derive(Default)]
pub(super) struct Layer {
    pub entries: Vec<Entry>,
    pub problems: Vec<Problem>,
}

impl Layer {
    /// Puts a layer of higher precedence over this one. An entry keeps its place in the order.
    pub(super) fn overlay(&mut self, over: Self) {
        self.problems.extend(over.problems);
        let mut added = Vec::new();
        for entry in over.entries {
            let replaced = self.entries.iter().position(|old| entry.replaces(old));
            match replaced {
                Some(place) => self.entries[place] = entry,
                None => added.push(entry),
            }
        }
        self.entries.extend(added);
    }

    fn problem(&mut self, origin: Origin, key: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem::new(origin, key, text));
    }

    fn push(&mut self, key: &'static Key, name: Option<String>, value: Given, origin: Origin) {
        self.entries.push(Entry {
            key,
            name,
            value,
            origin,
        });
    }
}

/// Reads the file's text.
pub(super) fn from_file(file: &str, text: &str) -> Layer {
    let mut layer = Layer::default();
    let file: Arc<str> = file.into();
    let root = match raw::parse(text) {
        Ok(root) => root,
        Err(raw::SyntaxError { problem, at }) => {
            layer.problem(
                Origin::File { file, at },
                "",
                format!("not valid YAML: {problem}"),
            );
            return layer;
        }
    };
    let origin = move |node: &Node| Origin::File {
        file: Arc::clone(&file),
        at: Some(node.at),
    };
    let mut reader = Reader {
        layer,
        origin: &origin,
    };
    reader.root(&root);
    reader.layer
}

/// Reads the variables that have the form of a key, `WALPOST_SECTION__KEY`. Others are not ours:
/// orchestrators make variables like `WALPOST_PORT` for a service of that name.
pub(super) fn from_environment(variables: &[(String, String)]) -> Layer {
    let mut layer = Layer::default();
    for (variable, value) in variables {
        let Some(rest) = variable.strip_prefix("WALPOST_") else {
            continue;
        };
        let origin = || Origin::Environment(variable.clone());
        let lower = rest.to_ascii_lowercase();
        if !rest.contains("__") {
            if let Some(meant) = without_level(&lower) {
                let text = format!("two underscores stand between levels: {meant}");
                layer.problem(origin(), "", text);
            }
            continue;
        }
        // Compose files pass a variable on as empty where it is not set.
        if value.is_empty() {
            continue;
        }
        let mut levels = lower.splitn(3, "__");
        let (section, key) = (levels.next().unwrap_or(""), levels.next().unwrap_or(""));
        let path = format!("{section}.{key}");
        let name = levels.next().map(|name| variable_name(&path, name));
        assign(&mut layer, &path, name, value, &origin());
    }
    layer
}

/// Reads `key=value` texts.
pub(super) fn from_flags(flags: &[String]) -> Layer {
    let mut layer = Layer::default();
    for flag in flags {
        layer.overlay(from_flag(flag));
    }
    layer
}

/// Of several flags for one key the last one counts.
fn from_flag(flag: &str) -> Layer {
    let mut layer = Layer::default();
    let Some((path, value)) = flag.split_once('=') else {
        let text = "needs the form KEY=VALUE, as postgres.slot=orders";
        layer.problem(Origin::Flag, "", text);
        return layer;
    };
    let map = schema::KEYS.iter().find_map(|key| {
        let name = path.strip_prefix(key.path)?.strip_prefix('.')?;
        let has_names = matches!(key.kind, Kind::Map | Kind::Tree);
        has_names.then(|| (key.path, name.to_owned()))
    });
    match map {
        Some((path, name)) => assign(&mut layer, path, Some(name), value, &Origin::Flag),
        None => assign(&mut layer, path, None, value, &Origin::Flag),
    }
    layer
}

/// The variable that was meant by one without the two underscores.
fn without_level(lower: &str) -> Option<String> {
    let meant = |key: &&Key| key.path.replace('.', "_") == lower;
    let key = schema::KEYS.iter().find(meant)?;
    Some(format!(
        "WALPOST_{}",
        key.path.replace('.', "__").to_ascii_uppercase()
    ))
}

/// `SASL_PASSWORD` is `sasl.password`; where a file holds a secret, `SASL_PASSWORD_FILE`.
fn variable_name(path: &str, name: &str) -> String {
    if path == TOPICS {
        // CREATE__CONFIG__RETENTION_MS: the names of Kafka's own properties have dots.
        let name = name.replace("__", ".");
        return match name.strip_prefix("create.config.") {
            Some(property) => format!("create.config.{}", property.replace('_', ".")),
            None => name,
        };
    }
    if path != PROPERTIES {
        return name.to_owned();
    }
    let dotted = |name: &str| name.replace('_', ".");
    match name.strip_suffix("_file") {
        // These are files for librdkafka itself.
        Some(secret)
            if walpost_kafka::is_secret(&dotted(secret)) && !secret.contains("assertion") =>
        {
            format!("{}_file", dotted(secret))
        }
        _ => dotted(name),
    }
}

/// Takes a text for a key. Only what has to be a list or a map is read as YAML: a password with
/// special characters needs no quotes.
fn assign(layer: &mut Layer, path: &str, name: Option<String>, value: &str, origin: &Origin) {
    let Some(key) = schema::key(path) else {
        layer.problem(origin.clone(), path, schema::unknown(path));
        return;
    };
    let structured = match (key.kind, &name) {
        (Kind::Map | Kind::Tree, None) => true,
        (Kind::List, None) => value.trim_start().starts_with('['),
        (Kind::Text, None) | (Kind::Map | Kind::Tree, Some(_)) => false,
        (Kind::Text | Kind::List, Some(_)) => {
            layer.problem(origin.clone(), path, "has no keys below it");
            return;
        }
    };
    if !structured {
        layer.push(key, name, Given::Text(value.to_owned()), origin.clone());
        return;
    }
    match raw::parse(value) {
        Ok(node) => {
            let origin = |_: &Node| origin.clone();
            let mut reader = Reader {
                layer: std::mem::take(layer),
                origin: &origin,
            };
            reader.value(key, &node);
            *layer = reader.layer;
        }
        Err(error) => {
            let text = format!("not valid YAML: {}", error.problem);
            layer.problem(origin.clone(), path, text);
        }
    }
}

/// Walks nodes and makes entries.
struct Reader<'a> {
    layer: Layer,
    origin: &'a dyn Fn(&Node) -> Origin,
}

impl Reader<'_> {
    fn problem(&mut self, node: &Node, key: impl Into<String>, text: impl Into<String>) {
        let origin = (self.origin)(node);
        self.layer.problem(origin, key, text);
    }

    fn root(&mut self, root: &Node) {
        let entries = match &root.value {
            Value::Null => return,
            Value::Map(entries) => entries,
            other @ (Value::Scalar(_) | Value::List(_)) => {
                let text = format!(
                    "expected sections such as 'postgres:', found {}",
                    other.kind()
                );
                return self.problem(root, "", text);
            }
        };
        for (name, node) in self.named("", entries) {
            if schema::sections().all(|section| section != name.text) {
                self.problem(name.node, name.text, schema::unknown(name.text));
                continue;
            }
            match &node.value {
                Value::Null => {}
                Value::Map(entries) => self.section(name.text, entries),
                other @ (Value::Scalar(_) | Value::List(_)) => {
                    let text = format!("expected keys below it, found {}", other.kind());
                    self.problem(node, name.text, text);
                }
            }
        }
    }

    fn section(&mut self, section: &str, entries: &[(Node, Node)]) {
        for (name, node) in self.named(section, entries) {
            let path = format!("{section}.{}", name.text);
            match schema::key(&path) {
                Some(key) => self.value(key, node),
                None => self.problem(name.node, &path, schema::unknown(&path)),
            }
        }
    }

    fn value(&mut self, key: &'static Key, node: &Node) {
        match (key.kind, &node.value) {
            (Kind::Text | Kind::List, Value::Scalar(text)) => self.scalar(key, None, text, node),
            (Kind::List, Value::List(items)) => self.list(key, items, node),
            (Kind::Map, Value::Map(entries)) => self.map(key, entries),
            (Kind::Tree, Value::Map(entries)) => self.tree(key, "", entries),
            (_, Value::Null) => {
                self.problem(
                    node,
                    key.path,
                    "has no value: give it one, or take the key out",
                );
            }
            (Kind::Text, found) => self.wrong_type(key.path, "one value", found, node),
            (Kind::List, found) => self.wrong_type(key.path, "a value or a list", found, node),
            (Kind::Map | Kind::Tree, found) => {
                self.wrong_type(key.path, "keys below it", found, node);
            }
        }
    }

    fn list(&mut self, key: &'static Key, items: &[Node], node: &Node) {
        let mut texts = Vec::new();
        for item in items {
            if let Value::Scalar(text) = &item.value {
                texts.push(text.clone());
            } else {
                self.wrong_type(key.path, "a list of values", &item.value, item);
            }
        }
        let origin = (self.origin)(node);
        self.layer.push(key, None, Given::List(texts), origin);
    }

    fn map(&mut self, key: &'static Key, entries: &[(Node, Node)]) {
        for (name, node) in self.named(key.path, entries) {
            if let Value::Scalar(text) = &node.value {
                self.scalar(key, Some(name.text.to_owned()), text, node);
                continue;
            }
            let path = format!("{}.{}", key.path, name.text);
            let expected = if key.path == PROPERTIES {
                "one value, under the property's whole name (as sasl.username)"
            } else {
                "one value"
            };
            self.wrong_type(&path, expected, &node.value, node);
        }
    }

    /// An empty map below it is a value: it says that something is wished, as it comes.
    fn tree(&mut self, key: &'static Key, above: &str, entries: &[(Node, Node)]) {
        let whole = |name: &str| match above {
            "" => name.to_owned(),
            above => format!("{above}.{name}"),
        };
        for (name, node) in self.named(&format!("{}{above}", key.path), entries) {
            let name = whole(name.text);
            match &node.value {
                Value::Scalar(text) => self.scalar(key, Some(name), text, node),
                Value::Map(below) if below.is_empty() => {
                    let origin = (self.origin)(node);
                    self.layer
                        .push(key, Some(name), Given::List(Vec::new()), origin);
                }
                Value::Map(below) => self.tree(key, &name, below),
                found @ (Value::Null | Value::List(_)) => {
                    let path = format!("{}.{name}", key.path);
                    self.wrong_type(&path, "one value, or keys below it", found, node);
                }
            }
        }
    }

    fn scalar(&mut self, key: &'static Key, name: Option<String>, text: &str, node: &Node) {
        let origin = (self.origin)(node);
        let entry = Entry {
            key,
            name,
            value: Given::Text(text.to_owned()),
            origin,
        };
        // Taken as it stands it would be a password nobody has.
        if text.contains("${env:") || text.contains("${file:") {
            let text = "${env:…} and ${file:…} are not available in this version: set the key by \
                        its variable (WALPOST_SECTION__KEY), or a secret by its _file key";
            self.problem(node, entry.path(), text);
        }
        self.layer.entries.push(entry);
    }

    fn wrong_type(&mut self, path: &str, expected: &str, found: &Value, node: &Node) {
        self.problem(
            node,
            path,
            format!("expected {expected}, found {}", found.kind()),
        );
    }

    /// The entries of a map whose keys are text, each once.
    fn named<'n>(&mut self, path: &str, entries: &'n [(Node, Node)]) -> Vec<(Name<'n>, &'n Node)> {
        let mut named: Vec<(Name<'n>, &'n Node)> = Vec::new();
        for (node, value) in entries {
            let Value::Scalar(text) = &node.value else {
                self.problem(
                    node,
                    path,
                    format!("a key has to be text, not {}", node.value.kind()),
                );
                continue;
            };
            match named.iter().find(|(name, _)| name.text == text) {
                None => named.push((Name { text, node }, value)),
                Some((first, _)) => {
                    let path = if path.is_empty() {
                        text
                    } else {
                        &format!("{path}.{text}")
                    };
                    let line = first.node.at.line;
                    self.problem(node, path, format!("is there twice, first in line {line}"));
                }
            }
        }
        named
    }
}

/// A key in the file.
#[derive(Clone, Copy)]
struct Name<'n> {
    text: &'n str,
    node: &'n Node,
}
