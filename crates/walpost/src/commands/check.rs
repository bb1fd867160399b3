//! `walpost check`: the whole set-up looked at, nothing changed, every problem at once.

mod held;
mod kafka;
mod postgres;
mod route;
mod session;
#[cfg(test)]
mod tests;

pub(super) use self::postgres::younger_problem;
use serde::Serialize;
use walpost_core::class::Exit;

use std::process::ExitCode;

use crate::catalog::counted;
use crate::checks::{self, Check};
use crate::cli::CheckArgs;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Status;
use crate::finding::{Finding, Severity};
use crate::output::{self, Failure, Output, Paint};

/// What one side brought.
#[derive(Debug, Default)]
struct Look {
    findings: Vec<Finding>,
    /// It could not be looked at, and why.
    blind: Option<Exit>,
    /// Of the largest payload that was seen in an outbox table.
    payload_bytes: Option<u64>,
    /// The Kafka cluster: on record, or seen.
    kafka_cluster: Option<String>,
}

impl Look {
    fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
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
    findings: Vec<&'a Finding>,
}

/// Looks, prints, and returns 0, 1 where an error was found, 69 or 77 where it could not look.
pub(super) fn check(config: &Config, args: &CheckArgs, output: Output) -> Result<ExitCode, Error> {
    // Each side can take its whole time limit.
    let (postgres, kafka) = std::thread::scope(|scope| {
        let kafka = scope.spawn(|| kafka::look(config));
        let postgres = super::block_on(postgres::look(config));
        (postgres, kafka.join())
    });
    let mut postgres = postgres?;
    let (mut kafka, topics) =
        kafka.map_err(|_| Error::new(Exit::Internal, "the look at Kafka broke off"))?;
    kafka.extend(kafka::payload_problems(&topics, postgres.payload_bytes));
    kafka.extend(kafka::cluster_problem(&kafka, &postgres));
    postgres.findings.append(&mut kafka.findings);
    // Steady: within an area in the order of the look.
    postgres.findings.sort_by_key(|finding| finding.area);
    let report = report(&postgres.findings);
    let blind = [postgres.blind, kafka.blind]
        .into_iter()
        .flatten()
        .max_by_key(|exit| exit.code());
    let is_found = report.errors > 0 || (args.strict && report.warnings > 0);
    let summary = summary(&report);
    let hint = "walpost check --explain CODE tells more about a code";
    let status = match blind {
        Some(exit) => Status::Failed(exit),
        None if is_found => Status::Found,
        None => Status::Done,
    };
    let failure = (status != Status::Done).then_some(Failure {
        code: status.word(),
        message: &summary,
        hint: Some(hint),
    });
    output.report(&report, failure, |paint| text(&report, &summary, paint))?;
    Ok(status.into())
}

/// What a code means.
#[derive(Serialize)]
struct Explained {
    code: &'static str,
    severity: &'static str,
    title: &'static str,
    looks_at: &'static str,
    why: &'static str,
    fix: &'static str,
}

/// Prints what the documentation says of a code.
pub(super) fn explain(code: &str, output: Output) -> Result<(), Error> {
    let Some(check) = checks::find(code) else {
        let codes: Vec<_> = checks::all().map(|check| check.code).collect();
        let upper = code.to_uppercase();
        let fix = match crate::catalog::nearest(&upper, codes.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("the codes are {}", codes.join(", ")),
        };
        let message = format!("there is no check with the code {}", upper.escape_debug());
        return Err(Error::new(Status::Usage, message).with_fix(fix));
    };
    let Check {
        code,
        level,
        title,
        looks_at,
        why,
        fix,
        ..
    } = check;
    let explained = Explained {
        code,
        severity: level.name(),
        title,
        looks_at,
        why,
        fix,
    };
    output.report(&explained, None, |paint| {
        format!(
            "{} {title} ({})\n\nLooks at: {looks_at}\n\n{why}\n\nFix: {fix}\n",
            paint.bold(code),
            level.name()
        )
    })
}

fn report(findings: &[Finding]) -> Report<'_> {
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    Report {
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        findings: findings.iter().collect(),
    }
}

fn summary(report: &Report<'_>) -> String {
    let fine = report.findings.len() - report.errors - report.warnings;
    format!(
        "{}, {}, {fine} fine",
        counted(report.errors, "error"),
        counted(report.warnings, "warning")
    )
}

fn text(report: &Report<'_>, summary: &str, paint: Paint) -> String {
    let mut text = String::new();
    let mut last = None;
    for finding in &report.findings {
        if last != Some(finding.area) {
            text.push_str(&format!("{}\n", paint.bold(finding.area.name())));
            last = Some(finding.area);
        }
        text.push_str(&output::finding(finding, paint));
    }
    text.push_str(&format!("\n{summary}\n"));
    text
}
