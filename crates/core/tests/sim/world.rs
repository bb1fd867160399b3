//! The scheduler: one step is one thing that happens somewhere.

mod faults;

use walpost_pgoutput::Lsn;

use crate::env::Env;
use crate::plan::{Fault, chance};
use crate::postgres::State;
use crate::process::Process;
use crate::schedule::Case;

/// After everything is healed the relay has so long to catch up, in virtual milliseconds.
const HEALED_MS_MAX: u64 = 300_000;
const HEALED_STEPS_MAX: u32 = 200_000;
/// What is at rest is so again after as many steps at most, when it has given a sign of life.
const STIRS_MAX: u32 = 20;
/// A shutdown may stand still so long, and take so many status updates meanwhile.
const SHUTDOWN_MS_MAX: u64 = 2_500;
const SHUTDOWN_STATUSES_MAX: u64 = 20;

/// A process that was stopped needs so long to be in time again.
const RESUMED_MS: u64 = 1_500;

/// Things that can happen when there is something to do them with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Walsender,
    Status,
    Read,
    Deliver,
    Append,
    Record,
    Report,
    Answer,
    /// A broker says what cluster it is of.
    Prove,
    /// A request of a producer that is gone is carried out.
    Late,
}

/// One run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) env: Env,
    case: Case,
    /// Steps that have begun.
    pub(crate) step: u32,
    /// Deeds that are done, or whose time is over.
    done: usize,
    process: Process,
    quiet_until: u64,
    /// Somebody promotes a standby then, because the server can't be written to.
    promotes_at: Option<u64>,
    shutdown: Option<Shutdown>,
    finished: bool,
}

/// A fast shutdown as it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shutdown {
    sent: u64,
    data: u64,
    since: u64,
    /// What the server was told, and updates that told it no more.
    flushed: Lsn,
    statuses: u64,
}

impl World {
    pub(crate) fn new(case: Case, traced: bool) -> Self {
        let mut env = Env::new(&case, traced);
        let process = Process::start(&mut env);
        Self {
            env,
            case,
            step: 0,
            done: 0,
            process,
            quiet_until: 0,
            promotes_at: None,
            shutdown: None,
            finished: false,
        }
    }

    /// The whole run: trouble first, then everything heals and has to come to rest.
    pub(crate) fn run(&mut self) {
        while self.step < self.case.steps {
            self.begin_step();
            self.disturb();
            self.go_on();
        }
        self.heal();
        let healed_at = self.env.ms();
        let mut steps = 0;
        while !self.is_at_rest() {
            self.begin_step();
            self.go_on();
            steps += 1;
            let late = self.env.ms() > healed_at + HEALED_MS_MAX || steps > HEALED_STEPS_MAX;
            assert!(!late, "liveness: {}", self.what_is_missing());
        }
        self.stay_idle();
        let late = self.env.history.late_repeats;
        self.env.count("a repeat came late", late);
        let letters = self.env.history.letters;
        let shortened = self.env.history.letters_without_value;
        self.env.count("a dead letter arrived", letters);
        self.env.count("a dead letter without its value", shortened);
        let (phantoms, below) = (self.env.history.phantoms(), self.env.history.below_told);
        self.env
            .count("phantoms of a server that was lost", phantoms);
        self.env
            .count("an event below what a lost server was told", below);
    }

    fn what_is_missing(&mut self) -> String {
        let env = &self.env;
        let end = Lsn::new(env.pg.flush_end());
        match env.history.first_missing() {
            Some((position, event)) => format!("event {} at {position} is not in Kafka", event.id),
            None => format!(
                "the slot stands at {:?} and the WAL ends at {end}",
                env.pg.confirmed()
            ),
        }
    }

    /// Everything is delivered and confirmed, to the end of the WAL.
    fn is_at_rest(&mut self) -> bool {
        let env = &mut self.env;
        let has_unread = env.pg.peer().is_some_and(|peer| peer.has_data());
        self.finished
            && !has_unread
            && !env.pg.sender_is_ready(&env.plan)
            && env.pg.state == State::Up
            && env.history.is_complete()
            && env.kafka.late.is_empty()
            && Self::is_confirmed(env)
            && self
                .process
                .session()
                .is_some_and(|session| session.is_streaming() && session.has_told(env))
    }

    /// To the end of the WAL; with a checkpoint, past the last event.
    fn is_confirmed(env: &Env) -> bool {
        let confirmed = env.pg.confirmed();
        match env.plan.grace {
            None => confirmed == Some(Lsn::new(env.pg.flush_end())),
            Some(_) => {
                let last = Lsn::new(env.history.last_commit());
                confirmed.min(env.pg.recorded()) > Some(last)
            }
        }
    }

    /// Nothing happens for a while: the relay only keeps the connection alive.
    fn stay_idle(&mut self) {
        let statuses = |world: &mut Self| {
            let session = world.process.session().expect("it rests");
            session.watch.statuses
        };
        let (before, appended) = (statuses(self), self.env.history.appended);
        let until = self.env.ms() + 20_000;
        while self.env.ms() < until {
            self.begin_step();
            self.go_on();
        }
        let told = statuses(self) - before;
        let asks = self
            .env
            .plan
            .ask_interval_ms()
            .map_or(0, |ms| 20_000_u64.div_ceil(ms));
        let expected = 20_000 / self.env.plan.status_interval_ms() + asks;
        assert!(told <= expected + 4, "idle: {told} statuses in 20 s");
        assert_eq!(
            appended, self.env.history.appended,
            "idle: events came again"
        );
        // A sign of life may be under way at this moment.
        for _ in 0..STIRS_MAX {
            if self.is_at_rest() {
                break;
            }
            self.begin_step();
            self.go_on();
        }
        assert!(self.is_at_rest(), "idle: no longer at rest");
    }

    fn begin_step(&mut self) {
        self.env.rng = self.case.rng(self.step);
        self.step += 1;
    }

    /// One thing happens, and time goes on.
    fn go_on(&mut self) {
        let actions = self.actions();
        if actions.is_empty() {
            let patient = self.env.healing || self.env.ms() < self.quiet_until;
            if patient || chance(&mut self.env.rng, 25) {
                self.jump();
            } else {
                self.wait(30);
            }
        } else {
            let action = self.choose(&actions);
            self.act(action);
            self.wait(4);
        }
        self.tick();
    }

    fn wait(&mut self, max: u64) {
        let ms = self.env.ms() + self.env.rng.u64(0..=max);
        self.env
            .clock
            .advance_to(ms.min(self.next_deadline().max(self.env.ms())));
    }

    /// Nothing can happen before the next timer.
    fn jump(&mut self) {
        let next = self.next_deadline();
        self.env.clock.advance_to(next.max(self.env.ms() + 1));
    }

    fn next_deadline(&self) -> u64 {
        let env = &self.env;
        let mut next = self.process.deadline(env.clock);
        if !env.kafka.up {
            next = next.min(env.kafka.back_at);
        }
        if let Some(until) = env.kafka.elsewhere_until {
            next = next.min(until);
        }
        if let State::Down { until } = env.pg.state {
            next = next.min(until);
        }
        if let Some(at) = env
            .pg
            .sender
            .as_ref()
            .and_then(|sender| sender.deadline(&env.plan))
        {
            next = next.min(at);
        }
        for until in [self.quiet_until, env.pg.hangs_until] {
            if self.env.ms() < until {
                next = next.min(until);
            }
        }
        next
    }

    fn actions(&mut self) -> Vec<(Action, u32)> {
        let env = &mut self.env;
        let speeds = env.plan.speeds;
        let mut actions = Vec::with_capacity(8);
        if env.pg.sender_is_ready(&env.plan) {
            actions.push((Action::Walsender, speeds.walsender));
        }
        if env
            .pg
            .sender
            .as_ref()
            .is_some_and(|sender| sender.has_status())
        {
            actions.push((Action::Status, speeds.status));
        }
        if env.kafka.has_late(env.clock.ms()) {
            actions.push((Action::Late, speeds.append));
        }
        let is_suspended = self.process.is_suspended();
        let Some(session) = self.process.session() else {
            return actions;
        };
        if session.producer.can_append(&env.kafka) {
            actions.push((Action::Append, speeds.append));
        }
        if is_suspended {
            return actions;
        }
        let has_data = env.pg.peer().is_some_and(|peer| peer.has_data());
        if has_data && session.wants_wal() {
            actions.push((Action::Read, speeds.read));
        }
        if session.can_prove(env) {
            actions.push((Action::Prove, speeds.answer));
        }
        if session.can_deliver(env) {
            actions.push((Action::Deliver, speeds.deliveries));
        }
        if session.is_written_by_now(env) {
            actions.push((Action::Record, speeds.record));
        }
        if session.producer.can_report(&env.kafka) {
            actions.push((Action::Report, speeds.report));
        }
        if !session.questions.is_empty() {
            actions.push((Action::Answer, speeds.answer));
        }
        actions
    }

    fn choose(&mut self, actions: &[(Action, u32)]) -> Action {
        let total = actions.iter().map(|(_, weight)| weight).sum();
        let mut draw = self.env.rng.u32(0..total);
        for (action, weight) in actions {
            match draw.checked_sub(*weight) {
                Some(rest) => draw = rest,
                None => return *action,
            }
        }
        unreachable!("the draw is below the sum")
    }

    fn act(&mut self, action: Action) {
        let env = &mut self.env;
        let now = env.ms();
        match action {
            Action::Walsender => {
                env.pg
                    .step_sender(&mut env.rng, &env.plan, &env.history, now);
                return;
            }
            Action::Status => {
                if let Some(status) = env.pg.take_status(now) {
                    env.say(|| format!("server: took flush {}", status.flush));
                    if let Some(shutdown) = &mut self.shutdown {
                        // What was under way already brings it nearer to the end.
                        let is_progress = status.flush > shutdown.flushed;
                        shutdown.statuses += u64::from(!is_progress);
                        shutdown.flushed = shutdown.flushed.max(status.flush);
                    }
                }
                return;
            }
            Action::Late => {
                env.kafka.append_late(&mut env.history, now);
                return;
            }
            Action::Read
            | Action::Deliver
            | Action::Append
            | Action::Record
            | Action::Report
            | Action::Prove
            | Action::Answer => {}
        }
        let Some(running) = self.process.running() else {
            return;
        };
        let Some(session) = &mut running.session else {
            return;
        };
        match action {
            Action::Read => session.read(env, &running.believed),
            Action::Deliver => {
                let count = env.rng.usize(1..=session.deliveries.len());
                session.deliver(env, &running.believed, count);
            }
            Action::Append => {
                let producer = &mut session.producer;
                let (kafka, history) = (&mut env.kafka, &mut env.history);
                let news = producer.append(kafka, history, &mut env.rng, now);
                if let Some(news) = news {
                    env.cover(news);
                }
            }
            Action::Record => session.recorded(env, &running.believed),
            Action::Report => {
                let reports = session.producer.report(&mut env.rng, &env.kafka);
                session.deliveries.extend(reports);
            }
            Action::Prove => {
                session.prove(env);
                // Before what waits for the answer is looked at.
                let may_be = env.plan.has(Fault::OtherCluster) && !env.healing;
                if may_be && chance(&mut env.rng, 10) {
                    Self::lead_elsewhere(env);
                }
            }
            Action::Answer => {
                let index = env.rng.usize(0..session.questions.len());
                let topic = session.questions.swap_remove(index);
                session.answer(env, &mut running.believed, &topic);
            }
            Action::Walsender | Action::Status | Action::Late => unreachable!("done above"),
        }
    }

    /// Everything that happens by itself at its time.
    fn tick(&mut self) {
        let env = &mut self.env;
        let now = env.ms();
        if !env.kafka.up && env.kafka.back_at <= now {
            env.kafka.up = true;
        }
        if env.kafka.elsewhere_until.is_some_and(|until| until <= now) {
            env.kafka.lead_back();
        }
        if let State::Down { until } = env.pg.state
            && until <= now
        {
            env.say(|| "Postgres is up".to_owned());
            env.pg.start(&mut env.rng, &mut env.history);
            Self::take_over(env);
        }
        if env.healing && !self.finished && env.pg.state == State::Up {
            env.pg.finish(&mut env.rng, &mut env.history);
            self.finished = true;
        }
        if let Some(sender) = &mut env.pg.sender {
            let is_late = env.resumed_at > 0 && now <= env.resumed_at + RESUMED_MS;
            sender.tick(&env.plan, now, is_late || self.process.is_suspended());
        }
        env.pg.notice_client(now);
        self.process.tick(&mut self.env);
        self.watch_shutdown();
    }

    /// A shutdown goes on, or ends; it never stands still.
    fn watch_shutdown(&mut self) {
        let env = &mut self.env;
        if env.pg.state != State::Stopping {
            self.shutdown = None;
            return;
        }
        let now = env.ms();
        let is_late = self.process.is_suspended() || now <= env.resumed_at + RESUMED_MS;
        // There is nothing that a relay could do.
        if is_late || env.pg.peer().is_none() {
            self.shutdown = None;
        }
        env.pg.ask_to_stop(now);
        if env.pg.sender.is_none() {
            env.cover("Postgres shut down");
            let until = now + env.rng.u64(0..2_000);
            env.pg.end_shutdown(env.plan.shutdown_saves_slot, until);
            self.shutdown = None;
            return;
        }
        let sent = env.pg.sender.as_ref().map_or(0, |sender| sender.sent());
        let data = self
            .process
            .session()
            .map_or(0, |session| session.watch.data);
        let shutdown = self.shutdown.get_or_insert(Shutdown {
            sent,
            data,
            since: now,
            flushed: Lsn::ZERO,
            statuses: 0,
        });
        if (shutdown.sent, shutdown.data) != (sent, data) {
            *shutdown = Shutdown {
                sent,
                data,
                since: now,
                flushed: shutdown.flushed,
                statuses: 0,
            };
        }
        assert!(
            now <= shutdown.since + SHUTDOWN_MS_MAX && shutdown.statuses <= SHUTDOWN_STATUSES_MAX,
            "shutdown: Postgres waits for the relay, after {} status updates",
            shutdown.statuses
        );
    }
}
