//! Blocking questions to the cluster, for a thread that may wait.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;

use crate::configs::TopicConfig;
use crate::context::Client;
use crate::error::{CreateFault, Error, ErrorCode, TopicFault};
use crate::native;
use crate::properties::Settings;

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

/// Asks the cluster blocking questions, over the producer's connections where it can.
///
/// It does not keep its producer alive: once that is dropped, every question is answered as if the
/// cluster were unreachable.
#[derive(Debug, Clone)]
pub struct Metadata {
    client: Weak<Client>,
    settings: Arc<Settings>,
}

impl Metadata {
    pub(crate) fn new(client: Weak<Client>, settings: Arc<Settings>) -> Self {
        Self { client, settings }
    }

    /// The producer's client, while it lives.
    pub(crate) fn client(&self) -> Option<Arc<Client>> {
        self.client.upgrade()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many partitions the topic has. Asks the cluster for exactly this topic, never creates
    /// it, and makes the producer know partitions that were added.
    ///
    /// # Errors
    ///
    /// When the topic is missing or may not be seen, or the cluster did not answer in time.
    pub fn partition_count(&self, topic: &str, timeout: Duration) -> Result<u32, TopicFault> {
        legal_topic(topic)?;
        let client = self
            .client
            .upgrade()
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
                return count_or_fault(code, found.partitions().len());
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
        if let Err(fault) = legal_topic(topic) {
            return Err(CreateFault::Illegal(fault.to_string()));
        }
        if topic.starts_with("__") {
            let why = "names that start with __ belong to Kafka";
            return Err(CreateFault::Illegal(why.to_owned()));
        }
        let deadline = Instant::now() + timeout;
        self.request_topic(topic, plan, timeout)?;
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

    fn request_topic(
        &self,
        topic: &str,
        plan: &TopicPlan,
        timeout: Duration,
    ) -> Result<(), CreateFault> {
        let gone = || CreateFault::Unreachable("the producer is gone".to_owned());
        let client = self.client.upgrade().ok_or_else(gone)?;
        let created = native::create_topic(
            client.client(),
            topic,
            plan.partitions.unwrap_or(-1),
            plan.replication.unwrap_or(-1),
            &plan.config,
            timeout,
        );
        created.or_else(|(code, words)| create_verdict(code, &words))
    }

    /// The topics' `max.message.bytes`: the largest batch that each takes. Topics whose
    /// configuration can't be read are left out. Opens a connection of its own.
    ///
    /// # Errors
    ///
    /// When nothing could be read. That is normal where DESCRIBE_CONFIGS is not granted.
    pub fn topic_max_message_bytes(
        &self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, u32>, Error> {
        let limit = |config: TopicConfig| config.get("max.message.bytes")?.parse().ok();
        let configs = self.topic_configs(topics, timeout)?.into_iter();
        Ok(configs
            .filter_map(|(topic, config)| Some((topic, limit(config)?)))
            .collect())
    }

    /// The cluster's id; `None` when it could not be read in time.
    #[must_use]
    pub fn cluster_id(&self, timeout: Duration) -> Option<String> {
        self.client.upgrade()?.client().fetch_cluster_id(timeout)
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
            .client
            .upgrade()
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
        | ErrorCode::POLICY_VIOLATION
        | ErrorCode::INVALID_ARG => CreateFault::Refused(said),
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

fn count_or_fault(code: Option<ErrorCode>, partitions: usize) -> Result<u32, TopicFault> {
    match code {
        None => match u32::try_from(partitions) {
            Ok(0) | Err(_) => Err(unreachable(format!("{partitions} partitions were named"))),
            Ok(count) => Ok(count),
        },
        Some(ErrorCode::UNKNOWN_TOPIC_OR_PART) => Err(TopicFault::Missing),
        Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED) => Err(TopicFault::NotAuthorized),
        Some(ErrorCode::TOPIC_EXCEPTION) => Err(TopicFault::Illegal(
            ErrorCode::TOPIC_EXCEPTION.description(),
        )),
        Some(code) => Err(unreachable(described(code))),
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

/// Runs a future on this thread. The admin client wakes it from its own thread; no runtime needed.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut task = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
            return output;
        }
        thread::park();
    }
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
        assert!(matches!(
            count_or_fault(None, 0),
            Err(TopicFault::Unreachable(_))
        ));
        assert_eq!(count_or_fault(None, 12), Ok(12));
    }

    #[test]
    fn topic_errors_are_told_apart() {
        let fault = |code| count_or_fault(Some(ErrorCode(code)), 0).unwrap_err();
        assert_eq!(fault(3), TopicFault::Missing);
        assert_eq!(fault(29), TopicFault::NotAuthorized);
        assert!(matches!(fault(17), TopicFault::Illegal(_)));
        let TopicFault::Unreachable(why) = fault(7) else {
            panic!("a timeout is no verdict")
        };
        assert!(why.starts_with("REQUEST_TIMED_OUT (7)"), "{why}");
    }

    #[test]
    fn a_future_that_is_woken_by_another_thread_completes() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            sender.send(7).unwrap();
        });
        assert_eq!(block_on(receiver), Ok(7));
        waker.join().unwrap();
    }
}
