//! What a process knows of single events, and what it does when one is in the way: the real judge,
//! and topics that it can ask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use uuid::Uuid;
use walpost_core::judge::{self, Finding, Judge, Sizes, TopicSizes};
use walpost_core::{EventId, Found, Halt, Position, Reason, Rulings, Topics};
use walpost_pgoutput::Lsn;

use crate::env::Env;
use crate::plan::{Limits, RECORD_BYTES, RECORD_BYTES_MAX};
use crate::postgres::Skip;
use crate::walsender::topic_name;

/// How long topics that do not answer are asked what they take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long a Kafka that is down is asked once.
const ASKED_MS: u64 = 2_000;
/// What a topic's limit has room for beside the records.
const FRAMING: usize = 12;

/// The judge of a process, and what is known of it from outside.
#[derive(Debug)]
pub(super) struct Bench {
    judge: Judge,
    /// What the next session sends alone.
    suspects: BTreeSet<Position>,
    /// Refused together for their size, in batches of so many bytes.
    in_doubt: Option<(BTreeSet<Position>, usize)>,
    condemned: BTreeSet<Skip>,
    /// Ids that are passed over.
    ids: Vec<Uuid>,
}

/// What a session is to do with single events.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) rulings: Rulings,
    pub(crate) skips: Vec<Skip>,
    pub(crate) ids: Vec<Uuid>,
    pub(crate) suspects: BTreeSet<Position>,
    pub(crate) condemned: BTreeSet<Skip>,
    pub(crate) size_is_final_until: Option<Instant>,
    pub(crate) sizes: Sizes,
    /// Counts how often it was mended before what events are refused for.
    pub(crate) era: u32,
}

/// What follows a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another session, after so many milliseconds.
    Again(u64),
    /// Another one, after the pause of a backoff.
    Later,
    /// The process stays before the event.
    Hold,
    /// The process exits.
    Stop,
}

impl Bench {
    pub(super) fn new(env: &mut Env) -> Self {
        let ids = std::mem::take(&mut env.skipped_ids);
        let mut rulings = Rulings::default();
        for id in &ids {
            rulings.skip_id(id.to_string());
        }
        let (batch, batch_is_fixed) = env.plan.batch;
        let sizes = Sizes {
            record: RECORD_BYTES_MAX,
            record_is_fixed: env.plan.record_limit == Limits::Fixed,
            batch: batch * RECORD_BYTES,
            batch_is_fixed,
        };
        Self {
            judge: Judge::new(rulings, sizes, env.plan.letters, PATIENCE),
            suspects: BTreeSet::new(),
            in_doubt: None,
            condemned: BTreeSet::new(),
            ids,
        }
    }

    /// What the next session is to know. The topics are asked first what they take.
    pub(super) fn terms(&mut self, env: &mut Env, topics: &Topics, is_other: bool) -> Terms {
        self.ask(env, topics);
        if is_other {
            self.suspects.clear();
            self.condemned.clear();
        }
        let skips = env.pg.skips();
        let typed = skips.iter().map(|(at, id)| (*at, id.to_string()));
        Terms {
            rulings: self.judge.session_begins(env.pg.identity, typed),
            skips,
            ids: self.ids.clone(),
            suspects: self.suspects.clone(),
            condemned: self.condemned.clone(),
            size_is_final_until: self.judge.size_is_final_until(env.clock.now()),
            sizes: self.judge.sizes(),
            era: env.history.era,
        }
    }

    fn ask(&mut self, env: &mut Env, topics: &Topics) {
        let known = topics
            .known()
            .into_iter()
            .map(|topic| topic.as_str().to_owned());
        let known: BTreeSet<_> = known.collect();
        let letters = env.plan.letters.then(|| topic_name(env.plan.topics));
        let Some(asked) = self.judge.question(known.iter().cloned().chain(letters)) else {
            return;
        };
        let answer = (env.kafka.up && !asked.is_empty()).then(|| TopicSizes {
            limits: limits(env),
            asked,
        });
        let is_told = answer.is_some();
        let before = self.judge.sizes();
        self.judge.take_answer(answer, &known, env.clock.now());
        let sizes = self.judge.sizes();
        if sizes.record > before.record {
            env.cover("the producer takes larger records, as the topics do");
        }
        if let Some((refused, batch)) = self.in_doubt.take() {
            if sizes.batch < batch {
                env.cover(if is_told && sizes.batch > RECORD_BYTES {
                    "batches are as small as the topics take them"
                } else {
                    "smaller batches are tried"
                });
            } else {
                self.suspect(&refused);
            }
        }
    }

    fn suspect(&mut self, refused: &BTreeSet<Position>) {
        let is_new = refused.iter().any(|at| !self.suspects.contains(at));
        assert!(is_new, "progress: the same records are suspects once more");
        self.suspects.extend(refused);
    }

    /// A session hands back what it has found out.
    pub(super) fn session_ended(&mut self, (rulings, recorded): (Rulings, Lsn)) {
        self.judge.session_ended(rulings, recorded);
        let first = Position {
            commit_lsn: recorded,
            ordinal: 0,
        };
        self.suspects = self.suspects.split_off(&first);
        self.condemned = self.condemned.split_off(&(first, Uuid::nil()));
    }

    /// An event is in the way. Either the next session knows more than the last one did, or there
    /// is none.
    pub(super) fn after_halt(&mut self, env: &mut Env, halt: &Halt) -> Next {
        let is_too_large = halt.event.reason.is_too_large();
        let next = self.judge.after_halt(halt, env.clock.now());
        let event = &halt.event;
        match next {
            judge::Next::Again(Finding::Together(records)) => {
                let Found::Among(refused) = &halt.found else {
                    panic!("halt: {records} records were not refused together");
                };
                env.cover("records are refused together");
                if is_too_large {
                    self.in_doubt = Some((refused.clone(), self.judge.sizes().batch));
                } else {
                    self.suspect(refused);
                }
                Next::Again(0)
            }
            judge::Next::Again(Finding::AsksTopics) => {
                env.cover("the topics are asked what they take");
                Next::Again(if env.kafka.up { 0 } else { ASKED_MS })
            }
            judge::Next::Later => {
                env.cover("no topic answers what it takes");
                Next::Later
            }
            judge::Next::Again(Finding::Condemned) => {
                self.look_at_fault(env, halt);
                if let EventId::Uuid(id) = event.id {
                    let is_new = self.condemned.insert((event.position, id));
                    assert!(is_new, "progress: {id} is in the way once more");
                }
                self.suspects.remove(&event.position);
                Next::Again(0)
            }
            judge::Next::Stand { may_be_innocent } => {
                if may_be_innocent {
                    env.cover("the line stands for a topic that does not say what it takes");
                } else {
                    self.look_at_fault(env, halt);
                }
                stand(env)
            }
        }
    }

    /// Who stands in the way is at fault, and nobody else is named.
    fn look_at_fault(&self, env: &mut Env, halt: &Halt) {
        let event = &halt.event;
        if halt.topic.is_some() {
            env.cover("a record is too large for good");
        }
        if self.suspects.contains(&event.position) {
            env.cover("an event was found among its batch");
        }
        let EventId::Uuid(id) = event.id else {
            panic!("halt: {} is no id of ours", event.id);
        };
        let is_at_fault = if let Reason::Rejected(rejection) = &event.reason {
            env.history.named(id).poison == Some(rejection.code)
        } else if let Reason::DeadLetter { why, .. } = &event.reason {
            matches!(**why, Reason::TopicMissing { .. }) || env.kafka.letters_refused_until > 0
        } else {
            // The row or its topic: that was looked at when the relay halted.
            true
        };
        assert!(is_at_fault, "halt: {id} is not at fault: {}", event.reason);
    }
}

/// What the topics that are there say of the largest batch that they take.
fn limits(env: &Env) -> BTreeMap<String, Option<usize>> {
    let now = env.ms();
    let limit = env.plan.topic_bytes_max() + FRAMING;
    let topics = env.kafka.topics.iter().enumerate();
    let there = topics.filter(|(_, topic)| topic.exists_at <= now);
    let all_tell = env.plan.record_limit != Limits::Untold || env.kafka.tells_limits;
    let tells = |number| number > 0 || all_tell;
    let said = there.map(|(number, _)| (topic_name(number), tells(number).then_some(limit)));
    said.collect()
}

/// The line stands before an event.
fn stand(env: &Env) -> Next {
    if env.plan.holds {
        Next::Hold
    } else {
        Next::Stop
    }
}
