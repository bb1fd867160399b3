//! The keys under `outbox` and `route`.

use walpost_core::{Layout, Mapping, MappingSpec, NullPayload, Role, SpecError, TableName};

use super::{Builder, value};
use crate::config::layer::Item;
use crate::config::problem::Problem;
use crate::config::schema::{self, IDENTIFIER_BYTES_MAX, TABLE_DEFAULT};

const TABLE: &str = "outbox.table";

impl Builder {
    pub(super) fn mapping_spec(&mut self) -> MappingSpec {
        let layout = self.one_of(
            "outbox.layout",
            &[("walpost", Layout::Walpost), ("debezium", Layout::Debezium)],
        );
        let null_payload = self.one_of(
            "outbox.null_payload",
            &[
                ("refuse", NullPayload::Refuse),
                ("tombstone", NullPayload::Tombstone),
            ],
        );
        let headers = self.map("route.headers");
        MappingSpec {
            tables: self.tables(),
            layout: layout.unwrap_or_default(),
            columns: self.columns(),
            null_payload: null_payload.unwrap_or_default(),
            topic: self.text("route.topic"),
            allow: self.allow(),
            key: self.text("route.key"),
            partition_by: self.text("route.partition_by"),
            headers: (!headers.is_empty()).then_some(headers),
        }
    }

    fn tables(&mut self) -> Vec<TableName> {
        let items = self.items(TABLE);
        let mut tables = Vec::new();
        for Item { text, origin } in items {
            let problem = match value::table(&text) {
                Ok(table) if tables.contains(&table) => format!("{table} is there twice"),
                Ok(table) => {
                    tables.push(table);
                    continue;
                }
                Err(expected) => expected,
            };
            self.problems.push(Problem::new(origin, TABLE, problem));
        }
        if tables.is_empty() && !self.has(TABLE) {
            tables.extend(value::table(TABLE_DEFAULT));
        }
        tables
    }

    fn allow(&mut self) -> Vec<String> {
        const ALLOW: &str = "route.allow";
        let rules = self.list(ALLOW);
        if rules.as_ref().is_some_and(Vec::is_empty) && !self.is_blamed(ALLOW) {
            let text = "allows no topic at all: name some, or take the key out to allow every one";
            self.wrong(ALLOW, text);
        }
        rules.unwrap_or_default()
    }

    fn columns(&mut self) -> Vec<(Role, String)> {
        const COLUMNS: &str = "outbox.columns";
        let mut columns = Vec::new();
        for (name, column) in self.map(COLUMNS) {
            let path = format!("{COLUMNS}.{name}");
            match (
                Role::named(&name),
                value::identifier(&column, IDENTIFIER_BYTES_MAX),
            ) {
                (Some(role), Ok(column)) => columns.push((role, column)),
                (Some(_), Err(expected)) => self.wrong(&path, expected),
                (None, _) => {
                    let names = Role::ALL.map(Role::name);
                    let text = match schema::nearest(&name, names) {
                        Some(known) => format!("there is no such role; did you mean {known}?"),
                        None => format!("there is no such role: it is one of {}", names.join(", ")),
                    };
                    self.wrong(&path, text);
                }
            }
        }
        columns
    }

    /// The mapping. Where the tables are at fault already, the rest of it is judged all the same.
    pub(super) fn mapping(&mut self, spec: &MappingSpec) -> Option<Mapping> {
        let has_no_table = spec.tables.is_empty() && self.is_blamed(TABLE);
        let mut judged = spec.clone();
        if has_no_table {
            judged.tables.extend(value::table(TABLE_DEFAULT));
        }
        match Mapping::new(&judged) {
            Ok(mapping) => (!has_no_table).then_some(mapping),
            Err(errors) => {
                for SpecError { key, problem } in errors {
                    self.wrong(&key, problem);
                }
                None
            }
        }
    }
}
