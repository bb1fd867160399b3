//! The commands.

mod check;
mod completions;
mod config;
mod demo;
mod init;
mod man;
mod run;
mod skip;
mod version;

use std::process::ExitCode;

use anyhow::Context;

pub(crate) use self::run::Orders;
pub(crate) use self::version::long_version;
use crate::cli::{Cli, Command, ConfigCommand};
use crate::config::Config;
use crate::error::Error;

/// Does what the command line asks for.
pub(crate) fn execute(cli: &Cli) -> Result<ExitCode, Error> {
    let output = cli.output();
    let config = || Config::load(&cli.settings.sources());
    match &cli.command {
        Command::Run(args) => run::run(config()?, args.into())?,
        Command::Skip(args) => return skip::skip(&config()?, args, output),
        Command::Init(args) if args.apply => return init::apply(&config()?, args, output),
        Command::Init(args) => init::print(&config()?, args, output)?,
        Command::Check(args) => match &args.explain {
            Some(code) => check::explain(code, output)?,
            None => return check::check(&config()?, args, output),
        },
        Command::Demo(args) => demo::demo(args, cli.settings.sources())?,
        Command::Config {
            command: ConfigCommand::Print { origins, .. },
        } => {
            config::print(&config()?, *origins, output)?;
        }
        Command::Config {
            command: ConfigCommand::Schema,
        } => config::print_schema()?,
        Command::Version { .. } => version::print(output)?,
        Command::Completions { shell } => completions::print(*shell)?,
        Command::Man { out: Some(dir), .. } => man::write(dir)?,
        Command::Man { command, .. } => man::print(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that asks a server.
fn block_on<F: Future>(future: F) -> Result<F::Output, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("create a runtime")?;
    Ok(runtime.block_on(future))
}
