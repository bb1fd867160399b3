//! The bounds and the progress that every step has to keep.

use super::Session;
use crate::env::Env;
use crate::plan::{Fault, LETTER_BYTES_MAX};

impl Session {
    /// The bounds and the progress that every step has to keep.
    pub(super) fn check(&mut self, env: &mut Env) {
        let snapshot = self.relay.snapshot();
        let limits = env.plan.limits;
        if self.unacked == 0 && snapshot.queued == 0 {
            self.watch.check_idle(snapshot.confirmed);
        }
        let is_drained = self.relay.is_drained();
        assert!(
            !is_drained || self.unacked == 0,
            "drain: it says that nothing is in flight"
        );
        assert!(snapshot.window <= limits.events, "bounds: the window");
        // 1, then twice as many each time that all of it is acknowledged.
        assert!(
            u64::from(snapshot.window) <= snapshot.delivered + 1,
            "bounds: the window opens slowly"
        );
        assert!(
            snapshot.in_flight <= snapshot.window as usize,
            "bounds: records in flight"
        );
        let undelivered = snapshot.in_flight + snapshot.queued;
        assert!(
            undelivered <= limits.events as usize,
            "bounds: records that were taken in"
        );
        self.check_reading(env, undelivered, snapshot.undelivered_bytes);
        let producer = &self.producer;
        // A dead letter in the place of its event has headers that nobody has counted.
        let letters = usize::from(env.plan.letters) * producer.unreported;
        let more = letters * LETTER_BYTES_MAX;
        assert!(
            producer.unreported <= limits.events as usize,
            "bounds: records at the producer"
        );
        assert!(
            producer.unreported_bytes <= limits.bytes + more || producer.unreported == 1,
            "bounds: bytes at the producer"
        );
        assert!(
            snapshot.boundaries <= undelivered,
            "bounds: {} boundaries for {undelivered} records",
            snapshot.boundaries
        );
    }

    /// With room for any record the stream is read, whatever Kafka does: Postgres may have a
    /// question.
    fn check_reading(&self, env: &Env, undelivered: usize, bytes: usize) {
        let (plan, limits) = (&env.plan, env.plan.limits);
        let room = undelivered < limits.events as usize
            && limits.bytes.saturating_sub(bytes) > plan.record_bytes_max();
        // A record that found no room in the producer is in the way of the one behind it.
        let halts = self.relay.halted().or(self.relay.refused()).is_some();
        let in_the_way = halts || plan.has(Fault::NullPayload);
        assert!(
            !room || in_the_way || !self.is_open() || self.relay.wants_wal(),
            "reading: the stream is not read although there is room"
        );
    }
}
