//! `walpost`: every committed row of a Postgres outbox table to Kafka.

mod catalog;
mod checkpoint;
mod checks;
mod cli;
mod commands;
mod config;
mod connect;
mod control;
mod error;
mod exit;
mod finding;
mod gate;
mod output;
mod rotation;
mod session;
mod shutdown;
mod skip;
mod sql;
mod state;
mod supervisor;
mod telemetry;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::read() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if let Err(error) = telemetry::start(cli.log.log_format, cli.log_level()) {
        // Without that thread nothing else would be heard of it.
        let _ = writeln!(
            std::io::stderr(),
            "error: can't start the log's thread: {error}"
        );
        return exit::Status::from(walpost_core::class::Exit::Internal).into();
    }
    let code = commands::execute(&cli).unwrap_or_else(|error| {
        let log_is_json = cli.is_service() && cli.log.log_format.is_json();
        cli.output().fail(&error, log_is_json);
        error.exit().into()
    });
    telemetry::flush();
    code
}
