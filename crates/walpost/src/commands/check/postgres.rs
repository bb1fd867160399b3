//! The look at Postgres: server, role, tables, publications, slot.

use walpost_core::TableName;
use walpost_core::class::Exit;
use walpost_core::start::{Refusal, ServerState, start_at};
use walpost_walsender::{ConnectOptions, Connection, Mode, quote_identifier};

use super::Look;
use crate::catalog::{self, Server, Slot, Table};
use crate::config::{Config, NeededColumn};
use crate::error::{chain, postgres_exit, postgres_fix};
use crate::finding::Finding;

/// Oldest and newest major version that walpost is tested with.
const MAJORS_TESTED: std::ops::RangeInclusive<u32> = 15..=18;

const INIT: &str = "walpost init --apply";

/// Looks at everything that can be seen.
pub(super) async fn look(config: &Config) -> Look {
    let mut look = Look::default();
    let options = ConnectOptions {
        mode: Mode::Sql,
        application_name: "walpost check".to_owned(),
        ..ConnectOptions::default()
    };
    let conninfo = &config.postgres.conninfo;
    let mut connection = match Connection::connect(conninfo, &options).await {
        Ok(connection) => connection,
        Err(error) => return not_connected(config, &error),
    };
    if let Err(error) = look_inside(&mut look, &mut connection, config).await {
        let fix = postgres_fix(&error, conninfo).unwrap_or_else(|| "try again".to_owned());
        let finding = Finding::error("WP-PG-QUERY", chain(&error), fix);
        return look.blind(postgres_exit(&error), finding);
    }
    connection.close().await;
    look
}

fn not_connected(config: &Config, error: &walpost_walsender::Error) -> Look {
    let conninfo = &config.postgres.conninfo;
    let exit = postgres_exit(error);
    let code = match (error.sqlstate(), exit) {
        (Some("3D000"), _) => "WP-PG-DATABASE",
        (_, Exit::Permission) => "WP-PG-CREDENTIALS",
        _ => "WP-PG-UNREACHABLE",
    };
    let fix = postgres_fix(error, conninfo).unwrap_or_else(|| "check postgres.url".to_owned());
    let finding = Finding::error(code, chain(error), fix);
    // Where the server was reached, and said what is wrong, it was not blind.
    let blind = match exit {
        Exit::Configuration => None,
        Exit::Permission => Some(Exit::Permission),
        Exit::Undeliverable | Exit::Unavailable | Exit::Internal | Exit::Gap => {
            Some(Exit::Unavailable)
        }
    };
    Look {
        findings: vec![finding],
        blind,
    }
}

async fn look_inside(
    look: &mut Look,
    connection: &mut Connection,
    config: &Config,
) -> Result<(), walpost_walsender::Error> {
    connection.query("set search_path = pg_catalog").await?;
    let server = catalog::server(connection).await?;
    look_at_server(look, &server, config);
    let needed = config.needed_columns();
    for name in config.mapping.tables() {
        let table = catalog::table(connection, name).await?;
        look_at_table(look, name, table.as_ref(), &needed);
    }
    look_at_publications(look, connection, config, &needed).await?;
    let slot = catalog::slot(connection, &config.postgres.slot).await?;
    if look_at_slot(look, &server, slot.as_ref(), config) {
        look_at_ages(look, connection, config).await?;
    }
    Ok(())
}

fn look_at_server(look: &mut Look, server: &Server, config: &Config) {
    let Server {
        version,
        database,
        role,
        ..
    } = server;
    let place = &config.postgres.conninfo;
    look.push(Finding::ok(format!(
        "PostgreSQL {version}, database '{database}', as '{role}' ({place})"
    )));
    let major = server.version_number / 10_000;
    if !MAJORS_TESTED.contains(&major) {
        let (oldest, newest) = (MAJORS_TESTED.start(), MAJORS_TESTED.end());
        let seen = format!("walpost is not tested with PostgreSQL {major}");
        let fix = format!("use a version from {oldest} to {newest}, or try it out first");
        look.push(Finding::warning("WP-PG-VERSION", seen, fix));
    }
    if server.is_standby {
        let fix = "connect to the primary";
        look.push(Finding::error(
            "WP-PG-STANDBY",
            "the server is a standby",
            fix,
        ));
    }
    if server.wal_level == "logical" {
        look.push(Finding::ok("wal_level is logical"));
    } else {
        let seen = format!("wal_level is '{}'", server.wal_level);
        let fix = "alter system set wal_level = 'logical'; then restart the server (a managed one \
                   has a setting for it)";
        look.push(Finding::error("WP-PG-WAL-LEVEL", seen, fix));
    }
    if server.can_replicate {
        look.push(Finding::ok(format!(
            "the role '{role}' may use replication slots"
        )));
    } else {
        let seen = format!("the role '{role}' has not got REPLICATION");
        let fix = format!("alter role {} replication;", quote_identifier(role));
        look.push(Finding::error("WP-PG-REPLICATION", seen, fix));
    }
}

fn look_at_table(
    look: &mut Look,
    name: &TableName,
    table: Option<&Table>,
    needed: &[NeededColumn],
) {
    let Some(table) = table else {
        return look.push(catalog::table_missing(name));
    };
    let mut problems = table.problems(name, needed);
    if problems.is_empty() {
        let columns: Vec<_> = needed.iter().map(|needed| needed.column.as_str()).collect();
        problems.push(Finding::ok(format!(
            "the table {name} has {}",
            columns.join(", ")
        )));
    }
    problems.into_iter().for_each(|problem| look.push(problem));
}

async fn look_at_publications(
    look: &mut Look,
    connection: &mut Connection,
    config: &Config,
    needed: &[NeededColumn],
) -> Result<(), walpost_walsender::Error> {
    let (postgres, tables) = (&config.postgres, config.mapping.tables());
    let name = &postgres.publication;
    match catalog::publication(connection, name).await? {
        None => {
            let seen = format!("the publication '{name}' does not exist");
            look.push(Finding::error("WP-PUB-MISSING", seen, INIT));
            return Ok(());
        }
        Some(publication) => {
            let problems = publication.problems(tables, needed);
            if problems.is_empty() {
                look.push(Finding::ok(format!(
                    "the publication '{name}' carries the outbox"
                )));
            }
            problems.into_iter().for_each(|problem| look.push(problem));
        }
    }
    look_at_spare(look, connection, config, needed).await
}

async fn look_at_spare(
    look: &mut Look,
    connection: &mut Connection,
    config: &Config,
    needed: &[NeededColumn],
) -> Result<(), walpost_walsender::Error> {
    let spare = config.postgres.spare_publication();
    let (seen, fix) = match catalog::publication(connection, &spare).await? {
        None => (
            format!("the spare publication '{spare}' does not exist"),
            INIT.to_owned(),
        ),
        Some(found) if !found.problems(config.mapping.tables(), needed).is_empty() => (
            format!("the spare publication '{spare}' does not carry just the outbox"),
            format!("drop publication {}; then {INIT}", quote_identifier(&spare)),
        ),
        Some(_) => return Ok(()),
    };
    let seen = format!("{seen}: nothing can take the first one's place if that is dropped");
    look.push(Finding::warning("WP-PUB-SPARE", seen, fix));
    Ok(())
}

/// Whether the slot can be streamed from.
fn look_at_slot(look: &mut Look, server: &Server, slot: Option<&Slot>, config: &Config) -> bool {
    let name = &config.postgres.slot;
    let state = ServerState {
        database: server.database.clone(),
        // Told already, and not the slot's.
        wal_level: "logical".to_owned(),
        flush_lsn: server
            .flush_lsn
            .unwrap_or(walpost_pgoutput::Lsn::new(u64::MAX)),
    };
    let row = slot.map(|slot| &slot.row);
    let confirmed = match start_at(row, &state) {
        Ok(confirmed) => confirmed,
        Err(refusal) => {
            let (code, fix) = slot_problem(&refusal);
            look.push(Finding::error(
                code,
                format!("slot '{name}': {refusal}"),
                fix,
            ));
            return false;
        }
    };
    if row.and_then(|row| row.wal_status.as_deref()) == Some("unreserved") {
        let seen = format!("the server will remove WAL that the slot '{name}' still needs");
        let fix = "start the relay at once, or raise max_slot_wal_keep_size";
        look.push(Finding::error("WP-SLOT-UNRESERVED", seen, fix));
    }
    let mut seen = format!("the slot '{name}' is confirmed up to {confirmed}");
    if let Some(Slot { row, active_name }) = slot
        && let Some(pid) = row.active_pid
    {
        let by = active_name.as_deref().unwrap_or("somebody");
        seen.push_str(&format!(", in use by '{by}' (server process {pid})"));
    }
    look.push(Finding::ok(seen));
    true
}

fn slot_problem(refusal: &Refusal) -> (&'static str, &'static str) {
    const NEW: &str = "find out what is missing in Kafka, then drop the slot and make a new one";
    const OTHER: &str = "name another one in postgres.slot, then walpost init --apply";
    match refusal {
        // It is not the slot's, and told of the server.
        Refusal::WalLevel(_) => ("WP-PG-WAL-LEVEL", "alter system set wal_level = 'logical';"),
        Refusal::SlotMissing => ("WP-SLOT-MISSING", INIT),
        Refusal::Plugin(_) => ("WP-SLOT-PLUGIN", OTHER),
        Refusal::Database(_) => ("WP-SLOT-DATABASE", OTHER),
        Refusal::TwoPhase => ("WP-SLOT-TWO-PHASE", OTHER),
        Refusal::WalLost => ("WP-SLOT-LOST", NEW),
        Refusal::Ahead { .. } => ("WP-SLOT-AHEAD", NEW),
    }
}

async fn look_at_ages(
    look: &mut Look,
    connection: &mut Connection,
    config: &Config,
) -> Result<(), walpost_walsender::Error> {
    let (publication, slot) = (&config.postgres.publication, &config.postgres.slot);
    if catalog::is_publication_younger(connection, publication, slot).await? {
        let seen = format!(
            "the publication '{publication}' was made or altered after the slot '{slot}' was, and \
             the slot has not passed that yet: what was committed before is not in the stream"
        );
        let fix = "if the slot is new, drop it and run 'walpost init --apply' again; otherwise \
                   compare the outbox table with Kafka";
        look.push(Finding::warning("WP-PUB-YOUNGER", seen, fix));
    }
    Ok(())
}
