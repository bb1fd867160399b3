//! What was committed against what arrived.
//!
//! The judgement is that of `walpost-witness`, which shares no code with the relay. Here it is
//! given the writer's [`Ledger`]s and the records of the topics, and nothing that the relay says.

use uuid::Uuid;
use walpost_witness::{Anomaly, Event, History, Kind, Record, Verdict, judge};

use crate::{Ledger, Written};

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Committed events that are in no record.
    pub lost: Vec<Uuid>,
    /// Records of events that were not committed (or rolled back), or that name no event.
    pub phantoms: Vec<String>,
    /// Records beyond the first of their event.
    pub duplicates: usize,
    /// Where the order of a partition or an aggregate is broken.
    pub disorder: Vec<String>,
}

impl Report {
    /// Returns the number of duplicates.
    ///
    /// # Panics
    ///
    /// When something is lost, is a phantom or is out of order, naming the first few.
    #[track_caller]
    pub fn assert_clean(&self) -> usize {
        let Self {
            lost,
            phantoms,
            duplicates,
            disorder,
        } = self;
        let broken = !lost.is_empty() || !phantoms.is_empty() || !disorder.is_empty();
        assert!(
            !broken,
            "{} lost {:?}, {} phantoms {:?}, {} times out of order {:#?}, {duplicates} duplicates",
            lost.len(),
            first_few(lost),
            phantoms.len(),
            first_few(phantoms),
            disorder.len(),
            first_few(disorder),
        );
        *duplicates
    }
}

/// All checks at once. The records are those of all topics that the ledgers' events go to, each
/// topic's from its start, read after the relay has delivered everything.
///
/// What a writer committed has an order; what two of them did has none here. A repeat has to be a
/// suffix of its partition, an aggregate keeps to one partition.
pub fn check(ledgers: &[&Ledger], records: &[Record]) -> Report {
    let history = History {
        lines: ledgers.iter().map(|ledger| line(ledger)).collect(),
        rolled_back: ledgers
            .iter()
            .flat_map(|ledger| &ledger.rolled_back)
            .copied()
            .collect(),
        unknown: ledgers
            .iter()
            .flat_map(|ledger| &ledger.unknown)
            .map(|event| event.id)
            .collect(),
        records: records.to_vec(),
        ..History::default()
    };
    let Verdict {
        anomalies,
        duplicates,
        ..
    } = judge(&history);
    let mut report = Report {
        duplicates,
        ..Report::default()
    };
    for Anomaly { kind, what } in anomalies {
        if kind == Kind::Lost {
            report.lost.extend(what.parse::<Uuid>().ok());
        } else if kind == Kind::Phantom {
            report.phantoms.push(what);
        } else {
            report.disorder.push(what);
        }
    }
    report
}

fn line(ledger: &Ledger) -> Vec<Event> {
    let event = |written: &Written| Event {
        id: written.id,
        aggregate: Some(written.aggregate.clone()),
        version: Some(written.version),
        ..Event::default()
    };
    ledger.committed.iter().map(event).collect()
}

fn first_few<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(5)]
}

#[cfg(test)]
mod tests;
