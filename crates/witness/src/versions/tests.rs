//! Histories of ledger and topic alone: no slot has a say in them.

use super::*;
use crate::{judge, record::Record};

#[test]
fn versions_that_go_up_one_by_one_are_clean() {
    Ledger::new(&["a", "b", "a", "b", "a"]).assert_clean(&[1, 2, 3, 4, 5]);
    // Of different aggregates nothing is known here.
    Ledger::new(&["a", "b", "a", "b", "a"]).assert_clean(&[2, 4, 1, 3, 5]);
}

#[test]
fn a_repeat_up_to_the_end_is_clean() {
    Ledger::new(&["a"; 5]).assert_clean(&[1, 2, 3, 2, 3, 1, 2, 3, 4, 5]);
    Ledger::new(&["a"; 3]).assert_clean(&[1, 1, 2, 2, 3, 3]);
}

#[test]
fn a_version_that_arrives_after_a_later_one_is_found() {
    Ledger::new(&["a"; 4]).assert_finds(&[1, 3, 2, 3, 4], 1);
    Ledger::new(&["a"; 3]).assert_finds(&[2, 1, 2, 3], 1);
    Ledger::new(&["a", "b", "a"]).assert_finds(&[3, 2, 1, 3], 1);
}

#[test]
fn a_version_that_is_left_out_is_found() {
    Ledger::new(&["a"; 3]).assert_finds(&[1, 3], 1);
    // What is behind the last one is nobody's order: it is lost, or has still to come.
    Ledger::new(&["a"; 3]).assert_clean(&[1, 2]);
}

#[test]
fn a_repeat_that_does_not_reach_the_end_is_found() {
    Ledger::new(&["a"; 4]).assert_finds(&[1, 2, 3, 2, 4], 1);
    Ledger::new(&["a"; 4]).assert_finds(&[1, 2, 3, 4, 2], 1);
    Ledger::new(&["a"; 4]).assert_finds(&[1, 2, 3, 4, 2, 4], 1);
}

#[test]
fn an_aggregate_that_was_there_before_goes_on_from_its_version() {
    let mut ledger = Ledger::new(&["a"; 3]);
    for version in ledger
        .history
        .ledger
        .iter_mut()
        .flat_map(BTreeMap::values_mut)
    {
        version.as_mut().unwrap().number += 56;
    }
    ledger.assert_clean(&[1, 2, 3]);
    ledger.assert_finds(&[1, 3, 2, 3], 1);
}

#[test]
fn an_aggregate_that_moved_goes_on_in_its_other_partition() {
    let mut ledger = Ledger::new(&["a"; 4]);
    ledger.history.records = vec![record(1, 0), record(2, 1), record(3, 0), record(4, 1)];
    for moved in &mut ledger.history.records[2..] {
        moved.partition = 1;
    }
    assert_eq!(ledger.found(), []);
    ledger.history.records.swap(2, 3);
    for (moved, offset) in ledger.history.records[2..].iter_mut().zip(0..) {
        moved.offset = offset;
    }
    assert_eq!(
        ledger.found(),
        [Kind::Miscounted; 2],
        "a swap, and its torn end"
    );
}

#[test]
fn a_late_repeat_is_told_by_its_time_where_it_may_be() {
    let mut ledger = Ledger::new(&["a"; 3]);
    let arrived = [(1, 10), (2, 50), (3, 50), (2, 11)];
    ledger.history.records = arrived
        .iter()
        .zip(0..)
        .map(|((event, created), offset)| Record {
            timestamp: Some(*created),
            ..record(*event, offset)
        })
        .collect();
    assert_eq!(ledger.found(), [Kind::Miscounted]);
    ledger.history.rules.late_repeats = true;
    assert_eq!(ledger.found(), []);
}

#[test]
fn a_ledger_with_a_hole_or_a_version_twice_is_not_believed() {
    let mut ledger = Ledger::new(&["a"; 3]);
    ledger.set(2, Some(("a", 4)));
    ledger.history.records = vec![record(1, 0), record(3, 1), record(2, 2)];
    assert_eq!(ledger.all_found(), [Kind::Witness]);
    ledger.set(2, Some(("a", 3)));
    assert!(ledger.all_found().contains(&Kind::Witness));
}

#[test]
fn events_without_a_version_are_not_judged() {
    let mut ledger = Ledger::new(&["a"; 3]);
    for number in 1..=3 {
        ledger.set(number, None);
    }
    ledger.assert_clean(&[3, 1, 2]);
    ledger.history.ledger = None;
    ledger.assert_clean(&[3, 1, 2]);
}

#[test]
fn a_slot_that_saw_another_order_than_the_ledger_is_not_believed() {
    let mut ledger = Ledger::new(&["a"; 2]);
    let line = [1, 2].map(|number| crate::Event {
        id: id(number),
        ..crate::Event::default()
    });
    ledger.history.records = vec![record(1, 0), record(2, 1)];
    ledger.history.lines = vec![line.to_vec()];
    assert_eq!(judge(&ledger.history).anomalies, []);
    ledger.history.lines[0].swap(0, 1);
    let kinds = ledger.kinds(judge);
    assert_eq!(kinds, [Kind::Witness, Kind::Overtaken, Kind::Torn]);
}

/// Events in the order of their commits, each of an aggregate.
struct Ledger {
    history: History,
}

impl Ledger {
    fn new(aggregates: &[&str]) -> Self {
        let mut counts = BTreeMap::new();
        let ledger = aggregates.iter().zip(1..).map(|(aggregate, event)| {
            let count = counts.entry(*aggregate).or_insert(0);
            *count += 1;
            (id(event), version(aggregate, *count))
        });
        let history = History {
            ledger: Some(ledger.collect()),
            ..History::default()
        };
        Self { history }
    }

    fn set(&mut self, event: u128, of: Option<(&str, u64)>) {
        let of = of.and_then(|(aggregate, number)| version(aggregate, number));
        let ledger = self.history.ledger.as_mut().unwrap();
        ledger.insert(id(event), of);
    }

    fn kinds(&self, judge: impl Fn(&History) -> Verdict) -> Vec<Kind> {
        let verdict = judge(&self.history);
        verdict.anomalies.iter().map(|found| found.kind).collect()
    }

    /// What the order of the versions shows, and what is wrong with the ledger itself.
    fn all_found(&self) -> Vec<Kind> {
        self.kinds(|history| {
            let mut verdict = Verdict::default();
            super::judge(history, &mut verdict);
            verdict
        })
    }

    fn found(&self) -> Vec<Kind> {
        let found = self.all_found();
        assert!(!found.contains(&Kind::Witness), "{found:?}");
        found
    }

    #[track_caller]
    fn assert_finds(&self, arrived: &[u128], times: usize) {
        let records = arrived.iter().zip(0..);
        let history = History {
            records: records
                .map(|(event, offset)| record(*event, offset))
                .collect(),
            ..self.history.clone()
        };
        let found = Self { history }.found();
        assert_eq!(found, vec![Kind::Miscounted; times], "{arrived:?}");
    }

    #[track_caller]
    fn assert_clean(&self, arrived: &[u128]) {
        self.assert_finds(arrived, 0);
    }
}

fn version(aggregate: &str, number: u64) -> Option<Version> {
    let aggregate = aggregate.to_owned();
    Some(Version { aggregate, number })
}

fn record(event: u128, offset: i64) -> Record {
    Record {
        topic: "topic".to_owned(),
        offset,
        key: Some(id(event).to_string().into_bytes()),
        ..Record::default()
    }
}

fn id(event: u128) -> Uuid {
    Uuid::from_u128(event)
}
