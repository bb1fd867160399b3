//! What one source says, as a flat list of entries, and how one source lies over another.

use super::problem::{Origin, Problem};
use super::references;
use super::schema::{Form, Key};

/// A value that somebody gave.
#[derive(Clone)]
pub(super) struct Entry {
    pub key: &'static Key,
    /// The name inside a map.
    pub name: Option<String>,
    pub value: Given,
    pub origin: Origin,
    /// What was replaced in it, as it was written: `${env:NAME}`.
    pub references: Vec<String>,
}

#[derive(Clone)]
pub(super) enum Given {
    Text(String),
    List(Vec<Item>),
}

/// One of several values.
#[derive(Clone)]
pub(super) struct Item {
    pub text: String,
    pub origin: Origin,
}

impl Entry {
    /// The whole path, for messages.
    pub(super) fn path(&self) -> String {
        match &self.name {
            Some(name) => format!("{}.{name}", self.key.path),
            None => self.key.path.to_owned(),
        }
    }

    /// What it says something about: a secret has the same subject as the file or the command that
    /// it can be taken from.
    fn subject(&self) -> String {
        let path = self.path();
        let ending = if matches!(self.key.form, Form::SecretFile | Form::Property) {
            "_file"
        } else if self.key.form == Form::Command {
            "_command"
        } else {
            return path;
        };
        match path.strip_suffix(ending) {
            Some(secret) => secret.to_owned(),
            None => path,
        }
    }
}

/// What one source says.
#[derive(Default)]
pub(super) struct Layer {
    pub entries: Vec<Entry>,
    pub problems: Vec<Problem>,
    /// Paths with keys below them that were given, if only with an empty map.
    pub groups: Vec<String>,
    /// What came in the place of references: no message may quote it.
    pub hidden: Vec<String>,
}

impl Layer {
    /// Puts a layer of higher precedence over this one. An entry keeps its place in the order.
    pub(super) fn overlay(&mut self, over: Self) {
        self.problems.extend(over.problems);
        self.hidden.extend(over.hidden);
        self.groups.extend(over.groups);
        let mut added = Vec::new();
        for entry in over.entries {
            let subject = entry.subject();
            let mut replaced = None;
            let mut place = 0;
            self.entries.retain(|old| {
                let is_replaced = old.subject() == subject;
                let is_first = is_replaced && replaced.is_none();
                if is_first {
                    replaced = Some(place);
                }
                place += 1;
                is_first || !is_replaced
            });
            match replaced {
                Some(place) => self.entries[place] = entry,
                None => added.push(entry),
            }
        }
        self.entries.extend(added);
    }

    pub(super) fn problem(
        &mut self,
        origin: Origin,
        key: impl Into<String>,
        text: impl Into<String>,
    ) {
        self.problems.push(Problem::new(origin, key, text));
    }

    /// Takes a value as it stands.
    pub(super) fn push(
        &mut self,
        key: &'static Key,
        name: Option<String>,
        value: Given,
        origin: Origin,
    ) {
        self.entries.push(Entry {
            key,
            name,
            value,
            origin,
            references: Vec::new(),
        });
    }

    /// Whether a text from elsewhere than the file can be taken. A reference would be a password
    /// that nobody has.
    pub(super) fn takes(&mut self, text: &str, path: &str, origin: &Origin) -> bool {
        let taken = !references::is_in(text);
        if !taken {
            let text = "${env:…} and ${file:…} are resolved in the configuration file only: give \
                        the value itself, or a secret by its _file key";
            self.problem(origin.clone(), path, text);
        }
        taken
    }
}
