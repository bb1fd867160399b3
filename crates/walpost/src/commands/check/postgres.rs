//! The look at Postgres: server, role, tables, publications, slot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use walpost_core::class::Exit;
use walpost_core::start::{Accepted, Evidence, Identity, ServerState, start_at};
use walpost_core::{Format, Role};
use walpost_pgoutput::Lsn;
use walpost_walsender::{ConnectOptions, Connection, Error, Mode};

use super::held::Held;
use super::{Look, route, session};
use crate::catalog::{self, Limits, Pooler, Provider, Publication, Server, Slot, Table};
use crate::checks::{self, Area};
use crate::config::Config;
use crate::connect::{ConnectError, connect};
use crate::error::{chain, postgres_exit, postgres_fix};
use crate::finding::Finding;
use crate::gate;

/// Oldest and newest major version that walpost is tested with.
const MAJORS_TESTED: std::ops::RangeInclusive<u32> = 15..=18;

/// A transaction that is older pins WAL.
const TRANSACTION_AGE: Duration = Duration::from_secs(300);

/// As above, while a slot is still to be made: it would wait for it.
const TRANSACTION_AGE_BEFORE_SLOT: Duration = Duration::from_secs(1);

/// Clocks that differ by more are worth a word.
const CLOCK_SKEW_SECONDS: f64 = 5.0;

/// What is known by now.
pub(super) struct Sight<'a> {
    pub config: &'a Config,
    pub provider: Provider,
    pub server: Server,
    pub limits: Limits,
}

/// Looks at everything that can be seen.
pub(super) async fn look(config: &Config) -> Look {
    let mut look = look_inside_or_not(config).await;
    let conninfo = &config.postgres.conninfo;
    for warning in conninfo.warnings() {
        let fix = "chmod 0600 the password file, or set postgres.password_file; unset what has no \
                   effect";
        look.push(checks::PG_CONNINFO.found(&conninfo.user, warning, fix));
    }
    look
}

async fn look_inside_or_not(config: &Config) -> Look {
    let mut look = Look::default();
    let options = ConnectOptions {
        mode: Mode::Sql,
        application_name: "walpost check".to_owned(),
        ..ConnectOptions::default()
    };
    let conninfo = &config.postgres.conninfo;
    let mut connection = match connect(&config.postgres, &options).await {
        Ok(connection) => connection,
        Err(ConnectError::Postgres(error)) => return not_connected(config, &error),
        Err(ConnectError::Password(error)) => {
            let finding =
                checks::PG_CREDENTIALS.found(&conninfo.user, error.to_string(), error.fix());
            return look.blind(Exit::Permission, finding);
        }
    };
    if let Err(error) = look_inside(&mut look, &mut connection, config).await {
        let fix = postgres_fix(&error, conninfo).unwrap_or_else(|| "try again".to_owned());
        let finding = checks::PG_QUERY.found(conninfo.database.clone(), chain(&error), fix);
        return match postgres_exit(&error) {
            exit @ (Exit::Permission | Exit::Unavailable) => look.blind(exit, finding),
            Exit::Undeliverable | Exit::Internal | Exit::Configuration | Exit::Gap => {
                look.push(finding);
                look
            }
        };
    }
    connection.close().await;
    look
}

fn not_connected(config: &Config, error: &Error) -> Look {
    let conninfo = &config.postgres.conninfo;
    let exit = postgres_exit(error);
    let pooler = error
        .server()
        .and_then(|server| Pooler::of_refusal(server, conninfo));
    if let Some(pooler) = pooler {
        let finding = pooler.problem(conninfo);
        return Look {
            findings: vec![finding],
            ..Look::default()
        };
    }
    let (check, object) = match (error.sqlstate(), error.tls(), exit) {
        (Some("3D000"), _, _) => (&checks::PG_DATABASE, &conninfo.database),
        (_, Some(_), _) => (&checks::PG_TLS, &conninfo.database),
        (_, _, Exit::Permission) => (&checks::PG_CREDENTIALS, &conninfo.user),
        _ => (&checks::PG_UNREACHABLE, &conninfo.database),
    };
    let fix = postgres_fix(error, conninfo).unwrap_or_else(|| "check postgres.url".to_owned());
    let finding = check.found(object, chain(error), fix);
    // Where the server was reached, and said what is wrong, it was not blind.
    let blind = match exit {
        Exit::Configuration if !error.is_foreign() => None,
        Exit::Permission => Some(Exit::Permission),
        Exit::Undeliverable
        | Exit::Unavailable
        | Exit::Internal
        | Exit::Configuration
        | Exit::Gap => Some(Exit::Unavailable),
    };
    Look {
        findings: vec![finding],
        blind,
        ..Look::default()
    }
}

async fn look_inside(
    look: &mut Look,
    connection: &mut Connection,
    config: &Config,
) -> Result<(), Error> {
    let way = catalog::way(connection).await?;
    let sight = Sight {
        config,
        provider: catalog::provider(connection).await?,
        server: catalog::server(connection).await?,
        limits: catalog::limits(connection).await?,
    };
    look.extend(sight.server_findings());
    look.extend(session::look(&sight, &way).await);
    look.extend(sight.setting_findings());

    let mut tables = Vec::new();
    for name in config.mapping.tables() {
        match catalog::table(connection, name).await? {
            Some(table) => tables.push(table),
            None => {
                let others = catalog::table_names(connection).await?;
                look.push(catalog::table_missing(name, &others));
            }
        }
    }
    let name = &config.postgres.publication;
    let publication = catalog::publication(connection, name).await?;
    sight
        .publication_findings(look, connection, publication.as_ref(), &tables)
        .await?;
    let format = catalog::stream_format(&tables, config);
    for table in &tables {
        sight
            .table_findings(look, connection, (table, format), publication.as_ref())
            .await?;
    }
    look.extend(route::findings(config, &tables));

    let slot = catalog::slot(connection, &config.postgres.slot).await?;
    sight
        .transaction_findings(look, connection, slot.is_some())
        .await?;
    let mut held = sight.held(look, connection).await?;
    if !sight.server.is_standby {
        held.flush_lsn = catalog::flush_lsn(connection).await?;
    }
    if sight.slot_findings(look, slot.as_ref(), &held) && publication.is_some() {
        sight.age_findings(look, connection).await?;
    }
    Ok(())
}

impl Sight<'_> {
    fn server_findings(&self) -> Vec<Finding> {
        let Server {
            version,
            database,
            role,
            ..
        } = &self.server;
        let place = &self.config.postgres.conninfo;
        let whose = match self.provider.name() {
            Some(name) => format!(" ({name})"),
            None => String::new(),
        };
        let seen =
            format!("PostgreSQL {version}{whose}, database '{database}', as '{role}' ({place})");
        let mut found = vec![Finding::ok(Area::Postgres, seen)];
        found.extend(version_problem(self.server.major()));
        if self.server.is_standby {
            let seen = format!(
                "the server is a standby{}",
                if self.server.major() >= 16 {
                    ": it could decode, but walpost streams from primaries alone"
                } else {
                    ""
                }
            );
            let fix = "name the primary in postgres.url, or all hosts with \
                       target_session_attrs=read-write";
            found.push(checks::PG_STANDBY.found(database, seen, fix));
        }
        let level = &self.server.wal_level;
        if level == "logical" {
            found.push(Finding::ok(Area::Postgres, "wal_level is logical"));
        } else {
            let seen = format!("wal_level is '{level}'");
            let fix = self.provider.wal_level_fix();
            found.push(checks::PG_WAL_LEVEL.found("wal_level", seen, fix));
        }
        found
    }

    fn setting_findings(&self) -> Vec<Finding> {
        const KEEP: &str = "max_slot_wal_keep_size";
        const IDLE: &str = "idle_replication_slot_timeout";
        let (limits, provider) = (&self.limits, self.provider);
        let mut found = Vec::new();
        if self
            .server
            .is_synchronous_for(&gate::application_name(self.config))
        {
            found.push(self.server.synchronous_problem(provider));
        }
        match limits.keep_bytes {
            None => {
                let seen = format!("{KEEP} is -1: a slot that is not read fills the disk");
                let fix = provider.setting_fix(KEEP, "50GB", false);
                found.push(checks::PG_KEEP_SIZE.found(KEEP, seen, fix));
            }
            Some(keep) => {
                let seen = format!("{KEEP} is {}", catalog::bytes_text(keep));
                found.push(Finding::ok(Area::Postgres, seen));
            }
        }
        if !limits.idle_slot_timeout.is_zero() {
            let seen = format!(
                "{IDLE} is {} s: a relay that is away for longer loses its slot",
                limits.idle_slot_timeout.as_secs()
            );
            let fix = provider.setting_fix(IDLE, "0", false);
            found.push(checks::PG_IDLE_SLOT.found(IDLE, seen, fix));
        }
        let here = SystemTime::now().duration_since(UNIX_EPOCH);
        found.extend(clock_problem(
            limits.clock - here.map_or(0.0, |here| here.as_secs_f64()),
        ));
        found
    }

    async fn publication_findings(
        &self,
        look: &mut Look,
        connection: &mut Connection,
        publication: Option<&Publication>,
        tables: &[Table],
    ) -> Result<(), Error> {
        let (postgres, needed) = (&self.config.postgres, self.config.read_columns());
        let name = &postgres.publication;
        match publication {
            None => look.push(catalog::publication_missing(name)),
            Some(publication) => {
                let problems = publication.problems(tables, &needed);
                if problems.is_empty() && !tables.is_empty() {
                    let seen = format!("the publication '{name}' carries the outbox");
                    look.push(Finding::ok(Area::Publication, seen));
                }
                look.extend(problems);
            }
        }
        let spare = postgres.spare_publication();
        let found = catalog::publication(connection, &spare).await?;
        // Where there is nothing yet, one finding says so.
        if publication.is_none() && found.is_none() {
            return Ok(());
        }
        match catalog::spare_problem(&spare, found.as_ref(), tables, &needed) {
            Some(problem) => look.push(problem),
            None => {
                let seen = format!("the spare publication '{spare}' does too");
                look.push(Finding::ok(Area::Publication, seen));
            }
        }
        Ok(())
    }

    async fn table_findings(
        &self,
        look: &mut Look,
        connection: &mut Connection,
        (table, format): (&Table, Format),
        publication: Option<&Publication>,
    ) -> Result<(), Error> {
        let config = self.config;
        let errors = table.errors(config, format);
        if errors.is_empty() {
            let needed = config.needed_columns();
            let columns: Vec<_> = needed.iter().map(|needed| needed.column.as_str()).collect();
            let seen = format!("the table {} has {}", table.name, columns.join(", "));
            look.push(Finding::ok(Area::Table, seen));
            let payload = config.mapping.column(Role::Payload);
            let largest = catalog::largest_payload(connection, table, payload).await?;
            look.payload_bytes = look.payload_bytes.max(largest);
        }
        look.extend(errors);
        look.extend(table.warnings(config, publication));
        for partition in table.default_partitions() {
            if catalog::has_default_rows(connection, &partition).await? == Some(true) {
                look.push(table.default_problem(&partition));
            }
        }
        if let Some(new) = catalog::missing_partition(connection, table).await? {
            look.push(table.future_problem(&new));
        }
        Ok(())
    }

    async fn transaction_findings(
        &self,
        look: &mut Look,
        connection: &mut Connection,
        has_slot: bool,
    ) -> Result<(), Error> {
        let (age, effect) = if has_slot {
            (TRANSACTION_AGE, "the WAL since then can't be removed")
        } else {
            (
                TRANSACTION_AGE_BEFORE_SLOT,
                "'walpost init' would wait for it",
            )
        };
        for open in catalog::open_transactions(connection).await? {
            // One whose age this role may not see is most likely a short one.
            if let Some(open_for) = open.age.filter(|open_for| *open_for >= age) {
                let seconds = open_for.as_secs();
                let seen = format!("{} has been open for {seconds} s: {effect}", open.text);
                look.push(checks::PG_TRANSACTION.found(open.text, seen, open.end));
            }
        }
        Ok(())
    }

    /// Whether the slot can be streamed from.
    fn slot_findings(&self, look: &mut Look, slot: Option<&Slot>, held: &Held) -> bool {
        let (name, limits) = (&self.config.postgres.slot, &self.limits);
        let state = ServerState {
            identity: held.identity.unwrap_or(Identity {
                system_identifier: 0,
                timeline: 0,
            }),
            database: self.server.database.clone(),
            // Told already, and not the slot's.
            wal_level: "logical".to_owned(),
            flush_lsn: held.flush_lsn.unwrap_or(Lsn::new(u64::MAX)),
        };
        if slot.is_none() && limits.slots >= limits.slots_max {
            let seen = format!(
                "all {} replication slots are taken (max_replication_slots)",
                limits.slots_max
            );
            let more = (limits.slots_max + 5).to_string();
            let fix = self
                .provider
                .setting_fix("max_replication_slots", &more, true)
                + " -- or drop one that nobody uses";
            look.push(checks::PG_SLOTS.found("max_replication_slots", seen, fix));
        }
        if let Some(problem) = slot.and_then(|slot| slot.temporary_problem(name)) {
            look.push(problem);
            return false;
        }
        let evidence = Evidence {
            server: &state,
            slot: slot.map(|slot| &slot.row),
            recorded: held.recorded(),
            switched_at: held.switched_at,
            unrecorded: None,
            config: &self.config.fingerprint(),
            accepted: &Accepted::default(),
        };
        let confirmed = match start_at(&evidence) {
            Ok(start) => start.lsn,
            Err(refusal) => {
                let provider = self.provider;
                look.push(catalog::refusal_problem(name, slot, &refusal, provider));
                return false;
            }
        };
        let Some(slot) = slot else { return false };
        let unreserved = slot.unreserved_problem(name, self.provider);
        let warnings = slot.warnings(name, &self.server, limits, self.provider);
        let mut seen = format!("the slot '{name}' is confirmed up to {confirmed}");
        if let Some(pid) = slot.row.active_pid {
            seen.push_str(&format!(", in use by {}", slot.user(pid)));
        }
        look.push(Finding::ok(Area::Slot, seen));
        look.extend(unreserved);
        look.extend(warnings);
        true
    }

    async fn age_findings(
        &self,
        look: &mut Look,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let postgres = &self.config.postgres;
        let (publication, slot) = (&postgres.publication, &postgres.slot);
        if catalog::is_publication_younger(connection, publication, slot).await? {
            look.push(younger_problem(publication, slot));
        }
        Ok(())
    }
}

/// The publication was written after the slot was made.
pub(in crate::commands) fn younger_problem(publication: &str, slot: &str) -> Finding {
    let seen = format!(
        "the publication '{publication}' was made or altered after the slot '{slot}' was, and the \
         slot has not passed that yet: what was committed before is not in the stream"
    );
    let fix = format!(
        "/* only if the slot is new, otherwise compare the outbox table with Kafka: */ \
         select pg_drop_replication_slot({}); -- then walpost init --apply, which names the gap",
        walpost_walsender::quote_literal(slot)
    );
    checks::PUB_YOUNGER.found(publication, seen, fix)
}

fn version_problem(major: u32) -> Option<Finding> {
    let (oldest, newest) = (MAJORS_TESTED.start(), MAJORS_TESTED.end());
    if MAJORS_TESTED.contains(&major) {
        return None;
    }
    let seen = format!("walpost is not tested with PostgreSQL {major}");
    let fix = format!("use a version from {oldest} to {newest}, or try it out first");
    Some(checks::PG_VERSION.found(major.to_string(), seen, fix))
}

/// By how many seconds the server's clock is ahead.
fn clock_problem(skew: f64) -> Option<Finding> {
    if skew.abs() < CLOCK_SKEW_SECONDS {
        return None;
    }
    let direction = if skew > 0.0 { "ahead of" } else { "behind" };
    let seen = format!(
        "the server's clock is {:.0} s {direction} this machine's",
        skew.abs()
    );
    let fix = "let both machines keep time (timedatectl set-ntp true)";
    Some(checks::PG_CLOCK.found("clock", seen, fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_not_tested_are_a_warning() {
        for major in 15..=18 {
            assert_eq!(version_problem(major), None);
        }
        for major in [14, 19] {
            let found = version_problem(major).unwrap();
            assert!(!found.is_error() && found.seen.ends_with(&major.to_string()));
        }
    }

    #[test]
    fn clocks_that_are_far_apart_are_a_warning() {
        assert_eq!(clock_problem(4.9), None);
        let found = clock_problem(-3600.0).unwrap();
        assert_eq!(
            found.seen,
            "the server's clock is 3600 s behind this machine's"
        );
        assert!(!found.is_error());
    }
}
