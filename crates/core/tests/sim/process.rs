//! The process around the sessions: reconnects, waits for Kafka, ends, and is started again.

mod idle;
mod judge;

use std::collections::BTreeMap;
use std::time::Duration;

use walpost_core::backoff::Backoff;
use walpost_core::cluster::Cluster;
use walpost_core::park::Circuit;
use walpost_core::past::{self, LeftBehind, Past};
use walpost_core::start::{
    Accepted, Checkpoint, Evidence, Fingerprint, Identity, News, Recorded, Remembered, Start,
    Unrecorded,
};
use walpost_core::{Halt, Topic, Topics, Undeliverable, start};

use walpost_pgoutput::Lsn;

use self::idle::{Held, Parked, Then};
pub(crate) use self::judge::Terms;
use self::judge::{Bench, Next};
use crate::clock::Clock;
use crate::env::Env;
use crate::kafka::Producer;
use crate::operator;
use crate::plan::{Fault, chance, pick};
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
    /// What is known of the Kafka cluster, while there is no session.
    cluster: Cluster,
    /// The producer of the last session, if it is whole.
    producer: Option<Producer>,
    /// What is known of the topics, while there is no session.
    topics: Option<Topics>,
    /// The counts that the relay was told.
    pub(crate) believed: BTreeMap<usize, u32>,
    backoff: Backoff,
    pub(crate) session: Option<Box<Session>>,
    /// It is stopped until then.
    suspended_until: Option<u64>,
    suspended_at: u64,
    connect_at: u64,
    /// What it knows of single events.
    bench: Bench,
    circuit: Circuit,
    /// It waits for Kafka.
    parked: Option<Parked>,
    /// It waits before an event.
    held: Option<Held>,
    unrecorded: Option<Unrecorded>,
    /// The row, as it was last read or written.
    remembered: Option<Remembered>,
    /// The publication was not there for some row.
    uses_spare: bool,
    /// The history that it met last, and what it sent of it.
    past: Past,
    /// How often the server's disk had been put back when it began.
    put_back: u32,
    /// What its last session told to which server.
    told: Option<(u32, Lsn)>,
    /// Where the last session was.
    last: Option<Identity>,
    /// What it was started with.
    accepted: Accepted,
    /// Questions of the session before: their answers may still come.
    late: Vec<Topic>,
}

impl Process {
    pub(crate) fn start(env: &mut Env) -> Self {
        let after = Duration::from_millis(env.plan.unknown_topic_after_ms);
        let accepted = operator::accepts(env);
        env.processes += 1;
        if !env.pg.knows_cluster() {
            env.kafka.lead_back();
        }
        Self::Up(Box::new(Running {
            cluster: Cluster::default(),
            producer: None,
            topics: Some(Topics::new(after)),
            believed: BTreeMap::new(),
            backoff: Backoff::new(),
            session: None,
            suspended_until: None,
            suspended_at: 0,
            connect_at: env.ms(),
            bench: Bench::new(env),
            circuit: Circuit::default(),
            parked: None,
            held: None,
            unrecorded: None,
            remembered: None,
            uses_spare: false,
            past: Past::default(),
            put_back: env.pg.put_back,
            told: None,
            last: None,
            accepted,
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
        self.running()?.session.as_deref_mut()
    }

    /// SIGSTOP, and SIGCONT later.
    pub(crate) fn suspend(&mut self, now: u64, until: u64) {
        if let Some(running) = self.running()
            && running.suspended_until.replace(until).is_none()
        {
            running.suspended_at = now;
        }
    }

    pub(crate) fn is_suspended(&self) -> bool {
        match self {
            Self::Up(running) => running.suspended_until.is_some(),
            Self::Down { .. } => false,
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, env: &mut Env) {
        if let Self::Up(running) = self {
            if let Some(session) = running.session.take() {
                let arrives = env.rng.usize(0..4);
                session.close(env, arrives);
            }
            // Its supervisor may be quicker than its requests.
            let after = pick(&mut env.rng, &[1, 1_500]);
            let until = env.ms() + env.rng.u64(0..after);
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
                if running.is_stopped(env) {
                    return;
                }
                if let Some(until) = running.tick(env) {
                    *self = Self::Down { until };
                }
            }
        }
    }

    pub(crate) fn deadline(&self, clock: Clock) -> u64 {
        match self {
            Self::Down { until } => *until,
            Self::Up(running) => match (running.suspended_until, &running.session) {
                (Some(until), _) => until,
                (None, Some(session)) => session.deadline(clock).unwrap_or(0),
                (None, None) => running.idle_deadline(),
            },
        }
    }
}

impl Running {
    /// Whether it is stopped; it goes on when its time has come.
    fn is_stopped(&mut self, env: &mut Env) -> bool {
        let Some(until) = self.suspended_until else {
            return false;
        };
        let now = env.ms();
        if now < until {
            return true;
        }
        env.say(|| "the process goes on".to_owned());
        env.resumed_at = now;
        self.suspended_until = None;
        if let Some(session) = &mut self.session {
            session.resume(now - self.suspended_at, now);
        }
        false
    }

    /// Says until when the process is gone, if it has ended.
    fn tick(&mut self, env: &mut Env) -> Option<u64> {
        let Some(mut session) = self.session.take() else {
            return self.idle(env);
        };
        session.tick(env, &self.believed);
        let Some(end) = session.end(env, &mut self.circuit) else {
            self.session = Some(session);
            return None;
        };
        env.say(|| format!("relay: session over: {end:?}"));
        self.backoff.session_ended(session.age(env.ms()));
        self.late = session.questions.clone();
        self.told = Some((session.instance, session.watch.told()));
        let identity = session.identity;
        self.bench.session_ended(session.rulings());
        self.last = Some(identity);
        let sent = session.take_recent();
        // Positions mean something else after a disk was put back, and nobody knows.
        let knows = env.pg.put_back == self.put_back;
        assert!(
            sent.again() >= session.repeated || !knows,
            "count: {} repeats, and {} are counted",
            session.repeated,
            sent.again()
        );
        self.past.add(sent);
        let told = session.unrecorded();
        if let Some(remembered) = &mut self.remembered {
            remembered.row.lsn = session.recorded_to();
        }
        let is_last = session.is_last();
        if session.lacks_publication {
            assert!(!self.uses_spare, "publication: the spare lacks rows");
            self.uses_spare = true;
        }
        let (instance, arrived) = (session.instance, session.unrecorded_arrivals());
        self.unrecorded = told.map(|lsn| Unrecorded { identity, lsn });
        self.cluster = session.proof.cluster.clone();
        let is_kept = session.producer.is_idle() && env.rng.bool();
        self.producer = is_kept.then(|| session.producer.clone());
        self.topics = Some(session.close(env, usize::MAX));
        match end {
            End::Retry(_) => self.retry(env),
            End::MadeRoom => {
                self.producer = None;
                self.connect_at = env.ms();
            }
            End::Halted(halt) => return self.after_halt(env, &halt, is_last),
            End::Park => {
                let is_news = self.circuit.park(env.clock.now());
                env.cover(if is_news {
                    "the relay parked"
                } else {
                    "the relay parked again"
                });
                self.producer = None;
                let cluster = self.cluster.id();
                self.parked = Some(Parked::new(env, (instance, arrived), is_news, cluster));
            }
            End::Exit(_) => return Some(Self::exit(env, None)),
        }
        None
    }

    /// Says until when the process is gone, if it has ended.
    fn after_halt(&mut self, env: &mut Env, halt: &Halt, is_last: bool) -> Option<u64> {
        let next = self.bench.after_halt(env, halt);
        match next {
            Next::Later if !is_last => self.retry(env),
            Next::Again(ms) if !is_last => {
                self.producer = None;
                self.connect_at = env.ms() + ms;
                let may_be = env.plan.has(Fault::Restore) && !env.healing;
                env.puts_disk_back |= may_be && chance(&mut env.rng, 10);
            }
            Next::Hold if !is_last => {
                env.cover("the line is held before an event");
                self.held = Some(Held::new(env, halt.event.clone()));
            }
            Next::Later | Next::Again(_) | Next::Hold | Next::Stop => {
                let stopped = (next == Next::Stop).then_some(&halt.event);
                return Some(Self::exit(env, stopped));
            }
        }
        None
    }

    /// Says until when the process is gone. Somebody looks at it meanwhile.
    fn exit(env: &mut Env, in_the_way: Option<&Undeliverable>) -> u64 {
        if let Some(event) = in_the_way {
            operator::looks_at(env, event);
        }
        env.ms() + env.rng.u64(0..1_500)
    }

    fn retry(&mut self, env: &mut Env) {
        let delay = self.backoff.next_delay(env.rng.u32(..));
        let delay = u64::try_from(delay.as_millis()).expect("at most 30 s");
        self.connect_at = env.ms() + delay;
    }

    /// Nothing is streamed now. Says until when the process is gone, if it is.
    fn idle(&mut self, env: &mut Env) -> Option<u64> {
        let then = if let Some(parked) = &mut self.parked {
            let (recorded, then) = parked.tick(env);
            if let Some(lsn) = recorded {
                self.unrecorded = None;
                if let Some(remembered) = &mut self.remembered {
                    remembered.row.lsn = lsn;
                }
            }
            then
        } else if let Some(held) = &mut self.held {
            held.tick(env)
        } else if self.connect_at <= env.ms() {
            return self.connect(env);
        } else {
            Then::Wait
        };
        match then {
            Then::Wait => None,
            Then::GoOn => {
                self.circuit.try_again();
                self.parked = None;
                self.held = None;
                self.connect_at = env.ms();
                None
            }
            Then::Restart => {
                env.cover("a process that held the line is restarted");
                Some(env.ms() + env.rng.u64(0..1_500))
            }
        }
    }

    fn idle_deadline(&self) -> u64 {
        match (&self.parked, &self.held) {
            (Some(parked), _) => parked.deadline(),
            (None, Some(held)) => held.deadline(),
            (None, None) => self.connect_at,
        }
    }

    /// Says until when the process is gone, if it may not start.
    fn connect(&mut self, env: &mut Env) -> Option<u64> {
        if env.pg.state != State::Up {
            self.retry(env);
            return None;
        }
        match self.past.meet(env.pg.identity, env.pg.timelines()) {
            Ok(news) => self.look_at_past(env, news),
            Err(LeftBehind { .. }) => {
                env.cover("a server that was left behind is passed over");
                self.retry(env);
                // Somebody who means it has the relay begin anew.
                return chance(&mut env.rng, 30).then(|| Self::exit(env, None));
            }
        }
        if env.pg.sender.is_some() {
            env.cover("the slot was busy");
            self.retry(env);
            return None;
        }
        let Some(row) = self.read(env) else {
            self.retry(env);
            return None;
        };
        let Some(start) = self.start_at(env, row.as_ref()) else {
            return Some(env.ms() + env.rng.u64(0..1_500));
        };
        let floor = start.lsn;
        env.history.check_flush(floor);
        // A write whose outcome was not known can have moved a row that is locked now.
        let is_read = env.plan.grace.is_some() && env.ms() >= env.pg.locked_until;
        assert!(
            !is_read || Some(floor) >= env.pg.recorded(),
            "start: what is on record comes again"
        );
        let recorded = match env.plan.grace {
            None => Some(floor),
            Some(_) => self.record(env, row.as_ref(), &start),
        };
        let Some(recorded) = recorded else {
            self.retry(env);
            return None;
        };
        let cluster = row.and_then(|row| row.kafka_cluster);
        self.cluster.session_begins(cluster);
        self.begin(env, floor, recorded);
        None
    }

    /// What was sent of a history that is left behind is named, and nothing else is.
    fn look_at_past(&self, env: &mut Env, news: Option<past::News>) {
        if env.pg.put_back != self.put_back {
            return;
        }
        if let Some(past::News::Parted { phantoms, .. }) = news {
            env.count("a phantom was named", phantoms.len());
            for (position, id) in phantoms {
                env.history.name_phantom(position, &id);
            }
        }
        env.history.check_phantoms(env.processes);
    }

    fn begin(&mut self, env: &mut Env, floor: Lsn, recorded: Lsn) {
        let now = env.ms();
        self.accepted.begun();
        let from = (floor, self.uses_spare);
        env.pg.start_replication(from, &mut env.rng, &env.plan, now);
        let mut topics = self.topics.take().expect("no session has them");
        let kept = self.producer.take();
        if kept.is_none() {
            self.cluster.producer_is_new();
            topics.distrust();
        }
        let is_other = self.last.is_some_and(|last| last != env.pg.identity);
        let terms = self.bench.terms(env, &topics, is_other);
        let mut session = Session::new(env, (floor, recorded), topics, terms);
        session.count_from(self.past.sent_to());
        session.proof.cluster = std::mem::take(&mut self.cluster);
        if let Some(kept) = kept {
            session.producer.keep(&kept);
        }
        env.say(|| format!("relay: session {} from {floor}", env.sessions));
        for topic in self.late.drain(..) {
            if env.rng.bool() {
                session.questions.push(topic);
            }
        }
        session.pump(env, &self.believed);
        self.session = Some(Box::new(session));
    }

    /// The row, if there is one. None: it can't be read, and this process does not know it either.
    fn read(&self, env: &mut Env) -> Option<Option<Checkpoint>> {
        if env.plan.grace.is_none() || env.ms() >= env.pg.locked_until {
            return Some(env.pg.row().cloned());
        }
        let (identity, slot) = (env.pg.identity, env.pg.confirmed());
        let (start, told) = (env.pg.starts.to_string(), self.unrecorded);
        let told = told.map(|told| told.lsn);
        let row = self
            .remembered
            .as_ref()?
            .row(identity, &start, slot, told)?;
        env.cover("a locked checkpoint is remembered");
        if Some(row.lsn) < env.pg.recorded() {
            env.cover("a locked checkpoint that a lost answer has moved is remembered");
            // The session after this one may read it, and start further on.
            env.history.break_off_repeats(env.sessions + 1);
        }
        Some(Some(row.clone()))
    }

    /// Has the row hold the start. Says what it holds then; nothing, if there may be no session.
    fn record(&mut self, env: &mut Env, row: Option<&Checkpoint>, start: &Start) -> Option<Lsn> {
        let is_held =
            row.is_some_and(|row| row.lsn == start.lsn && row.identity == env.pg.identity);
        let now = env.ms();
        let (rng, history) = (&mut env.rng, &mut env.history);
        let cluster = row.and_then(|row| row.kafka_cluster.as_deref());
        if is_held || env.pg.store(start.lsn, cluster, rng, history, now) {
            self.remembered = Some(Remembered {
                row: Checkpoint {
                    identity: env.pg.identity,
                    lsn: start.lsn,
                    kafka_cluster: cluster.map(str::to_owned),
                    config: Fingerprint::new(),
                },
                server_start: env.pg.starts.to_string(),
            });
            return Some(start.lsn);
        }
        if start.news != [News::Remembered] {
            return None;
        }
        env.cover("a session that starts without its checkpoint");
        row.map(|row| row.lsn)
    }

    /// Where the slot and the row say. What they don't explain is for an operator.
    fn start_at(&self, env: &mut Env, row: Option<&Checkpoint>) -> Option<Start> {
        let start = start::start_at(&Evidence {
            server: &env.pg.server_state(),
            slot: env.pg.slot_row().as_ref(),
            recorded: match (row, env.plan.grace) {
                (_, None) => Recorded::Off,
                (None, _) => Recorded::Nothing,
                (Some(row), _) => Recorded::Row(row),
            },
            switched_at: env.pg.switched_at(),
            unrecorded: self.unrecorded,
            config: &Fingerprint::new(),
            accepted: &self.accepted,
        });
        match start {
            Ok(start) => {
                for news in &start.news {
                    env.cover(match news {
                        News::Adopted => "a slot was adopted",
                        News::Rewound { .. } => "a slot was rewound",
                        News::Remembered => "a position was remembered",
                        News::Accepted(_) => "a position was accepted",
                        News::Promoted { .. } => "a promoted server was taken",
                    });
                }
                Some(start)
            }
            Err(refusal) => {
                let (instance, told) = self.told.unzip();
                let told = told.filter(|_| instance == Some(env.pg.instance));
                operator::hears(env, refusal, told);
                None
            }
        }
    }
}
