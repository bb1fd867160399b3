//! The producer: one owner, which sends and polls on one thread.
//!
//! Sending and polling on the same thread is what makes it cheap: a record's memory is freed by the
//! thread that allocated it. The opaque number of a record is carried by value, so nothing is
//! allocated for it.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig};

use crate::LOG_TARGET;
use crate::context::{Client, Context};
use crate::creation;
use crate::error::{Error, ErrorCode, Fault, Rejection, SendError};
use crate::firsts::Admission;
use crate::metadata::Metadata;
use crate::native;
use crate::oauth::{Refresher, TokenSource};
use crate::properties::Settings;
use crate::trouble::{Trouble, TroubleKind};
use crate::wakeup::Wakeup;

/// Opaque numbers travel in a pointer of the C library.
const _: () = assert!(
    size_of::<usize>() == size_of::<u64>(),
    "a 64-bit target is needed"
);

/// How long a dropped producer waits for the reports of what it purged.
const DROP_DRAIN: Duration = Duration::from_millis(500);

/// Pause between two looks for those reports.
const DROP_DRAIN_INTERVAL: Duration = Duration::from_micros(200);

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The header's name. Kafka does not require names to be unique.
    pub name: &'a str,
    /// The header's value; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
}

/// One record to send. Everything is copied once, into librdkafka.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where the record goes.
    pub topic: &'a str,
    /// The partition, counted from 0. Always explicit: librdkafka never chooses.
    pub partition: i32,
    /// The record's key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// The record's value; `None` is a tombstone, which differs from an empty value.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [Header<'a>],
    /// Comes back with the report.
    pub opaque: u64,
}

impl Record<'_> {
    /// Bytes of key, value and headers, without Kafka's framing.
    fn bytes(&self) -> usize {
        let of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self
            .headers
            .iter()
            .map(|header| header.name.len() + of(header.value));
        of(self.key) + of(self.value) + headers.sum::<usize>()
    }
}

/// Shows sizes only: payloads don't belong in logs.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("key_bytes", &self.key.map(<[u8]>::len))
            .field("value_bytes", &self.value.map(<[u8]>::len))
            .field("headers", &self.headers.len())
            .field("opaque", &self.opaque)
            .finish()
    }
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The record's [`Record::opaque`].
    pub opaque: u64,
    /// Where it is, or why it isn't there.
    pub result: Result<Placed, Rejection>,
    /// [`Producer::breaks`] when it came, at least and at most.
    pub breaks: RangeInclusive<u64>,
}

/// Where a delivered record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The partition, counted from 0.
    pub partition: i32,
    /// The record's offset; negative where the broker did not say it (a batch that was sent twice
    /// and acknowledged once).
    pub offset: i64,
}

/// One idempotent producer.
///
/// It has one owner, which calls [`send`](Self::send) and [`poll`](Self::poll) on one thread, and
/// waits with [`ready`](Self::ready) in between. Every record that `send` took is reported exactly
/// once by `poll`. Reports are in sending order within a partition, in any order across partitions.
///
/// The broker gives the producer an identity soon after its birth. The first record waits 500 ms
/// if it is sent before that, so a producer should be made 100 ms before it is needed.
///
/// After a fatal error, and after [`purge`](Self::purge), it takes no more records; those that are
/// in flight are still reported, every one.
///
/// A dropped producer purges what it still has: that is not a graceful end. Send nothing more and
/// poll until [`in_flight`](Self::in_flight) is 0 for that.
pub struct Producer {
    // Before `client`: its reference to the client's queue goes first.
    wakeup: Wakeup,
    _tokens: Option<Refresher>,
    client: Arc<Client>,
    settings: Settings,
    in_flight: usize,
    end: Option<End>,
}

/// Why a producer sends no more. What is in flight is still waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// After a fatal error. The broker may still answer for what is on its way.
    Failed,
    /// After a purge. Nothing is waited for.
    Purged,
}

impl Producer {
    /// Makes a producer, which starts to connect in the background at once. An unreachable broker
    /// is no error here; it shows in [`last_error`](Self::last_error).
    ///
    /// # Errors
    ///
    /// When properties contradict each other, a certificate can't be read, or no threads or file
    /// descriptors are left.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Self::with_context(settings, Context::new(settings))
    }

    /// As [`Producer::new`], with a context that may be quieter.
    pub(crate) fn with_context(settings: &Settings, context: Context) -> Result<Self, Error> {
        let action = "create the Kafka producer";
        let client = telling_breaks(settings.client_config())
            .create_with_context(context)
            .map_err(|error| creation::explained(action, &error, settings))?;
        let client: Arc<Client> = Arc::new(client);
        let wakeup = Wakeup::new(Arc::clone(&client))
            .map_err(|error| Error::new(action, format!("no wake-up socket: {error}")))?;
        let tokens = settings.tokens().map(|source| supply(&client, source));
        let tokens = tokens
            .transpose()
            .map_err(|error| Error::new(action, format!("no thread for tokens: {error}")))?;
        Ok(Self {
            wakeup,
            _tokens: tokens,
            client,
            settings: settings.clone(),
            in_flight: 0,
            end: None,
        })
    }

    /// Waits until reports (or other events) may be there for [`poll`](Self::poll). It may return
    /// although nothing is. Nothing is lost when the future is dropped before it is done.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled. The first call ties the producer to its runtime.
    pub async fn ready(&mut self) {
        if self.end.is_some() && self.in_flight > 0 {
            self.wakeup.soon().await;
        } else {
            self.wakeup.ready().await;
        }
    }

    /// Hands one record to librdkafka, which sends it in the background. Never blocks.
    ///
    /// # Errors
    ///
    /// When the record was not taken; no report will come for it then.
    pub fn send(&mut self, record: &Record<'_>) -> Result<(), SendError> {
        if record.partition < 0 {
            // librdkafka would take it as "any partition".
            return Err(rejected(ErrorCode::UNKNOWN_PARTITION));
        }
        if self.end == Some(End::Purged) {
            return Err(SendError::Fatal(purged()));
        }
        let context = self.client.context();
        let admission = context.admit(record.topic, record.partition);
        if admission == Admission::Held {
            return Err(SendError::QueueFull);
        }
        let mut message = BaseRecord::with_opaque_to(record.topic, pointer_sized(record.opaque))
            .partition(record.partition);
        message.key = record.key;
        message.payload = record.value;
        if !record.headers.is_empty() {
            message.headers = Some(native_headers(record.headers));
        }
        match self.client.send(message) {
            Ok(()) => {
                if admission == Admission::First {
                    context.first_sent(record.topic, record.partition);
                }
                self.in_flight += 1;
                Ok(())
            }
            Err((error, _message)) => Err(self.send_error(&error, record)),
        }
    }

    /// Serves every waiting event and appends the reports to `deliveries`; returns how many.
    pub fn poll(&mut self, deliveries: &mut Vec<Delivery>) -> usize {
        let mut count = self.serve(deliveries);
        if self.end.is_none() && self.client.context().take_news() && self.fatal().is_some() {
            self.end = Some(End::Failed);
        }
        if self.in_flight > count
            && let Some(end) = self.end
        {
            self.give_up(end);
            count += self.serve(deliveries);
        }
        assert!(
            count <= self.in_flight,
            "a record was reported that was not in flight"
        );
        self.in_flight -= count;
        count
    }

    /// Records that were sent and are not reported yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Gives up every record that is not acknowledged, whether it waits or is on its way: each is
    /// reported as an error by [`poll`](Self::poll) soon after. Records that were on their way may
    /// still arrive.
    ///
    /// If there were any, this is the producer's end: it takes no more records then.
    pub fn purge(&mut self) {
        if self.in_flight > 0 {
            self.end = Some(End::Purged);
            self.client.context().purged();
            self.give_up(End::Purged);
        }
    }

    /// The error that made this producer unusable, if one did. Its records are reported as errors;
    /// it must be replaced.
    #[must_use]
    pub fn fatal(&self) -> Option<Fault> {
        let (code, detail) = self.client.client().fatal_error()?;
        let detail = self.client.context().redacted(&detail);
        Some(Fault {
            code: ErrorCode(code as i32),
            detail,
        })
    }

    /// Whether it takes records: it was not purged, and did not fail for good.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.end.is_none() && self.fatal().is_none()
    }

    /// The last error of the connections (a broker away, credentials refused), as far as
    /// [`poll`](Self::poll) has seen it. The next successful delivery clears it.
    #[must_use]
    pub fn last_error(&self) -> Option<Fault> {
        self.client.context().last_error()
    }

    /// How often a connection was made after one had broken, as far as [`poll`](Self::poll) has
    /// seen it: it may lead to another cluster. The first one counts too. Cheap enough for a loop.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        self.client.context().breaks()
    }

    /// The worst trouble of the connections, as far as [`poll`](Self::poll) has seen it, until the
    /// cluster takes a record or answers a question about a topic.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.client.context().trouble()
    }

    /// As [`trouble`](Self::trouble), if nothing at all works because of it: no broker is left, or
    /// there is no token. Cheap enough for a loop.
    #[must_use]
    pub fn total_trouble(&self) -> Option<Trouble> {
        self.client.context().total_trouble()
    }

    /// Whether the cluster ever took a record or answered a question about a topic.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.client.context().has_answered()
    }

    /// A handle to ask the cluster questions, for a thread that may block. It does not keep the
    /// producer alive.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        Metadata::new(Arc::downgrade(&self.client))
    }

    /// Makes librdkafka report what can't be delivered any more. Once is not enough: librdkafka
    /// queues a batch again whose answer asks for a retry, and after a fatal error it neither sends
    /// nor reports that batch by itself.
    fn give_up(&self, end: End) {
        let waiting = PurgeConfig::default().queue().non_blocking();
        self.client.purge(match end {
            End::Failed => waiting,
            End::Purged => waiting.inflight(),
        });
    }

    /// One call of the crate serves one event, which carries the reports of a whole batch. The
    /// first call is made even if nothing waits: it re-arms the wake-up. The loop ends because
    /// nothing is sent meanwhile.
    fn serve(&self, deliveries: &mut Vec<Delivery>) -> usize {
        loop {
            self.client.poll(Duration::ZERO);
            if !self.wakeup.is_pending() {
                break;
            }
        }
        self.client.context().take_reports(deliveries)
    }

    fn send_error(&self, error: &KafkaError, record: &Record<'_>) -> SendError {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => SendError::QueueFull,
            Some(RDKafkaErrorCode::Fatal) => SendError::Fatal(self.fatal().unwrap_or_else(|| {
                let detail = ErrorCode::FATAL.description();
                Fault {
                    code: ErrorCode::FATAL,
                    detail,
                }
            })),
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => SendError::Rejected(Rejection {
                code: ErrorCode::MSG_SIZE_TOO_LARGE,
                detail: format!(
                    "{} bytes of key, value and headers, with Kafka's framing, exceed \
                     message.max.bytes={}",
                    record.bytes(),
                    self.settings.message_max_bytes(),
                ),
            }),
            Some(code) => rejected(ErrorCode(code as i32)),
            // The one error without a code: a NUL byte in the topic's name.
            None => rejected(ErrorCode::TOPIC_EXCEPTION),
        }
    }
}

impl Drop for Producer {
    /// Purges and collects the reports here, because the crate would wait for them in steps of
    /// 100 ms.
    fn drop(&mut self) {
        self.purge();
        let deadline = Instant::now() + DROP_DRAIN;
        let mut reports = Vec::new();
        self.poll(&mut reports);
        while self.in_flight > 0 && Instant::now() < deadline {
            std::thread::sleep(DROP_DRAIN_INTERVAL);
            self.poll(&mut reports);
        }
        if self.in_flight > 0 {
            tracing::warn!(
                target: LOG_TARGET,
                records = self.in_flight,
                "a producer was dropped before all of its purged records were reported"
            );
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("in_flight", &self.in_flight)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Keeps a producer supplied with tokens.
fn supply(client: &Arc<Client>, source: &Arc<TokenSource>) -> io::Result<Refresher> {
    let client = Arc::downgrade(client);
    Refresher::start(Arc::clone(source), move |token| {
        let Some(client) = client.upgrade() else {
            return false;
        };
        let trouble = match token {
            Ok(token) => match native::set_token(client.client(), token) {
                Ok(()) => return true,
                Err(why) => Trouble::new(
                    TroubleKind::Configuration,
                    format!("the token can't be used: {why}"),
                    "check what the token endpoint gives out, and this machine's clock",
                ),
            },
            Err(error) => Trouble::from(error.clone()),
        };
        let words = trouble.message.clone();
        // First the explanation, then the event that wakes whoever wants to hear it.
        client.context().no_token(trouble);
        native::set_token_failure(client.client(), &words);
        true
    })
}

fn native_headers(headers: &[Header<'_>]) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    headers.iter().fold(empty, |native, header| {
        native.insert(KafkaHeader {
            key: header.name,
            value: header.value,
        })
    })
}

fn pointer_sized(opaque: u64) -> usize {
    usize::try_from(opaque).expect("this only compiles where both are 64 bits wide")
}

fn purged() -> Fault {
    let detail = "the producer was purged and must be replaced".to_owned();
    Fault {
        code: ErrorCode::PURGE_QUEUE,
        detail,
    }
}

fn rejected(code: ErrorCode) -> SendError {
    SendError::Rejected(Rejection {
        code,
        detail: code.description(),
    })
}
/// librdkafka leaves some ends of a connection out, and tells the same one again only for some
/// time; but for its debug log.
fn telling_breaks(mut config: ClientConfig) -> ClientConfig {
    let debug = match config.get("debug") {
        Some(debug) => format!("{debug},broker"),
        None => "broker".to_owned(),
    };
    config.set("debug", debug);
    config.set_log_level(RDKafkaLogLevel::Debug);
    config
}
