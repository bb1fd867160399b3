//! What a topic is like: partitions, replicas, and its configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier,
};
use rdkafka::producer::Producer as _;

use crate::context::LogContext;
use crate::error::{Error, TopicFault};
use crate::metadata::{Metadata, block_on, legal_topic, unreachable};
use crate::native;

/// How a topic is spread over the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicShape {
    /// Its partitions.
    pub partitions: u32,
    /// Replicas of the partition that has the fewest.
    pub replicas_min: usize,
    /// Replicas in sync of the partition that has the fewest.
    pub in_sync_min: usize,
}

/// Names and values of a topic's configuration, defaults included.
pub type TopicConfig = BTreeMap<String, String>;

impl Metadata {
    /// Partitions and replicas of a topic, which is never created by the question.
    ///
    /// # Errors
    ///
    /// As [`Metadata::partition_count`].
    pub fn topic_shape(&self, topic: &str, timeout: Duration) -> Result<TopicShape, TopicFault> {
        let partitions = self.partition_count(topic, timeout)?;
        let client = self
            .client()
            .ok_or_else(|| unreachable("the producer is gone"))?;
        let metadata = client
            .client()
            .fetch_metadata(Some(topic), timeout)
            .map_err(|error| unreachable(error.to_string()))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.map(|found| found.partitions()).unwrap_or_default();
        let fewest = |counts: &mut dyn Iterator<Item = usize>| counts.min().unwrap_or(0);
        Ok(TopicShape {
            partitions,
            replicas_min: fewest(&mut found.iter().map(|one| one.replicas().len())),
            in_sync_min: fewest(&mut found.iter().map(|one| one.isr().len())),
        })
    }

    /// The topics' configurations. Topics whose configuration can't be read are left out. Opens a
    /// connection of its own.
    ///
    /// # Errors
    ///
    /// When nothing could be read. That is normal where DESCRIBE_CONFIGS is not granted.
    pub fn topic_configs(
        &self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, TopicConfig>, Error> {
        let action = "read the topics' configurations";
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        if let Some(topic) = topics.iter().find(|topic| legal_topic(topic).is_err()) {
            let why = format!("{topic:?} is no legal topic name");
            return Err(Error::new(action, why));
        }
        let kafka_error = |error| Error::from_kafka(action, &error);
        let context = LogContext {
            redactor: self.settings().redactor(),
        };
        let admin: AdminClient<LogContext> = self
            .settings()
            .admin_config()
            .create_with_context(context)
            .map_err(kafka_error)?;
        if let Some(source) = self.settings().tokens() {
            let told = source.token().map_err(|error| error.to_string());
            let told = told.and_then(|token| native::set_token(admin.inner(), &token));
            told.map_err(|why| Error::new(action, why))?;
        }
        let resources: Vec<_> = topics
            .iter()
            .map(|topic| ResourceSpecifier::Topic(topic))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(timeout));
        let answers =
            block_on(admin.describe_configs(&resources, &options)).map_err(kafka_error)?;

        // The crate shows a topic that is missing, or whose configuration may not be read, as one
        // without entries.
        let configs: BTreeMap<_, _> = answers
            .into_iter()
            .flatten()
            .filter_map(config_of)
            .collect();
        if configs.is_empty() {
            let why = "no topic's configuration was shown (it needs DESCRIBE_CONFIGS)";
            return Err(Error::new(action, why));
        }
        Ok(configs)
    }
}

fn config_of(topic: ConfigResource) -> Option<(String, TopicConfig)> {
    let OwnedResourceSpecifier::Topic(name) = topic.specifier else {
        return None;
    };
    let entries = topic.entries.into_iter();
    let config: TopicConfig = entries
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect();
    (!config.is_empty()).then_some((name, config))
}
