//! What was committed against what arrived.
//!
//! The checker takes the writer's [`Ledger`]s and the records of the topics, and nothing that the
//! relay says about itself.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{Ledger, Record};

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
pub fn check(ledgers: &[&Ledger], records: &[Record]) -> Report {
    Report {
        lost: lost(ledgers, records),
        phantoms: phantoms(ledgers, records),
        duplicates: duplicates(records),
        disorder: order_violations(ledgers, records),
    }
}

/// Committed events that are in no record.
pub fn lost(ledgers: &[&Ledger], records: &[Record]) -> Vec<Uuid> {
    let arrived: BTreeSet<Uuid> = records.iter().filter_map(Record::event_id).collect();
    let committed = ledgers.iter().flat_map(|ledger| &ledger.committed);
    committed
        .map(|event| event.id)
        .filter(|id| !arrived.contains(id))
        .collect()
}

/// Records whose event was not committed. An event whose commit nobody could ask about
/// ([`Ledger::unknown`]) may be there or not.
pub fn phantoms(ledgers: &[&Ledger], records: &[Record]) -> Vec<String> {
    let events = ledgers
        .iter()
        .flat_map(|ledger| ledger.committed.iter().chain(&ledger.unknown));
    let known: BTreeSet<Uuid> = events.map(|event| event.id).collect();
    let rolled_back: BTreeSet<Uuid> = ledgers
        .iter()
        .flat_map(|ledger| &ledger.rolled_back)
        .copied()
        .collect();
    let mut phantoms = Vec::new();
    for record in records {
        let place = format!("partition {} offset {}", record.partition, record.offset);
        match record.event_id() {
            None => phantoms.push(format!("no event id, {place}")),
            Some(id) if rolled_back.contains(&id) => {
                phantoms.push(format!("{id} was rolled back, {place}"));
            }
            Some(id) if !known.contains(&id) => phantoms.push(format!("{id} is unknown, {place}")),
            Some(_) => {}
        }
    }
    phantoms
}

/// How many records repeat an event.
pub fn duplicates(records: &[Record]) -> usize {
    let ids: Vec<Uuid> = records.iter().filter_map(Record::event_id).collect();
    ids.len() - ids.iter().collect::<BTreeSet<_>>().len()
}

/// Where duplicates are anything else than the repeat of a suffix.
///
/// The events of one writer in one partition have ranks in commit order; so have the events of one
/// aggregate, by version, wherever they are. Along the offsets a rank is followed by the next one,
/// or by any earlier one, from which it goes on by ones again; and the last rank is the highest:
/// a repeat that was begun has to reach the end. An aggregate also lives in one partition.
pub fn order_violations(ledgers: &[&Ledger], records: &[Record]) -> Vec<String> {
    let facts = Facts::of(ledgers);
    let mut sorted: Vec<(&Record, &Fact<'_>)> = records
        .iter()
        .filter_map(|record| Some((record, facts.0.get(&record.event_id()?)?)))
        .collect();
    sorted.sort_by_key(|(record, _)| (record.partition, record.offset));

    let mut violations = Vec::new();
    let mut homes: BTreeMap<&str, i32> = BTreeMap::new();
    let mut by_aggregate: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut by_partition: BTreeMap<(i32, usize), Vec<u64>> = BTreeMap::new();
    for (record, fact) in sorted {
        let aggregate = fact.aggregate;
        let home = *homes.entry(aggregate).or_insert(record.partition);
        if home == record.partition {
            by_aggregate
                .entry(aggregate)
                .or_default()
                .push(fact.version);
        } else {
            let other = record.partition;
            violations.push(format!(
                "aggregate {aggregate} is in partitions {home} and {other}"
            ));
        }
        by_partition
            .entry((record.partition, fact.writer))
            .or_default()
            .push(fact.sequence);
    }
    for (aggregate, versions) in &by_aggregate {
        explain(
            &mut violations,
            &format!("aggregate {aggregate}"),
            versions,
            1,
        );
    }
    for ((partition, _), sequences) in &by_partition {
        // The partition's own ranks: its events in the order of their commits.
        let events: BTreeSet<u64> = sequences.iter().copied().collect();
        let ranks: BTreeMap<u64, u64> = events.into_iter().zip(0..).collect();
        let ranked: Vec<u64> = sequences.iter().map(|sequence| ranks[sequence]).collect();
        explain(
            &mut violations,
            &format!("partition {partition}"),
            &ranked,
            0,
        );
    }
    violations
}

/// What the ledgers know about an event.
struct Fact<'a> {
    aggregate: &'a str,
    version: u64,
    writer: usize,
    /// Its place in the writer's order of commits.
    sequence: u64,
}

struct Facts<'a>(BTreeMap<Uuid, Fact<'a>>);

impl<'a> Facts<'a> {
    fn of(ledgers: &[&'a Ledger]) -> Self {
        let mut facts = BTreeMap::new();
        for (writer, ledger) in ledgers.iter().enumerate() {
            for (event, sequence) in ledger.committed.iter().zip(0..) {
                let (aggregate, version) = (event.aggregate.as_str(), event.version);
                facts.insert(
                    event.id,
                    Fact {
                        aggregate,
                        version,
                        writer,
                        sequence,
                    },
                );
            }
        }
        Self(facts)
    }
}

/// Checks that each rank is one more than the one before or at most equal to it, that the first is
/// `first`, and that the last is the highest.
fn explain(violations: &mut Vec<String>, what: &str, ranks: &[u64], first: u64) {
    let mut expected = first;
    for (index, rank) in ranks.iter().enumerate() {
        if *rank > expected {
            violations.push(format!(
                "{what}: {rank} where {expected} was next (record {index})"
            ));
        }
        expected = rank + 1;
    }
    let highest = ranks.iter().max();
    if ranks.last() != highest {
        violations.push(format!(
            "{what}: ends with {:?} after {highest:?}",
            ranks.last()
        ));
    }
}

fn first_few<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(5)]
}

#[cfg(test)]
mod tests;
