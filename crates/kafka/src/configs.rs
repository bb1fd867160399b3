//! What the cluster says of a topic beside its partitions: its configuration, and our rights to it.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::Producer as _;

use crate::error::{ErrorCode, Fault};
use crate::metadata::{Metadata, legal_topic};
use crate::native::{self, AdminError};

/// Names and values of a topic's configuration, defaults included.
pub type TopicConfig = BTreeMap<String, String>;

/// The limit of a topic for one batch, as it is after the topic's compression, with its framing.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

impl Metadata {
    /// The topics' configurations, each with the reason where it is not shown: a topic that is
    /// missing, or the right DESCRIBE_CONFIGS.
    ///
    /// # Errors
    ///
    /// When the cluster did not answer, or does not know the question.
    pub fn topic_configs(
        &self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<TopicConfig, Fault>>, Fault> {
        // The cluster would not answer a question with an illegal name in it.
        let is_legal = |topic: &&str| legal_topic(topic).is_ok();
        let topics: Vec<_> = topics.iter().copied().filter(is_legal).collect();
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let client = self.client().ok_or_else(gone)?;
        let configs = native::topic_configs(client.client(), &topics, timeout).map_err(fault)?;
        Ok(configs
            .into_iter()
            .map(|(topic, config)| (topic, config.map_err(fault)))
            .collect())
    }

    /// The topics' `max.message.bytes`: the largest batch that each takes. `None` where the
    /// configuration is not shown; topics that are missing are left out.
    ///
    /// # Errors
    ///
    /// As [`Metadata::topic_configs`].
    pub fn topic_max_message_bytes(
        &self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Option<usize>>, Fault> {
        let limit = |config: TopicConfig| config.get(MAX_MESSAGE_BYTES)?.parse().ok();
        let configs = self.topic_configs(topics, timeout)?.into_iter();
        Ok(configs
            .filter_map(|(topic, config)| match config {
                Ok(config) => Some((topic, limit(config))),
                Err(fault) if fault.code == ErrorCode::UNKNOWN_TOPIC_OR_PART => None,
                Err(_) => Some((topic, None)),
            })
            .collect())
    }

    /// Whether we may write to the topic; `None` where the cluster does not tell (brokers before
    /// Kafka 2.3, and some that only speak its protocol).
    ///
    /// # Errors
    ///
    /// When the topic is missing or may not be seen; when the cluster did not answer, or does not
    /// know the question.
    pub fn may_write(&self, topic: &str, timeout: Duration) -> Result<Option<bool>, Fault> {
        if let Err(illegal) = legal_topic(topic) {
            return Err(fault((ErrorCode::TOPIC_EXCEPTION, illegal.to_string())));
        }
        let client = self.client().ok_or_else(gone)?;
        native::may_write(client.client(), topic, timeout).map_err(fault)
    }
}

fn fault((code, detail): AdminError) -> Fault {
    Fault { code, detail }
}

fn gone() -> Fault {
    Fault {
        code: ErrorCode::FAIL,
        detail: "the producer is gone".to_owned(),
    }
}
