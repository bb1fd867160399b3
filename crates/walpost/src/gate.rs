//! The way into a session: connect, read what the server holds, decide where to start, start.
//!
//! Everything is asked on the replication connection itself, so that the answers are those of the
//! server, and of the moment, that the stream comes from. Publication and tables are looked at
//! before the start: a missing publication shows itself only at the first row, and on newer servers
//! as a notice while the rows are skipped.

use std::time::Duration;

use walpost_core::start::{ServerState, start_at};
use walpost_core::{Format, Role, TableName};
use walpost_pgoutput::Lsn;
use walpost_walsender::{
    ConnectOptions, Connection, Error, Mode, StartReplication, WalStream, quote_literal,
};

use crate::catalog;
use crate::config::Config;
use crate::finding::Finding;
use crate::session::SessionError;

/// What we ask the server to use: half of it is the longest silence of a healthy server that we
/// have to bear, and a vanished relay's slot is free again after it.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(15);

/// Oid of `bytea`.
const BYTEA: &str = "17";

/// What a session starts with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub stream: WalStream,
    /// The position that the stream was asked for.
    pub floor: Lsn,
    /// Every commit that had returned before the stream was opened lies before it.
    pub current: Lsn,
    pub format: Format,
    pub wal_sender_timeout: Duration,
}

/// Opens the stream, or says why it can't be. With `once`, what asynchronous commits left unwritten
/// is waited for first.
pub(crate) async fn open(config: &Config, once: bool) -> Result<Opening, SessionError> {
    let postgres = &config.postgres;
    let options = ConnectOptions {
        mode: Mode::Replication,
        application_name: format!("walpost {}", postgres.slot),
        wal_sender_timeout: WAL_SENDER_TIMEOUT,
        ..ConnectOptions::default()
    };
    let mut connection = Connection::connect(&postgres.conninfo, &options).await?;
    let server = catalog::server(&mut connection).await?;
    if server.is_standby {
        return Err(SessionError::Standby);
    }
    let end_of_wal = |lsn: Option<Lsn>| lsn.ok_or(SessionError::Answer("the end of the WAL"));
    let state = ServerState {
        database: server.database,
        wal_level: server.wal_level,
        flush_lsn: end_of_wal(server.flush_lsn)?,
    };
    let slot = catalog::slot(&mut connection, &postgres.slot)
        .await?
        .map(|slot| slot.row);
    let floor = start_at(slot.as_ref(), &state).map_err(|refusal| SessionError::Refused {
        slot: postgres.slot.clone(),
        refusal,
    })?;
    if let Some(pid) = slot.and_then(|slot| slot.active_pid) {
        return Err(SessionError::SlotActive {
            slot: postgres.slot.clone(),
            pid,
        });
    }
    check_set_up(&mut connection, config).await?;
    let format = format(&mut connection, config).await?;
    let current = if once {
        catalog::written_lsn(&mut connection).await?
    } else {
        server.current_lsn
    };
    let start = StartReplication {
        slot: &postgres.slot,
        start: floor,
        publications: &[&postgres.publication],
        binary: format == Format::Binary,
        messages: false,
    };
    let stream = connection.start_replication(&start).await?;
    Ok(Opening {
        stream,
        floor,
        current: end_of_wal(current)?,
        format,
        wal_sender_timeout: server.wal_sender_timeout,
    })
}

/// The tables are what the mapping needs; the publication is there, publishes inserts, and carries
/// every one of them whole.
async fn check_set_up(connection: &mut Connection, config: &Config) -> Result<(), SessionError> {
    let (tables, needed) = (config.mapping.tables(), config.needed_columns());
    let mut problems = Vec::new();
    for name in tables {
        match catalog::table(connection, name).await? {
            Some(table) => problems.extend(table.problems(name, &needed)),
            None => problems.push(catalog::table_missing(name)),
        }
    }
    let name = &config.postgres.publication;
    match catalog::publication(connection, name).await? {
        Some(publication) => problems.extend(publication.problems(tables, &needed)),
        None if problems.is_empty() => return Err(SessionError::PublicationMissing(name.clone())),
        None => {}
    }
    match problems.into_iter().find(Finding::is_error) {
        Some(problem) => Err(SessionError::SetUp(problem)),
        None => Ok(()),
    }
}

/// A `bytea` payload is read in the binary format: as text it doubles, and fails past 512 MB.
async fn format(connection: &mut Connection, config: &Config) -> Result<Format, Error> {
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
