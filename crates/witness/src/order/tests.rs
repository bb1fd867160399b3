//! Histories with each anomaly planted, and the clean ones beside them.

use super::*;
use crate::history::{Commit, Expected, Lsn, Rules, Sample};

#[test]
fn a_clean_history_is_clean() {
    let world = World::new(5);
    let verdict = world.judge(&[1, 2, 3, 4, 5]);
    assert_eq!(verdict.anomalies, []);
    assert_eq!(
        (verdict.events, verdict.records, verdict.duplicates),
        (5, 5, 0)
    );
    assert!(
        verdict
            .to_string()
            .ends_with("nothing lost, made up, altered or out of order")
    );
}

#[test]
fn a_repeated_suffix_is_clean_and_counted() {
    let verdict = World::new(5).judge(&[1, 2, 3, 4, 3, 4, 2, 3, 4, 5]);
    assert_eq!(verdict.anomalies, []);
    assert_eq!(verdict.duplicates, 5);
}

#[test]
fn an_event_that_is_in_no_record_is_lost() {
    World::new(3).assert_finds(&[1, 2], &[Kind::Lost]);
    World::new(3).assert_finds(&[1, 3], &[Kind::Lost]);
    World::new(3).assert_finds(&[], &[Kind::Lost, Kind::Lost, Kind::Lost]);
}

#[test]
fn a_record_that_nobody_committed_is_made_up() {
    World::new(1).assert_finds(&[1, 8], &[Kind::Phantom]);
    let mut world = World::new(1);
    world.history.rolled_back.insert(id(9));
    world.assert_finds(&[1, 9], &[Kind::Phantom]);
    let mut world = World::new(1);
    let mut nameless = record(2, 1);
    nameless.key = None;
    nameless.headers.clear();
    world.history.records = vec![record(1, 0), nameless];
    assert_eq!(world.kinds(), [Kind::Phantom]);
}

#[test]
fn an_event_of_unknown_outcome_may_arrive_or_not() {
    let mut world = World::new(1);
    world.history.unknown.insert(id(8));
    world.assert_finds(&[1, 8], &[]);
    world.assert_finds(&[1], &[]);
}

#[test]
fn a_record_with_another_key_value_header_or_topic_is_found() {
    let plant = |alter: fn(&mut Record), kind| {
        let mut world = World::new(2);
        world.history.records = vec![record(1, 0), record(2, 1)];
        alter(&mut world.history.records[1]);
        assert_eq!(world.kinds(), [kind]);
    };
    plant(|record| record.key = Some(b"other".to_vec()), Kind::Key);
    plant(|record| record.value = Some(b"2 ".to_vec()), Kind::Value);
    plant(|record| record.value = None, Kind::Value);
    plant(
        |record| record.headers[1].1 = Some(b"other".to_vec()),
        Kind::Headers,
    );
    plant(|record| drop(record.headers.remove(1)), Kind::Headers);
    plant(
        |record| record.headers.push(("more".to_owned(), None)),
        Kind::Headers,
    );
    plant(|record| record.topic = "other".to_owned(), Kind::Topic);
}

#[test]
fn a_position_that_is_not_of_the_commit_is_found() {
    let plant = |stamp: usize, value: &str| {
        let mut world = World::new(2);
        world.history.records = vec![record(1, 0), record(2, 1)];
        world.history.records[1].headers[stamp].1 = Some(value.as_bytes().to_owned());
        assert_eq!(world.kinds(), [Kind::Stamp], "{value}");
    };
    // Event 2 is the first one of the commit from 10 to 20.
    let (position, time) = (2, 3);
    plant(position, "0000000000000014/00000000");
    plant(position, "0000000000000009/00000000");
    plant(position, "0000000000000010/00000001");
    plant(position, "nonsense");
    plant(time, "2026-01-31T12:00:00.000003Z");
}

#[test]
fn a_repeat_with_another_position_is_found() {
    let mut world = World::new(1);
    world.history.records = vec![record(1, 0), record(1, 1)];
    let position = b"0000000000000007/00000000".to_vec();
    world.history.records[1].headers[2].1 = Some(position);
    assert_eq!(world.kinds(), [Kind::Stamp]);
}

#[test]
fn an_event_that_arrives_after_a_later_one_was_overtaken() {
    World::new(4).assert_finds(&[1, 3, 2, 3, 4], &[Kind::Overtaken]);
    World::new(3).assert_finds(&[1, 3, 2, 3], &[Kind::Overtaken]);
    World::new(4).assert_finds(&[2, 1, 2, 3, 4], &[Kind::Overtaken]);
}

#[test]
fn a_swap_is_found_also_without_a_repeat() {
    // 3 overtakes 2, and after 2 nothing that was there comes again.
    World::new(4).assert_finds(&[1, 3, 2, 4], &[Kind::Overtaken, Kind::Torn]);
}

#[test]
fn a_repeat_that_does_not_reach_the_end_is_torn() {
    World::new(4).assert_finds(&[1, 2, 3, 2, 4], &[Kind::Torn]);
    World::new(4).assert_finds(&[1, 2, 3, 4, 2, 3], &[Kind::Torn]);
    World::new(4).assert_finds(&[1, 2, 3, 4, 2], &[Kind::Torn]);
}

#[test]
fn a_late_repeat_is_told_by_its_time_where_it_may_be() {
    // The next producer has sent everything when 2 of the dead one arrives.
    let mut world = World::new(4);
    let arrived = [(1, 10), (2, 50), (3, 50), (2, 11), (4, 51)];
    world.history.records = timed(&arrived);
    assert_eq!(world.kinds(), [Kind::Torn]);
    world.history.rules.late_repeats = true;
    assert_eq!(world.kinds(), []);
    assert_eq!(judge(&world.history).late, 1);
    // One that the next producer made itself is not late.
    world.history.records = timed(&[(1, 10), (2, 50), (3, 50), (2, 51), (4, 51)]);
    assert_eq!(world.kinds(), [Kind::Torn]);
    // The dead one's first try arrives amid the second one: what counts is the second.
    let amid = [
        (1, 10),
        (2, 10),
        (1, 50),
        (3, 11),
        (2, 51),
        (3, 51),
        (4, 51),
    ];
    world.history.records = timed(&amid);
    assert_eq!(world.kinds(), []);
    assert_eq!(judge(&world.history).late, 1);
    let once = amid.iter().filter(|record| **record != (3, 51));
    world.history.records = timed(&once.copied().collect::<Vec<_>>());
    assert_eq!(world.kinds(), [Kind::Torn, Kind::Torn]);
    // What was there never before can't be a late repeat.
    world.history.records = timed(&[(1, 10), (3, 50), (2, 11), (3, 51), (4, 51)]);
    assert_eq!(world.kinds(), [Kind::Overtaken]);
}

#[test]
fn a_relay_that_could_not_know_that_it_had_lost_the_slot_repeats_late() {
    let mut world = World::new(4);
    world.history.records = timed(&[(1, 10), (2, 50), (3, 50), (2, 60), (4, 70)]);
    world.history.samples = vec![sample(20, 3, 55)];
    world.history.rules.late_repeats = true;
    assert_eq!(world.kinds(), [Kind::Torn, Kind::Needless]);
    world.history.rules.unaware = vec![(58, 62)];
    assert_eq!(world.kinds(), []);
    // It makes nothing right that is there for the first time.
    world.history.records = timed(&[(1, 10), (3, 50), (2, 60), (3, 70), (4, 70)]);
    world.history.samples.clear();
    assert_eq!(world.kinds(), [Kind::Overtaken]);
}

#[test]
fn commits_of_several_aggregates_in_a_partition_are_in_the_order_of_the_witness() {
    let mut world = World::new(4);
    for event in &mut world.history.lines[0] {
        event.aggregate = Some(event.id.to_string());
        event.version = None;
    }
    world.assert_finds(&[1, 2, 3, 4], &[]);
    world.assert_finds(&[1, 3, 2, 3, 4], &[Kind::Overtaken]);
}

#[test]
fn lines_of_several_writers_have_no_order_between_them() {
    let mut world = World::new(4);
    let other = world.history.lines[0].split_off(2);
    world.history.lines.push(other);
    world.history.lines[1][0].aggregate = Some("other".to_owned());
    world.history.lines[1][1].aggregate = Some("other".to_owned());
    world.assert_finds(&[3, 1, 4, 2], &[]);
    world.assert_finds(&[4, 1, 3, 4, 2], &[Kind::Overtaken]);
}

#[test]
fn an_aggregate_in_two_partitions_has_moved() {
    let mut world = World::new(2);
    world.history.records = vec![record(1, 0), record(2, 0)];
    world.history.records[1].partition = 3;
    assert_eq!(world.kinds(), [Kind::Moved]);
}

#[test]
fn a_record_outside_of_the_partition_of_its_hash_is_misplaced() {
    // murmur2("21") is -973932308: without the sign 1173551340.
    let mut world = World::new(2);
    for event in &mut world.history.lines[0] {
        event.aggregate = Some("21".to_owned());
    }
    let mut records = vec![record(1, 0), record(2, 1)];
    for record in &mut records {
        record.partition = 1_173_551_340 % 7;
    }
    world.history.records = records;
    world.history.rules.partition_counts = vec![7];
    assert_eq!(world.kinds(), []);
    world.history.rules.partition_counts = vec![4, 11];
    assert_eq!(world.kinds(), [Kind::Misplaced, Kind::Misplaced]);
    world.history.rules.partition_counts = vec![4, 7];
    assert_eq!(world.kinds(), []);
}

#[test]
fn what_moved_when_the_topic_grew_is_not_missed_in_its_first_partition() {
    // 2 is of an aggregate that the greater count places elsewhere; 1 and 3 stay.
    let mut world = World::new(4);
    for event in &mut world.history.lines[0] {
        event.aggregate = None;
        event.version = None;
    }
    let elsewhere = |event, offset| Record {
        partition: 5,
        ..record(event, offset)
    };
    let kept = [(1, 0), (2, 1), (3, 2), (1, 3), (3, 4), (4, 5)];
    let kept = kept.map(|(event, offset)| record(event, offset));
    world.history.records = kept.to_vec();
    world.history.records.push(elsewhere(2, 0));
    assert_eq!(world.kinds(), []);
    world.history.records.pop();
    assert_eq!(world.kinds(), [Kind::Torn]);
}

/// The records of a first try, by two partitions, arrived in one of them only; the second try is by
/// three.
#[test]
fn what_comes_for_the_first_time_by_another_count_has_not_been_overtaken() {
    let named = |homes: [i32; 2]| {
        let mut names = (0..).map(|number| format!("aggregate {number}"));
        let is_there = |name: &String| {
            [2, 3].map(|count| placement::partition(name.as_bytes(), count)) == homes
        };
        names.find(is_there).expect("there are enough")
    };
    let (mover, stayer) = (named([1, 0]), named([0, 0]));
    for (first, found) in [(&mover, None), (&stayer, Some(Kind::Overtaken))] {
        let mut world = World::new(3);
        world.history.rules.partition_counts = vec![2, 3];
        let aggregates = [first, &stayer, &stayer];
        for (event, aggregate) in world.history.lines[0].iter_mut().zip(aggregates) {
            event.aggregate = Some(aggregate.clone());
            event.version = None;
        }
        let found: Vec<Kind> = found.into_iter().collect();
        world.assert_finds(&[2, 1, 2, 3], &found);
    }
}

#[test]
fn repeats_beyond_the_bound_are_found() {
    let mut world = World::new(3);
    world.history.rules.duplicates_max = Some(2);
    world.assert_finds(&[1, 2, 3, 2, 3], &[]);
    world.assert_finds(&[1, 2, 3, 1, 2, 3], &[Kind::Duplicates]);
}

#[test]
fn a_position_that_is_confirmed_before_an_event_below_it_arrived_is_found() {
    let mut world = World::new(3);
    // Commits end at 10, 20, 30.
    world.history.samples = vec![sample(0, 0, 0), sample(10, 1, 1), sample(29, 2, 2)];
    world.assert_finds(&[1, 2, 3], &[]);
    world.history.samples = vec![sample(20, 1, 1), sample(20, 2, 2)];
    world.assert_finds(&[1, 2, 3], &[Kind::ConfirmedEarly]);
    // In the end everything is there: only the sample shows it.
    world.history.samples = vec![sample(30, 0, 0), sample(30, 3, 9)];
    let early = [Kind::ConfirmedEarly; 3];
    world.assert_finds(&[1, 2, 3], &early);
}

#[test]
fn a_confirmed_event_counts_by_its_first_copy_in_any_partition() {
    let mut world = World::new(1);
    world.history.lines[0][0].aggregate = None;
    world.history.samples = vec![sample(10, 1, 1)];
    let copy = Record {
        partition: 7,
        ..record(1, 0)
    };
    world.history.records = vec![copy, record(1, 0)];
    assert_eq!(world.kinds(), []);
    world.history.records.pop();
    assert_eq!(world.kinds(), [Kind::ConfirmedEarly]);
}

#[test]
fn a_partition_that_a_sample_did_not_know_yet_is_judged_by_the_next_one() {
    let mut world = World::new(1);
    world.history.records = vec![record(1, 5)];
    let knows_nothing = Sample {
        ends: BTreeMap::new(),
        ..sample(10, 0, 0)
    };
    world.history.samples = vec![knows_nothing.clone(), sample(10, 6, 1)];
    assert_eq!(world.kinds(), []);
    world.history.samples = vec![knows_nothing, sample(10, 5, 1)];
    assert_eq!(world.kinds(), [Kind::ConfirmedEarly]);
}

#[test]
fn what_is_sent_again_although_it_was_on_record_is_needless() {
    let mut world = World::new(2);
    world.history.samples = vec![sample(10, 1, 100), sample(10, 1, 200)];
    world.history.records = timed(&[(1, 90), (2, 150), (2, 201)]);
    assert_eq!(world.kinds(), []);
    world.history.records = timed(&[(1, 90), (2, 150), (1, 201), (2, 201)]);
    assert_eq!(world.kinds(), [Kind::Needless]);
    // What was on its way before arrives late, and was not sent again.
    world.history.records = timed(&[(1, 90), (2, 90), (1, 95), (2, 95)]);
    assert_eq!(world.kinds(), []);
}

#[test]
fn who_waits_in_vain_is_told_so() {
    let mut world = World::new(2);
    world.history.caught_up = Some(false);
    world.assert_finds(&[1, 2], &[Kind::NotCaughtUp]);
    world.history.caught_up = Some(true);
    world.history.samples = vec![sample(10, 2, 1)];
    world.assert_finds(&[1, 2], &[Kind::NotConfirmed]);
    world.history.samples = vec![sample(20, 2, 1)];
    world.assert_finds(&[1, 2], &[]);
}

#[test]
fn witnesses_that_disagree_are_not_believed() {
    let mut world = World::new(2);
    world.history.acknowledged = [id(1), id(7)].into();
    world.assert_finds(&[1, 2], &[Kind::Witness]);
    let mut world = World::new(2);
    world.history.rolled_back = [id(2)].into();
    world.assert_finds(&[1, 2], &[Kind::Witness]);
    let mut world = World::new(2);
    world.history.ledger = Some([(id(1), None), (id(2), None)].into());
    world.assert_finds(&[1, 2], &[]);
    world.history.ledger = Some([(id(1), None), (id(3), None)].into());
    world.assert_finds(&[1, 2], &[Kind::Witness, Kind::Witness]);
    let mut world = World::new(2);
    world.history.lines[0][1].version = Some(3);
    world.assert_finds(&[1, 2], &[Kind::Witness]);
}

/// Events of one aggregate, each in a transaction of its own: event n commits at 10 n.
struct World {
    history: History,
}

impl World {
    fn new(events: u64) -> Self {
        let line = (1..=events).map(event).collect();
        Self {
            history: History {
                lines: vec![line],
                rules: Rules::default(),
                ..History::default()
            },
        }
    }

    fn judge(&self, arrived: &[u64]) -> Verdict {
        let mut history = self.history.clone();
        let records = arrived.iter().zip(0..);
        history.records = records
            .map(|(event, offset)| record(*event, offset))
            .collect();
        judge(&history)
    }

    fn kinds(&self) -> Vec<Kind> {
        kinds(&judge(&self.history))
    }

    #[track_caller]
    fn assert_finds(&self, arrived: &[u64], expected: &[Kind]) {
        assert_eq!(kinds(&self.judge(arrived)), expected, "{arrived:?}");
    }
}

fn kinds(verdict: &Verdict) -> Vec<Kind> {
    verdict.anomalies.iter().map(|found| found.kind).collect()
}

fn event(number: u64) -> Event {
    Event {
        id: id(number),
        aggregate: Some("one".to_owned()),
        version: Some(number),
        commit: Some(Commit {
            after: Lsn(number * 10 - 10),
            end: Lsn(number * 10),
            ordinal: 0,
            time: Some("2026-01-31T12:00:00.000002Z".to_owned()),
        }),
        expected: Some(Expected {
            topic: "topic".to_owned(),
            key: id(number).to_string().into_bytes(),
            value: Some(number.to_string().into_bytes()),
            headers: vec![
                ("id".to_owned(), id(number).to_string()),
                ("type".to_owned(), "kind".to_owned()),
            ],
        }),
    }
}

fn record(number: u64, offset: i64) -> Record {
    let headers = [
        ("id", id(number).to_string()),
        ("type", "kind".to_owned()),
        (
            "walpost-position",
            format!("{:016X}/00000000", number * 10 - 5),
        ),
        (
            "walpost-commit-time",
            "2026-01-31T12:00:00.000002Z".to_owned(),
        ),
    ];
    let owned = |(name, value): (&str, String)| (name.to_owned(), Some(value.into_bytes()));
    Record {
        topic: "topic".to_owned(),
        partition: 0,
        offset,
        timestamp: None,
        key: Some(id(number).to_string().into_bytes()),
        value: Some(number.to_string().into_bytes()),
        headers: headers.into_iter().map(owned).collect(),
    }
}

/// Events in the order of their offsets, with the times of their creation.
fn timed(arrived: &[(u64, i64)]) -> Vec<Record> {
    let records = arrived.iter().zip(0..);
    records
        .map(|((event, created), offset)| Record {
            timestamp: Some(*created),
            ..record(*event, offset)
        })
        .collect()
}

/// What is confirmed, the end of the only partition, the time.
fn sample(confirmed: u64, end: i64, at_ms: i64) -> Sample {
    Sample {
        confirmed: Lsn(confirmed),
        ends: [(("topic".to_owned(), 0), end)].into(),
        at_ms,
    }
}

fn id(event: u64) -> Uuid {
    Uuid::from_u128(event.into())
}
