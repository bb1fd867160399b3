//! Which cluster takes the records: an address can lead to another one for a while.

use walpost_core::Delivery;
use walpost_core::cluster::{Belief, Cluster, Said};

use super::Session;
use crate::env::Env;
use crate::kafka::Report;
use crate::plan::{Fault, chance};

/// What a session knows of the cluster that it reaches.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    pub(crate) cluster: Cluster,
    /// A broker is asked for the cluster's id.
    is_asked: bool,
    /// When the first report was not believed yet, in breaks of the producer's connections.
    waits_since: Option<u64>,
    /// It is another one: the process ends.
    pub(super) is_other: bool,
}

impl Session {
    /// Whether the first report may be looked at.
    pub(crate) fn can_deliver(&self, env: &Env) -> bool {
        let waits = self.proof.waits_since == Some(self.producer.breaks(&env.kafka));
        !self.deliveries.is_empty() && !waits
    }

    /// The next report that counts.
    pub(super) fn next_delivery(&mut self, env: &mut Env) -> Option<Delivery> {
        let report = self.deliveries.front()?;
        match self.belief(env, &report.clone()) {
            Belief::Believed => return self.deliveries.pop_front().map(|report| report.delivery),
            Belief::Wait => {}
            Belief::Ask => {
                env.cover("a report waits for the cluster's id");
                self.proof.is_asked = true;
            }
            Belief::Doubt => {
                env.cover("a report that nobody can believe any more");
                self.settle(env);
                return None;
            }
        }
        self.proof.waits_since = Some(self.producer.breaks(&env.kafka));
        None
    }

    fn belief(&mut self, env: &Env, report: &Report) -> Belief {
        match report.delivery.result {
            Ok(()) => {
                let now = self.producer.breaks(&env.kafka);
                self.proof.cluster.judge(&report.breaks(), now)
            }
            Err(_) => Belief::Believed,
        }
    }

    /// The session is over: what is believed counts, the rest comes again.
    pub(super) fn last_delivery(&mut self, env: &Env) -> Option<Delivery> {
        while let Some(report) = self.deliveries.pop_front() {
            if self.belief(env, &report) == Belief::Believed {
                return Some(report.delivery);
            }
        }
        None
    }

    /// Whether a broker answers what cluster it is of.
    pub(crate) fn can_prove(&self, env: &Env) -> bool {
        self.proof.is_asked && env.kafka.up
    }

    /// A broker answers what cluster it is of.
    pub(crate) fn prove(&mut self, env: &mut Env) {
        self.proof.is_asked = false;
        self.proof.waits_since = None;
        let fails = env.plan.has(Fault::Metadata) && !env.healing && chance(&mut env.rng, 40);
        let said = match fails {
            true => Said::Nothing,
            false => Said::Id(env.kafka.id().to_owned()),
        };
        env.say(|| format!("kafka: cluster {said:?}"));
        let cluster = &mut self.proof.cluster;
        if cluster.answered(cluster.question(), &said, None).is_err() {
            self.refuse_cluster(env);
        }
    }

    /// Some answer came with the cluster's id.
    pub(super) fn see_cluster(&mut self, env: &mut Env) -> bool {
        let is_other = self.proof.cluster.see(env.kafka.id(), None).is_err();
        if is_other {
            self.refuse_cluster(env);
        }
        !is_other
    }

    fn refuse_cluster(&mut self, env: &mut Env) {
        assert!(env.kafka.is_elsewhere(), "cluster: it is the right one");
        env.cover("another cluster is refused");
        self.proof.is_other = true;
    }
}
