//! An outbox table: its kind, its columns, its partitions.

mod questions;

use serde::Deserialize;
use walpost_core::{Format, Role, TableName, is_read_in_binary};
use walpost_walsender::quote_identifier;

pub(crate) use self::questions::{
    NewPartition, has_default_rows, largest_payload, missing_partition, table, table_names,
    textual_types,
};
use super::{Publication, nearest};
use crate::checks;
use crate::config::{Config, NeededColumn, table_text};
use crate::finding::Finding;
use crate::sql::qualified;

/// A table's row, its columns and its partitions.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub name: TableName,
    /// Its number: a name can't be looked up in a schema that this role may not use.
    oid: u32,
    /// `pg_class.relkind`: `r` for a table, `p` for a partitioned one.
    kind: String,
    /// `pg_class.relpersistence`: `p` where its changes are in the WAL.
    persistence: String,
    /// `pg_class.relreplident`, and whether there is a primary key.
    identity: String,
    has_primary_key: bool,
    columns: Vec<Column>,
    /// Partitioned tables above it.
    pub ancestors: Vec<TableName>,
    leaves: Vec<Leaf>,
    pub server_major: u32,
}

#[derive(Clone, Debug, Deserialize)]
struct Column {
    name: String,
    /// As SQL says it.
    r#type: String,
    /// Name of the built-in type, below all domains; none for other types.
    base: Option<String>,
    /// Its binary form is its text, as an enum's is.
    textual: bool,
    not_null: bool,
    /// `s` for stored, `v` for virtual, empty for ordinary ones.
    generated: String,
}

/// A partition that holds rows.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Leaf {
    schema: String,
    name: String,
    kind: String,
    persistence: String,
    is_default: bool,
}

impl Leaf {
    fn table(&self) -> TableName {
        TableName {
            schema: self.schema.clone(),
            name: self.name.clone(),
        }
    }
}

/// The format of the one stream of these tables: binary as soon as one has a `bytea` payload, which
/// doubles as text, and fails past 512 MB.
pub(crate) fn stream_format(tables: &[Table], config: &Config) -> Format {
    let payload = config.mapping.column(Role::Payload);
    if tables
        .iter()
        .any(|table| table.base(payload) == Some("bytea"))
    {
        Format::Binary
    } else {
        Format::Text
    }
}

/// There is no such table; `others` are those of the database.
pub(crate) fn table_missing(name: &TableName, others: &[TableName]) -> Finding {
    let mut seen = format!("the outbox table {name} does not exist");
    let same_name = others.iter().find(|other| other.name == name.name);
    let alike = || {
        let names = others.iter().filter(|other| other.schema == name.schema);
        let near = nearest(&name.name, names.map(|other| other.name.as_str()))?;
        others
            .iter()
            .find(|other| other.schema == name.schema && other.name == near)
    };
    let anywhere = || {
        others
            .iter()
            .find(|other| other.name.eq_ignore_ascii_case(&name.name))
    };
    let fix = match same_name.or_else(alike).or_else(anywhere) {
        Some(other) => {
            let text = table_text(other);
            seen.push_str(&format!("; there is {text}"));
            let quotes = if text.contains('"') { "'" } else { "" };
            format!("outbox.table: {quotes}{text}{quotes} (or 'walpost init --apply' makes {name})")
        }
        None => "walpost init --apply".to_owned(),
    };
    checks::TABLE_MISSING.found(name.to_string(), seen, fix)
}

impl Table {
    /// A table of text columns that can be NULL.
    #[cfg(test)]
    pub(crate) fn plain(name: TableName, columns: &[&str]) -> Self {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            r#type: "text".to_owned(),
            base: Some("text".to_owned()),
            textual: true,
            not_null: false,
            generated: String::new(),
        };
        Self {
            name,
            oid: 0,
            kind: "r".to_owned(),
            persistence: "p".to_owned(),
            identity: "d".to_owned(),
            has_primary_key: true,
            columns: columns.iter().map(column).collect(),
            ancestors: Vec::new(),
            leaves: Vec::new(),
            server_major: 15,
        }
    }

    pub(crate) fn is_partitioned(&self) -> bool {
        self.kind == "p"
    }

    /// Whether a publication takes it.
    pub(crate) fn is_publishable(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p") && self.persistence == "p"
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.column(column).is_some()
    }

    /// Whether the column can hold NULL; an absent one can't.
    pub(crate) fn can_be_null(&self, column: &str) -> bool {
        self.column(column).is_some_and(|column| !column.not_null)
    }

    /// `s` or `v` where the column is generated.
    pub(crate) fn generated(&self, column: &str) -> Option<char> {
        self.column(column)?.generated.chars().next()
    }

    /// Default partitions.
    pub(crate) fn default_partitions(&self) -> Vec<TableName> {
        let defaults = self.leaves.iter().filter(|leaf| leaf.is_default);
        defaults.map(Leaf::table).collect()
    }

    /// The built-in type of a column.
    pub(crate) fn base(&self, column: &str) -> Option<&str> {
        self.column(column)?.base.as_deref()
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// What keeps its rows from becoming events, in a stream of this format.
    pub(crate) fn errors(&self, config: &Config, format: Format) -> Vec<Finding> {
        let name = &self.name;
        let mut problems = Vec::new();
        if !matches!(self.kind.as_str(), "r" | "p") {
            let kind = kind_text(&self.kind);
            let seen = format!("{name} is {kind}: only a table's rows are in the WAL");
            let fix = "name the table behind it in outbox.table";
            problems.push(checks::TABLE_KIND.found(name.to_string(), seen, fix));
            return problems;
        }
        if self.persistence != "p" {
            let kind = persistence_text(&self.persistence);
            let (effect, fix) = if self.is_partitioned() {
                // Until 18 one can be made so, and never be altered.
                let fix = "make the partitioned table anew without UNLOGGED, and attach its \
                           partitions to that";
                ("no publication takes it", fix.to_owned())
            } else {
                let fix = format!("alter table {} set logged;", qualified(name));
                ("its rows are not in the WAL", fix)
            };
            let seen = format!("the table {name} is {kind}: {effect}");
            problems.push(checks::TABLE_PERSISTENCE.found(name.to_string(), seen, fix));
        }
        problems.extend(self.leaf_problems());
        for needed in config.needed_columns() {
            if !self.has(&needed.column) {
                problems.push(self.column_problem(&needed));
            }
        }
        problems.extend(self.type_problems(config, format));
        problems
    }

    /// The name is another table's by now.
    pub(crate) fn anew_problem(&self, old: &Self) -> Option<Finding> {
        if self.oid == old.oid {
            return None;
        }
        let name = &self.name;
        let seen = format!("the table {name} was dropped and made anew while the relay ran");
        let fix = "add it to both publications where it is not in them, compare it with Kafka, and \
                   restart the relay";
        Some(checks::TABLE_ANEW.found(name.to_string(), seen, fix))
    }

    /// Partitions that it had and has not got any more.
    pub(crate) fn leaves_gone(&self, old: &Self) -> Vec<TableName> {
        let is_here = |leaf: &&Leaf| self.leaves.iter().any(|l| l.table() == leaf.table());
        let gone = old.leaves.iter().filter(|leaf| !is_here(leaf));
        gone.map(Leaf::table).collect()
    }

    fn leaf_problems(&self) -> Vec<Finding> {
        let mut problems = Vec::new();
        for leaf in &self.leaves {
            let leaf_name = leaf.table();
            let quoted = qualified(&leaf_name);
            let (kind, fix) = if leaf.kind == "f" {
                let root = qualified(&self.name);
                let fix = format!("alter table {root} detach partition {quoted};");
                ("a foreign table", fix)
            } else if leaf.persistence == "p" {
                continue;
            } else {
                let fix = format!("alter table {quoted} set logged;");
                (persistence_text(&leaf.persistence), fix)
            };
            let seen = format!(
                "the partition {leaf_name} of {} is {kind}: events in it are never sent",
                self.name
            );
            problems.push(checks::TABLE_LEAF.found(leaf_name.to_string(), seen, fix));
        }
        problems
    }

    fn column_problem(&self, needed: &NeededColumn) -> Finding {
        let (name, NeededColumn { column, used_by }) = (&self.name, needed);
        let mut seen = format!("the table {name} has no column '{column}', which {used_by} needs");
        let names = self.columns.iter().map(|column| column.name.as_str());
        let add = format!(
            "alter table {} add column {} {};",
            qualified(name),
            quote_identifier(column),
            default_type(column)
        );
        let fix = match nearest(column, names) {
            Some(near) => {
                seen.push_str(&format!("; there is '{near}'"));
                let key = match Role::named(used_by.trim_start_matches("outbox.columns.")) {
                    Some(_) => used_by.clone(),
                    None => match Role::named(column) {
                        Some(role) => format!("outbox.columns.{}", role.name()),
                        None => return self.template_problem(needed, &seen, near, &add),
                    },
                };
                format!("{key}: {near} (or: {add})")
            }
            None => add,
        };
        checks::TABLE_COLUMN.found(format!("{name}.{column}"), seen, fix)
    }

    fn template_problem(
        &self,
        needed: &NeededColumn,
        seen: &str,
        near: &str,
        add: &str,
    ) -> Finding {
        let fix = format!("write ${{{near}}} in {} (or: {add})", needed.used_by);
        checks::TABLE_COLUMN.found(format!("{}.{}", self.name, needed.column), seen, fix)
    }

    fn type_problems(&self, config: &Config, format: Format) -> Vec<Finding> {
        const HEADERS: [&str; 5] = ["json", "jsonb", "text", "varchar", "bpchar"];
        let is_binary = format == Format::Binary;
        let headers = config.mapping.column(Role::Headers);
        let mut problems = Vec::new();
        for NeededColumn { column, used_by } in config.read_columns() {
            let Some(found) = self.column(&column) else {
                continue;
            };
            let base = found.base.as_deref().unwrap_or_default();
            let is_headers = used_by == "outbox.columns.headers" && column == headers;
            let (why, to) = if is_headers && !HEADERS.contains(&base) {
                ("and row headers have to be a JSON object", "jsonb")
            } else if is_binary && !found.textual && !is_read_in_binary(base) {
                (
                    "which can't be read beside a bytea payload: make it text, uuid, an integer, \
                     boolean, json, jsonb or timestamptz",
                    "text",
                )
            } else {
                continue;
            };
            let (name, r#type) = (&self.name, &found.r#type);
            let seen = format!(
                "the column '{column}' of {name}, which {used_by} needs, is of type {type}, {why}"
            );
            let quoted = quote_identifier(&column);
            let using = match to {
                "jsonb" => format!(" using to_jsonb({quoted})"),
                _ => String::new(),
            };
            let fix = format!(
                "alter table {} alter column {quoted} type {to}{using};",
                qualified(name)
            );
            problems.push(checks::TABLE_TYPE.found(format!("{name}.{column}"), seen, fix));
        }
        problems
    }

    /// What works, and is not as one would wish.
    pub(crate) fn warnings(
        &self,
        config: &Config,
        publication: Option<&Publication>,
    ) -> Vec<Finding> {
        let found = [
            self.identity_problem(publication),
            self.payload_problem(config),
        ];
        found.into_iter().flatten().collect()
    }

    fn identity_problem(&self, publication: Option<&Publication>) -> Option<Finding> {
        let publication = publication.filter(|found| found.publishes_changes())?;
        let (kind, name) = (self.identity.as_str(), &self.name);
        let identity = match kind {
            "n" => "has REPLICA IDENTITY NOTHING",
            "d" if !self.has_primary_key => "has neither a primary key nor a replica identity",
            _ => return None,
        };
        let seen = format!(
            "{name} {identity}, and its publication publishes updates or deletes: an UPDATE or \
             DELETE of the application fails"
        );
        let fix = publication.insert_only();
        Some(checks::TABLE_IDENTITY.found(name.to_string(), seen, fix))
    }

    fn payload_problem(&self, config: &Config) -> Option<Finding> {
        let column = config.mapping.column(Role::Payload);
        if !config.refuses_null_payload() || !self.can_be_null(column) {
            return None;
        }
        let name = &self.name;
        let seen = format!("the payload '{column}' of {name} may be NULL: the relay stops at one");
        let fix = format!(
            "alter table {} alter column {} set not null;",
            qualified(name),
            quote_identifier(column)
        );
        Some(checks::TABLE_NULL.found(format!("{name}.{column}"), seen, fix))
    }

    /// Rows in a default partition.
    pub(crate) fn default_problem(&self, partition: &TableName) -> Finding {
        let seen = format!(
            "the default partition {partition} of {} holds rows: no other partition is meant for \
             them",
            self.name
        );
        let (root, quoted) = (qualified(&self.name), qualified(partition));
        let fix = format!(
            "alter table {root} detach partition {quoted}; -- make the missing partitions; what is \
             in {quoted} was delivered, so insert it nowhere again"
        );
        checks::TABLE_DEFAULT.found(partition.to_string(), seen, fix)
    }

    /// Rows of tomorrow have no place.
    pub(crate) fn future_problem(&self, new: &NewPartition) -> Finding {
        let name = &self.name;
        let NewPartition {
            column,
            from,
            to,
            suffix,
        } = new;
        let seen = format!(
            "{name} is partitioned by '{column}', has no default partition, and none for tomorrow \
             (the last one ends at {from}): inserts will fail"
        );
        let partition = TableName {
            schema: name.schema.clone(),
            name: format!("{}_{suffix}", name.name),
        };
        let fix = format!(
            "create table {} partition of {} for values from ('{from}') to ('{to}');",
            qualified(&partition),
            qualified(name)
        );
        checks::TABLE_FUTURE.found(name.to_string(), seen, fix)
    }
}

/// What a column of this name is in the table that `init` makes.
fn default_type(column: &str) -> &'static str {
    match Role::named(column) {
        Some(Role::Id) => "uuid default gen_random_uuid()",
        Some(Role::Payload | Role::Headers) => "jsonb",
        Some(Role::CreatedAt) => "timestamptz default now()",
        Some(Role::Destination | Role::AggregateType | Role::AggregateId | Role::EventType)
        | None => "text",
    }
}

fn kind_text(kind: &str) -> &'static str {
    match kind {
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        "S" => "a sequence",
        "i" | "I" => "an index",
        "c" => "a composite type",
        _ => "not a table",
    }
}

fn persistence_text(persistence: &str) -> &'static str {
    match persistence {
        "u" => "unlogged",
        _ => "temporary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(schema: &str, name: &str) -> TableName {
        TableName {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_partitioned_table_that_is_unlogged_can_not_be_altered() {
        let config = Config::load(&crate::config::Sources {
            set: [
                "postgres.url=postgresql://u@db/shop",
                "kafka.brokers=k:9092",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..crate::config::Sources::default()
        })
        .unwrap();
        let mut table = Table::plain(
            name("public", "outbox"),
            &["id", "payload", "destination", "aggregate_id"],
        );
        assert_eq!(table.errors(&config, Format::Text), []);
        table.persistence = "u".to_owned();
        let fix = |table: &Table| table.errors(&config, Format::Text)[0].fix.clone().unwrap();
        assert_eq!(fix(&table), "alter table \"public\".\"outbox\" set logged;");
        table.kind = "p".to_owned();
        assert!(fix(&table).contains("anew without UNLOGGED"));
    }

    #[test]
    fn a_table_that_was_probably_meant_is_named_as_the_configuration_takes_it() {
        let wanted = name("public", "outbox");
        for (others, fix) in [
            (vec![], "walpost init --apply"),
            (vec![name("shop", "outbox")], "outbox.table: shop.outbox ("),
            (
                vec![name("public", "Outbox")],
                "outbox.table: '\"public\".\"Outbox\"' (",
            ),
            (
                vec![name("public", "outboxes")],
                "outbox.table: public.outboxes (",
            ),
            (vec![name("public", "orders")], "walpost init --apply"),
        ] {
            let found = table_missing(&wanted, &others);
            assert!(found.fix.as_ref().unwrap().starts_with(fix), "{found:?}");
        }
    }
}
