//! The way to Postgres, tried as the relay goes it: a pooler in between, the right to replicate,
//! a free WAL sender, and the limits of the session.

use std::time::Duration;

use walpost_walsender::{ConnectOptions, Connection, Error, Mode, quote_identifier};

use super::postgres::Sight;
use crate::catalog::{self, Pooler, Way};
use crate::checks::{self, Area};
use crate::connect::{ConnectError, connect, connect_again};
use crate::error::{chain, names_wal_senders};
use crate::finding::Finding;

/// What the relay asks for.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(15);

const INSUFFICIENT_PRIVILEGE: &str = "42501";
const TOO_MANY_CONNECTIONS: &str = "53300";

/// Tries a replication connection.
pub(super) async fn look(sight: &Sight<'_>, way: &Way) -> Vec<Finding> {
    let conninfo = &sight.config.postgres.conninfo;
    let options = ConnectOptions {
        mode: Mode::Replication,
        application_name: "walpost check".to_owned(),
        wal_sender_timeout: WAL_SENDER_TIMEOUT,
        ..ConnectOptions::default()
    };
    let pooler = way.pooler(conninfo);
    let mut connection = match connect(&sight.config.postgres, &options).await {
        Ok(connection) => connection,
        Err(ConnectError::Postgres(error)) => return vec![refused(sight, way, pooler, &error)],
        Err(ConnectError::Password(error)) => {
            let role = &sight.server.role;
            return vec![checks::PG_CREDENTIALS.found(role, error.to_string(), error.fix())];
        }
    };
    let role = &sight.server.role;
    let seen = format!("the role '{role}' may use replication slots");
    let mut found = vec![Finding::ok(Area::Postgres, seen)];
    if let Some(pooler) = pooler {
        found.push(pooler_problem(sight, way, &pooler, None).into_warning());
    }
    match settings(&mut connection).await {
        Ok(settings) => found.extend(settings.problems(role)),
        Err(error) => {
            let fix = "try again";
            found.push(checks::PG_QUERY.found("settings", chain(&error), fix));
        }
    }
    found.extend(second_problem(sight, &options, &mut connection).await);
    connection.close().await;
    found
}

/// The relay holds two such connections: one streams, one writes the checkpoint. One that streams
/// already has both.
async fn second_problem(
    sight: &Sight<'_>,
    options: &ConnectOptions,
    first: &mut Connection,
) -> Option<Finding> {
    let postgres = &sight.config.postgres;
    let slot = catalog::slot(first, &postgres.slot).await.ok()?;
    if slot.is_some_and(|slot| slot.row.active_pid.is_some()) {
        return None;
    }
    match connect_again(postgres, options, first.endpoint()).await {
        Ok(second) => {
            second.close().await;
            None
        }
        Err(ConnectError::Postgres(error)) if error.sqlstate() == Some(TOO_MANY_CONNECTIONS) => {
            let max = sight.limits.senders_max;
            let seen = format!(
                "1 of {max} WAL senders is free (max_wal_senders), and the relay needs 2: one \
                 streams, one writes the checkpoint"
            );
            Some(senders_problem(sight, seen))
        }
        Err(_) => None,
    }
}

fn senders_problem(sight: &Sight<'_>, seen: String) -> Finding {
    let more = (sight.limits.senders_max + 5).to_string();
    let fix = sight.provider.setting_fix("max_wal_senders", &more, true);
    checks::PG_SENDERS.found("max_wal_senders", seen, fix)
}

fn refused(sight: &Sight<'_>, way: &Way, pooler: Option<Pooler>, error: &Error) -> Finding {
    let conninfo = &sight.config.postgres.conninfo;
    let told = error
        .server()
        .and_then(|server| Pooler::of_refusal(server, conninfo));
    if let Some(pooler) = told.or(pooler) {
        return pooler_problem(sight, way, &pooler, Some(error));
    }
    let role = &sight.server.role;
    match error.sqlstate() {
        Some(INSUFFICIENT_PRIVILEGE) => {
            let seen = format!("the role '{role}' has not got REPLICATION");
            let fix = sight.provider.replication_fix(role);
            checks::PG_REPLICATION.found(role, seen, fix)
        }
        Some(TOO_MANY_CONNECTIONS) if names_wal_senders(error) => {
            let max = sight.limits.senders_max;
            let seen = format!("all {max} WAL senders are in use (max_wal_senders)");
            senders_problem(sight, seen)
        }
        _ if !sight.server.can_replicate => {
            let seen = format!(
                "the role '{role}' has not got REPLICATION ({})",
                chain(error)
            );
            let fix = sight.provider.replication_fix(role);
            checks::PG_REPLICATION.found(role, seen, fix)
        }
        _ => {
            let seen = format!("a replication connection fails: {}", chain(error));
            let fix = crate::error::postgres_fix(error, conninfo).unwrap_or_else(|| {
                "connect to Postgres itself, without a proxy in between".to_owned()
            });
            checks::PG_SESSION.found(role, seen, fix)
        }
    }
}

fn pooler_problem(
    sight: &Sight<'_>,
    way: &Way,
    pooler: &Pooler,
    refusal: Option<&Error>,
) -> Finding {
    let conninfo = &sight.config.postgres.conninfo;
    let Pooler { name, sign } = pooler;
    let mut seen = format!("{conninfo} is {name}: {sign}");
    match refusal {
        Some(error) => seen.push_str(&format!(
            "; a replication connection through it fails ({})",
            chain(error)
        )),
        None => seen.push_str("; a replication connection gets through it"),
    }
    checks::PG_POOLER.found(*name, seen, way.direct(conninfo))
}

/// Limits of a session, in milliseconds; zero is off.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    wal_sender_timeout: u64,
    /// Name and value of what would end the session.
    timeouts: Vec<(String, u64)>,
}

async fn settings(connection: &mut Connection) -> Result<Settings, Error> {
    const SQL: &str = "select name, setting from pg_catalog.pg_settings where name in \
         ('wal_sender_timeout', 'statement_timeout', 'idle_session_timeout', \
         'transaction_timeout') \
         order by name";
    let rows = connection.query(SQL).await?;
    let mut settings = Settings::default();
    for row in &rows {
        let (Some(name), Some(value)) = (row.get(0), row.get(1)) else {
            continue;
        };
        let value = value.parse().unwrap_or(0);
        if name == "wal_sender_timeout" {
            settings.wal_sender_timeout = value;
        } else if value > 0 {
            settings.timeouts.push((name.to_owned(), value));
        }
    }
    Ok(settings)
}

impl Settings {
    fn problems(&self, role: &str) -> Vec<Finding> {
        let quoted = quote_identifier(role);
        let mut found = Vec::new();
        if self.wal_sender_timeout == 0 {
            let seen = "wal_sender_timeout is 0 in the relay's session, although it asks for 15 s: \
                        the slot of a relay that vanished stays taken";
            let fix = format!("alter role {quoted} set wal_sender_timeout = '15s';");
            found.push(checks::PG_SENDER_TIMEOUT.found("wal_sender_timeout", seen, fix));
        }
        for (name, value) in &self.timeouts {
            let seen = format!("{name} is {value} ms in the relay's session: the server ends it");
            let fix = format!("alter role {quoted} set {name} = 0;");
            found.push(checks::PG_TIMEOUT.found(name, seen, fix));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_end_a_stream_are_told_with_their_values() {
        let fine = Settings {
            wal_sender_timeout: 15_000,
            timeouts: Vec::new(),
        };
        assert_eq!(fine.problems("r"), []);
        let bad = Settings {
            wal_sender_timeout: 0,
            timeouts: vec![("transaction_timeout".to_owned(), 30_000)],
        };
        let found = bad.problems("r");
        let codes: Vec<_> = found.iter().filter_map(|found| found.code).collect();
        assert_eq!(codes, ["WP-PG-SENDER-TIMEOUT", "WP-PG-TIMEOUT"]);
        assert!(found[1].seen.contains("transaction_timeout is 30000 ms"));
        assert_eq!(
            found[1].fix.as_deref(),
            Some("alter role \"r\" set transaction_timeout = 0;")
        );
    }
}
