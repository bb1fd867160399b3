//! What can be known from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use uuid::Uuid;

use crate::Record;

/// A position in the WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Everything that a judgement rests on. What is left empty is not judged.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Committed events, in lines whose order of commits is known: one line of a witness slot, or
    /// one of each writer.
    pub lines: Vec<Vec<Event>>,
    /// Events that were inserted and rolled back.
    pub rolled_back: BTreeSet<Uuid>,
    /// Events that the database told a writer to be committed.
    pub acknowledged: BTreeSet<Uuid>,
    /// Events that may have been committed: the answer did not come and nobody could ask.
    pub unknown: BTreeSet<Uuid>,
    /// Events that a table beside the outbox holds, written in the same transactions, and their
    /// versions where it has them.
    pub ledger: Option<BTreeMap<Uuid, Option<Version>>>,
    /// What the topics hold.
    pub records: Vec<Record>,
    /// What was seen while the relay ran, in the order of time.
    pub samples: Vec<Sample>,
    /// Whether everything had arrived within the time that was given for it; `None` when nobody
    /// waited.
    pub caught_up: Option<bool>,
    /// What is allowed.
    pub rules: Rules,
}

/// One committed event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The id of the row.
    pub id: Uuid,
    /// What its partition is chosen by; events of one aggregate are in order.
    pub aggregate: Option<String>,
    /// Its place among the events of its aggregate, from 1, where the writer counts.
    pub version: Option<u64>,
    /// The commit of its transaction, as the witness saw it.
    pub commit: Option<Commit>,
    /// What its record has to be.
    pub expected: Option<Expected>,
}

/// An event's place among those of its aggregate. Whoever wrote it held a lock of the aggregate
/// from the count until the commit, so that the numbers are in the order of the commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The aggregate.
    pub aggregate: String,
    /// One more than that of the event before.
    pub number: u64,
}

/// The commit of an event's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The end of the commit before it.
    pub after: Lsn,
    /// The end of the commit's record in the WAL.
    pub end: Lsn,
    /// How many rows of the outbox the transaction inserted before this one.
    pub ordinal: u32,
    /// When it was, as RFC 3339 with microseconds.
    pub time: Option<String>,
}

/// The record that a row has to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// All headers before `walpost-position` and `walpost-commit-time`.
    pub headers: Vec<(String, String)>,
}

/// What was seen at one moment while the relay ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The position that the database held as confirmed: the slot's or the checkpoint's, whichever
    /// was ahead. Read **before** the ends: what is confirmed has to have arrived already.
    pub confirmed: Lsn,
    /// The end of each partition, read after it.
    pub ends: BTreeMap<(String, i32), i64>,
    /// When both had been read, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What a history may have in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The most records that repeat an event; `None`: any number.
    pub duplicates_max: Option<usize>,
    /// Partition counts that the topics had. Without, an aggregate has to stay where it is; with
    /// them, in the partition that one of the counts gives it.
    pub partition_counts: Vec<u32>,
    /// Whether requests of a dead producer may have been on their way when the next one began:
    /// what they repeat can arrive late. Such records are told by their time of creation.
    pub late_repeats: bool,
    /// From when to when, in milliseconds since 1970, a relay that had lost the slot could not know
    /// it yet, because it had stood still: what it repeats then is late too.
    pub unaware: Vec<(i64, i64)>,
}

impl History {
    /// The version of an event: as the ledger has it, or as its line does.
    pub(crate) fn version(&self, event: &Event) -> Option<Version> {
        let of_ledger = self
            .ledger
            .as_ref()
            .and_then(|ledger| ledger.get(&event.id));
        of_ledger.cloned().flatten().or_else(|| {
            Some(Version {
                aggregate: event.aggregate.clone()?,
                number: event.version?,
            })
        })
    }
}

impl Rules {
    /// Whether a record was made while a relay that had lost the slot could not know it.
    pub(crate) fn is_unaware(&self, created: Option<i64>) -> bool {
        let is_within = |at: i64| {
            self.unaware
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&at))
        };
        created.is_some_and(is_within)
    }
}
