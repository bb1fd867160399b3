//! What a process knows of single events, and what it does when one is in the way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use uuid::Uuid;
use walpost_core::start::Identity;
use walpost_core::{EventId, Found, Halt, Position, Reason, Rulings, Undeliverable};
use walpost_pgoutput::Lsn;

use crate::env::Env;
use crate::plan::Sizes;
use crate::postgres::Skip;

/// How long a size that the producer refuses is refused for good.
const REFUSAL_HOLDS: Duration = Duration::from_secs(60);
/// So long a Kafka that is down is asked what its topics take.
const PATIENCE_MS: u64 = 2_000;

#[derive(Debug)]
pub(super) struct Judge {
    rulings: Rulings,
    /// What was given to the rulings.
    suspects: BTreeSet<Position>,
    condemned: BTreeSet<Skip>,
    /// Ids that are passed over.
    ids: Vec<Uuid>,
    /// Records in a batch.
    batch: usize,
    /// The records of a refused batch of that size were sent one by one.
    probed_at: Option<usize>,
    size_refused: Option<SizeRefused>,
    /// Where the last session was.
    last: Option<Identity>,
}

/// The record that the producer refused for its size.
#[derive(Clone, Copy, Debug)]
struct SizeRefused {
    position: Position,
    /// When the topics told that they take no larger ones.
    told_at: Option<Instant>,
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
    pub(crate) batch: usize,
    /// Counts how often it was mended before what events are refused for.
    pub(crate) era: u32,
}

/// What follows a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another session, after so many milliseconds.
    Again(u64),
    /// The process stays before the event.
    Hold,
    /// The process exits.
    Stop,
}

impl Judge {
    pub(super) fn new(env: &mut Env) -> Self {
        let ids = std::mem::take(&mut env.skipped_ids);
        let mut rulings = Rulings::default();
        for id in &ids {
            rulings.skip_id(id.to_string());
        }
        Self {
            rulings,
            suspects: BTreeSet::new(),
            condemned: BTreeSet::new(),
            ids,
            batch: env.plan.batch,
            probed_at: None,
            size_refused: None,
            last: None,
        }
    }

    /// What the next session is to know.
    pub(super) fn terms(&mut self, env: &Env) -> Terms {
        if self.last.is_some_and(|last| last != env.pg.identity) {
            self.rulings.forget_found();
            self.suspects.clear();
            self.condemned.clear();
        }
        self.rulings.forget_skips();
        let skips = env.pg.skips();
        for (position, id) in &skips {
            self.rulings.skip(*position, id.to_string());
        }
        if let Some(refused) = &mut self.size_refused
            && refused.told_at.is_none()
            && env.kafka.up
        {
            refused.told_at = Some(env.clock.now());
        }
        Terms {
            rulings: self.rulings.clone(),
            skips,
            ids: self.ids.clone(),
            suspects: self.suspects.clone(),
            condemned: self.condemned.clone(),
            size_is_final_until: self.size_is_final_until(env),
            batch: self.batch,
            era: env.history.era,
        }
    }

    fn size_is_final_until(&self, env: &Env) -> Option<Instant> {
        let told_at = self.size_refused.and_then(|refused| refused.told_at);
        match env.plan.sizes {
            Sizes::Fixed => Some(env.clock.now() + Duration::from_secs(1_000_000)),
            Sizes::Told => told_at.map(|at| at + REFUSAL_HOLDS),
            Sizes::Untold => None,
        }
    }

    /// A session hands back what it has found out.
    pub(super) fn session_ended(&mut self, (rulings, recorded): (Rulings, Lsn), at: Identity) {
        self.rulings = rulings;
        self.rulings.forget_before(recorded);
        let first = Position {
            commit_lsn: recorded,
            ordinal: 0,
        };
        self.suspects = self.suspects.split_off(&first);
        self.condemned = self.condemned.split_off(&(first, Uuid::nil()));
        self.last = Some(at);
    }

    /// An event is in the way. Either the next session knows more than the last one did, or there
    /// is none.
    pub(super) fn after_halt(&mut self, env: &mut Env, halt: Halt) -> Next {
        let Halt { event, found } = halt;
        let is_too_large = event.reason.is_too_large();
        match found {
            Found::Among(refused) => {
                env.cover("records are refused together");
                if is_too_large && !self.blames_record(env) {
                    return Next::Again(0);
                }
                let is_new = refused.iter().any(|at| !self.suspects.contains(at));
                assert!(is_new, "progress: the same records are suspects once more");
                self.suspects.extend(refused.iter().copied());
                self.rulings.suspect(refused);
                return Next::Again(0);
            }
            Found::BeforeSending if is_too_large => match self.refuse_record(env, event.position) {
                Some(next) => return next,
                None => env.cover("a record is too large for good"),
            },
            Found::BeforeSending | Found::Alone => self.probed_at = None,
        }
        if self.suspects.contains(&event.position) {
            env.cover("an event was found among its batch");
        }
        check_fault(env, &event);
        let is_letter = matches!(event.reason, Reason::DeadLetter { .. });
        if !env.plan.letters || is_letter {
            return stand(env);
        }
        if let EventId::Uuid(id) = event.id {
            let is_new = self.condemned.insert((event.position, id));
            assert!(is_new, "progress: {id} is in the way once more");
        }
        self.suspects.remove(&event.position);
        self.rulings.condemn(event);
        Next::Again(0)
    }

    /// Whether one of the records that were refused together can be at fault. They were sent one by
    /// one before: then it is the batch.
    fn blames_record(&mut self, env: &mut Env) -> bool {
        if self.probed_at == Some(self.batch) && self.batch > 1 {
            env.cover("smaller batches are tried");
            self.batch = (self.batch / 3).max(1);
            return false;
        }
        self.probed_at = Some(self.batch);
        true
    }

    /// The producer refused a record for its size. None: it is too large for good.
    fn refuse_record(&mut self, env: &mut Env, position: Position) -> Option<Next> {
        if env.plan.sizes == Sizes::Fixed {
            return None;
        }
        let before = self
            .size_refused
            .filter(|refused| refused.position == position);
        if before.is_some_and(|refused| refused.told_at.is_some()) {
            return (env.plan.sizes == Sizes::Untold).then(|| stand(env));
        }
        env.cover("the topics are asked what they take");
        self.size_refused = Some(SizeRefused {
            position,
            told_at: None,
        });
        Some(Next::Again(if env.kafka.up { 0 } else { PATIENCE_MS }))
    }
}

/// The line stands before an event.
fn stand(env: &Env) -> Next {
    if env.plan.holds {
        Next::Hold
    } else {
        Next::Stop
    }
}

/// Who stands in the way is at fault, and nobody else is named.
fn check_fault(env: &Env, event: &Undeliverable) {
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
