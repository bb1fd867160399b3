//! Topics, by an admin client.

use std::{future::Future, time::Duration};

use rdkafka::{
    ClientConfig,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication, TopicResult,
    },
    client::DefaultClientContext,
    error::KafkaResult,
};

use super::Kafka;
use crate::{unique, wait_until};

type Admin = AdminClient<DefaultClientContext>;

impl Kafka {
    /// A new topic whose name starts with the hint and is unique in this test binary.
    ///
    /// # Panics
    ///
    /// When the broker does not create it.
    #[track_caller]
    pub fn topic(&self, hint: &str, partitions: i32) -> String {
        self.topic_with(hint, partitions, &[])
    }

    /// As [`Kafka::topic`], with settings of the topic (`max.message.bytes`, …).
    ///
    /// # Panics
    ///
    /// When the broker does not create it.
    #[track_caller]
    pub fn topic_with(&self, hint: &str, partitions: i32, config: &[(&str, &str)]) -> String {
        let name = unique(hint);
        self.create_topic(&name, partitions, config);
        name
    }

    /// As [`Kafka::topic_with`], with the brokers that have a replica of each partition.
    ///
    /// # Panics
    ///
    /// When the cluster does not create it.
    #[track_caller]
    pub fn replicated_topic(
        &self,
        hint: &str,
        replicas: &[&[i32]],
        config: &[(&str, &str)],
    ) -> String {
        let name = unique(hint);
        let partitions = i32::try_from(replicas.len()).expect("few partitions");
        let topic = NewTopic::new(&name, partitions, TopicReplication::Variable(replicas));
        self.create(topic, config);
        name
    }

    /// Creates a topic of exactly this name and waits until it can be written.
    ///
    /// # Panics
    ///
    /// When the broker does not create it.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        self.create(topic, config);
    }

    #[track_caller]
    fn create<'a>(&self, topic: NewTopic<'a>, config: &[(&'a str, &'a str)]) {
        let topic = config
            .iter()
            .fold(topic, |topic, (key, value)| topic.set(key, value));
        let (name, partitions) = (topic.name, topic.num_partitions);
        let admin = self.admin();
        accept(name, block_on(admin.create_topics([&topic], &options())));
        self.wait_for_partitions(name, partitions);
    }

    /// Deletes a topic and waits until the broker no longer knows it.
    ///
    /// # Panics
    ///
    /// When the broker does not delete it.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        let admin = self.admin();
        accept(name, block_on(admin.delete_topics(&[name], &options())));
        wait_until(ADMIN_DEADLINE, &format!("topic {name} is gone"), || {
            (self.partitions(name) == Some(0)).then_some(())
        });
    }

    /// Raises the partition count of a topic to `partitions`.
    ///
    /// # Panics
    ///
    /// When the broker does not do it.
    #[track_caller]
    pub fn grow_topic(&self, name: &str, partitions: usize) {
        let admin = self.admin();
        let grown = NewPartitions::new(name, partitions);
        accept(
            name,
            block_on(admin.create_partitions([&grown], &options())),
        );
        let partitions = i32::try_from(partitions).expect("fewer than two billion partitions");
        self.wait_for_partitions(name, partitions);
    }

    /// As [`Kafka::grow_topic`], once, and whether the broker did it: for one that may be away.
    pub fn try_grow_topic(&self, name: &str, partitions: usize) -> bool {
        let grown = NewPartitions::new(name, partitions);
        let options = AdminOptions::new()
            .operation_timeout(Some(METADATA_TIMEOUT))
            .request_timeout(Some(METADATA_TIMEOUT));
        let admin = self.admin();
        let results = block_on(admin.create_partitions([&grown], &options));
        results.is_ok_and(|results| results.iter().all(Result::is_ok))
    }

    /// How many partitions of a topic can be written; 0 for an unknown topic, `None` when the
    /// broker does not answer.
    pub fn partitions(&self, name: &str) -> Option<i32> {
        let metadata = self
            .admin()
            .inner()
            .fetch_metadata(Some(name), METADATA_TIMEOUT)
            .ok()?;
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == name)?;
        if topic.error().is_some() {
            return Some(0);
        }
        let led = topic
            .partitions()
            .iter()
            .filter(|partition| partition.leader() >= 0);
        i32::try_from(led.count()).ok()
    }

    /// Sets a property of a topic, and waits until the broker goes by it. The topic's other
    /// properties go back to their defaults.
    ///
    /// # Panics
    ///
    /// When the broker does not do it.
    #[track_caller]
    pub fn alter_topic(&self, name: &str, property: &str, value: &str) {
        let altered = AlterConfig::new(ResourceSpecifier::Topic(name)).set(property, value);
        let results = block_on(self.admin().alter_configs([&altered], &options()));
        let results = results.unwrap_or_else(|error| panic!("topic {name}: {error}"));
        assert!(results.iter().all(Result::is_ok), "{name}: {results:?}");
        let what = format!("{property} of topic {name} is {value}");
        wait_until(ADMIN_DEADLINE, &what, || {
            (self.topic_config(name, property).as_deref() == Some(value)).then_some(())
        });
    }

    /// The value of a topic's property; `None` where it has none of that name.
    ///
    /// # Panics
    ///
    /// When the broker does not answer.
    #[track_caller]
    pub fn topic_config(&self, name: &str, property: &str) -> Option<String> {
        let admin = self.admin();
        let topic = [ResourceSpecifier::Topic(name)];
        let answer = block_on(admin.describe_configs(&topic, &options()));
        let configs = answer.expect("the broker answers");
        let config = configs.into_iter().next()?.expect("the topic is there");
        config.get(property)?.value.clone()
    }

    /// Whether the broker has registered itself and answers.
    pub(super) fn is_ready(&self) -> bool {
        let metadata = self.admin().inner().fetch_metadata(None, METADATA_TIMEOUT);
        metadata.is_ok_and(|metadata| {
            metadata
                .brokers()
                .iter()
                .any(|broker| broker.id() == self.node)
        })
    }

    #[track_caller]
    fn wait_for_partitions(&self, name: &str, partitions: i32) {
        wait_until(
            ADMIN_DEADLINE,
            &format!("topic {name} has {partitions} partitions"),
            || (self.partitions(name)? >= partitions).then_some(()),
        );
    }

    /// A client without memory of the broker's former lives.
    fn admin(&self) -> Admin {
        ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            // The broker is down between a kill and a start: its refusals are no news.
            .set("log_level", "0")
            .create()
            .expect("the configuration of the admin client is valid")
    }
}

#[track_caller]
fn accept(name: &str, results: KafkaResult<Vec<TopicResult>>) {
    match results {
        Ok(results) => {
            for result in results {
                assert!(result.is_ok(), "topic {name}: {result:?}");
            }
        }
        Err(error) => panic!("topic {name}: {error}"),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(ADMIN_DEADLINE))
        .request_timeout(Some(ADMIN_DEADLINE))
}

/// The admin client has a thread of its own: anything that waits for a future will do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime
        .expect("a runtime without drivers needs nothing")
        .block_on(future)
}

const ADMIN_DEADLINE: Duration = Duration::from_secs(30);
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
