//! One session: the relay, its producer, its connection. It does what the contract of `Relay` asks
//! of the owner.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use walpost_core::{
    Delivery, EventId, Mapping, MappingSpec, NullPayload, Position, Reason, Record, Relay,
    RelayError, Session as Start, Status, TableName, Ticket, Topic, TopicFault, Topics,
};
use walpost_pgoutput::{CopyMessage, Lsn, PgTimestamp, StandbyStatus};

use crate::env::Env;
use crate::kafka::{Producer, TOO_LARGE, number};
use crate::plan::{Fault, chance, pick};
use crate::postgres::State;
use crate::watch::Watch;

/// A session that failed waits at most so long for the reports that are missing.
const SETTLE_MS: u64 = 2_000;
/// The longest `shutdown.drain`.
const DRAIN_MS: u64 = 20_000;
/// Without a delivery for so long the stream is closed.
const PARK_MS: u64 = 20_000;
/// An unread stream is closed so long after a shutdown was seen on another connection.
const UNREAD_MS: u64 = 1_000;

/// A session of one process.
#[derive(Debug)]
pub(crate) struct Session {
    relay: Relay,
    pub(crate) producer: Producer,
    pub(crate) deliveries: VecDeque<Delivery>,
    pub(crate) questions: Vec<Topic>,
    phase: Phase,
    pub(crate) watch: Watch,
    started_at: u64,
    /// Records without an acknowledgement that the relay has seen.
    unacked: usize,
    positions: BTreeMap<Ticket, Position>,
    /// The first event that Kafka refused for its own fault.
    refused: Option<Position>,
    moved_at: u64,
    unread_since: Option<u64>,
    timer: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Streaming,
    Draining { until: u64 },
    Halting { until: u64 },
    Settling { until: u64 },
}

/// Why a session is over, and what its process does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Reconnect with backoff.
    Retry(&'static str),
    /// Wait for Kafka without a stream.
    Park,
    /// The process exits.
    Exit(&'static str),
}

impl Session {
    pub(crate) fn new(env: &mut Env, floor: Lsn, topics: Topics) -> Self {
        env.sessions += 1;
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
        };
        let mapping = Mapping::new(&spec).expect("the default layout is a mapping");
        Self {
            relay: Relay::new(mapping, start, topics),
            producer: Producer::new(env.sessions),
            deliveries: VecDeque::new(),
            questions: Vec::new(),
            phase: Phase::Streaming,
            watch: Watch::new(floor, env.plan.status_interval_ms()),
            started_at: now,
            unacked: 0,
            positions: BTreeMap::new(),
            refused: None,
            moved_at: now,
            unread_since: None,
            timer: None,
        }
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming
    }

    pub(crate) fn age(&self, now: u64) -> Duration {
        Duration::from_millis(now - self.started_at)
    }

    /// Whether the stream would be read if there were something.
    pub(crate) fn wants_wal(&self) -> bool {
        self.is_streaming() && self.relay.wants_wal()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&mut self, env: &mut Env) {
        if self.is_streaming() {
            self.relay.drain();
            let until = env.ms() + pick(&mut env.rng, &[0, 50, DRAIN_MS]);
            self.phase = Phase::Draining { until };
        }
    }

    /// Reads one message of the stream.
    pub(crate) fn read(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let bytes = env.pg.peer().and_then(|mut peer| peer.read());
        let bytes = bytes.expect("there was something to read");
        let message = CopyMessage::decode(bytes).expect("the model sends what decodes");
        env.say(|| describe(&message));
        self.watch.fed(&message);
        if let Err(error) = self.relay.handle_wal(message) {
            panic!("the relay refused a good stream: {error}");
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
                    let until = env.ms() + pick(&mut env.rng, &[0, 20, SETTLE_MS]);
                    self.phase = Phase::Settling { until };
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
            while let Some(record) = self.relay.poll_record(now) {
                assert!(self.is_streaming(), "order: a record left after the end");
                let topic = number(&record.topic);
                let count = *believed.get(&topic).expect("no record without a count");
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
                self.positions.insert(record.ticket, record.position);
                self.producer.send(record, count);
            }
            while let Some(topic) = self.relay.poll_topic(now) {
                env.say(|| format!("relay: asks for {topic}"));
                self.questions.push(topic);
            }
        }
        self.tell(env);
        self.timer = self.relay.poll_timeout().map(|at| env.clock.ms_of(at));
        self.check(env);
        self.look_at_halt(env, believed);
    }

    /// Sends the status updates that are due.
    fn tell(&mut self, env: &mut Env) {
        while let Some(status) = self.relay.poll_status(env.clock.now()) {
            self.send(env, &status);
        }
    }

    fn send(&mut self, env: &mut Env, status: &Status) {
        let confirmed = self.relay.confirmed();
        let now = env.ms();
        env.say(|| {
            format!(
                "relay: status write {} flush {}",
                status.write, status.flush
            )
        });
        self.watch.status(status, confirmed, &env.history, now);
        if status.flush == Lsn::ZERO {
            let stopping = env.pg.state == State::Stopping;
            *env.coverage.entry("a courtesy answer").or_default() += 1;
            *env.coverage.entry("one in a shutdown").or_default() += u64::from(stopping);
        }
        if let Some(mut peer) = env.pg.peer() {
            peer.send(&standby_status(status));
        }
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
        let in_the_way = self.relay.halted().is_some() || plan.has(Fault::NullPayload);
        assert!(
            !room || in_the_way || !self.is_streaming() || self.relay.wants_wal(),
            "reading: the stream is not read although there is room"
        );
    }

    /// A halt has a reason that is true, and is waited out.
    fn look_at_halt(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        let Some(halt) = self.relay.halted() else {
            return;
        };
        if !self.is_streaming() {
            return;
        }
        if let Reason::TopicMissing { topic, waited } = &halt.reason {
            let after = Duration::from_millis(env.plan.unknown_topic_after_ms);
            assert!(*waited >= after, "halt: {topic} was not waited for");
            let known = believed.contains_key(&number(topic));
            assert!(!known, "halt: {topic} was there before");
            let exists_at = env.kafka.topics[number(topic)].exists_at;
            assert!(exists_at > env.ms(), "halt: {topic} is there");
            env.cover("a halt for a missing topic");
        } else if let Reason::Rejected(rejection) = &halt.reason {
            assert_eq!(rejection.code, TOO_LARGE, "halt: not the event's fault");
            env.cover("a halt for a rejected event");
        } else if let EventId::Uuid(id) = halt.id
            && halt.reason == Reason::NullPayload
        {
            let payload = &env.history.named(id).payload;
            assert!(payload.is_none(), "halt: {id} has a payload");
            env.cover("a halt for a missing payload");
        } else {
            panic!("halt: {}", halt.reason);
        }
        let until = env.ms() + pick(&mut env.rng, &[0, 50, DRAIN_MS]);
        self.phase = Phase::Halting { until };
    }

    /// Whether it is over now.
    pub(crate) fn end(&mut self, env: &mut Env) -> Option<End> {
        let now = env.ms();
        let connected = env.pg.peer().is_some_and(|peer| !peer.is_finished());
        if !connected && self.is_streaming() {
            return Some(End::Retry("the connection is lost"));
        }
        if self.is_unread_in_a_shutdown(env, now) {
            return Some(End::Retry(
                "the server shuts down and the stream is not read",
            ));
        }
        self.check_halt();
        match self.phase {
            Phase::Streaming if self.unacked > 0 && now >= self.moved_at + PARK_MS => {
                Some(End::Park)
            }
            Phase::Streaming => None,
            Phase::Draining { until } if self.relay.is_drained() || now >= until => {
                let drained = self.relay.is_drained();
                assert_eq!(drained, self.unacked == 0, "drain: something is in flight");
                env.cover(if drained {
                    "a complete drain"
                } else {
                    "a drain that ran out of time"
                });
                self.purge(env);
                self.last_status(env);
                Some(End::Exit("drained"))
            }
            Phase::Halting { until } if self.is_halt_reached() || now >= until => {
                self.purge(env);
                self.last_status(env);
                Some(End::Exit("halted"))
            }
            Phase::Settling { until } if self.is_settled() || now >= until => {
                if env.plan.last_words {
                    self.purge(env);
                    self.last_status(env);
                }
                let halted = self.relay.halted().is_some();
                Some(if halted {
                    End::Exit("halted")
                } else {
                    End::Retry("an error")
                })
            }
            Phase::Draining { .. } | Phase::Halting { .. } | Phase::Settling { .. } => None,
        }
    }

    fn is_settled(&self) -> bool {
        self.producer.unreported == 0 && self.deliveries.is_empty()
    }

    /// What stands before the event in the way has left, so that it can arrive.
    fn check_halt(&self) {
        if matches!(self.phase, Phase::Halting { .. }) && self.is_settled() {
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
        let (kafka, history) = (&env.kafka, &mut env.history);
        let reports = self.producer.purge(kafka, history, &mut env.rng, now);
        self.deliveries.extend(reports);
        while let Some(delivery) = self.deliveries.pop_front() {
            // The session is over already: an error changes nothing.
            let _over = self.take(delivery);
        }
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

    fn last_status(&mut self, env: &mut Env) {
        let status = self.relay.last_status();
        assert_eq!(status.flush, self.relay.confirmed(), "status: the last one");
        self.watch.may_answer();
        self.send(env, &status);
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
            Phase::Draining { until } | Phase::Halting { until } | Phase::Settling { until } => {
                Some(until)
            }
        };
        let unread = self.unread_since.map(|since| since + UNREAD_MS);
        [self.timer, phase, unread].into_iter().flatten().min()
    }

    /// Serves the timers.
    pub(crate) fn tick(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        if self.timer.is_none_or(|timer| timer <= env.ms()) {
            self.pump(env, believed);
        }
        self.watch.tick(self.relay.confirmed(), env.ms());
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
