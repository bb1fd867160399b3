//! From the process's arguments to a command, or to an end: help, version, a mistake.
//!
//! A command line that is not understood can still ask for JSON and for colours, so both are looked
//! for in the plain arguments.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory, FromArgMatches};

use super::Cli;
use crate::exit::Status;
use crate::output::{self, Failure};

impl Cli {
    /// Reads the process's arguments. `Err` is how to end: help was asked for, or is needed.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        let args: Vec<String> = std::env::args_os()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        output::set_color(color(&args));
        let read = Self::command()
            .try_get_matches()
            .and_then(|matches| Self::from_arg_matches(&matches));
        read.map_err(|error| ended(&error, &args))
    }
}

/// Prints what clap has to say, and says how to end.
fn ended(error: &clap::Error, args: &[String]) -> ExitCode {
    if !error.use_stderr() {
        return match output::finish(print(error, io::stdout())) {
            Ok(()) => Status::Done.into(),
            Err(error) => {
                // The log has not begun.
                let _ = writeln!(io::stderr(), "error: {error}");
                error.exit().into()
            }
        };
    }
    if wants_json(args) {
        let (message, hint) = parts(error, args);
        let failure = Failure {
            code: Status::Usage.word(),
            message: &message,
            hint: Some(&hint),
        };
        if output::refuse(&command(args), failure).is_ok() {
            return Status::Usage.into();
        }
    }
    // Where this can't be printed, nothing else can.
    let _ = print(error, io::stderr());
    Status::Usage.into()
}

/// Prints what clap has to say, coloured as everything else is: by itself it also looks at other
/// variables (`CI`).
fn print(error: &clap::Error, mut stream: impl IsTerminal + Write) -> io::Result<()> {
    let text = error.render();
    if output::color(&stream) {
        write!(stream, "{}", text.ansi())?;
    } else {
        write!(stream, "{text}")?;
    }
    stream.flush()
}

/// Options end at a lone `--`.
fn options(args: &[String]) -> impl Iterator<Item = &str> {
    args.iter()
        .skip(1)
        .map(String::as_str)
        .take_while(|arg| *arg != "--")
}

fn wants_json(args: &[String]) -> bool {
    options(args).any(|arg| arg == "--json")
}

fn color(args: &[String]) -> ColorChoice {
    let mut args = options(args);
    let mut choice = ColorChoice::Auto;
    while let Some(arg) = args.next() {
        let value = match arg {
            "--color" => args.next(),
            _ => arg.strip_prefix("--color="),
        };
        choice = match value {
            Some("always") => ColorChoice::Always,
            Some("never") => ColorChoice::Never,
            _ => choice,
        };
    }
    choice
}

/// The words of the command, as far as they name one.
fn command(args: &[String]) -> String {
    let root = Cli::command();
    let (mut at, mut words) = (&root, Vec::new());
    for arg in options(args) {
        if let Some(found) = at.find_subcommand(arg) {
            words.push(found.get_name());
            at = found;
        }
    }
    words.join(" ")
}

/// What is wrong, and what helps: a similar word, or the command's help.
fn parts(error: &clap::Error, args: &[String]) -> (String, String) {
    let help = format!("walpost {} --help", command(args)).replace("  ", " ");
    let see = format!("'{help}' lists what there is");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return ("a command is missing".to_owned(), see);
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let tips: Vec<_> = paragraphs
        .flat_map(str::lines)
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .collect();
    let hint = if tips.is_empty() {
        see
    } else {
        tips.join("; ")
    };
    (one_line(message), hint)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn told(line: &str) -> (String, String, String) {
        let args = args(line);
        let error = Cli::try_parse_from(&args).unwrap_err();
        let (message, hint) = parts(&error, &args);
        (command(&args), message, hint)
    }

    #[test]
    fn a_mistake_is_told_with_the_command_and_what_helps() {
        let (command, message, hint) = told("walpost chekc --json");
        assert_eq!(command, "");
        assert_eq!(message, "unrecognized subcommand 'chekc'");
        assert!(hint.contains("'check'"), "{hint}");
        let (command, message, hint) = told("walpost -c f config print --jsno");
        assert_eq!(command, "config print");
        assert!(message.contains("'--jsno'"), "{message}");
        assert!(hint.contains("'--json'"), "{hint}");
        let (command, message, hint) = told("walpost man --out");
        assert_eq!(command, "man");
        assert!(message.contains("--out <DIR>"), "{message}");
        assert_eq!(hint, "'walpost man --help' lists what there is");
        let (_, message, hint) = told("walpost");
        assert_eq!(message, "a command is missing");
        assert_eq!(hint, "'walpost --help' lists what there is");
    }

    #[test]
    fn json_and_colours_are_seen_where_nothing_else_is_understood() {
        assert!(wants_json(&args("walpost --jsno --json")));
        assert!(!wants_json(&args("walpost check -- --json")));
        assert!(!wants_json(&args("walpost check")));
        assert_eq!(color(&args("walpost --color never x")), ColorChoice::Never);
        assert_eq!(
            color(&args("walpost x --color=always")),
            ColorChoice::Always
        );
        assert_eq!(color(&args("walpost --color blue")), ColorChoice::Auto);
        assert_eq!(color(&args("walpost --color")), ColorChoice::Auto);
    }
}
