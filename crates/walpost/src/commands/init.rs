//! `walpost init`: the table, the publications and the slot, as SQL to read or step by step.
//!
//! The order matters. A publication that is younger than the slot does not exist in the WAL before
//! it, and what was committed there is never decoded. The slot comes last, in a transaction of its
//! own: Postgres makes none in a transaction that has written.

use std::time::Duration;

use walpost_core::class::Exit;
use walpost_core::start::{ServerState, start_at};
use walpost_pgoutput::Lsn;
use walpost_walsender::{ConnectOptions, Connection, Mode};

use crate::catalog;
use crate::config::Config;
use crate::error::Error;
use crate::finding::Finding;
use crate::{output, sql};

/// How long the slot may wait for transactions that are open.
const SLOT_DEADLINE: Duration = Duration::from_secs(30);

/// After this time it is said what the slot waits for.
const SLOT_PATIENCE: Duration = Duration::from_secs(2);

/// Where the slot was there before the publication, or before a table was in it.
const YOUNGER: &str = "the slot was there before the publication was what it is now: what was \
                       committed in between is not in its stream. If nothing was, drop the slot \
                       and run this again";

/// `query_canceled`: what `statement_timeout` does.
const QUERY_CANCELED: &str = "57014";

const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Prints what `apply` would do, for psql.
pub(super) fn print(config: &Config) {
    let (postgres, tables) = (&config.postgres, config.mapping.tables());
    let spare = postgres.spare_publication();
    let mut text = format!(
        "-- Sets walpost up in the database '{}'. It can be run again: what is there stays.\n\
         -- psql -v ON_ERROR_STOP=1 -f FILE, and not in one transaction (--single-transaction).\n\
         -- The server needs wal_level = logical.\n",
        one_line(&postgres.conninfo.database)
    );
    for table in tables {
        step(
            &mut text,
            &sql::outbox(table, config.mapping_spec.layout, &config.mapping),
        );
    }
    step(&mut text, &sql::publication(&postgres.publication, tables));
    text.push_str(
        "\n-- The spare: it can take the first one's place if that is dropped by mistake.\n",
    );
    text.push_str(&without_comments(&sql::publication(&spare, tables)));
    step(&mut text, &sql::slot(&postgres.slot));
    output::print(&text);
}

/// Does it, and says for each step what it did or found.
pub(super) async fn apply(config: &Config) -> Result<(), Error> {
    let conninfo = &config.postgres.conninfo;
    let mut connection = connect(config).await?;
    let server = catalog::server(&mut connection)
        .await
        .map_err(|error| Error::postgres(&error, conninfo))?;
    refuse_server(&server)?;
    make_tables(&mut connection, config).await?;
    make_publications(&mut connection, config).await?;
    make_slot(&mut connection, config, &server).await?;
    connection.close().await;
    output::print("\n'walpost check' looks at everything, 'walpost run' starts to stream.\n");
    Ok(())
}

async fn connect(config: &Config) -> Result<Connection, Error> {
    let conninfo = &config.postgres.conninfo;
    let options = ConnectOptions {
        mode: Mode::Sql,
        application_name: "walpost init".to_owned(),
        ..ConnectOptions::default()
    };
    let connected = Connection::connect(conninfo, &options).await;
    let mut connection = connected.map_err(|error| Error::postgres(&error, conninfo))?;
    // An application's schema must not stand in for the catalogue.
    run(
        &mut connection,
        config,
        "set the search path",
        "set search_path = pg_catalog",
        "",
    )
    .await?;
    Ok(connection)
}

/// Runs a statement. `right` says what to do where the role may not.
async fn run(
    connection: &mut Connection,
    config: &Config,
    action: &str,
    statement: &str,
    right: &str,
) -> Result<(), Error> {
    let Err(error) = connection.query(statement).await else {
        return Ok(());
    };
    let failed = Error::statement(action, &error, &config.postgres.conninfo);
    Err(match error.sqlstate() {
        Some(INSUFFICIENT_PRIVILEGE) if !right.is_empty() => failed.with_fix(right),
        _ => failed,
    })
}

fn refuse_server(server: &catalog::Server) -> Result<(), Error> {
    if server.wal_level != "logical" {
        let message = format!("the server's wal_level is '{}'", server.wal_level);
        let fix = "alter system set wal_level = 'logical'; then restart the server (a managed one \
                   has a setting for it). Nothing was changed";
        return Err(Error::new(Exit::Configuration, message).with_fix(fix));
    }
    if server.is_standby {
        let fix = "connect to the primary. Nothing was changed";
        return Err(Error::new(Exit::Configuration, "the server is a standby").with_fix(fix));
    }
    Ok(())
}

async fn make_tables(connection: &mut Connection, config: &Config) -> Result<(), Error> {
    const RIGHT: &str = "run it as the role that owns the schema, or let this one: grant create on \
                         schema … to …";
    for table in config.mapping.tables() {
        let found = catalog::table(connection, table).await;
        let found = found.map_err(|error| Error::postgres(&error, &config.postgres.conninfo))?;
        if found.is_some() {
            say("exists", &format!("table {table}"));
            continue;
        }
        let make = sql::outbox(table, config.mapping_spec.layout, &config.mapping);
        run(
            connection,
            config,
            &format!("create the table {table}"),
            &make,
            RIGHT,
        )
        .await?;
        say("created", &format!("table {table}"));
    }
    Ok(())
}

async fn make_publications(connection: &mut Connection, config: &Config) -> Result<(), Error> {
    const RIGHT: &str =
        "run it as the role that owns the outbox tables, with CREATE on the database";
    let (postgres, tables) = (&config.postgres, config.mapping.tables());
    let mut problems = Vec::new();
    for name in [postgres.publication.clone(), postgres.spare_publication()] {
        let found = catalog::publication(connection, &name).await;
        let found = found.map_err(|error| Error::postgres(&error, &postgres.conninfo))?;
        if let Some(publication) = found {
            say("exists", &format!("publication {name}"));
            problems.extend(publication.problems(tables, &config.needed_columns()));
            continue;
        }
        let action = format!("create the publication '{name}'");
        run(
            connection,
            config,
            &action,
            &sql::publication(&name, tables),
            RIGHT,
        )
        .await?;
        say("created", &format!("publication {name}"));
    }
    refuse_publications(&problems)
}

/// A slot after a publication that is not right would be older than its repair.
fn refuse_publications(problems: &[Finding]) -> Result<(), Error> {
    for warning in problems.iter().filter(|problem| !problem.is_error()) {
        say("warning", &warning.seen);
        if let Some(fix) = &warning.fix {
            say("", &format!("fix: {fix}"));
        }
    }
    let errors: Vec<_> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    let lines = |line: fn(&Finding) -> Option<&str>| {
        errors
            .iter()
            .filter_map(|error| line(error))
            .collect::<Vec<_>>()
            .join("\n  ")
    };
    let message = format!(
        "what is there is not altered, and the slot was not touched:\n  {}",
        lines(|error| Some(&error.seen))
    );
    let fix = format!(
        "run this, then 'walpost init --apply' again:\n  {}",
        lines(|error| error.fix.as_deref())
    );
    Err(Error::new(Exit::Configuration, message).with_fix(fix))
}

async fn make_slot(
    connection: &mut Connection,
    config: &Config,
    server: &catalog::Server,
) -> Result<(), Error> {
    let postgres = &config.postgres;
    let failed = |error: walpost_walsender::Error| Error::postgres(&error, &postgres.conninfo);
    let slot = catalog::slot(connection, &postgres.slot)
        .await
        .map_err(failed)?;
    if let Some(slot) = slot {
        accept_slot(&slot, server, &postgres.slot)?;
        let publication = &postgres.publication;
        let younger =
            catalog::is_publication_younger(connection, publication, &postgres.slot).await;
        if younger.map_err(failed)? {
            say("warning", YOUNGER);
        }
        return Ok(());
    }
    create_slot(connection, config).await?;
    let made = catalog::slot(connection, &postgres.slot)
        .await
        .map_err(failed)?;
    let position = made.and_then(|slot| slot.row.confirmed_flush_lsn);
    let from = position
        .map(|lsn| format!(", from {lsn} on"))
        .unwrap_or_default();
    say("created", &format!("slot {}{from}", postgres.slot));
    Ok(())
}

/// A slot that is there has to be one that can be streamed from.
fn accept_slot(slot: &catalog::Slot, server: &catalog::Server, name: &str) -> Result<(), Error> {
    let state = ServerState {
        database: server.database.clone(),
        wal_level: server.wal_level.clone(),
        // Read before the slot was, which may have moved since.
        flush_lsn: Lsn::new(u64::MAX),
    };
    match start_at(Some(&slot.row), &state) {
        Ok(confirmed) => {
            say(
                "exists",
                &format!("slot {name}, confirmed up to {confirmed}"),
            );
            Ok(())
        }
        Err(refusal) => {
            let message = format!("the slot '{name}' is there, and not usable: {refusal}");
            Err(Error::new(refusal.exit(), message))
        }
    }
}

/// The server makes a slot when every transaction that was open at the beginning has ended.
async fn create_slot(connection: &mut Connection, config: &Config) -> Result<(), Error> {
    let postgres = &config.postgres;
    let timeout = format!("set statement_timeout = {}", SLOT_DEADLINE.as_millis());
    run(connection, config, "set a time limit", &timeout, "").await?;
    let make = sql::slot(&postgres.slot);
    let made = {
        let mut making = std::pin::pin!(connection.query(&make));
        tokio::select! {
            made = &mut making => made,
            () = tokio::time::sleep(SLOT_PATIENCE) => {
                let waits = match connect(config).await {
                    Ok(mut other) => blockers(&mut other).await,
                    Err(_) => Vec::new(),
                };
                say("waiting", &format!("the slot waits for open transactions{}", list(&waits)));
                making.await
            }
        }
    };
    let Err(error) = made else { return Ok(()) };
    if error.sqlstate() == Some(QUERY_CANCELED) {
        let waits = blockers(connection).await;
        let message = format!(
            "the slot could not be made within {} s: it waits for transactions that are open{}",
            SLOT_DEADLINE.as_secs(),
            list(&waits)
        );
        let fix = "end them (select pg_terminate_backend(PID); rollback prepared 'ID';), then run \
                   'walpost init --apply' again";
        return Err(Error::new(Exit::Unavailable, message).with_fix(fix));
    }
    let action = format!("create the slot '{}'", postgres.slot);
    let failed = Error::statement(&action, &error, &postgres.conninfo);
    Err(match error.sqlstate() {
        Some(INSUFFICIENT_PRIVILEGE) => failed.with_fix(format!(
            "alter role {} replication; (a managed server grants it its own way, as \
             grant rds_replication to …)",
            walpost_walsender::quote_identifier(&postgres.conninfo.user)
        )),
        _ => failed,
    })
}

/// Who holds up the slot, oldest first, as far as this role may see it.
async fn blockers(connection: &mut Connection) -> Vec<String> {
    const SQL: &str = "select text from (\
         select xact_start as since, format('process %s of %s in %s (%s), open for %s s', pid, \
             usename, datname, coalesce(nullif(application_name, ''), 'no application_name'), \
             extract(epoch from clock_timestamp() - xact_start)::int) as text \
         from pg_catalog.pg_stat_activity \
         where backend_xid is not null and pid <> pg_backend_pid() \
         union all \
         select prepared, format('prepared transaction %L of %s in %s, open for %s s', gid, owner, \
             database, extract(epoch from clock_timestamp() - prepared)::int) \
         from pg_catalog.pg_prepared_xacts) open order by since";
    let rows = connection.query(SQL).await.unwrap_or_default();
    rows.iter()
        .filter_map(|row| row.get(0))
        .map(one_line)
        .collect()
}

fn list(lines: &[String]) -> String {
    if lines.is_empty() {
        return " (none that this role may see: pg_stat_activity shows them)".to_owned();
    }
    let lines: Vec<_> = lines.iter().map(|line| format!("\n  {line}")).collect();
    format!(":{}", lines.concat())
}

fn say(what: &str, about: &str) {
    output::print(&format!(
        "{what:8} {}\n",
        about.replace('\n', "\n         ")
    ));
}

fn step(text: &mut String, sql: &str) {
    text.push('\n');
    text.push_str(sql);
}

fn without_comments(sql: &str) -> String {
    sql.split_inclusive('\n')
        .skip_while(|line| line.starts_with("--"))
        .collect()
}

/// Names and the server's texts can't break out of a comment or a line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_that_is_wrong_stops_before_the_slot() {
        let warning = Finding::warning("WP-PUB-MORE", "more", "set");
        assert!(refuse_publications(std::slice::from_ref(&warning)).is_ok());
        let error = Finding::error("WP-PUB-TABLE", "no table", "alter publication …;");
        let error = refuse_publications(&[warning, error]).unwrap_err();
        assert_eq!(error.exit(), Exit::Configuration);
        assert!(error.to_string().contains("no table"), "{error}");
        assert!(
            error
                .fix()
                .is_some_and(|fix| fix.contains("alter publication")),
            "{error:?}"
        );
    }

    #[test]
    fn only_the_leading_comment_is_left_out() {
        assert_eq!(
            without_comments("-- a\n-- b\nselect 1;\n-- c\n"),
            "select 1;\n-- c\n"
        );
    }
}
