use super::*;
use crate::Written;

#[test]
fn a_repeated_suffix_is_clean_and_counted() {
    let world = World::new(&[1, 2, 3, 4, 5]);
    let report = world.check(&[1, 2, 3, 4, 3, 4, 2, 3, 4, 5]);
    assert_eq!(report.assert_clean(), 5);
}

#[test]
fn a_committed_event_that_did_not_arrive_is_lost() {
    let world = World::new(&[1, 2, 3]);
    assert_eq!(world.check(&[1, 2]).lost, [id(3)]);
}

#[test]
fn a_rolled_back_event_is_a_phantom() {
    let mut world = World::new(&[1, 2]);
    world.ledger.rolled_back.push(id(9));
    let report = world.check(&[1, 2, 9]);
    assert_eq!(report.phantoms.len(), 1);
    assert!(report.phantoms[0].contains("rolled back"), "{report:?}");
}

#[test]
fn an_event_of_unknown_outcome_may_arrive_or_not() {
    let mut world = World::new(&[1, 2]);
    world.ledger.unknown.push(written(3));
    world.check(&[1, 2, 3]).assert_clean();
    world.check(&[1, 2]).assert_clean();
}

#[test]
fn a_jump_ahead_is_disorder_even_when_the_rest_follows() {
    let world = World::new(&[1, 2, 3, 4]);
    assert!(!world.check(&[1, 3, 2, 3, 4]).disorder.is_empty());
    assert!(!world.check(&[1, 2, 3, 2, 4]).disorder.is_empty());
}

#[test]
fn two_aggregates_in_one_partition_are_ordered_by_commit() {
    let mut world = World::new(&[1, 2]);
    world.ledger.committed.push(Written {
        aggregate: "other".to_owned(),
        version: 1,
        ..written(7)
    });
    world.check(&[1, 2, 7]).assert_clean();
    assert!(!world.check(&[1, 7, 2]).disorder.is_empty());
}

#[test]
fn an_aggregate_in_two_partitions_is_disorder() {
    let world = World::new(&[1, 2]);
    let mut records = records(&[1, 2]);
    records[1].partition = 1;
    assert!(!check(&[&world.ledger], &records).disorder.is_empty());
}

/// One aggregate whose versions are the numbers of its events.
struct World {
    ledger: Ledger,
}

impl World {
    fn new(committed: &[u64]) -> Self {
        let committed = committed.iter().copied().map(written).collect();
        Self {
            ledger: Ledger {
                committed,
                ..Ledger::default()
            },
        }
    }

    fn check(&self, arrived: &[u64]) -> Report {
        check(&[&self.ledger], &records(arrived))
    }
}

fn records(arrived: &[u64]) -> Vec<Record> {
    let record = |(event, offset): (&u64, i64)| Record {
        offset,
        key: Some(id(*event).to_string().into_bytes()),
        ..Record::default()
    };
    arrived.iter().zip(0..).map(record).collect()
}

fn written(event: u64) -> Written {
    Written {
        id: id(event),
        aggregate: "one".to_owned(),
        version: event,
    }
}

fn id(event: u64) -> Uuid {
    Uuid::from_u128(event.into())
}
