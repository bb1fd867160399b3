//! The checkpoint row: read at the start of a session, written before the slot is told.
//!
//! A table in the same database, because that is the one place that goes back together with the WAL
//! when a standby takes over that was behind. A position that is kept anywhere else would then be
//! ahead of the new history and swallow its events.

mod record;

use walpost_core::TableName;
use walpost_core::class::Exit;
use walpost_core::start::{Checkpoint, Identity};
use walpost_pgoutput::Lsn;
use walpost_walsender::{Connection, Error, quote_identifier, quote_literal};

use crate::checks;
use crate::finding::Finding;
use crate::sql::qualified;

/// What the columns mean. A row of a newer one may not be what it seems.
pub(crate) const SCHEMA_VERSION: u32 = 1;

const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// `undefined_table`, `invalid_schema_name`, `undefined_column`
const NO_TABLE: [&str; 3] = ["42P01", "3F000", "42703"];

/// There is no reading the row, or no writing it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The set-up is wrong.
    Found(Box<Finding>, Exit),
    /// The connection failed, or the server reported an error.
    Postgres(Error),
}

/// The row of a slot, if there is one.
pub(crate) async fn read(
    connection: &mut Connection,
    table: &TableName,
    slot: &str,
) -> Result<Option<Checkpoint>, Fault> {
    let sql = format!(
        "select system_identifier, timeline, lsn, kafka_cluster_id, config, schema_version, \
         version from {} where slot = {}",
        qualified(table),
        quote_literal(slot)
    );
    let rows = match connection.query(&sql).await {
        Ok(rows) => rows,
        Err(error) => return Err(judge(table, error)),
    };
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let text = |index: usize| row.get(index).unwrap_or_default();
    let schema_version: u32 = text(5).parse().unwrap_or(u32::MAX);
    if schema_version > SCHEMA_VERSION {
        let problem = version_problem(slot, text(6));
        return Err(Fault::Found(Box::new(problem), Exit::Configuration));
    }
    let columns = [0, 1, 2, 3, 4].map(|index| row.get(index));
    let checkpoint = record::parse(columns);
    match checkpoint {
        Some(checkpoint) => Ok(Some(checkpoint)),
        None => {
            let problem = unreadable_problem(table, slot);
            Err(Fault::Found(Box::new(problem), Exit::Configuration))
        }
    }
}

/// Writes the row as a whole, in the place of the one that was read, or of none. False where
/// another one is there by now. `accepted` is what an operator let pass.
pub(crate) async fn store(
    connection: &mut Connection,
    table: &TableName,
    slot: &str,
    old: Option<&Checkpoint>,
    checkpoint: &Checkpoint,
    accepted: Option<&str>,
) -> Result<bool, Fault> {
    let values = values(slot, checkpoint, accepted);
    let is_old = match old {
        None => "false".to_owned(),
        Some(old) => format!(
            "c.lsn = {} and c.system_identifier = {} and c.timeline = {}",
            quote_literal(&old.lsn.to_string()),
            quote_literal(&old.identity.system_identifier.to_string()),
            old.identity.timeline
        ),
    };
    let sql = format!(
        "insert into {} as c ({COLUMNS}) values ({values}) on conflict (slot) do update set \
         ({COLUMNS}) = row (excluded.slot, excluded.system_identifier, excluded.timeline, \
         excluded.lsn, coalesce(excluded.kafka_cluster_id, c.kafka_cluster_id), excluded.config, \
         excluded.schema_version, excluded.version, coalesce(excluded.accepted, c.accepted), \
         excluded.updated_at) where {is_old} returning 1",
        qualified(table),
    );
    match connection.query(&sql).await {
        Ok(rows) => Ok(!rows.is_empty()),
        Err(error) => Err(judge(table, error)),
    }
}

/// Moves the row on. It never goes back: a statement that hung may be carried out after a later
/// one. False where it is not ours to move: gone, ahead of us, or of another history.
pub(crate) async fn advance(
    connection: &mut Connection,
    table: &TableName,
    slot: &str,
    identity: Identity,
    lsn: Lsn,
    kafka_cluster: Option<&str>,
) -> Result<bool, Error> {
    let sql = format!(
        "update {} set lsn = {}, kafka_cluster_id = coalesce({}, kafka_cluster_id), version = {}, \
         updated_at = pg_catalog.now() where slot = {} and lsn <= {} and system_identifier = {} \
         and timeline = {} returning 1",
        qualified(table),
        quote_literal(&lsn.to_string()),
        literal(kafka_cluster),
        quote_literal(env!("CARGO_PKG_VERSION")),
        quote_literal(slot),
        quote_literal(&lsn.to_string()),
        quote_literal(&identity.system_identifier.to_string()),
        identity.timeline,
    );
    let rows = connection.query(&sql).await?;
    Ok(!rows.is_empty())
}

/// Whether the role may do what the relay does with the row.
pub(crate) async fn right_problem(
    connection: &mut Connection,
    table: &TableName,
) -> Result<Option<Finding>, Error> {
    let sql = format!(
        "select bool_and(has_table_privilege({}, wanted)) from \
         unnest(array['select', 'insert', 'update']) wanted",
        quote_literal(&qualified(table))
    );
    let may = match connection.query(&sql).await {
        Ok(rows) => rows.first().and_then(|row| row.get(0)) == Some("t"),
        // Not even the schema may be looked into.
        Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => false,
        Err(error) => return Err(error),
    };
    Ok((!may).then(|| denied_problem(table)))
}

const COLUMNS: &str = "slot, system_identifier, timeline, lsn, kafka_cluster_id, config, \
                       schema_version, version, accepted, updated_at";

fn values(slot: &str, checkpoint: &Checkpoint, accepted: Option<&str>) -> String {
    let Checkpoint {
        identity,
        lsn,
        kafka_cluster,
        config,
    } = checkpoint;
    let config = serde_json::to_string(config).unwrap_or_default();
    [
        quote_literal(slot),
        quote_literal(&identity.system_identifier.to_string()),
        identity.timeline.to_string(),
        quote_literal(&lsn.to_string()),
        literal(kafka_cluster.as_deref()),
        quote_literal(&config),
        SCHEMA_VERSION.to_string(),
        quote_literal(env!("CARGO_PKG_VERSION")),
        literal(accepted),
        "pg_catalog.now()".to_owned(),
    ]
    .join(", ")
}

fn literal(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), quote_literal)
}

fn judge(table: &TableName, error: Error) -> Fault {
    let (problem, exit) = match error.sqlstate() {
        Some(INSUFFICIENT_PRIVILEGE) => (denied_problem(table), Exit::Permission),
        Some(code) if NO_TABLE.contains(&code) => (missing_problem(table), Exit::Configuration),
        _ => return Fault::Postgres(error),
    };
    Fault::Found(Box::new(problem), exit)
}

fn missing_problem(table: &TableName) -> Finding {
    let seen = format!("there is no table {table} for the checkpoint, or not with its columns");
    let fix = "walpost init --apply (postgres.checkpoint: none does without one, and can't notice \
               a slot that was moved or made anew)";
    checks::CHECKPOINT_TABLE.found(table.to_string(), seen, fix)
}

fn denied_problem(table: &TableName) -> Finding {
    let seen = format!("the role may not read and write the checkpoint, {table}");
    let fix = format!(
        "grant usage on schema {} to ROLE; grant select, insert, update on {} to ROLE;",
        quote_identifier(&table.schema),
        qualified(table)
    );
    checks::CHECKPOINT_RIGHT.found(table.to_string(), seen, fix)
}

fn version_problem(slot: &str, version: &str) -> Finding {
    let seen = format!(
        "the checkpoint of the slot '{slot}' was written by walpost {version}, which this version \
         ({}) does not understand",
        env!("CARGO_PKG_VERSION")
    );
    let fix = format!("run walpost {version} or newer");
    checks::CHECKPOINT_VERSION.found(slot, seen, fix)
}

fn unreadable_problem(table: &TableName, slot: &str) -> Finding {
    let seen = format!("the checkpoint of the slot '{slot}' can't be read: somebody changed it");
    let fix = format!(
        "put right what was changed in {} (select * from {} where slot = {})",
        table,
        qualified(table),
        quote_literal(slot)
    );
    checks::CHECKPOINT_VERSION.found(slot, seen, fix)
}
