//! Requests on the wire whose producer is gone: the broker may still carry them out, also after the
//! next producer has begun to send. Nobody hears of it.

use std::collections::VecDeque;

use fastrand::Rng;

use super::{Cluster, Flight};
use crate::history::{History, Sender};
use crate::plan::pick;

/// No request is carried out later than this after its producer ended.
const REQUEST_TIMEOUT_MS: u64 = 30_000;

/// The requests of one producer to one partition, in their order.
#[derive(Debug)]
pub(crate) struct Late {
    sender: Sender,
    /// Between these they may be carried out.
    from: u64,
    until: u64,
    pub(super) flights: VecDeque<Flight>,
}

impl Late {
    pub(super) fn new(sender: Sender, now: u64, rng: &mut Rng) -> Self {
        let delay = pick(rng, &[20, 1_000, REQUEST_TIMEOUT_MS]);
        Self {
            sender,
            from: now + rng.u64(0..delay),
            until: now + REQUEST_TIMEOUT_MS,
            flights: VecDeque::new(),
        }
    }
}

impl Cluster {
    /// Whether one of these requests arrives.
    pub(crate) fn has_late(&mut self, now: u64) -> bool {
        self.late.retain(|late| now <= late.until);
        self.up && self.late.iter().any(|late| late.from <= now)
    }

    /// Nothing holds them up any longer.
    pub(crate) fn hurry_late(&mut self) {
        for late in &mut self.late {
            late.from = 0;
        }
    }

    /// A broker carries one of them out. What it refuses takes everything behind it along.
    pub(crate) fn append_late(&mut self, history: &mut History, now: u64) {
        let index = self.late.iter().position(|late| late.from <= now);
        let mut late = self.late.swap_remove(index.expect("one arrives"));
        let Some(flight) = late.flights.pop_front() else {
            return;
        };
        if !self.takes(&flight, history, now) {
            return;
        }
        let sender = Sender {
            is_late: true,
            ..late.sender
        };
        self.append(&flight, sender, history);
        if !late.flights.is_empty() {
            self.late.push(late);
        }
    }
}
