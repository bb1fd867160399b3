//! The one way to stdout: a text for people, or with `--json` one object for machines.
//!
//! Nothing else prints a report, so that a reader that went away (`| head`) ends it quietly, a disk
//! that is full is an error, and colours are where they are wanted and nowhere else.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::ColorChoice;
use serde::Serialize;
use walpost_core::class::Exit;

use crate::error::Error;
use crate::finding::{Finding, Severity};
use crate::telemetry;

/// What `--color` said. Nothing prints before it is known.
static COLOR: OnceLock<ColorChoice> = OnceLock::new();

/// How a command reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub command: &'static str,
    pub json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Envelope<'a, T> {
    ok: bool,
    command: &'a str,
    result: Option<T>,
    error: Option<Failure<'a>>,
}

/// Why a report is not ok.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Failure<'a> {
    /// An exit code as a word.
    pub code: &'a str,
    pub message: &'a str,
    pub hint: Option<&'a str>,
}

impl Output {
    pub(crate) fn new(command: &'static str, json: bool) -> Self {
        Self { command, json }
    }

    /// Prints a result. `failure` says that it is not what was hoped for.
    pub(crate) fn report<T: Serialize>(
        self,
        result: &T,
        failure: Option<Failure<'_>>,
        text: impl FnOnce(Paint) -> String,
    ) -> Result<(), Error> {
        if !self.json {
            return print(&text(Paint {
                color: color(&io::stdout()),
            }));
        }
        envelope(&Envelope {
            ok: failure.is_none(),
            command: self.command,
            result: Some(result),
            error: failure,
        })
    }

    /// Tells why a command could not do its work: with `--json` on stdout, otherwise on stderr.
    pub(crate) fn fail(self, error: &Error, log_is_json: bool) {
        let message = error.to_string();
        let failure = Failure {
            code: error.code(),
            message: &message,
            hint: error.fix(),
        };
        if self.json && refuse(self.command, failure).is_ok() {
            return;
        }
        if log_is_json {
            let (code, fix) = (error.exit().code(), error.fix());
            tracing::error!(exit_code = code, fix, "error: {message}");
            return;
        }
        let paint = Paint {
            color: color(&io::stderr()),
        };
        telemetry::print(&format!("{} {message}", paint.red("error:")));
        if let Some(fix) = error.fix() {
            telemetry::print(&format!("{} {fix}", paint.green("fix:")));
        }
    }
}

/// Prints, as JSON, that there is no result, and why.
pub(crate) fn refuse(command: &str, failure: Failure<'_>) -> Result<(), Error> {
    envelope(&Envelope::<()> {
        ok: false,
        command,
        result: None,
        error: Some(failure),
    })
}

fn envelope<T: Serialize>(envelope: &Envelope<'_, T>) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(envelope).map_err(anyhow::Error::from)?;
    print(&format!("{text}\n"))
}

/// Prints to stdout.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    finish(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    )
}

/// How printing to stdout ended: a reader that went away has read enough.
pub(crate) fn finish(printed: io::Result<()>) -> Result<(), Error> {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = format!("can't write to stdout: {error}");
            let fix = "give the output a place that takes it, and run the command again";
            Err(Error::new(Exit::Internal, message).with_fix(fix))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes what `--color` said, once.
pub(crate) fn set_color(choice: ColorChoice) {
    // Only the first one counts: what was printed can't be painted anew.
    let _ = COLOR.set(choice);
}

/// Whether to colour what goes there.
pub(crate) fn color(stream: &impl IsTerminal) -> bool {
    let choice = COLOR.get().copied().unwrap_or(ColorChoice::Auto);
    let variable = |name: &str| std::env::var_os(name);
    wants_color(choice, stream.is_terminal(), &variable)
}

/// The flag, then what the environment asks for (no-color.org, bixense.com/clicolors), then whether
/// it is a terminal that can.
fn wants_color(
    choice: ColorChoice,
    is_terminal: bool,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    let is = |name, value: &str| variable(name).is_some_and(|found| found == value);
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if is_set("NO_COLOR") => false,
        ColorChoice::Auto if is_set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0") => true,
        ColorChoice::Auto => is_terminal && !is("TERM", "dumb") && !is("CLICOLOR", "0"),
    }
}

/// A finding for people: what was seen, and the fix below it.
pub(crate) fn finding(finding: &Finding, paint: Paint) -> String {
    let mark = match finding.severity {
        Severity::Ok => paint.green("ok     "),
        Severity::Warning => paint.yellow("warning"),
        Severity::Error => paint.red("error  "),
    };
    let mut text = format!("  {mark}  {}\n", finding.line());
    if let Some(fix) = &finding.fix {
        let fix = fix.replace('\n', "\n                ");
        text.push_str(&format!("           fix: {fix}\n"));
    }
    text
}

/// Colours, where they are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    color: bool,
}

impl Paint {
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { color: false }
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        assert_eq!(Paint { color: false }.red("x"), "x");
        assert_eq!(Paint { color: true }.red("x"), "\u{1b}[31mx\u{1b}[0m");
    }

    #[test]
    fn flag_environment_and_terminal_decide_in_this_order() {
        use ColorChoice::{Always, Auto, Never};
        let wants = |choice, is_terminal, variables: &[(&str, &str)]| {
            wants_color(choice, is_terminal, &|name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name)?;
                Some(found.1.into())
            })
        };
        assert!(wants(Auto, true, &[]));
        assert!(!wants(Auto, false, &[]));
        assert!(!wants(Auto, true, &[("NO_COLOR", "1")]));
        assert!(wants(Auto, true, &[("NO_COLOR", "")]), "empty is unset");
        assert!(!wants(Auto, true, &[("TERM", "dumb")]));
        assert!(!wants(Auto, true, &[("CLICOLOR", "0")]));
        assert!(wants(Auto, false, &[("CLICOLOR_FORCE", "1")]));
        assert!(wants(
            Auto,
            false,
            &[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")]
        ));
        assert!(!wants(Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!wants(
            Auto,
            true,
            &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]
        ));
        assert!(wants(Always, false, &[("NO_COLOR", "1"), ("TERM", "dumb")]));
        assert!(!wants(Never, true, &[("CLICOLOR_FORCE", "1")]));
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is_one() {
        let kind = |kind: io::ErrorKind| finish(Err(kind.into()));
        assert!(kind(io::ErrorKind::BrokenPipe).is_ok());
        let error = kind(io::ErrorKind::StorageFull).unwrap_err();
        assert!(
            error.to_string().starts_with("can't write to stdout"),
            "{error}"
        );
    }

    #[test]
    fn the_envelope_has_always_the_same_fields() {
        let envelope = Envelope::<()> {
            ok: true,
            command: "check",
            result: None,
            error: None,
        };
        let text = serde_json::to_string(&envelope).unwrap();
        assert_eq!(
            text,
            r#"{"ok":true,"command":"check","result":null,"error":null}"#
        );
    }
}
