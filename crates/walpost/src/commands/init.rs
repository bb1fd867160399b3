//! `walpost init`: the table, the publications and the slot, as SQL to read or step by step.
//!
//! The order matters. A publication that is younger than the slot does not exist in the WAL before
//! it, and what was committed there is never decoded. The slot comes last, in a transaction of its
//! own: Postgres makes none in a transaction that has written.
//!
//! What is there is never altered: differences are reported as findings, and one that is an error
//! ends the command before the slot. The owner of the tables may be another role (`--admin-url`);
//! the slot is always made as the relay's own, which shows at once that this role may use it.

mod print;
mod slot;
mod steps;

use std::process::ExitCode;

use secrecy::ExposeSecret;
use serde::Serialize;
use walpost_core::class::Exit;
use walpost_pgoutput::Lsn;
use walpost_walsender::{ConnectOptions, Connection, Conninfo, Mode};

pub(super) use self::print::print;
use crate::catalog::{self, Provider, Server};
use crate::checks;
use crate::cli::InitArgs;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Status;
use crate::finding::{Finding, Severity, one_line};
use crate::output::{self, Failure, Output, Paint};

/// `insufficient_privilege`
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Does it, and says for each step what it did or found.
pub(super) fn apply(config: &Config, args: &InitArgs, output: Output) -> Result<ExitCode, Error> {
    super::block_on(async {
        let mut progress = Progress {
            output,
            steps: Vec::new(),
            findings: Vec::new(),
        };
        let done = Init::connect(config, args)
            .await?
            .run(&mut progress)
            .await?;
        progress.end(done)
    })?
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    All,
    /// What is there does not fit: the slot was not touched.
    Refused,
    /// By a signal, while the slot waited.
    Interrupted,
}

/// What was done so far.
struct Progress {
    output: Output,
    steps: Vec<Step>,
    findings: Vec<Finding>,
}

/// One thing that was made, or was there.
#[derive(Serialize)]
struct Step {
    /// `created` or `exists`.
    done: &'static str,
    what: &'static str,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

#[derive(Serialize)]
struct Report<'a> {
    steps: &'a [Step],
    findings: &'a [Finding],
}

impl Progress {
    fn step(
        &mut self,
        done: &'static str,
        what: &'static str,
        name: &str,
        detail: String,
    ) -> Result<(), Error> {
        let name = one_line(name);
        let line = format!("{done:8} {what} {name}{detail}\n");
        self.steps.push(Step {
            done,
            what,
            name,
            detail: detail.trim_start_matches(", ").to_owned(),
        });
        if self.output.json {
            return Ok(());
        }
        output::print(&line)
    }

    fn found(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    fn has_errors(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }

    /// Something to know while it waits.
    fn say(&self, text: &str) -> Result<(), Error> {
        if self.output.json {
            crate::telemetry::print(text);
            return Ok(());
        }
        output::print(&format!("{text}\n"))
    }

    fn end(self, done: Done) -> Result<ExitCode, Error> {
        let report = Report {
            steps: &self.steps,
            findings: &self.findings,
        };
        let (code, message, hint) = match done {
            Done::All => ("", "", ""),
            Done::Refused => (
                Status::Failed(Exit::Configuration).word(),
                "what is there is not altered, and the slot was not touched",
                "run the fixes, then 'walpost init --apply' again",
            ),
            Done::Interrupted => (
                Status::Interrupted.word(),
                "interrupted: no slot was made; what is listed above stays, and nothing is kept \
                 for it",
                "run 'walpost init --apply' again",
            ),
        };
        let failure = (done != Done::All).then_some(Failure {
            code,
            message,
            hint: Some(hint),
        });
        self.output.report(&report, failure, |paint| {
            ending(&self.findings, done, paint)
        })?;
        if !self.output.json && done != Done::All {
            crate::telemetry::print(&format!("error: {message}\nfix: {hint}"));
        }
        Ok(match done {
            Done::All => ExitCode::SUCCESS,
            Done::Refused => ExitCode::from(Exit::Configuration.code()),
            Done::Interrupted => Status::Interrupted.into(),
        })
    }
}

fn ending(findings: &[Finding], done: Done, paint: Paint) -> String {
    let mut text = String::new();
    if !findings.is_empty() {
        text.push('\n');
    }
    for finding in findings.iter().filter(|f| f.severity != Severity::Ok) {
        text.push_str(&output::finding(finding, paint));
    }
    if done == Done::All {
        text.push_str("\n'walpost check' looks at everything, 'walpost run' starts to stream.\n");
    }
    text
}

/// Connections, and what was asked on them.
struct Init<'a> {
    config: &'a Config,
    failover: bool,
    accept_gap: Option<Lsn>,
    relay: Connection,
    relay_pid: i32,
    /// Another role's, and who it is.
    admin: Option<(Connection, Conninfo)>,
    server: Server,
    provider: Provider,
}

impl<'a> Init<'a> {
    /// Connects, and refuses what can't work before anything is made.
    async fn connect(config: &'a Config, args: &InitArgs) -> Result<Self, Error> {
        let conninfo = &config.postgres.conninfo;
        let mut relay = connect(&crate::connect::conninfo(&config.postgres).await?).await?;
        let failed = |error: walpost_walsender::Error| Error::postgres(&error, conninfo);
        let way = catalog::way(&mut relay).await.map_err(failed)?;
        if let Some(pooler) = way.pooler(conninfo) {
            let message = format!("{conninfo} is {}: {}", pooler.name, pooler.sign);
            let fix = way.direct(conninfo);
            return Err(refused(checks::PG_POOLER.found(pooler.name, message, fix)));
        }
        let server = catalog::server(&mut relay).await.map_err(failed)?;
        let provider = catalog::provider(&mut relay).await.map_err(failed)?;
        refuse_server(&server, provider, args.failover)?;
        refuse_role(config, &server, provider).await?;
        let admin = match &args.admin_url {
            Some(url) => Some(connect_admin(url.expose_secret(), &mut relay, conninfo).await?),
            None => None,
        };
        Ok(Self {
            config,
            failover: args.failover,
            accept_gap: args.accept_gap,
            relay,
            relay_pid: way.real_pid,
            admin,
            server,
            provider,
        })
    }

    async fn run(mut self, progress: &mut Progress) -> Result<Done, Error> {
        self.refuse_slot().await?;
        self.make_tables(progress).await?;
        self.make_publications(progress).await?;
        if progress.has_errors() {
            return Ok(Done::Refused);
        }
        self.make_checkpoint(progress).await?;
        let done = self.make_slot(progress).await?;
        self.relay.close().await;
        if let Some((admin, _)) = self.admin {
            admin.close().await;
        }
        Ok(done)
    }

    /// Who makes tables and publications.
    fn maker(&mut self) -> (&mut Connection, &Conninfo) {
        match &mut self.admin {
            Some((connection, conninfo)) => (connection, conninfo),
            None => (&mut self.relay, &self.config.postgres.conninfo),
        }
    }
}

async fn connect(conninfo: &Conninfo) -> Result<Connection, Error> {
    let options = ConnectOptions {
        mode: Mode::Sql,
        application_name: "walpost init".to_owned(),
        ..ConnectOptions::default()
    };
    let connected = Connection::connect(conninfo, &options).await;
    connected.map_err(|error| {
        let pooler = error
            .server()
            .and_then(|server| catalog::Pooler::of_refusal(server, conninfo));
        match pooler {
            Some(pooler) => refused(pooler.problem(conninfo)),
            None => Error::postgres(&error, conninfo),
        }
    })
}

/// The other role has to look at the same database.
async fn connect_admin(
    url: &str,
    relay: &mut Connection,
    relay_conninfo: &Conninfo,
) -> Result<(Connection, Conninfo), Error> {
    const WHERE: &str = "select (select system_identifier from pg_control_system()), \
                         current_database()";
    let env = |name: &str| std::env::var(name).ok();
    let conninfo = Conninfo::parse(url, &env).map_err(|error| {
        Error::new(Exit::Configuration, format!("--admin-url: {error}"))
            .with_fix("--admin-url postgresql://OWNER@HOST/DATABASE")
    })?;
    let mut admin = connect(&conninfo).await.map_err(Error::at_admin_url)?;
    let mut places = Vec::new();
    for (connection, conninfo) in [(&mut admin, &conninfo), (relay, relay_conninfo)] {
        let rows = connection.query(WHERE).await;
        let rows = rows.map_err(|error| Error::postgres(&error, conninfo))?;
        let text = |index: usize| rows.first().and_then(|row| row.get(index));
        places.push((text(0).map(str::to_owned), text(1).map(str::to_owned)));
    }
    if places[0] != places[1] {
        let name = |place: &(_, Option<String>)| place.1.clone().unwrap_or_default();
        let message = format!(
            "--admin-url leads to the database '{}', postgres.url to '{}' of {} server",
            name(&places[0]),
            name(&places[1]),
            if places[0].0 == places[1].0 {
                "the same"
            } else {
                "another"
            }
        );
        let fix = "name the same server and database in both";
        return Err(Error::new(Exit::Configuration, message).with_fix(fix));
    }
    Ok((admin, conninfo))
}

fn refuse_server(server: &Server, provider: Provider, failover: bool) -> Result<(), Error> {
    if server.is_standby {
        let fix = "connect to the primary";
        let seen = "the server is a standby; nothing was changed";
        return Err(refused(checks::PG_STANDBY.found(
            &server.database,
            seen,
            fix,
        )));
    }
    if server.wal_level != "logical" {
        let level = &server.wal_level;
        let seen = format!("the server's wal_level is '{level}'; nothing was changed");
        let fix = provider.wal_level_fix();
        return Err(refused(checks::PG_WAL_LEVEL.found("wal_level", seen, fix)));
    }
    if failover && server.major() < 17 {
        let message = format!(
            "--failover needs PostgreSQL 17, and this is {}; nothing was changed",
            server.version
        );
        let fix = "leave --failover out; before 17, Patroni's permanent slots or pg_failover_slots \
                   keep a slot over a failover";
        return Err(Error::new(Exit::Configuration, message).with_fix(fix));
    }
    Ok(())
}

/// The relay's role has to be able to stream. Only a replication connection shows it: managed
/// servers give the right in their own ways.
async fn refuse_role(config: &Config, server: &Server, provider: Provider) -> Result<(), Error> {
    let options = ConnectOptions {
        application_name: "walpost init".to_owned(),
        ..ConnectOptions::default()
    };
    let conninfo = &crate::connect::conninfo(&config.postgres).await?;
    match Connection::connect(conninfo, &options).await {
        Ok(connection) => {
            connection.close().await;
            Ok(())
        }
        Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => {
            let role = &server.role;
            let seen = format!("the role '{role}' has not got REPLICATION; nothing was changed");
            let finding = checks::PG_REPLICATION.found(role, seen, provider.replication_fix(role));
            Err(Error::new(Exit::Permission, finding.line())
                .with_fix(finding.fix.unwrap_or_default()))
        }
        Err(error) => Err(Error::postgres(&error, conninfo)),
    }
}

fn refused(finding: Finding) -> Error {
    let error = Error::new(Exit::Configuration, finding.line());
    match finding.fix {
        Some(fix) => error.with_fix(fix),
        None => error,
    }
}
