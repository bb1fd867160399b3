//! The process around the sessions: reconnects, waits for Kafka, ends, and is started again.

use std::collections::BTreeMap;
use std::time::Duration;

use walpost_core::backoff::Backoff;
use walpost_core::{Topic, Topics, start};

use crate::env::Env;
use crate::postgres::State;
use crate::session::{End, Session};

/// The relay's process, as the operating system sees it.
#[derive(Debug)]
pub(crate) enum Process {
    Down { until: u64 },
    Up(Box<Running>),
}

#[derive(Debug)]
pub(crate) struct Running {
    /// What is known of the topics, while there is no session.
    topics: Option<Topics>,
    /// The counts that the relay was told.
    pub(crate) believed: BTreeMap<usize, u32>,
    backoff: Backoff,
    pub(crate) session: Option<Session>,
    connect_at: u64,
    /// Records in a batch: fewer after one was refused as a whole.
    batch: usize,
    parked: bool,
    /// Questions of the session before: their answers may still come.
    late: Vec<Topic>,
}

impl Process {
    pub(crate) fn start(env: &Env) -> Self {
        let after = Duration::from_millis(env.plan.unknown_topic_after_ms);
        Self::Up(Box::new(Running {
            topics: Some(Topics::new(after)),
            believed: BTreeMap::new(),
            backoff: Backoff::new(),
            session: None,
            connect_at: env.ms(),
            batch: env.plan.batch,
            parked: false,
            late: Vec::new(),
        }))
    }

    pub(crate) fn running(&mut self) -> Option<&mut Running> {
        match self {
            Self::Up(running) => Some(running),
            Self::Down { .. } => None,
        }
    }

    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        self.running()?.session.as_mut()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, env: &mut Env) {
        if let Self::Up(running) = self {
            if let Some(session) = running.session.take() {
                let arrives = env.rng.usize(0..4);
                session.close(env, arrives);
            }
            let until = env.ms() + env.rng.u64(0..1_500);
            *self = Self::Down { until };
        }
    }

    /// SIGTERM.
    pub(crate) fn terminate(&mut self, env: &mut Env) {
        let Some(running) = self.running() else {
            return;
        };
        match &mut running.session {
            Some(session) => session.terminate(env),
            None => {
                let until = env.ms() + env.rng.u64(0..1_500);
                *self = Self::Down { until };
            }
        }
    }

    /// Timers, and what follows from them and from everything that happened before.
    pub(crate) fn tick(&mut self, env: &mut Env) {
        match self {
            Self::Down { until } if *until <= env.ms() => *self = Self::start(env),
            Self::Down { .. } => {}
            Self::Up(running) => {
                if let Some(until) = running.tick(env) {
                    *self = Self::Down { until };
                }
            }
        }
    }

    pub(crate) fn deadline(&self) -> u64 {
        match self {
            Self::Down { until } => *until,
            Self::Up(running) => match &running.session {
                Some(session) => session.deadline().unwrap_or(0),
                None => running.connect_at,
            },
        }
    }
}

impl Running {
    /// Says until when the process is gone, if it has ended.
    fn tick(&mut self, env: &mut Env) -> Option<u64> {
        let Some(mut session) = self.session.take() else {
            if self.connect_at <= env.ms() {
                self.connect(env);
            }
            return None;
        };
        session.tick(env, &self.believed);
        let Some(end) = session.end(env) else {
            self.session = Some(session);
            return None;
        };
        env.say(|| format!("relay: session over: {end:?}"));
        self.backoff.session_ended(session.age(env.ms()));
        self.late = session.questions.clone();
        self.topics = Some(session.close(env, usize::MAX));
        let now = env.ms();
        match end {
            End::Retry(_) => self.retry(env),
            End::Smaller => {
                env.cover("smaller batches are tried");
                self.batch = (self.batch / 3).max(1);
                self.connect_at = now;
            }
            End::Park => {
                env.cover("the relay parked");
                self.parked = true;
                self.connect_at = now + 500;
            }
            End::Exit(_) => {
                // Somebody looks at it now and then, and lets the events pass that were in the way.
                if env.rng.u32(0..4) == 0 {
                    env.kafka.strict_until = now;
                    env.tombstones = true;
                }
                return Some(now + env.rng.u64(0..1_500));
            }
        }
        None
    }

    fn retry(&mut self, env: &mut Env) {
        let delay = self.backoff.next_delay(env.rng.u32(..));
        let delay = u64::try_from(delay.as_millis()).expect("at most 30 s");
        self.connect_at = env.ms() + delay;
    }

    fn connect(&mut self, env: &mut Env) {
        if self.parked && !env.kafka.up {
            self.connect_at = env.ms() + 500;
            return;
        }
        self.parked = false;
        let busy = env.pg.sender.is_some();
        if env.pg.state != State::Up || busy {
            *env.coverage.entry("the slot was busy").or_default() += u64::from(busy);
            self.retry(env);
            return;
        }
        let slot = env.pg.slot_row();
        let floor = match start::start_at(Some(&slot), &env.pg.server_state()) {
            Ok(floor) => floor,
            Err(refusal) => panic!("start: {refusal:?}"),
        };
        let now = env.ms();
        env.pg
            .start_replication(floor, &mut env.rng, &env.plan, now);
        let topics = self.topics.take().expect("no session has them");
        let mut session = Session::new(env, floor, topics, self.batch);
        env.say(|| format!("relay: session {} from {floor}", env.sessions));
        for topic in self.late.drain(..) {
            if env.rng.bool() {
                session.questions.push(topic);
            }
        }
        session.pump(env, &self.believed);
        self.session = Some(session);
    }
}
