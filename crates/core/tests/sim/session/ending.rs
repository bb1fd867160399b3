//! How a session ends: by a stop, a halt or an error, and what has to be true then.

use std::collections::BTreeMap;
use std::time::Duration;

use walpost_core::ending::Over;
use walpost_core::limits::TOPIC_DENIED_INTERVAL;
use walpost_core::park::Circuit;
use walpost_core::{EventId, Found, Reason, Topic};
use walpost_pgoutput::Lsn;

use super::{End, Session, UNREAD_MS};
use crate::env::Env;
use crate::kafka::{INVALID, TOO_LARGE, number};
use crate::plan::{Fault, pick};
use crate::postgres::State;

/// A session that failed waits at most so long for the reports that are missing.
const SETTLE_MS: u64 = 2_000;

impl Session {
    /// A halt has a reason that is true, and is waited out.
    pub(super) fn look_at_halt(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let Some(halt) = self.relay.halted() else {
            return;
        };
        if self.settles_until.is_some() || self.has_halted {
            return;
        }
        self.has_halted = true;
        let found = self.relay.halt().map(|halt| halt.found);
        if found == Some(Found::BeforeSending) {
            let reached = self.is_halt_reached();
            assert!(reached, "halt: what is before it may still fail");
        }
        let letters = env.plan.letters;
        if let Reason::TopicMissing { topic, waited } = &halt.reason {
            assert!(!letters, "halt: there is a topic for its dead letter");
            check_missing(env, believed, (topic, *waited), self.judged_at);
            env.cover("a halt for a missing topic");
        } else if let Reason::Rejected(rejection) = &halt.reason {
            let is_events = matches!(rejection.code, TOO_LARGE | INVALID);
            assert!(is_events, "halt: not the event's fault");
            env.cover("a halt for a rejected event");
        } else if let Reason::DeadLetter { why, .. } = &halt.reason {
            assert!(letters, "halt: a dead letter that nobody wanted");
            if let Reason::TopicMissing { topic, waited } = &**why {
                check_missing(env, believed, (topic, *waited), self.judged_at);
                env.cover("a halt for a dead letter that has no topic");
            } else {
                env.cover("a halt for a dead letter");
            }
        } else if let EventId::Uuid(id) = halt.id
            && halt.reason == Reason::NullPayload
        {
            assert!(!letters, "halt: there is a topic for its dead letter");
            let payload = &env.history.named(id).payload;
            assert!(payload.is_none(), "halt: {id} has a payload");
            env.cover("a halt for a missing payload");
        } else {
            panic!("halt: {}", halt.reason);
        }
    }

    /// Whether it is over now.
    pub(crate) fn end(&mut self, env: &mut Env, circuit: &mut Circuit) -> Option<End> {
        let now = env.ms();
        let connected = env.pg.peer().is_some_and(|peer| !peer.is_finished());
        let seems_connected = self.lost_until.is_some_and(|until| now < until);
        if !connected && !seems_connected && self.is_open() {
            self.is_cut_off = true;
            self.settle(env);
        }
        if self.is_unread_in_a_shutdown(env, now) {
            return Some(self.over("the server shuts down and the stream is not read"));
        }
        if self.proof.is_other {
            self.purge(env);
            self.last_status(env);
            return Some(End::Exit("another cluster"));
        }
        self.check_halt();
        if self.is_open() && self.is_to_park(env, circuit) {
            self.purge(env);
            self.last_status(env);
            return Some(End::Park);
        }
        if let Some(until) = self.settles_until {
            return (self.is_settled() || now >= until).then(|| self.settled(env));
        }
        let in_flight = self.producer.unreported + self.deliveries.len();
        let was_open = self.ending.is_open();
        let over = self
            .ending
            .look(&mut self.relay, in_flight, env.clock.now());
        if was_open && !self.ending.is_open() {
            self.drains_until = Some(env.ms() + self.patience_ms);
        }
        let Some(over) = over else {
            let is_open = self.ending.is_open();
            return (is_open && self.is_out_of_patience(env)).then_some(End::Exit("no progress"));
        };
        self.check_over(env, &over);
        self.purge(env);
        self.last_status(env);
        Some(match over {
            Over::MadeRoom => End::MadeRoom,
            Over::Drained { .. } | Over::DrainDeadline { .. } => End::Exit("drained"),
            Over::CaughtUp { .. } => End::Exit("caught up"),
            Over::Halted(_) => self.halted(),
        })
    }

    /// What has to be true of a session that is over in order.
    fn check_over(&self, env: &mut Env, over: &Over) {
        match over {
            Over::Drained { cut } => {
                assert_eq!(
                    *cut, self.is_cut,
                    "drain: it says the wrong thing of a transaction"
                );
                let is_whole = self.relay.is_drained() || self.unsent.is_some();
                assert!(is_whole, "drain: something is in flight");
                self.check_whole();
                env.cover("a complete drain");
            }
            Over::DrainDeadline { in_flight } => {
                assert!(*in_flight > 0, "drain: nothing was in flight");
                self.check_deadline(env);
                env.cover("a drain that ran out of time");
            }
            Over::CaughtUp {
                confirmed,
                in_flight,
            } => {
                self.check_caught_up(env, *confirmed);
                if *in_flight > 0 {
                    self.check_deadline(env);
                } else if !self.is_cut && self.relay.halted().is_none() {
                    self.check_whole();
                }
            }
            Over::MadeRoom => {
                assert!(!self.is_last, "drain: it is to stop, and goes on");
                if !self.is_settled() {
                    self.check_deadline(env);
                }
                env.cover("a session made room for another producer");
            }
            Over::Halted(_) => {}
        }
    }

    /// What is in flight is given up no earlier than it has to be.
    fn check_deadline(&self, env: &Env) {
        let is_over = self.drains_until.is_some_and(|until| env.ms() >= until);
        assert!(is_over, "drain: what is in flight was not waited for");
    }

    /// What failed is over: the reports of a batch come together.
    fn settled(&mut self, env: &mut Env) -> End {
        self.purge(env);
        if env.plan.last_words && !self.is_cut_off {
            self.last_status(env);
        }
        if self.relay.halted().is_some() {
            self.halted()
        } else {
            self.over("an error")
        }
    }

    /// Everything that was committed before the session is in Kafka.
    fn check_caught_up(&self, env: &mut Env, confirmed: Lsn) {
        env.cover("a run caught up");
        assert!(confirmed >= self.began_at_end_of, "once: it ended early");
        // What a server has that took its place meanwhile is another matter.
        let is_there = env.pg.instance == self.instance;
        let is_on_record =
            env.plan.grace.is_none() || env.pg.recorded() >= Some(self.began_at_end_of);
        assert!(is_on_record || !is_there, "once: it is not on record");
        if let Some((position, event)) = env.history.first_missing().filter(|_| is_there) {
            assert!(
                self.began_at_end_of <= position.commit_lsn,
                "once: {} at {position} was left out",
                event.id
            );
        }
    }

    fn halted(&self) -> End {
        let halt = self.relay.halt().expect("it halts");
        if let Found::Alone | Found::BeforeSending = halt.found {
            let position = halt.event.position;
            let first = self.refused.is_none_or(|refused| position <= refused);
            assert!(first, "halt: an earlier event was refused");
        }
        End::Halted(Box::new(halt))
    }

    /// A session ended before its work was done. After SIGTERM there is no other one.
    fn over(&self, why: &'static str) -> End {
        if self.is_last {
            End::Exit(why)
        } else {
            End::Retry(why)
        }
    }

    /// Nothing more leaves, and reports are waited for.
    pub(super) fn settle(&mut self, env: &mut Env) {
        let until = env.ms() + pick(&mut env.rng, &[0, 20, SETTLE_MS]);
        self.settles_until = Some(until);
    }

    /// A stop that was not pressed for time leaves nothing to be sent again.
    fn check_whole(&self) {
        if let Some(left) = self.left {
            assert!(
                self.relay.confirmed() > left.commit_lsn,
                "drain: the event at {left} left, arrived, and comes again"
            );
        }
    }

    fn is_settled(&self) -> bool {
        self.producer.unreported == 0 && self.deliveries.is_empty()
    }

    /// What stands before the event in the way has left, so that it can arrive.
    fn check_halt(&self) {
        if self.has_halted && self.settles_until.is_none() && self.is_settled() {
            let reached = self.is_halt_reached();
            assert!(reached, "halt: records before it have not left");
        }
    }

    /// Everything before the event in the way is acknowledged.
    fn is_halt_reached(&self) -> bool {
        let halted = self.relay.halted().expect("it halts").position;
        let first = self.refused.is_none_or(|refused| halted <= refused);
        assert!(first, "halt: an earlier event was refused");
        let oldest = self.relay.snapshot().oldest;
        oldest.is_none_or(|oldest| oldest >= halted)
    }

    fn is_unread_in_a_shutdown(&mut self, env: &Env, now: u64) -> bool {
        if env.pg.state != State::Stopping || self.wants_wal() {
            self.unread_since = None;
            return false;
        }
        now >= *self.unread_since.get_or_insert(now) + UNREAD_MS
    }

    /// What is still in flight is given up, and the relay hears of it.
    fn purge(&mut self, env: &mut Env) {
        let now = env.ms();
        let is_late = env.plan.has(Fault::Late) && !env.healing;
        let (kafka, history) = (&mut env.kafka, &mut env.history);
        let rng = &mut env.rng;
        let reports = self.producer.purge(kafka, history, rng, now, is_late);
        self.deliveries.extend(reports);
        while let Some(delivery) = self.last_delivery(env) {
            // The session is over already: an error changes nothing.
            let _over = self.take(env, delivery);
        }
    }

    fn last_status(&mut self, env: &mut Env) {
        self.relay.record_all();
        let write = self.relay.poll_checkpoint(env.clock.now());
        if let Some(lsn) = write {
            let is_written = self.write(env, lsn);
            if is_written {
                self.recorded = lsn;
            }
            self.has_failed = !is_written;
            self.relay.handle_checkpointed(is_written);
        }
        let status = self.relay.last_status(env.clock.now());
        assert!(status.flush >= self.owed(env), "status: the last one");
        self.watch.may_answer();
        self.send(env, &status);
    }
}

/// A topic is missing only if it never was there, and was waited for, when that was judged.
pub(super) fn check_missing(
    env: &Env,
    believed: &BTreeMap<usize, u32>,
    (topic, waited): (&Topic, Duration),
    judged_at: u64,
) {
    let after = Duration::from_millis(env.plan.unknown_topic_after_ms);
    assert!(waited >= after, "halt: {topic} was not waited for");
    let known = believed.contains_key(&number(topic));
    assert!(!known, "halt: {topic} was there before");
    let exists_at = Duration::from_millis(env.kafka.topics[number(topic)].exists_at);
    let judged_at = Duration::from_millis(judged_at);
    assert!(
        exists_at + TOPIC_DENIED_INTERVAL > judged_at,
        "halt: {topic} is there"
    );
}
