//! The questions about a table.

use std::collections::BTreeSet;

use walpost_core::TableName;
use walpost_walsender::{Connection, Error, Row, quote_identifier, quote_literal};

use super::Table;
use crate::sql::qualified;

/// Send functions whose output is the text: those of enums and of text, which `citext` and its like
/// name as their own. Built-in types are known without.
const TEXTUAL_SEND: &str = "p.prolang = (select oid from pg_catalog.pg_language \
     where lanname = 'internal') and p.prosrc in ('enum_send', 'textsend')";

/// Types of the database, by oid, whose binary form is their text. A domain has the send function
/// of the type below it.
pub(crate) async fn textual_types(connection: &mut Connection) -> Result<BTreeSet<u32>, Error> {
    let sql = format!(
        "select t.oid from pg_catalog.pg_type t join pg_catalog.pg_proc p on p.oid = t.typsend \
         where {TEXTUAL_SEND} and t.oid >= 16384"
    );
    let rows = connection.query(&sql).await?;
    let oid = |row: &Row| row.get(0)?.parse().ok();
    Ok(rows.iter().filter_map(oid).collect())
}

/// Looks a table up.
pub(crate) async fn table(
    connection: &mut Connection,
    name: &TableName,
) -> Result<Option<Table>, Error> {
    let sql = format!(
        "select c.oid, c.relkind, c.relpersistence, c.relreplident, \
         exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary), \
         (select coalesce(jsonb_agg(jsonb_build_array(an.nspname, a.relname)), '[]') \
          from pg_partition_ancestors(c.oid) above \
          join pg_catalog.pg_class a on a.oid = above \
          join pg_catalog.pg_namespace an on an.oid = a.relnamespace where above <> c.oid), \
         current_setting('server_version_num')::int / 10000 \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = {} and c.relname = {}",
        quote_literal(&name.schema),
        quote_literal(&name.name)
    );
    let rows = connection.query(&sql).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let text = |index: usize| row.get(index).unwrap_or_default().to_owned();
    let oid = text(0);
    let ancestors: Vec<(String, String)> = serde_json::from_str(&text(5)).unwrap_or_default();
    let kind = text(1);
    let leaves = if kind == "p" {
        json(connection, &leaves_sql(&oid)).await?
    } else {
        Vec::new()
    };
    Ok(Some(Table {
        name: name.clone(),
        oid: oid.parse().unwrap_or(0),
        kind,
        persistence: text(2),
        identity: text(3),
        has_primary_key: text(4) == "t",
        columns: json(connection, &columns_sql(&oid)).await?,
        ancestors: ancestors
            .into_iter()
            .map(|(schema, name)| TableName { schema, name })
            .collect(),
        leaves,
        server_major: text(6).parse().unwrap_or(0),
    }))
}

/// The columns with the types below their domains, any of which may refuse NULL.
fn columns_sql(oid: &str) -> String {
    format!(
        "with recursive base as (\
             select a.attnum, t.oid, t.typtype, t.typbasetype, \
                 a.attnotnull or t.typnotnull as not_null from pg_catalog.pg_attribute a \
             join pg_catalog.pg_type t on t.oid = a.atttypid \
             where a.attrelid = {oid} and a.attnum > 0 and not a.attisdropped \
             union all \
             select b.attnum, t.oid, t.typtype, t.typbasetype, b.not_null or t.typnotnull \
             from base b \
             join pg_catalog.pg_type t on t.oid = b.typbasetype where b.typtype = 'd') \
         select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, \
             'type', format_type(a.atttypid, a.atttypmod), \
             'base', case when n.nspname = 'pg_catalog' then t.typname end, \
             'textual', exists (select from pg_catalog.pg_proc p \
                 where p.oid = t.typsend and {TEXTUAL_SEND}), \
             'not_null', b.not_null, 'generated', a.attgenerated) order by a.attnum), '[]') \
         from base b join pg_catalog.pg_attribute a on a.attrelid = {oid} and a.attnum = b.attnum \
         join pg_catalog.pg_type t on t.oid = b.oid \
         join pg_catalog.pg_namespace n on n.oid = t.typnamespace where b.typtype <> 'd'"
    )
}

fn leaves_sql(oid: &str) -> String {
    format!(
        "select coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname, \
             'kind', c.relkind, 'persistence', c.relpersistence, \
             'is_default', pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT') \
             order by n.nspname, c.relname), '[]') \
         from pg_partition_tree({oid}) tree join pg_catalog.pg_class c on c.oid = tree.relid \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where tree.isleaf and tree.level > 0"
    )
}

async fn json<T: serde::de::DeserializeOwned>(
    connection: &mut Connection,
    sql: &str,
) -> Result<Vec<T>, Error> {
    let rows = connection.query(sql).await?;
    let text = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
    Ok(serde_json::from_str(text).unwrap_or_default())
}

/// Tables of the database, for finding the one that was meant.
pub(crate) async fn table_names(connection: &mut Connection) -> Result<Vec<TableName>, Error> {
    const SQL: &str = "select n.nspname, c.relname from pg_catalog.pg_class c \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' \
         and n.nspname <> 'information_schema' order by 1, 2 limit 10000";
    let rows = connection.query(SQL).await?;
    let name = |row: &Row| {
        Some(TableName {
            schema: row.get(0)?.to_owned(),
            name: row.get(1)?.to_owned(),
        })
    };
    Ok(rows.iter().filter_map(name).collect())
}

/// Whether a partition holds rows; none where this role may not look.
pub(crate) async fn has_default_rows(
    connection: &mut Connection,
    partition: &TableName,
) -> Result<Option<bool>, Error> {
    let sql = format!("select exists (select from only {})", qualified(partition));
    Ok(look(connection, &sql).await?.map(|found| found == "t"))
}

/// The largest payload among a few hundred rows of a few dozen pages, in bytes; none where there
/// are no rows, where this role may not read them, or where it would take long.
pub(crate) async fn largest_payload(
    connection: &mut Connection,
    table: &Table,
    column: &str,
) -> Result<Option<u64>, Error> {
    const PAGES: &str = "50";
    let (quoted, name) = (quote_identifier(column), qualified(&table.name));
    // The length of a text is known without reading it.
    let bytes = match table.base(column) {
        Some("bytea" | "text" | "varchar") => format!("octet_length({quoted})"),
        _ => format!("octet_length({quoted}::text)"),
    };
    // Of a table that is not partitioned the tree is empty.
    let sql = format!(
        "select sum(greatest(relpages, 0)) from pg_catalog.pg_class where oid = {oid} \
         or oid in (select relid from pg_partition_tree({oid}))",
        oid = table.oid
    );
    let pages = look(connection, &sql).await?;
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    // In one message, so that the time limit ends with it, and nothing of it stays in a pool.
    let sql = format!(
        "begin; set local statement_timeout = '2s'; \
         select max(bytes) from (select {bytes} as bytes from {name} \
         tablesample system (least(100, 100.0 * {PAGES} / greatest({pages}, 1))) limit 300) \
         sample; \
         commit;"
    );
    let largest = look(connection, &sql).await;
    if largest.is_err() || matches!(largest, Ok(None)) {
        connection.query("rollback").await?;
    }
    Ok(largest?.and_then(|bytes| bytes.parse().ok()))
}

/// A value, unless the server does not give it: the role may not see it, or it takes too long.
async fn look(connection: &mut Connection, sql: &str) -> Result<Option<String>, Error> {
    match connection.query(sql).await {
        Ok(rows) => Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned)),
        Err(error) if error.sqlstate().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A partition that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewPartition {
    pub column: String,
    pub from: String,
    pub to: String,
    /// For its name.
    pub suffix: String,
}

/// The partition that rows of tomorrow need, where the table is partitioned by range of one date
/// or time, without a default partition.
pub(crate) async fn missing_partition(
    connection: &mut Connection,
    table: &Table,
) -> Result<Option<NewPartition>, Error> {
    if !table.is_partitioned() {
        return Ok(None);
    }
    let sql = format!(
        "with root as (\
             select p.partrelid, a.attname, a.atttypid::regtype::text as kind \
             from pg_catalog.pg_partitioned_table p \
             join pg_catalog.pg_attribute a \
                 on a.attrelid = p.partrelid and a.attnum = p.partattrs[0] \
             where p.partrelid = {oid} and p.partstrat = 'r' and p.partnatts = 1 \
             and p.partdefid = 0 and a.atttypid in \
                 ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)), \
         bound as (\
             select substring(text from 'FROM \\((.*)\\) TO') as low, \
                 substring(text from 'TO \\((.*)\\)$') as high \
             from root join pg_catalog.pg_inherits i \
                 on i.inhparent = root.partrelid and not i.inhdetachpending \
             join pg_catalog.pg_class c on c.oid = i.inhrelid, \
             lateral pg_get_expr(c.relpartbound, c.oid) text), \
         part as (\
             select case low when 'MINVALUE' then '-infinity' \
                    else trim(both '''' from low) end::timestamptz as low, \
                 case high when 'MAXVALUE' then 'infinity' \
                    else trim(both '''' from high) end::timestamptz as high from bound), \
         tomorrow as (select now() + interval '1 day' as at), \
         begins as (\
             select coalesce(max(high), date_trunc('day', now())) as low, \
                 coalesce((array_agg(high - low order by high desc) \
                     filter (where low > '-infinity'))[1], interval '1 day') as length \
             from part, tomorrow where high <= at), \
         new as (\
             select low, least(greatest(low + length, date_trunc('day', at) + interval '1 day'), \
                 (select min(p.low) from part p where p.low > at)) as high \
             from begins, tomorrow) \
         select attname, to_char(low, form), to_char(high, form), to_char(low, 'YYYYMMDD') \
         from root, new, lateral (select case kind when 'date' then 'YYYY-MM-DD' \
             when 'timestamp with time zone' then 'YYYY-MM-DD HH24:MI:SS+00' \
             else 'YYYY-MM-DD HH24:MI:SS' end as form) format \
         where not exists (select from part, tomorrow where part.low <= at and at < part.high)",
        oid = table.oid
    );
    let rows = connection.query(&sql).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let text = |index: usize| row.get(index).unwrap_or_default().to_owned();
    Ok(Some(NewPartition {
        column: text(0),
        from: text(1),
        to: text(2),
        suffix: text(3),
    }))
}
