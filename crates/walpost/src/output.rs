//! The one way to stdout: a text for people, or with `--json` one object for machines.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::Error;
use crate::finding::{Finding, Severity};
use crate::telemetry;

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
    pub code: &'a str,
    pub message: &'a str,
    pub hint: Option<&'a str>,
}

impl Output {
    /// Prints a result. `failure` says that it is not what was hoped for.
    pub(crate) fn report<T: Serialize>(
        self,
        result: &T,
        failure: Option<Failure<'_>>,
        text: impl FnOnce(Paint) -> String,
    ) -> Result<(), Error> {
        if !self.json {
            print(&text(Paint {
                color: telemetry::color(&io::stdout()),
            }));
            return Ok(());
        }
        let (ok, command) = (failure.is_none(), self.command);
        self.envelope(&Envelope {
            ok,
            command,
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
        let Self { command, json } = self;
        let envelope = Envelope::<()> {
            ok: false,
            command,
            result: None,
            error: Some(failure),
        };
        if json && self.envelope(&envelope).is_ok() {
            return;
        }
        if log_is_json {
            let (code, fix) = (error.exit().code(), error.fix());
            tracing::error!(exit_code = code, fix, "error: {message}");
            return;
        }
        telemetry::print(&format!("error: {message}"));
        if let Some(fix) = error.fix() {
            telemetry::print(&format!("fix: {fix}"));
        }
    }

    fn envelope<T: Serialize>(self, envelope: &Envelope<'_, T>) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(envelope).map_err(anyhow::Error::from)?;
        print(&format!("{text}\n"));
        Ok(())
    }
}

/// Prints to stdout. A reader that went away (`| head`) has read enough.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
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
