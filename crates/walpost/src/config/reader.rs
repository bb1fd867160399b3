//! The nodes of a YAML text become entries.

use std::sync::Arc;

use super::file;
use super::layer::{Entry, Given, Item, Layer};
use super::problem::Origin;
use super::raw::{self, Node, SyntaxError, Value};
use super::references::{self, Variables};
use super::schema::{self, Key, Kind, PROPERTIES};

/// Reads the file's bytes. `variables` are what its references can name.
pub(super) fn from_file(file: &str, bytes: &[u8], variables: &Variables) -> Layer {
    let mut layer = Layer::default();
    let file: Arc<str> = file.into();
    let root = match file::decode(bytes).and_then(raw::parse) {
        Ok(root) => root,
        Err(SyntaxError { problem, at }) => {
            layer.problem(Origin::File { file, at }, "", problem);
            return layer;
        }
    };
    let origin = |node: &Node| Origin::File {
        file: Arc::clone(&file),
        at: Some(node.at),
    };
    let mut reader = Reader {
        layer,
        origin: &origin,
        variables: Some(variables),
    };
    reader.root(&root);
    reader.layer
}

/// Reads what a key takes, or the keys below a path, from a text that is not the file's.
pub(super) fn from_text(layer: &mut Layer, path: &str, text: &str, origin: &Origin) {
    match raw::parse(text) {
        Ok(node) => {
            let origin = |_: &Node| origin.clone();
            let mut reader = Reader {
                layer: std::mem::take(layer),
                origin: &origin,
                variables: None,
            };
            match schema::key(path) {
                Some(key) => reader.value(key, &node),
                None => reader.group_value(path, &node),
            }
            *layer = reader.layer;
        }
        Err(error) => layer.problem(origin.clone(), path, error.problem),
    }
}

/// Walks nodes and makes entries.
struct Reader<'a> {
    layer: Layer,
    origin: &'a dyn Fn(&Node) -> Origin,
    /// None: references are not resolved.
    variables: Option<&'a Variables>,
}

impl Reader<'_> {
    fn problem(&mut self, node: &Node, key: impl Into<String>, text: impl Into<String>) {
        let origin = (self.origin)(node);
        self.layer.problem(origin, key, text);
    }

    fn root(&mut self, root: &Node) {
        match &root.value {
            Value::Null => {}
            Value::Map(entries) => self.group("", entries),
            other @ (Value::Scalar(_) | Value::List(_)) => {
                let text = format!(
                    "expected sections such as 'postgres:', found {}",
                    other.kind()
                );
                self.problem(root, "", text);
            }
        }
    }

    /// Keys below a path, which is empty for the sections.
    fn group(&mut self, above: &str, entries: &[(Node, Node)]) {
        self.layer.groups.push(above.to_owned());
        for (name, node) in self.named(above, entries) {
            let path = below(above, name.text);
            if let Some(key) = schema::key(&path) {
                self.value(key, node);
                continue;
            }
            if !schema::is_group(&path) {
                self.unknown(above, name, node);
                continue;
            }
            self.group_value(&path, node);
        }
    }

    fn group_value(&mut self, path: &str, node: &Node) {
        match &node.value {
            Value::Null => {}
            Value::Map(entries) => self.group(path, entries),
            other @ (Value::Scalar(_) | Value::List(_)) => {
                let text = format!("expected keys below it, found {}", other.kind());
                self.problem(node, path, text);
            }
        }
    }

    fn unknown(&mut self, above: &str, name: Name<'_>, node: &Node) {
        let path = below(above, name.text);
        let text = schema::unknown(&path);
        // What stands behind the comma of a value without quotes is a key without a value.
        if node.value == Value::Null && text == schema::NO_SUCH_KEY {
            let text = "there is no such key, and it has no value: text with a comma in it needs \
                        quotes";
            self.problem(name.node, below(above, "…"), text);
        } else {
            self.problem(name.node, path, text);
        }
    }

    fn value(&mut self, key: &'static Key, node: &Node) {
        match (key.kind, &node.value) {
            (Kind::Text | Kind::List, Value::Scalar(text)) => self.scalar(key, None, text, node),
            (Kind::List, Value::List(items)) => self.list(key, items, node),
            (Kind::Map, Value::Map(entries)) => self.map(key, entries),
            (_, Value::Null) => {
                self.problem(
                    node,
                    key.path,
                    "has no value: give it one, or take the key out",
                );
            }
            (Kind::Text, found) => self.wrong_type(key.path, "one value", found, node),
            (Kind::List, found) => self.wrong_type(key.path, "a value or a list", found, node),
            (Kind::Map, found) => self.wrong_type(key.path, "keys below it", found, node),
        }
    }

    fn list(&mut self, key: &'static Key, nodes: &[Node], node: &Node) {
        let mut items = Vec::new();
        let mut all_references = Vec::new();
        for node in nodes {
            let Value::Scalar(text) = &node.value else {
                self.wrong_type(key.path, "a list of values", &node.value, node);
                continue;
            };
            let Some((text, references)) = self.resolved(key, key.path, text, node) else {
                continue;
            };
            all_references.extend(references);
            let origin = (self.origin)(node);
            items.push(Item { text, origin });
        }
        self.layer.entries.push(Entry {
            key,
            name: None,
            value: Given::List(items),
            origin: (self.origin)(node),
            references: all_references,
        });
    }

    fn map(&mut self, key: &'static Key, entries: &[(Node, Node)]) {
        for (name, node) in self.named(key.path, entries) {
            let path = below(key.path, name.text);
            if references::is_in(name.text) {
                let text = "${env:…} and ${file:…} stand in values, not in names";
                self.problem(name.node, key.path, text);
                continue;
            }
            if let Value::Scalar(text) = &node.value {
                self.scalar(key, Some(name.text), text, node);
                continue;
            }
            let expected = if key.path == PROPERTIES {
                "one value, under the property's whole name (as sasl.username)"
            } else {
                "one value"
            };
            self.wrong_type(&path, expected, &node.value, node);
        }
    }

    fn scalar(&mut self, key: &'static Key, name: Option<&str>, text: &str, node: &Node) {
        let path = name.map_or_else(|| key.path.to_owned(), |name| below(key.path, name));
        let Some((text, references)) = self.resolved(key, &path, text, node) else {
            return;
        };
        self.layer.entries.push(Entry {
            key,
            name: name.map(str::to_owned),
            value: Given::Text(text),
            origin: (self.origin)(node),
            references,
        });
    }

    /// The value of a scalar, and what was replaced in it. None, and a problem, where that can't be
    /// done.
    fn resolved(
        &mut self,
        key: &'static Key,
        path: &str,
        text: &str,
        node: &Node,
    ) -> Option<(String, Vec<String>)> {
        let Some(variables) = self.variables else {
            let origin = (self.origin)(node);
            let taken = self.layer.takes(text, path, &origin);
            return taken.then(|| (text.to_owned(), Vec::new()));
        };
        match references::resolve(text, key.form, variables) {
            Ok(resolved) => {
                self.layer.hidden.extend(resolved.values);
                Some((resolved.text, resolved.references))
            }
            Err(problems) => {
                for problem in problems {
                    self.problem(node, path, problem);
                }
                None
            }
        }
    }

    fn wrong_type(&mut self, path: &str, expected: &str, found: &Value, node: &Node) {
        self.problem(
            node,
            path,
            format!("expected {expected}, found {}", found.kind()),
        );
    }

    /// The entries of a map whose keys are text, each once.
    fn named<'n>(&mut self, above: &str, entries: &'n [(Node, Node)]) -> Vec<(Name<'n>, &'n Node)> {
        let mut named: Vec<(Name<'n>, &'n Node)> = Vec::new();
        for (node, value) in entries {
            let Value::Scalar(text) = &node.value else {
                self.problem(
                    node,
                    above,
                    format!("a key has to be text, not {}", node.value.kind()),
                );
                continue;
            };
            match named.iter().find(|(name, _)| name.text == text) {
                None => named.push((Name { text, node }, value)),
                Some((first, _)) => {
                    let line = first.node.at.line;
                    let text = format!("is there twice, first in line {line}");
                    self.problem(node, below(above, first.text), text);
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

fn below(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{above}.{name}")
    }
}
