//! Configuration files with every kind of damage: each is read, or refused with a place.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fastrand::Rng;

use super::super::{Config, Sources, reader};
use super::editors;

/// So many damaged files.
const FILES: u64 = 10_000;

/// The name that the damaged file has.
const NAME: &str = "f";

/// Planted in every file, and in a variable that every file refers to.
pub(super) const SECRETS: [&str; 2] = ["Zebra#9!quagga", "Okapi?7*gerenuk"];

#[test]
fn a_damaged_file_is_read_or_refused_with_a_place_and_never_tells_a_secret() {
    let sources = Sources {
        variables: vec![
            ("PW".to_owned(), SECRETS[1].to_owned()),
            ("TOPIC".to_owned(), "orders".to_owned()),
        ],
        ..Sources::default()
    };
    let schema = editors::Schema::new();
    let mut taken = 0;
    for seed in 0..FILES {
        let file = damaged(&mut Rng::with_seed(seed));
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&file, &sources, &schema)));
        match judged {
            Ok(Ok(was_taken)) => taken += u64::from(was_taken),
            Ok(Err(problem)) => {
                panic!("seed {seed}: {problem}\n{}", String::from_utf8_lossy(&file))
            }
            Err(panic) => {
                eprintln!("seed {seed}:\n{}", String::from_utf8_lossy(&file));
                resume_unwind(panic)
            }
        }
    }
    // Otherwise the damage would be such that nothing behind the YAML is ever reached.
    assert!((FILES / 50..FILES / 2).contains(&taken), "{taken}");
}

fn judge(file: &[u8], sources: &Sources, schema: &editors::Schema) -> Result<bool, String> {
    let layer = reader::from_file(NAME, file, &sources.variables);
    let Err(error) = Config::over(layer, sources) else {
        return match schema.refuses(file) {
            true => Err("the schema refuses what is taken".to_owned()),
            false => Ok(true),
        };
    };
    let message = error.to_string();
    if let Some(secret) = SECRETS.iter().find(|secret| message.contains(*secret)) {
        return Err(format!("{secret} is told: {message}"));
    }
    let problems: Vec<_> = message.lines().skip(1).collect();
    let placeless = problems.iter().find(|problem| !has_place(problem.trim()));
    match placeless {
        Some(problem) => Err(format!("no place: {problem}")),
        None if problems.is_empty() => Err(format!("nothing told: {message}")),
        None => Ok(false),
    }
}

/// A line and a column, or the word that something is not there.
fn has_place(problem: &str) -> bool {
    let mut parts = problem.split(':');
    let mut is_number = || {
        let part = parts.next();
        part.is_some_and(|part| part.parse::<u64>().is_ok_and(|number| number > 0))
    };
    problem.starts_with("f:") && !is_number() && is_number() && is_number()
        || problem.contains(": is missing: ")
        || problem.contains(": it is not set, and ")
}

/// A whole file, damaged in up to four ways.
fn damaged(rng: &mut Rng) -> Vec<u8> {
    let mut file = rng.choice(FILES_WHOLE).unwrap().as_bytes().to_vec();
    for _ in 0..rng.usize(1..=4) {
        damage(&mut file, rng);
    }
    file
}

fn damage(file: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(0..=file.len());
    let end = (at + rng.usize(1..20)).min(file.len());
    match rng.u8(0..9) {
        0 if at < end => file[at] = rng.u8(..),
        1 => drop(file.drain(at..end)),
        2 => {
            let part = file[at..end].to_vec();
            file.splice(at..at, part);
        }
        3 => file.truncate(at),
        4 | 5 => {
            let text = rng.choice(INSERTED).unwrap();
            file.splice(at..at, text.bytes());
        }
        _ => damage_line(file, rng),
    }
}

fn damage_line(file: &mut Vec<u8>, rng: &mut Rng) {
    let mut lines: Vec<Vec<u8>> = file
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let (one, other) = (rng.usize(0..lines.len()), rng.usize(0..lines.len()));
    match rng.u8(0..7) {
        0 => drop(lines.remove(one)),
        1 => lines.swap(one, other),
        2 => lines.insert(other, lines[one].clone()),
        3 => drop(lines[one].splice(0..0, *rng.choice(&[*b"  ", *b"\t "]).unwrap())),
        4 => {
            let indent = lines[one].iter().take_while(|byte| **byte == b' ').count();
            lines[one].drain(..indent / 2);
        }
        5 => {
            if let Some(colon) = lines[one].iter().position(|byte| *byte == b':') {
                lines[one].truncate(colon + 1);
                let value = rng.choice(INSERTED).unwrap();
                lines[one].extend(b" ".iter().copied().chain(value.bytes()));
            }
        }
        _ => {
            if let Some(colon) = lines[one].iter().position(|byte| *byte == b':') {
                let place = rng.usize(0..=colon);
                lines[one].insert(place, b'x');
            }
        }
    }
    *file = lines.join(&b'\n');
}

/// Syntax, values and what looks like either.
const INSERTED: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    ":",
    ": ",
    ",",
    "&a ",
    "*a",
    "!",
    "!!int ",
    "|",
    ">",
    "'",
    "\"",
    "%",
    "@",
    "`",
    "#",
    " # ",
    "~",
    "<<: ",
    "? ",
    "- ",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "---\n",
    "...\n",
    "0",
    "-1",
    "1e999",
    "99999999999999999999999",
    "0x1F",
    "true",
    "null",
    ".nan",
    "2026-01-01",
    "${",
    "}",
    "${env:PW}",
    "${env:NONE}",
    "${file:/no/such}",
    "$${",
    "${destination}",
    "\u{0}",
    "\u{feff}",
    "é",
    "😀",
    "\u{2028}",
    "\u{85}",
    "\u{1b}",
    "\\",
    "\"\\x00\"",
    "ÿ",
    "[[[[[[[[[[[[[[[[[[[[",
    "{a: {a: {a: {a: {a: {a: {a: {a: {a: {a: ",
    "/(/",
    "/a/",
    "walpost-",
    "5s",
    "64MiB",
    "hold",
];

const FILES_WHOLE: &[&str] = &[
    "postgres: { url: \"postgresql://u:Zebra%239!quagga@db:5433/shop\", slot: s }\n\
     kafka: { brokers: k:1 }\n\
     route: { topic: 'x.${env:TOPIC}', headers: { a: 'Zebra#9!quagga' } }\n",
    "postgres:\n  url: postgresql://u@db:5433/shop\n  password: \"Zebra#9!quagga\"\n  slot: s_1\n\
     outbox:\n  table: [a, b.c]\n  columns: {id: x}\n  null_payload: tombstone\n\
     route:\n  allow: [orders, '/billing\\..*/']\n  headers:\n    a: ${id}\n    b: x${tenant}\n\
     kafka:\n  brokers: [k:1, k:2]\n  properties:\n    linger.ms: 5\n    security.protocol: \
     sasl_ssl\n    \
     sasl.mechanism: PLAIN\n    sasl.username: u\n    sasl.password: ${env:PW}\n\
     shutdown: {drain: 1s}\n",
    "postgres:\n  url: 'host=db user=u password=''Zebra#9!quagga'''\n\
     outbox:\n  layout: debezium\n  table: '\"A b\".\"c\"'\n\
     kafka:\n  brokers: k:1\n  topics:\n    create:\n      partitions: 3\n      config:\n        \
     retention.ms: -1\n\
     delivery:\n  on_undeliverable: halt\n  in_flight_events: 10\n  in_flight_bytes: 1MiB\n  \
     unknown_topic_after: 5m\n",
    "# Comment: with Zebra#9!quagga\npostgres:\n  url: postgresql://u@db/shop\n  \
     password_command: [printf, '%s', \"Zebra#9!quagga\"]\n\
     kafka:\n  brokers: k:1\n  unsafe: true\n  properties:\n    acks: 1\n    \
     ssl.key.password: \"${env:PW}\"\n    security.protocol: ssl\n\
     route:\n  key: ${aggregate_id}\n  partition_by: key\n",
];
