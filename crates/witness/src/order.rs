//! The judgement: what is there at all, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    content,
    history::{Event, History, Rules},
    placement, progress,
    record::Record,
    verdict::{Kind, Verdict},
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
    rank: usize,
}

pub(crate) struct Arrival<'a> {
    pub(crate) record: &'a Record,
    pub(crate) fact: Fact<'a>,
}

impl<'a> Facts<'a> {
    fn of(history: &'a History) -> Self {
        let mut events = BTreeMap::new();
        for (line, list) in history.lines.iter().enumerate() {
            for (rank, event) in list.iter().enumerate() {
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
        let seen: BTreeSet<Uuid> = facts.events.keys().copied().collect();
        for id in ledger.difference(&seen) {
            disagree(id, "it is in the ledger only");
        }
        for id in seen.difference(ledger) {
            disagree(id, "it is not in the ledger");
        }
    }
    for line in &history.lines {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for event in line {
            let (Some(aggregate), Some(version)) = (&event.aggregate, event.version) else {
                continue;
            };
            let before = last.insert(aggregate, version);
            if let Some(before) = before.filter(|before| version != before + 1) {
                let what = format!("version {version} of {aggregate} follows {before}");
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
    for ((topic, partition), arrivals) in facts.by_partition() {
        for line in 0..history.lines.len() {
            let arrivals: Vec<&Arrival<'_>> = arrivals
                .iter()
                .filter(|arrival| arrival.fact.line == line)
                .copied()
                .collect();
            let mut walk = Walk::new(&arrivals, &history.rules);
            for arrival in &arrivals {
                walk.step(arrival, &is_elsewhere);
            }
            walk.end(&is_elsewhere);
            verdict.late += walk.late;
            for (kind, what) in walk.found {
                verdict.add(kind, format!("partition {topic}-{partition}: {what}"));
            }
        }
    }
}

/// Along the offsets of a partition, over the events that it has, in the order of their commits.
///
/// An event is followed by the next one, or by any one from before, from which it goes on one by
/// one again: a repeat is a suffix. What is left out on the way forward was either never there yet,
/// and then it was overtaken, or it was, and then the repeat is torn.
struct Walk<'a> {
    /// The ranks of the events, dense: the partition's own.
    dense: BTreeMap<usize, usize>,
    ids: Vec<Uuid>,
    seen: Vec<bool>,
    /// What has to come, unless it goes back.
    next: usize,
    rules: &'a Rules,
    newest: Option<i64>,
    late: usize,
    last: Option<&'a Record>,
    found: Vec<(Kind, String)>,
}

impl<'a> Walk<'a> {
    fn new(arrivals: &[&Arrival<'a>], rules: &'a Rules) -> Self {
        let ranks: BTreeMap<usize, Uuid> = arrivals
            .iter()
            .map(|arrival| (arrival.fact.rank, arrival.fact.event.id))
            .collect();
        Self {
            dense: ranks.keys().copied().zip(0..).collect(),
            seen: vec![false; ranks.len()],
            ids: ranks.into_values().collect(),
            next: 0,
            rules,
            newest: None,
            late: 0,
            last: None,
            found: Vec::new(),
        }
    }

    fn step(&mut self, arrival: &Arrival<'a>, is_elsewhere: &impl Fn(&Uuid) -> bool) {
        let record = arrival.record;
        let index = self.dense[&arrival.fact.rank];
        let is_repeat = self.seen[index] || is_elsewhere(&self.ids[index]);
        let is_old = record.timestamp < self.newest || self.rules.is_unaware(record.timestamp);
        if self.rules.late_repeats && is_repeat && is_old {
            self.late += 1;
            return;
        }
        self.newest = self.newest.max(record.timestamp);
        if index > self.next {
            self.judge_jump(index, record, is_elsewhere);
        }
        self.seen[index] = true;
        self.next = index + 1;
        self.last = Some(record);
    }

    fn judge_jump(&mut self, index: usize, record: &Record, is_elsewhere: &impl Fn(&Uuid) -> bool) {
        let left_out = self.next..index;
        let mut missing = left_out.filter(|one| !is_elsewhere(&self.ids[*one]));
        let Some(first) = missing.next() else {
            return;
        };
        let rest: Vec<usize> = missing.collect();
        let unseen = std::iter::once(first)
            .chain(rest)
            .find(|one| !self.seen[*one]);
        let (kind, id) = match unseen {
            Some(one) => (Kind::Overtaken, self.ids[one]),
            None => (Kind::Torn, self.ids[first]),
        };
        let what = format!(
            "{} at offset {} where {id} was next",
            self.ids[index], record.offset
        );
        self.found.push((kind, what));
    }

    fn end(&mut self, is_elsewhere: &impl Fn(&Uuid) -> bool) {
        let mut left = self.ids[self.next..].iter();
        if let Some(id) = left.find(|id| !is_elsewhere(id)) {
            let offset = self.last.map_or(0, |record| record.offset);
            let what = format!("ends with a repeat at offset {offset}, before {id} comes again");
            self.found.push((Kind::Torn, what));
        }
    }
}

#[cfg(test)]
mod tests;
