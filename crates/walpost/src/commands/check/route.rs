//! What the route does to the rows of these tables: surprises that no server refuses.

use std::collections::BTreeSet;

use walpost_core::Role;
use walpost_walsender::quote_identifier;

use crate::catalog::Table;
use crate::checks::{self, Area, Check};
use crate::config::Config;
use crate::finding::Finding;
use crate::sql::qualified;

const TOPIC: &str = "route.topic";
const KEY: &str = "route.key";
const PARTITION_BY: &str = "route.partition_by";

/// Looks at topic, key and placement.
pub(super) fn findings(config: &Config, tables: &[Table]) -> Vec<Finding> {
    let mut found: Vec<_> = open_problem(config).into_iter().collect();
    for table in tables {
        found.extend(null_problems(config, table));
        found.extend(order_problem(config, table));
    }
    found.extend(placement_problem(config));
    if found.is_empty() && !tables.is_empty() {
        found.push(Finding::ok(
            Area::Routing,
            "topic, key and placement fit the table",
        ));
    }
    found
}

fn open_problem(config: &Config) -> Option<Finding> {
    if !config.topic_is_open() {
        return None;
    }
    let seen = "the topic is a column alone: whoever writes a row can send it to any topic";
    let fix = "route.allow: [orders, '/payments\\..*/'] (your topics, by name or expression)";
    Some(checks::ROUTE_OPEN.found(TOPIC, seen, fix))
}

/// The event's id is never NULL: such a row is refused in any case.
fn null_problems(config: &Config, table: &Table) -> Vec<Finding> {
    let id = config.mapping.column(Role::Id);
    let problem = |check: &Check, key: &str, column: &String, effect: &str| {
        let name = &table.name;
        let seen =
            format!("{key} uses the column '{column}' of {name}, which may be NULL: {effect}");
        let fix = format!(
            "alter table {} alter column {} set not null;",
            qualified(name),
            quote_identifier(column)
        );
        check.found(format!("{name}.{column}"), seen, fix)
    };
    let uses = [
        (
            TOPIC,
            &checks::ROUTE_NULL,
            "the relay stops at an event without a topic",
        ),
        (KEY, &checks::KEY_NULL, "such an event has no key"),
        (
            PARTITION_BY,
            &checks::KEY_NULL,
            "the key places such an event, apart from the others",
        ),
    ];
    let mut found = Vec::new();
    for (key, check, effect) in uses {
        for column in config.route_columns(key) {
            if column != id && table.can_be_null(&column) {
                found.push(problem(check, key, &column, effect));
            }
        }
    }
    found
}

/// Without the aggregate's column, every event goes its own way.
fn order_problem(config: &Config, table: &Table) -> Option<Finding> {
    let column = config.mapping.column(Role::AggregateId);
    if config.mapping_spec.partition_by.is_some() || !config.key_is_the_id() || table.has(column) {
        return None;
    }
    let seen = format!(
        "{} has no column '{column}', and the key is the event's id: events of one aggregate are \
         spread over all partitions, in no order",
        table.name
    );
    let fix = "outbox.columns.aggregate_id: COLUMN (the one that names the aggregate), or \
               route.partition_by: key (where order does not matter)";
    Some(checks::KEY_ORDER.found(PARTITION_BY, seen, fix))
}

/// A key whose records are in several partitions.
fn placement_problem(config: &Config) -> Option<Finding> {
    let by = config.route_columns(PARTITION_BY);
    if by.is_empty() || config.key_is_the_id() {
        return None;
    }
    let key: BTreeSet<_> = config.route_columns(KEY);
    let foreign: Vec<_> = by.difference(&key).cloned().collect();
    if foreign.is_empty() {
        return None;
    }
    let seen = format!(
        "{PARTITION_BY} uses {}, which {KEY} does not hold: records of one key can be in several \
         partitions, and have no order then",
        foreign.join(", ")
    );
    Some(checks::KEY_PLACEMENT.found(PARTITION_BY, seen, "route.partition_by: key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use walpost_core::TableName;

    fn config(settings: &[&str]) -> Config {
        let given = [
            "postgres.url=postgresql://u@db/shop",
            "kafka.brokers=k:9092",
        ];
        let set = given.iter().chain(settings).map(|text| (*text).to_owned());
        Config::load(&Sources {
            set: set.collect(),
            ..Sources::default()
        })
        .unwrap()
    }

    fn codes(settings: &[&str], columns: &[&str]) -> Vec<&'static str> {
        let name = TableName {
            schema: "public".to_owned(),
            name: "outbox".to_owned(),
        };
        let tables = [Table::plain(name, columns)];
        let found = findings(&config(settings), &tables);
        found.iter().filter_map(|finding| finding.code).collect()
    }

    #[test]
    fn a_route_that_surprises_nobody_has_no_finding() {
        let columns = ["id", "aggregate_id", "tenant"];
        for settings in [
            &["route.topic=t"][..],
            &["route.topic=t", "route.partition_by=key"],
        ] {
            assert_eq!(codes(settings, &columns), [""; 0], "{settings:?}");
        }
    }

    #[test]
    fn what_surprises_is_found() {
        let columns = ["id", "aggregate_id", "tenant", "destination"];
        let open = codes(&[], &columns);
        assert_eq!(open, ["WP-ROUTE-OPEN", "WP-ROUTE-NULL"]);
        let allowed = codes(&["route.allow=t"], &columns);
        assert_eq!(allowed, ["WP-ROUTE-NULL"]);
        let key = codes(&["route.topic=t", "route.key=${tenant}"], &columns);
        assert_eq!(key, ["WP-KEY-NULL"]);
        let split = [
            "route.topic=t",
            "route.key=${aggregate_id}",
            "route.partition_by=${tenant}",
        ];
        assert_eq!(
            codes(&split, &columns),
            ["WP-KEY-NULL", "WP-KEY-NULL", "WP-KEY-PLACEMENT"]
        );
        let within = [
            "route.topic=t",
            "route.key=${tenant}-${aggregate_id}",
            "route.partition_by=${tenant}",
        ];
        assert!(!codes(&within, &columns).contains(&"WP-KEY-PLACEMENT"));
        assert_eq!(codes(&["route.topic=t"], &["id"]), ["WP-KEY-ORDER"]);
    }
}
