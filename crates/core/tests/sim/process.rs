//! The process around the sessions: reconnects, waits for Kafka, ends, and is started again.

use std::collections::BTreeMap;
use std::time::Duration;

use walpost_core::backoff::Backoff;
use walpost_core::start::{Accepted, Evidence, Fingerprint, News, Recorded, Refusal, Unrecorded};
use walpost_core::{Topic, Topics, start};
use walpost_pgoutput::Lsn;

use crate::env::Env;
use crate::postgres::{IDENTITY, State};
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
    unrecorded: Option<Unrecorded>,
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
            unrecorded: None,
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
        let told = session.unrecorded().map(|lsn| Unrecorded {
            identity: IDENTITY,
            lsn,
        });
        self.unrecorded = told.or(self.unrecorded);
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
        let now = env.ms();
        let (floor, remembered) = self.start_at(env);
        if env.plan.grace.is_some() {
            if now >= env.pg.unwritable_until {
                env.pg.row = env.pg.row.max(Some(floor));
            } else if env.pg.row.is_none_or(|row| row < floor) && !remembered {
                self.retry(env);
                return;
            } else {
                env.cover("a session that starts without its checkpoint");
            }
        }
        let recorded = env.pg.row.map_or(floor, |row| row.min(floor));
        env.pg
            .start_replication(floor, &mut env.rng, &env.plan, now);
        let topics = self.topics.take().expect("no session has them");
        let mut session = Session::new(env, floor, recorded, topics, self.batch);
        env.say(|| format!("relay: session {} from {floor}", env.sessions));
        for topic in self.late.drain(..) {
            if env.rng.bool() {
                session.questions.push(topic);
            }
        }
        session.pump(env, &self.believed);
        self.session = Some(session);
    }

    /// Where the slot and the row say. What they don't explain has to be somebody else's doing, and
    /// an operator puts it right.
    fn start_at(&self, env: &mut Env) -> (Lsn, bool) {
        let mut accepted = Accepted::default();
        loop {
            let row = env.pg.checkpoint();
            let start = start::start_at(&Evidence {
                server: &env.pg.server_state(),
                slot: Some(&env.pg.slot_row()),
                recorded: match (&row, env.plan.grace) {
                    (_, None) => Recorded::Off,
                    (None, _) => Recorded::Nothing,
                    (Some(row), _) => Recorded::Row(row),
                },
                switched_at: None,
                unrecorded: self.unrecorded,
                config: &Fingerprint::new(),
                accepted: &accepted,
            });
            match start {
                Ok(start) => {
                    for news in &start.news {
                        env.cover(match news {
                            News::Adopted => "a slot was adopted",
                            News::Rewound { .. } => "a slot was rewound",
                            News::Remembered => "a position was remembered",
                            News::Accepted(_) => "a position was accepted",
                            News::Promoted { .. } => unreachable!("there is one timeline"),
                        });
                    }
                    let remembered = start.news == [News::Remembered];
                    return (start.lsn, remembered);
                }
                Err(Refusal::Moved { confirmed, .. }) => {
                    if let Some(before) = env.pg.moved_from.take() {
                        env.cover("a slot that was moved is refused");
                        env.pg.slot.confirmed = before;
                        env.pg.slot.durable = env.pg.slot.durable.min(before);
                        continue;
                    }
                    // Past the grace, and the process that knew is gone.
                    assert!(
                        env.pg.told_without_row >= Some(confirmed),
                        "start: the slot stands at {confirmed}, which nobody told it"
                    );
                    accepted.slot_position = Some(confirmed);
                }
                Err(refusal) => panic!("start: {refusal:?}"),
            }
        }
    }
}
