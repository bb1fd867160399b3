//! One session: the relay, its producer, its connection. It does what the contract of `Relay` asks
//! of the owner.

mod bounds;
mod cluster;
mod ending;
mod exceptions;
mod grace;
mod sending;
mod silence;
mod stall;
mod telling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use walpost_core::ending::Ending;
use walpost_core::park::Stall;
use walpost_core::silence::Silence;
use walpost_core::start::Identity;
use walpost_core::{
    Delivery, Halt, Mapping, MappingSpec, NullPayload, Policy, Position, Recent, Record, Recording,
    Relay, RelayError, Rulings, Session as Start, TableName, Ticket, Topic, TopicFault, Topics,
};
use walpost_pgoutput::{CopyMessage, Lsn};

use self::cluster::Proof;
use self::grace::Grace;
use self::stall::Wait;
use crate::clock::Clock;
use crate::env::Env;
use crate::kafka::{INVALID, Producer, Report, TOO_LARGE, number};
use crate::plan::{Fault, chance, pick};
use crate::process::Terms;
use crate::walsender::topic_name;
use crate::watch::Watch;

/// The longest `shutdown.drain`.
const DRAIN_MS: u64 = 20_000;
/// A write of the checkpoint that is not answered is given up after so long.
const ANSWER_MS: u64 = 6_000;
/// The longest drain that makes room for another producer.
const ROOM_MS: u64 = 2_000;
/// How often a session that is to end asks how far the server has come.
const ONCE_MS: u64 = 200;
/// An unread stream is closed so long after a shutdown was seen on another connection.
const UNREAD_MS: u64 = 1_000;

/// A session of one process.
#[derive(Debug)]
pub(crate) struct Session {
    relay: Relay,
    /// The server that it is connected to.
    pub(crate) identity: Identity,
    pub(crate) instance: u32,
    pub(crate) producer: Producer,
    pub(crate) deliveries: VecDeque<Report>,
    /// What is known of the cluster.
    pub(crate) proof: Proof,
    pub(crate) questions: Vec<Topic>,
    /// The checkpoint that is being written.
    pub(crate) writing: Option<Lsn>,
    /// It is given up then.
    write_until: u64,
    /// What the row is known to hold, and since when nothing newer.
    recorded: Lsn,
    grace: Grace,
    recorded_at: u64,
    /// The last write of it failed.
    has_failed: bool,
    /// The server is about to give the slot up.
    is_pressed: bool,
    ending: Ending,
    /// Until when a drain that was asked for may take.
    drains_until: Option<u64>,
    /// How long it waits for what is in flight when it has caught up, or an event is in its way.
    patience_ms: u64,
    /// Its drain began in the middle of a transaction.
    is_cut: bool,
    /// It has failed, or what is around it: what is in flight is waited for until then.
    settles_until: Option<u64>,
    pub(crate) watch: Watch,
    started_at: u64,
    /// A record that the producer had no room for, and the count that it was placed by.
    unsent: Option<(Record, u32)>,
    /// Records without an acknowledgement that the relay has seen.
    unacked: usize,
    positions: BTreeMap<Ticket, Position>,
    /// The first event that Kafka refused for its own fault.
    refused: Option<Position>,
    /// When an event was in the way for the first time: it halts the relay when everything before
    /// it has arrived.
    judged_at: u64,
    /// It is halted, and that was looked at.
    has_halted: bool,
    /// What it is to do with single events.
    terms: Terms,
    /// The last record that left.
    left: Option<Position>,
    /// Records of events that an earlier session of the process had delivered.
    pub(crate) repeated: u64,
    stall: Stall,
    wait: Wait,
    /// Everything that was committed when it began lies before it.
    began_at_end_of: Lsn,
    unread_since: Option<u64>,
    timer: Option<u64>,
    pinged_at: u64,
    /// The process got SIGTERM: no other session follows.
    is_last: bool,
    /// The stream is gone.
    is_cut_off: bool,
    /// The stream lacks rows, for the want of the publication.
    pub(crate) lacks_publication: bool,
    silence: Silence,
    /// When something was last read, or nothing could have been.
    heard_at: u64,
    /// The stream is gone, which nobody says: TCP gives it up then.
    lost_until: Option<u64>,
}

/// Why a session is over, and what its process does then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Reconnect with backoff.
    Retry(&'static str),
    /// Go on at once, with another producer.
    MadeRoom,
    /// An event is in the way.
    Halted(Box<Halt>),
    /// Wait for Kafka without a stream.
    Park,
    /// The process exits.
    Exit(&'static str),
}

impl Session {
    /// `recorded`: what the checkpoint holds.
    pub(crate) fn new(
        env: &mut Env,
        (floor, recorded): (Lsn, Lsn),
        topics: Topics,
        mut terms: Terms,
    ) -> Self {
        env.sessions += 1;
        let once = env.plan.once && !env.healing && chance(&mut env.rng, 30);
        let target = once.then(|| Lsn::new(env.pg.flush_end()));
        let patience_ms = pick(&mut env.rng, &[0, 50, DRAIN_MS]);
        let now = env.ms();
        let timeout = Duration::from_millis(env.plan.wal_sender_timeout_ms);
        let start = Start {
            floor,
            format: env.plan.format,
            wal_sender_timeout: timeout,
            window: env.plan.limits,
            textual: BTreeSet::new(),
            policy: policy(env),
            size_is_final_until: terms.size_is_final_until,
            recording: match env.plan.grace {
                None => Recording::Off,
                Some(grace) => Recording::On { recorded, grace },
            },
        };
        let mapping = mapping(env.tombstones);
        Self {
            relay: Relay::new(mapping, start, std::mem::take(&mut terms.rulings), topics),
            identity: env.pg.identity,
            instance: env.pg.instance,
            producer: Producer::new(env.sessions, env.processes, terms.sizes, &env.kafka),
            deliveries: VecDeque::new(),
            proof: Proof::default(),
            questions: Vec::new(),
            writing: None,
            write_until: 0,
            recorded,
            grace: Grace::default(),
            recorded_at: now,
            has_failed: false,
            is_pressed: false,
            ending: Ending::new(target, Duration::from_millis(patience_ms)),
            patience_ms,
            drains_until: None,
            is_cut: false,
            settles_until: None,
            watch: Watch::new(floor, env.plan.status_interval_ms()),
            started_at: now,
            unsent: None,
            unacked: 0,
            positions: BTreeMap::new(),
            refused: None,
            judged_at: u64::MAX,
            has_halted: false,
            terms,
            left: None,
            repeated: 0,
            stall: Stall::new(),
            wait: Wait::new(now),
            began_at_end_of: Lsn::new(env.pg.flush_end()),
            unread_since: None,
            timer: None,
            pinged_at: now,
            is_last: false,
            is_cut_off: false,
            lacks_publication: false,
            silence: Silence::new(env.clock.now(), timeout),
            heard_at: now,
            lost_until: None,
        }
    }

    /// Whether it streams, with no end in sight.
    pub(crate) fn is_streaming(&self) -> bool {
        self.settles_until.is_none() && self.ending.is_open() && !self.ending.has_target()
    }

    /// Whether the stream is read and records leave.
    fn is_open(&self) -> bool {
        self.settles_until.is_none() && self.ending.may_send() && self.relay.halted().is_none()
    }

    /// The process got SIGTERM.
    pub(crate) fn is_last(&self) -> bool {
        self.is_last
    }

    pub(crate) fn age(&self, now: u64) -> Duration {
        Duration::from_millis(now - self.started_at)
    }

    /// Whether the stream would be read if there were something.
    pub(crate) fn wants_wal(&self) -> bool {
        self.is_open() && self.relay.wants_wal()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&mut self, env: &mut Env) {
        self.is_last = true;
        let drain = pick(&mut env.rng, &[0, 50, DRAIN_MS]);
        let made_room = !self.ending.is_open();
        let deadline = env.clock.now() + Duration::from_millis(drain);
        if self.ending.stop(deadline) {
            self.drains_until = Some(env.ms() + drain);
            if self.is_in_the_middle() {
                env.cover("a stop in the middle of a transaction");
            }
            if made_room {
                env.cover("a stop while room is made for another producer");
            }
        }
    }

    /// The next session is to go on with another producer.
    pub(crate) fn make_room(&mut self, env: &mut Env, _: &BTreeMap<usize, u32>) {
        let drain = pick(&mut env.rng, &[0, 50, ROOM_MS]);
        if self.ending.is_open() {
            self.drains_until = Some(env.ms() + drain);
        }
        let deadline = env.clock.now() + Duration::from_millis(drain);
        self.ending.make_room(deadline);
    }

    /// A drain now would cut a transaction in two.
    fn is_in_the_middle(&self) -> bool {
        self.unsent.is_some() || self.relay.splits_transaction()
    }

    /// Reads a few messages of the stream. Between two of them only records are looked at.
    pub(crate) fn read(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        for _ in 0..env.rng.usize(1..=env.plan.reads) {
            if !self.wants_wal() {
                break;
            }
            let Some(bytes) = env.pg.peer().and_then(|mut peer| peer.read()) else {
                break;
            };
            self.hear(env);
            if self.is_ended_by_an_error(env) || self.is_ended_for_its_publication(env, &bytes) {
                return;
            }
            let message = CopyMessage::decode(bytes).expect("the model sends what decodes");
            env.say(|| describe(&message));
            self.watch.fed(&message);
            let ignored = self.relay.snapshot().ignored;
            if let Err(error) = self.relay.handle_wal(message) {
                panic!("the relay refused a good stream: {error}");
            }
            if self.relay.snapshot().ignored > ignored {
                env.cover("something that is no event was passed over");
            }
            self.send_records(env, believed);
        }
        self.pump(env, believed);
    }

    /// Takes up to `count` delivery reports.
    pub(crate) fn deliver(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>, count: usize) {
        for _ in 0..count {
            let Some(delivery) = self.next_delivery(env) else {
                break;
            };
            let acked = delivery.result.is_ok();
            env.say(|| format!("relay: ticket {} acknowledged: {acked}", delivery.ticket.0));
            if let Err(error) = self.take(env, delivery) {
                env.say(|| format!("relay: {error}"));
                if self.settles_until.is_none() {
                    self.settle(env);
                    env.cover("a session ended with an error");
                }
            }
            self.pump(env, believed);
        }
    }

    /// Kafka answers a metadata request.
    pub(crate) fn answer(
        &mut self,
        env: &mut Env,
        believed: &mut BTreeMap<usize, u32>,
        topic: &Topic,
    ) {
        let answer = if env.plan.has(Fault::Metadata) && !env.healing && chance(&mut env.rng, 40) {
            Err(TopicFault::Unavailable("timed out".to_owned()))
        } else {
            env.kafka.count(topic, env.ms())
        };
        env.say(|| format!("kafka: topic {topic}: {answer:?}"));
        let has_answered = !matches!(answer, Err(TopicFault::Unavailable(_)));
        if has_answered && !self.see_cluster(env) {
            return;
        }
        if let Ok(count) = answer {
            believed.insert(number(topic), count);
        }
        self.relay.handle_topic(env.clock.now(), topic, answer);
        self.pump(env, believed);
    }

    /// The outputs, in the order of the contract.
    pub(crate) fn pump(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let now = env.clock.now();
        if self.settles_until.is_none() {
            self.send_records(env, believed);
            while let Some(topic) = self.relay.poll_topic(now) {
                env.say(|| format!("relay: asks for {topic}"));
                self.questions.push(topic);
            }
        }
        self.look_at_exceptions(env, believed);
        if self.relay.refused().or(self.relay.halted()).is_some() {
            self.judged_at = self.judged_at.min(env.ms());
        }
        let write = self.relay.poll_checkpoint(now);
        if let Some(lsn) = write {
            env.say(|| format!("relay: writes the checkpoint {lsn}"));
            assert!(self.writing.is_none(), "checkpoint: two writes at once");
            self.writing = write;
            self.write_until = env.ms() + ANSWER_MS;
        }
        self.tell(env);
        self.watch.check_answered();
        self.timer = self.relay.poll_timeout().map(|at| env.clock.ms_of(at));
        self.check(env);
        self.look_at_halt(env, believed);
    }

    fn take(&mut self, env: &mut Env, delivery: Delivery) -> Result<(), RelayError> {
        let position = self.positions.remove(&delivery.ticket);
        let refused = delivery.result.as_ref().err().map(|refused| refused.code);
        let before = self.relay.snapshot();
        let taken = self.relay.handle_delivery(delivery);
        let after = self.relay.snapshot();
        match refused {
            None => self.unacked -= 1,
            Some(_) if after.in_flight < before.in_flight => {
                if after.dead_letters > before.dead_letters {
                    env.cover("a dead letter in the place of an event that was refused alone");
                }
                self.take_back();
                self.replace_producer(env);
            }
            Some(TOO_LARGE | INVALID) => self.refused = self.refused.min(position).or(position),
            Some(_) => {}
        }
        taken
    }

    /// The last record that left is the next one again.
    fn take_back(&mut self) {
        self.unacked -= 1;
        self.left = None;
    }

    /// Nothing else is in flight: another producer goes on after the one that had a record refused.
    fn replace_producer(&mut self, env: &Env) {
        let is_settled = self.producer.unreported == 0 && self.relay.is_drained();
        assert!(is_settled, "alone: something else was in flight");
        let sizes = self.producer.sizes;
        self.producer = Producer::new(env.sessions, env.processes, sizes, &env.kafka);
        self.proof.cluster.producer_is_new();
        self.relay.distrust_topics();
    }

    /// What is known of single events now, and what the checkpoint is known to hold.
    pub(crate) fn rulings(&self) -> (Rulings, Lsn) {
        (self.relay.rulings().clone(), self.relay.recorded())
    }

    /// How far sessions before came.
    pub(crate) fn count_from(&mut self, sent_before: Option<Position>) {
        self.relay.count_from(sent_before);
    }

    /// What was handed to Kafka.
    pub(crate) fn take_recent(&mut self) -> Recent {
        self.relay.take_recent()
    }

    /// The owner wants a sign of life from the server.
    pub(crate) fn ping(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        self.relay.ping();
        self.watch.may_answer();
        self.pump(env, believed);
    }

    /// When something happens by itself.
    pub(crate) fn deadline(&self, clock: Clock) -> Option<u64> {
        let drain = self.ending.deadline().map(|at| clock.ms_of(at));
        let pings = self.ending.has_target() && self.is_open();
        let ping = pings.then_some(self.pinged_at + ONCE_MS);
        let unread = self.unread_since.map(|since| since + UNREAD_MS);
        [
            self.timer,
            self.settles_until.or(drain),
            ping,
            unread,
            self.silence_deadline(clock),
            self.stall_deadline(clock),
            self.writing.map(|_| self.write_until),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Serves the timers.
    pub(crate) fn tick(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        self.judge_silence(env, believed);
        let is_asked = !self.ending.is_open();
        if is_asked || self.timer.is_none_or(|timer| timer <= env.ms()) {
            self.pump(env, believed);
        }
        let wants_ping = self.ending.has_target() && self.is_open();
        if wants_ping && env.ms() >= self.pinged_at + ONCE_MS {
            self.pinged_at = env.ms();
            self.ping(env, believed);
        }
        // A stream that has ended is told nothing more.
        if !self.is_cut_off {
            let owed = self.owed_by_now(env);
            self.watch.tick(owed, env.ms());
        }
    }

    /// Lets go of everything. `arrives`: how many of the statuses under way reach the server.
    pub(crate) fn close(mut self, env: &mut Env, arrives: usize) -> Topics {
        let now = env.ms();
        let noticed_at = now + env.rng.u64(0..200);
        if let Some(mut peer) = env.pg.peer() {
            peer.close(arrives, noticed_at);
        }
        let is_late = env.plan.has(Fault::Late) && !env.healing;
        let (kafka, history) = (&mut env.kafka, &mut env.history);
        let rng = &mut env.rng;
        self.producer.purge(kafka, history, rng, now, is_late);
        self.relay.into_topics()
    }
}

/// `tombstones`: a payload that is NULL is one.
fn mapping(tombstones: bool) -> Mapping {
    let spec = MappingSpec {
        tables: vec![TableName {
            schema: "public".to_owned(),
            name: "outbox".to_owned(),
        }],
        null_payload: if tombstones {
            NullPayload::Tombstone
        } else {
            NullPayload::Refuse
        },
        ..MappingSpec::default()
    };
    Mapping::new(&spec).expect("the default layout is a mapping")
}

fn policy(env: &Env) -> Policy {
    if !env.plan.letters {
        return Policy::Halt;
    }
    let name = topic_name(env.plan.topics);
    Policy::DeadLetter(name.parse().expect("Kafka takes its name"))
}

fn describe(message: &CopyMessage) -> String {
    match message {
        CopyMessage::Keepalive(keepalive) => format!(
            "server: keepalive {} reply {}",
            keepalive.wal_end, keepalive.reply_requested
        ),
        CopyMessage::XLogData(data) => {
            let kind = char::from(data.data[0]);
            format!("server: {kind} at {}", data.wal_end)
        }
    }
}
