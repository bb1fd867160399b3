//! What the server's catalogue says of publication, tables and slot, and what is wrong with it.

use std::time::{Duration, Instant};

use walpost_core::TableName;
use walpost_core::start::SlotRow;
use walpost_pgoutput::Lsn;
use walpost_walsender::{Connection, Error, Row, quote_identifier, quote_literal};

use crate::config::NeededColumn;
use crate::finding::Finding;
use crate::sql::qualified;

/// The server and the role.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub version: String,
    /// As 150018 for 15.18.
    pub version_number: u32,
    pub database: String,
    pub role: String,
    pub is_standby: bool,
    pub wal_level: String,
    /// End of the WAL on disk.
    pub flush_lsn: Option<Lsn>,
    /// End of the WAL that is written: every commit that has returned lies before it, but for
    /// those with `synchronous_commit = off`.
    pub current_lsn: Option<Lsn>,
    /// The setting of this connection; zero is off.
    pub wal_sender_timeout: Duration,
    /// The role may use replication slots.
    pub can_replicate: bool,
}

/// Asks for the server's and the role's state.
pub(crate) async fn server(connection: &mut Connection) -> Result<Server, Error> {
    // Managed servers grant the right by membership in a role of theirs.
    const SQL: &str = "select current_setting('server_version'), \
         current_setting('server_version_num'), current_database(), current_user, \
         pg_is_in_recovery(), current_setting('wal_level'), \
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn() \
              else pg_current_wal_flush_lsn() end, \
         exists (select from pg_catalog.pg_roles r where r.rolname = current_user \
                 and (r.rolsuper or r.rolreplication)) \
         or exists (select from pg_catalog.pg_roles r \
                    where r.rolname in ('rds_replication', 'rds_superuser', 'cloudsqlsuperuser') \
                    and pg_has_role(current_user, r.oid, 'member')), \
         case when pg_is_in_recovery() then null else pg_current_wal_lsn() end, \
         (select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout')";
    let rows = connection.query(SQL).await?;
    let row = rows.first();
    let text = |index: usize| {
        row.and_then(|row| row.get(index))
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Server {
        version: text(0).split(' ').next().unwrap_or_default().to_owned(),
        version_number: text(1).parse().unwrap_or(0),
        database: text(2),
        role: text(3),
        is_standby: text(4) == "t",
        wal_level: text(5),
        flush_lsn: text(6).parse().ok(),
        can_replicate: text(7) == "t",
        current_lsn: text(8).parse().ok(),
        wal_sender_timeout: Duration::from_millis(text(9).parse().unwrap_or(0)),
    })
}

/// The end of the written WAL, once everything that was inserted into it by now is written. The WAL
/// writer lets an asynchronous commit wait for three of its delays at most; other records may stay
/// unwritten for as long as nothing is committed, so the wait ends there.
pub(crate) async fn written_lsn(connection: &mut Connection) -> Result<Option<Lsn>, Error> {
    const ASK: Duration = Duration::from_millis(10);
    const INSERTED: &str = "select pg_current_wal_insert_lsn(), \
         (select setting from pg_catalog.pg_settings where name = 'wal_writer_delay')";
    const WRITTEN: &str = "select pg_current_wal_lsn()";
    let rows = connection.query(INSERTED).await?;
    let value = |index: usize| rows.first().and_then(|row| row.get(index));
    let inserted: Option<Lsn> = value(0).and_then(|text| text.parse().ok());
    let delay_ms = value(1).and_then(|text| text.parse().ok()).unwrap_or(200);
    let end = Instant::now() + 3 * Duration::from_millis(delay_ms) + ASK;
    loop {
        let rows = connection.query(WRITTEN).await?;
        let text = rows.first().and_then(|row| row.get(0));
        let written: Option<Lsn> = text.and_then(|text| text.parse().ok());
        if written >= inserted || Instant::now() >= end {
            return Ok(written);
        }
        tokio::time::sleep(ASK).await;
    }
}

/// A publication's row, and the tables that it carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    name: String,
    publishes_insert: bool,
    /// `update`, `delete`, `truncate`, as far as it publishes them.
    publishes_more: Vec<&'static str>,
    via_root: bool,
    for_all_tables: bool,
    tables: Vec<PublishedTable>,
}

/// A table that a publication carries; a partition under its root's name.
#[derive(Clone, Debug)]
struct PublishedTable {
    name: TableName,
    is_partition: bool,
    /// None where the server has no column lists.
    columns: Option<Vec<String>>,
    row_filter: Option<String>,
}

/// Looks a publication up.
pub(crate) async fn publication(
    connection: &mut Connection,
    name: &str,
) -> Result<Option<Publication>, Error> {
    let quoted = quote_literal(name);
    let sql = format!(
        "select pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, \
         puballtables \
         from pg_catalog.pg_publication where pubname = {quoted}"
    );
    let rows = connection.query(&sql).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let is_set = |index: &usize| row.get(*index) == Some("t");
    let more = [(1, "update"), (2, "delete"), (3, "truncate")];
    let mut publication = Publication {
        name: name.to_owned(),
        publishes_insert: is_set(&0),
        publishes_more: more
            .iter()
            .filter(|(i, _)| is_set(i))
            .map(|(_, what)| *what)
            .collect(),
        via_root: is_set(&4),
        for_all_tables: is_set(&5),
        tables: Vec::new(),
    };
    // As JSON, because servers before 15 have no columns of these names.
    let sql = format!(
        "select coalesce(rn.nspname, t.schemaname), coalesce(r.relname, t.tablename), \
         r.oid is not null and r.oid <> c.oid, \
         to_jsonb(t) -> 'attnames', to_jsonb(t) ->> 'rowfilter' \
         from pg_catalog.pg_publication_tables t \
         join pg_catalog.pg_namespace n on n.nspname = t.schemaname \
         join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename \
         left join pg_catalog.pg_class r on r.oid = pg_partition_root(c.oid) \
         left join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace \
         where t.pubname = {quoted} order by 1, 2"
    );
    let rows = connection.query(&sql).await?;
    publication.tables = rows.iter().filter_map(published_table).collect();
    Ok(Some(publication))
}

fn published_table(row: &Row) -> Option<PublishedTable> {
    let (schema, name) = (row.get(0)?.to_owned(), row.get(1)?.to_owned());
    Some(PublishedTable {
        name: TableName { schema, name },
        is_partition: row.get(2) == Some("t"),
        columns: row
            .get(3)
            .and_then(|columns| serde_json::from_str(columns).ok()),
        row_filter: row.get(4).map(str::to_owned),
    })
}

impl Publication {
    /// Everything that keeps it from carrying the outbox, and nothing but the outbox.
    pub(crate) fn problems(&self, tables: &[TableName], needed: &[NeededColumn]) -> Vec<Finding> {
        let name = &self.name;
        let alter = format!("alter publication {}", quote_identifier(name));
        let set_insert = format!("{alter} set (publish = 'insert');");
        let mut problems = Vec::new();
        if !self.publishes_insert {
            let seen = format!("the publication '{name}' does not publish inserts");
            problems.push(Finding::error("WP-PUB-INSERT", seen, set_insert.clone()));
        }
        if !self.publishes_more.is_empty() {
            let more = self.publishes_more.join(", ");
            let seen = format!(
                "the publication '{name}' publishes {more} too: walpost passes them over, after \
                 the server has decoded and sent them"
            );
            problems.push(Finding::warning("WP-PUB-MORE", seen, set_insert));
        }
        if !self.via_root {
            problems.push(self.root_problem());
        }
        for table in tables {
            match self.tables.iter().find(|found| found.name == *table) {
                None => {
                    let seen = format!("the publication '{name}' does not carry the table {table}");
                    let fix = format!("{alter} add table {};", qualified(table));
                    problems.push(Finding::error("WP-PUB-TABLE", seen, fix));
                }
                Some(found) => problems.extend(found.problems(name, table, needed)),
            }
        }
        problems.extend(self.foreign_problem(tables));
        problems
    }

    fn root_problem(&self) -> Finding {
        const CODE: &str = "WP-PUB-ROOT";
        let name = &self.name;
        let seen = format!(
            "the publication '{name}' has publish_via_partition_root off: events of a partitioned \
             outbox come under the names of its partitions"
        );
        let fix = format!(
            "alter publication {} set (publish_via_partition_root = true);",
            quote_identifier(name)
        );
        if self.tables.iter().any(|table| table.is_partition) {
            Finding::error(CODE, seen, fix)
        } else {
            Finding::warning(CODE, seen, fix)
        }
    }

    fn foreign_problem(&self, tables: &[TableName]) -> Option<Finding> {
        let name = &self.name;
        if self.for_all_tables {
            let seen = format!("the publication '{name}' carries all tables of the database");
            let fix = "name another one in postgres.publication, and run 'walpost init'";
            return Some(Finding::error("WP-PUB-FOREIGN", seen, fix));
        }
        let foreign = self.tables.iter().map(|found| &found.name);
        let mut foreign: Vec<_> = foreign.filter(|found| !tables.contains(found)).collect();
        foreign.dedup();
        if foreign.is_empty() {
            return None;
        }
        let seen = format!(
            "the publication '{name}' carries what is not in outbox.table: {}",
            foreign
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        );
        let fix = format!(
            "alter publication {} drop table {};",
            quote_identifier(name),
            foreign
                .into_iter()
                .map(qualified)
                .collect::<Vec<_>>()
                .join(", ")
        );
        Some(Finding::error("WP-PUB-FOREIGN", seen, fix))
    }
}

impl PublishedTable {
    fn problems(&self, name: &str, table: &TableName, needed: &[NeededColumn]) -> Vec<Finding> {
        let mut problems = Vec::new();
        // Dropping and adding is the only way that every version has.
        let (publication, qualified) = (quote_identifier(name), qualified(table));
        let again = format!(
            "begin; alter publication {publication} drop table {qualified}; \
             alter publication {publication} add table {qualified}; commit;"
        );
        if self.row_filter.is_some() {
            let seen = format!(
                "the publication '{name}' has a row filter on {table}: the rows that it leaves \
                 out are not delivered"
            );
            problems.push(Finding::error("WP-PUB-FILTER", seen, again.clone()));
        }
        let Some(columns) = &self.columns else {
            return problems;
        };
        for NeededColumn { column, used_by } in needed {
            if !columns.contains(column) {
                let seen = format!(
                    "the publication '{name}' does not carry the column '{column}' of {table}, \
                     which {used_by} needs"
                );
                problems.push(Finding::error("WP-PUB-COLUMN", seen, again.clone()));
            }
        }
        problems
    }
}

/// A table's row, and its columns.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// `pg_class.relkind`: `r` for a table, `p` for a partitioned one.
    pub kind: String,
    /// `pg_class.relpersistence`: `p` where its changes are in the WAL.
    pub persistence: String,
    pub columns: Vec<String>,
}

/// Looks a table up.
pub(crate) async fn table(
    connection: &mut Connection,
    table: &TableName,
) -> Result<Option<Table>, Error> {
    let sql = format!(
        "select c.relkind, c.relpersistence, coalesce((\
             select jsonb_agg(a.attname order by a.attnum) from pg_catalog.pg_attribute a \
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]') \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = {} and c.relname = {}",
        quote_literal(&table.schema),
        quote_literal(&table.name)
    );
    let rows = connection.query(&sql).await?;
    Ok(rows.first().map(|row| {
        let text = |index: usize| row.get(index).unwrap_or_default().to_owned();
        let columns = serde_json::from_str(row.get(2).unwrap_or_default());
        Table {
            kind: text(0),
            persistence: text(1),
            columns: columns.unwrap_or_default(),
        }
    }))
}

impl Table {
    /// What keeps the rows of the table called `name` from becoming events.
    pub(crate) fn problems(&self, name: &TableName, needed: &[NeededColumn]) -> Vec<Finding> {
        let mut problems = Vec::new();
        if !matches!(self.kind.as_str(), "r" | "p") {
            let seen = format!("{name} is not a table: only a table's rows are in the WAL");
            let fix = "name the table in outbox.table";
            problems.push(Finding::error("WP-TABLE-KIND", seen, fix));
        } else if self.persistence != "p" {
            let seen =
                format!("the table {name} is unlogged or temporary: its rows are not in the WAL");
            let fix = format!("alter table {} set logged;", qualified(name));
            problems.push(Finding::error("WP-TABLE-PERSISTENCE", seen, fix));
        }
        for NeededColumn { column, used_by } in needed {
            if !self.columns.contains(column) {
                let seen =
                    format!("the table {name} has no column '{column}', which {used_by} needs");
                let fix = "add the column, or map another one (outbox.columns, route)";
                problems.push(Finding::error("WP-TABLE-COLUMN", seen, fix));
            }
        }
        problems
    }
}

/// There is no such table.
pub(crate) fn table_missing(name: &TableName) -> Finding {
    let seen = format!("the outbox table {name} does not exist");
    Finding::error("WP-TABLE-MISSING", seen, "walpost init --apply")
}

/// A slot's row, and who streams from it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub row: SlotRow,
    /// Of the process that streams from it.
    pub active_name: Option<String>,
}

/// Looks a slot up.
pub(crate) async fn slot(connection: &mut Connection, name: &str) -> Result<Option<Slot>, Error> {
    let sql = format!(
        "select s.plugin, s.database, s.active_pid, s.restart_lsn, s.confirmed_flush_lsn, \
         s.wal_status, to_jsonb(s) ->> 'two_phase', a.application_name \
         from pg_catalog.pg_replication_slots s \
         left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid where slot_name = {}",
        quote_literal(name)
    );
    let rows = connection.query(&sql).await?;
    Ok(rows.first().map(|row| {
        let text = |index: usize| row.get(index).map(str::to_owned);
        let lsn = |index: usize| row.get(index).and_then(|lsn| lsn.parse().ok());
        let row = SlotRow {
            plugin: text(0),
            database: text(1),
            active_pid: row.get(2).and_then(|pid| pid.parse().ok()),
            restart_lsn: lsn(3),
            confirmed_flush_lsn: lsn(4),
            wal_status: text(5),
            two_phase: row.get(6) == Some("true"),
        };
        Slot {
            row,
            active_name: text(7).filter(|name| !name.is_empty()),
        }
    }))
}

/// Whether the publication, or a table's place in it, is of a transaction that the slot has not
/// passed yet. Catalogue rows carry the transaction that wrote them; the slot knows the oldest one
/// that it still needs. A new slot takes that over from the slot that is furthest behind, so beside
/// such a one nothing can be said.
pub(crate) async fn is_publication_younger(
    connection: &mut Connection,
    publication: &str,
    slot: &str,
) -> Result<bool, Error> {
    let sql = format!(
        "select exists (select from pg_catalog.pg_replication_slots s, (\
             select p.xmin from pg_catalog.pg_publication p where p.pubname = {publication} \
             union all \
             select r.xmin from pg_catalog.pg_publication_rel r \
             join pg_catalog.pg_publication p on p.oid = r.prpubid where p.pubname = {publication}\
         ) written \
         where s.slot_name = {slot} and age(written.xmin) <= age(s.catalog_xmin) \
         and not exists (select from pg_catalog.pg_replication_slots o \
             where o.slot_name <> s.slot_name \
             and age(coalesce(o.catalog_xmin, o.xmin)) >= age(s.catalog_xmin)))",
        publication = quote_literal(publication),
        slot = quote_literal(slot)
    );
    let rows = connection.query(&sql).await?;
    Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName {
            schema: "public".to_owned(),
            name: name.to_owned(),
        }
    }

    fn publication() -> Publication {
        Publication {
            name: "p".to_owned(),
            publishes_insert: true,
            publishes_more: Vec::new(),
            via_root: true,
            for_all_tables: false,
            tables: vec![PublishedTable {
                name: table("outbox"),
                is_partition: false,
                columns: Some(vec!["id".to_owned(), "payload".to_owned()]),
                row_filter: None,
            }],
        }
    }

    fn codes(publication: &Publication) -> Vec<&'static str> {
        let needed = [NeededColumn {
            column: "id".to_owned(),
            used_by: "k".to_owned(),
        }];
        let problems = publication.problems(&[table("outbox")], &needed);
        problems.iter().filter_map(|problem| problem.code).collect()
    }

    #[test]
    fn a_publication_of_just_the_outbox_has_no_problem() {
        assert_eq!(codes(&publication()), [""; 0]);
    }

    #[test]
    fn everything_that_is_wrong_with_a_publication_is_told() {
        let mut wrong = publication();
        wrong.publishes_insert = false;
        wrong.publishes_more = vec!["update"];
        wrong.via_root = false;
        wrong.tables[0].row_filter = Some("(false)".to_owned());
        wrong.tables[0].columns = Some(vec!["payload".to_owned()]);
        let foreign = PublishedTable {
            name: table("x"),
            ..publication().tables[0].clone()
        };
        wrong.tables.push(foreign);
        assert_eq!(
            codes(&wrong),
            [
                "WP-PUB-INSERT",
                "WP-PUB-MORE",
                "WP-PUB-ROOT",
                "WP-PUB-FILTER",
                "WP-PUB-COLUMN",
                "WP-PUB-FOREIGN"
            ]
        );
        wrong.tables.clear();
        assert_eq!(codes(&wrong).last(), Some(&"WP-PUB-TABLE"));
    }
}
