//! Blocking questions to the cluster, for a thread that may wait.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::producer::Producer as _;

use crate::context::Client;
use crate::error::{CreateFault, Error, ErrorCode, TopicFault};
use crate::native;

/// Kafka's limit for a topic's name, in bytes.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The topic has partitions without a leader: normal for a moment after its creation.
const LEADER_NOT_AVAILABLE: ErrorCode = ErrorCode(5);

/// Pause before a topic without leaders is asked for again.
const LEADER_RETRY: Duration = Duration::from_millis(50);

/// Pause before the count of a topic is asked for again that was created a moment ago.
const CREATED_RETRY: Duration = Duration::from_millis(50);

/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How a topic is spread over the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicShape {
    /// Its partitions.
    pub partitions: u32,
    /// Those that nobody can write to at the moment.
    pub leaderless: usize,
    /// Replicas of the partition that has the fewest.
    pub replicas_min: usize,
    /// Replicas in sync of the partition that has the fewest.
    pub in_sync_min: usize,
}

/// How a missing topic is made. What is left out is the broker's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicPlan {
    /// The number of partitions.
    pub partitions: Option<i32>,
    /// On how many brokers each partition lies.
    pub replication: Option<i32>,
    /// Properties of the topic, such as `retention.ms`.
    pub config: BTreeMap<String, String>,
}

/// Asks the cluster blocking questions, over the producer's connections.
///
/// It does not keep its producer alive: once that is dropped, every question is answered as if the
/// cluster were unreachable.
#[derive(Debug, Clone)]
pub struct Metadata {
    client: Weak<Client>,
}

impl Metadata {
    pub(crate) fn new(client: Weak<Client>) -> Self {
        Self { client }
    }

    /// The producer's client, while it lives.
    pub(crate) fn client(&self) -> Option<Arc<Client>> {
        self.client.upgrade()
    }

    /// How many partitions the topic has. Asks the cluster for exactly this topic, never creates
    /// it, and makes the producer know partitions that were added.
    ///
    /// # Errors
    ///
    /// When the topic is missing or may not be seen, or the cluster did not answer in time.
    pub fn partition_count(&self, topic: &str, timeout: Duration) -> Result<u32, TopicFault> {
        Ok(self.topic_shape(topic, timeout)?.partitions)
    }

    /// As [`Metadata::partition_count`], with what is known of the replicas.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn topic_shape(&self, topic: &str, timeout: Duration) -> Result<TopicShape, TopicFault> {
        legal_topic(topic)?;
        let client = self
            .client()
            .ok_or_else(|| unreachable("the producer is gone"))?;
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let metadata = client
                .client()
                .fetch_metadata(Some(topic), left)
                .map_err(|error| unreachable(described(ErrorCode::of(&error))))?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
                return Err(unreachable("the answer did not name the topic"));
            };
            let code = found.error().map(|code| ErrorCode(code as i32));
            if code != Some(LEADER_NOT_AVAILABLE) {
                client.context().answered();
                return shape_or_fault(code, found);
            }
            if left <= LEADER_RETRY {
                return Err(unreachable(described(LEADER_NOT_AVAILABLE)));
            }
            thread::sleep(LEADER_RETRY);
        }
    }

    /// Creates a topic and waits until the cluster names its partitions; returns how many. That
    /// somebody else has created it meanwhile is no error.
    ///
    /// # Errors
    ///
    /// When the cluster does not create it. Names that start with `__` belong to Kafka.
    pub fn create_topic(
        &self,
        topic: &str,
        plan: &TopicPlan,
        timeout: Duration,
    ) -> Result<u32, CreateFault> {
        let deadline = Instant::now() + timeout;
        self.request_topic(topic, plan, false, timeout)?;
        // Brokers hear of a topic one after the other.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.partition_count(topic, left) {
                Ok(count) => return Ok(count),
                Err(fault) if left <= CREATED_RETRY => {
                    return Err(CreateFault::Unreachable(fault.to_string()));
                }
                Err(_) => thread::sleep(CREATED_RETRY),
            }
        }
    }

    /// Whether [`Metadata::create_topic`] would succeed, as far as the cluster tells: rights,
    /// numbers, properties and policies are looked at, and nothing is created.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn would_create_topic(
        &self,
        topic: &str,
        plan: &TopicPlan,
        timeout: Duration,
    ) -> Result<(), CreateFault> {
        self.request_topic(topic, plan, true, timeout)
    }

    fn request_topic(
        &self,
        topic: &str,
        plan: &TopicPlan,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<(), CreateFault> {
        if let Err(fault) = legal_topic(topic) {
            return Err(CreateFault::Illegal(fault.to_string()));
        }
        if topic.starts_with("__") {
            let why = "names that start with __ belong to Kafka";
            return Err(CreateFault::Illegal(why.to_owned()));
        }
        let gone = || CreateFault::Unreachable("the producer is gone".to_owned());
        let client = self.client().ok_or_else(gone)?;
        let created = native::create_topic(
            client.client(),
            topic,
            (
                plan.partitions.unwrap_or(-1),
                plan.replication.unwrap_or(-1),
            ),
            &plan.config,
            validate_only,
            timeout,
        );
        created.or_else(|(code, words)| create_verdict(code, &words))
    }

    /// The cluster's id as a broker says it now, in an answer about a topic; also where it has no
    /// such topic, or does not show it.
    ///
    /// # Errors
    ///
    /// As [`Metadata::partition_count`].
    pub fn cluster_id_now(
        &self,
        topic: &str,
        timeout: Duration,
    ) -> Result<Option<String>, TopicFault> {
        match self.topic_shape(topic, timeout) {
            Ok(_) | Err(TopicFault::Missing | TopicFault::NotAuthorized) => {
                Ok(self.cluster_id(timeout))
            }
            Err(fault) => Err(fault),
        }
    }

    /// The cluster's id, as the last answer of a broker had it; `None` when there was none in time.
    #[must_use]
    pub fn cluster_id(&self, timeout: Duration) -> Option<String> {
        self.client()?.client().fetch_cluster_id(timeout)
    }

    /// Whether a broker answers in time; in twice the time where it has no cluster's id to tell.
    #[must_use]
    pub fn is_there(&self, timeout: Duration) -> bool {
        self.cluster_id(timeout).is_some() || self.brokers(timeout).is_ok()
    }

    /// The brokers that the cluster names, as `host:port`, as they are to be reached. Asks for the
    /// metadata of all topics, so it is meant for a check at the start, not for a loop.
    ///
    /// # Errors
    ///
    /// When no broker answered in time. Why is in
    /// [`Producer::trouble`](crate::Producer::trouble), after a poll.
    pub fn brokers(&self, timeout: Duration) -> Result<Vec<String>, Error> {
        let action = "reach a Kafka broker";
        let client = self
            .client()
            .ok_or_else(|| Error::new(action, "the producer is gone"))?;
        let metadata = client
            .client()
            .fetch_metadata(None, timeout)
            .map_err(|error| Error::from_kafka(action, &error))?;
        client.context().answered();
        let address = |host: &str, port| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let brokers = metadata.brokers().iter();
        Ok(brokers
            .map(|broker| address(broker.host(), broker.port()))
            .collect())
    }
}

fn create_verdict(code: ErrorCode, words: &str) -> Result<(), CreateFault> {
    let said = format!("{code}: {words}");
    Err(match code {
        ErrorCode::TOPIC_ALREADY_EXISTS => return Ok(()),
        ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            CreateFault::NotAuthorized
        }
        ErrorCode::TOPIC_EXCEPTION => CreateFault::Illegal(said),
        ErrorCode::INVALID_PARTITIONS
        | ErrorCode::INVALID_REPLICATION_FACTOR
        | ErrorCode::INVALID_CONFIG
        | ErrorCode::INVALID_REQUEST
        | ErrorCode::INVALID_ARG => CreateFault::Refused(said),
        ErrorCode::POLICY_VIOLATION => CreateFault::Unwanted(said),
        _ => CreateFault::Unreachable(said),
    })
}

/// Opens a connection to `host:port` and says nothing on it. A cluster that answers at its
/// bootstrap address can be of no use because its brokers advertise addresses out of reach.
///
/// # Errors
///
/// Why it can't be opened.
pub fn reach(address: &str) -> Result<(), String> {
    let targets = address.to_socket_addrs();
    let targets = targets.map_err(|error| format!("its name can't be resolved: {error}"))?;
    let mut why = "its name has no address".to_owned();
    for target in targets {
        match TcpStream::connect_timeout(&target, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

fn shape_or_fault(
    code: Option<ErrorCode>,
    topic: &MetadataTopic,
) -> Result<TopicShape, TopicFault> {
    if let Some(code) = code {
        return Err(fault_of(code));
    }
    let partitions = topic.partitions();
    let fewest = |count: fn(&MetadataPartition) -> usize| partitions.iter().map(count).min();
    Ok(TopicShape {
        partitions: positive(partitions.len())?,
        leaderless: partitions.iter().filter(|one| one.leader() < 0).count(),
        replicas_min: fewest(|one| one.replicas().len()).unwrap_or(0),
        in_sync_min: fewest(|one| one.isr().len()).unwrap_or(0),
    })
}

fn positive(partitions: usize) -> Result<u32, TopicFault> {
    match u32::try_from(partitions) {
        Ok(0) | Err(_) => Err(unreachable(format!("{partitions} partitions were named"))),
        Ok(count) => Ok(count),
    }
}

fn fault_of(code: ErrorCode) -> TopicFault {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PART => TopicFault::Missing,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => TopicFault::NotAuthorized,
        ErrorCode::TOPIC_EXCEPTION => TopicFault::Illegal(code.description()),
        code => unreachable(described(code)),
    }
}

/// Kafka's rule for names. librdkafka must not see an empty or an overlong one.
pub(crate) fn legal_topic(topic: &str) -> Result<(), TopicFault> {
    let illegal = |why: &str| Err(TopicFault::Illegal(why.to_owned()));
    if topic.is_empty() {
        return illegal("it is empty");
    }
    if topic.len() > TOPIC_NAME_BYTES_MAX {
        return illegal("it is longer than 249 characters");
    }
    if topic == "." || topic == ".." {
        return illegal("it is \".\" or \"..\"");
    }
    if !topic
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    {
        return illegal("it has other characters than ASCII letters, digits, '.', '_' and '-'");
    }
    Ok(())
}

pub(crate) fn unreachable(why: impl Into<String>) -> TopicFault {
    TopicFault::Unreachable(why.into())
}

fn described(code: ErrorCode) -> String {
    format!("{code}: {}", code.description())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_does_not_allow_are_seen_without_asking() {
        let long = "x".repeat(250);
        for name in ["", ".", "..", "a b", "order/paid", "größe", "a\0b", &long] {
            assert!(
                matches!(legal_topic(name), Err(TopicFault::Illegal(_))),
                "{name:?}"
            );
        }
        let longest = "x".repeat(249);
        for name in ["orders", "a.b-c_D9", "...", &longest] {
            assert_eq!(legal_topic(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn a_topic_without_partitions_is_no_answer() {
        assert!(matches!(positive(0), Err(TopicFault::Unreachable(_))));
        assert_eq!(positive(12), Ok(12));
    }

    #[test]
    fn topic_errors_are_told_apart() {
        let fault = |code| fault_of(ErrorCode(code));
        assert_eq!(fault(3), TopicFault::Missing);
        assert_eq!(fault(29), TopicFault::NotAuthorized);
        assert!(matches!(fault(17), TopicFault::Illegal(_)));
        let TopicFault::Unreachable(why) = fault(7) else {
            panic!("a timeout is no verdict")
        };
        assert!(why.starts_with("REQUEST_TIMED_OUT (7)"), "{why}");
    }

    #[test]
    fn a_topic_that_is_never_created_is_told_from_one_that_is_not_created_yet() {
        let verdict = |code| create_verdict(ErrorCode(code), "its words");
        // TOPIC_ALREADY_EXISTS: somebody else was faster.
        assert_eq!(verdict(36), Ok(()));
        // TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED
        for code in [29, 31] {
            assert_eq!(verdict(code), Err(CreateFault::NotAuthorized), "{code}");
        }
        // INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_CONFIG, INVALID_REQUEST
        for code in [37, 38, 40, 42] {
            let Err(CreateFault::Refused(why)) = verdict(code) else {
                panic!("{code}: {:?}", verdict(code));
            };
            let name = ErrorCode(code).name();
            assert_eq!(why, format!("{name} ({code}): its words"));
        }
        assert!(matches!(verdict(17), Err(CreateFault::Illegal(_))));
        // POLICY_VIOLATION
        assert!(matches!(verdict(44), Err(CreateFault::Unwanted(_))));
        // NOT_CONTROLLER, REQUEST_TIMED_OUT, THROTTLING_QUOTA_EXCEEDED, and one of the future.
        for code in [41, 7, 89, 9_999] {
            let verdict = verdict(code);
            assert!(
                matches!(verdict, Err(CreateFault::Unreachable(_))),
                "{code}"
            );
        }
    }
}
