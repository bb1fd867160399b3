//! A stream that says nothing: quiet, or lost.

use std::collections::BTreeMap;

use walpost_core::silence::Verdict;

use super::Session;
use crate::clock::Clock;
use crate::env::Env;
use crate::plan::{Fault, chance};
use crate::walsender::{ERROR, NOTICE};

/// TCP gives a connection up after so long without an answer.
const TCP_MS: u64 = 100_000;
/// A stream of a server that has a timeout is given up so much later.
const LIMIT_MS: u64 = 1_000;
const SLACK_MS: u64 = 60;

impl Session {
    /// The network swallows what is sent from here on, in both directions.
    pub(crate) fn lose_link(&mut self, now: u64) {
        self.lost_until = Some(now + TCP_MS);
    }

    /// The process goes on after it was stopped for so long.
    pub(crate) fn resume(&mut self, stopped: u64, now: u64) {
        self.wait.resume(stopped, now);
        self.watch.resume(now);
        self.heard_at = now;
    }

    /// Something was read.
    pub(super) fn hear(&mut self, env: &Env) {
        self.silence.heard(env.clock.now());
        self.heard_at = env.ms();
    }

    /// The server says why it ends the stream, or sends nonsense: what was read before counts, and
    /// nothing is polled for it any more.
    pub(super) fn is_ended_by_an_error(&mut self, env: &mut Env) -> bool {
        let is_possible = env.plan.has(Fault::StreamError) && !env.healing;
        if !is_possible || !chance(&mut env.rng, 1) {
            return false;
        }
        env.cover("a stream ended with an error");
        if let Some(mut peer) = env.pg.peer() {
            peer.close(0, env.clock.ms());
        }
        self.is_cut_off = true;
        self.settle(env);
        true
    }

    /// The server has no publication for a row: what was read before counts.
    pub(super) fn is_ended_for_its_publication(&mut self, env: &mut Env, bytes: &[u8]) -> bool {
        let what = match bytes {
            NOTICE => "rows are left out for the want of the publication",
            ERROR => "the publication was made behind the slot",
            _ => return false,
        };
        env.cover(what);
        self.lacks_publication = true;
        self.is_cut_off = bytes == ERROR;
        self.settle(env);
        true
    }

    /// What can be read is read before silence is judged.
    pub(super) fn judge_silence(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let has_ended = env.pg.peer().is_none_or(|peer| peer.is_finished());
        if !self.is_open() || has_ended && self.lost_until.is_none() {
            return;
        }
        let is_due = self.silence_deadline(env.clock);
        if is_due.is_some_and(|at| at <= env.ms()) && self.wants_wal() {
            self.read(env, believed);
        }
        if !self.wants_wal() {
            self.hear(env);
        }
        match self.silence.judge(env.clock.now()) {
            Verdict::Alive => {}
            Verdict::Ask => {
                env.cover("a silent stream was asked");
                self.ping(env, believed);
            }
            Verdict::Dead(_) => {
                assert!(self.lost_until.is_some(), "silence: the server is alive");
                env.cover("a silent stream was given up");
                self.is_cut_off = true;
                self.settle(env);
            }
        }
        let timeout = env.plan.wal_sender_timeout_ms;
        let late = self.heard_at + timeout + LIMIT_MS + SLACK_MS;
        assert!(
            timeout == 0 || !self.is_open() || env.ms() <= late,
            "silence: a stream that says nothing is not given up"
        );
    }

    pub(super) fn silence_deadline(&self, clock: Clock) -> Option<u64> {
        let deadline = self.silence.deadline().filter(|_| self.is_open());
        deadline.map(|at| clock.ms_of(at))
    }
}
