//! The SQL files of `sql/`, with names filled in.
//!
//! A file marks a name as psql does: `:"name"` becomes a quoted identifier, `:'name'` a quoted
//! literal. There is no third way, so a name can't become anything but a name.

use walpost_core::{Layout, Mapping, Role, TableName};
use walpost_walsender::{quote_identifier, quote_literal};

const OUTBOX: &str = include_str!("../../../sql/010_outbox.sql");
const OUTBOX_DEBEZIUM: &str = include_str!("../../../sql/011_outbox_debezium.sql");
const PUBLICATION: &str = include_str!("../../../sql/020_publication.sql");
const CHECKPOINT: &str = include_str!("../../../sql/025_checkpoint.sql");
const SKIP: &str = include_str!("../../../sql/027_skip.sql");
const NO_GAP: &str = include_str!("../../../sql/026_no_gap.sql");
const FIRST_CHECKPOINT: &str = include_str!("../../../sql/035_first_checkpoint.sql");
const SLOT: &str = include_str!("../../../sql/030_slot.sql");
const SLOT_FAILOVER: &str = include_str!("../../../sql/031_slot_failover.sql");

/// Makes an outbox table with the mapping's columns, unless it is there.
pub(crate) fn outbox(table: &TableName, layout: Layout, mapping: &Mapping) -> String {
    let file = match layout {
        Layout::Walpost => OUTBOX,
        Layout::Debezium => OUTBOX_DEBEZIUM,
    };
    let mut values = vec![
        ("schema", table.schema.as_str()),
        ("table", table.name.as_str()),
    ];
    values.extend(Role::ALL.map(|role| (role.name(), mapping.column(role))));
    fill(file, &values)
}

/// Makes a publication of the tables, unless one of that name is there.
pub(crate) fn publication(name: &str, tables: &[TableName]) -> String {
    let tables: Vec<_> = tables.iter().map(qualified).collect();
    fill(
        PUBLICATION,
        &[("publication", name), ("tables", &tables.join(", "))],
    )
}

/// Makes the table of the checkpoint, unless it is there, and lets `role` use it.
pub(crate) fn checkpoint(table: &TableName, role: &str) -> String {
    let values = [
        ("schema", table.schema.as_str()),
        ("table", table.name.as_str()),
        ("role", role),
    ];
    fill(CHECKPOINT, &values)
}

/// Makes the table of events that may be passed over, unless it is there, and lets `role` use it.
pub(crate) fn skip(table: &TableName, role: &str) -> String {
    let values = [
        ("schema", table.schema.as_str()),
        ("table", table.name.as_str()),
        ("role", role),
    ];
    fill(SKIP, &values)
}

/// Fails where a slot is gone that has a checkpoint.
pub(crate) fn no_gap(table: &TableName, slot: &str) -> String {
    let values = [
        ("schema", table.schema.as_str()),
        ("table", table.name.as_str()),
        ("slot", slot),
    ];
    fill(NO_GAP, &values)
}

/// The first checkpoint of a slot that has none: where it stands. `config` is JSON.
pub(crate) fn first_checkpoint(table: &TableName, slot: &str, config: &str) -> String {
    let values = [
        ("schema", table.schema.as_str()),
        ("table", table.name.as_str()),
        ("slot", slot),
        ("config", config),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    fill(FIRST_CHECKPOINT, &values)
}

/// Makes the slot, unless one of that name is there or the publication is not: such a slot would
/// keep WAL for a relay that can't use it. To be run in a transaction of its own. `failover` needs
/// PostgreSQL 17.
pub(crate) fn slot(name: &str, publication: &str, failover: bool) -> String {
    let file = if failover { SLOT_FAILOVER } else { SLOT };
    fill(file, &[("slot", name), ("publication", publication)])
}

/// `"schema"."table"`
pub(crate) fn qualified(table: &TableName) -> String {
    format!(
        "{}.{}",
        quote_identifier(&table.schema),
        quote_identifier(&table.name)
    )
}

/// What was filled in is not looked at again.
fn fill(file: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(file.len() * 2);
    let mut rest = file;
    while let Some(colon) = rest.find(':') {
        let (before, marked) = rest.split_at(colon);
        filled.push_str(before);
        let placeholder = ['"', '\''].into_iter().find_map(|quote| {
            let name = marked[1..].strip_prefix(quote)?;
            let (name, after) = name.split_once(quote)?;
            Some((quote, name, after))
        });
        let Some((quote, name, after)) = placeholder else {
            filled.push(':');
            rest = &marked[1..];
            continue;
        };
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.expect("the files are ours, and a test fills every one of them");
        filled.push_str(&match quote {
            '"' => quote_identifier(value),
            _ => quote_literal(value),
        });
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use walpost_core::MappingSpec;

    use super::*;

    #[test]
    fn every_file_is_filled_whole() {
        let table = TableName {
            schema: "public".to_owned(),
            name: "outbox".to_owned(),
        };
        for layout in [Layout::Walpost, Layout::Debezium] {
            let spec = MappingSpec {
                tables: vec![table.clone()],
                layout,
                ..MappingSpec::default()
            };
            let mapping = Mapping::new(&spec).unwrap();
            let sql = outbox(&table, layout, &mapping);
            assert!(!sql.contains(":\""), "{sql}");
            assert!(
                sql.contains("create table if not exists \"public\".\"outbox\" ("),
                "{sql}"
            );
        }
        let sql = publication("walpost", std::slice::from_ref(&table));
        assert!(sql.contains("'walpost.publication', 'walpost'"), "{sql}");
        assert!(
            sql.contains("'walpost.tables', '\"public\".\"outbox\"'"),
            "{sql}"
        );
        for sql in [checkpoint(&table, "relay"), skip(&table, "relay")] {
            let grant = "on \"public\".\"outbox\" to \"relay\";";
            assert!(sql.contains(grant), "{sql}");
        }
        let sql = no_gap(&table, "s") + &first_checkpoint(&table, "s", "{}");
        assert!(!sql.contains(":'") && !sql.contains(":\""), "{sql}");
        for failover in [false, true] {
            let sql = slot("s", "p", failover);
            assert_eq!(sql.matches("'s'").count(), 2, "{sql}");
            assert!(sql.contains("where pubname = 'p')"), "{sql}");
        }
    }

    #[test]
    fn hostile_names_stay_names() {
        let hostile = "a\"; drop table x; -- ' :'slot' :\"table\" $$ \\";
        let table = TableName {
            schema: hostile.to_owned(),
            name: hostile.to_owned(),
        };
        let spec = MappingSpec {
            tables: vec![table.clone()],
            columns: vec![(Role::Payload, hostile.to_owned())],
            ..MappingSpec::default()
        };
        let mapping = Mapping::new(&spec).unwrap();
        let sql = outbox(&table, Layout::Walpost, &mapping);
        assert_eq!(sql.matches(&quote_identifier(hostile)).count(), 3, "{sql}");
        let sql = publication(hostile, std::slice::from_ref(&table));
        assert_eq!(sql.matches(&quote_literal(hostile)).count(), 1, "{sql}");
        assert!(sql.contains(&quote_literal(&qualified(&table))), "{sql}");
        let sql = slot(hostile, hostile, false);
        assert_eq!(sql.matches(&quote_literal(hostile)).count(), 3);
    }
}
