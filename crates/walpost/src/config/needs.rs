//! Which columns of the outbox tables a configuration relies on.

use std::collections::BTreeSet;

use walpost_core::{Layout, MappingSpec, NullPayload, Role};

use super::Config;

/// A column that has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeededColumn {
    pub column: String,
    /// The configuration key that names it.
    pub used_by: String,
}

impl Config {
    /// The columns that every outbox table has to have.
    pub(crate) fn needed_columns(&self) -> Vec<NeededColumn> {
        let spec = &self.mapping_spec;
        let mut needed: Vec<NeededColumn> = Vec::new();
        let mut need = |name: &str, used_by: &str| {
            let column = Role::named(name).map_or(name, |role| self.mapping.column(role));
            if needed.iter().all(|known| known.column != column) {
                needed.push(NeededColumn {
                    column: column.to_owned(),
                    used_by: used_by.to_owned(),
                });
            }
        };
        need(Role::Id.name(), "outbox.columns.id");
        need(Role::Payload.name(), "outbox.columns.payload");
        for (key, template) in templates(spec) {
            for name in columns(&template) {
                need(name, &key);
            }
        }
        for (role, _) in &spec.columns {
            need(role.name(), &format!("outbox.columns.{}", role.name()));
        }
        needed
    }

    /// The columns that are read where the table has them.
    pub(crate) fn optional_columns(&self) -> Vec<NeededColumn> {
        let spec = &self.mapping_spec;
        let mut roles = Vec::new();
        if spec.partition_by.is_none() && self.key_is_the_id() {
            roles.push(Role::AggregateId);
        }
        if spec.layout.has_row_headers() {
            roles.push(Role::Headers);
        }
        if spec.headers.is_none() && spec.layout == Layout::Walpost {
            roles.push(Role::EventType);
        }
        let needed = self.needed_columns();
        let columns = roles.into_iter().map(|role| NeededColumn {
            column: self.mapping.column(role).to_owned(),
            used_by: format!("outbox.columns.{}", role.name()),
        });
        columns
            .filter(|optional| needed.iter().all(|needed| needed.column != optional.column))
            .collect()
    }

    /// Every column that is read, if it is there.
    pub(crate) fn read_columns(&self) -> Vec<NeededColumn> {
        let mut columns = self.needed_columns();
        columns.extend(self.optional_columns());
        columns
    }

    /// The columns of the table that a key of the route reads: `route.topic`, `route.key`, or
    /// `route.partition_by` where it is configured.
    pub(crate) fn route_columns(&self, key: &str) -> BTreeSet<String> {
        let templates = templates(&self.mapping_spec);
        let Some((_, template)) = templates.iter().find(|(known, _)| known == key) else {
            return BTreeSet::new();
        };
        let column = |name| Role::named(name).map_or(name, |role| self.mapping.column(role));
        columns(template)
            .into_iter()
            .map(|name| column(name).to_owned())
            .collect()
    }

    /// Whether the key is the event's id and nothing else.
    pub(crate) fn key_is_the_id(&self) -> bool {
        let spec = &self.mapping_spec;
        let key = spec.key.as_deref().unwrap_or(spec.layout.key());
        let id = self.mapping.column(Role::Id);
        key == format!("${{{}}}", Role::Id.name()) || key == format!("${{{id}}}")
    }

    /// Whether a NULL payload stops the line in a table that does not mean it.
    pub(crate) fn refuses_null_payload(&self) -> bool {
        // Debezium's table has a payload that can be NULL.
        self.mapping_spec.null_payload == NullPayload::Refuse
            && self.mapping_spec.layout == Layout::Walpost
    }

    /// The topics that the configuration names: the one of the route, and those in its list.
    pub(crate) fn named_topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.mapping.fixed_topic().into_iter().collect();
        if topics.is_empty() {
            let is_name = |allowed: &&String| !allowed.starts_with('/');
            topics.extend(self.mapping_spec.allow.iter().filter(is_name).cloned());
        }
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Whether a row alone says to which topic it goes, and any topic will do.
    pub(crate) fn topic_is_open(&self) -> bool {
        let topic = topic(&self.mapping_spec);
        self.mapping_spec.allow.is_empty() && topic.starts_with("${")
    }
}

/// Configuration keys with their templates. A layout's own headers are left out where their column
/// is missing, so that nothing needs them.
fn templates(spec: &MappingSpec) -> Vec<(String, String)> {
    let layout = spec.layout;
    let mut templates = vec![
        ("route.topic".to_owned(), topic(spec).to_owned()),
        (
            "route.key".to_owned(),
            spec.key.as_deref().unwrap_or(layout.key()).to_owned(),
        ),
    ];
    if let Some(text) = spec.partition_by.as_deref().filter(|text| *text != "key") {
        templates.push(("route.partition_by".to_owned(), text.to_owned()));
    }
    for (name, text) in spec.headers.iter().flatten() {
        templates.push((format!("route.headers.{name}"), text.clone()));
    }
    templates
}

fn topic(spec: &MappingSpec) -> &str {
    spec.topic.as_deref().unwrap_or(spec.layout.topic())
}

/// The columns in a template that is known to be one.
fn columns(template: &str) -> Vec<&str> {
    let mut columns = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        rest = after;
        if before.ends_with('$') {
            continue;
        }
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        rest = after;
        if !name.starts_with("walpost.") {
            columns.push(name);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_templates_columns_are_found() {
        assert_eq!(columns("a.${b}-${walpost.xid}${c}"), ["b", "c"]);
        assert_eq!(columns("$${a}${b}"), ["b"]);
        assert_eq!(columns("plain $5"), [""; 0]);
    }
}
