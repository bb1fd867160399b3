//! Where a session may start, or why it may not.
//!
//! The position is read anew for every session, by SQL on the replication connection, and nothing
//! of the session before counts: a failover may have made it wrong. No path starts from the
//! server's current position, and a missing slot is never made here.

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

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// The connection's database.
    pub database: String,
    /// `wal_level`.
    pub wal_level: String,
    /// `pg_current_wal_flush_lsn()`: end of the WAL.
    pub flush_lsn: Lsn,
}

/// Why a session may not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server writes too little to decode from.
    WalLevel(String),
    /// There is no slot of that name.
    SlotMissing,
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
}

/// The LSN to start at.
pub fn start_at(slot: Option<&SlotRow>, server: &ServerState) -> Result<Lsn, Refusal> {
    if server.wal_level != "logical" {
        return Err(Refusal::WalLevel(server.wal_level.clone()));
    }
    let slot = slot.ok_or(Refusal::SlotMissing)?;
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

impl Refusal {
    /// With which code the process stops.
    pub fn exit(&self) -> Exit {
        match self {
            Self::WalLevel(_)
            | Self::SlotMissing
            | Self::Plugin(_)
            | Self::Database(_)
            | Self::TwoPhase => Exit::Configuration,
            Self::WalLost | Self::Ahead { .. } => Exit::Gap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> SlotRow {
        SlotRow {
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            active_pid: None,
            restart_lsn: Some(Lsn::new(50)),
            confirmed_flush_lsn: Some(Lsn::new(60)),
            wal_status: Some("reserved".to_owned()),
            two_phase: false,
        }
    }

    fn server() -> ServerState {
        ServerState {
            database: "shop".to_owned(),
            wal_level: "logical".to_owned(),
            flush_lsn: Lsn::new(60),
        }
    }

    #[test]
    fn a_session_starts_at_the_confirmed_position() {
        assert_eq!(start_at(Some(&slot()), &server()), Ok(Lsn::new(60)));
    }

    #[test]
    fn a_set_up_that_is_wrong_is_a_configuration_error() {
        let refusals = [
            start_at(None, &server()),
            start_at(
                Some(&SlotRow {
                    plugin: None,
                    ..slot()
                }),
                &server(),
            ),
            start_at(
                Some(&SlotRow {
                    plugin: Some("wal2json".to_owned()),
                    ..slot()
                }),
                &server(),
            ),
            start_at(
                Some(&SlotRow {
                    database: None,
                    ..slot()
                }),
                &server(),
            ),
            start_at(
                Some(&SlotRow {
                    two_phase: true,
                    ..slot()
                }),
                &server(),
            ),
            start_at(
                Some(&slot()),
                &ServerState {
                    wal_level: "replica".to_owned(),
                    ..server()
                },
            ),
        ];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().exit(), Exit::Configuration);
        }
    }

    #[test]
    fn what_would_lose_events_is_a_gap() {
        let lost = Some("lost".to_owned());
        let refusals = [
            start_at(
                Some(&SlotRow {
                    wal_status: lost,
                    ..slot()
                }),
                &server(),
            ),
            start_at(
                Some(&SlotRow {
                    restart_lsn: None,
                    ..slot()
                }),
                &server(),
            ),
            start_at(
                Some(&SlotRow {
                    confirmed_flush_lsn: None,
                    ..slot()
                }),
                &server(),
            ),
            start_at(
                Some(&slot()),
                &ServerState {
                    flush_lsn: Lsn::new(59),
                    ..server()
                },
            ),
        ];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().exit(), Exit::Gap);
        }
    }
}
