//! What is known of Kafka over all sessions, and how long its refusals are borne.

use std::time::Instant;

use walpost_core::cluster::Cluster;
use walpost_kafka::{Producer, Trouble, TroubleKind};

use super::{CREDENTIALS_PATIENCE, Session, SessionError};

/// What is known of Kafka, over all sessions.
#[derive(Debug, Default)]
pub(crate) struct KafkaSeen {
    /// It has worked before: a refusal may be a rotation of passwords, or of certificates.
    answered: bool,
    /// Since when it refuses us while something waits for it.
    refused_since: Option<Instant>,
    /// Which cluster it is.
    pub(super) cluster: Cluster,
}

impl KafkaSeen {
    /// Whether it has let us in before.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered
    }

    /// Another producer sends from here on.
    pub(crate) fn producer_is_new(&mut self) {
        self.cluster.producer_is_new();
    }

    /// Kafka does not let us in, or not with this configuration, and nothing is waited for any
    /// more. Where that was never different this is so at once.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        producer: &Producer,
        is_needed: bool,
    ) -> Option<Trouble> {
        let trouble = producer.total_trouble();
        self.answered |= producer.has_answered();
        let refusal = trouble.filter(|trouble| trouble.kind != TroubleKind::Unreachable);
        let Some(refusal) = refusal.filter(|_| is_needed || !self.answered) else {
            self.refused_since = None;
            return None;
        };
        let since = *self.refused_since.get_or_insert(now);
        let is_over = !self.answered || now.duration_since(since) >= CREDENTIALS_PATIENCE;
        is_over.then_some(refusal)
    }
}

impl Session<'_> {
    /// Ends the session where Kafka will not let us in.
    pub(super) fn hear_kafka(&mut self, now: Instant) -> Result<(), SessionError> {
        let is_needed = self.producer.in_flight() > 0 || self.relay.waits_for_topic();
        match self.context.kafka.judge(now, self.producer, is_needed) {
            Some(refusal) => Err(SessionError::Kafka(refusal)),
            None => Ok(()),
        }
    }
}
