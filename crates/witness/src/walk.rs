//! Along the records of something that has an order.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{history::Rules, record::Record, verdict::Kind};

/// A record, and the place of its event in the order.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) record: &'a Record,
    pub(crate) rank: u64,
    pub(crate) id: Uuid,
}

/// What a walk came upon.
pub(crate) struct Walked {
    pub(crate) found: Vec<(Kind, String)>,
    /// Repeats that came late.
    pub(crate) late: usize,
}

/// Walks along the steps, over the events that should be there, by their ranks.
///
/// An event is followed by the next one, or by any one from before, from which it goes on one by
/// one again: a repeat is a suffix. What is left out on the way forward was either never there yet,
/// and then it was overtaken, or it was, and then the repeat is torn. What `is_elsewhere` too need
/// not be here, nor what `may_move`.
pub(crate) fn walk(
    events: BTreeMap<u64, Uuid>,
    steps: &[Step<'_>],
    rules: &Rules,
    is_elsewhere: impl Fn(&Uuid) -> bool,
    may_move: impl Fn(&Uuid) -> bool,
) -> Walked {
    let need_not_be_here = |id: &Uuid| is_elsewhere(id) || may_move(id);
    let mut walk = Walk {
        dense: events.keys().copied().zip(0..).collect(),
        seen: vec![false; events.len()],
        ids: events.into_values().collect(),
        next: 0,
        rules,
        newest: None,
        last: None,
        walked: Walked {
            found: Vec::new(),
            late: 0,
        },
    };
    let last: BTreeMap<Uuid, usize> = (0..)
        .zip(steps)
        .map(|(place, step)| (step.id, place))
        .collect();
    for (place, step) in (0..).zip(steps) {
        // Of a late one it does not matter whether the first try had been here, or is this one.
        let is_twice = |id: &Uuid| is_elsewhere(id) || last.get(id).is_some_and(|at| *at > place);
        walk.step(step, &is_twice, &need_not_be_here);
    }
    walk.end(&need_not_be_here);
    walk.walked
}

struct Walk<'a> {
    /// The ranks of the events, dense.
    dense: BTreeMap<u64, usize>,
    ids: Vec<Uuid>,
    seen: Vec<bool>,
    /// What has to come, unless it goes back.
    next: usize,
    rules: &'a Rules,
    newest: Option<i64>,
    last: Option<&'a Record>,
    walked: Walked,
}

impl<'a> Walk<'a> {
    fn step(
        &mut self,
        step: &Step<'a>,
        is_twice: &impl Fn(&Uuid) -> bool,
        need_not_be_here: &impl Fn(&Uuid) -> bool,
    ) {
        let record = step.record;
        let index = self.dense[&step.rank];
        let is_repeat = self.seen[index] || is_twice(&self.ids[index]);
        let is_old = record.timestamp < self.newest || self.rules.is_unaware(record.timestamp);
        if self.rules.late_repeats && is_repeat && is_old {
            self.walked.late += 1;
            return;
        }
        self.newest = self.newest.max(record.timestamp);
        if index > self.next {
            self.judge_jump(index, record, need_not_be_here);
        }
        self.seen[index] = true;
        self.next = index + 1;
        self.last = Some(record);
    }

    fn judge_jump(
        &mut self,
        index: usize,
        record: &Record,
        need_not_be_here: &impl Fn(&Uuid) -> bool,
    ) {
        let left_out = self.next..index;
        let mut missing = left_out.filter(|one| !need_not_be_here(&self.ids[*one]));
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
        self.walked.found.push((kind, what));
    }

    fn end(&mut self, need_not_be_here: &impl Fn(&Uuid) -> bool) {
        let mut left = self.ids[self.next..].iter();
        if let Some(id) = left.find(|id| !need_not_be_here(id)) {
            let offset = self.last.map_or(0, |record| record.offset);
            let what = format!("ends with a repeat at offset {offset}, before {id} comes again");
            self.walked.found.push((Kind::Torn, what));
        }
    }
}
