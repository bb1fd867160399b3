//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use tracing::level_filters::LevelFilter;

use crate::output::Output;
use crate::telemetry::{LogFormat, LogLevel};

/// Exit code of a command line that can't be understood (sysexits' `EX_USAGE`).
const USAGE: u8 = 64;

const EXAMPLES: &str = "\
Examples:
  walpost init | psql shop            set the database up, by SQL that you have read
  walpost init --apply                the same, at once
  walpost check                       what is missing or wrong, each with its fix
  walpost run                         stream until stopped
  walpost demo                        all of it at work, on servers that are thrown away
  walpost config print --set postgres.slot=orders

Exit codes:
  0   done, or stopped in order          70  a bug that was detected
  1   a check found an error             77  credentials or a right refused
  64  usage                              78  configuration or set-up wrong
  65  an event can't be delivered        79  starting would lose or repeat events
  69  a server can't be reached";

const DEMO_NOTE: &str = "\
A demo reads a configuration file only where -c names it, and no WALPOST_ variables.\n\
Ctrl-C ends it. What it made is gone then, and after a SIGKILL too, except on a server of yours.";

/// Every committed row of a Postgres outbox table to Kafka, in order, at least once.
#[derive(Debug, Parser)]
#[command(name = "walpost", version, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(
    subcommand_required = true,
    disable_help_subcommand = true,
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
    /// Configuration file [default: walpost.yaml, if it is there]
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Sets one key, as postgres.slot=orders; can be repeated. The environment does it too:
    /// WALPOST_POSTGRES__SLOT=orders
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging (to stderr)")]
pub(crate) struct LogArgs {
    /// How lines look
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "auto",
        global = true
    )]
    #[arg(
        hide_possible_values = true,
        help = "auto (by terminal), pretty or json"
    )]
    pub log_format: LogFormat,
    /// off, error, warn, info, debug or trace; by target too: info,walpost_kafka=debug
    /// [default: info for run, warn for demo, error for reports]
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Stream until stopped
    Run {
        /// Deliver what is committed now, and exit
        #[arg(long)]
        once: bool,
    },
    /// Print or apply the SQL for the table, the publications and the slot
    Init(InitArgs),
    /// Look at the whole set-up without changing it, and tell every problem with its fix
    Check(CheckArgs),
    /// Show it all at work on this machine: Postgres, Kafka, the relay, a writer and every record
    #[command(after_help = DEMO_NOTE)]
    Demo(DemoArgs),
    /// Show the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show the version, and what it was built with
    Version {
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Apply it, step by step, instead of printing it
    #[arg(long)]
    pub apply: bool,
    /// Make table and publications as this role: one that owns the outbox, where the relay's does
    /// not. The slot is made as the relay's role
    #[arg(long, value_name = "URL", value_parser = secret, requires = "apply")]
    pub admin_url: Option<SecretString>,
    /// Make the slot one that survives a failover (PostgreSQL 17 and newer)
    #[arg(long)]
    pub failover: bool,
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
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Format {
    /// One JSON object on stdout: {ok, command, result, error}
    #[arg(long)]
    pub json: bool,
}

impl Cli {
    /// Reads the process's arguments. `Err` is how to end: help was asked for, or is needed.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            // Where help can't be printed, nothing else can.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
        })
    }

    /// How the command reports.
    pub(crate) fn output(&self) -> Output {
        let (command, json) = match &self.command {
            Command::Run { .. } => ("run", false),
            Command::Init(args) => ("init", args.format.json),
            Command::Check(args) => ("check", args.format.json),
            Command::Demo(_) => ("demo", false),
            Command::Config {
                command: ConfigCommand::Print { format },
            } => ("config print", format.json),
            Command::Version { format } => ("version", format.json),
        };
        Output { command, json }
    }

    /// Whether the command's life is told by its log. What reports is not to be drowned by it.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self.command, Command::Run { .. })
    }

    /// Which lines to log.
    pub(crate) fn log_level(&self) -> LogLevel {
        let default = match self.command {
            Command::Run { .. } => LevelFilter::INFO,
            // What goes wrong is told; the rest is what the demo shows itself.
            Command::Demo(_) => LevelFilter::WARN,
            Command::Init(_)
            | Command::Check(_)
            | Command::Config { .. }
            | Command::Version { .. } => LevelFilter::ERROR,
        };
        self.log.log_level.clone().unwrap_or_else(|| default.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_demos_rate_is_a_number_that_makes_sense() {
        for text in ["0", "0.5", "2", "1000"] {
            assert!(rate(text).is_ok(), "{text}");
        }
        for text in ["-1", "0.001", "1001", "NaN", "inf", "fast", ""] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_url_of_a_demos_postgres_is_not_shown() {
        let args = [
            "walpost",
            "demo",
            "--postgres",
            "postgresql://u:hunter2@h/d",
        ];
        let cli = Cli::try_parse_from(args).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }

    #[test]
    fn global_flags_stand_before_and_after_the_command() {
        for args in [
            ["walpost", "-c", "f", "init"],
            ["walpost", "init", "-c", "f"],
        ] {
            let cli = Cli::try_parse_from(args).unwrap();
            assert_eq!(cli.settings.config, Some("f".into()));
        }
    }
}
