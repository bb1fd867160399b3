//! How a row becomes an event: which column is what, where it goes, under which key and headers.
//!
//! Three steps, each once as often as needed: a [`MappingSpec`] (configuration) is checked into a
//! [`Mapping`]; the mapping meets a table's shape and becomes a [`Binding`] of columns by their
//! place in the row, anew whenever the server describes the table; the binding turns each row into
//! an [`Event`].

mod bind;
mod event;
mod fingerprint;
mod headers;
mod layout;
mod needs;
mod template;
mod types;

use std::collections::BTreeMap;

use bytes::Bytes;
use regex::Regex;

pub use self::bind::{BindError, Format};
pub(crate) use self::bind::{Binding, table_name};
pub(crate) use self::event::{Event, Unmapped};
pub use self::layout::{Layout, MappingSpec, NullPayload, Role, SpecError, TableName};
pub use self::needs::NeededColumn;
use self::template::Template;
pub(crate) use self::types::Types;
use crate::event::Topic;

/// A checked mapping.
#[derive(Clone, Debug)]
pub struct Mapping {
    tables: Vec<TableName>,
    /// What the table calls the column of each role.
    columns: BTreeMap<Role, String>,
    /// Roles that the configuration names: their columns must exist.
    configured: Vec<Role>,
    layout: Layout,
    null_payload: NullPayload,
    topic: Template<String>,
    key: Template<String>,
    placement: Placement,
    headers: Vec<HeaderTemplate>,
    allow: Vec<Allowed>,
}

/// What decides a record's partition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Placement {
    Key,
    /// Where the table has no such column: the key.
    Aggregate,
    Template(Template<String>),
}

#[derive(Clone, Debug)]
struct HeaderTemplate {
    name: Bytes,
    template: Template<String>,
    /// The configuration names it: its columns must exist.
    configured: bool,
}

#[derive(Clone, Debug)]
enum Allowed {
    Name(String),
    Matching(Regex),
}

impl Mapping {
    /// Checks a specification; every problem is reported.
    pub fn new(spec: &MappingSpec) -> Result<Self, Vec<SpecError>> {
        let mut problems = Vec::new();
        let layout = spec.layout;
        if spec.tables.is_empty() {
            problems.push(error(
                "outbox.table",
                "name at least one table, as 'public.outbox'",
            ));
        }
        let columns = columns(spec, &mut problems);
        let key_text = spec.key.as_deref().unwrap_or(layout.key());
        let topic_text = spec.topic.as_deref().unwrap_or(layout.topic());
        let topic = template("route.topic", topic_text, &mut problems);
        let key = template("route.key", key_text, &mut problems);
        let placement = placement(spec, &key, &columns, &mut problems);
        let headers = header_templates(spec, &mut problems);
        let allow = allowed(&spec.allow, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            tables: spec.tables.clone(),
            configured: spec.columns.iter().map(|(role, _)| *role).collect(),
            columns,
            layout,
            null_payload: spec.null_payload,
            topic,
            key,
            placement,
            headers,
            allow,
        })
    }

    /// The outbox tables.
    pub fn tables(&self) -> &[TableName] {
        &self.tables
    }

    /// The column of a role.
    pub fn column(&self, role: Role) -> &str {
        &self.columns[&role]
    }

    /// The topic, if it is the same for every event.
    pub fn fixed_topic(&self) -> Option<String> {
        match self.topic.pieces() {
            [template::Piece::Literal(text)] => Some(text.to_string()),
            _ => None,
        }
    }

    /// Whether the rules of `route.allow` admit a topic.
    fn allows(&self, topic: &Topic) -> bool {
        let name = topic.as_str();
        let admits = |allowed: &Allowed| match allowed {
            Allowed::Name(allowed) => allowed == name,
            Allowed::Matching(regex) => regex.is_match(name),
        };
        self.allow.is_empty() || self.allow.iter().any(admits)
    }

    /// The table's column behind a name in a template.
    fn table_column<'a>(&'a self, name: &'a str) -> &'a str {
        Role::named(name).map_or(name, |role| self.column(role))
    }
}

/// Whether a column of this built-in type, by its name in `pg_type`, can be mapped beside a `bytea`
/// payload, where the stream is binary. In a text stream every type can.
pub fn is_read_in_binary(type_name: &str) -> bool {
    types::Kind::of_base_type(type_name.as_bytes()) != types::Kind::TextOnly
}

fn error(key: &str, problem: impl Into<String>) -> SpecError {
    SpecError {
        key: key.to_owned(),
        problem: problem.into(),
    }
}

fn columns(spec: &MappingSpec, problems: &mut Vec<SpecError>) -> BTreeMap<Role, String> {
    let mut columns: BTreeMap<_, _> = Role::ALL
        .into_iter()
        .map(|role| (role, role.default_column(spec.layout).to_owned()))
        .collect();
    for (role, column) in &spec.columns {
        if column.is_empty() {
            let key = format!("outbox.columns.{}", role.name());
            problems.push(error(&key, "the column's name is empty"));
        }
        columns.insert(*role, column.clone());
    }
    columns
}

fn template(key: &str, text: &str, problems: &mut Vec<SpecError>) -> Template<String> {
    Template::parse(text).unwrap_or_else(|problem| {
        problems.push(error(key, problem.to_string()));
        Template::parse("invalid").expect("text without a name is a template")
    })
}

fn placement(
    spec: &MappingSpec,
    key: &Template<String>,
    columns: &BTreeMap<Role, String>,
    problems: &mut Vec<SpecError>,
) -> Placement {
    let by_id = key.is_column(Role::Id.name()) || key.is_column(&columns[&Role::Id]);
    match spec.partition_by.as_deref() {
        Some("key") => Placement::Key,
        Some(text) => Placement::Template(template("route.partition_by", text, problems)),
        None if by_id => Placement::Aggregate,
        None => Placement::Key,
    }
}

fn header_templates(spec: &MappingSpec, problems: &mut Vec<SpecError>) -> Vec<HeaderTemplate> {
    let mut templates = Vec::new();
    let Some(configured) = &spec.headers else {
        for (name, text) in spec.layout.headers() {
            let template = template("route.headers", text, problems);
            let name = Bytes::from_static(name.as_bytes());
            templates.push(HeaderTemplate {
                name,
                template,
                configured: false,
            });
        }
        return templates;
    };
    for (name, text) in configured {
        let key = format!("route.headers.{name}");
        if name.is_empty() || name.contains('\0') || name.starts_with("walpost-") {
            problems.push(error(
                &key,
                "a header needs a name without NUL that does not start with 'walpost-'",
            ));
        }
        let template = template(&key, text, problems);
        let name = Bytes::copy_from_slice(name.as_bytes());
        templates.push(HeaderTemplate {
            name,
            template,
            configured: true,
        });
    }
    templates
}

fn allowed(rules: &[String], problems: &mut Vec<SpecError>) -> Vec<Allowed> {
    let mut allowed = Vec::new();
    for rule in rules {
        let pattern = rule
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'));
        match pattern {
            None => match Topic::new(Bytes::copy_from_slice(rule.as_bytes())) {
                Ok(_) => allowed.push(Allowed::Name(rule.clone())),
                Err(problem) => {
                    let hint = "a regular expression stands between slashes, as '/orders\\..*/'";
                    problems.push(error("route.allow", format!("'{rule}': {problem}; {hint}")));
                }
            },
            Some(pattern) => match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(regex) => allowed.push(Allowed::Matching(regex)),
                Err(problem) => {
                    let problem = problem.to_string().replace('\n', " ");
                    problems.push(error("route.allow", format!("'{rule}': {problem}")));
                }
            },
        }
    }
    allowed
}

#[cfg(test)]
mod tests;
