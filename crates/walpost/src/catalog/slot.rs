//! The replication slot.

use walpost_core::start::{Refusal, SlotRow};
use walpost_pgoutput::Lsn;
use walpost_walsender::{Connection, Error, quote_identifier, quote_literal};

use super::{Limits, Provider, Server, bytes_text};
use crate::checks;
use crate::finding::Finding;

/// From here on, the WAL that a slot keeps is worth a word.
const LAG_BYTES: u64 = 1 << 30;

/// A slot's row, and who streams from it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub row: SlotRow,
    /// Of the session that streams from it.
    pub active_name: Option<String>,
    /// Where that session comes from; none also where this role may not see it.
    pub active_client: Option<String>,
    pub is_temporary: bool,
    /// Bytes of WAL that can still be written before it may be lost; none: no limit.
    pub safe_wal_size: Option<i64>,
    /// From 17 on.
    pub invalidation_reason: Option<String>,
    /// From 16 on.
    pub is_conflicting: bool,
    /// From 17 on.
    pub failover: Option<bool>,
    pub is_synced: bool,
}

/// Looks a slot up.
pub(crate) async fn slot(connection: &mut Connection, name: &str) -> Result<Option<Slot>, Error> {
    // As JSON, because older servers have no columns of these names.
    let sql = format!(
        "select s.plugin, s.database, s.active_pid, s.restart_lsn, s.confirmed_flush_lsn, \
         s.wal_status, to_jsonb(s) ->> 'two_phase', a.application_name, \
         case when a.client_port = -1 then 'a local socket' else host(a.client_addr) end, \
         s.temporary, s.safe_wal_size, \
         to_jsonb(s) ->> 'invalidation_reason', to_jsonb(s) ->> 'conflicting', \
         to_jsonb(s) ->> 'failover', to_jsonb(s) ->> 'synced' \
         from pg_catalog.pg_replication_slots s \
         left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid where slot_name = {}",
        quote_literal(name)
    );
    let rows = connection.query(&sql).await?;
    Ok(rows.first().map(|row| {
        let text = |index: usize| row.get(index).map(str::to_owned);
        let lsn = |index: usize| row.get(index).and_then(|lsn| lsn.parse().ok());
        let is_true = |index: usize| row.get(index) == Some("true");
        Slot {
            row: SlotRow {
                plugin: text(0),
                database: text(1),
                active_pid: row.get(2).and_then(|pid| pid.parse().ok()),
                restart_lsn: lsn(3),
                confirmed_flush_lsn: lsn(4),
                wal_status: text(5),
                two_phase: is_true(6),
            },
            active_name: text(7).filter(|name| !name.is_empty()),
            active_client: text(8),
            is_temporary: row.get(9) == Some("t"),
            safe_wal_size: row.get(10).and_then(|size| size.parse().ok()),
            invalidation_reason: text(11),
            is_conflicting: is_true(12),
            failover: row.get(13).map(|text| text == "true"),
            is_synced: is_true(14),
        }
    }))
}

/// Why a session may not start from the slot of this name, as a finding.
pub(crate) fn refusal_problem(
    name: &str,
    slot: Option<&Slot>,
    refusal: &Refusal,
    provider: Provider,
) -> Finding {
    const INIT: &str = "walpost init --apply";
    const OTHER: &str = "name another one in postgres.slot, then walpost init --apply";
    let seen = refusal_text(name, refusal);
    let again = || {
        format!(
            "/* after comparing the outbox table with Kafka: */ \
             select pg_drop_replication_slot({}); -- then walpost init --apply, \
             which names the gap",
            quote_literal(name)
        )
    };
    match refusal {
        Refusal::WalLevel(_) => {
            checks::PG_WAL_LEVEL.found("wal_level", seen, provider.wal_level_fix())
        }
        Refusal::SlotMissing => checks::SLOT_MISSING.found(name, seen, INIT),
        Refusal::Plugin(_) => checks::SLOT_PLUGIN.found(name, seen, OTHER),
        Refusal::Database(_) => checks::SLOT_DATABASE.found(name, seen, OTHER),
        Refusal::TwoPhase => checks::SLOT_TWO_PHASE.found(name, seen, OTHER),
        Refusal::WalLost => {
            let reason = slot.map(lost_because).unwrap_or_default();
            checks::SLOT_LOST.found(name, seen + &reason, again())
        }
        Refusal::Ahead { .. } => checks::SLOT_AHEAD.found(name, seen, again()),
        Refusal::SlotGone { recorded, .. } => {
            let fix = format!(
                "compare the outbox table with Kafka; then walpost init --apply --accept-gap \
                 {recorded}"
            );
            checks::SLOT_GONE.found(name, seen, fix)
        }
        Refusal::Moved { confirmed, .. } => {
            let fix = format!(
                "compare the outbox table with Kafka; then walpost run --accept-slot-position \
                 {confirmed}"
            );
            checks::SLOT_MOVED.found(name, seen, fix)
        }
        Refusal::System { server, .. } => {
            let fix = match slot {
                Some(_) => format!(
                    "connect to the other server; or walpost run --accept-system-identifier \
                     {server}, if this one has taken over"
                ),
                None => "connect to the other server; or walpost init --apply, which names the \
                         gap, if this one has taken over"
                    .to_owned(),
            };
            checks::PG_SYSTEM.found(server.to_string(), seen, fix)
        }
        Refusal::Timeline { server, .. } => {
            let fix = "connect to the primary that the other servers follow";
            checks::PG_TIMELINE.found(server.to_string(), seen, fix)
        }
        Refusal::Settings(changes) => {
            let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
            let fix = format!(
                "set them as they were; or walpost run --accept-config-change {}",
                keys.join(",")
            );
            checks::CHECKPOINT_CONFIG.found(name, seen, fix)
        }
    }
}

fn refusal_text(name: &str, refusal: &Refusal) -> String {
    let or_none = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
    match refusal {
        Refusal::WalLevel(level) => format!("wal_level is '{level}': it has to be logical"),
        Refusal::SlotMissing => format!(
            "there is no replication slot '{name}'; if there was one, the events since its last \
             confirmed position will be in no other: find out first who dropped it"
        ),
        Refusal::Plugin(plugin) => format!(
            "the slot '{name}' has the output plugin '{}', and it has to be 'pgoutput'",
            or_none(plugin)
        ),
        Refusal::Database(database) => format!(
            "the slot '{name}' decodes another database, '{}'",
            or_none(database)
        ),
        Refusal::TwoPhase => format!(
            "the slot '{name}' has two_phase on: it sends prepared transactions before they commit"
        ),
        Refusal::WalLost => format!(
            "the slot '{name}' was invalidated: the server removed WAL that was not confirmed; the \
             events in it are lost to the slot, and still in the outbox table"
        ),
        Refusal::Ahead { confirmed, flush } => format!(
            "the slot '{name}' stands at {confirmed}, behind the end of the server's WAL at \
             {flush}: \
             this server was restored or promoted, or somebody moved the slot; everything \
             committed \
             up to there would be skipped"
        ),
        Refusal::SlotGone { recorded, flush } => format!(
            "there was a slot '{name}', and its events were delivered up to {recorded}; now there \
             is none: somebody dropped it, or this is a standby that was promoted without it. What \
             was committed from there to {flush}{} is in no slot",
            bytes_between(*recorded, *flush)
        ),
        Refusal::Moved {
            recorded,
            confirmed,
        } => format!(
            "the slot '{name}' stands at {confirmed}, and everything was delivered up to \
             {recorded} only: somebody else read from it, advanced it, or made it anew. What was \
             committed between{} would be passed over",
            bytes_between(*recorded, *confirmed)
        ),
        Refusal::System { recorded, server } => format!(
            "the server's system identifier is {server}, and the checkpoint of the slot '{name}' \
             is of {recorded}: this database was restored, copied or upgraded"
        ),
        Refusal::Timeline { recorded, server } => format!(
            "the server is on timeline {server}, which did not come from timeline {recorded}, \
             that of the checkpoint of the slot '{name}'"
        ),
        Refusal::Settings(changes) => {
            let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
            format!(
                "the slot '{name}' was read with other settings; {}",
                changes.join("; ")
            )
        }
    }
}

fn bytes_between(from: Lsn, to: Lsn) -> String {
    let bytes = to.bytes_since(from);
    bytes.map_or_else(String::new, |bytes| {
        format!(" ({} of WAL)", bytes_text(bytes))
    })
}

fn lost_because(slot: &Slot) -> String {
    let mut text = String::new();
    if let Some(reason) = &slot.invalidation_reason {
        text.push_str(&format!(" (invalidation_reason: {reason})"));
    } else if slot.is_conflicting {
        text.push_str(" (it conflicted with recovery)");
    }
    if let Some(confirmed) = slot.row.confirmed_flush_lsn {
        text.push_str(&format!("; it was confirmed up to {confirmed}"));
    }
    text
}

impl Slot {
    /// Whether it can't be read from any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.row.wal_status.as_deref() == Some("lost") || self.row.restart_lsn.is_none()
    }

    /// It can't be anybody else's.
    pub(crate) fn temporary_problem(&self, name: &str) -> Option<Finding> {
        if !self.is_temporary {
            return None;
        }
        let seen = format!("the slot '{name}' is temporary: it ends with the session that made it");
        let fix = "name another one in postgres.slot, then walpost init --apply";
        Some(checks::SLOT_TEMPORARY.found(name, seen, fix))
    }

    /// The next checkpoint may take it.
    pub(crate) fn unreserved_problem(&self, name: &str, provider: Provider) -> Option<Finding> {
        if self.row.wal_status.as_deref() != Some("unreserved") {
            return None;
        }
        let seen = format!(
            "the server will remove WAL that the slot '{name}' still needs (wal_status: \
             unreserved)"
        );
        let raise = provider.setting_fix("max_slot_wal_keep_size", "50GB", false);
        let fix = format!("{raise} -- and start the relay at once");
        Some(checks::SLOT_UNRESERVED.found(name, seen, fix))
    }

    /// What will be a problem one day.
    pub(crate) fn warnings(
        &self,
        name: &str,
        server: &Server,
        limits: &Limits,
        provider: Provider,
    ) -> Vec<Finding> {
        let found = [
            self.safe_size_problem(name, limits, provider),
            self.lag_problem(name, server.flush_lsn),
            self.use_problem(name),
            self.failover_problem(name, limits),
            self.standbys_problem(limits, provider),
        ];
        found.into_iter().flatten().collect()
    }

    fn safe_size_problem(
        &self,
        name: &str,
        limits: &Limits,
        provider: Provider,
    ) -> Option<Finding> {
        let keep = limits.keep_bytes.filter(|keep| *keep > 0)?;
        let safe = u64::try_from(self.safe_wal_size?).unwrap_or(0);
        if safe >= keep / 5 || self.row.wal_status.as_deref() == Some("unreserved") {
            return None;
        }
        let seen = format!(
            "after {} more of WAL the slot '{name}' may be lost (max_slot_wal_keep_size is {})",
            bytes_text(safe),
            bytes_text(keep)
        );
        let more = format!("{}MB", (keep >> 20).saturating_mul(4));
        let fix = provider.setting_fix("max_slot_wal_keep_size", &more, false);
        Some(checks::SLOT_SAFE_SIZE.found(name, seen, format!("{fix} -- and start the relay")))
    }

    fn lag_problem(&self, name: &str, end: Option<Lsn>) -> Option<Finding> {
        let end = end?;
        let behind = |lsn: Option<Lsn>| Some(end.as_u64().saturating_sub(lsn?.as_u64()));
        let confirmed = behind(self.row.confirmed_flush_lsn)?;
        let restart = behind(self.row.restart_lsn)?;
        if confirmed.max(restart) < LAG_BYTES {
            return None;
        }
        let seen = format!(
            "the slot '{name}' is confirmed up to {} before the end of the WAL, and keeps {} of it",
            bytes_text(confirmed),
            bytes_text(restart)
        );
        let fix = if confirmed >= LAG_BYTES {
            "walpost run (see whether it confirms: is Kafka up?)"
        } else {
            "select pid, xact_start from pg_stat_activity where backend_xid is not null \
             order by 2; -- and end the oldest; look at pg_prepared_xacts too"
        };
        Some(checks::SLOT_LAG.found(name, seen, fix))
    }

    fn use_problem(&self, name: &str) -> Option<Finding> {
        let pid = self.row.active_pid?;
        if self.active_name.as_deref() == Some(&format!("walpost {name}")) {
            return None;
        }
        let seen = format!("the slot '{name}' is in use by {}", self.user(pid));
        let fix = format!("/* after finding out who it is: */ select pg_terminate_backend({pid});");
        Some(checks::SLOT_IN_USE.found(name, seen, fix))
    }

    /// Who streams from it.
    pub(crate) fn user(&self, pid: i32) -> String {
        let name = self
            .active_name
            .as_deref()
            .unwrap_or("a session without a name");
        let from = self
            .active_client
            .as_deref()
            .unwrap_or("an address that this role may not see");
        format!("'{name}' (server process {pid}, from {from})")
    }

    fn failover_problem(&self, name: &str, limits: &Limits) -> Option<Finding> {
        let found = self.failover_off_problem(name, "standbys are attached");
        found.filter(|_| limits.has_standbys)
    }

    /// It ends with this server, although it matters that it should not.
    pub(crate) fn failover_off_problem(&self, name: &str, because: &str) -> Option<Finding> {
        if self.failover? || self.is_synced {
            return None;
        }
        let seen = format!(
            "{because}, and the slot '{name}' has failover off: it is gone after a promotion"
        );
        let fix = format!(
            "psql 'dbname=… replication=database' -c 'ALTER_REPLICATION_SLOT {} (FAILOVER true)', \
             while the relay is stopped",
            quote_identifier(name)
        );
        Some(checks::SLOT_FAILOVER.found(name, seen, fix))
    }

    fn standbys_problem(&self, limits: &Limits, provider: Provider) -> Option<Finding> {
        const SETTING: &str = "synchronized_standby_slots";
        let is_empty = limits.synchronized_standby_slots.as_deref()?.is_empty();
        if !is_empty || !limits.has_standbys || self.failover != Some(true) {
            return None;
        }
        let seen = "synchronized_standby_slots is empty: the relay may deliver what no standby has";
        let fix = provider.setting_fix(SETTING, "STANDBY_SLOT", false)
            + " -- the physical slot of each standby in place of STANDBY_SLOT";
        Some(checks::SLOT_STANDBYS.found(SETTING, seen, fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot {
            row: SlotRow {
                plugin: Some("pgoutput".to_owned()),
                database: Some("shop".to_owned()),
                active_pid: None,
                restart_lsn: Some(Lsn::new(50)),
                confirmed_flush_lsn: Some(Lsn::new(60)),
                wal_status: Some("reserved".to_owned()),
                two_phase: false,
            },
            active_name: None,
            active_client: None,
            is_temporary: false,
            safe_wal_size: None,
            invalidation_reason: None,
            is_conflicting: false,
            failover: None,
            is_synced: false,
        }
    }

    #[test]
    fn a_slot_that_keeps_more_than_a_gibibyte_is_told_with_its_cause() {
        let end = |bytes| Some(Lsn::new(bytes));
        assert_eq!(slot().lag_problem("s", end(LAG_BYTES)), None);
        let behind = slot().lag_problem("s", end(2 * LAG_BYTES)).unwrap();
        assert_eq!(behind.code, Some("WP-SLOT-LAG"));
        assert!(behind.seen.contains("keeps 1.9 GiB"), "{behind:?}");
        assert!(behind.fix.unwrap().starts_with("walpost run"));
        let mut pinned = slot();
        pinned.row.confirmed_flush_lsn = end(2 * LAG_BYTES);
        let pinned = pinned.lag_problem("s", end(2 * LAG_BYTES)).unwrap();
        assert!(pinned.seen.contains("up to 0 bytes before"), "{pinned:?}");
        assert!(pinned.fix.unwrap().contains("pg_prepared_xacts"));
    }

    #[test]
    fn why_a_slot_was_lost_is_told_where_the_server_knows() {
        let mut lost = slot();
        lost.invalidation_reason = Some("wal_removed".to_owned());
        let found = refusal_problem("s", Some(&lost), &Refusal::WalLost, Provider::Own);
        assert!(
            found.seen.contains("(invalidation_reason: wal_removed)"),
            "{found:?}"
        );
        assert!(found.seen.ends_with("up to 0/3C"), "{found:?}");
    }
}
