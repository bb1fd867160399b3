//! Where the values of a configuration come from, for those who ask why one is what it is.

use std::collections::BTreeMap;

use super::layer::Entry;
use super::problem::Origin;

/// The origin of each value that somebody gave, by its path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(BTreeMap<String, String>);

impl Origins {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let origin = |entry: &Entry| {
            let mut origin = match &entry.origin {
                Origin::File { file, at: Some(at) } => format!("{file}:{}", at.line),
                Origin::File { file, at: None } => file.to_string(),
                Origin::Environment(name) => name.clone(),
                Origin::Flag => "--set".to_owned(),
                Origin::Missing => "default".to_owned(),
            };
            for reference in &entry.references {
                origin.push(' ');
                origin.push_str(reference);
            }
            (entry.path(), origin)
        };
        Self(entries.iter().map(origin).collect())
    }

    /// As `walpost.yaml:3`, a variable's name or `--set`, with the references that are in the
    /// value. None: nobody gave it.
    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// The given paths inside a map, without the map's own.
    pub(crate) fn inside<'a>(&'a self, map: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(path, origin)| {
            let name = path.strip_prefix(map)?.strip_prefix('.')?;
            Some((name, origin.as_str()))
        })
    }
}
