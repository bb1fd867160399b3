//! Where a session may start, or why it may not.
//!
//! The position is read anew for every session, and nothing of the session before counts: a
//! failover may have made it wrong. No path starts from the server's current position, and a
//! missing slot is never made here.
//!
//! Two things know the position: the slot, whose `confirmed_flush_lsn` goes back when the server
//! crashes, and the checkpoint row, which does not, and which a standby that takes over has as far
//! as it has the rest of the database. The row is written before the slot is told. So on one
//! timeline a slot behind the row was rewound by a crash, and one ahead of it was moved by somebody
//! else, or made anew: what lies between may never have been sent.

use std::collections::BTreeMap;
use std::fmt;

use walpost_pgoutput::Lsn;

use crate::class::Exit;

/// What `pg_replication_slots` says of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// Output plugin; none for a physical slot.
    pub plugin: Option<String>,
    /// The database of a logical slot.
    pub database: Option<String>,
    /// Process id of the walsender that streams from it.
    pub active_pid: Option<i32>,
    /// Oldest WAL that it keeps; none once that is gone.
    pub restart_lsn: Option<Lsn>,
    /// Everything before it is confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Whether prepared transactions are decoded at PREPARE.
    pub two_phase: bool,
}

/// Which history of the database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Made by `initdb`: the same for a server, its standbys and its physical copies.
    pub system_identifier: u64,
    /// Each promotion begins a new one.
    pub timeline: u32,
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Which server it is, and on which timeline.
    pub identity: Identity,
    /// The connection's database.
    pub database: String,
    /// `wal_level`.
    pub wal_level: String,
    /// `pg_current_wal_flush_lsn()`: end of the WAL.
    pub flush_lsn: Lsn,
}

/// The setting of a fingerprint that is a list, with a comma and a blank in between.
pub const TABLES: &str = "outbox.table";

/// The settings on which identity and order of the events depend: key and value.
pub type Fingerprint = BTreeMap<String, String>;

/// The row that holds the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The history that the position belongs to.
    pub identity: Identity,
    /// Everything before it is delivered.
    pub lsn: Lsn,
    /// Where to: Kafka's `cluster.id`, from the first event on.
    pub kafka_cluster: Option<String>,
    /// With which settings.
    pub config: Fingerprint,
}

/// What there is of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded<'a> {
    /// `postgres.checkpoint: none`.
    Off,
    /// There is no row yet.
    Nothing,
    /// The row.
    Row(&'a Checkpoint),
}

/// A position that this process told the server past the grace, without the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// To which server, on which timeline.
    pub identity: Identity,
    /// Everything before it is delivered.
    pub lsn: Lsn,
}

/// The row as this process has last read or written it, for a time in which it is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The row.
    pub row: Checkpoint,
    /// When the server was started that had it then. Whatever takes the place of a server, or puts
    /// its disk back, starts one.
    pub server_start: String,
}

impl Remembered {
    /// The row, unless it may be another one by now: on another server, or after another relay was
    /// here, who has moved the slot from where this process left it. `slot`: where it stands.
    /// `told`: how far this process told the server without the row.
    pub fn row(
        &self,
        identity: Identity,
        server_start: &str,
        slot: Option<Lsn>,
        told: Option<Lsn>,
    ) -> Option<&Checkpoint> {
        let highest = told.max(Some(self.row.lsn));
        let is_left = slot.is_some() && slot <= highest;
        let is_it = self.row.identity == identity && self.server_start == server_start;
        (is_it && is_left).then_some(&self.row)
    }
}

/// What an operator has accepted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The slot stands here.
    pub slot_position: Option<Lsn>,
    /// The server is this one.
    pub system_identifier: Option<u64>,
    /// Kafka's cluster is this one.
    pub kafka_cluster: Option<String>,
    /// These settings have changed.
    pub settings: Vec<String>,
}

impl Accepted {
    /// A session has begun. A position was accepted for what the slot was then: another server, or
    /// a slot that is made anew, can stand at the same one.
    pub fn begun(&mut self) {
        self.slot_position = None;
    }
}

/// Everything that decides where a session starts.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The server, now.
    pub server: &'a ServerState,
    /// The slot, now.
    pub slot: Option<&'a SlotRow>,
    /// The checkpoint, now.
    pub recorded: Recorded<'a>,
    /// Where the checkpoint's timeline ended, when the server is on a later one that came from it.
    pub switched_at: Option<Lsn>,
    /// What this process remembers.
    pub unrecorded: Option<Unrecorded>,
    /// The settings, now.
    pub config: &'a Fingerprint,
    /// What an operator has accepted.
    pub accepted: &'a Accepted,
}

/// Where a session starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The position to ask for. Everything before it is delivered.
    pub lsn: Lsn,
    /// What an operator should hear of it.
    pub news: Vec<News>,
}

/// Something about a start that is not as usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// There was no row: the slot's position is taken for true.
    Adopted,
    /// The server has forgotten what was confirmed: it crashed, or is older than 17 and was
    /// restarted.
    Rewound {
        /// The slot's position.
        slot: Lsn,
    },
    /// A standby was promoted.
    Promoted {
        /// The row's timeline.
        from: u32,
        /// The server's.
        to: u32,
        /// Where the old one ended.
        switched_at: Lsn,
    },
    /// The slot stands where this process left it without the row.
    Remembered,
    /// A difference that an operator has accepted.
    Accepted(String),
}

/// A setting that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The configuration key.
    pub key: String,
    /// What it was.
    pub old: String,
    /// What it is.
    pub new: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new } = self;
        write!(f, "{key}: '{old}' -> '{new}'")
    }
}

/// Why a session may not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server writes too little to decode from.
    WalLevel(String),
    /// There is no slot of that name, and there was none.
    SlotMissing,
    /// There is no slot of that name any more.
    SlotGone {
        /// Everything before it was delivered.
        recorded: Lsn,
        /// End of the WAL.
        flush: Lsn,
    },
    /// The slot is physical, or of another output plugin.
    Plugin(Option<String>),
    /// The slot decodes another database.
    Database(Option<String>),
    /// The slot would send transactions before they commit.
    TwoPhase,
    /// The slot has lost WAL that was not confirmed.
    WalLost,
    /// The slot stands behind the end of the WAL: rows would be skipped in silence.
    Ahead {
        /// The slot's position.
        confirmed: Lsn,
        /// End of the WAL.
        flush: Lsn,
    },
    /// The slot was moved, or made anew, by somebody else.
    Moved {
        /// Everything before it was delivered.
        recorded: Lsn,
        /// The slot's position.
        confirmed: Lsn,
    },
    /// The row belongs to another server: this one was restored from a dump, copied, or upgraded.
    System {
        /// The row's `system_identifier`.
        recorded: u64,
        /// The server's.
        server: u64,
    },
    /// The server's timeline does not come from the row's.
    Timeline {
        /// The row's timeline.
        recorded: u32,
        /// The server's.
        server: u32,
    },
    /// Other settings would give events other topics, keys or partitions.
    Settings(Vec<Change>),
}

/// Where to start, or why not to.
pub fn start_at(evidence: &Evidence<'_>) -> Result<Start, Refusal> {
    let Evidence { server, slot, .. } = *evidence;
    if server.wal_level != "logical" {
        return Err(Refusal::WalLevel(server.wal_level.clone()));
    }
    let row = match evidence.recorded {
        Recorded::Off => None,
        Recorded::Nothing => None,
        Recorded::Row(row) => Some(row),
    };
    let mut news = Vec::new();
    let row = match row {
        Some(row) => known_system(row, evidence, &mut news)?,
        None => None,
    };
    let Some(slot) = slot else {
        return Err(row.map_or(Refusal::SlotMissing, |row| Refusal::SlotGone {
            recorded: row.lsn,
            flush: server.flush_lsn,
        }));
    };
    let confirmed = usable(slot, server)?;
    let Some(row) = row else {
        if evidence.recorded != Recorded::Off && news.is_empty() {
            news.push(News::Adopted);
        }
        return Ok(Start {
            lsn: confirmed,
            news,
        });
    };
    let lsn = position(row, confirmed, evidence, &mut news)?;
    accept_settings(row, evidence, &mut news)?;
    Ok(Start { lsn, news })
}

/// The row, unless an operator says that it is of another server's past.
fn known_system<'a>(
    row: &'a Checkpoint,
    evidence: &Evidence<'_>,
    news: &mut Vec<News>,
) -> Result<Option<&'a Checkpoint>, Refusal> {
    let recorded = row.identity.system_identifier;
    let server = evidence.server.identity.system_identifier;
    if recorded == server {
        return Ok(Some(row));
    }
    if evidence.accepted.system_identifier == Some(server) {
        news.push(News::Accepted(format!(
            "the server's system identifier is {server}, and was {recorded}"
        )));
        return Ok(None);
    }
    Err(Refusal::System { recorded, server })
}

/// The slot's position, if it is one that can be streamed from.
fn usable(slot: &SlotRow, server: &ServerState) -> Result<Lsn, Refusal> {
    if slot.plugin.as_deref() != Some("pgoutput") {
        return Err(Refusal::Plugin(slot.plugin.clone()));
    }
    if slot.database.as_deref() != Some(&server.database) {
        return Err(Refusal::Database(slot.database.clone()));
    }
    if slot.two_phase {
        return Err(Refusal::TwoPhase);
    }
    if slot.wal_status.as_deref() == Some("lost") {
        return Err(Refusal::WalLost);
    }
    let (Some(confirmed), Some(_)) = (slot.confirmed_flush_lsn, slot.restart_lsn) else {
        return Err(Refusal::WalLost);
    };
    if confirmed > server.flush_lsn {
        return Err(Refusal::Ahead {
            confirmed,
            flush: server.flush_lsn,
        });
    }
    Ok(confirmed)
}

/// The higher one of slot and row, if the difference is explained.
fn position(
    row: &Checkpoint,
    confirmed: Lsn,
    evidence: &Evidence<'_>,
    news: &mut Vec<News>,
) -> Result<Lsn, Refusal> {
    let server = evidence.server;
    let identity = server.identity;
    if row.identity.timeline != identity.timeline {
        let switched_at = evidence.switched_at.ok_or(Refusal::Timeline {
            recorded: row.identity.timeline,
            server: identity.timeline,
        })?;
        news.push(News::Promoted {
            from: row.identity.timeline,
            to: identity.timeline,
            switched_at,
        });
        // The row came with the WAL, so it can't be ahead of it; a slot that was copied to the
        // standby may be ahead of the row by a moment, but not past the end of the old timeline.
        if row.lsn <= switched_at && confirmed <= switched_at {
            return Ok(row.lsn.max(confirmed));
        }
    } else if row.lsn > server.flush_lsn {
        return Err(Refusal::Ahead {
            confirmed: row.lsn,
            flush: server.flush_lsn,
        });
    } else if confirmed <= row.lsn {
        if confirmed < row.lsn {
            news.push(News::Rewound { slot: confirmed });
        }
        return Ok(row.lsn);
    }
    let told = evidence.unrecorded;
    if told.is_some_and(|told| told.identity == identity && confirmed <= told.lsn) {
        news.push(News::Remembered);
        return Ok(confirmed);
    }
    if evidence.accepted.slot_position == Some(confirmed) {
        news.push(News::Accepted(format!(
            "the slot stands at {confirmed}, and the last position on record is {}",
            row.lsn
        )));
        return Ok(confirmed);
    }
    Err(Refusal::Moved {
        recorded: row.lsn,
        confirmed,
    })
}

fn accept_settings(
    row: &Checkpoint,
    evidence: &Evidence<'_>,
    news: &mut Vec<News>,
) -> Result<(), Refusal> {
    // Nothing was sent yet: nothing can come again as something else.
    if row.kafka_cluster.is_none() {
        return Ok(());
    }
    let changes = changes(&row.config, evidence.config);
    let is_accepted = |change: &Change| evidence.accepted.settings.contains(&change.key);
    if !changes.iter().all(is_accepted) {
        return Err(Refusal::Settings(changes));
    }
    news.extend(
        changes
            .iter()
            .map(|change| News::Accepted(change.to_string())),
    );
    Ok(())
}

/// What differs between two fingerprints. A key that one of them has not got is no difference:
/// another version of the program wrote it. Nor is a table more.
pub fn changes(old: &Fingerprint, new: &Fingerprint) -> Vec<Change> {
    let change = |(key, old): (&String, &String)| {
        let new = new.get(key)?;
        let tables: Vec<_> = new.split(", ").collect();
        let is_more = key == TABLES && old.split(", ").all(|table| tables.contains(&table));
        (old != new && !is_more).then(|| Change {
            key: key.clone(),
            old: old.clone(),
            new: new.clone(),
        })
    };
    old.iter().filter_map(change).collect()
}

impl Refusal {
    /// With which code the process stops.
    pub fn exit(&self) -> Exit {
        match self {
            Self::WalLevel(_)
            | Self::SlotMissing
            | Self::Plugin(_)
            | Self::Database(_)
            | Self::TwoPhase
            | Self::Settings(_) => Exit::Configuration,
            Self::SlotGone { .. }
            | Self::WalLost
            | Self::Ahead { .. }
            | Self::Moved { .. }
            | Self::System { .. }
            | Self::Timeline { .. } => Exit::Gap,
        }
    }
}

#[cfg(test)]
mod tests;
