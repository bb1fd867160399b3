//! What takes the place of a server: a standby that was behind, a backup, a snapshot of its disk.
//! The WAL goes back to an earlier end, the row goes back with it, and what is written next has
//! LSNs that were there before.

use fastrand::Rng;
use walpost_core::History as Timelines;
use walpost_pgoutput::Lsn;

use super::{Postgres, Slot, State};
use crate::history::History;
use crate::plan::pick;

/// A new server with an old past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// An asynchronous standby is promoted. It has the slot too, or has not.
    Standby { has_slot: bool },
    /// A base backup is restored and recovered to some point: it has no slots.
    Backup,
    /// A disk is put back as it was once: slot, row and timeline go back together.
    Snapshot,
}

impl Postgres {
    /// The server is lost, and another one takes its place. `sessions`: how many there were.
    pub(crate) fn replace(
        &mut self,
        by: Replacement,
        rng: &mut Rng,
        history: &mut History,
        sessions: u64,
        until: u64,
    ) {
        let lag = match by {
            Replacement::Standby { .. } => pick(rng, &[0, 3, 20, 100]),
            Replacement::Backup | Replacement::Snapshot => pick(rng, &[20, 1_000]),
        };
        self.cut(
            self.flushed.saturating_sub(rng.usize(0..=lag)),
            history,
            sessions,
        );
        let end = self.end;
        self.leave_timelines(end);
        match by {
            Replacement::Standby { has_slot } => {
                // As it was copied at some time. One ahead of the standby's WAL is not.
                let stood = self.stood.iter().filter(|(at, _)| has_slot && *at <= end);
                self.slot = Self::one_of(stood, rng);
                self.promote();
            }
            Replacement::Backup => {
                self.slot = None;
                self.promote();
            }
            Replacement::Snapshot => {
                self.put_back += 1;
                let stood = self.stood.iter().filter(|(_, then)| *then <= end);
                self.slot = Self::one_of(stood, rng);
            }
        }
        self.stood.retain(|(_, then)| *then <= end);
        self.stood
            .extend(self.slot.map(|slot| (slot.confirmed, end)));
        self.told_without_row = self.told_without_row.min(Some(Lsn::new(end)));
        // Otherwise that is the publication that was there before.
        if self.published_from > end {
            self.published_from = 0;
        }
        self.moved_from = None;
        self.remade = false;
        self.is_new = true;
        self.instance += 1;
        self.sender = None;
        self.state = State::Down { until };
    }

    /// The WAL ends with the first `kept` records.
    fn cut(&mut self, kept: usize, history: &mut History, sessions: u64) {
        for record in &self.wal[kept..self.flushed] {
            if let Some(commit) = record.commit {
                let rows = &self.commits[commit].rows;
                history.lose(rows.iter().map(|row| row.event), sessions);
            }
        }
        history.break_off_repeats(sessions);
        self.wal.truncate(kept);
        self.flushed = kept;
        self.end = self.flush_end();
        self.open.clear();
        let end = self.end;
        self.rows.retain(|(_, then)| *then <= end);
        self.skips.retain(|(_, then)| *then <= end);
    }

    /// Back to the timeline on which that position was written.
    fn leave_timelines(&mut self, end: u64) {
        if let Some(left) = self.timelines.iter().position(|(_, at)| *at > end) {
            self.identity.timeline = self.timelines[left].0;
            self.timelines.truncate(left);
        }
    }

    /// Another timeline begins.
    fn promote(&mut self) {
        self.timelines.push((self.identity.timeline, self.end));
        self.newest_timeline += 1;
        self.identity.timeline = self.newest_timeline;
    }

    /// A slot that stands where it stood at one of these times, or none at all.
    fn one_of<'a>(stood: impl Iterator<Item = &'a (u64, u64)>, rng: &mut Rng) -> Option<Slot> {
        let stood: Vec<u64> = stood.map(|(at, _)| *at).collect();
        // Mostly it was copied a moment ago.
        let latest = stood.len().checked_sub(1)?;
        let back = pick(rng, &[0, 2, 1_000]);
        let back = rng.usize(0..=back);
        Some(Slot::at(stood[latest.saturating_sub(back)]))
    }

    /// Which way the server has come, by its history file.
    pub(crate) fn timelines(&self) -> Timelines {
        let line = |(timeline, at): &(u32, u64)| {
            format!(
                "{timeline}\t{}\tno recovery target specified\n\n",
                Lsn::new(*at)
            )
        };
        let file: String = self.timelines.iter().map(line).collect();
        Timelines::parse(self.identity.timeline, &file)
    }

    /// Where the row's timeline ended.
    pub(crate) fn switched_at(&self) -> Option<Lsn> {
        let timeline = self.row()?.identity.timeline;
        self.timelines().end_of(timeline)
    }

    /// The slot was told so much on a timeline whose rows have not reached this server.
    pub(crate) fn is_past_its_row(&self) -> bool {
        let switched_at = self.switched_at().map(Lsn::as_u64);
        let slot = self.slot.map(|slot| slot.confirmed);
        let is_known = self.stood.iter().any(|(at, _)| Some(*at) == slot);
        switched_at.is_some() && slot > switched_at && is_known
    }

    /// Somebody reads from the slot all that there is.
    pub(crate) fn move_slot(&mut self) {
        let end = self.flush_end();
        if let Some(slot) = &mut self.slot {
            self.moved_from = Some(slot.confirmed);
            slot.confirmed = end;
        }
    }

    /// Somebody undoes what he did to the slot.
    pub(crate) fn put_slot_back(&mut self, at: u64) {
        if let Some(slot) = &mut self.slot {
            slot.confirmed = at;
            slot.durable = slot.durable.min(at);
        }
    }

    /// The slot is gone, and there is a row to tell when it is made anew: further on than anything
    /// that was told.
    pub(crate) fn can_be_remade(&self) -> bool {
        let end = Lsn::new(self.flush_end());
        self.slot.is_none() && self.recorded().is_some_and(|row| row < end)
    }

    /// A slot of that name is made: it begins at the end of the WAL.
    pub(crate) fn make_slot(&mut self) -> Lsn {
        let end = self.flush_end();
        self.slot = Some(Slot::at(end));
        Lsn::new(end)
    }

    /// What lies before the slot is delivered, or given up: so a copy of it will do.
    pub(crate) fn trust_slot(&mut self) {
        let stands = self.slot.map(|slot| (slot.confirmed, self.end));
        self.stood.extend(stands);
    }
}
