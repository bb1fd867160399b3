//! What was confirmed, against what had arrived by then.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    history::{History, Lsn, Sample},
    order::Facts,
    verdict::{Kind, Verdict},
};

pub(crate) fn judge(history: &History, facts: &Facts<'_>, verdict: &mut Verdict) {
    verdict.samples = history.samples.len();
    if history.caught_up == Some(false) {
        let what = format!("{} of {} had arrived", arrived(facts), facts.events.len());
        verdict.add(Kind::NotCaughtUp, what);
    }
    judge_confirmed(history, facts, verdict);
    judge_needless(history, facts, verdict);
    judge_last(history, verdict);
}

fn arrived(facts: &Facts<'_>) -> usize {
    let ids = facts.arrivals.iter().map(|arrival| arrival.fact.event.id);
    ids.collect::<std::collections::BTreeSet<_>>().len()
}

/// Each event whose commit ends at a confirmed position or before it has to be below the ends that
/// were read after that position.
fn judge_confirmed(history: &History, facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut offsets: BTreeMap<Uuid, Vec<(&str, i32, i64)>> = BTreeMap::new();
    for arrival in &facts.arrivals {
        let (record, id) = (arrival.record, arrival.fact.event.id);
        let place = (record.topic.as_str(), record.partition, record.offset);
        offsets.entry(id).or_default().push(place);
    }
    let mut events: Vec<(Lsn, Uuid)> = history
        .lines
        .iter()
        .flatten()
        .filter_map(|event| Some((event.commit.as_ref()?.end, event.id)))
        .collect();
    events.sort_unstable();
    let mut waiting = events.as_slice();
    let mut unjudged = Vec::new();
    for sample in &history.samples {
        // What had arrived at one sample has at each later one.
        let (below, above) =
            waiting.split_at(waiting.partition_point(|(end, _)| *end <= sample.confirmed));
        waiting = above;
        let judged = std::mem::take(&mut unjudged);
        for (end, id) in judged.into_iter().chain(below.iter().copied()) {
            let places = offsets.get(&id).map(Vec::as_slice).unwrap_or_default();
            if places.iter().any(|place| is_below(place, sample)) {
                continue;
            }
            let is_known = |place| sample.ends.contains_key(&key(place));
            if places.iter().all(is_known) {
                let what = format!(
                    "{id}, committed until {end}, had not arrived when {} was confirmed ({} ms)",
                    sample.confirmed, sample.at_ms
                );
                verdict.add(Kind::ConfirmedEarly, what);
            } else {
                // The partition is new: who took the sample did not know it yet.
                unjudged.push((end, id));
            }
        }
    }
    for (end, id) in unjudged {
        let what = format!("{id}, committed until {end}, is in a partition that no sample knows");
        verdict.add(Kind::ConfirmedEarly, what);
    }
}

fn is_below(place: &(&str, i32, i64), sample: &Sample) -> bool {
    let end = sample.ends.get(&key(place));
    end.is_some_and(|end| place.2 < *end)
}

fn key((topic, partition, _): &(&str, i32, i64)) -> (String, i32) {
    ((*topic).to_owned(), *partition)
}

/// No record was created for an event whose position had been on record before.
fn judge_needless(history: &History, facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut highest = Lsn::default();
    let on_record: Vec<(i64, Lsn)> = history
        .samples
        .iter()
        .map(|sample| {
            highest = highest.max(sample.confirmed);
            (sample.at_ms, highest)
        })
        .collect();
    for arrival in &facts.arrivals {
        let (Some(created), Some(commit)) = (arrival.record.timestamp, &arrival.fact.event.commit)
        else {
            continue;
        };
        if history.rules.is_unaware(Some(created)) {
            continue;
        }
        let before = on_record.partition_point(|(at, _)| *at < created);
        let confirmed = before.checked_sub(1).map(|last| on_record[last]);
        if let Some((at, confirmed)) = confirmed.filter(|(_, lsn)| *lsn >= commit.end) {
            let what = format!(
                "{}, {}: sent at {created} ms, committed until {}, and {confirmed} was on record \
                 at {at} ms",
                arrival.fact.event.id,
                arrival.record.place(),
                commit.end
            );
            verdict.add(Kind::Needless, what);
        }
    }
}

/// Whoever waited until everything had arrived waits for the position too.
fn judge_last(history: &History, verdict: &mut Verdict) {
    let (Some(true), Some(last)) = (history.caught_up, history.samples.last()) else {
        return;
    };
    let events = history.lines.iter().flatten();
    let end = events
        .filter_map(|event| Some(event.commit.as_ref()?.end))
        .max();
    if let Some(end) = end.filter(|end| *end > last.confirmed) {
        let what = format!(
            "the last commit ends at {end}, confirmed is {}",
            last.confirmed
        );
        verdict.add(Kind::NotConfirmed, what);
    }
}
