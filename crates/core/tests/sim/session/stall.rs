//! A Kafka that takes nothing: how long the stream stays open.

use walpost_core::park::Circuit;

use super::Session;
use crate::clock::Clock;
use crate::env::Env;

/// After so long without a delivery the stream is closed.
const PARK_MS: u64 = 20_000;
/// Time that the process was stopped for counts as no more than this.
const STOPPED_MS_MAX: u64 = 6_000;
const SLACK_MS: u64 = 60;
/// A session that is to end gives up after so long without progress.
const PATIENCE_MS: u64 = 30_000;

/// How long a session has waited for Kafka, as it is seen from outside.
#[derive(Debug)]
pub(super) struct Wait {
    /// Since when something waits and nothing has arrived. Time for which the process was stopped
    /// is left out of it, but for what may count.
    since: Option<u64>,
    /// Since when the same, or since when the process runs again.
    running_since: u64,
    delivered: u64,
    /// What moved last, and when.
    moved: (walpost_pgoutput::Lsn, u64),
    moved_at: u64,
}

impl Wait {
    pub(super) fn new(now: u64) -> Self {
        Self {
            since: None,
            running_since: now,
            delivered: 0,
            moved: (walpost_pgoutput::Lsn::ZERO, 0),
            moved_at: now,
        }
    }

    /// The process goes on after it was stopped for so long.
    pub(super) fn resume(&mut self, stopped: u64, now: u64) {
        let uncounted = stopped.saturating_sub(STOPPED_MS_MAX);
        self.since = self.since.map(|since| since + uncounted);
        self.running_since = now;
    }
}

impl Session {
    /// Whether it is time to park. A promise: not before Kafka has taken nothing for long enough,
    /// and not much later.
    pub(super) fn is_to_park(&mut self, env: &mut Env, circuit: &mut Circuit) -> bool {
        let (snapshot, ms) = (self.relay.snapshot(), env.ms());
        let waits = self.unacked > 0 || self.relay.waits_for_topic() && !env.kafka.up;
        if self.wait.delivered != snapshot.delivered || !waits {
            self.wait.since = None;
            self.wait.running_since = ms;
        }
        self.wait.delivered = snapshot.delivered;
        if waits {
            self.wait.since.get_or_insert(ms);
        }
        if snapshot.delivered > 0 || snapshot.confirmed >= self.began_at_end_of {
            circuit.close(env.clock.now());
        }
        let stalled = self.stall.look(env.clock.now(), snapshot.delivered, waits);
        let waited = self.wait.since.map_or(0, |since| ms - since);
        assert!(
            stalled.is_none() || waited >= PARK_MS,
            "park: Kafka was waited for during {waited} ms"
        );
        assert!(
            stalled.is_some() || !waits || ms <= self.wait.running_since + PARK_MS + SLACK_MS,
            "park: Kafka takes nothing, and the stream is still open"
        );
        let may_park = self.is_streaming();
        stalled.is_some() && may_park && self.relay.halted().is_none()
    }

    /// Whether a session that is to end has come no further for too long.
    pub(super) fn is_out_of_patience(&mut self, env: &Env) -> bool {
        let snapshot = self.relay.snapshot();
        let seen = (snapshot.confirmed, snapshot.delivered);
        if self.wait.moved != seen {
            self.wait.moved = seen;
            self.wait.moved_at = env.ms();
        }
        self.ending.has_target() && env.ms() >= self.wait.moved_at + PATIENCE_MS
    }

    pub(super) fn stall_deadline(&self, clock: Clock) -> Option<u64> {
        let is_patient = self.ending.has_target();
        let out_of_patience = is_patient.then_some(self.wait.moved_at + PATIENCE_MS);
        let look = self.stall.deadline().map(|at| clock.ms_of(at));
        out_of_patience.into_iter().chain(look).min()
    }
}
