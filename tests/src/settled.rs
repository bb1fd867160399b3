//! What was confirmed at some moments of a run, and must not come again after them.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{Lsn, Record};

/// Moments at which a relay or its server ended, each with what the slot had confirmed by then.
#[derive(Debug, Default)]
pub struct Settled {
    moments: Vec<HashMap<Uuid, usize>>,
}

impl Settled {
    /// Notes a moment: the records that have `arrived` by then, and the slot's position. Returns
    /// how many of them are confirmed and how many are not.
    pub fn note(&mut self, arrived: &[Record], confirmed: Lsn) -> (usize, usize) {
        let is_settled = |record: &&Record| record.commit_lsn() < confirmed;
        let settled = times(arrived.iter().filter(is_settled));
        let count = settled.values().sum();
        self.moments.push(settled);
        (count, arrived.len() - count)
    }

    /// Looks for what was confirmed at one of the moments and came again after it. `records` are
    /// those of the whole run.
    ///
    /// # Panics
    ///
    /// When there is such an event.
    #[track_caller]
    pub fn assert_final(&self, records: &[Record]) {
        let times = times(records);
        for (number, settled) in (1..).zip(&self.moments) {
            let again = settled
                .iter()
                .filter(|(id, before)| times.get(id) != Some(before));
            let again: Vec<_> = again.map(|(id, _)| id).collect();
            assert!(again.is_empty(), "after moment {number}: {again:?}");
        }
    }
}

/// How often each event is among the records.
fn times<'a>(records: impl IntoIterator<Item = &'a Record>) -> HashMap<Uuid, usize> {
    let mut times = HashMap::new();
    for id in records.into_iter().filter_map(Record::event_id) {
        *times.entry(id).or_default() += 1;
    }
    times
}
