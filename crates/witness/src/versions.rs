//! The order of each aggregate, by the versions that its writers counted.
//!
//! Who changes an aggregate locks its row, counts the row's version up, and writes the version
//! beside the event's id into the ledger, all of it in the event's own transaction. So the versions
//! are in the order of the commits, whoever wrote, and no slot has to be asked for it: ledger and
//! topics are enough.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    history::{History, Version},
    verdict::{Kind, Verdict},
    walk::{Step, walk},
};

/// In each partition the versions of an aggregate go up one by one, but for repeats of its end.
pub(crate) fn judge(history: &History, verdict: &mut Verdict) {
    let ledger: BTreeMap<&Uuid, &Version> = match &history.ledger {
        Some(ledger) => ledger
            .iter()
            .filter_map(|(id, version)| Some((id, version.as_ref()?)))
            .collect(),
        None => return,
    };
    let aggregates = aggregates(&ledger, verdict);
    let mut places: BTreeMap<Uuid, BTreeSet<Place<'_>>> = BTreeMap::new();
    let mut lines: BTreeMap<(Place<'_>, &str), Vec<Step<'_>>> = BTreeMap::new();
    for record in &history.records {
        let Some(id) = record.event_id() else {
            continue;
        };
        let Some(version) = ledger.get(&id) else {
            continue;
        };
        let place = (record.topic.as_str(), record.partition);
        places.entry(id).or_default().insert(place);
        let line = lines.entry((place, &version.aggregate)).or_default();
        let rank = version.number;
        line.push(Step { record, rank, id });
    }
    for ((place, aggregate), mut steps) in lines {
        steps.sort_by_key(|step| step.record.offset);
        // An event that nobody has is a hole wherever something behind it is.
        let last = steps.iter().map(|step| step.rank).max().unwrap_or_default();
        let events = aggregates[aggregate]
            .range(..=last)
            .map(|(number, id)| (*number, *id))
            .collect();
        // The topic had others before the aggregate moved, or its events go to several.
        let is_elsewhere = |id: &Uuid| {
            let places = places.get(id).into_iter().flatten();
            places.into_iter().any(|other| *other != place)
        };
        let (topic, partition) = place;
        let walked = walk(events, &steps, &history.rules, is_elsewhere, |_| false);
        for (_, what) in walked.found {
            let what = format!("{aggregate} in partition {topic}-{partition}: {what}");
            verdict.add(Kind::Miscounted, what);
        }
    }
}

/// A topic and a partition of it.
type Place<'a> = (&'a str, i32);

/// The events of each aggregate by their versions. A ledger with a hole in them, or with one twice,
/// was not written as it should be.
fn aggregates<'a>(
    ledger: &BTreeMap<&Uuid, &'a Version>,
    verdict: &mut Verdict,
) -> BTreeMap<&'a str, BTreeMap<u64, Uuid>> {
    let mut aggregates: BTreeMap<&str, BTreeMap<u64, Uuid>> = BTreeMap::new();
    for (id, version) in ledger {
        let Version { aggregate, number } = version;
        let events = aggregates.entry(aggregate).or_default();
        if let Some(other) = events.insert(*number, **id) {
            let what = format!("{id} and {other} are both version {number} of {aggregate}");
            verdict.add(Kind::Witness, what);
        }
    }
    for (aggregate, events) in &aggregates {
        for (before, after) in events.keys().zip(events.keys().skip(1)) {
            if *after != before + 1 {
                let what = format!("version {after} of {aggregate} follows {before} in the ledger");
                verdict.add(Kind::Witness, what);
            }
        }
    }
    aggregates
}

#[cfg(test)]
mod tests;
