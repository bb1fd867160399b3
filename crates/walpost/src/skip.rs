//! The table of events that an operator lets pass: read at the start of a session, written by
//! `walpost skip`.

use walpost_core::{Position, TableName};
use walpost_pgoutput::Lsn;
use walpost_walsender::{Connection, Error, quote_identifier, quote_literal};

use crate::checks;
use crate::finding::Finding;
use crate::sql::qualified;

const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// `undefined_table`, `invalid_schema_name`
const NO_TABLE: [&str; 2] = ["42P01", "3F000"];

/// An event that is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub position: Position,
    pub id: String,
}

/// What was recorded of one.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub skip: Skip,
    pub reason: String,
    pub by: String,
    pub at: String,
}

/// The events of the slot whose commits are at `from` or behind it, in order. A table that is not
/// there has none: the set-up can be older than it.
pub(crate) async fn read(
    connection: &mut Connection,
    table: &TableName,
    slot: &str,
    from: Lsn,
) -> Result<Vec<Recorded>, Error> {
    let sql = format!(
        "select commit_lsn, ordinal, id, reason, by, at from {} where slot = {} and commit_lsn >= \
         {} order by commit_lsn, ordinal",
        qualified(table),
        quote_literal(slot),
        quote_literal(&from.to_string())
    );
    let rows = match connection.query(&sql).await {
        Ok(rows) => rows,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let recorded = rows.iter().filter_map(|row| {
        let text = |index: usize| row.get(index).unwrap_or_default().to_owned();
        Some(Recorded {
            skip: Skip {
                position: Position {
                    commit_lsn: text(0).parse().ok()?,
                    ordinal: text(1).parse().ok()?,
                },
                id: text(2),
            },
            reason: text(3),
            by: text(4),
            at: text(5),
        })
    });
    Ok(recorded.collect())
}

/// Records one. What is recorded already stays. `by` is a person; the role is recorded beside.
pub(crate) async fn record(
    connection: &mut Connection,
    table: &TableName,
    slot: &str,
    skip: &Skip,
    (reason, by): (&str, &str),
) -> Result<(), Error> {
    let sql = format!(
        "insert into {} (slot, commit_lsn, ordinal, id, reason, by) values ({}, {}, {}, {}, {}, {} \
         || ' as ' || session_user) on conflict do nothing",
        qualified(table),
        quote_literal(slot),
        quote_literal(&skip.position.commit_lsn.to_string()),
        skip.position.ordinal,
        quote_literal(&skip.id),
        quote_literal(reason),
        quote_literal(by)
    );
    connection.query(&sql).await.map(drop)
}

/// Whether the table is not there.
pub(crate) fn is_missing(error: &Error) -> bool {
    error
        .sqlstate()
        .is_some_and(|code| NO_TABLE.contains(&code))
}

/// What keeps the relay from seeing what an operator lets pass, if anything does.
pub(crate) async fn problem(
    connection: &mut Connection,
    table: &TableName,
) -> Result<Option<Finding>, Error> {
    let name = quote_literal(&qualified(table));
    let sql = format!(
        "select has_table_privilege(table_oid, 'select') and has_table_privilege(table_oid, \
         'insert') from (select to_regclass({name}) as table_oid) found"
    );
    let rows = match connection.query(&sql).await {
        Ok(rows) => rows,
        // Not even the schema may be looked into.
        Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => {
            return Ok(Some(denied_problem(table)));
        }
        Err(error) => return Err(error),
    };
    let problem =
        |seen: String, fix: &str| Ok(Some(checks::SKIP_TABLE.found(table.to_string(), seen, fix)));
    match rows.first().and_then(|row| row.get(0)) {
        Some("t") => {}
        Some(_) => return Ok(Some(denied_problem(table))),
        None => {
            let seen = format!("there is no table {table} for events that may be passed over");
            return problem(seen, "walpost init --apply");
        }
    }
    match read(connection, table, "", Lsn::ZERO).await {
        Ok(_) => Ok(None),
        Err(error) if error.server().is_some() => {
            let seen = format!("{table} can't be read: {error}");
            problem(
                seen,
                "put its columns right; or name another table in postgres.checkpoint",
            )
        }
        Err(error) => Err(error),
    }
}

fn denied_problem(table: &TableName) -> Finding {
    let seen = format!("the role may not read and write {table}: no event can be let pass");
    let fix = format!(
        "grant usage on schema {} to ROLE; grant select, insert on {} to ROLE;",
        quote_identifier(&table.schema),
        qualified(table)
    );
    checks::SKIP_TABLE.found(table.to_string(), seen, fix)
}
