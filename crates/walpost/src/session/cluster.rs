//! Which Kafka cluster takes the records. An address can lead to another one: a name that was moved
//! to the cluster of another site, say. What that takes is not delivered.
//!
//! A new producer's first records wait for their topics' counts, which come with the cluster's id.
//! One that has lost a connection makes another, and sends what waits for it at once. So what is
//! reported after a break is believed when a broker was asked since.

use std::thread;
use std::time::Duration;

use tracing::warn;

use super::{Answer, Session, SessionError};

/// How long a broker may take to say what cluster it belongs to.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before the next question where the last one failed.
const PAUSE: Duration = Duration::from_millis(200);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The one that has the events from before this session.
    recorded: Option<String>,
    proof: Proof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// No connection broke since the cluster was known.
    Whole,
    /// One did.
    Broken,
    /// A broker was asked since.
    Asked,
}

impl Cluster {
    /// `recorded`: as the checkpoint has it.
    pub(super) fn new(recorded: Option<String>) -> Self {
        Self {
            recorded,
            proof: Proof::Whole,
        }
    }
}

impl Session<'_> {
    /// Whether reports may be believed. Where that is not known, a broker is asked as soon as there
    /// are some.
    pub(super) fn believes_reports(&mut self) -> bool {
        if self.producer.take_break() {
            self.cluster.proof = Proof::Broken;
        }
        if self.cluster.proof == Proof::Broken && !self.deliveries.is_empty() {
            self.ask_for_cluster();
        }
        self.cluster.proof == Proof::Whole
    }

    fn ask_for_cluster(&mut self) {
        let Some(topic) = self.relay.a_topic() else {
            return;
        };
        self.cluster.proof = Proof::Asked;
        let (topic, metadata) = (topic.clone(), self.producer.metadata());
        let asker = self.asker.clone();
        self.context.side.spawn_blocking(move || {
            let answer = metadata.cluster_id_now(topic.as_str(), TIMEOUT);
            if answer.is_err() {
                thread::sleep(PAUSE);
            }
            // The session may be over: then nobody wants the answer.
            let _ = asker.send(Answer::Cluster(answer.ok().flatten()));
        });
    }

    /// The answer of a broker that was asked after a break.
    pub(super) fn take_proof(&mut self, seen: Option<String>) -> Result<(), SessionError> {
        let is_known = seen.is_some();
        self.see_cluster(seen)?;
        // Another break may have come before the answer.
        if self.cluster.proof == Proof::Asked {
            self.cluster.proof = if is_known {
                Proof::Whole
            } else {
                Proof::Broken
            };
        }
        Ok(())
    }

    /// The cluster has to be the one that has the events before.
    pub(super) fn see_cluster(&mut self, cluster: Option<String>) -> Result<(), SessionError> {
        let Some(seen) = cluster else { return Ok(()) };
        let met = self.context.kafka.cluster.as_ref();
        let recorded = self.cluster.recorded.as_ref().or(met);
        if let Some(recorded) = recorded.filter(|recorded| **recorded != seen) {
            if self.context.accepted.kafka_cluster.as_ref() != Some(&seen) {
                return Err(SessionError::OtherKafka {
                    recorded: recorded.clone(),
                    seen,
                });
            }
            warn!(
                recorded,
                seen, "accepted: the events go to another Kafka cluster"
            );
            self.cluster.recorded = Some(seen.clone());
        }
        self.context.kafka.cluster = Some(seen);
        Ok(())
    }
}
