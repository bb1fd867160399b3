//! The way into a session: connect, read what the server holds, decide where to start, start.
//!
//! Server and slot are asked on the replication connection itself, so that the answers are those of
//! the server, and of the moment, that the stream comes from. Publication and tables are looked at
//! before the start: a missing publication shows itself only at the first row, and on newer servers
//! as a notice while the rows are skipped.
//!
//! That second look is on a connection of its own. On newer servers, asking for a publication's
//! tables opens them, and the server's process keeps what it then knows of their columns. Were it
//! the process that decodes, it would read rows that were written before the last change of a table
//! by its columns of now: to other bytes, without an error.

use std::collections::BTreeSet;
use std::time::Duration;

use walpost_core::Format;
use walpost_core::class::Exit;
use walpost_core::start::{ServerState, start_at};
use walpost_pgoutput::Lsn;
use walpost_walsender::{ConnectOptions, Connection, Endpoint, Mode, StartReplication, WalStream};

use crate::catalog::{self, Pooler, Server, Table};
use crate::config::Config;
use crate::connect::{ConnectError, connect, connect_again};
use crate::finding::Finding;
use crate::session::SessionError;

/// What we ask the server to use: half of it is the longest silence of a healthy server that we
/// have to bear, and a vanished relay's slot is free again after it.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(15);

/// `insufficient_privilege`
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What a session starts with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub stream: WalStream,
    /// The position that the stream was asked for.
    pub floor: Lsn,
    /// Every commit that had returned before the stream was opened lies before it.
    pub current: Lsn,
    pub format: Format,
    /// Types, by oid, whose binary form is their text.
    pub textual: BTreeSet<u32>,
    pub wal_sender_timeout: Duration,
}

/// Opens the stream, or says why it can't be. With `once`, what asynchronous commits left unwritten
/// is waited for first.
pub(crate) async fn open(config: &Config, once: bool) -> Result<Opening, SessionError> {
    let postgres = &config.postgres;
    let options = ConnectOptions {
        mode: Mode::Replication,
        application_name: application_name(config),
        wal_sender_timeout: WAL_SENDER_TIMEOUT,
        ..ConnectOptions::default()
    };
    let connected = connect(postgres, &options).await;
    let mut connection = connected.map_err(|error| not_connected(config, error))?;
    let server = catalog::server(&mut connection).await?;
    if server.is_standby {
        return Err(SessionError::Standby);
    }
    let floor = start_position(&mut connection, config, &server).await?;
    let (tables, textual) = look_at_set_up(config, connection.endpoint()).await?;
    let format = catalog::stream_format(&tables, config);
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
        textual,
        wal_sender_timeout: server.wal_sender_timeout,
    })
}

/// A pooler will never let us through, however often it is tried, nor a role without the right.
fn not_connected(config: &Config, error: ConnectError) -> SessionError {
    let conninfo = &config.postgres.conninfo;
    let error = match error {
        ConnectError::Postgres(error) => error,
        ConnectError::Password(error) => return error.into(),
    };
    let pooler = error
        .server()
        .and_then(|server| Pooler::of_refusal(server, conninfo));
    if let Some(pooler) = pooler {
        return refused(pooler.problem(conninfo), Exit::Configuration);
    }
    if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) {
        return refused(catalog::replication_problem(conninfo), Exit::Permission);
    }
    error.into()
}

/// The slot's position, where a session may start from it now.
async fn start_position(
    connection: &mut Connection,
    config: &Config,
    server: &Server,
) -> Result<Lsn, SessionError> {
    // Whose server it is only matters for the words of a refusal.
    if server.is_synchronous_for(&application_name(config)) {
        let provider = catalog::provider(connection).await?;
        let problem = server.synchronous_problem(provider);
        return Err(refused(problem, Exit::Configuration));
    }
    let state = ServerState {
        database: server.database.clone(),
        wal_level: server.wal_level.clone(),
        flush_lsn: end_of_wal(server.flush_lsn)?,
    };
    let name = &config.postgres.slot;
    let slot = catalog::slot(connection, name).await?;
    let floor = match start_at(slot.as_ref().map(|slot| &slot.row), &state) {
        Ok(floor) => floor,
        Err(refusal) => {
            let provider = catalog::provider(connection).await?;
            let problem = catalog::refusal_problem(name, slot.as_ref(), &refusal, provider);
            return Err(refused(problem, refusal.exit()));
        }
    };
    if let Some(problem) = slot.as_ref().and_then(|slot| slot.temporary_problem(name)) {
        return Err(refused(problem, Exit::Configuration));
    }
    match slot.and_then(|slot| Some(slot.user(slot.row.active_pid?))) {
        Some(user) => Err(SessionError::SlotActive {
            slot: name.clone(),
            user,
        }),
        None => Ok(floor),
    }
}

fn end_of_wal(lsn: Option<Lsn>) -> Result<Lsn, SessionError> {
    lsn.ok_or(SessionError::Answer("the end of the WAL"))
}

/// How the relay's own session is called.
pub(crate) fn application_name(config: &Config) -> String {
    format!("walpost {}", config.postgres.slot)
}

fn refused(finding: Finding, exit: Exit) -> SessionError {
    SessionError::Refused {
        finding: Box::new(finding),
        exit,
    }
}

/// Looks at tables and publication, on a connection that nothing is decoded on, of the server that
/// the stream comes from.
async fn look_at_set_up(
    config: &Config,
    server: &Endpoint,
) -> Result<(Vec<Table>, BTreeSet<u32>), SessionError> {
    let options = ConnectOptions {
        mode: Mode::Sql,
        application_name: format!("{} gate", application_name(config)),
        ..ConnectOptions::default()
    };
    let connected = connect_again(&config.postgres, &options, server).await;
    let mut connection = connected.map_err(|error| not_connected(config, error))?;
    let tables = check_set_up(&mut connection, config).await?;
    let textual = catalog::textual_types(&mut connection).await?;
    connection.close().await;
    Ok((tables, textual))
}

/// The tables are what the mapping needs; the publication is there, publishes inserts, and carries
/// every one of them whole.
async fn check_set_up(
    connection: &mut Connection,
    config: &Config,
) -> Result<Vec<Table>, SessionError> {
    let mut tables = Vec::new();
    let mut problems = Vec::new();
    for name in config.mapping.tables() {
        match catalog::table(connection, name).await? {
            Some(table) => tables.push(table),
            None => {
                let others = catalog::table_names(connection).await?;
                problems.push(catalog::table_missing(name, &others));
            }
        }
    }
    let format = catalog::stream_format(&tables, config);
    problems.extend(tables.iter().flat_map(|table| table.errors(config, format)));
    let name = &config.postgres.publication;
    match catalog::publication(connection, name).await? {
        Some(publication) => {
            problems.extend(publication.problems(&tables, &config.read_columns()));
        }
        None => problems.push(catalog::publication_missing(name)),
    }
    match problems.into_iter().find(Finding::is_error) {
        Some(problem) => Err(refused(problem, Exit::Configuration)),
        None => Ok(tables),
    }
}
