//! `walpost completions`: scripts for shells, from the same description as the command line itself.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Error;
use crate::output;

pub(super) fn print(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "walpost", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
