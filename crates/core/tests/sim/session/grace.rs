//! A checkpoint that can't be written holds positions back for so long and no longer.

use std::collections::VecDeque;
use std::time::Duration;

use walpost_pgoutput::Lsn;

/// What is due to be written, as it is seen from outside.
#[derive(Debug, Default)]
pub(super) struct Grace {
    /// Commits whose events have left, and that are not on record.
    sent: VecDeque<Lsn>,
    /// Since when one of them is confirmed, in milliseconds.
    due_since: Option<u64>,
}

impl Grace {
    /// An event of that commit leaves.
    pub(super) fn sent(&mut self, commit: Lsn) {
        if self.sent.back().is_none_or(|last| *last < commit) {
            self.sent.push_back(commit);
        }
    }

    /// The row was written.
    pub(super) fn recorded(&mut self, lsn: Lsn) {
        self.due_since = None;
        while self.sent.pop_front_if(|commit| *commit < lsn).is_some() {}
    }

    /// Whether what is confirmed is to be told without the row.
    pub(super) fn is_over(&mut self, confirmed: Lsn, grace: Duration, now: u64) -> bool {
        if self.sent.front().is_some_and(|commit| *commit < confirmed) {
            self.due_since.get_or_insert(now);
        }
        let waited = |since| Duration::from_millis(now - since);
        self.due_since.is_some_and(|since| waited(since) >= grace)
    }
}
