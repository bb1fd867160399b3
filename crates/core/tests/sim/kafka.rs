//! Kafka as a model: topics with partitions, one queue a partition, acks in order inside a
//! partition and in any order across.

mod late;
mod producer;

use fastrand::Rng;
use walpost_core::{Record, Topic, TopicFault};

pub(crate) use self::late::Late;
use self::producer::{Flight, bytes};
pub(crate) use self::producer::{Producer, Report, record_bytes, rejection};
use crate::history::{History, LogKey, Sender, content};
use crate::plan::{Fault, Plan, pick};
use crate::walsender::topic_name;

const UNKNOWN_PARTITION: i32 = -190;
const UNKNOWN_TOPIC: i32 = 3;
/// What Kafka says of a record that is at fault itself.
pub(crate) const TOO_LARGE: i32 = 10;
pub(crate) const INVALID: i32 = 87;
/// What the client says of the others in a batch, where the broker named the one at fault.
const ANOTHER_IS_INVALID: i32 = -138;

/// The brokers.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) up: bool,
    /// When an outage ends.
    pub(crate) back_at: u64,
    /// When the address leads to it again, if it leads to another cluster.
    pub(crate) elsewhere_until: Option<u64>,
    /// The other cluster has the topics too.
    has_topics_elsewhere: bool,
    /// How often connections to it have broken.
    breaks: u64,
    pub(crate) topics: Vec<TopicState>,
    /// The next batch is rejected.
    pub(crate) rejects: bool,
    /// Somebody granted the right to ask every topic for its limit.
    pub(crate) tells_limits: bool,
    /// Until then the poisonous events are refused.
    pub(crate) strict_until: u64,
    /// Until then no dead letter is taken, and this is said of it.
    pub(crate) letters_refused_until: u64,
    letters_code: i32,
    /// Every dead letter may be refused for its size.
    refuses_large_letters: bool,
    /// The largest value of a dead letter, in bytes.
    letter_max: usize,
    /// No batch of more bytes is taken.
    batch_bytes_max: usize,
    /// An invalid record is named, and not only its batch.
    names_invalid: bool,
    /// Requests of producers that are gone.
    pub(crate) late: Vec<Late>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicState {
    /// When it is there.
    pub(crate) exists_at: u64,
    pub(crate) incarnation: u32,
    pub(crate) partitions: u32,
}

impl TopicState {
    /// It is deleted, and made again at once or some time later.
    pub(crate) fn remake(&mut self, rng: &mut Rng, now: u64) {
        self.incarnation += 1;
        self.partitions = rng.u32(1..=5);
        self.exists_at = now + pick(rng, &[0, 2_000, 10_000]);
    }
}

impl Cluster {
    pub(crate) fn new(rng: &mut Rng, plan: &Plan, late: bool) -> Self {
        let count = plan.topics + usize::from(plan.letters);
        let topics = (0..count).map(|_| TopicState {
            exists_at: if late && rng.bool() {
                rng.u64(0..90_000)
            } else {
                0
            },
            incarnation: 0,
            partitions: rng.u32(1..=5),
        });
        let topics = topics.collect();
        let refuses_letters = plan.has(Fault::LettersRefused);
        let letters_code = pick(rng, &[TOO_LARGE, INVALID]);
        Self {
            up: true,
            back_at: 0,
            elsewhere_until: None,
            has_topics_elsewhere: false,
            breaks: 0,
            topics,
            rejects: false,
            tells_limits: false,
            strict_until: u64::MAX,
            letters_refused_until: if refuses_letters { u64::MAX } else { 0 },
            letters_code,
            refuses_large_letters: refuses_letters && letters_code == TOO_LARGE,
            letter_max: pick(rng, &[usize::MAX, 10]),
            batch_bytes_max: plan.topic_bytes_max(),
            names_invalid: rng.bool(),
            late: Vec::new(),
        }
    }

    /// All connections break.
    pub(crate) fn break_connections(&mut self) {
        self.breaks += 1;
    }

    /// The address leads to another cluster until then.
    pub(crate) fn lead_elsewhere(&mut self, until: u64, has_topics: bool) {
        self.elsewhere_until = Some(until);
        self.has_topics_elsewhere = has_topics;
        self.break_connections();
    }

    /// The address leads to this cluster again.
    pub(crate) fn lead_back(&mut self) {
        if self.elsewhere_until.take().is_some() {
            self.break_connections();
        }
    }

    pub(crate) fn is_elsewhere(&self) -> bool {
        self.elsewhere_until.is_some()
    }

    /// `cluster.id` of what is at the address.
    pub(crate) fn id(&self) -> &'static str {
        if self.is_elsewhere() { "other" } else { "ours" }
    }

    /// The answer to a metadata request.
    pub(crate) fn count(&self, topic: &Topic, now: u64) -> Result<u32, TopicFault> {
        if !self.up {
            return Err(TopicFault::Unavailable("all brokers down".to_owned()));
        }
        let state = &self.topics[number(topic)];
        let is_there = state.exists_at <= now;
        if !is_there || self.is_elsewhere() && !self.has_topics_elsewhere {
            return Err(TopicFault::Missing);
        }
        Ok(state.partitions)
    }

    /// Whether a record can be appended.
    fn takes(&self, flight: &Flight, history: &History, now: u64) -> bool {
        let objection = self.objection(&flight.record, history, now);
        objection.is_none() && self.refusal(flight, now).is_none()
    }

    /// Why a record is refused that is at fault itself, if so.
    pub(crate) fn objection(&self, record: &Record, history: &History, now: u64) -> Option<i32> {
        if content::cause(record).is_none() {
            let poison = history.find(record).poison;
            return poison.filter(|_| now < self.strict_until);
        }
        if now < self.letters_refused_until {
            return Some(self.letters_code);
        }
        let value = record.value();
        value
            .is_some_and(|value| value.len() > self.letter_max)
            .then_some(TOO_LARGE)
    }

    /// What the reports of a batch say whose records are refused together, if they are.
    fn objections(&self, batch: &[Flight], history: &History, now: u64) -> Option<Vec<i32>> {
        let judge = |flight: &Flight| self.objection(&flight.record, history, now);
        let code = match batch.iter().find_map(judge) {
            Some(code) => code,
            None if bytes(batch) > self.batch_bytes_max => TOO_LARGE,
            None => return None,
        };
        let is_named = code == INVALID && self.names_invalid;
        let said = |flight| match judge(flight) {
            None if is_named => ANOTHER_IS_INVALID,
            _ => code,
        };
        Some(batch.iter().map(said).collect())
    }

    fn append(&self, flight: &Flight, sender: Sender, history: &mut History) {
        let topic = number(flight.record.topic());
        let key = LogKey {
            topic,
            incarnation: self.topics[topic].incarnation,
            count: flight.count,
            is_count: flight.count == self.topics[topic].partitions,
            partition: flight.record.partition,
        };
        let payload = history.find(&flight.record).payload.as_ref();
        let is_large = payload.is_some_and(|payload| payload.len() > self.letter_max);
        let may_shorten = self.refuses_large_letters || is_large;
        let sender = Sender {
            may_shorten,
            ..sender
        };
        history.append(&flight.record, key, sender);
    }

    /// Why a record can't be appended, if so.
    fn refusal(&self, flight: &Flight, now: u64) -> Option<i32> {
        let state = &self.topics[number(flight.record.topic())];
        let partition = u32::try_from(flight.record.partition).expect("never negative");
        if state.exists_at > now {
            return Some(UNKNOWN_TOPIC);
        }
        (partition >= state.partitions).then_some(UNKNOWN_PARTITION)
    }
}

/// Number of a topic.
pub(crate) fn number(topic: &Topic) -> usize {
    let digits = topic.as_str().trim_start_matches("topic-");
    let number = digits.parse().expect("the topic is one of ours");
    assert_eq!(topic.as_str(), topic_name(number));
    number
}
