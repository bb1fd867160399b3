//! What the world does to the relay, and how it heals.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use walpost_core::Topic;

use super::World;
use crate::env::Env;
use crate::plan::{Fault, chance, pick};
use crate::postgres::{Replacement, State};
use crate::schedule::Deed;
use crate::session::Session;
use crate::walsender::topic_name;

impl World {
    /// What is done at this step. Nothing happens by itself in a quiet time.
    pub(super) fn disturb(&mut self) {
        let deeds = self.due();
        if self.env.ms() < self.quiet_until {
            return;
        }
        for deed in deeds {
            match self.case.deeds[deed].1 {
                Deed::Strike(fault) => {
                    self.strike(fault);
                    // Whoever waits for something new has to know it before time goes on.
                    self.tick();
                }
                Deed::Write => self.write(),
            }
        }
        if self.promotes_at.is_some_and(|at| at <= self.env.ms()) {
            self.promotes_at = None;
            // A standby's row lacks what was told past the grace; mostly it has no slot either.
            Self::fail_over(&mut self.env, 10);
            self.tick();
        }
        if std::mem::take(&mut self.env.puts_disk_back) {
            self.env
                .cover("a snapshot was put back where an event was in the way");
            Self::replace(&mut self.env, Replacement::Snapshot);
            self.tick();
        }
    }

    /// The deeds of the step that has begun.
    fn due(&mut self) -> Range<usize> {
        let from = self.done;
        let rest = &self.case.deeds[from..];
        self.done += rest.partition_point(|(step, _)| *step < self.step);
        from..self.done
    }

    fn write(&mut self) {
        let env = &mut self.env;
        if env.pg.state == State::Up {
            let did = env.pg.write(&mut env.rng, &env.plan, &mut env.history);
            env.say(|| format!("application: {did}"));
        }
    }

    fn strike(&mut self, fault: Fault) {
        let is_suspended = self.process.is_suspended();
        let env = &mut self.env;
        let now = env.ms();
        match fault {
            // Nothing reaches the process.
            Fault::Terminate | Fault::Ping | Fault::Pressed | Fault::Rotation | Fault::Suspend
                if is_suspended => {}
            Fault::Crash => Self::crash(env),
            Fault::FastShutdown => Self::shut_down(env),
            Fault::Failover => Self::fail_over(env, 60),
            Fault::Restore => Self::restore(env),
            Fault::LinkCut => Self::cut_link(env),
            Fault::BlackHole => self.lose_link(),
            Fault::Suspend => {
                env.cover("the process was stopped for a while");
                let until = now + pick(&mut env.rng, &[500, 5_000, 30_000, 200_000]);
                self.process.suspend(now, until);
            }
            Fault::SlotMoved => Self::move_slot(env),
            Fault::Ddl => env.pg.shape = env.rng.u8(0..6),
            Fault::Outage => Self::outage(env),
            Fault::OtherCluster => Self::lead_elsewhere(env),
            Fault::Reject => env.kafka.rejects = true,
            Fault::TopicGrow | Fault::TopicAgain => self.change_topic(fault),
            Fault::Kill => {
                env.cover("the process was killed");
                self.process.kill(env);
            }
            Fault::Terminate => {
                Self::perhaps_an_outage(env);
                env.cover("the process got SIGTERM");
                self.process.terminate(env);
            }
            Fault::Unwritable => self.make_unwritable(),
            Fault::Hang => Self::hang(env),
            Fault::Locked => Self::lock(env),
            Fault::EpochBump => self.bump_epoch(),
            Fault::Publication if env.pg.state == State::Up => {
                env.cover("the publication was made anew");
                env.pg.remake_publication(&mut env.rng, &mut env.history);
            }
            Fault::Ping => self.touch_session(Session::ping),
            Fault::Pressed => self.touch_session(Session::press),
            Fault::Rotation => self.touch_session(Session::make_room),
            Fault::Quiet => {
                let quiet = pick(&mut env.rng, &[1_000, 30_000, 400_000]);
                self.quiet_until = now + quiet;
            }
            // These change how something else goes.
            Fault::SlotRemade
            | Fault::Publication
            | Fault::Uncertain
            | Fault::StreamError
            | Fault::AsyncCommit
            | Fault::KeepaliveInside
            | Fault::KeepaliveHint
            | Fault::Question
            | Fault::BehindFloor
            | Fault::Clutter
            | Fault::Late
            | Fault::Poison
            | Fault::Refuse
            | Fault::NullPayload
            | Fault::LettersRefused
            | Fault::TopicLate
            | Fault::Metadata => {}
        }
    }

    fn make_unwritable(&mut self) {
        let env = &mut self.env;
        let now = env.ms();
        env.cover("the checkpoint can't be written");
        env.pg.unwritable_until = now + pick(&mut env.rng, &[500, 5_000, 400_000]);
        if env.plan.has(Fault::Failover) && env.rng.bool() {
            self.promotes_at = Some(now + pick(&mut env.rng, &[1_000, 4_000]));
        }
    }

    fn hang(env: &mut Env) {
        env.cover("the checkpoint is not answered for");
        env.pg.hangs_until = env.ms() + pick(&mut env.rng, &[500, 5_000, 400_000]);
    }

    /// Whoever locks the checkpoint may be there at a restart too.
    fn lock(env: &mut Env) {
        env.cover("the checkpoint is locked");
        env.pg.locked_until = env.ms() + pick(&mut env.rng, &[500, 5_000, 60_000]);
        if env.plan.has(Fault::Restore) && chance(&mut env.rng, 20) {
            Self::replace(env, Replacement::Snapshot);
        }
    }

    fn touch_session(&mut self, act: fn(&mut Session, &mut Env, &BTreeMap<usize, u32>)) {
        if let Some(running) = self.process.running()
            && let Some(session) = &mut running.session
        {
            act(session, &mut self.env, &running.believed);
        }
    }

    fn crash(env: &mut Env) {
        if !matches!(env.pg.state, State::Down { .. }) {
            env.cover("Postgres crashed");
            let until = env.ms() + env.rng.u64(0..3_000);
            env.pg.crash(until);
        }
    }

    fn shut_down(env: &mut Env) {
        if env.pg.state == State::Up {
            Self::perhaps_an_outage(env);
            env.cover("Postgres shuts down");
            env.pg.begin_shutdown(&mut env.history);
        }
    }

    /// `slots`: in so many percent of the cases the standby has the slot.
    fn fail_over(env: &mut Env, slots: u32) {
        env.cover("a standby was promoted");
        let has_slot = chance(&mut env.rng, slots);
        Self::replace(env, Replacement::Standby { has_slot });
    }

    fn restore(env: &mut Env) {
        let (what, by) = if env.rng.bool() {
            ("a backup was restored", Replacement::Backup)
        } else {
            ("a snapshot was put back", Replacement::Snapshot)
        };
        env.cover(what);
        Self::replace(env, by);
    }

    fn replace(env: &mut Env, by: Replacement) {
        let until = env.ms() + env.rng.u64(0..3_000);
        let (rng, history) = (&mut env.rng, &mut env.history);
        env.pg.replace(by, rng, history, env.sessions, until);
        if !env.pg.knows_cluster() {
            env.kafka.lead_back();
        }
    }

    /// A server that takes the place of another one is busy at once; and whoever looks after it may
    /// make the slot that it has not got.
    pub(super) fn take_over(env: &mut Env) {
        if !std::mem::take(&mut env.pg.is_new) {
            return;
        }
        Self::write_much(env, &[1, 5, 20]);
        let may_be = env.plan.has(Fault::SlotRemade) && !env.healing;
        let is_made = may_be && chance(&mut env.rng, 80);
        if is_made && env.pg.can_be_remade() {
            env.cover("somebody made the slot anew");
            env.pg.make_slot();
            env.pg.remade = true;
        }
        Self::write_much(env, &[1, 30, 200]);
    }

    fn write_much(env: &mut Env, most: &[usize]) {
        let most = pick(&mut env.rng, most);
        for _ in 0..env.rng.usize(0..most) {
            env.pg.write(&mut env.rng, &env.plan, &mut env.history);
        }
    }

    fn cut_link(env: &mut Env) {
        let arrives = env.rng.usize(0..3);
        let noticed_at = env.ms() + pick(&mut env.rng, &[0, 300, 2_000]);
        if let Some(mut peer) = env.pg.peer() {
            peer.close(arrives, noticed_at);
            env.cover("the connection broke");
        }
    }

    /// Nothing arrives any more, in both directions; the server notices when its time is over.
    fn lose_link(&mut self) {
        let env = &mut self.env;
        let arrives = env.rng.usize(0..3);
        let noticed_at = env.ms() + env.plan.wal_sender_timeout_ms;
        if let Some(session) = self.process.session()
            && let Some(mut peer) = env.pg.peer()
        {
            peer.close(arrives, noticed_at);
            session.lose_link(env.clock.ms());
            env.cover("the network lost the connection");
        }
    }

    fn move_slot(env: &mut Env) {
        if Self::can_be_moved(env) {
            env.cover("somebody moved the slot");
            env.pg.move_slot();
        }
    }

    /// Nobody streams, and only the row can tell that the slot was moved.
    fn can_be_moved(env: &Env) -> bool {
        let end = env.pg.flush_end();
        env.pg.state == State::Up
            && env.pg.sender.is_none()
            && env.pg.moved_from.is_none()
            && env.pg.slot.is_some()
            && env.pg.recorded().is_some_and(|row| row.as_u64() < end)
            && env.pg.told_without_row.is_none()
    }

    /// What has no report yet is sent once more, also what has arrived.
    fn bump_epoch(&mut self) {
        if let Some(session) = self.process.session()
            && session.producer.bump_epoch()
        {
            self.env.cover("a producer sends again what has arrived");
        }
    }

    fn outage(env: &mut Env) {
        env.cover("Kafka went away");
        env.kafka.up = false;
        env.kafka.break_connections();
        env.kafka.back_at = env.ms() + pick(&mut env.rng, &[200, 3_000, 60_000]);
    }

    /// Kafka's address leads to another cluster for a while. Which one has the events is on record:
    /// otherwise a process that begins now could not know.
    pub(super) fn lead_elsewhere(env: &mut Env) {
        if env.kafka.up && !env.kafka.is_elsewhere() && env.pg.knows_cluster() {
            env.cover("Kafka's address leads to another cluster");
            let until = env.ms() + pick(&mut env.rng, &[3, 20, 1_000, 60_000]);
            let has_topics = chance(&mut env.rng, 70);
            env.kafka.lead_elsewhere(until, has_topics);
        }
    }

    /// Shutdowns are the harder the longer Kafka is away.
    fn perhaps_an_outage(env: &mut Env) {
        if env.plan.has(Fault::Outage) && env.rng.bool() {
            Self::outage(env);
        }
    }

    fn change_topic(&mut self, fault: Fault) {
        let env = &mut self.env;
        let now = env.ms();
        let index = env.rng.usize(0..env.kafka.topics.len());
        let topic = &mut env.kafka.topics[index];
        if topic.exists_at > now {
            return;
        }
        if fault == Fault::TopicGrow {
            topic.partitions += env.rng.u32(1..=2);
            env.cover("a topic got more partitions");
        } else {
            topic.remake(&mut env.rng, now);
            env.cover("a topic was made anew");
        }
        // The owner may hear of it by itself, and fetch the count unasked.
        let noticed = env.rng.bool();
        if noticed && let Some(session) = self.process.session() {
            let name = Bytes::from(topic_name(index));
            let topic = Topic::new(name).expect("Kafka takes its name");
            session.questions.push(topic);
        }
    }

    pub(super) fn heal(&mut self) {
        let env = &mut self.env;
        env.say(|| "everything heals".to_owned());
        let now = env.ms();
        env.healing = true;
        env.kafka.up = true;
        env.kafka.rejects = false;
        env.kafka.lead_back();
        env.kafka.hurry_late();
        env.mend();
        env.pg.unwritable_until = 0;
        env.pg.hangs_until = 0;
        env.pg.locked_until = 0;
        for topic in &mut env.kafka.topics {
            topic.exists_at = topic.exists_at.min(now);
        }
        if let State::Down { until } = &mut env.pg.state {
            *until = now;
        }
        self.quiet_until = 0;
        if self.process.is_suspended() {
            self.process.suspend(now, now);
        }
    }
}
