//! How large records and batches may be: as large as the topics take them.
//!
//! A topic has a limit for one batch, `max.message.bytes`. The client has two of its own, for all
//! topics: `message.max.bytes`, above which it refuses a record, and `batch.size`, which ends a
//! batch that has a record already. The first has to be as large as the largest of the topics'
//! limits, or the client refuses what a topic would take; the second at most as large as the
//! smallest of them, or a batch is refused whose records are all small enough.
//!
//! The topics are asked before a session begins. What was refused for its size is sent again, after
//! they were asked anew: limits can be changed, and topics can be seen for the first time in the
//! middle of a session. Where every topic takes batches of the size that was refused, or does not
//! say what it takes, a record may be at fault: they are sent one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::event::Position;

/// From one size to the next where the topics' limits are not known, and no record was at fault.
const BATCH_DIVISOR: usize = 8;

/// Smaller batches than this hold one record or few: then it can be one at once.
const BATCH_BYTES_MIN: usize = 1_000;

/// The most that librdkafka takes for `message.max.bytes`.
const RECORD_BYTES_MAX: usize = 1_000_000_000;

/// What brokers have always allowed a batch for its framing, beside the megabyte that is their
/// default. Framing is more than that today, so no record that would fit is that much larger.
const FRAMING: usize = 12;

/// How long a record that the client refused is refused for good: limits can be raised.
const REFUSAL_HOLDS: Duration = Duration::from_secs(60);

/// Longer than any session.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// So many topics are asked at once; the limits of the others show when they refuse something.
const TOPICS_MAX: usize = 1_000;

/// The client's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The largest record that it sends, in bytes.
    pub record: usize,
    /// The operator chose it.
    pub record_is_fixed: bool,
    /// A batch of so many bytes, or more, takes no further record.
    pub batch: usize,
    /// The operator chose it. It holds until a batch is refused.
    pub batch_is_fixed: bool,
}

/// What topics take.
#[derive(Clone, Debug, Default)]
pub struct TopicSizes {
    /// The topics that were asked.
    pub asked: Vec<String>,
    /// Their limits for a batch, in bytes; `None` where a topic's configuration may not be read.
    /// Without topics that are missing.
    pub limits: BTreeMap<String, Option<usize>>,
}

/// The client's limits, and what was refused for them.
#[derive(Debug)]
pub(super) struct Fit {
    sizes: Sizes,
    /// The record that the client refused last.
    record_refused: Option<RecordRefused>,
    /// Kafka refused a batch of this size; what is at fault is not known yet.
    batch_refused: Option<usize>,
    /// At this size the records of a refused batch are sent one by one.
    probed_at: Option<usize>,
    /// Topics whose limits need not be asked for.
    asked: BTreeSet<String>,
}

/// A record that the client would not send.
#[derive(Debug)]
struct RecordRefused {
    position: Position,
    topic: String,
    /// The client's limit.
    size: usize,
    /// When it was refused first.
    at: Instant,
    /// What the topics said since, once they have answered.
    told: Option<Told>,
    /// When it was refused for the first time after that.
    judged_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    /// Every topic that has events told its limit.
    All(Instant),
    /// The record's own did, and none was silent; but some are gone.
    Own,
    Some,
}

/// What a record's refusal by the client means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The topics are to be asked whether one takes larger records.
    Asking,
    /// They were asked, and nobody has answered.
    Unanswered,
    /// None does.
    ForGood,
    /// Not every topic says what it takes.
    Unknown,
}

impl Fit {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            record_refused: None,
            batch_refused: None,
            probed_at: None,
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Which of the topics are to be asked.
    pub(super) fn due(&self, topics: impl Iterator<Item = String>) -> Vec<String> {
        let due: BTreeSet<_> = topics.filter(|topic| !self.asked.contains(topic)).collect();
        due.into_iter().take(TOPICS_MAX).collect()
    }

    /// Takes an answer; returns whether it changes anything. None where nobody answered. `known`
    /// are the topics that have events.
    pub(super) fn learn(
        &mut self,
        answer: Option<TopicSizes>,
        known: &BTreeSet<String>,
        now: Instant,
    ) -> bool {
        let before = self.sizes;
        if let (Some(refused), Some(answer)) = (&mut self.record_refused, &answer)
            && refused.told.is_none()
            && !answer.asked.is_empty()
        {
            refused.told = told(answer, known, &refused.topic, now);
        }
        let TopicSizes { asked, limits } = answer.unwrap_or_default();
        self.asked.extend(asked);
        if let Some(largest) = limits.values().copied().flatten().max()
            && !self.sizes.record_is_fixed
        {
            let largest = largest.saturating_sub(FRAMING).min(RECORD_BYTES_MAX);
            self.sizes.record = self.sizes.record.max(largest);
        }
        let smallest = limits.values().copied().flatten().min();
        if let Some(smallest) = smallest.filter(|_| !self.sizes.batch_is_fixed) {
            self.sizes.batch = self.sizes.batch.min(smallest).max(1);
        }
        self.sizes != before
    }

    /// Kafka refused a batch for its size. The topics are to be asked what they take.
    pub(super) fn refuse_batch(&mut self) {
        self.batch_refused = Some(self.sizes.batch);
        self.sizes.batch_is_fixed = false;
        self.asked.clear();
    }

    /// Whether a batch was refused, and what is at fault is not known yet.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.batch_refused.is_some()
    }

    /// What is at fault where a batch was refused, after the topics were asked: true where it can
    /// be one of its records, which are to be sent one by one then. They were before, and none was
    /// refused alone: then batches get smaller.
    pub(super) fn blames_record(&mut self) -> bool {
        let Some(refused) = self.batch_refused.take() else {
            return false;
        };
        if self.sizes.batch < refused {
            return false;
        }
        let is_smallest = refused <= 1;
        if self.probed_at == Some(refused) && !is_smallest {
            self.sizes.batch = Some(refused / BATCH_DIVISOR)
                .filter(|bytes| *bytes >= BATCH_BYTES_MIN)
                .unwrap_or(1);
            return false;
        }
        self.probed_at = Some(refused);
        true
    }

    /// A record was refused alone: no batch is at fault.
    pub(super) fn found_record(&mut self) {
        self.probed_at = None;
    }

    /// The client refused the record at this position, of this topic, for its size.
    ///
    /// The first refusal after the topics have told their limits is for good, however long it took
    /// to come to the record again. Later ones are for a while: limits can be raised. For an answer
    /// there is so much `patience`.
    pub(super) fn refuse_record(
        &mut self,
        (position, topic): (Position, &str),
        now: Instant,
        patience: Duration,
    ) -> Refused {
        if self.sizes.record_is_fixed {
            return Refused::ForGood;
        }
        let size = self.sizes.record;
        let is_it =
            |refused: &&mut RecordRefused| (refused.position, refused.size) == (position, size);
        if let Some(refused) = self.record_refused.as_mut().filter(is_it) {
            let waited = now.saturating_duration_since(refused.at);
            if refused.told.is_none() && waited < patience {
                self.asked.clear();
                return Refused::Unanswered;
            }
            let told = *refused.told.get_or_insert(Told::Some);
            let judged_at = *refused.judged_at.get_or_insert(now);
            if now.saturating_duration_since(judged_at) < REFUSAL_HOLDS {
                return match told {
                    Told::All(_) | Told::Own => Refused::ForGood,
                    Told::Some => Refused::Unknown,
                };
            }
        }
        self.record_refused = Some(RecordRefused {
            position,
            topic: topic.to_owned(),
            size,
            at: now,
            told: None,
            judged_at: None,
        });
        self.asked.clear();
        Refused::Asking
    }

    /// Until when a record that the client refuses is refused for good: for a while after every
    /// topic has told its limit.
    pub(super) fn is_final_until(&self, now: Instant) -> Option<Instant> {
        if self.sizes.record_is_fixed {
            return Some(now + FOREVER);
        }
        let refused = self.record_refused.as_ref()?;
        match refused.told {
            Some(Told::All(at)) if refused.size == self.sizes.record => Some(at + REFUSAL_HOLDS),
            _ => None,
        }
    }
}

/// What the topics said while a record of the topic `own` is refused. `None` where that one is
/// gone: it may come back, and is asked again. Of others that are gone nothing is expected.
fn told(answer: &TopicSizes, known: &BTreeSet<String>, own: &str, now: Instant) -> Option<Told> {
    let is_gone = |topic: &str| {
        !answer.limits.contains_key(topic) && answer.asked.iter().any(|asked| asked == topic)
    };
    let tells = |topic: &str| answer.limits.get(topic).is_some_and(Option::is_some);
    if is_gone(own) {
        return None;
    }
    if !known.iter().all(|topic| tells(topic) || is_gone(topic)) {
        return Some(Told::Some);
    }
    Some(match known.iter().any(|topic| is_gone(topic)) {
        true => Told::Own,
        false => Told::All(now),
    })
}

#[cfg(test)]
mod tests;
