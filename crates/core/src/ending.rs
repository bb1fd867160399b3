//! How a session ends in order: it is asked to, an event is in its way, or it has delivered what it
//! was to deliver.
//!
//! Each is a drain: no more records leave, and those that have left are waited for, so that they do
//! not come again. But for one before an event that is in the way, it begins only where it cuts no
//! transaction in two: the position behind a transaction is the first that can be confirmed, so all
//! of a half would come again.

use std::time::{Duration, Instant};

use walpost_pgoutput::Lsn;

use crate::relay::Relay;
use crate::rulings::Halt;

/// How a session is over.
#[derive(Debug)]
pub enum Over {
    /// Everything that had left when it was asked to stop has arrived.
    Drained {
        /// In the middle of a transaction, at the deadline: what has arrived of it comes again.
        cut: bool,
    },
    /// That was not waited for any longer: so many records come again.
    DrainDeadline {
        /// Records without a report.
        in_flight: usize,
    },
    /// The next session can go on at once, with another producer.
    MadeRoom,
    /// What it was to deliver is delivered, and on record.
    CaughtUp {
        /// Up to where everything is delivered.
        confirmed: Lsn,
        /// Records behind that without a report, which were not waited for any longer: they come
        /// again.
        in_flight: usize,
    },
    /// An event is in the way, and what is before it has arrived or was waited for long enough.
    Halted(Box<Halt>),
}

/// How far a session is with its end.
#[derive(Clone, Debug)]
pub struct Ending {
    /// It ends by itself when everything before this is confirmed.
    target: Option<Lsn>,
    /// How long a drain may take, that nobody asked for.
    patience: Duration,
    phase: Phase,
    wish: Wish,
}

/// What a drain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// The process is to end, or an event is in the way.
    Stop,
    /// Another producer.
    Room,
    /// The session has done what it was to do.
    CaughtUp,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    /// Records leave until their transaction is whole, or until the deadline.
    Asked {
        deadline: Instant,
    },
    /// Nothing more leaves. After the deadline, what is in flight comes again.
    Draining {
        deadline: Instant,
        cut: bool,
    },
}

impl Ending {
    /// Of a session that begins. `target`: with everything before it confirmed, the session has
    /// done what it was to do. `patience`: how long it then waits for what has left behind that, or
    /// for what left before an event that is in its way.
    pub fn new(target: Option<Lsn>, patience: Duration) -> Self {
        Self {
            target,
            patience,
            phase: Phase::Open,
            wish: Wish::Stop,
        }
    }

    /// The process is to end. Returns whether that is news.
    pub fn stop(&mut self, deadline: Instant) -> bool {
        let is_news = self.is_open() || self.wish == Wish::Room;
        if is_news {
            self.wish = Wish::Stop;
            self.phase = match self.phase {
                Phase::Open | Phase::Asked { .. } => Phase::Asked { deadline },
                Phase::Draining { cut, .. } => Phase::Draining { deadline, cut },
            };
        }
        is_news
    }

    /// The next session is to go on at once, with another producer.
    pub fn make_room(&mut self, deadline: Instant) {
        if self.is_open() {
            self.wish = Wish::Room;
            self.phase = Phase::Asked { deadline };
        }
    }

    /// Whether no end is in sight.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether records may leave.
    pub fn may_send(&self) -> bool {
        !matches!(self.phase, Phase::Draining { .. })
    }

    /// Whether the session ends by itself.
    pub fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// Until when it is waited for, if the end is in sight.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open => None,
            Phase::Asked { deadline } | Phase::Draining { deadline, .. } => Some(deadline),
        }
    }

    /// Before a record leaves: begins the drain that was asked for, where it cuts no transaction in
    /// two or can't wait any longer. `holds_record`: a record was polled that has not left. Returns
    /// whether the drain began.
    pub fn try_drain(&mut self, relay: &mut Relay, holds_record: bool, now: Instant) -> bool {
        let Phase::Asked { deadline } = self.phase else {
            return false;
        };
        let cut = holds_record || relay.splits_transaction();
        let begins = !cut || now >= deadline;
        if begins {
            relay.drain();
            self.phase = Phase::Draining { deadline, cut };
        }
        begins
    }

    /// Whether the session is over. `in_flight`: records that have left, and whose reports the
    /// relay has not taken.
    pub fn look(&mut self, relay: &mut Relay, in_flight: usize, now: Instant) -> Option<Over> {
        let is_halted = relay.halted().is_some();
        if is_halted {
            let deadline = self.deadline().unwrap_or(now + self.patience);
            self.phase = Phase::Draining {
                deadline,
                cut: false,
            };
            if self.wish == Wish::Room {
                self.wish = Wish::Stop;
            }
        }
        match self.phase {
            Phase::Open => {
                self.look_at_target(relay, now);
                let is_over = !self.is_open() && in_flight == 0 && !relay.splits_transaction();
                is_over.then(|| self.over(relay, in_flight, false))
            }
            Phase::Asked { .. } => None,
            Phase::Draining { deadline, .. } if in_flight > 0 && now < deadline => None,
            // It is behind what the session was to deliver.
            Phase::Draining { .. } if is_halted && self.wish != Wish::CaughtUp => {
                relay.halt().map(|halt| Over::Halted(Box::new(halt)))
            }
            Phase::Draining { cut, .. } => Some(self.over(relay, in_flight, cut)),
        }
    }

    fn over(&self, relay: &Relay, in_flight: usize, cut: bool) -> Over {
        match self.wish {
            Wish::Room => Over::MadeRoom,
            Wish::CaughtUp => Over::CaughtUp {
                confirmed: relay.confirmed(),
                in_flight,
            },
            Wish::Stop if in_flight == 0 => Over::Drained { cut },
            Wish::Stop => Over::DrainDeadline { in_flight },
        }
    }

    /// Where everything that was to be delivered is, and on record, the end is in sight. What is
    /// delivered has the checkpoint written at once.
    fn look_at_target(&mut self, relay: &mut Relay, now: Instant) {
        let confirmed = relay.confirmed();
        let Some(target) = self.target.filter(|target| confirmed >= *target) else {
            return;
        };
        relay.record_all();
        if relay.is_recorded_to(target) {
            self.wish = Wish::CaughtUp;
            let deadline = now + self.patience;
            self.phase = Phase::Asked { deadline };
        }
    }
}

// Tested in `relay/tests/ending.rs`, where there is a relay on a bench.
