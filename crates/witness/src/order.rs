//! The judgement: what is there at all, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    content,
    history::{Event, History, Version},
    placement, progress,
    record::Record,
    verdict::{Kind, Verdict},
    versions,
    walk::{Step, walk},
};

/// Finds everything that a history should not have in it.
pub fn judge(history: &History) -> Verdict {
    let facts = Facts::of(history);
    let mut verdict = Verdict {
        events: facts.events.len(),
        records: facts.arrivals.len(),
        ..Verdict::default()
    };
    judge_witnesses(history, &facts, &mut verdict);
    judge_presence(history, &facts, &mut verdict);
    judge_repeats(history, &facts, &mut verdict);
    judge_places(history, &facts, &mut verdict);
    judge_order(history, &facts, &mut verdict);
    versions::judge(history, &mut verdict);
    content::judge(&facts, &mut verdict);
    progress::judge(history, &facts, &mut verdict);
    verdict
}

/// The committed events by id, and the records of them.
pub(crate) struct Facts<'a> {
    pub(crate) events: BTreeMap<Uuid, Fact<'a>>,
    /// Records of committed events, by partition and offset.
    pub(crate) arrivals: Vec<Arrival<'a>>,
    /// Records of no committed event.
    strangers: Vec<&'a Record>,
}

#[derive(Clone, Copy)]
pub(crate) struct Fact<'a> {
    pub(crate) event: &'a Event,
    /// The line that it is in.
    line: usize,
    /// Its place there.
    rank: u64,
}

pub(crate) struct Arrival<'a> {
    pub(crate) record: &'a Record,
    pub(crate) fact: Fact<'a>,
}

impl<'a> Arrival<'a> {
    fn step(&self) -> Step<'a> {
        Step {
            record: self.record,
            rank: self.fact.rank,
            id: self.fact.event.id,
        }
    }
}

impl<'a> Facts<'a> {
    fn of(history: &'a History) -> Self {
        let mut events = BTreeMap::new();
        for (line, list) in history.lines.iter().enumerate() {
            for (event, rank) in list.iter().zip(0..) {
                events.insert(event.id, Fact { event, line, rank });
            }
        }
        let mut sorted: Vec<&Record> = history.records.iter().collect();
        sorted.sort_by_key(|record| (&record.topic, record.partition, record.offset));
        let (mut arrivals, mut strangers) = (Vec::new(), Vec::new());
        for record in sorted {
            match record.event_id().and_then(|id| events.get(&id)) {
                Some(fact) => arrivals.push(Arrival {
                    record,
                    fact: *fact,
                }),
                None => strangers.push(record),
            }
        }
        Self {
            events,
            arrivals,
            strangers,
        }
    }

    /// The arrivals of each partition, in the order of their offsets.
    fn by_partition(&self) -> BTreeMap<(&'a str, i32), Vec<&Arrival<'a>>> {
        let mut partitions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for arrival in &self.arrivals {
            let Record {
                topic, partition, ..
            } = arrival.record;
            let place = (topic.as_str(), *partition);
            partitions.entry(place).or_default().push(arrival);
        }
        partitions
    }
}

/// What the writers were told, the ledger and the witness have to be the same.
fn judge_witnesses(history: &History, facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut disagree = |id: &Uuid, what: &str| {
        verdict.add(Kind::Witness, format!("{id}: {what}"));
    };
    for id in &history.acknowledged {
        if !facts.events.contains_key(id) {
            disagree(id, "its commit was acknowledged, and it is not there");
        }
    }
    for id in &history.rolled_back {
        if facts.events.contains_key(id) {
            disagree(id, "it was rolled back, and is there");
        }
    }
    if let Some(ledger) = &history.ledger {
        let seen: BTreeSet<&Uuid> = facts.events.keys().collect();
        let written: BTreeSet<&Uuid> = ledger.keys().collect();
        for id in written.difference(&seen) {
            disagree(id, "it is in the ledger only");
        }
        for id in seen.difference(&written) {
            disagree(id, "it is not in the ledger");
        }
    }
    for line in &history.lines {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for event in line {
            let Some(Version { aggregate, number }) = history.version(event) else {
                continue;
            };
            let before = last.insert(aggregate.clone(), number);
            if let Some(before) = before.filter(|before| number != before + 1) {
                let what = format!("version {number} of {aggregate} follows {before}");
                disagree(&event.id, &what);
            }
        }
    }
}

fn judge_presence(history: &History, facts: &Facts<'_>, verdict: &mut Verdict) {
    let arrived: BTreeSet<Uuid> = facts
        .arrivals
        .iter()
        .map(|arrival| arrival.fact.event.id)
        .collect();
    for id in history.lines.iter().flatten().map(|event| event.id) {
        if !arrived.contains(&id) {
            verdict.add(Kind::Lost, id.to_string());
        }
    }
    for record in &facts.strangers {
        let place = record.place();
        match record.event_id() {
            None => verdict.add(Kind::Phantom, format!("no event id, {place}")),
            Some(id) if history.rolled_back.contains(&id) => {
                verdict.add(Kind::Phantom, format!("{id} was rolled back, {place}"));
            }
            Some(id) if history.unknown.contains(&id) => {}
            Some(id) => verdict.add(Kind::Phantom, format!("{id} is unknown, {place}")),
        }
    }
}

fn judge_repeats(history: &History, facts: &Facts<'_>, verdict: &mut Verdict) {
    // Events of unknown outcome repeat too.
    let ids: Vec<Uuid> = history
        .records
        .iter()
        .filter_map(Record::event_id)
        .collect();
    let unique: BTreeSet<&Uuid> = ids.iter().collect();
    verdict.duplicates = ids.len() - unique.len();
    if let Some(max) = history.rules.duplicates_max
        && verdict.duplicates > max
    {
        let mut counts: BTreeMap<Uuid, usize> = BTreeMap::new();
        for arrival in &facts.arrivals {
            *counts.entry(arrival.fact.event.id).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or_default();
        let what = format!(
            "{} repeats, {max} are allowed; one event arrived {most} times",
            verdict.duplicates
        );
        verdict.add(Kind::Duplicates, what);
    }
}

fn judge_places(history: &History, facts: &Facts<'_>, verdict: &mut Verdict) {
    let counts = &history.rules.partition_counts;
    let mut homes: BTreeMap<(&str, &str), i32> = BTreeMap::new();
    for Arrival { record, fact } in &facts.arrivals {
        let Some(aggregate) = &fact.event.aggregate else {
            continue;
        };
        let is = record.partition;
        if counts.is_empty() {
            let home = *homes.entry((&record.topic, aggregate)).or_insert(is);
            if home != is {
                let what = format!("aggregate {aggregate} is in partitions {home} and {is}");
                verdict.add(Kind::Moved, what);
            }
        } else {
            let fits = |count: &u32| placement::partition(aggregate.as_bytes(), *count) == is;
            if !counts.iter().any(fits) {
                let what = format!("aggregate {aggregate}, {}", record.place());
                verdict.add(Kind::Misplaced, what);
            }
        }
    }
}

fn judge_order(history: &History, facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut places: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
    for Arrival { record, fact } in &facts.arrivals {
        let of_event = places.entry(fact.event.id).or_default();
        of_event.insert(record.partition);
    }
    // What arrived in a second partition, because the topic had others in between, is not repeated
    // in the first one.
    let is_elsewhere = |id: &Uuid| places.get(id).is_some_and(|places| places.len() > 1);
    let counts = &history.rules.partition_counts;
    for ((topic, partition), arrivals) in facts.by_partition() {
        // Its place by another count: what the first try with the one count brought here is
        // followed by the whole of the second try with the other.
        let may_move = |id: &Uuid| {
            let fact = facts.events.get(id);
            let aggregate = fact.and_then(|fact| fact.event.aggregate.as_ref());
            aggregate.is_some_and(|aggregate| {
                let home = |count: &u32| placement::partition(aggregate.as_bytes(), *count);
                counts.iter().any(|count| home(count) != partition)
            })
        };
        for line in 0..history.lines.len() {
            let arrivals = arrivals.iter().filter(|arrival| arrival.fact.line == line);
            let steps: Vec<Step<'_>> = arrivals.map(|arrival| arrival.step()).collect();
            let events = steps.iter().map(|step| (step.rank, step.id)).collect();
            let walked = walk(events, &steps, &history.rules, is_elsewhere, may_move);
            verdict.late += walked.late;
            for (kind, what) in walked.found {
                verdict.add(kind, format!("partition {topic}-{partition}: {what}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
