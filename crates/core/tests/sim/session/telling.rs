//! What the server is told, and the checkpoint that has to hold it first.

use std::collections::BTreeMap;
use std::time::Duration;

use walpost_core::Status;
use walpost_core::slot::{self, Seen, Verdict};
use walpost_pgoutput::{Lsn, PgTimestamp, StandbyStatus};

use super::Session;
use crate::env::Env;
use crate::plan::{Fault, chance};
use crate::postgres::State;

impl Session {
    /// Sends the status updates that are due.
    pub(super) fn tell(&mut self, env: &mut Env) {
        while let Some(status) = self.relay.poll_status(env.clock.now()) {
            self.send(env, &status);
        }
    }

    pub(super) fn send(&mut self, env: &mut Env, status: &Status) {
        let owed = self.owed(env);
        self.check_recorded(env, status.flush);
        let now = env.ms();
        env.say(|| {
            format!(
                "relay: status write {} flush {}",
                status.write, status.flush
            )
        });
        // What it says to a server that is gone is nobody's concern.
        let history = (env.pg.instance == self.instance).then_some(&mut env.history);
        self.watch.status(status, owed, history, now);
        if status.flush == Lsn::ZERO {
            let stopping = env.pg.state == State::Stopping;
            *env.coverage.entry("a courtesy answer").or_default() += 1;
            *env.coverage.entry("one in a shutdown").or_default() += u64::from(stopping);
        }
        if let Some(mut peer) = env.pg.peer() {
            peer.send(&standby_status(status));
        }
    }

    /// Whether the write of the checkpoint ends now: it is answered, or given up.
    pub(crate) fn is_written_by_now(&self, env: &Env) -> bool {
        let is_answered = env.ms() >= env.pg.hangs_until;
        self.writing.is_some() && (is_answered || env.ms() >= self.write_until)
    }

    /// The write of the checkpoint ends.
    pub(crate) fn recorded(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let lsn = self.writing.take().expect("a write is under way");
        let is_given_up = env.ms() < env.pg.hangs_until;
        // One that is given up may be carried out all the same.
        let written = (!is_given_up || env.rng.bool()) && self.write(env, lsn);
        let is_unsure = env.plan.has(Fault::Uncertain) && !env.healing;
        let is_heard = !is_given_up && (!is_unsure || chance(&mut env.rng, 80));
        if is_given_up {
            env.cover("a checkpoint that was not answered");
        }
        let is_written = written && is_heard;
        env.say(|| format!("relay: the checkpoint is written: {is_written}"));
        env.cover(match (written, is_heard) {
            (true, true) => "a checkpoint",
            (true, false) => "a checkpoint that the relay does not know of",
            (false, _) => "a checkpoint that failed",
        });
        if is_written {
            self.recorded = lsn;
            self.recorded_at = env.ms();
            self.grace.recorded(lsn);
        }
        self.has_failed = !is_written;
        self.relay.handle_checkpointed(is_written);
        self.pump(env, believed);
    }

    /// The slot is looked at: it is about to be lost, or is not any more.
    pub(crate) fn press(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        self.is_pressed = !self.is_pressed;
        self.relay.handle_slot(self.is_pressed);
        self.look_at_slot(env);
        self.pump(env, believed);
    }

    /// A slot that somebody else moved is not this session's any more.
    fn look_at_slot(&mut self, env: &mut Env) {
        let is_reached = env.pg.state == State::Up && env.pg.instance == self.instance;
        if !is_reached || self.settles_until.is_some() {
            return;
        }
        let (ours, confirmed) = (1, env.pg.confirmed());
        let seen = Seen {
            active_pid: env.pg.sender.is_some().then_some(ours),
            confirmed,
        };
        let is_moved = env.pg.moved_from.is_some() && confirmed > Some(self.watch.told());
        match slot::judge(seen, Some(ours), self.relay.told()) {
            Verdict::Ours => assert!(!is_moved, "slot: somebody moved it, and nobody sees it"),
            Verdict::Taken | Verdict::Moved(_) => {
                assert!(is_moved, "slot: it stands where it was told to");
                env.cover("a slot that was moved under a lost stream is seen");
                self.is_cut_off = true;
                self.settle(env);
            }
        }
    }

    /// Whether the row holds that position now.
    pub(super) fn write(&self, env: &mut Env, lsn: Lsn) -> bool {
        let now = env.ms();
        let (rng, history) = (&mut env.rng, &mut env.history);
        let cluster = self.proof.cluster.id();
        env.pg
            .advance(lsn, cluster, self.instance, rng, history, now)
    }

    /// What the server has to hear of.
    pub(super) fn owed(&self, env: &Env) -> Lsn {
        let confirmed = self.relay.confirmed();
        match env.plan.grace {
            None => confirmed,
            Some(_) => confirmed.min(self.recorded),
        }
    }

    /// The same, also past the grace.
    pub(super) fn owed_by_now(&mut self, env: &Env) -> Lsn {
        let (confirmed, now) = (self.relay.confirmed(), env.ms());
        let is_over = |grace| self.grace.is_over(confirmed, grace, now);
        if env.plan.grace.is_some_and(is_over) {
            return confirmed;
        }
        self.owed(env)
    }

    /// Whether everything was read, and checkpoint and server know what there is to know.
    pub(crate) fn has_told(&self, env: &Env) -> bool {
        let has_read = self.relay.confirmed().as_u64() == env.pg.flush_end();
        has_read && self.writing.is_none() && self.watch.has_told(self.owed(env))
    }

    /// The row holds what the server is told, or could not be written for so long.
    fn check_recorded(&self, env: &mut Env, flush: Lsn) {
        let Some(grace) = env.plan.grace else {
            return;
        };
        let recorded = env.pg.recorded().max(Some(self.watch.floor()));
        if Some(flush) > recorded && env.pg.instance == self.instance {
            let age = Duration::from_millis(env.ms() - self.recorded_at);
            // What was told stays true when the need is over.
            let is_pressed = self.is_pressed && self.has_failed;
            let may = age >= grace || is_pressed || env.pg.told_without_row >= Some(flush);
            assert!(may, "checkpoint: told without it, after {age:?}");
            if age < grace && is_pressed {
                env.cover("a position without a checkpoint, for the slot's sake");
            }
            env.cover("a position without a checkpoint");
            env.pg.told_without_row = env.pg.told_without_row.max(Some(flush));
        }
    }

    /// What the row is known to hold.
    pub(crate) fn recorded_to(&self) -> Lsn {
        self.relay.recorded()
    }

    /// What has arrived, where the checkpoint does not hold it.
    pub(crate) fn unrecorded_arrivals(&self) -> Option<Lsn> {
        (!self.relay.is_recorded()).then(|| self.relay.confirmed())
    }

    /// How far the server may have been told more than the row holds.
    pub(crate) fn unrecorded(&self) -> Option<Lsn> {
        self.relay.unrecorded()
    }
}

fn standby_status(status: &Status) -> StandbyStatus {
    StandbyStatus {
        write: status.write,
        flush: status.flush,
        apply: status.flush,
        client_time: PgTimestamp::new(0),
        reply_requested: status.reply_requested,
    }
}
