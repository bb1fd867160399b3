//! The window: which records are in flight, and the LSN that may be confirmed because of it.
//!
//! Every record has a [`Ticket`] from the moment that it is taken in. It leaves at once if the
//! window is open so far, or when its turn comes. Tickets are consecutive, so a delivery report is
//! an index into a ring. Between records stand *boundaries*: the end of a commit, or the `walEnd`
//! of a keepalive, each with the number of tickets before it. Reports arrive in any order; only the
//! prefix without a hole counts, and a boundary whose tickets all lie in that prefix becomes the
//! confirmed LSN. A record that fails leaves a hole, so the LSN stops before it by construction.
//!
//! ```text
//! tickets      0   1   2 | 3   4 | 5            boundaries   after 3 -> 0/A0, after 5 -> 0/B8
//! settled      x   x   x | x   . | x            prefix 4     confirmed 0/A0
//! ```

use std::collections::VecDeque;

use walpost_pgoutput::Lsn;

use crate::event::{EventId, Position, Ticket};
use crate::limits::WindowLimits;
use crate::recent::Recent;

/// Tickets, reports and boundaries of one session.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    limits: WindowLimits,
    /// How many records may be in flight now: 1 at first, twice as many each time that as many were
    /// settled in order, up to the limit. A session that starts before a record which the broker
    /// will not take repeats only a few neighbours. It does not hold back what is taken in: the
    /// stream is read on, so that questions of the server are heard.
    open: u32,
    /// Value of `base` when `open` last grew.
    opened_at: u64,
    /// Ticket of the first entry.
    base: u64,
    /// Ticket of the first entry that has not left yet.
    unsent: u64,
    entries: VecDeque<Entry>,
    /// Bytes of the records that are not settled.
    bytes: usize,
    boundaries: VecDeque<Boundary>,
    confirmed: Lsn,
    /// How many tickets lie before the confirmed LSN.
    confirmed_tickets: u64,
    /// What was settled last.
    recent: Recent,
    /// The highest position that left in a session before.
    left_before: Option<Position>,
    /// How many records left up to there.
    left_again: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    settled: bool,
    bytes: usize,
    position: Position,
    id: EventId,
}

#[derive(Clone, Debug)]
struct Boundary {
    /// The ticket that was next when the boundary was sealed.
    after: u64,
    lsn: Lsn,
}

impl Window {
    /// A window of a session that starts at `floor`.
    pub(crate) fn new(floor: Lsn, limits: WindowLimits) -> Self {
        assert!(limits.events > 0, "a window of no events never moves");
        Self {
            limits,
            open: 1,
            opened_at: 0,
            base: 0,
            unsent: 0,
            entries: VecDeque::new(),
            bytes: 0,
            boundaries: VecDeque::new(),
            confirmed: floor,
            confirmed_tickets: 0,
            recent: Recent::default(),
            left_before: None,
            left_again: 0,
        }
    }

    /// Sessions before have sent events up to this position.
    pub(crate) fn count_from(&mut self, left_before: Option<Position>) {
        self.left_before = left_before;
    }

    /// Whether a record of this size may be taken in now. One that is larger than the limit on
    /// bytes may when there is nothing else.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        let room = self.entries.len() < self.limits.events as usize;
        room && (self.bytes == 0 || self.bytes.saturating_add(bytes) <= self.limits.bytes)
    }

    /// Takes a record in: it has the next ticket and leaves when its turn comes.
    pub(crate) fn take(&mut self, bytes: usize, position: Position, id: EventId) {
        assert!(self.admits(bytes), "a record was taken into a full window");
        if let Some(last) = self.entries.back() {
            assert!(
                position > last.position,
                "records were taken in out of commit order"
            );
        }
        self.bytes += bytes;
        self.entries.push_back(Entry {
            settled: false,
            bytes,
            position,
            id,
        });
    }

    /// The ticket of the next record that may leave now.
    pub(crate) fn may_send(&self) -> Option<Ticket> {
        let open = self.unsent - self.base < u64::from(self.open);
        (open && self.unsent < self.next()).then_some(Ticket(self.unsent))
    }

    /// That record leaves.
    pub(crate) fn send(&mut self) -> Ticket {
        let ticket = self
            .may_send()
            .expect("a record left through a closed window");
        self.unsent += 1;
        if Some(self.entry_mut(ticket).position) <= self.left_before {
            self.left_again += 1;
        }
        ticket
    }

    /// The record that left last did not get as far as Kafka: it is the next one to leave again.
    pub(crate) fn take_back(&mut self, ticket: Ticket) {
        assert!(
            ticket.0 + 1 == self.unsent,
            "a record was taken back that others have followed"
        );
        self.unsent -= 1;
        if Some(self.entry_mut(ticket).position) <= self.left_before {
            self.left_again -= 1;
        }
    }

    /// Seals a boundary: once everything that has left so far is settled, `lsn` is confirmed.
    ///
    /// A position that is not above the last one is dropped: after a crash Postgres first reports
    /// positions behind the one it was asked to start at.
    pub(crate) fn seal(&mut self, lsn: Lsn) {
        let after = self.next();
        let last = self
            .boundaries
            .back()
            .map_or(self.confirmed, |boundary| boundary.lsn);
        if lsn <= last {
            return;
        }
        if after == self.base {
            assert!(self.boundaries.is_empty(), "a boundary was left behind");
            self.confirm(lsn, after);
            return;
        }
        match self.boundaries.back_mut() {
            Some(boundary) if boundary.after == after => boundary.lsn = lsn,
            _ => self.boundaries.push_back(Boundary { after, lsn }),
        }
    }

    /// A record was acknowledged.
    pub(crate) fn settle(&mut self, ticket: Ticket) {
        assert!(
            ticket.0 < self.unsent,
            "a report for a record that never left"
        );
        let entry = self.entry_mut(ticket);
        assert!(!entry.settled, "a record was settled twice");
        entry.settled = true;
        let bytes = entry.bytes;
        self.bytes -= bytes;
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.settled) {
            self.recent.push(entry.position, entry.id);
            self.base += 1;
        }
        while let Some(boundary) = self.boundaries.front()
            && boundary.after <= self.base
        {
            let Boundary { after, lsn } = *boundary;
            self.boundaries.pop_front();
            self.confirm(lsn, after);
        }
        self.widen();
    }

    /// Id and position of a record that is not settled.
    pub(crate) fn event(&self, ticket: Ticket) -> (&EventId, Position) {
        let index = self.index(ticket);
        let entry = &self.entries[index];
        (&entry.id, entry.position)
    }

    /// The last events that left: Kafka has them, or may have them.
    pub(crate) fn take_recent(&mut self) -> Recent {
        let mut recent = std::mem::take(&mut self.recent);
        for entry in self.entries.iter().take(self.in_flight()) {
            recent.push(entry.position, entry.id.clone());
        }
        recent.count_again(std::mem::take(&mut self.left_again));
        recent
    }

    /// The LSN up to which everything is delivered. Never decreases.
    pub(crate) fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    /// How many records lie before the confirmed LSN. Never decreases.
    pub(crate) fn confirmed_records(&self) -> u64 {
        self.confirmed_tickets
    }

    /// Whether everything that left is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.base == self.unsent
    }

    /// Records from the oldest unsettled one to the newest that left.
    pub(crate) fn in_flight(&self) -> usize {
        self.entries.len() - self.queued()
    }

    /// Records that wait for their turn.
    pub(crate) fn queued(&self) -> usize {
        usize::try_from(self.next() - self.unsent).expect("the window is smaller than memory")
    }

    /// Bytes of the records that are not settled.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Boundaries that wait for records before them.
    pub(crate) fn boundaries(&self) -> usize {
        self.boundaries.len()
    }

    /// How many records may be in flight now.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// Position of the oldest record that is not settled.
    pub(crate) fn oldest(&self) -> Option<Position> {
        self.entries.front().map(|entry| entry.position)
    }

    fn next(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn index(&self, ticket: Ticket) -> usize {
        assert!(
            ticket.0 >= self.base,
            "a report for a ticket that was settled before"
        );
        assert!(
            ticket.0 < self.next(),
            "a report for a ticket that was never taken"
        );
        usize::try_from(ticket.0 - self.base).expect("the window is smaller than memory")
    }

    fn entry_mut(&mut self, ticket: Ticket) -> &mut Entry {
        let index = self.index(ticket);
        &mut self.entries[index]
    }

    fn confirm(&mut self, lsn: Lsn, tickets: u64) {
        assert!(lsn > self.confirmed, "the confirmed LSN went back");
        self.confirmed = lsn;
        self.confirmed_tickets = tickets;
    }

    fn widen(&mut self) {
        while self.open < self.limits.events && self.base - self.opened_at >= u64::from(self.open) {
            self.opened_at += u64::from(self.open);
            self.open = self.open.saturating_mul(2).min(self.limits.events);
        }
    }
}

#[cfg(test)]
mod tests;
