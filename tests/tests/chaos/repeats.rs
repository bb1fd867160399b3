//! What each stream could repeat: what had been sent and was not on record when it was opened.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use uuid::Uuid;
use walpost_witness::{History, Lsn, Record};

use crate::timeline::instant;

/// One stream of the relay, as the server and the topic show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// When the server was asked for it, in milliseconds since 1970.
    pub(crate) opened_ms: i64,
    /// Events that were in Kafka or on their way when it was opened, at its start or behind it: it
    /// sends each of them once more.
    pub(crate) open: usize,
    /// Records of the last second before the one before it fell silent: what may have arrived since
    /// the checkpoint was written last.
    pub(crate) last_second: usize,
}

/// The streams from a slot, by the server's log (`log_replication_commands`).
pub(crate) fn streams(log: &str, slot: &str, history: &History) -> Vec<Stream> {
    let command = format!("START_REPLICATION SLOT \"{slot}\" LOGICAL ");
    // A slot that is in use is refused.
    let begins = format!("starting logical decoding for slot \"{slot}\"");
    let has_begun = |process: &str| {
        let mut lines = log.lines();
        lines.any(|line| line.contains(&begins) && line.contains(process))
    };
    let first_sent = first_sent(&history.records);
    let created: Vec<i64> = history.records.iter().filter_map(created).collect();
    log.lines()
        .filter(|line| line.contains("received replication command"))
        .filter_map(|line| {
            let opened_ms = millis(time_of(line)?)?;
            has_begun(&line[line.find('[')?..=line.find(']')?]).then_some(())?;
            let (_, start) = line.split_once(&command)?;
            let start = lsn(start.split_whitespace().next()?)?;
            let behind = history.lines.iter().flatten().filter(|event| {
                let end = event.commit.as_ref().map(|commit| commit.end);
                end > Some(start)
            });
            let was_sent = |id: &Uuid| first_sent.get(id).is_some_and(|at| *at < opened_ms);
            let last = created.iter().filter(|at| **at < opened_ms).max();
            let since = last.map_or(i64::MAX, |last| last - 1000);
            Some(Stream {
                opened_ms,
                open: behind.filter(|event| was_sent(&event.id)).count(),
                last_second: created
                    .iter()
                    .filter(|at| **at > since && **at < opened_ms)
                    .count(),
            })
        })
        .collect()
}

/// When the first record of each event was made.
fn first_sent(records: &[Record]) -> BTreeMap<Uuid, i64> {
    let mut first: BTreeMap<Uuid, i64> = BTreeMap::new();
    for record in records {
        if let (Some(id), Some(at)) = (record.event_id(), created(record)) {
            let known = first.entry(id).or_insert(at);
            *known = at.min(*known);
        }
    }
    first
}

fn created(record: &Record) -> Option<i64> {
    record.timestamp
}

/// The time of a line of the server's log, whose zone is UTC.
pub(crate) fn time_of(line: &str) -> Option<SystemTime> {
    let (at, _) = line.split_once(" UTC ")?;
    instant(&format!("{}Z", at.replace(' ', "T")))
}

pub(crate) fn millis(at: SystemTime) -> Option<i64> {
    let since: Duration = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// `16/B374D848`
fn lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let part = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Lsn(part(high)? << 32 | part(low)?))
}

#[test]
fn a_stream_may_repeat_what_was_sent_behind_its_start() {
    use walpost_witness::{Commit, Event};

    let id = |number: u128| Uuid::from_u128(number);
    let event = |number: u64| Event {
        id: id(number.into()),
        commit: Some(Commit {
            after: Lsn(0),
            end: Lsn(number * 16),
            ordinal: 0,
            time: None,
        }),
        ..Event::default()
    };
    let at = millis(instant("2026-11-27T04:19:13.250Z").unwrap()).unwrap();
    let record = |number: u128, timestamp| Record {
        key: Some(id(number).to_string().into_bytes()),
        timestamp: Some(timestamp),
        ..Record::default()
    };
    let history = History {
        lines: vec![vec![event(1), event(2), event(3), event(4)]],
        records: vec![
            record(1, at - 5000),
            record(2, at - 10),
            record(3, at - 5),
            record(3, at + 5),
            record(4, at + 6),
        ],
        ..History::default()
    };
    let log = "2026-11-27 04:19:13.250 UTC [1] x LOG:  received replication command: \
               START_REPLICATION SLOT \"s\" LOGICAL 0/10 (proto_version '1')\n\
               2026-11-27 04:19:13.251 UTC [1] x LOG:  starting logical decoding for slot \"s\"\n\
               2026-11-27 04:19:14.250 UTC [2] x LOG:  received replication command: \
               START_REPLICATION SLOT \"s\" LOGICAL 0/10 (proto_version '1')";
    let stream = Stream {
        opened_ms: at,
        open: 2,
        last_second: 2,
    };
    assert_eq!(streams(log, "s", &history), [stream]);
    assert_eq!(streams(log, "other", &history), []);
}
