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

use tokio::runtime::Handle;
use tracing::{debug, info};
use walpost_kafka::{Producer, Settings};

/// librdkafka's property for the bytes of one batch. The first record of a batch is always taken.
const BATCH_SIZE: &str = "batch.size";

/// Its default.
const BATCH_BYTES: usize = 1_000_000;

/// From one size to the next where the topics' limits are not known, and no record was at fault.
const BATCH_DIVISOR: usize = 8;

/// Smaller batches than this hold one record or few: then it can be one at once.
const BATCH_BYTES_MIN: usize = 1_000;

/// librdkafka's property for the bytes of one record, and the most that it takes for it.
const MESSAGE_MAX_BYTES: &str = "message.max.bytes";
const MESSAGE_BYTES_MAX: usize = 1_000_000_000;

/// What brokers have always allowed a batch for its framing, beside the megabyte that is their
/// default. Framing is more than that today, so no record that would fit is that much larger.
const FRAMING: usize = 12;

/// How long the cluster may take to answer. It does not where it is down.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a record that the client refused is refused for good: limits can be raised.
const REFUSAL_HOLDS: Duration = Duration::from_secs(60);

/// Longer than any session.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// So many topics are asked at once; the limits of the others show when they refuse something.
const TOPICS_MAX: usize = 1_000;

/// The client's limits.
#[derive(Debug)]
pub(super) struct Sizes {
    record: usize,
    /// The operator chose it.
    record_is_fixed: bool,
    /// The size at which the client refused a record, and when the topics were asked anew for it.
    record_refused: Option<(usize, Instant)>,
    batch: usize,
    /// The operator chose it, and no batch was refused yet.
    batch_is_fixed: bool,
    /// Kafka refused a batch of this size; what is at fault is not known yet.
    batch_refused: Option<usize>,
    /// At this size the records of a refused batch are sent one by one.
    probed_at: Option<usize>,
    /// Topics whose limits need not be asked for.
    asked: BTreeSet<String>,
}

/// What the topics take.
#[derive(Debug, Default)]
pub(super) struct Answer {
    asked: Vec<String>,
    /// Without topics that are missing, or whose configuration may not be read.
    limits: BTreeMap<String, usize>,
}

impl Sizes {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            record: settings.message_max_bytes(),
            record_is_fixed: settings.is_chosen(MESSAGE_MAX_BYTES),
            record_refused: None,
            batch: batch_bytes(settings),
            batch_is_fixed: settings.is_chosen(BATCH_SIZE),
            batch_refused: None,
            probed_at: None,
            asked: BTreeSet::new(),
        }
    }

    /// The settings with these limits. What the operator wrote stays as it is written.
    pub(super) fn apply(&self, settings: &Settings) -> Settings {
        let mut applied = settings.clone();
        if self.record != settings.message_max_bytes() {
            applied = applied.with(MESSAGE_MAX_BYTES, &self.record.to_string());
        }
        if self.batch != batch_bytes(settings) {
            applied = applied.with(BATCH_SIZE, &self.batch.to_string());
        }
        applied
    }

    /// Which of the topics are to be asked.
    pub(super) fn due(&self, topics: impl Iterator<Item = String>) -> Vec<String> {
        let due: BTreeSet<_> = topics.filter(|topic| !self.asked.contains(topic)).collect();
        due.into_iter().take(TOPICS_MAX).collect()
    }

    /// Takes an answer; returns whether it changes anything. None where nobody answered.
    pub(super) fn learn(&mut self, answer: Option<Answer>) -> bool {
        let before = (self.record, self.batch);
        let Answer { asked, limits } = answer.unwrap_or_default();
        self.asked.extend(asked);
        if let Some(largest) = limits.values().max()
            && !self.record_is_fixed
        {
            let largest = largest.saturating_sub(FRAMING).min(MESSAGE_BYTES_MAX);
            self.record = self.record.max(largest);
        }
        let smallest = limits.values().min();
        if let Some(smallest) = smallest.filter(|_| !self.batch_is_fixed) {
            self.batch = self.batch.min(*smallest).max(1);
        }
        let changed = (self.record, self.batch) != before;
        if changed {
            info!(
                message_max_bytes = self.record,
                batch_size = self.batch,
                "records and batches are as large as the topics take them"
            );
        }
        changed
    }

    /// Kafka refused a batch for its size. The topics are to be asked what they take.
    pub(super) fn refuse_batch(&mut self) {
        self.batch_refused = Some(self.batch);
        self.batch_is_fixed = false;
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
        if self.batch < refused {
            return false;
        }
        if self.probed_at == Some(refused) {
            self.batch = Some(refused / BATCH_DIVISOR)
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

    /// The client refused a record. Returns whether the topics may take a larger one.
    pub(super) fn may_grow(&mut self, now: Instant) -> bool {
        if self.record_is_fixed || self.refusal_holds_until().is_some_and(|until| now < until) {
            return false;
        }
        self.record_refused = Some((self.record, now));
        self.asked.clear();
        true
    }

    /// Until when a record that the client refuses is refused for good.
    pub(super) fn is_final_until(&self, now: Instant) -> Option<Instant> {
        if self.record_is_fixed {
            return Some(now + FOREVER);
        }
        self.refusal_holds_until()
    }

    fn refusal_holds_until(&self) -> Option<Instant> {
        let (_, at) = self
            .record_refused
            .filter(|(size, _)| *size == self.record)?;
        Some(at + REFUSAL_HOLDS)
    }
}

fn batch_bytes(settings: &Settings) -> usize {
    settings.number(BATCH_SIZE).unwrap_or(BATCH_BYTES)
}

/// Asks the topics, beside the thread that delivers. `None` where Kafka is down: then they are to
/// be asked again.
pub(super) async fn ask(
    side: &Handle,
    producer: &mut Producer,
    topics: Vec<String>,
) -> Option<Answer> {
    let deadline = Instant::now() + PATIENCE;
    let (metadata, asked) = (producer.metadata(), topics.clone());
    let mut answer = side.spawn_blocking(move || {
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        metadata.topic_max_message_bytes(&topics, PATIENCE)
    });
    let limits = loop {
        tokio::select! {
            answer = &mut answer => break answer.ok(),
            () = producer.ready() => {
                producer.poll(&mut Vec::new());
                if producer.total_trouble().is_some() {
                    return None;
                }
            }
            () = tokio::time::sleep_until(deadline.into()) => break None,
        }
    };
    let limits = match limits {
        Some(Ok(limits)) => limits,
        Some(Err(fault)) => {
            debug!(%fault, "the topics' limits can't be read");
            BTreeMap::new()
        }
        None => BTreeMap::new(),
    };
    Some(Answer { asked, limits })
}

#[cfg(test)]
mod tests;
