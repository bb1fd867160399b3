//! `walpost skip`: lets one event pass that can't be delivered.
//!
//! The event is named by place and id, so that a row that was typed wrongly lets nothing pass. It
//! is a row in a table, and stays there: who let what pass, and why, is known afterwards.

use std::process::ExitCode;

use serde::Serialize;
use walpost_core::class::Exit;
use walpost_core::{Position, TableName};
use walpost_pgoutput::Lsn;
use walpost_walsender::{ConnectOptions, Connection, Mode, quote_identifier};

use crate::catalog;
use crate::checkpoint;
use crate::cli::SkipArgs;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Status;
use crate::finding::one_line;
use crate::output::Output;
use crate::skip::{self, Recorded, Skip};
use crate::sql::qualified;

const INSUFFICIENT_PRIVILEGE: &str = "42501";

#[derive(Serialize)]
struct Report<'a> {
    skips: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    position: String,
    id: &'a str,
    reason: &'a str,
    by: &'a str,
    at: &'a str,
}

impl<'a> From<&'a Recorded> for Line<'a> {
    fn from(recorded: &'a Recorded) -> Self {
        Self {
            position: recorded.skip.position.to_string(),
            id: &recorded.skip.id,
            reason: &recorded.reason,
            by: &recorded.by,
            at: &recorded.at,
        }
    }
}

/// Records an event, or shows what is recorded.
pub(super) fn skip(config: &Config, args: &SkipArgs, output: Output) -> Result<ExitCode, Error> {
    let Some(checkpoint) = &config.postgres.checkpoint else {
        let message = "postgres.checkpoint is none: there is no table to record it in";
        let fix = "start the relay once with walpost run --skip-id ID";
        return Err(Error::new(Exit::Configuration, message).with_fix(fix));
    };
    let table = checkpoint.skip_table();
    super::block_on(async {
        let mut connection = connect(config).await?;
        let recorded = match (&args.position, &args.id, &args.reason) {
            (Some(position), Some(id), Some(reason)) => {
                let skip = Skip {
                    position: *position,
                    id: id.clone(),
                };
                let by = args.by.clone().unwrap_or_else(somebody);
                record(&mut connection, config, &table, &skip, (reason, &by)).await?
            }
            _ => {
                let read = skip::read(&mut connection, &table, slot(config), Lsn::ZERO).await;
                read.map_err(|error| failed("read", config, &table, &error))?
            }
        };
        connection.close().await;
        let report = Report {
            skips: recorded.iter().map(Line::from).collect(),
        };
        output.report(&report, None, |_| text(args, &recorded))?;
        Ok(ExitCode::SUCCESS)
    })?
}

fn text(args: &SkipArgs, recorded: &[Recorded]) -> String {
    if args.list {
        if recorded.is_empty() {
            return "no event was let pass\n".to_owned();
        }
        return recorded.iter().map(line).collect();
    }
    let lines: String = recorded.iter().map(line).collect();
    format!(
        "{lines}\na relay that holds there passes over it within seconds; one that has stopped \
         does \
         when it is started again\n"
    )
}

fn line(recorded: &Recorded) -> String {
    let Recorded {
        skip,
        reason,
        by,
        at,
    } = recorded;
    let (id, reason) = (one_line(&skip.id), one_line(reason));
    format!("{} {id}: {reason} ({by}, {at})\n", skip.position)
}

fn slot(config: &Config) -> &str {
    &config.postgres.slot
}

async fn record(
    connection: &mut Connection,
    config: &Config,
    table: &TableName,
    skip: &Skip,
    why: (&str, &str),
) -> Result<Vec<Recorded>, Error> {
    refuse_delivered(connection, config, skip.position).await?;
    let slot = slot(config);
    let recorded = skip::record(connection, table, slot, skip, why).await;
    recorded.map_err(|error| failed("write to", config, table, &error))?;
    let read = skip::read(connection, table, slot, skip.position.commit_lsn).await;
    let mut recorded = read.map_err(|error| failed("read", config, table, &error))?;
    recorded.retain(|recorded| recorded.skip == *skip);
    Ok(recorded)
}

/// Who types this, as far as the machine knows.
fn somebody() -> String {
    let known = ["SUDO_USER", "USER", "LOGNAME"].map(std::env::var);
    let mut known = known.into_iter().flatten();
    let named = known.find(|name| !name.is_empty());
    named.unwrap_or_else(|| "somebody".to_owned())
}

/// What is confirmed is not in the way of anything.
async fn refuse_delivered(
    connection: &mut Connection,
    config: &Config,
    position: Position,
) -> Result<(), Error> {
    let postgres = &config.postgres;
    let failed = |error| Error::postgres(&error, &postgres.conninfo);
    let found = catalog::slot(connection, &postgres.slot).await;
    let slot = found.map_err(failed)?;
    let mut confirmed = slot.and_then(|slot| slot.row.confirmed_flush_lsn);
    if let Some(checkpoint) = &postgres.checkpoint
        && let Ok(row) = checkpoint::read(connection, &checkpoint.table, &postgres.slot).await
    {
        confirmed = confirmed.max(row.map(|row| row.lsn));
    }
    let Some(confirmed) = confirmed.filter(|confirmed| position.commit_lsn < *confirmed) else {
        return Ok(());
    };
    let message = format!(
        "what stands at {position} is delivered and confirmed (up to {confirmed}): there is \
         nothing \
         to pass over"
    );
    let fix = "take position and id from the relay's log";
    Err(Error::new(Status::Usage, message).with_fix(fix))
}

async fn connect(config: &Config) -> Result<Connection, Error> {
    let options = ConnectOptions {
        mode: Mode::Sql,
        application_name: "walpost skip".to_owned(),
        ..ConnectOptions::default()
    };
    let conninfo = crate::connect::conninfo(&config.postgres).await?;
    let connected = Connection::connect(&conninfo, &options).await;
    connected.map_err(|error| Error::postgres(&error, &conninfo))
}

/// What went wrong with the table: "read", or "write to".
fn failed(
    what: &str,
    config: &Config,
    table: &TableName,
    error: &walpost_walsender::Error,
) -> Error {
    let conninfo = &config.postgres.conninfo;
    let failed = Error::statement(&format!("{what} {table}"), error, conninfo);
    match error.sqlstate() {
        Some(INSUFFICIENT_PRIVILEGE) => failed.with_fix(format!(
            "grant select, insert on {} to {}",
            qualified(table),
            quote_identifier(&conninfo.user)
        )),
        _ if skip::is_missing(error) => failed.with_fix("walpost init --apply"),
        _ => failed,
    }
}
