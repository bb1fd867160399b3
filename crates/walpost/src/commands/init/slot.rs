//! The slot, which the server makes when every transaction that was open at the beginning has
//! ended.
//!
//! Who gives up waiting must not leave a server process behind that goes on: it would make the slot
//! later, and the server would keep its WAL for nobody. So an interruption cancels the statement
//! and waits for its end, and the server itself notices a client that vanished.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use walpost_core::class::Exit;
use walpost_core::start::{
    Accepted, Checkpoint, Evidence, Identity, Recorded, Refusal, ServerState, start_at,
};
use walpost_pgoutput::Lsn;
use walpost_walsender::{Connection, Conninfo};

use super::{Done, INSUFFICIENT_PRIVILEGE, Init, Progress, connect, refused};
use crate::catalog::{self, Slot, Transaction};
use crate::checkpoint;
use crate::checks;
use crate::commands::check::younger_problem;
use crate::error::Error;
use crate::sql;

/// After this time, and each time again, it is said what the slot waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// `query_canceled`
const QUERY_CANCELED: &str = "57014";

/// `configuration_limit_exceeded`: all slots are taken.
const LIMIT_EXCEEDED: &str = "53400";

impl Init<'_> {
    pub(super) async fn make_slot(&mut self, progress: &mut Progress) -> Result<Done, Error> {
        let name = &self.config.postgres.slot;
        // The slot first: a relay that runs writes the row before it tells the slot.
        let found = self.slot().await?;
        let row = self.row().await?;
        let lost = self.accept(found.as_ref(), row.as_ref()).await?;
        if let Some(slot) = found {
            let confirmed = slot.row.confirmed_flush_lsn;
            let detail = confirmed.map(|lsn| format!(", confirmed up to {lsn}"));
            progress.step("exists", "slot", name, detail.unwrap_or_default())?;
            if row.is_none() {
                self.begin(progress, &slot, None, None).await?;
            }
            return self.judge(progress, &slot).await.map(|()| Done::All);
        }
        if self.create(progress).await? == Done::Interrupted {
            return Ok(Done::Interrupted);
        }
        let Some(slot) = self.slot().await? else {
            return Ok(Done::Interrupted);
        };
        let from = slot.row.confirmed_flush_lsn;
        let from = from.map(|lsn| format!(", from {lsn} on"));
        progress.step("created", "slot", name, from.unwrap_or_default())?;
        self.begin(progress, &slot, row.as_ref(), lost).await?;
        self.judge(progress, &slot).await.map(|()| Done::All)
    }

    async fn slot(&mut self) -> Result<Option<Slot>, Error> {
        let postgres = &self.config.postgres;
        let slot = catalog::slot(&mut self.relay, &postgres.slot).await;
        slot.map_err(|error| Error::postgres(&error, &postgres.conninfo))
    }

    /// Before anything is made: a slot that is there has to be one that can be streamed from, and
    /// one that is not must not have been there before.
    pub(super) async fn refuse_slot(&mut self) -> Result<(), Error> {
        let slot = self.slot().await?;
        let row = self.row().await?;
        self.accept(slot.as_ref(), row.as_ref()).await.map(drop)
    }

    /// The checkpoint, if there is one. Its table may still have to be made.
    async fn row(&mut self) -> Result<Option<Checkpoint>, Error> {
        let postgres = &self.config.postgres;
        let Some(checkpoint) = &postgres.checkpoint else {
            return Ok(None);
        };
        let row = checkpoint::read(&mut self.relay, &checkpoint.table, &postgres.slot).await;
        match row {
            Err(checkpoint::Fault::Found(found, _))
                if found.code == Some(checks::CHECKPOINT_TABLE.code)
                    || found.code == Some(checks::CHECKPOINT_RIGHT.code) =>
            {
                Ok(None)
            }
            row => row.map_err(|fault| self.fault(fault)),
        }
    }

    fn fault(&self, fault: checkpoint::Fault) -> Error {
        match fault {
            checkpoint::Fault::Found(finding, exit) => {
                Error::new(exit, finding.line()).with_fix(finding.fix.unwrap_or_default())
            }
            checkpoint::Fault::Postgres(error) => {
                Error::postgres(&error, &self.config.postgres.conninfo)
            }
        }
    }

    async fn identity(&mut self) -> Result<Identity, Error> {
        let identity = catalog::identity(&mut self.relay).await;
        let identity = identity.map_err(|error| self.fault(checkpoint::Fault::Postgres(error)))?;
        identity.ok_or_else(|| {
            let message = "the server does not tell its system identifier";
            Error::new(Exit::Internal, message)
        })
    }

    /// A slot that is there has to be one that can be streamed from; one that is not must not have
    /// been there before, unless the gap is accepted. Says then what it was.
    async fn accept(
        &mut self,
        slot: Option<&Slot>,
        row: Option<&Checkpoint>,
    ) -> Result<Option<String>, Error> {
        let name = &self.config.postgres.slot;
        let state = ServerState {
            identity: self.identity().await?,
            database: self.server.database.clone(),
            wal_level: self.server.wal_level.clone(),
            // Read before the slot was, which may have moved since.
            flush_lsn: match (slot, self.server.flush_lsn) {
                (None, Some(flush)) => flush,
                _ => Lsn::new(u64::MAX),
            },
        };
        if let Some(problem) = slot.and_then(|slot| slot.temporary_problem(name)) {
            return Err(refused(problem));
        }
        if let Some(slot) = slot
            && let Some(pid) = slot.row.active_pid
            && slot.row.confirmed_flush_lsn.is_none()
        {
            let message = format!(
                "the slot '{name}' is being made by another session (server process {pid}), which \
                 waits for open transactions"
            );
            let fix = format!("wait for it, or end it: select pg_terminate_backend({pid});");
            return Err(Error::new(Exit::Unavailable, message).with_fix(fix));
        }
        let evidence = Evidence {
            server: &state,
            slot: slot.map(|slot| &slot.row),
            recorded: row.map_or(Recorded::Nothing, Recorded::Row),
            // A promotion is for `run` to judge: a slot that is there stays.
            switched_at: slot.map(|_| Lsn::new(u64::MAX)),
            unrecorded: None,
            config: &self.config.fingerprint(),
            accepted: &Accepted::default(),
        };
        let refusal = match start_at(&evidence) {
            Ok(_) | Err(Refusal::SlotMissing) => return Ok(None),
            Err(refusal) => refusal,
        };
        let is_gap = slot.is_none();
        if let Some(row) = row.filter(|row| is_gap && self.accept_gap == Some(row.lsn)) {
            return Ok(Some(format!(
                "the slot was gone, delivered up to {}",
                row.lsn
            )));
        }
        let provider = self.provider;
        let problem = catalog::refusal_problem(name, slot, &refusal, provider);
        let fix = match row {
            Some(row) if is_gap => format!(
                "compare the outbox table with Kafka from {} on and deliver what is missing; then \
                 walpost init --apply --accept-gap {}",
                row.lsn, row.lsn
            ),
            _ => problem.fix.clone().unwrap_or_default(),
        };
        Err(Error::new(refusal.exit(), problem.line()).with_fix(fix))
    }

    /// The first checkpoint: where the slot stands.
    async fn begin(
        &mut self,
        progress: &mut Progress,
        slot: &Slot,
        old: Option<&Checkpoint>,
        accepted: Option<String>,
    ) -> Result<(), Error> {
        let config = self.config;
        let (Some(checkpoint), Some(lsn)) =
            (&config.postgres.checkpoint, slot.row.confirmed_flush_lsn)
        else {
            return Ok(());
        };
        let row = Checkpoint {
            identity: self.identity().await?,
            lsn,
            kafka_cluster: None,
            config: config.fingerprint(),
        };
        let (table, name) = (&checkpoint.table, &config.postgres.slot);
        let relay = &mut self.relay;
        let accepted = accepted.as_deref();
        let stored = checkpoint::store(relay, table, name, old, &row, accepted).await;
        if !stored.map_err(|fault| self.fault(fault))? {
            // A relay that was started meanwhile has adopted the slot.
            return Ok(());
        }
        progress.step("created", "checkpoint", name, format!(", at {lsn}"))
    }

    /// What there is to say of a slot that works.
    async fn judge(&mut self, progress: &mut Progress, slot: &Slot) -> Result<(), Error> {
        let postgres = &self.config.postgres;
        let failed = |error: walpost_walsender::Error| Error::postgres(&error, &postgres.conninfo);
        let (name, publication) = (&postgres.slot, &postgres.publication);
        let limits = catalog::limits(&mut self.relay).await.map_err(failed)?;
        let mut found = slot.warnings(name, &self.server, &limits, self.provider);
        let code = Some(checks::SLOT_FAILOVER.code);
        if self.failover && !found.iter().any(|finding| finding.code == code) {
            found.extend(slot.failover_off_problem(name, "--failover is given"));
        }
        progress.found(found);
        let younger = catalog::is_publication_younger(&mut self.relay, publication, name).await;
        if younger.map_err(failed)? {
            progress.found([younger_problem(publication, name)]);
        }
        Ok(())
    }

    async fn create(&mut self, progress: &Progress) -> Result<Done, Error> {
        let postgres = &self.config.postgres;
        let mut signals = Signals::new()?;
        // Not every system can; there the server notices at the next write.
        drop(
            self.relay
                .query("set client_connection_check_interval = 1000")
                .await,
        );
        let make = sql::slot(&postgres.slot, &postgres.publication, self.failover);
        let mut making = std::pin::pin!(self.relay.query(&make));
        let mut watch = Watch::default();
        let (made, is_interrupted) = loop {
            tokio::select! {
                made = &mut making => break (made, false),
                () = tokio::time::sleep(PATIENCE) => {
                    watch.tell(progress, &postgres.conninfo).await?;
                }
                () = signals.next() => {
                    cancel(&postgres.conninfo, self.relay_pid).await?;
                    break (making.await, true);
                }
            }
        };
        let Err(error) = made else {
            return Ok(Done::All);
        };
        if is_interrupted && error.sqlstate() == Some(QUERY_CANCELED) {
            return Ok(Done::Interrupted);
        }
        let action = format!("create the slot '{}'", postgres.slot);
        let failed = Error::statement(&action, &error, &postgres.conninfo);
        Err(match error.sqlstate() {
            Some(INSUFFICIENT_PRIVILEGE) => {
                failed.with_fix(self.provider.replication_fix(&self.server.role))
            }
            Some(LIMIT_EXCEEDED) => failed.with_fix(format!(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where …; for \
                 one that nobody uses, or: {}",
                self.provider
                    .setting_fix("max_replication_slots", "20", true)
            )),
            _ => failed,
        })
    }
}

/// Cancels our own statement on another connection.
async fn cancel(conninfo: &Conninfo, pid: i32) -> Result<(), Error> {
    let mut other = connect(conninfo).await?;
    let sql = format!("select pg_cancel_backend({pid})");
    let cancelled = other.query(&sql).await;
    cancelled
        .map_err(|error| Error::statement("cancel the making of the slot", &error, conninfo))?;
    other.close().await;
    Ok(())
}

/// Who is waited for, and what was told of it.
#[derive(Default)]
struct Watch {
    connection: Option<Connection>,
    told: Option<Vec<String>>,
}

impl Watch {
    async fn tell(&mut self, progress: &Progress, conninfo: &Conninfo) -> Result<(), Error> {
        if self.connection.is_none() {
            self.connection = connect(conninfo).await.ok();
        }
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let Ok(open) = catalog::open_transactions(connection).await else {
            self.connection = None;
            return Ok(());
        };
        let names: Vec<_> = open.iter().map(|open| open.text.clone()).collect();
        if self.told.as_ref() != Some(&names) {
            progress.say(&waiting(&open))?;
            self.told = Some(names);
        }
        Ok(())
    }
}

fn waiting(open: &[Transaction]) -> String {
    let mut text = "waiting  the slot waits for transactions that are open".to_owned();
    if open.is_empty() {
        text.push_str(" (none that this role may see: pg_stat_activity shows them)");
    }
    for Transaction {
        text: who,
        end,
        age,
    } in open
    {
        let open_for =
            age.map_or_else(String::new, |age| format!(", open for {} s", age.as_secs()));
        text.push_str(&format!(
            "\n           {who}{open_for}\n             to end it: {end}"
        ));
    }
    text
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(anyhow::Error::from);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
