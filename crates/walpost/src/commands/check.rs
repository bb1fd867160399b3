//! `walpost check`: the whole set-up looked at, nothing changed, every problem at once.

mod kafka;
mod postgres;

use serde::Serialize;
use walpost_core::class::Exit;

use std::process::ExitCode;

use crate::config::Config;
use crate::error::Error;
use crate::finding::{Finding, Severity};
use crate::output::{Failure, Output, Paint};

/// Exit code where something was found.
const FOUND: u8 = 1;

/// What one area brought.
#[derive(Debug, Default)]
struct Look {
    findings: Vec<Finding>,
    /// It could not be looked at, and why.
    blind: Option<Exit>,
}

impl Look {
    fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Nothing more can be seen here.
    fn blind(mut self, exit: Exit, finding: Finding) -> Self {
        self.blind = Some(exit);
        self.findings.push(finding);
        self
    }
}

#[derive(Serialize)]
struct Report<'a> {
    errors: usize,
    warnings: usize,
    checks: Vec<Checked<'a>>,
}

#[derive(Serialize)]
struct Checked<'a> {
    area: &'static str,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// Looks, prints, and returns 0, 1 where an error was found, 69 or 77 where it could not look.
pub(super) fn check(config: &Config, output: Output) -> Result<ExitCode, Error> {
    // Each side can take its whole time limit.
    let (postgres, kafka) = std::thread::scope(|scope| {
        let kafka = scope.spawn(|| kafka::look(config));
        let postgres = super::block_on(postgres::look(config));
        (postgres, kafka.join())
    });
    let kafka = kafka.map_err(|_| Error::new(Exit::Internal, "the look at Kafka broke off"))?;
    let looks = [("postgres", postgres?), ("kafka", kafka)];
    let report = report(&looks);
    let blind = looks
        .iter()
        .filter_map(|(_, look)| look.blind)
        .max_by_key(|exit| exit.code());
    let summary = summary(&report);
    let failure = (report.errors > 0).then_some(Failure {
        code: "check",
        message: &summary,
        hint: None,
    });
    output.report(&report, failure, |paint| text(&report, &summary, paint))?;
    Ok(match blind {
        Some(exit) => ExitCode::from(exit.code()),
        None if report.errors > 0 => ExitCode::from(FOUND),
        None => ExitCode::SUCCESS,
    })
}

fn report<'a>(looks: &'a [(&'static str, Look)]) -> Report<'a> {
    let checked = |(area, look): &'a (&'static str, Look)| {
        look.findings
            .iter()
            .map(|finding| Checked { area, finding })
    };
    let checks: Vec<_> = looks.iter().flat_map(checked).collect();
    let count = |severity| {
        checks
            .iter()
            .filter(|check| check.finding.severity == severity)
            .count()
    };
    Report {
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        checks,
    }
}

fn summary(report: &Report<'_>) -> String {
    let plural = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    format!(
        "{}, {}",
        plural(report.errors, "error"),
        plural(report.warnings, "warning")
    )
}

fn text(report: &Report<'_>, summary: &str, paint: Paint) -> String {
    let mut text = String::new();
    let mut last = "";
    for Checked { area, finding } in &report.checks {
        if *area != last {
            text.push_str(&format!("{}\n", paint.bold(area)));
            last = area;
        }
        let mark = match finding.severity {
            Severity::Ok => paint.green("ok     "),
            Severity::Warning => paint.yellow("warning"),
            Severity::Error => paint.red("error  "),
        };
        let code = finding
            .code
            .map(|code| format!("{code}: "))
            .unwrap_or_default();
        text.push_str(&format!("  {mark}  {code}{}\n", finding.seen));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("           fix: {fix}\n"));
        }
    }
    text.push_str(&format!("\n{summary}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Paint;

    #[test]
    fn a_report_counts_and_names_everything() {
        let look = Look {
            findings: vec![
                Finding::ok("fine"),
                Finding::warning("WP-A-B", "odd", "mend it"),
                Finding::error("WP-A-C", "bad", "mend that"),
            ],
            blind: None,
        };
        let looks = [("postgres", look)];
        let report = report(&looks);
        assert_eq!(summary(&report), "1 error, 1 warning");
        let text = text(&report, "end", Paint::plain());
        assert_eq!(
            text,
            "postgres\n  ok       fine\n  warning  WP-A-B: odd\n           fix: mend it\n  \
             error    WP-A-C: bad\n           fix: mend that\n\nend\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["code"], "WP-A-B");
        assert_eq!(json["checks"][0]["severity"], "ok");
        assert_eq!(json["checks"][2]["area"], "postgres");
    }
}
