//! The server, the role, and what the server still has room for.

use std::time::{Duration, Instant};

use walpost_pgoutput::Lsn;
use walpost_walsender::{Connection, Conninfo, Error};

use super::Provider;
use crate::checks;
use crate::finding::Finding;

/// The server and the role.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub version: String,
    /// As 150018 for 15.18.
    pub version_number: u32,
    pub database: String,
    pub role: String,
    pub is_standby: bool,
    pub wal_level: String,
    /// End of the WAL on disk.
    pub flush_lsn: Option<Lsn>,
    /// End of the WAL that is written: every commit that has returned lies before it, but for
    /// those with `synchronous_commit = off`.
    pub current_lsn: Option<Lsn>,
    /// The setting of this connection; zero is off.
    pub wal_sender_timeout: Duration,
    /// The role may use replication slots, as far as its attributes tell.
    pub can_replicate: bool,
    pub synchronous_standby_names: String,
    /// When it was started, in seconds.
    pub start: String,
}

/// Asks for the server's and the role's state.
pub(crate) async fn server(connection: &mut Connection) -> Result<Server, Error> {
    // Amazon grants the right by membership in a role of its own.
    const SQL: &str = "select current_setting('server_version'), \
         current_setting('server_version_num'), current_database(), current_user, \
         pg_is_in_recovery(), current_setting('wal_level'), \
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn() \
              else pg_current_wal_flush_lsn() end, \
         exists (select from pg_catalog.pg_roles r where r.rolname = current_user \
                 and (r.rolsuper or r.rolreplication)) \
         or exists (select from pg_catalog.pg_roles r \
                    where r.rolname in ('rds_replication', 'rds_superuser') \
                    and pg_has_role(current_user, r.oid, 'member')), \
         case when pg_is_in_recovery() then null else pg_current_wal_lsn() end, \
         (select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'), \
         current_setting('synchronous_standby_names'), \
         extract(epoch from pg_postmaster_start_time())";
    let rows = connection.query(SQL).await?;
    let row = rows.first();
    let text = |index: usize| {
        row.and_then(|row| row.get(index))
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Server {
        version: text(0).split(' ').next().unwrap_or_default().to_owned(),
        version_number: text(1).parse().unwrap_or(0),
        database: text(2),
        role: text(3),
        is_standby: text(4) == "t",
        wal_level: text(5),
        flush_lsn: text(6).parse().ok(),
        can_replicate: text(7) == "t",
        current_lsn: text(8).parse().ok(),
        wal_sender_timeout: Duration::from_millis(text(9).parse().unwrap_or(0)),
        synchronous_standby_names: text(10),
        start: text(11),
    })
}

impl Server {
    /// 15, 16, …
    pub(crate) fn major(&self) -> u32 {
        self.version_number / 10_000
    }

    /// Whether every commit would wait for a session of this name.
    pub(crate) fn is_synchronous_for(&self, application_name: &str) -> bool {
        standby_names(&self.synchronous_standby_names)
            .iter()
            .any(|name| name == "*" || name.eq_ignore_ascii_case(application_name))
    }

    /// It does.
    pub(crate) fn synchronous_problem(&self, provider: Provider) -> Finding {
        const SETTING: &str = "synchronous_standby_names";
        let names = &self.synchronous_standby_names;
        let seen = format!(
            "{SETTING} is '{names}', which counts the relay in: every commit would wait until \
             Kafka has its events"
        );
        let fix = provider.setting_fix(SETTING, "", false)
            + " -- or list the application_name of each standby there, and nothing else";
        checks::PG_SYNC.found(SETTING, seen, fix)
    }
}

/// The role may not stream. Whose server it is can't be asked: it did not let us in.
pub(crate) fn replication_problem(conninfo: &Conninfo) -> Finding {
    let role = &conninfo.user;
    let seen = format!("the role '{role}' has not got REPLICATION");
    let fix = format!(
        "{} (Amazon RDS and Aurora: {})",
        Provider::Own.replication_fix(role),
        Provider::Rds.replication_fix(role)
    );
    checks::PG_REPLICATION.found(role, seen, fix)
}

/// The names in `synchronous_standby_names`: `a, b`, `2 (a, b)`, `FIRST 1 ("a b", *)`, `ANY …`.
fn standby_names(setting: &str) -> Vec<String> {
    let list = match (setting.find('('), setting.rfind(')')) {
        // A parenthesis within quotes belongs to a name.
        (Some(open), Some(close)) if open < close && !setting[..open].contains('"') => {
            &setting[open + 1..close]
        }
        _ => setting,
    };
    let mut names = Vec::new();
    let mut name = String::new();
    let mut is_quoted = false;
    for char in list.chars() {
        match char {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => names.push(std::mem::take(&mut name)),
            char if char.is_whitespace() && !is_quoted => {}
            char => name.push(char),
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

/// The end of the written WAL, once everything that was inserted into it by now is written. The WAL
/// writer lets an asynchronous commit wait for three of its delays at most; other records may stay
/// unwritten for as long as nothing is committed, so the wait ends there.
pub(crate) async fn written_lsn(connection: &mut Connection) -> Result<Option<Lsn>, Error> {
    const ASK: Duration = Duration::from_millis(10);
    const INSERTED: &str = "select pg_current_wal_insert_lsn(), \
         (select setting from pg_catalog.pg_settings where name = 'wal_writer_delay')";
    const WRITTEN: &str = "select pg_current_wal_lsn()";
    let rows = connection.query(INSERTED).await?;
    let value = |index: usize| rows.first().and_then(|row| row.get(index));
    let inserted: Option<Lsn> = value(0).and_then(|text| text.parse().ok());
    let delay_ms = value(1).and_then(|text| text.parse().ok()).unwrap_or(200);
    let end = Instant::now() + 3 * Duration::from_millis(delay_ms) + ASK;
    loop {
        let rows = connection.query(WRITTEN).await?;
        let text = rows.first().and_then(|row| row.get(0));
        let written: Option<Lsn> = text.and_then(|text| text.parse().ok());
        if written >= inserted || Instant::now() >= end {
            return Ok(written);
        }
        tokio::time::sleep(ASK).await;
    }
}

/// Whether a walsender is busy with itself: a healthy one that has nothing to say waits for WAL,
/// and one whose client is away for that. Where it may not be seen, it is not.
pub(crate) async fn is_working(connection: &mut Connection, pid: i32) -> Result<bool, Error> {
    let sql = format!(
        "select state = 'active' and coalesce(wait_event_type, 'IO') in ('IO', 'LWLock') \
         from pg_catalog.pg_stat_activity where pid = {pid}"
    );
    let rows = connection.query(&sql).await?;
    Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
}

/// The end of the WAL on disk, now.
pub(crate) async fn flush_lsn(connection: &mut Connection) -> Result<Option<Lsn>, Error> {
    let rows = connection
        .query("select pg_current_wal_flush_lsn()")
        .await?;
    let lsn = rows.first().and_then(|row| row.get(0));
    Ok(lsn.and_then(|lsn| lsn.parse().ok()))
}

/// The server's process for this session; a pooler makes up the one that was told at the login.
pub(crate) async fn backend_pid(connection: &mut Connection) -> Result<Option<i32>, Error> {
    let rows = connection.query("select pg_backend_pid()").await?;
    let pid = rows.first().and_then(|row| row.get(0));
    Ok(pid.and_then(|pid| pid.parse().ok()))
}

/// What the server has room for, and what it does to slots and sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub slots_max: u64,
    pub slots: u64,
    pub senders_max: u64,
    /// `max_slot_wal_keep_size` in bytes; none: no limit.
    pub keep_bytes: Option<u64>,
    /// `idle_replication_slot_timeout`; zero is off, as before 18.
    pub idle_slot_timeout: Duration,
    pub synchronized_standby_slots: Option<String>,
    /// Standbys are attached, or have slots.
    pub has_standbys: bool,
    /// Seconds since 1970 by the server's clock.
    pub clock: f64,
}

/// Asks for them.
pub(crate) async fn limits(connection: &mut Connection) -> Result<Limits, Error> {
    const SQL: &str = "select current_setting('max_replication_slots'), \
         (select count(*) from pg_catalog.pg_replication_slots), \
         current_setting('max_wal_senders'), \
         (select setting from pg_catalog.pg_settings where name = 'max_slot_wal_keep_size'), \
         (select case unit when 'min' then setting::bigint * 60 else setting::bigint end \
          from pg_catalog.pg_settings where name = 'idle_replication_slot_timeout'), \
         current_setting('synchronized_standby_slots', true), \
         exists (select from pg_catalog.pg_replication_slots where slot_type = 'physical') \
         or exists (select from pg_catalog.pg_stat_replication r \
                    where not exists (select from pg_catalog.pg_replication_slots s \
                                      where s.active_pid = r.pid and s.slot_type = 'logical') \
                    and r.state in ('streaming', 'catchup')), \
         extract(epoch from clock_timestamp())";
    let rows = connection.query(SQL).await?;
    let text = |index: usize| rows.first().and_then(|row| row.get(index));
    let number = |index| text(index).and_then(|text| text.parse().ok()).unwrap_or(0);
    // In megabytes, -1 for no limit.
    let keep_mb: Option<u64> = text(3).and_then(|text| text.parse().ok());
    Ok(Limits {
        slots_max: number(0),
        slots: number(1),
        senders_max: number(2),
        keep_bytes: keep_mb.map(|mb| mb.saturating_mul(1 << 20)),
        idle_slot_timeout: Duration::from_secs(number(4)),
        synchronized_standby_slots: text(5).map(str::to_owned),
        has_standbys: text(6) == Some("t"),
        clock: text(7).and_then(|text| text.parse().ok()).unwrap_or(0.0),
    })
}

/// A transaction that has written and is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// Who and where, without its query.
    pub text: String,
    /// SQL that ends it.
    pub end: String,
    /// None where this role may not see when it began.
    pub age: Option<Duration>,
}

/// Who would hold a new slot up, oldest first, as far as this role may see it.
pub(crate) async fn open_transactions(
    connection: &mut Connection,
) -> Result<Vec<Transaction>, Error> {
    // Processes of the server itself have no user.
    const SQL: &str = "select text, ending, \
         case when age is not null then greatest(age, 0)::bigint end from (\
         select format('process %s of %s in %s (%s)', pid, coalesce(usename, backend_type), \
                       coalesce(datname, 'no database'), \
                       coalesce(nullif(application_name, ''), 'no application_name')) as text, \
             format('select pg_terminate_backend(%s);', pid) as ending, \
             extract(epoch from clock_timestamp() - xact_start) as age \
         from pg_catalog.pg_stat_activity \
         where backend_xid is not null and pid <> pg_backend_pid() \
         union all \
         select format('prepared transaction %L of %s in %s', gid, owner, database), \
             format('rollback prepared %L;', gid), \
             extract(epoch from clock_timestamp() - prepared) \
         from pg_catalog.pg_prepared_xacts) open order by age desc nulls last";
    let rows = connection.query(SQL).await?;
    let transaction = |row: &walpost_walsender::Row| {
        let age = row.get(2).and_then(|age| age.parse().ok());
        Some(Transaction {
            text: crate::finding::one_line(row.get(0)?),
            end: row.get(1)?.to_owned(),
            age: age.map(Duration::from_secs),
        })
    };
    Ok(rows.iter().filter_map(transaction).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_synchronous_standbys_are_read_in_every_form() {
        for (setting, names) in [
            ("", &[][..]),
            ("*", &["*"]),
            ("a, b", &["a", "b"]),
            ("2 (a, b)", &["a", "b"]),
            ("FIRST 1 (\"walpost orders\", b)", &["walpost orders", "b"]),
            ("ANY 1 (a,*)", &["a", "*"]),
            ("\"odd (name)\"", &["odd (name)"]),
        ] {
            assert_eq!(standby_names(setting), names, "{setting}");
        }
    }
}
