//! Where a session starts: slot, checkpoint and server looked at, judged, and put on record.

use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{info, warn};
use walpost_core::class::Exit;
use walpost_core::past::Past;
use walpost_core::start::{
    Accepted, Checkpoint, Evidence, Fingerprint, Identity, News, Recorded, Remembered, ServerState,
    Start, Unrecorded, start_at,
};
use walpost_core::{Position, Recent, TableName};
use walpost_pgoutput::Lsn;
use walpost_walsender::Connection;

use super::past::first_at;
use super::{application_name, end_of_wal, refused};
use crate::catalog::{self, Server, Slot};
use crate::checkpoint;
use crate::config::Config;
use crate::control::Post;
use crate::session::SessionError;

/// `lock_not_available`
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// `query_canceled`, by a limit of time
const QUERY_CANCELED: &str = "57014";

/// What the process keeps between sessions, for the next one's start.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// A position that was told without the checkpoint.
    pub unrecorded: Option<Unrecorded>,
    /// The publication did not exist at the slot's position: the spare takes its place until the
    /// process ends. Never both at once: the server fails, or skips rows, for either.
    pub uses_spare: bool,
    /// The server that was met last, and what was sent of its history.
    pub(super) past: Past,
    /// The checkpoint as it was last read or written, for a row that is locked.
    checkpoint: Option<Remembered>,
}

/// What decides where to start.
pub(super) struct Gate<'a> {
    pub config: &'a Config,
    pub accepted: &'a Accepted,
    pub memory: &'a mut Memory,
    pub server: &'a Server,
}

/// Where to start.
pub(super) struct Place {
    pub floor: Lsn,
    /// What the checkpoint holds.
    pub recorded: Lsn,
    /// The Kafka cluster on record.
    pub kafka_cluster: Option<String>,
}

/// What was seen of slot and checkpoint.
struct Seen {
    slot: Option<Slot>,
    row: Option<Checkpoint>,
    /// Where the row's timeline ended, if it is not the server's.
    switched_at: Option<Lsn>,
    /// The end of the WAL after both were looked at: neither can be behind it rightly.
    flush_lsn: Option<Lsn>,
}

impl Gate<'_> {
    /// The position of slot and checkpoint, where a session may start from it now. `stream` is the
    /// connection that will stream.
    pub(super) async fn place(
        self,
        stream: &mut Connection,
        post: &mut Post,
    ) -> Result<Place, SessionError> {
        let (config, server) = (self.config, self.server);
        // Whose server it is only matters for the words of a refusal.
        if server.is_synchronous_for(&application_name(config)) {
            let provider = catalog::provider(stream).await?;
            let problem = server.synchronous_problem(provider);
            return Err(refused(problem, Exit::Configuration));
        }
        let seen = self.look(stream, post).await?;
        let fingerprint = config.fingerprint();
        let start = self.judge(&seen, &fingerprint, stream, post).await?;
        log_news(&config.postgres.slot, &start);
        let row = seen.row;
        let kafka_cluster = row.as_ref().and_then(|row| row.kafka_cluster.clone());
        let next = Checkpoint {
            identity: post.identity,
            lsn: start.lsn,
            kafka_cluster: kafka_cluster.clone(),
            config: fingerprint,
        };
        let floor = start.lsn;
        let recorded = match self.table() {
            None => floor,
            Some(table) => {
                let table = table.clone();
                self.record(post, &table, row.as_ref(), next, &start)
                    .await?
            }
        };
        Ok(Place {
            floor,
            recorded,
            kafka_cluster,
        })
    }

    fn table(&self) -> Option<&TableName> {
        let checkpoint = self.config.postgres.checkpoint.as_ref();
        checkpoint.map(|checkpoint| &checkpoint.table)
    }

    /// The slot first: while nobody streams from it, neither moves. One that is in use belongs to
    /// whoever uses it, and is waited for.
    async fn look(&self, stream: &mut Connection, post: &mut Post) -> Result<Seen, SessionError> {
        let name = &self.config.postgres.slot;
        let slot = catalog::slot(&mut post.connection, name).await?;
        if let Some(slot) = &slot
            && let Some(pid) = slot.row.active_pid
            && slot.temporary_problem(name).is_none()
        {
            return Err(SessionError::SlotActive {
                slot: name.clone(),
                user: slot.user(pid),
            });
        }
        // A server that can't be streamed from is not asked for more.
        let is_logical = self.server.wal_level == "logical";
        let row = match self.table().filter(|_| is_logical) {
            Some(table) => {
                let at = slot.as_ref().and_then(|slot| slot.row.confirmed_flush_lsn);
                let start = &self.server.start;
                read_checkpoint(post, table, name, (at, start), self.memory).await?
            }
            None => None,
        };
        let timeline = row.as_ref().map(|row| row.identity.timeline);
        let switched_at = match timeline {
            Some(timeline) if timeline != post.identity.timeline => {
                catalog::end_of_timeline(stream, post.identity, timeline).await?
            }
            _ => None,
        };
        Ok(Seen {
            flush_lsn: catalog::flush_lsn(&mut post.connection).await?,
            slot,
            row,
            switched_at,
        })
    }

    async fn judge(
        &self,
        seen: &Seen,
        fingerprint: &Fingerprint,
        stream: &mut Connection,
        post: &Post,
    ) -> Result<Start, SessionError> {
        let (name, server) = (&self.config.postgres.slot, self.server);
        let state = ServerState {
            identity: post.identity,
            database: server.database.clone(),
            wal_level: server.wal_level.clone(),
            flush_lsn: end_of_wal(seen.flush_lsn)?,
        };
        let slot = seen.slot.as_ref();
        if let Some(problem) = slot.and_then(|slot| slot.temporary_problem(name)) {
            return Err(refused(problem, Exit::Configuration));
        }
        let evidence = Evidence {
            server: &state,
            slot: slot.map(|slot| &slot.row),
            recorded: match (self.table(), &seen.row) {
                (None, _) => Recorded::Off,
                (Some(_), None) => Recorded::Nothing,
                (Some(_), Some(row)) => Recorded::Row(row),
            },
            switched_at: seen.switched_at,
            unrecorded: self.memory.unrecorded,
            config: fingerprint,
            accepted: self.accepted,
        };
        match start_at(&evidence) {
            Ok(start) => Ok(start),
            Err(refusal) => {
                let provider = catalog::provider(stream).await?;
                let problem = catalog::refusal_problem(name, slot, &refusal, provider);
                Err(refused(problem, refusal.exit()))
            }
        }
    }

    /// Has the row hold the start, because nothing may be told that it does not hold. Says what it
    /// holds then.
    async fn record(
        self,
        post: &mut Post,
        table: &TableName,
        row: Option<&Checkpoint>,
        next: Checkpoint,
        start: &Start,
    ) -> Result<Lsn, SessionError> {
        let has_begun = self.memory.has_begun();
        let connection = &mut post.connection;
        if row == Some(&next) {
            let problem = checkpoint::right_problem(connection, table).await?;
            if let Some(problem) = problem.filter(|_| !has_begun) {
                return Err(refused(problem, Exit::Permission));
            }
            let lsn = next.lsn;
            self.remember(next);
            return Ok(lsn);
        }
        let slot = &self.config.postgres.slot;
        let accepted = accepted_text(start);
        let accepted = accepted.as_deref();
        let stored = checkpoint::store(connection, table, slot, row, &next, accepted).await;
        // A process that has gone on without the row goes on without it.
        let is_ours = has_begun && start.news == [News::Remembered];
        match (stored, row) {
            (Ok(false), _) => Err(SessionError::CheckpointMoved),
            (Ok(true), _) => {
                let lsn = next.lsn;
                self.remember(next);
                Ok(lsn)
            }
            (Err(_), Some(row)) if is_ours => Ok(row.lsn),
            (Err(fault), _) => Err(checkpoint_error(fault)),
        }
    }
}

impl Gate<'_> {
    fn remember(self, row: Checkpoint) {
        self.memory.checkpoint = Some(Remembered {
            row,
            server_start: self.server.start.clone(),
        });
    }
}

impl Memory {
    /// What a session knew of the checkpoint at its end, and what it had sent.
    pub(crate) fn session_ended(
        &mut self,
        identity: Identity,
        recorded: Lsn,
        unrecorded: Option<Lsn>,
        sent: Recent,
    ) {
        let again = sent.again();
        if again > 0 {
            info!(
                events = again,
                "sent again: these events had been handed to Kafka before"
            );
        }
        self.past.add(sent);
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.row.lsn = recorded;
        }
        self.unrecorded = unrecorded.map(|lsn| Unrecorded { identity, lsn });
    }

    /// The highest position that the sessions of this process handed to Kafka.
    pub(crate) fn sent_to(&self) -> Option<Position> {
        self.past.sent_to()
    }

    /// The checkpoint was moved after the session had ended, on the session's server. Another one
    /// may have been met meanwhile: its positions are of another history.
    pub(crate) fn recorded(&mut self, identity: Identity, lsn: Lsn) {
        let checkpoint = self.checkpoint.as_mut();
        if let Some(checkpoint) = checkpoint.filter(|known| known.row.identity == identity) {
            checkpoint.row.lsn = checkpoint.row.lsn.max(lsn);
            self.unrecorded = None;
        }
    }

    /// Whether this process has had a session.
    fn has_begun(&self) -> bool {
        self.checkpoint.is_some()
    }
}

/// Reads the row. One that is locked is as this process knows it, where it can't be another one by
/// now. `at` is where the slot stands, `start` when the server was started.
async fn read_checkpoint(
    post: &mut Post,
    table: &TableName,
    slot: &str,
    (at, start): (Option<Lsn>, &str),
    memory: &Memory,
) -> Result<Option<Checkpoint>, SessionError> {
    let read = checkpoint::read(&mut post.connection, table, slot);
    let fault = match walpost_crashpoint::around!("checkpoint-read", read.await) {
        Ok(row) => return Ok(row),
        Err(fault) => fault,
    };
    let told = memory.unrecorded.map(|told| told.lsn);
    let known = memory.checkpoint.as_ref();
    let known = known.and_then(|known| known.row(post.identity, start, at, told));
    match (&fault, known) {
        (checkpoint::Fault::Postgres(error), Some(known))
            if matches!(error.sqlstate(), Some(LOCK_NOT_AVAILABLE | QUERY_CANCELED)) =>
        {
            warn!(%error, "the checkpoint can't be read: it is taken as it was last written");
            Ok(Some(known.clone()))
        }
        _ => Err(checkpoint_error(fault)),
    }
}

fn checkpoint_error(fault: checkpoint::Fault) -> SessionError {
    match fault {
        checkpoint::Fault::Found(finding, exit) => SessionError::Refused { finding, exit },
        checkpoint::Fault::Postgres(error) => error.into(),
    }
}

/// Says what is not as usual.
fn log_news(slot: &str, start: &Start) {
    let lsn = start.lsn;
    for news in &start.news {
        match news {
            News::Adopted => warn!(
                slot, %lsn,
                "there was no checkpoint: the slot's position is taken for true from here on"
            ),
            News::Rewound { slot: at } => info!(
                slot, slot_lsn = %at, %lsn,
                "the server forgot what was confirmed, as after a crash: nothing comes again"
            ),
            News::Promoted {
                from,
                to,
                switched_at,
            } => warn!(
                slot, from_timeline = from, to_timeline = to, %switched_at, %lsn,
                from_position = %first_at(*switched_at), before_ms = unix_time_ms(),
                "another server was promoted: going on from there. Any record in Kafka whose \
                 header walpost-position is from_position or higher, and whose timestamp is \
                 before before_ms, is of a commit that it has never had"
            ),
            News::Remembered => warn!(
                slot, %lsn,
                "the slot stands where this process left it while the checkpoint could not be \
                 written"
            ),
            News::Accepted(what) => warn!(slot, %lsn, "accepted: {what}"),
        }
    }
}

/// As Kafka counts the time of its records.
fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn accepted_text(start: &Start) -> Option<String> {
    let accepted: Vec<_> = start
        .news
        .iter()
        .filter_map(|news| match news {
            News::Accepted(what) => Some(what.as_str()),
            News::Adopted | News::Rewound { .. } | News::Promoted { .. } | News::Remembered => None,
        })
        .collect();
    (!accepted.is_empty()).then(|| accepted.join("; "))
}
