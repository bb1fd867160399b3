//! What everything in a run shares: the clock, the random numbers, the two servers, the ledger.

use std::collections::BTreeMap;

use fastrand::Rng;
use uuid::Uuid;
use walpost_core::start::Refusal;

use crate::clock::Clock;
use crate::history::History;
use crate::kafka::Cluster;
use crate::plan::{Fault, Plan};
use crate::postgres::{Postgres, Skip};
use crate::schedule::Case;

/// The world around the relay.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) pg: Postgres,
    pub(crate) kafka: Cluster,
    pub(crate) history: History,
    /// Somebody has said that a NULL payload is a tombstone.
    pub(crate) tombstones: bool,
    /// What the next process is to pass over, by id alone.
    pub(crate) skipped_ids: Vec<Uuid>,
    /// Skips that were typed wrong.
    pub(crate) wrong_skips: Vec<Skip>,
    /// Why the relay did not start, until somebody puts it right.
    pub(crate) refusal: Option<Refusal>,
    /// A disk is put back next, while the process knows something of single events.
    pub(crate) puts_disk_back: bool,
    /// No more faults: from here on everything has to settle.
    pub(crate) healing: bool,
    /// When the process last went on after it was stopped.
    pub(crate) resumed_at: u64,
    /// Sessions so far, and processes.
    pub(crate) sessions: u64,
    pub(crate) processes: u64,
    /// How often what happened.
    pub(crate) coverage: BTreeMap<&'static str, u64>,
    traced: bool,
}

impl Env {
    pub(crate) fn new(case: &Case, traced: bool) -> Self {
        let mut rng = case.rng(u32::MAX);
        let plan = case.plan.clone();
        let pg = Postgres::new(&mut rng);
        let kafka = Cluster::new(&mut rng, &plan, plan.has(Fault::TopicLate));
        let env = Self {
            clock: Clock::new(),
            rng,
            plan,
            pg,
            kafka,
            history: History::default(),
            tombstones: false,
            skipped_ids: Vec::new(),
            wrong_skips: Vec::new(),
            refusal: None,
            puts_disk_back: false,
            healing: false,
            resumed_at: 0,
            sessions: 0,
            processes: 0,
            coverage: BTreeMap::new(),
            traced,
        };
        env.say(|| format!("seed {}: {:#?}", case.seed, env.plan));
        env
    }

    /// A line of the trace.
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        if self.traced {
            let ms = self.clock.ms();
            eprintln!("{:>6}.{:03} {}", ms / 1_000, ms % 1_000, line());
        }
    }

    /// What events were refused for is mended.
    pub(crate) fn mend(&mut self) {
        self.kafka.strict_until = self.ms();
        self.kafka.letters_refused_until = self.ms();
        self.kafka.tells_limits = true;
        self.tombstones = true;
        self.history.mend();
    }

    /// Something worth counting happened.
    pub(crate) fn cover(&mut self, what: &'static str) {
        *self.coverage.entry(what).or_default() += 1;
        self.say(|| what.to_owned());
    }

    /// So many things worth counting happened.
    pub(crate) fn count(&mut self, what: &'static str, times: usize) {
        if times > 0 {
            *self.coverage.entry(what).or_default() += times as u64;
        }
    }

    pub(crate) fn ms(&self) -> u64 {
        self.clock.ms()
    }
}
