//! A process without a stream: parked because Kafka takes nothing, or held by an event that can't
//! be delivered.

use walpost_core::hold::{LOOK_INTERVAL, RETRY_INTERVAL, Retry};
use walpost_core::{EventId, Reason, Topic, Undeliverable};
use walpost_pgoutput::Lsn;

use crate::env::Env;
use crate::operator;
use crate::plan::pick;
use crate::postgres::State;

/// Pause before Kafka is asked again that did not answer, and before one that has answered and
/// taken nothing all the same.
const PROBE_MS: u64 = 500;
const RELAPSE_MS: u64 = 5_000;
/// How long after a write of the checkpoint that failed the next one is tried.
const RECORD_RETRY_MS: u64 = 5_000;

/// What an idle process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Wait,
    /// The next session tries.
    GoOn,
    /// Somebody restarts it.
    Restart,
}

/// Kafka takes nothing: no stream is open, and the control connection goes on.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    probe_at: u64,
    /// On which server; what has arrived is still to be put on record.
    instance: u32,
    unrecorded: Option<Lsn>,
    cluster: Option<String>,
    record_at: u64,
}

impl Parked {
    /// `unrecorded`: what has arrived, if the checkpoint does not hold it. `is_news`: something has
    /// arrived since it was parked for the last time. `cluster`: the one that has the events.
    pub(super) fn new(
        env: &Env,
        (instance, unrecorded): (u32, Option<Lsn>),
        is_news: bool,
        cluster: Option<&str>,
    ) -> Self {
        let now = env.ms();
        Self {
            probe_at: now + if is_news { 0 } else { RELAPSE_MS },
            instance,
            unrecorded,
            cluster: cluster.map(str::to_owned),
            record_at: now + RECORD_RETRY_MS,
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        let record = self.unrecorded.map(|_| self.record_at);
        record.into_iter().fold(self.probe_at, u64::min)
    }

    /// Says what the checkpoint holds now, if it is everything, and what is next.
    pub(super) fn tick(&mut self, env: &mut Env) -> (Option<Lsn>, Then) {
        let now = env.ms();
        let mut recorded = None;
        if let Some(lsn) = self.unrecorded
            && self.record_at <= now
        {
            self.record_at = now + RECORD_RETRY_MS;
            let (rng, history) = (&mut env.rng, &mut env.history);
            let cluster = self.cluster.as_deref();
            let instance = self.instance;
            if env.pg.advance(lsn, cluster, instance, rng, history, now) {
                env.cover("a checkpoint while parked");
                self.unrecorded = None;
                recorded = Some(lsn);
            }
        }
        // The next session says what has become of it.
        let is_lost = env.pg.state == State::Up && env.pg.slot.is_none();
        if is_lost || self.probe_at <= now && env.kafka.up {
            return (recorded, Then::GoOn);
        }
        if self.probe_at <= now {
            self.probe_at = now + PROBE_MS;
        }
        (recorded, Then::Wait)
    }
}

/// An event is in the way, and the process stays.
#[derive(Debug)]
pub(super) struct Held {
    event: Undeliverable,
    look_at: u64,
    retry_at: Option<u64>,
    topic: Option<Topic>,
    /// Somebody looks at it then.
    operator_at: u64,
}

impl Held {
    pub(super) fn new(env: &mut Env, event: Undeliverable) -> Self {
        let now = env.ms();
        let (retry_at, topic) = match Retry::of(&event.reason) {
            Retry::Never => (None, None),
            Retry::OnceThereIs(topic) => (None, Some(topic)),
            Retry::After(pause) => {
                assert!(pause <= RETRY_INTERVAL, "hold: it is tried too seldom");
                (Some(now + millis(pause)), None)
            }
        };
        let can_change = !matches!(event.reason, Reason::NullPayload);
        assert!(
            !can_change || retry_at.is_some() || topic.is_some(),
            "hold: {event} is never tried again"
        );
        Self {
            event,
            look_at: now + millis(LOOK_INTERVAL),
            retry_at,
            topic,
            operator_at: now + pick(&mut env.rng, &[1_000, 10_000, 100_000]),
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        let first = self.look_at.min(self.operator_at);
        self.retry_at.map_or(first, |at| at.min(first))
    }

    pub(super) fn tick(&mut self, env: &mut Env) -> Then {
        let now = env.ms();
        if self.operator_at <= now {
            self.operator_at = now + pick(&mut env.rng, &[1_000, 10_000, 100_000]);
            operator::looks_at(env, &self.event);
            // What the process was started with has changed.
            let is_told = self.event.reason == Reason::NullPayload && env.tombstones;
            if is_told || !env.skipped_ids.is_empty() {
                return Then::Restart;
            }
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            env.cover("an event that holds the line is tried again");
            return Then::GoOn;
        }
        if self.look_at > now {
            return Then::Wait;
        }
        self.look_at = now + millis(LOOK_INTERVAL);
        let EventId::Uuid(id) = self.event.id else {
            panic!("hold: {} is no id of ours", self.event.id);
        };
        let is_readable = env.pg.state == State::Up && env.plan.grace.is_some();
        if is_readable && env.pg.skips().contains(&(self.event.position, id)) {
            env.cover("an event that held the line is let pass");
            return Then::GoOn;
        }
        let is_there = |topic| env.kafka.count(topic, now).is_ok();
        if self.topic.as_ref().is_some_and(is_there) {
            env.cover("a topic that held the line is there");
            return Then::GoOn;
        }
        Then::Wait
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("seconds")
}
