//! The demo's Kafka, and the consumer that looks at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use walpost_core::class::Exit;
use walpost_kafka::{Consumer, ErrorCode, MockBroker, ReadFrom, Settings};

use super::view::Seen;
use crate::error::Error;

/// The topic inside the process.
const MOCK_TOPIC: &str = "orders";

/// The topic on a cluster of the user's: no application has one of that name.
const GIVEN_TOPIC: &str = "walpost-demo";

/// Enough to see that an order stays in its partition.
const PARTITIONS: i32 = 3;

/// The mock cluster looks for new records only when a fetch has waited so long. The wait is part of
/// the latency that is shown.
const MOCK_FETCH_WAIT_MS: &str = "2";

/// Limit for finding the topic.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// How long the reading thread waits before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// Records that are read ahead of the printing.
const READ_AHEAD: usize = 1_000;

/// Where the records go.
pub(super) enum Broker {
    /// Inside this process.
    Mock(MockBroker),
    /// The user's, as `host:port,...`.
    Given(String),
}

impl Broker {
    /// Starts a cluster, unless there is one.
    pub(super) fn open(given: Option<&str>) -> Result<Self, Error> {
        if let Some(brokers) = given {
            return Ok(Self::Given(brokers.to_owned()));
        }
        let failed = |error: walpost_kafka::Error| Error::new(Exit::Internal, error.to_string());
        let mock = MockBroker::start(1).map_err(failed)?;
        mock.create_topic(MOCK_TOPIC, PARTITIONS, 1)
            .map_err(failed)?;
        Ok(Self::Mock(mock))
    }

    /// For `kafka.brokers`.
    pub(super) fn bootstrap(&self) -> String {
        match self {
            Self::Mock(mock) => mock.bootstrap(),
            Self::Given(brokers) => brokers.clone(),
        }
    }

    pub(super) fn topic(&self) -> &'static str {
        match self {
            Self::Mock(_) => MOCK_TOPIC,
            Self::Given(_) => GIVEN_TOPIC,
        }
    }
}

/// Reads the topic on a thread of its own. Dropping it ends the thread.
pub(super) struct Viewer {
    /// Taken when the thread is to end.
    records: Option<Receiver<Result<Seen, Error>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    partitions: usize,
}

impl Viewer {
    /// Finds the topic: on a mock cluster from its beginning, on a real one from its end.
    pub(super) async fn open(broker: &Broker, settings: &Settings) -> Result<Self, Error> {
        let (topic, brokers) = (broker.topic(), broker.bootstrap());
        let (settings, from) = match broker {
            Broker::Mock(_) => {
                let settings = settings
                    .clone()
                    .with("fetch.wait.max.ms", MOCK_FETCH_WAIT_MS);
                (settings, ReadFrom::Beginning)
            }
            Broker::Given(_) => (settings.clone(), ReadFrom::End),
        };
        let opening = move || Consumer::new(&settings, topic, from, OPEN_DEADLINE);
        let opened = tokio::task::spawn_blocking(opening).await;
        let opened = opened.map_err(|error| Error::new(Exit::Internal, error.to_string()))?;
        let consumer = opened.map_err(|error| not_opened(&error, topic, &brokers))?;
        Self::start(consumer)
    }

    fn start(consumer: Consumer) -> Result<Self, Error> {
        let partitions = consumer.partitions();
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, records) = channel(READ_AHEAD);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("viewer".to_owned())
            .spawn(move || read(&consumer, &sender, &stopped))
            .map_err(|error| {
                Error::new(
                    Exit::Internal,
                    format!("can't start the viewer's thread: {error}"),
                )
            })?;
        Ok(Self {
            records: Some(records),
            stop,
            thread: Some(thread),
            partitions,
        })
    }

    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }

    /// The next record. Can be dropped.
    pub(super) async fn next(&mut self) -> Result<Seen, Error> {
        match &mut self.records {
            Some(records) => records
                .recv()
                .await
                .unwrap_or_else(|| Err(Error::new(Exit::Internal, "the viewer's thread is gone"))),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that waits for room sees that nobody reads.
        self.records = None;
        if let Some(thread) = self.thread.take() {
            // A panic has aborted the process already.
            let _ = thread.join();
        }
    }
}

fn read(consumer: &Consumer, records: &Sender<Result<Seen, Error>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let seen = match consumer.poll(POLL) {
            Ok(None) => continue,
            Ok(Some(record)) => Ok(Seen {
                record,
                at: SystemTime::now(),
            }),
            Err(error) => Err(Error::new(Exit::Unavailable, error.to_string())),
        };
        let failed = seen.is_err();
        if records.blocking_send(seen).is_err() || failed {
            return;
        }
    }
}

fn not_opened(error: &walpost_kafka::Error, topic: &str, brokers: &str) -> Error {
    if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PART) {
        let message = format!("there is no topic {topic} at {brokers}, and the demo creates none");
        return Error::new(Exit::Configuration, message).with_fix(format!(
            "kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} \
             --partitions {PARTITIONS}"
        ));
    }
    Error::new(Exit::Unavailable, error.to_string())
        .with_fix(format!("is Kafka running at {brokers}? check --kafka"))
}
