//! The look at the checkpoint.

use walpost_core::start::{Checkpoint, Identity, Recorded};
use walpost_pgoutput::Lsn;
use walpost_walsender::{ConnectOptions, Connection, Error};

use super::Look;
use super::postgres::Sight;
use crate::catalog;
use crate::checkpoint;
use crate::checks::{self, Area};
use crate::config::Config;
use crate::connect::connect;
use crate::finding::Finding;
use crate::skip;

/// The checkpoint, and what its judgement needs.
#[derive(Default)]
pub(super) struct Held {
    pub identity: Option<Identity>,
    is_kept: bool,
    row: Option<Checkpoint>,
    pub switched_at: Option<Lsn>,
    /// The end of the WAL after slot and row were looked at.
    pub flush_lsn: Option<Lsn>,
}

impl Held {
    /// Where the server does not tell who it is, the row says nothing.
    pub(super) fn recorded(&self) -> Recorded<'_> {
        match (&self.row, self.is_kept, self.identity) {
            (Some(row), _, Some(_)) => Recorded::Row(row),
            (_, true, _) => Recorded::Nothing,
            _ => Recorded::Off,
        }
    }
}

impl Sight<'_> {
    /// What there is of a checkpoint.
    pub(super) async fn held(
        &self,
        look: &mut Look,
        connection: &mut Connection,
    ) -> Result<Held, Error> {
        let postgres = &self.config.postgres;
        let mut held = Held {
            identity: match self.server.is_standby {
                true => None,
                false => catalog::identity(connection).await?,
            },
            ..Held::default()
        };
        let Some(checkpoint) = &postgres.checkpoint else {
            let seen = "postgres.checkpoint is none";
            let fix = "leave postgres.checkpoint out, then walpost init --apply";
            look.push(checks::CHECKPOINT_NONE.found(&postgres.slot, seen, fix));
            return Ok(held);
        };
        held.is_kept = true;
        match checkpoint::read(connection, &checkpoint.table, &postgres.slot).await {
            Ok(row) => held.row = row,
            Err(checkpoint::Fault::Found(finding, _)) => {
                look.push(*finding);
                return Ok(held);
            }
            Err(checkpoint::Fault::Postgres(error)) => return Err(error),
        }
        look.extend(checkpoint::right_problem(connection, &checkpoint.table).await?);
        look.extend(skip::problem(connection, &checkpoint.skip_table()).await?);
        let Some(row) = &held.row else {
            return Ok(held);
        };
        look.kafka_cluster.clone_from(&row.kafka_cluster);
        let seen = format!("the checkpoint in {} is at {}", checkpoint.table, row.lsn);
        look.push(Finding::ok(Area::Slot, seen));
        let timeline = row.identity.timeline;
        if let Some(identity) = held.identity.filter(|now| now.timeline != timeline) {
            held.switched_at = end_of_timeline(self.config, identity, timeline).await;
        }
        Ok(held)
    }
}

/// Only a replication connection tells it. Where there is none, that is a finding of its own.
async fn end_of_timeline(config: &Config, identity: Identity, timeline: u32) -> Option<Lsn> {
    let options = ConnectOptions {
        application_name: "walpost check".to_owned(),
        ..ConnectOptions::default()
    };
    let mut connection = connect(&config.postgres, &options).await.ok()?;
    let end = catalog::end_of_timeline(&mut connection, identity, timeline).await;
    connection.close().await;
    end.ok().flatten()
}
