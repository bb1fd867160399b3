//! The way into a session: connect, read what the server holds, decide where to start, start.
//!
//! Everything is asked on the replication connection itself, so that the answers are those of the
//! server, and of the moment, that the stream comes from. Publication and tables are looked at before
//! the start: a missing publication shows itself only at the first row, and on newer servers as a
//! notice while the rows are skipped.

use std::time::Duration;

use walpost_core::start::{ServerState, SlotRow, start_at};
use walpost_core::{Format, Role, TableName};
use walpost_pgoutput::Lsn;
use walpost_walsender::{
    ConnectOptions, Connection, Mode, Row, StartReplication, WalStream, quote_literal,
};

use crate::config::Config;
use crate::session::SessionError;

/// What we ask the server to use: half of it is the longest silence of a healthy server that we have
/// to bear, and a vanished relay's slot is free again after it.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(15);

/// Oid of `bytea`.
const BYTEA: &str = "17";

/// What a session starts with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub stream: WalStream,
    /// The position that the stream was asked for.
    pub floor: Lsn,
    /// `pg_current_wal_lsn()` before the stream was opened.
    pub current: Lsn,
    pub format: Format,
    pub wal_sender_timeout: Duration,
}

/// Opens the stream, or says why it can't be.
pub(crate) async fn open(config: &Config) -> Result<Opening, SessionError> {
    let postgres = &config.postgres;
    let options = ConnectOptions {
        mode: Mode::Replication,
        application_name: format!("walpost {}", postgres.slot),
        wal_sender_timeout: WAL_SENDER_TIMEOUT,
        ..ConnectOptions::default()
    };
    let mut connection = Connection::connect(&postgres.conninfo, &options).await?;
    let server = server(&mut connection).await?;
    let slot = slot(&mut connection, &postgres.slot).await?;
    let floor = start_at(slot.as_ref(), &server.state)
        .map_err(|refusal| SessionError::Refused { slot: postgres.slot.clone(), refusal })?;
    if let Some(pid) = slot.and_then(|slot| slot.active_pid) {
        return Err(SessionError::SlotActive { slot: postgres.slot.clone(), pid });
    }
    check_publication(&mut connection, config).await?;
    let format = format(&mut connection, config).await?;
    let start = StartReplication {
        slot: &postgres.slot,
        start: floor,
        publications: &[&postgres.publication],
        binary: format == Format::Binary,
        messages: false,
    };
    let stream = connection.start_replication(&start).await?;
    let wal_sender_timeout = server.wal_sender_timeout;
    Ok(Opening { stream, floor, current: server.current, format, wal_sender_timeout })
}

struct Server {
    state: ServerState,
    current: Lsn,
    wal_sender_timeout: Duration,
}

async fn server(connection: &mut Connection) -> Result<Server, SessionError> {
    const SQL: &str = "select current_database(), current_setting('wal_level'), \
         (select setting from pg_settings where name = 'wal_sender_timeout'), \
         pg_is_in_recovery(), \
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn() \
              else pg_current_wal_flush_lsn() end, \
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn() \
              else pg_current_wal_lsn() end";
    let rows = connection.query(SQL).await?;
    let row = rows.first().ok_or(SessionError::Answer("the server's state"))?;
    if text(row, 3)? == "t" {
        return Err(SessionError::Standby);
    }
    let milliseconds =
        text(row, 2)?.parse().map_err(|_| SessionError::Answer("wal_sender_timeout"))?;
    Ok(Server {
        state: ServerState {
            database: text(row, 0)?.to_owned(),
            wal_level: text(row, 1)?.to_owned(),
            flush_lsn: lsn(row, 4)?.ok_or(SessionError::Answer("the end of the WAL"))?,
        },
        current: lsn(row, 5)?.ok_or(SessionError::Answer("the end of the WAL"))?,
        wal_sender_timeout: Duration::from_millis(milliseconds),
    })
}

async fn slot(connection: &mut Connection, name: &str) -> Result<Option<SlotRow>, SessionError> {
    let sql = format!(
        "select plugin, database, active_pid, restart_lsn, confirmed_flush_lsn, wal_status, \
         two_phase from pg_replication_slots where slot_name = {}",
        quote_literal(name)
    );
    let rows = connection.query(&sql).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let owned = |index| row.get(index).map(str::to_owned);
    Ok(Some(SlotRow {
        plugin: owned(0),
        database: owned(1),
        active_pid: row.get(2).and_then(|pid| pid.parse().ok()),
        restart_lsn: lsn(row, 3)?,
        confirmed_flush_lsn: lsn(row, 4)?,
        wal_status: owned(5),
        two_phase: row.get(6) == Some("t"),
    }))
}

/// The publication is there, publishes inserts, and carries every outbox table whole.
async fn check_publication(
    connection: &mut Connection,
    config: &Config,
) -> Result<(), SessionError> {
    let publication = config.postgres.publication.as_str();
    let name = quote_literal(publication);
    let sql = format!("select pubinsert from pg_publication where pubname = {name}");
    let rows = connection.query(&sql).await?;
    let wrong = |problem| SessionError::Publication { name: publication.to_owned(), problem };
    let row = rows.first().ok_or_else(|| wrong("does not exist".to_owned()))?;
    if text(row, 0)? != "t" {
        return Err(wrong("does not publish inserts".to_owned()));
    }
    let sql = format!(
        "select schemaname, tablename from pg_publication_tables where pubname = {name}"
    );
    let published = connection.query(&sql).await?;
    for table in config.mapping.tables() {
        let TableName { schema, name } = table;
        let carries = |row: &Row| row.get(0) == Some(schema) && row.get(1) == Some(name);
        if !published.iter().any(carries) {
            return Err(wrong(format!("does not carry the table {table}")));
        }
    }
    Ok(())
}

/// A `bytea` payload is read in the binary format: as text it doubles, and fails past 512 MB.
async fn format(connection: &mut Connection, config: &Config) -> Result<Format, SessionError> {
    let payload = quote_literal(config.mapping.column(Role::Payload));
    for TableName { schema, name } in config.mapping.tables() {
        let sql = format!(
            "with recursive base as (\
             select t.oid, t.typtype, t.typbasetype from pg_attribute a \
             join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace \
             join pg_type t on t.oid = a.atttypid \
             where n.nspname = {} and c.relname = {} and a.attname = {payload} \
             and not a.attisdropped \
             union all select t.oid, t.typtype, t.typbasetype \
             from base b join pg_type t on t.oid = b.typbasetype where b.typtype = 'd') \
             select oid from base where typtype <> 'd'",
            quote_literal(schema),
            quote_literal(name)
        );
        let rows = connection.query(&sql).await?;
        if rows.first().and_then(|row| row.get(0)) == Some(BYTEA) {
            return Ok(Format::Binary);
        }
    }
    Ok(Format::Text)
}

fn text(row: &Row, index: usize) -> Result<&str, SessionError> {
    row.get(index).ok_or(SessionError::Answer("a value that can't be null"))
}

fn lsn(row: &Row, index: usize) -> Result<Option<Lsn>, SessionError> {
    let parsed = row.get(index).map(str::parse).transpose();
    parsed.map_err(|_| SessionError::Answer("an LSN"))
}
