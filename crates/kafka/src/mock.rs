//! librdkafka's mock cluster: a Kafka broker inside the process, for demonstrations and tests.
//!
//! It listens on 127.0.0.1 at a port of its own choice and speaks enough of the protocol for any
//! producer and consumer, in this process or another. It keeps the newest 5 MiB of a partition in
//! memory and loses all of it at the end. It knows no authorisation, no TLS, no administration, and
//! nothing about durability.

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::context::{LogContext, Redactor};
use crate::error::{Error, ErrorCode};

/// An in-process cluster of one or more mock brokers. It ends when this is dropped.
pub struct MockBroker {
    // The cluster lives inside a client. That one sends nothing.
    host: BaseProducer<LogContext>,
}

/// The kinds of requests that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MockRequest {
    /// A batch of records.
    Produce,
    /// A question for topics and brokers.
    Metadata,
    /// A new producer asks for its identity.
    InitProducerId,
}

impl MockRequest {
    fn key(self) -> RDKafkaApiKey {
        match self {
            Self::Produce => RDKafkaApiKey::Produce,
            Self::Metadata => RDKafkaApiKey::Metadata,
            Self::InitProducerId => RDKafkaApiKey::InitProducerId,
        }
    }
}

impl MockBroker {
    /// Starts a cluster of `brokers` brokers, with the ids 1, 2, ...
    ///
    /// # Errors
    ///
    /// When librdkafka can't listen or start its threads.
    pub fn start(brokers: i32) -> Result<Self, Error> {
        let host = ClientConfig::new()
            .set("test.mock.num.brokers", brokers.to_string())
            .set("client.id", "mock-broker")
            .set_log_level(RDKafkaLogLevel::Critical)
            .create_with_context(LogContext {
                redactor: Redactor::default(),
            })
            .map_err(|error| Error::from_kafka("start the mock broker", &error))?;
        let broker = Self { host };
        if broker.host.client().mock_cluster().is_none() {
            return Err(Error::new(
                "start the mock broker",
                "librdkafka made no cluster",
            ));
        }
        Ok(broker)
    }

    /// The bootstrap list, for `kafka.brokers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.cluster().bootstrap_servers()
    }

    /// Creates a topic.
    ///
    /// # Errors
    ///
    /// When it exists, or a number is out of range.
    pub fn create_topic(&self, name: &str, partitions: i32, replication: i32) -> Result<(), Error> {
        let created = self.cluster().create_topic(name, partitions, replication);
        checked("create a topic on the mock broker", created)
    }

    /// Makes the next requests of one kind fail, one for each code.
    ///
    /// # Errors
    ///
    /// When librdkafka does not know a code.
    pub fn fail_requests(&self, request: MockRequest, codes: &[ErrorCode]) -> Result<(), Error> {
        let codes: Result<Vec<_>, _> = codes
            .iter()
            .map(|code| RDKafkaRespErr::try_from(code.0))
            .collect();
        let codes = codes
            .map_err(|_| Error::new("make mock requests fail", "librdkafka has no such code"))?;
        self.cluster().request_errors(request.key(), &codes);
        Ok(())
    }

    /// Makes requests of one kind succeed again.
    pub fn clear_failures(&self, request: MockRequest) {
        self.cluster().clear_request_errors(request.key());
    }

    /// Disconnects every client and refuses connections until [`all_up`](Self::all_up).
    ///
    /// # Errors
    ///
    /// When librdkafka refuses.
    pub fn all_down(&self) -> Result<(), Error> {
        checked("take the mock brokers down", self.cluster().broker_down(-1))
    }

    /// Accepts connections again.
    ///
    /// # Errors
    ///
    /// When librdkafka refuses.
    pub fn all_up(&self) -> Result<(), Error> {
        checked("bring the mock brokers up", self.cluster().broker_up(-1))
    }

    /// Delays every answer.
    ///
    /// # Errors
    ///
    /// When librdkafka refuses.
    pub fn delay_answers(&self, delay: Duration) -> Result<(), Error> {
        let delayed = self.cluster().broker_round_trip_time(-1, delay);
        checked("delay the mock brokers' answers", delayed)
    }

    fn cluster(&self) -> MockCluster<'_, LogContext> {
        self.host
            .client()
            .mock_cluster()
            .expect("`start` has seen the cluster")
    }
}

impl fmt::Debug for MockBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockBroker")
            .field("bootstrap", &self.bootstrap())
            .finish()
    }
}

fn checked(action: &'static str, result: Result<(), KafkaError>) -> Result<(), Error> {
    result.map_err(|error| Error::from_kafka(action, &error))
}
