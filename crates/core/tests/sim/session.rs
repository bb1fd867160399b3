//! One session: the relay, its producer, its connection. It does what the contract of `Relay` asks
//! of the owner.

mod ending;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use walpost_core::{
    Delivery, Mapping, MappingSpec, NullPayload, Policy, Position, Record, Recording, Rejection,
    Relay, RelayError, Rulings, Session as Start, Status, TableName, Ticket, Topic, TopicFault,
    Topics,
};
use walpost_pgoutput::{CopyMessage, Lsn, PgTimestamp, StandbyStatus};

use crate::env::Env;
use crate::kafka::{Producer, TOO_LARGE, number};
use crate::plan::{Fault, chance, pick};
use crate::postgres::State;
use crate::watch::Watch;

/// The longest `shutdown.drain`.
const DRAIN_MS: u64 = 20_000;
/// Without a delivery for so long the stream is closed.
const PARK_MS: u64 = 20_000;
/// How often a session that is to end asks how far the server has come.
const ONCE_MS: u64 = 200;
/// An unread stream is closed so long after a shutdown was seen on another connection.
const UNREAD_MS: u64 = 1_000;

/// A session of one process.
#[derive(Debug)]
pub(crate) struct Session {
    relay: Relay,
    pub(crate) producer: Producer,
    pub(crate) deliveries: VecDeque<Delivery>,
    pub(crate) questions: Vec<Topic>,
    /// The checkpoint that is being written.
    pub(crate) writing: Option<Lsn>,
    /// What the row is known to hold, and since when nothing newer.
    recorded: Lsn,
    recorded_at: u64,
    phase: Phase,
    pub(crate) watch: Watch,
    started_at: u64,
    /// A record that the producer had no room for, and the count that it was placed by.
    unsent: Option<(Record, u32)>,
    /// Records without an acknowledgement that the relay has seen.
    unacked: usize,
    positions: BTreeMap<Ticket, Position>,
    /// The first event that Kafka refused for its own fault.
    refused: Option<Position>,
    /// The one that the producer refused.
    refused_here: Option<Position>,
    /// The last record that left.
    left: Option<Position>,
    moved_at: u64,
    unread_since: Option<u64>,
    timer: Option<u64>,
    /// What has to be confirmed for the session to end.
    target: Option<u64>,
    pinged_at: u64,
    /// The process got SIGTERM: no other session follows.
    is_last: bool,
    /// The stream is gone.
    is_cut_off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Streaming,
    /// It was asked to stop, and goes on to the end of the transaction whose records are leaving.
    Asked {
        until: u64,
    },
    /// Nothing more leaves.
    Draining {
        until: u64,
    },
    Halting {
        until: u64,
    },
    Settling {
        until: u64,
    },
}

/// Why a session is over, and what its process does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Reconnect with backoff.
    Retry(&'static str),
    /// Reconnect at once, with smaller batches.
    Smaller,
    /// Wait for Kafka without a stream.
    Park,
    /// The process exits.
    Exit(&'static str),
}

impl Session {
    /// `recorded`: what the checkpoint holds.
    pub(crate) fn new(
        env: &mut Env,
        floor: Lsn,
        recorded: Lsn,
        topics: Topics,
        batch: usize,
    ) -> Self {
        env.sessions += 1;
        let once = env.plan.once && !env.healing && chance(&mut env.rng, 30);
        let now = env.ms();
        let spec = MappingSpec {
            tables: vec![TableName {
                schema: "public".to_owned(),
                name: "outbox".to_owned(),
            }],
            null_payload: if env.tombstones {
                NullPayload::Tombstone
            } else {
                NullPayload::Refuse
            },
            ..MappingSpec::default()
        };
        let start = Start {
            floor,
            format: env.plan.format,
            wal_sender_timeout: Duration::from_millis(env.plan.wal_sender_timeout_ms),
            window: env.plan.limits,
            textual: BTreeSet::new(),
            policy: Policy::Halt,
            size_is_final_until: None,
            recording: match env.plan.grace {
                None => Recording::Off,
                Some(grace) => Recording::On { recorded, grace },
            },
        };
        let mapping = Mapping::new(&spec).expect("the default layout is a mapping");
        Self {
            relay: Relay::new(mapping, start, Rulings::default(), topics),
            producer: Producer::new(env.sessions, batch),
            deliveries: VecDeque::new(),
            questions: Vec::new(),
            writing: None,
            recorded,
            recorded_at: now,
            phase: Phase::Streaming,
            watch: Watch::new(floor, env.plan.status_interval_ms()),
            started_at: now,
            unsent: None,
            unacked: 0,
            positions: BTreeMap::new(),
            refused: None,
            refused_here: None,
            left: None,
            moved_at: now,
            unread_since: None,
            timer: None,
            target: once.then(|| env.pg.flush_end()),
            pinged_at: now,
            is_last: false,
            is_cut_off: false,
        }
    }

    /// Whether it streams, with no end in sight.
    pub(crate) fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming && self.target.is_none()
    }

    /// Whether the stream is read and records leave.
    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Streaming | Phase::Asked { .. })
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
        if self.phase == Phase::Streaming {
            let until = env.ms() + pick(&mut env.rng, &[0, 50, DRAIN_MS]);
            self.phase = Phase::Asked { until };
            if self.is_in_the_middle() {
                env.cover("a stop in the middle of a transaction");
            }
        }
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
            let Some(delivery) = self.deliveries.pop_front() else {
                break;
            };
            let acked = delivery.result.is_ok();
            env.say(|| format!("relay: ticket {} acknowledged: {acked}", delivery.ticket.0));
            self.moved_at = env.ms();
            if let Err(error) = self.take(delivery) {
                env.say(|| format!("relay: {error}"));
                if !matches!(self.phase, Phase::Settling { .. }) {
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
        if let Ok(count) = answer {
            believed.insert(number(topic), count);
        }
        self.relay.handle_topic(env.clock.now(), topic, answer);
        self.pump(env, believed);
    }

    /// The outputs, in the order of the contract.
    pub(crate) fn pump(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let now = env.clock.now();
        if !matches!(self.phase, Phase::Settling { .. }) {
            self.send_records(env, believed);
            while let Some(topic) = self.relay.poll_topic(now) {
                env.say(|| format!("relay: asks for {topic}"));
                self.questions.push(topic);
            }
        }
        let write = self.relay.poll_checkpoint(now);
        if let Some(lsn) = write {
            env.say(|| format!("relay: writes the checkpoint {lsn}"));
            assert!(self.writing.is_none(), "checkpoint: two writes at once");
            self.writing = write;
        }
        self.tell(env);
        self.timer = self.relay.poll_timeout().map(|at| env.clock.ms_of(at));
        self.check(env);
        self.look_at_halt(env, believed);
    }

    /// Sends what may leave; stops where the producer has no room.
    fn send_records(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        while self.may_send(env) {
            let polled = self.unsent.take().or_else(|| self.poll(env, believed));
            let Some((record, count)) = polled else {
                return;
            };
            if !self.producer.has_room(&env.plan) {
                env.cover("the producer was full");
                self.unsent = Some((record, count));
                return;
            }
            let strict = env.plan.has(Fault::Refuse) && env.ms() < env.kafka.strict_until;
            if strict && env.history.find(&record).poison {
                env.cover("the producer refused an event");
                self.refused_here = Some(record.position);
                let refused = self.take(Delivery {
                    ticket: record.ticket,
                    result: Err(too_large()),
                });
                assert!(refused.is_ok(), "halt: a refused event is no error");
            } else {
                self.producer.send(record, count);
            }
        }
    }

    /// Whether records may leave. A stop begins as soon as it cuts no transaction in two.
    fn may_send(&mut self, env: &mut Env) -> bool {
        if let Phase::Asked { until } = self.phase {
            let cuts = self.is_in_the_middle();
            if !cuts || env.ms() >= until {
                self.relay.drain();
                self.phase = Phase::Draining { until };
                if cuts {
                    self.left = None;
                    env.cover("a stop cut a transaction in two");
                }
            }
        }
        self.is_open()
    }

    /// The next record, and the count that it was placed by.
    fn poll(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) -> Option<(Record, u32)> {
        let record = self.relay.poll_record(env.clock.now())?;
        let topic = number(&record.topic);
        let Some(count) = believed.get(&topic).copied() else {
            panic!("placement: a record left without a count");
        };
        assert!(
            record.partition >= 0 && record.partition.cast_unsigned() < count,
            "placement: partition {} of {count}",
            record.partition
        );
        env.say(|| describe_record(&record));
        if self.unacked == 0 {
            self.moved_at = env.ms();
        }
        self.unacked += 1;
        self.left = Some(record.position);
        self.positions.insert(record.ticket, record.position);
        Some((record, count))
    }

    /// Sends the status updates that are due.
    fn tell(&mut self, env: &mut Env) {
        while let Some(status) = self.relay.poll_status(env.clock.now()) {
            self.send(env, &status);
        }
    }

    fn send(&mut self, env: &mut Env, status: &Status) {
        let owed = self.owed(env);
        self.check_recorded(env, status.flush);
        let now = env.ms();
        env.say(|| {
            format!(
                "relay: status write {} flush {}",
                status.write, status.flush
            )
        });
        self.watch.status(status, owed, &env.history, now);
        if status.flush == Lsn::ZERO {
            let stopping = env.pg.state == State::Stopping;
            *env.coverage.entry("a courtesy answer").or_default() += 1;
            *env.coverage.entry("one in a shutdown").or_default() += u64::from(stopping);
        }
        if let Some(mut peer) = env.pg.peer() {
            peer.send(&standby_status(status));
        }
    }

    /// The write of the checkpoint ends.
    pub(crate) fn recorded(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let lsn = self.writing.take().expect("a write is under way");
        let now = env.ms();
        let written = env.pg.record(lsn, &mut env.rng, &mut env.history, now);
        let is_unsure = env.plan.has(Fault::Uncertain) && !env.healing;
        let is_heard = !is_unsure || chance(&mut env.rng, 80);
        let is_written = written && is_heard;
        env.say(|| format!("relay: the checkpoint is written: {is_written}"));
        env.cover(match (written, is_heard) {
            (true, true) => "a checkpoint",
            (true, false) => "a checkpoint that the relay does not know of",
            (false, _) => "a checkpoint that failed",
        });
        if is_written {
            self.recorded = lsn;
            self.recorded_at = now;
        }
        self.relay.handle_checkpointed(is_written);
        self.pump(env, believed);
    }

    /// What the server has to hear of.
    fn owed(&self, env: &Env) -> Lsn {
        let confirmed = self.relay.confirmed();
        match env.plan.grace {
            None => confirmed,
            Some(_) => confirmed.min(self.recorded),
        }
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
        if flush
            > env
                .pg
                .row
                .max(Some(self.watch.floor()))
                .expect("a session wrote it")
        {
            let age = Duration::from_millis(env.ms() - self.recorded_at);
            assert!(age >= grace, "checkpoint: told without it, after {age:?}");
            env.cover("a position without a checkpoint");
            env.pg.told_without_row = env.pg.told_without_row.max(Some(flush));
        }
    }

    /// How far the server may have been told more than the row holds.
    pub(crate) fn unrecorded(&self) -> Option<Lsn> {
        self.relay.unrecorded()
    }

    /// The bounds and the progress that every step has to keep.
    fn check(&mut self, env: &mut Env) {
        let snapshot = self.relay.snapshot();
        let limits = env.plan.limits;
        if self.unacked == 0 && snapshot.queued == 0 {
            self.watch.check_idle(snapshot.confirmed);
        }
        assert!(snapshot.window <= limits.events, "bounds: the window");
        assert!(
            snapshot.in_flight <= snapshot.window as usize,
            "bounds: records in flight"
        );
        let undelivered = snapshot.in_flight + snapshot.queued;
        assert!(
            undelivered <= limits.events as usize,
            "bounds: records that were taken in"
        );
        self.check_reading(env, undelivered, snapshot.undelivered_bytes);
        let producer = &self.producer;
        assert!(
            producer.unreported <= limits.events as usize,
            "bounds: records at the producer"
        );
        assert!(
            producer.unreported_bytes <= limits.bytes || producer.unreported == 1,
            "bounds: bytes at the producer"
        );
        if env.rng.u32(0..64) == 0 {
            let boundaries = format!("{:?}", self.relay).matches("Boundary {").count();
            assert!(
                boundaries <= snapshot.in_flight + snapshot.queued,
                "bounds: {boundaries} boundaries for {} records",
                snapshot.in_flight + snapshot.queued
            );
        }
    }

    /// With room for any record the stream is read, whatever Kafka does: Postgres may have a
    /// question.
    fn check_reading(&self, env: &Env, undelivered: usize, bytes: usize) {
        let (plan, limits) = (&env.plan, env.plan.limits);
        let room = undelivered < limits.events as usize
            && limits.bytes.saturating_sub(bytes) > plan.record_bytes_max();
        // A record that found no room in the producer is in the way of the one behind it.
        let in_the_way = self.relay.halted().is_some() || plan.has(Fault::NullPayload);
        assert!(
            !room || in_the_way || !self.is_open() || self.relay.wants_wal(),
            "reading: the stream is not read although there is room"
        );
    }

    fn take(&mut self, delivery: Delivery) -> Result<(), RelayError> {
        let position = self.positions.remove(&delivery.ticket);
        match &delivery.result {
            Ok(()) => self.unacked -= 1,
            Err(rejection) if rejection.code == TOO_LARGE => {
                self.refused = self.refused.min(position).or(position);
            }
            Err(_) => {}
        }
        self.relay.handle_delivery(delivery)
    }

    /// The owner wants a sign of life from the server.
    pub(crate) fn ping(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        self.relay.ping();
        self.watch.may_answer();
        self.pump(env, believed);
    }

    /// When something happens by itself.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Streaming if self.unacked > 0 => Some(self.moved_at + PARK_MS),
            Phase::Streaming => None,
            Phase::Asked { until }
            | Phase::Draining { until }
            | Phase::Halting { until }
            | Phase::Settling { until } => Some(until),
        };
        let ping = self.target.filter(|_| self.is_open());
        let ping = ping.map(|_| self.pinged_at + ONCE_MS);
        let unread = self.unread_since.map(|since| since + UNREAD_MS);
        [self.timer, phase, ping, unread]
            .into_iter()
            .flatten()
            .min()
    }

    /// Serves the timers.
    pub(crate) fn tick(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let is_asked = matches!(self.phase, Phase::Asked { .. });
        if is_asked || self.timer.is_none_or(|timer| timer <= env.ms()) {
            self.pump(env, believed);
        }
        let wants_ping = self.target.is_some() && self.is_open();
        if wants_ping && env.ms() >= self.pinged_at + ONCE_MS {
            self.pinged_at = env.ms();
            self.ping(env, believed);
        }
        self.watch.tick(self.owed(env), env.ms());
    }

    /// Lets go of everything. `arrives`: how many of the statuses under way reach the server.
    pub(crate) fn close(mut self, env: &mut Env, arrives: usize) -> Topics {
        let now = env.ms();
        let noticed_at = now + env.rng.u64(0..200);
        if let Some(mut peer) = env.pg.peer() {
            peer.close(arrives, noticed_at);
        }
        let (kafka, history) = (&env.kafka, &mut env.history);
        self.producer.purge(kafka, history, &mut env.rng, now);
        self.relay.into_topics()
    }
}

fn too_large() -> Rejection {
    Rejection {
        code: TOO_LARGE,
        name: "REFUSED".to_owned(),
        detail: String::new(),
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

fn describe_record(record: &Record) -> String {
    let Record {
        ticket,
        topic,
        partition,
        position,
        ..
    } = record;
    let ticket = ticket.0;
    format!("relay: record {ticket} to {topic}/{partition} ({position})")
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
