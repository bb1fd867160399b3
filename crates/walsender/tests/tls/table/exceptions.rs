//! Where the crate, or an older libpq, is meant to end differently.

use std::collections::BTreeMap;

use super::Section;
use crate::run::{Address, Outcome};

/// Cells of a table, and why they are not as libpq's.
struct Exception {
    /// The title of the table.
    section: &'static str,
    /// The first word of the row's labels, or more of them, joined by ` / `; empty: every row.
    row: &'static str,
    /// The head of the column; empty: every one.
    column: &'static str,
    reason: &'static str,
}

/// Cells where the crate differs from libpq on purpose.
const DIFFERENCES: &[Exception] = &[
    Exception {
        section: "`sslmode`, by the server's certificate",
        row: "revoked certificate / revocations in a file that is missing",
        column: "",
        reason: LIST,
    },
    Exception {
        section: "`sslmode`, by the server's certificate",
        row: "revoked certificate / revocations in a file without any",
        column: "",
        reason: LIST,
    },
    Exception {
        section: "Servers that misbehave at authentication",
        row: "",
        column: "unset",
        reason: PROOF,
    },
    Exception {
        section: "`sslsni`: the name that is told to the server",
        row: "",
        column: "`sslsni=2`",
        reason: SNI,
    },
    Exception {
        section: "`sslsni`: the name that is told to the server",
        row: "",
        column: "`sslsni=yes`",
        reason: SNI,
    },
    Exception {
        section: "Values",
        row: "`sslsni=",
        column: "",
        reason: SNI,
    },
    Exception {
        section: "Variables of the environment",
        row: "`PGSSLSNI=nonsense`",
        column: "",
        reason: SNI,
    },
];

/// Of files without a revocation list.
const LIST: &str = "A file that `sslcrl` names has to hold a list of revocations. libpq goes on \
                    without it, and takes a certificate that was revoked.";

/// Of servers that don't prove to know the password.
const PROOF: &str = "A server that asks for SCRAM has to prove that it knows the password too. \
                     libpq lets it skip that, unless `require_auth` or `channel_binding` demand \
                     it.";

/// Of values that are neither 0 nor 1.
const SNI: &str = "`sslsni` is 0 or 1. libpq takes anything else for 0.";

/// Cells where older versions of libpq differ from the newest.
const OLDER: &[Exception] = &[];

impl Exception {
    fn covers(&self, section: &Section, address: Address) -> bool {
        let row = section.rows[address.1].labels.join(" / ");
        let column = &section.columns[address.2];
        self.section == section.title
            && (self.row.is_empty() || row.starts_with(self.row))
            && (self.column.is_empty() || self.column == column)
    }
}

/// All reasons, each once.
pub(super) fn reasons() -> Vec<&'static str> {
    let mut reasons = Vec::new();
    for exception in DIFFERENCES {
        if !reasons.contains(&exception.reason) {
            reasons.push(exception.reason);
        }
    }
    reasons
}

/// The number, among the reasons, of why a cell may differ.
pub(super) fn difference(section: &Section, address: Address) -> Option<usize> {
    let mut all = DIFFERENCES.iter();
    let exception = all.find(|exception| exception.covers(section, address))?;
    let mut reasons = reasons().into_iter();
    reasons.position(|reason| reason == exception.reason)
}

/// Every difference that is not listed, and every entry that no difference needs any more.
pub(super) fn complaints(
    sections: &[Section],
    outcomes: &BTreeMap<Address, Outcome>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let differs = |outcome: &Outcome| !outcome.ours.agrees(outcome.libpq());
    let disputed = |outcome: &Outcome| !outcome.judges_agree();
    for (list, is_exception) in [
        (DIFFERENCES, &differs as &dyn Fn(&Outcome) -> bool),
        (OLDER, &disputed),
    ] {
        for outcome in outcomes.values().filter(|outcome| is_exception(outcome)) {
            let section = &sections[outcome.address.0];
            if !list
                .iter()
                .any(|entry| entry.covers(section, outcome.address))
            {
                complaints.push(complaint(section, outcome));
            }
        }
        for entry in list {
            let mut covered = outcomes
                .values()
                .filter(|outcome| entry.covers(&sections[outcome.address.0], outcome.address))
                .peekable();
            if covered.peek().is_some() && !covered.any(is_exception) {
                let Exception {
                    section,
                    row,
                    column,
                    ..
                } = entry;
                complaints.push(format!(
                    "no exception any more: {section} / {row} / {column}"
                ));
            }
        }
    }
    complaints
}

fn complaint(section: &Section, outcome: &Outcome) -> String {
    let labels = section.rows[outcome.address.1].labels.join(" / ");
    let column = &section.columns[outcome.address.2];
    let mut text = format!("{} / {labels} / {column}:", section.title);
    for (version, verdict) in &outcome.psql {
        text += &format!("\n    psql ({version}): {verdict:?}");
    }
    text + &format!(
        "\n    ours: {:?}\n    {}",
        outcome.ours,
        outcome.cell.text()
    )
}
