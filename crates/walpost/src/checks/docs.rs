//! `docs/checks.md`, made from the table.

use std::path::Path;

use super::{Area, Check, all};

const UPDATE: &str = "WALPOST_UPDATE_DOCS";

const HEAD: &str = "\
# What `walpost check` finds

`walpost check` looks at the whole set-up, changes nothing, and tells every problem at once: its \
code, what
it saw, and the fix. This page has one section for each code. `walpost check --explain CODE` \
prints the same
on a terminal.

* An **error** means that `walpost run` would not start, would stop, or would not deliver. `run` \
looks at the
  same things before each start and refuses with the same codes.
* A **warning** means that it works, but that somebody will be surprised one day. `--strict` \
treats warnings
  as errors.

Exit codes: 0 nothing is wrong, 1 an error was found, 69 a server could not be reached, 77 \
credentials were
refused. `--json` prints one object; its `result.findings` is a list of objects with `area`, \
`code`,
`severity` (`ok`, `warning`, `error`), `title`, `object`, `seen` and `fix`.

A code keeps its meaning in every version.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let areas = [
        (Area::Postgres, "Postgres"),
        (Area::Slot, "Slot"),
        (Area::Publication, "Publication"),
        (Area::Table, "Table"),
        (Area::Routing, "Routing"),
        (Area::Kafka, "Kafka"),
    ];
    page.push_str("\n| code | | |\n|---|---|---|\n");
    for check in all() {
        let anchor = check.code.to_lowercase();
        let Check { code, title, .. } = check;
        let level = check.level.name();
        page.push_str(&format!("| [{code}](#{anchor}) | {level} | {title} |\n"));
    }
    for (area, name) in areas {
        page.push_str(&format!("\n## {name}\n"));
        for check in all().filter(|check| check.area == area) {
            page.push_str(&section(check));
        }
    }
    page
}

fn section(check: &Check) -> String {
    let Check {
        code,
        title,
        looks_at,
        why,
        fix,
        ..
    } = check;
    let level = check.level.name();
    format!(
        "\n### {code}\n\n**{title}** ({level})\n\n{}\n\n{}\n\n{}\n",
        wrapped(&format!("Looks at: {looks_at}")),
        wrapped(why),
        wrapped(&format!("Fix: {fix}"))
    )
}

/// Breaks between words, never inside of code.
fn wrapped(text: &str) -> String {
    const COLUMNS: usize = 108;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("it begins with one");
        let is_in_code = line.matches('`').count() % 2 == 1;
        if line.is_empty() {
            line.push_str(word);
        } else if is_in_code || line.len() + word.len() < COLUMNS {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

#[test]
fn the_page_of_the_checks_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/checks.md");
    let page = page();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &page).expect("write docs/checks.md");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let first = page.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert!(
        page == written,
        "docs/checks.md is not what the table of checks says: run the test again with {UPDATE}=1. \
         First difference: {first:?}"
    );
}

/// Whoever changes this list changes what people search for and alert on: only add to it.
#[test]
fn no_code_is_lost_or_renamed() {
    let codes: Vec<_> = all().map(|check| check.code).collect();
    let known: Vec<_> = CODES.split_whitespace().collect();
    assert_eq!(codes, known);
    let mut unique = codes.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), codes.len());
}

const CODES: &str = "
    WP-PG-UNREACHABLE WP-PG-CREDENTIALS WP-PG-TLS WP-PG-DATABASE WP-PG-CONNINFO WP-PG-POOLER
    WP-PG-QUERY
    WP-PG-VERSION
    WP-PG-STANDBY WP-PG-SYSTEM WP-PG-TIMELINE WP-PG-WAL-LEVEL WP-PG-REPLICATION WP-PG-SESSION \
    WP-PG-SLOTS WP-PG-SENDERS \
    WP-PG-SYNC
    WP-PG-KEEP-SIZE WP-PG-IDLE-SLOT WP-PG-SENDER-TIMEOUT WP-PG-TIMEOUT WP-PG-CLOCK
    WP-PG-TRANSACTION
    WP-SLOT-MISSING WP-SLOT-GONE WP-SLOT-MOVED WP-CHECKPOINT-TABLE WP-CHECKPOINT-RIGHT
    WP-SKIP-TABLE WP-CHECKPOINT-VERSION WP-CHECKPOINT-CONFIG WP-CHECKPOINT-NONE
    WP-SLOT-PLUGIN WP-SLOT-DATABASE WP-SLOT-TEMPORARY WP-SLOT-TWO-PHASE \
    WP-SLOT-LOST
    WP-SLOT-AHEAD WP-SLOT-UNRESERVED WP-SLOT-SAFE-SIZE WP-SLOT-LAG WP-SLOT-IN-USE WP-SLOT-FAILOVER
    WP-SLOT-STANDBYS
    WP-PUB-MISSING WP-PUB-INSERT WP-PUB-MORE WP-PUB-ROOT WP-PUB-TABLE WP-PUB-FOREIGN WP-PUB-FILTER
    WP-PUB-COLUMN WP-PUB-YOUNGER WP-PUB-SPARE
    WP-TABLE-MISSING WP-TABLE-KIND WP-TABLE-PERSISTENCE WP-TABLE-COLUMN WP-TABLE-TYPE
    WP-TABLE-GENERATED WP-TABLE-PARTITION WP-TABLE-LEAF WP-TABLE-DEFAULT WP-TABLE-FUTURE
    WP-TABLE-ANEW WP-TABLE-DETACHED WP-TABLE-IDENTITY WP-TABLE-NULL
    WP-ROUTE-OPEN WP-ROUTE-NULL WP-KEY-NULL WP-KEY-PLACEMENT WP-KEY-ORDER
    WP-KAFKA-SETTINGS WP-KAFKA-UNREACHABLE WP-KAFKA-CREDENTIALS WP-KAFKA-CLUSTER WP-KAFKA-TOPIC
    WP-KAFKA-TOPIC-NAME WP-KAFKA-TOPIC-RIGHT WP-KAFKA-TOPIC-CREATE WP-KAFKA-TOPIC-UNKNOWN
    WP-KAFKA-LEADER WP-KAFKA-REPLICAS
    WP-KAFKA-MIN-ISR WP-KAFKA-UNCLEAN WP-KAFKA-MAX-BYTES WP-COMPACT
";

#[test]
fn every_check_says_where_why_and_what_to_do() {
    for check in all() {
        for text in [check.looks_at, check.why, check.fix] {
            assert!(
                text.len() > 20 && text.ends_with('.'),
                "{}: {text}",
                check.code
            );
        }
        assert!(!check.title.ends_with('.'), "{}", check.code);
        assert!(check.code.starts_with("WP-"), "{}", check.code);
    }
}
