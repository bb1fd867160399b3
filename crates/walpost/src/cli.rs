//! The command line.

mod help;
mod usage;

use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand};
use clap_complete::Shell;
use secrecy::{ExposeSecret, SecretString};
use tracing::level_filters::LevelFilter;
use walpost_core::Position;
use walpost_core::start::Accepted;
use walpost_pgoutput::Lsn;

use crate::commands::long_version;
use crate::config::Sources;
use crate::output::Output;
use crate::telemetry::{LogFormat, LogLevel};

/// Every committed row of a Postgres outbox table to Kafka, in order, at least once
///
/// walpost reads the table through a logical replication slot: no polling, no status column. An
/// LSN is confirmed to Postgres only after Kafka has acknowledged every event before it, so that
/// nothing that was committed is lost, and nothing that was rolled back is sent.
#[derive(Debug, Parser)]
#[command(name = "walpost", version, long_version = long_version())]
#[command(after_help = help::SHORT, after_long_help = help::long())]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration (flag > environment > file > default)")]
pub(crate) struct SettingsArgs {
    /// Configuration file, - for stdin [default: walpost.yaml, if it is there]
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Set one key, as postgres.slot=orders; can be repeated
    ///
    /// The environment does it too: WALPOST_POSTGRES__SLOT=orders.
    #[arg(long, value_name = "KEY=VALUE", global = true, value_parser = secret)]
    pub set: Vec<SecretString>,
}

impl SettingsArgs {
    /// Where the configuration comes from.
    pub(crate) fn sources(&self) -> Sources {
        let set = self.set.iter().map(|text| text.expose_secret().to_owned());
        Sources::new(self.config.clone(), set.collect())
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output (reports to stdout, log and errors to stderr)")]
pub(crate) struct LogArgs {
    /// Colours: auto, always or never
    ///
    /// auto: on a terminal, for stdout and stderr apart, unless NO_COLOR is set or TERM is dumb; or
    /// where CLICOLOR_FORCE is set.
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value = "auto",
        global = true
    )]
    #[arg(hide_possible_values = true)]
    pub color: ColorChoice,
    /// How the log's lines look: auto, pretty or json
    ///
    /// auto: pretty on a terminal, one JSON object a line otherwise.
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "auto",
        global = true
    )]
    #[arg(hide_possible_values = true)]
    pub log_format: LogFormat,
    /// off, error, warn, info, debug or trace [default: info for run, warn for demo, else error]
    ///
    /// By target too: info,walpost_kafka=debug.
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Stream until stopped
    ///
    /// Sends committed rows to Kafka until it is stopped. A server that is away is waited for, with
    /// pauses that grow to 30 s. An event that can't be delivered stops the line: it is named, what
    /// is before it is delivered, and the process exits with 65 (unless delivery.on_undeliverable
    /// says otherwise).
    #[command(after_long_help = help::RUN)]
    Run(RunArgs),
    /// Let one event pass that can't be delivered
    ///
    /// The relay names position and id of an event that it can't deliver. With this command it goes
    /// on behind it, as if it were delivered: no consumer ever gets it. That is recorded, with who
    /// did it and why.
    #[command(after_long_help = help::SKIP, arg_required_else_help = true)]
    Skip(SkipArgs),
    /// Print or apply the SQL for the table, the publications and the slot
    ///
    /// Prints SQL for psql, which changes nothing by itself. It can be run again: what is there
    /// stays as it is, and what is there and wrong is told.
    #[command(after_long_help = help::INIT)]
    Init(InitArgs),
    /// Look at the whole set-up without changing it, and tell every problem with its fix
    ///
    /// Looks at server, role, tables, publications, slot, Kafka and topics, all at once. Each
    /// problem has a code that stays the same in every version.
    #[command(after_long_help = help::CHECK)]
    Check(CheckArgs),
    /// Show it all at work on this machine: Postgres, Kafka, relay, writer and every record
    #[command(after_long_help = help::DEMO)]
    Demo(DemoArgs),
    /// Show the configuration
    #[command(after_long_help = help::CONFIG, arg_required_else_help = true)]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show the version, and what it was built with
    Version {
        #[command(flatten)]
        format: Format,
    },
    /// Print a script that completes commands and options in a shell
    #[command(after_long_help = help::COMPLETIONS, arg_required_else_help = true)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page of walpost or of one command
    #[command(after_long_help = help::MAN)]
    Man {
        /// The command, as: config print [default: walpost itself]
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
        /// Write every page into this directory instead
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Deliver what is committed now, and exit
    ///
    /// What run would wait for (a server that is away, a slot in use) ends it after 30 s without
    /// progress.
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub accept: AcceptArgs,
    /// Pass over the event of this id, where postgres.checkpoint is none; can be repeated
    ///
    /// With a checkpoint walpost skip does it, and it is recorded.
    #[arg(
        long,
        value_name = "ID",
        help_heading = "Going on after a refusal (each names what is accepted)"
    )]
    pub skip_id: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SkipArgs {
    /// Where it stands, as the relay's log has it: 00000000016B3748/0000000C
    #[arg(
        value_name = "POSITION",
        requires = "id",
        required_unless_present = "list"
    )]
    pub position: Option<Position>,
    /// Its id
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    pub id: Option<String>,
    /// Why it may be passed over
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    pub reason: Option<String>,
    /// Who lets it pass [default: the user of this shell]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Show what was let pass
    #[arg(long, conflicts_with_all = ["position", "id", "reason", "by"])]
    pub list: bool,
    #[command(flatten)]
    pub format: Format,
}

/// Each names exactly what is accepted, so that one that is left in a unit file accepts nothing
/// else.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Going on after a refusal (each names what is accepted)")]
pub(crate) struct AcceptArgs {
    /// Start from the slot's position although it is ahead of the checkpoint
    #[arg(long, value_name = "LSN")]
    pub accept_slot_position: Option<Lsn>,
    /// Start although the server is another one than before
    #[arg(long, value_name = "ID")]
    pub accept_system_identifier: Option<u64>,
    /// Go on in another Kafka cluster
    #[arg(long, value_name = "CLUSTER")]
    pub accept_kafka_cluster: Option<String>,
    /// Go on with other settings of table, topic, key or partition
    #[arg(long, value_name = "KEY,KEY", value_delimiter = ',')]
    pub accept_config_change: Vec<String>,
}

impl AcceptArgs {
    /// For the start gate.
    pub(crate) fn accepted(&self) -> Accepted {
        Accepted {
            slot_position: self.accept_slot_position,
            system_identifier: self.accept_system_identifier,
            kafka_cluster: self.accept_kafka_cluster.clone(),
            settings: self.accept_config_change.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Apply it, step by step, instead of printing it
    #[arg(long)]
    pub apply: bool,
    /// Make table and publications as this role: one that owns the outbox, where the relay's does
    /// not
    ///
    /// The slot is made as the relay's role, which shows that it may use it.
    #[arg(long, value_name = "URL", value_parser = secret, requires = "apply")]
    pub admin_url: Option<SecretString>,
    /// Make the slot one that survives a failover (PostgreSQL 17 and newer)
    #[arg(long)]
    pub failover: bool,
    /// Make a new slot although the one before is gone: its events were delivered up to LSN only
    #[arg(long, value_name = "LSN", requires = "apply")]
    pub accept_gap: Option<Lsn>,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// End with 1 on warnings too
    #[arg(long)]
    pub strict: bool,
    /// Tell what a code means instead, as WP-PUB-ROOT
    #[arg(long, value_name = "CODE")]
    pub explain: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Use this Kafka cluster, and its topic walpost-demo, instead of one inside the process
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// Use this Postgres, in a schema walpost_demo that is removed at the end, instead of a
    /// throwaway one
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub postgres: Option<SecretString>,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub events: Option<u64>,
    /// Events that are written each second, 0 to 1000
    #[arg(long, value_name = "RATE", default_value_t = 2.0, value_parser = rate)]
    pub rate: f64,
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(text.into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate| *rate == 0.0 || (0.01..=1_000.0).contains(rate));
    rate.ok_or_else(|| "expected a number from 0.01 to 1000, or 0 for none".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The resolved configuration, secrets masked
    Print {
        #[command(flatten)]
        format: Format,
        /// Say of each value where it comes from (on a terminal that is told anyway)
        #[arg(long)]
        origins: bool,
    },
    /// The JSON Schema of the configuration file, for editors
    Schema,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Format {
    /// One JSON object on stdout: {ok, command, result, error}
    #[arg(long)]
    pub json: bool,
}

impl Cli {
    /// How the command reports.
    pub(crate) fn output(&self) -> Output {
        let (command, json) = match &self.command {
            Command::Run(_) => ("run", false),
            Command::Skip(args) => ("skip", args.format.json),
            Command::Init(args) => ("init", args.format.json),
            Command::Check(args) => ("check", args.format.json),
            Command::Demo(_) => ("demo", false),
            Command::Config {
                command: ConfigCommand::Print { format, .. },
            } => ("config print", format.json),
            Command::Config {
                command: ConfigCommand::Schema,
            } => ("config schema", false),
            Command::Version { format } => ("version", format.json),
            Command::Completions { .. } => ("completions", false),
            Command::Man { .. } => ("man", false),
        };
        Output::new(command, json)
    }

    /// Whether the command's life is told by its log. What reports is not to be drowned by it.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self.command, Command::Run(_))
    }

    /// Which lines to log.
    pub(crate) fn log_level(&self) -> LogLevel {
        let default = match self.command {
            Command::Run(_) => LevelFilter::INFO,
            // What goes wrong is told; the rest is what the demo shows itself.
            Command::Demo(_) => LevelFilter::WARN,
            Command::Init(_)
            | Command::Check(_)
            | Command::Skip(_)
            | Command::Config { .. }
            | Command::Version { .. }
            | Command::Completions { .. }
            | Command::Man { .. } => LevelFilter::ERROR,
        };
        self.log.log_level.clone().unwrap_or_else(|| default.into())
    }
}

#[cfg(test)]
mod tests;
