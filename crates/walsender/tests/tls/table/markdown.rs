//! `docs/tls.md`.

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::{
    Section,
    exceptions::{difference, reasons},
};
use crate::run::{Address, Outcome};

const HEAD: &str = "\
# Connecting to Postgres, beside libpq

walpost takes the connection strings of libpq, the library under `psql`, and connects as libpq \
does:
with the same TLS, the same ways to authenticate, the same second attempts. These tables are the
proof. Every cell is one connection string, which a test gives to `psql` and to walpost, against
real PostgreSQL servers and a few that only pretend to be one. Both have to end the same:

- **TLS**: connected, encrypted;
- **clear**: connected, not encrypted;
- **refused**: not connected.

The test writes this file; don't edit it. It fails when the file is not what it saw;
`WALPOST_UPDATE_DOCS=1 cargo test --profile tests -p walpost-walsender --test tls` writes it anew.
";

/// Stands where nothing ran: the machine lacks a server or a libpq that is new enough.
const UNKNOWN: &str = "?";

/// Fails when the committed file differs from what was seen; or writes it, where the environment
/// says so.
pub(super) fn compare(sections: &[Section], outcomes: &BTreeMap<Address, Outcome>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/tls.md");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let text = render(sections, outcomes, &committed);
    if text == committed {
        return;
    }
    if std::env::var_os("WALPOST_UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&path, text).unwrap();
        return;
    }
    let mut lines = text.lines().zip(committed.lines());
    let first = lines.find(|(new, old)| new != old);
    panic!(
        "docs/tls.md is not what the test saw (from {first:?} on); WALPOST_UPDATE_DOCS=1 in the \
         environment of this test writes it anew"
    );
}

fn render(sections: &[Section], outcomes: &BTreeMap<Address, Outcome>, committed: &str) -> String {
    let mut text = HEAD.to_owned();
    for (number, section) in sections.iter().enumerate() {
        text += &format!("\n## {}\n\n", section.title);
        if !section.about.is_empty() {
            text += &format!("{}\n\n", section.about);
        }
        let corners = section.corners.iter().copied();
        let heads: Vec<&str> = corners
            .chain(section.columns.iter().map(String::as_str))
            .collect();
        text += &format!("| {} |\n", heads.join(" | "));
        text += &format!("|{}\n", "---|".repeat(heads.len()));
        let committed = part(committed, section.title);
        for row in 0..section.rows.len() {
            text += &format!("{}\n", line(section, number, row, outcomes, committed));
        }
    }
    if !reasons().is_empty() {
        text += "\n## Differences\n\nWhere walpost does not end as libpq, and why.\n\n";
        for (number, reason) in reasons().into_iter().enumerate() {
            text += &format!("{}. {reason}\n", number + 1);
        }
    }
    text
}

/// The lines of a section in the file as it was.
fn part<'a>(committed: &'a str, title: &str) -> &'a str {
    let begin = committed.split_once(&format!("\n## {title}\n"));
    let rest = begin.map_or("", |(_, rest)| rest);
    rest.split_once("\n## ").map_or(rest, |(part, _)| part)
}

/// A row as it was seen; what could not be tried here is as it was in the file.
fn line(
    section: &Section,
    number: usize,
    row: usize,
    outcomes: &BTreeMap<Address, Outcome>,
    committed: &str,
) -> String {
    let labels = section.rows[row].labels.iter().map(|label| {
        if label.is_empty() {
            "-"
        } else {
            label.as_str()
        }
    });
    let begin = format!("| {} |", labels.collect::<Vec<_>>().join(" | "));
    let old = committed.lines().find_map(|line| line.strip_prefix(&begin));
    let old: Vec<&str> = old.unwrap_or_default().split(" |").map(str::trim).collect();
    let mut line = begin;
    for column in 0..section.columns.len() {
        let address = Address(number, row, column);
        let Some(outcome) = outcomes.get(&address) else {
            let old = old.get(column).filter(|text| !text.is_empty());
            line += &format!(" {} |", old.unwrap_or(&UNKNOWN));
            continue;
        };
        let ours = &outcome.ours;
        line += &match difference(section, address) {
            Some(number) if !ours.agrees(outcome.libpq()) => format!(
                " {ours} (libpq: {}, see [{}](#differences)) |",
                outcome.libpq(),
                number + 1
            ),
            _ => format!(" {ours} |"),
        };
    }
    line
}
