//! The way into a session: connect, read what the server holds, decide where to start, start.
//!
//! Server and slot are asked on the replication connection itself, so that the answers are those of
//! the server, and of the moment, that the stream comes from. Publication and tables are looked at
//! before the start: a missing publication shows itself only at the first row, and on newer servers
//! as a notice while the rows are skipped.
//!
//! That second look is on the control connection, which goes on beside the stream. On newer
//! servers, asking for a publication's tables opens them, and the server's process keeps what it
//! then knows of their columns. Were it the process that decodes, it would read rows that were
//! written before the last change of a table by its columns of now: to other bytes, without an
//! error.
//!
//! Both connections have to be with one server: a name can lead to several, and the row of one is
//! no position on another.

mod past;
mod place;

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{debug, warn};
use walpost_core::class::Exit;
use walpost_core::past::LeftBehind;
use walpost_core::start::{Accepted, Identity};
use walpost_core::{Format, History};
use walpost_crashpoint as crash_point;
use walpost_pgoutput::Lsn;
use walpost_walsender::{ConnectOptions, Connection, Mode, StartReplication, WalStream};

use crate::catalog::{self, Pooler, Server, Table};
use crate::config::{Config, Postgres};
use crate::connect::{ConnectError, connect, connect_again};
use crate::control::{self, Post};
use crate::finding::Finding;
use crate::session::SessionError;
use crate::skip::{self, Skip};

pub(crate) use self::place::Memory;
use self::place::{Gate, Place};

/// What we ask the server to use: half of it is the longest silence of a healthy server that we
/// have to bear, and a vanished relay's slot is free again after it.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(15);

/// All that is asked before the stream opens has to be answered within this time. A dozen short
/// questions take milliseconds; each waits for a lock for seconds at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// `insufficient_privilege`
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What a session starts with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub stream: WalStream,
    /// The position that the stream was asked for.
    pub floor: Lsn,
    /// What the checkpoint holds: the same, unless it can't be written.
    pub recorded: Lsn,
    /// Every commit that had returned before the stream was opened lies before it.
    pub current: Lsn,
    pub format: Format,
    /// Types, by oid, whose binary form is their text.
    pub textual: BTreeSet<u32>,
    pub wal_sender_timeout: Duration,
    /// The server's process that streams.
    pub stream_pid: Option<i32>,
    /// The control connection.
    pub post: Post,
    /// The Kafka cluster that the events went to so far.
    pub kafka_cluster: Option<String>,
    /// The publication that is read: the first one, or the spare.
    pub publication: String,
    /// Events that an operator lets pass.
    pub skips: Vec<Skip>,
    /// After so long without a stream the server gives the slot up; zero is never.
    pub idle_slot_timeout: Duration,
}

/// Opens the stream, or says why it can't be. With `once`, what asynchronous commits left unwritten
/// is waited for first.
pub(crate) async fn open(
    config: &Config,
    once: bool,
    accepted: &Accepted,
    memory: &mut Memory,
) -> Result<Opening, SessionError> {
    let found = find_server(config, memory).await?;
    // A server that freezes now keeps its connections, and says nothing on them.
    within(open_on(found, config, once, accepted, memory)).await
}

/// The answer to questions that a server that is well has at once.
async fn within<T>(
    asked: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, Box::pin(asked)).await {
        Ok(answer) => answer,
        Err(_) => Err(SessionError::NoAnswer(ANSWER_TIMEOUT)),
    }
}

async fn open_on(
    (mut connection, server, identity): (Connection, Server, Identity),
    config: &Config,
    once: bool,
    accepted: &Accepted,
    memory: &mut Memory,
) -> Result<Opening, SessionError> {
    let postgres = &config.postgres;
    let mut post = take_post(config, &connection, identity).await?;
    let uses_spare = memory.uses_spare;
    let gate = Gate {
        config,
        accepted,
        memory,
        server: &server,
    };
    let place = gate.place(&mut connection, &mut post).await?;
    let Place {
        floor,
        recorded,
        kafka_cluster,
    } = place;
    let set_up = check_set_up(&mut post.connection, config, uses_spare);
    let (tables, publication) = crash_point::around!("gate", set_up.await?);
    let limits = catalog::limits(&mut post.connection).await?;
    let idle_slot_timeout = limits.idle_slot_timeout;
    let skips = skips(&mut post.connection, postgres, floor).await?;
    let textual = catalog::textual_types(&mut post.connection).await?;
    let format = catalog::stream_format(&tables, config);
    let current = if once {
        catalog::written_lsn(&mut connection).await?
    } else {
        server.current_lsn
    };
    post.tables = tables;
    let spare = postgres.spare_publication();
    let spare = catalog::publication(&mut post.connection, &spare).await?;
    post.has_spare = spare.is_some();
    post.publication.clone_from(&publication);
    let stream_pid = catalog::backend_pid(&mut connection).await?;
    let start = StartReplication {
        slot: &postgres.slot,
        start: floor,
        publications: &[&publication],
        binary: format == Format::Binary,
        messages: false,
    };
    let stream = crash_point::around!("start", connection.start_replication(&start).await?);
    Ok(Opening {
        stream,
        floor,
        recorded,
        current: end_of_wal(current)?,
        format,
        textual,
        wal_sender_timeout: server.wal_sender_timeout,
        stream_pid,
        post,
        kafka_cluster,
        publication,
        skips,
        idle_slot_timeout,
    })
}

/// What an operator lets pass from here on. Where that can't be read, nothing is.
async fn skips(
    connection: &mut Connection,
    postgres: &Postgres,
    floor: Lsn,
) -> Result<Vec<Skip>, SessionError> {
    let Some(checkpoint) = &postgres.checkpoint else {
        return Ok(Vec::new());
    };
    let table = checkpoint.skip_table();
    match skip::read(connection, &table, &postgres.slot, floor).await {
        Ok(recorded) => Ok(recorded.into_iter().map(|recorded| recorded.skip).collect()),
        // Whatever is wrong with it, it is no reason to deliver nothing.
        Err(error) if error.server().is_some() => {
            warn!(%error, %table, "no event can be let pass: the table can't be read");
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// Connects to the first server that will do. One that was left behind by a promotion that this
/// process has seen will not, however much it fits `target_session_attrs`.
async fn find_server(
    config: &Config,
    memory: &mut Memory,
) -> Result<(Connection, Server, Identity), SessionError> {
    let mut options = ConnectOptions {
        mode: Mode::Replication,
        application_name: application_name(config),
        wal_sender_timeout: WAL_SENDER_TIMEOUT,
        ..ConnectOptions::default()
    };
    let mut left_behind = None;
    loop {
        let connected = connect(&config.postgres, &options);
        let mut connection = match crash_point::around!("connect", connected.await) {
            Ok(connection) => connection,
            Err(error) => {
                // Another server that does not let us in says more than one that was passed over.
                let refuses = error.is_refusal();
                let error = not_connected(config, error);
                return Err(left_behind.filter(|_| !refuses).unwrap_or(error));
            }
        };
        let (server, identity, history) = within(who(&mut connection)).await?;
        let newest = match memory.past.meet(identity, history) {
            Ok(news) => {
                if let Some(left_behind) = &left_behind {
                    warn!("{left_behind}");
                }
                news.iter().for_each(past::log);
                return Ok((connection, server, identity));
            }
            Err(LeftBehind { newest }) => newest,
        };
        let endpoint = connection.endpoint().clone();
        let conninfo = &config.postgres.conninfo;
        let error = SessionError::LeftBehind {
            place: conninfo.clone().pinned_to(&endpoint).to_string(),
            timeline: identity.timeline,
            newest,
        };
        left_behind = Some(error);
        options.passed_over.push(endpoint);
        connection.close().await;
    }
}

/// The server, if it is one to stream from.
async fn who(connection: &mut Connection) -> Result<(Server, Identity, History), SessionError> {
    let server = catalog::server(connection).await?;
    if server.is_standby {
        return Err(SessionError::Standby);
    }
    let identity = crash_point::around!("identify", identity(connection).await?);
    let history = history(connection, identity).await?;
    Ok((server, identity, history))
}

/// Which way the server has come, as far as it tells: nothing else needs the file of it.
async fn history(connection: &mut Connection, identity: Identity) -> Result<History, SessionError> {
    match catalog::history(connection, identity).await {
        Ok(history) => Ok(history),
        Err(error) if error.server().is_some() => {
            debug!(%error, "the server does not tell its history");
            Ok(History::new(identity.timeline))
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens the control connection, to the server that the stream will come from.
async fn take_post(
    config: &Config,
    stream: &Connection,
    of_stream: Identity,
) -> Result<Post, SessionError> {
    let endpoint = stream.endpoint().clone();
    let options = control::options(config);
    let connect = connect_again(&config.postgres, &options, &endpoint);
    let connected = crash_point::around!("control", connect.await);
    let mut connection = connected.map_err(|error| not_connected(config, error))?;
    control::prepare(&mut connection).await?;
    let of_control = match identity(&mut connection).await {
        // A standby, which can't say: the address has several servers behind it.
        Err(SessionError::Postgres(error)) if error.sqlstate() == Some("55000") => None,
        other => Some(other?),
    };
    if of_control != Some(of_stream) {
        return Err(SessionError::OtherServer);
    }
    Ok(Post {
        connection,
        endpoint,
        identity: of_stream,
        tables: Vec::new(),
        publication: String::new(),
        has_spare: false,
    })
}

async fn identity(connection: &mut Connection) -> Result<Identity, SessionError> {
    let identity = catalog::identity(connection).await?;
    identity.ok_or(SessionError::Answer("its system identifier"))
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

/// The tables are what the mapping needs; the publication is there, publishes inserts, and carries
/// every one of them whole. Says which tables, and which publication: the spare where the first one
/// is gone, now or at the slot's position.
async fn check_set_up(
    connection: &mut Connection,
    config: &Config,
    uses_spare: bool,
) -> Result<(Vec<Table>, String), SessionError> {
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
    let (name, spare) = (
        &config.postgres.publication,
        config.postgres.spare_publication(),
    );
    let first = match uses_spare {
        true => None,
        false => catalog::publication(connection, name).await?,
    };
    let publication = match first {
        Some(first) => Some(first),
        None => catalog::publication(connection, &spare).await?,
    };
    match &publication {
        Some(publication) => {
            problems.extend(publication.problems(&tables, &config.read_columns()));
        }
        None if uses_spare => {
            let finding = catalog::publication_not_there_yet(name, &spare);
            return Err(refused(finding, Exit::Gap));
        }
        None => problems.push(catalog::publication_missing(name)),
    }
    let problem = problems.into_iter().find(Finding::is_error);
    match (problem, publication) {
        (None, Some(publication)) => {
            if publication.name == spare {
                warn!(
                    publication = name,
                    spare,
                    "the publication is gone, or was made anew behind the slot: the spare takes \
                     its place. Make it again (walpost init --apply), and restart when the slot \
                     has passed that"
                );
            }
            Ok((tables, publication.name))
        }
        (problem, _) => {
            let problem = problem.unwrap_or_else(|| catalog::publication_missing(name));
            Err(refused(problem, Exit::Configuration))
        }
    }
}
