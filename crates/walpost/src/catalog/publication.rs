//! A publication: what it carries of the outbox, and what else.

use walpost_core::TableName;
use walpost_walsender::{Connection, Error, Row, quote_identifier, quote_literal};

use super::Table;
use crate::checks;
use crate::config::NeededColumn;
use crate::finding::Finding;
use crate::sql::qualified;

/// A publication's row, and the tables that it carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    pub name: String,
    publishes_insert: bool,
    /// `update`, `delete`, `truncate`, as far as it publishes them.
    publishes_more: Vec<&'static str>,
    via_root: bool,
    for_all_tables: bool,
    /// Schemas that it carries whole.
    schemas: Vec<String>,
    /// Tables that were put into it by name.
    members: Vec<TableName>,
    tables: Vec<PublishedTable>,
}

/// A table under whose name rows are sent.
#[derive(Clone, Debug)]
struct PublishedTable {
    name: TableName,
    /// The partitioned table above it; its own name where there is none.
    root: TableName,
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
        "select p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, \
         p.puballtables, \
         (select coalesce(jsonb_agg(jsonb_build_array(n.nspname, c.relname)), '[]') \
          from pg_catalog.pg_publication_rel r join pg_catalog.pg_class c on c.oid = r.prrelid \
          join pg_catalog.pg_namespace n on n.oid = c.relnamespace where r.prpubid = p.oid), \
         current_setting('server_version_num')::int >= 150000 \
         from pg_catalog.pg_publication p where p.pubname = {quoted}"
    );
    let rows = connection.query(&sql).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let is_set = |index: &usize| row.get(*index) == Some("t");
    let more = [(1, "update"), (2, "delete"), (3, "truncate")];
    let members: Vec<(String, String)> = row
        .get(6)
        .and_then(|members| serde_json::from_str(members).ok())
        .unwrap_or_default();
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
        schemas: Vec::new(),
        members: members
            .into_iter()
            .map(|(schema, name)| TableName { schema, name })
            .collect(),
        tables: published_tables(connection, &quoted).await?,
    };
    if is_set(&7) {
        publication.schemas = published_schemas(connection, &quoted).await?;
    }
    Ok(Some(publication))
}

async fn published_tables(
    connection: &mut Connection,
    quoted: &str,
) -> Result<Vec<PublishedTable>, Error> {
    // As JSON, because servers before 15 have no columns of these names.
    let sql = format!(
        "select t.schemaname, t.tablename, \
         coalesce(rn.nspname, t.schemaname), coalesce(r.relname, t.tablename), \
         to_jsonb(t) -> 'attnames', to_jsonb(t) ->> 'rowfilter' \
         from pg_catalog.pg_publication_tables t \
         join pg_catalog.pg_namespace n on n.nspname = t.schemaname \
         join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename \
         left join pg_catalog.pg_class r on r.oid = pg_partition_root(c.oid) \
         left join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace \
         where t.pubname = {quoted} order by 1, 2"
    );
    let rows = connection.query(&sql).await?;
    Ok(rows.iter().filter_map(published_table).collect())
}

async fn published_schemas(
    connection: &mut Connection,
    quoted: &str,
) -> Result<Vec<String>, Error> {
    let sql = format!(
        "select n.nspname from pg_catalog.pg_publication_namespace pn \
         join pg_catalog.pg_publication p on p.oid = pn.pnpubid \
         join pg_catalog.pg_namespace n on n.oid = pn.pnnspid where p.pubname = {quoted}"
    );
    let rows = connection.query(&sql).await?;
    let name = |row: &Row| row.get(0).map(str::to_owned);
    Ok(rows.iter().filter_map(name).collect())
}

fn published_table(row: &Row) -> Option<PublishedTable> {
    let text = |index: usize| row.get(index).map(str::to_owned);
    Some(PublishedTable {
        name: TableName {
            schema: text(0)?,
            name: text(1)?,
        },
        root: TableName {
            schema: text(2)?,
            name: text(3)?,
        },
        columns: row
            .get(4)
            .and_then(|columns| serde_json::from_str(columns).ok()),
        row_filter: text(5),
    })
}

/// There is no such publication.
pub(crate) fn publication_missing(name: &str) -> Finding {
    let seen = format!(
        "the publication '{name}' does not exist; rows that were committed while there was none \
         are not in the stream"
    );
    checks::PUB_MISSING.found(name, seen, "walpost init --apply")
}

/// The publication is younger than what the slot still has to send, and there is no spare.
pub(crate) fn publication_not_there_yet(name: &str, spare: &str) -> Finding {
    let seen = format!(
        "the publication '{name}' did not exist at the slot's position: it was made after the \
         slot, or dropped and made anew; and there is no spare '{spare}' that did"
    );
    let fix = "compare the outbox table with Kafka and deliver what is missing, drop the slot, \
               then walpost init --apply, which names the gap that is to be accepted";
    checks::PUB_YOUNGER.found(name, seen, fix)
}

/// What is wrong with the spare: nothing of it keeps the relay from working.
pub(crate) fn spare_problem(
    name: &str,
    spare: Option<&Publication>,
    tables: &[Table],
    needed: &[NeededColumn],
) -> Option<Finding> {
    let Some(spare) = spare else {
        let seen = format!(
            "the spare publication '{name}' does not exist, so that nothing could take the first \
             one's place if that is dropped"
        );
        return Some(checks::PUB_SPARE.found(name, seen, "walpost init --apply"));
    };
    let problems = spare.problems(tables, needed);
    let first = problems.first()?;
    let seen = format!(
        "the spare could not take the first one's place if that is dropped: {}",
        first.seen
    );
    let fixes: Vec<_> = problems.iter().filter_map(|p| p.fix.as_deref()).collect();
    Some(checks::PUB_SPARE.found(name, seen, fixes.join("\n")))
}

impl Publication {
    /// Everything that keeps it from carrying the outbox, and nothing but the outbox.
    pub(crate) fn problems(&self, tables: &[Table], needed: &[NeededColumn]) -> Vec<Finding> {
        let name = &self.name;
        let set_insert = self.insert_only();
        let mut problems = Vec::new();
        if !self.publishes_insert {
            let seen = format!("the publication '{name}' does not publish inserts");
            problems.push(checks::PUB_INSERT.found(name, seen, set_insert.clone()));
        }
        if !self.publishes_more.is_empty() {
            let more = self.publishes_more.join(", ");
            let seen = format!(
                "the publication '{name}' publishes {more} too: walpost passes them over, after \
                 the server has decoded and sent them"
            );
            problems.push(checks::PUB_MORE.found(name, seen, set_insert));
        }
        if !self.via_root {
            problems.push(self.root_problem());
        }
        // What is no table in the WAL can't be added: that is to be mended first.
        for table in tables.iter().filter(|table| table.is_publishable()) {
            problems.extend(self.table_problems(table, needed));
        }
        problems.extend(self.foreign_problem(tables));
        problems
    }

    /// It publishes what needs a replica identity.
    pub(crate) fn publishes_changes(&self) -> bool {
        self.publishes_more
            .iter()
            .any(|what| matches!(*what, "update" | "delete"))
    }

    /// SQL that leaves it with inserts alone.
    pub(crate) fn insert_only(&self) -> String {
        format!("{} set (publish = 'insert');", self.alter())
    }

    fn alter(&self) -> String {
        format!("alter publication {}", quote_identifier(&self.name))
    }

    fn root_problem(&self) -> Finding {
        let name = &self.name;
        let seen = format!(
            "the publication '{name}' has publish_via_partition_root off: events of a partitioned \
             outbox come under the names of its partitions"
        );
        let fix = format!("{} set (publish_via_partition_root = true);", self.alter());
        let found = checks::PUB_ROOT.found(name, seen, fix);
        if self.tables.iter().any(|table| table.name != table.root) {
            found
        } else {
            found.into_warning()
        }
    }

    fn table_problems(&self, table: &Table, needed: &[NeededColumn]) -> Vec<Finding> {
        let (name, outbox) = (&self.name, &table.name);
        // With the root's name on, a partition that stands alone is only itself.
        let carries = |found: &&PublishedTable| {
            found.name == *outbox || (!self.via_root && found.root == *outbox)
        };
        if let Some(found) = self.tables.iter().find(carries) {
            return self.column_problems(table, found, needed);
        }
        if let Some(root) = table.ancestors.iter().find(|above| self.is_carried(above)) {
            let seen = format!(
                "{outbox} is a partition of {root}, and the publication '{name}' sends its rows \
                 under that name"
            );
            let fix = format!("outbox.table: {}", crate::config::table_text(root));
            return vec![checks::TABLE_PARTITION.found(outbox.to_string(), seen, fix)];
        }
        let seen = format!("the publication '{name}' does not carry the table {outbox}");
        let fix = format!("{} add table {};", self.alter(), qualified(outbox));
        vec![checks::PUB_TABLE.found(name, seen, fix)]
    }

    fn is_carried(&self, table: &TableName) -> bool {
        self.tables.iter().any(|found| found.name == *table)
    }

    fn column_problems(
        &self,
        table: &Table,
        published: &PublishedTable,
        needed: &[NeededColumn],
    ) -> Vec<Finding> {
        let (name, outbox) = (&self.name, &table.name);
        let mut problems = Vec::new();
        // Dropping and adding is the only way that every version has.
        let (alter, qualified) = (self.alter(), qualified(outbox));
        let again = format!(
            "begin; {alter} drop table {qualified}; {alter} add table {qualified}; commit;"
        );
        if let Some(filter) = &published.row_filter {
            let seen = format!(
                "the publication '{name}' has a row filter on {outbox}: the rows that {filter} \
                 leaves out are not delivered"
            );
            problems.push(checks::PUB_FILTER.found(name, seen, again.clone()));
        }
        let is_sent = |column: &String| {
            // Before 18 no generated column is sent, and some versions list them all the same.
            let is_kept_back = table.server_major < 18 && table.generated(column).is_some();
            let is_listed = |columns: &Vec<String>| columns.contains(column);
            !is_kept_back && published.columns.as_ref().is_none_or(is_listed)
        };
        for NeededColumn { column, used_by } in needed {
            // One that does not exist is the table's problem.
            if is_sent(column) || !table.has(column) {
                continue;
            }
            if let Some(kind) = table.generated(column) {
                problems.push(self.generated_problem(table, column, used_by, kind));
                continue;
            }
            let seen = format!(
                "the publication '{name}' does not carry the column '{column}' of {outbox}, \
                 which {used_by} needs"
            );
            problems.push(checks::PUB_COLUMN.found(name, seen, again.clone()));
        }
        problems
    }

    fn generated_problem(&self, table: &Table, column: &str, used_by: &str, kind: char) -> Finding {
        let seen = format!(
            "the column '{column}' of {}, which {used_by} needs, is generated, and the publication \
             '{}' does not carry such columns",
            table.name, self.name
        );
        let fix = match kind {
            's' if table.server_major >= 18 => {
                format!("{} set (publish_generated_columns = stored);", self.alter())
            }
            's' => format!(
                "alter table {} alter column {} drop expression; -- and let the application fill \
                 it",
                qualified(&table.name),
                quote_identifier(column)
            ),
            _ => "make the column an ordinary one that the application fills, or map another one \
                  (outbox.columns)"
                .to_owned(),
        };
        checks::TABLE_GENERATED.found(format!("{}.{column}", table.name), seen, fix)
    }

    fn foreign_problem(&self, tables: &[Table]) -> Option<Finding> {
        let name = &self.name;
        if self.for_all_tables {
            let seen = format!("the publication '{name}' carries all tables of the database");
            let fix = "name another one in postgres.publication, then walpost init --apply";
            return Some(checks::PUB_FOREIGN.found(name, seen, fix));
        }
        let is_ours = |found: &TableName| {
            tables
                .iter()
                .any(|table| table.name == *found || table.ancestors.contains(found))
        };
        let foreign = self
            .tables
            .iter()
            .filter(|found| !is_ours(&found.name) && !is_ours(&found.root));
        let foreign: Vec<_> = foreign.collect();
        if foreign.is_empty() {
            return None;
        }
        let mut names: Vec<_> = foreign.iter().map(|found| found.root.to_string()).collect();
        names.dedup();
        let seen = format!(
            "the publication '{name}' carries what is not in outbox.table: {}",
            names.join(", ")
        );
        Some(checks::PUB_FOREIGN.found(name, seen, self.without(&foreign, tables)))
    }

    /// SQL that takes tables out. A schema that is carried whole goes whole.
    fn without(&self, foreign: &[&PublishedTable], tables: &[Table]) -> String {
        let alter = self.alter();
        let mut statements = Vec::new();
        let is_foreign_schema =
            |schema: &&String| foreign.iter().any(|found| found.name.schema == **schema);
        for schema in self.schemas.iter().filter(is_foreign_schema) {
            let quoted = quote_identifier(schema);
            statements.push(format!("{alter} drop tables in schema {quoted};"));
            for table in tables.iter().filter(|table| table.name.schema == *schema) {
                if !self.members.contains(&table.name) {
                    let quoted = qualified(&table.name);
                    statements.push(format!("{alter} add table {quoted};"));
                }
            }
        }
        let is_foreign = |member: &&TableName| {
            foreign
                .iter()
                .any(|found| found.name == **member || found.root == **member)
        };
        let members: Vec<_> = self
            .members
            .iter()
            .filter(is_foreign)
            .map(qualified)
            .collect();
        if !members.is_empty() {
            statements.push(format!("{alter} drop table {};", members.join(", ")));
        }
        match &statements[..] {
            [one] => one.clone(),
            several => format!("begin; {} commit;", several.join(" ")),
        }
    }
}

/// Whether the publication, or a table's place in it, is of a transaction that the slot has not
/// passed yet. Catalogue rows carry the transaction that wrote them; the slot knows the oldest one
/// that it still needs. A new slot takes that over from the slot that is furthest behind, so beside
/// such a one nothing can be said. Nor of a row that is more than two thousand million transactions
/// old: its number looks like one of the future, and is of no young one.
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
         where s.slot_name = {slot} \
         and age(written.xmin) between 0 and age(s.catalog_xmin) \
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

    fn name(name: &str) -> TableName {
        TableName {
            schema: "public".to_owned(),
            name: name.to_owned(),
        }
    }

    fn published(of: &str) -> PublishedTable {
        PublishedTable {
            name: name(of),
            root: name(of),
            columns: Some(vec!["id".to_owned(), "payload".to_owned()]),
            row_filter: None,
        }
    }

    fn publication() -> Publication {
        Publication {
            name: "p".to_owned(),
            publishes_insert: true,
            via_root: true,
            members: vec![name("outbox")],
            tables: vec![published("outbox")],
            ..Publication::default()
        }
    }

    fn problems(publication: &Publication) -> Vec<Finding> {
        let needed = [NeededColumn {
            column: "id".to_owned(),
            used_by: "k".to_owned(),
        }];
        let table = Table::plain(name("outbox"), &["id", "payload"]);
        publication.problems(&[table], &needed)
    }

    fn codes(publication: &Publication) -> Vec<&'static str> {
        let problems = problems(publication);
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
        wrong.tables.push(published("x"));
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

    #[test]
    fn a_schema_that_is_carried_whole_is_taken_out_whole() {
        let mut wrong = publication();
        wrong.members.clear();
        wrong.schemas.push("public".to_owned());
        wrong.tables.push(published("x"));
        let problems = problems(&wrong);
        assert_eq!(
            problems[0].fix.as_deref(),
            Some(
                "begin; alter publication \"p\" drop tables in schema \"public\"; \
                 alter publication \"p\" add table \"public\".\"outbox\"; commit;"
            )
        );
    }
}
