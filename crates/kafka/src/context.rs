//! What librdkafka calls back: deliveries, errors of its connections, log lines.
//!
//! All of it arrives inside [`Producer::poll`](crate::Producer::poll), on the thread that owns the
//! producer; the locks are never contended, they only satisfy librdkafka's bounds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};

use crate::LOG_TARGET;
use crate::error::{ErrorCode, Fault, Rejection};
use crate::firsts::{Admission, Firsts};
use crate::native;
use crate::producer::{Delivery, Placed};

/// The producer of the crate, with our context.
pub(crate) type Client = BaseProducer<Context>;

/// Receives what one producer reports.
#[derive(Debug)]
pub(crate) struct Context {
    records: Mutex<Records>,
    troubles: Mutex<Troubles>,
    /// Whether `troubles` holds anything: spares a lock for each delivery.
    is_troubled: AtomicBool,
    /// Whether librdkafka has given the producer up.
    is_fatal: AtomicBool,
    redactor: Redactor,
}

#[derive(Debug, Default)]
struct Records {
    reports: Vec<Delivery>,
    firsts: Firsts,
}

/// Errors of the connections since the last successful delivery.
#[derive(Debug, Default)]
struct Troubles {
    last: Option<Fault>,
    logged: BTreeSet<ErrorCode>,
}

impl Context {
    pub(crate) fn new(redactor: Redactor) -> Self {
        Self {
            records: Mutex::default(),
            troubles: Mutex::default(),
            is_troubled: AtomicBool::new(false),
            is_fatal: AtomicBool::new(false),
            redactor,
        }
    }

    /// Moves the waiting reports to the end of `deliveries`; returns how many.
    pub(crate) fn take_reports(&self, deliveries: &mut Vec<Delivery>) -> usize {
        let mut records = locked(&self.records);
        let count = records.reports.len();
        deliveries.append(&mut records.reports);
        count
    }

    /// Whether a record may be sent to a partition now.
    pub(crate) fn admit(&self, topic: &str, partition: i32) -> Admission {
        locked(&self.records)
            .firsts
            .admit(topic, partition, Instant::now())
    }

    /// A record that was admitted as the first one was sent.
    pub(crate) fn first_sent(&self, topic: &str, partition: i32) {
        locked(&self.records).firsts.sent(topic, partition);
    }

    /// Whether librdkafka has given the producer up, as far as events were served.
    pub(crate) fn is_fatal(&self) -> bool {
        self.is_fatal.load(Ordering::Relaxed)
    }

    pub(crate) fn last_error(&self) -> Option<Fault> {
        locked(&self.troubles).last.clone()
    }

    /// The text without the secrets of this producer's settings.
    pub(crate) fn redacted(&self, text: &str) -> String {
        self.redactor.redacted(text)
    }

    fn recovered(&self) {
        let troubles = std::mem::take(&mut *locked(&self.troubles));
        self.is_troubled.store(false, Ordering::Relaxed);
        if let Some(fault) = troubles.last {
            tracing::info!(
                target: LOG_TARGET,
                code = %fault.code,
                "records are delivered again"
            );
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, &self.redactor.redacted(line));
    }

    /// Called twice for each event, and again at each attempt to reconnect: one line is logged for
    /// each kind of error until a record is delivered again.
    fn error(&self, error: KafkaError, reason: &str) {
        let code = ErrorCode::of(&error);
        let fault = Fault {
            code,
            detail: self.redactor.redacted(reason),
        };
        if code == ErrorCode::FATAL {
            self.is_fatal.store(true, Ordering::Relaxed);
        }
        let mut troubles = locked(&self.troubles);
        self.is_troubled.store(true, Ordering::Relaxed);
        if troubles.logged.insert(code) {
            tracing::warn!(target: LOG_TARGET, %code, detail = fault.detail, "Kafka error");
        }
        // "All brokers down" follows the error that says why; it must not hide it.
        if code != ErrorCode::ALL_BROKERS_DOWN || troubles.last.is_none() {
            troubles.last = Some(fault);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        tracing::trace!(
            target: LOG_TARGET,
            statistics = %String::from_utf8_lossy(statistics),
            "librdkafka statistics"
        );
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, opaque: usize) {
        let result = match delivered {
            Ok(message) => {
                if self.is_troubled.load(Ordering::Relaxed) {
                    self.recovered();
                }
                Ok(Placed {
                    partition: message.partition(),
                    offset: message.offset(),
                })
            }
            Err((error, message)) => {
                let code = ErrorCode::of(error);
                let detail = native::broker_explanation(message)
                    .map_or_else(|| code.description(), |text| self.redactor.redacted(&text));
                Err(Rejection { code, detail })
            }
        };
        // Lossless: the crate only compiles where the two have the same width.
        locked(&self.reports).push(Delivery {
            opaque: opaque as u64,
            result,
        });
    }
}

/// A context for clients that deliver nothing: it only logs.
#[derive(Debug)]
pub(crate) struct LogContext {
    pub(crate) redactor: Redactor,
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, &self.redactor.redacted(line));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = ErrorCode::of(&error);
        let detail = self.redactor.redacted(reason);
        tracing::debug!(target: LOG_TARGET, %code, detail, "Kafka error");
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}

/// Takes known secrets out of texts that librdkafka wrote.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Shorter values than this occur in any text by chance.
    const SECRET_CHARS_MIN: usize = 4;

    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let long_enough = |secret: &String| secret.chars().count() >= Self::SECRET_CHARS_MIN;
        Self {
            secrets: secrets.into_iter().filter(long_enough).collect(),
        }
    }

    pub(crate) fn redacted(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret, "****"))
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

/// Passes one log line of librdkafka on. Connection errors and fatal ones come as log line and as
/// error event: the event is the one that is logged for the operator.
fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning
        | RDKafkaLogLevel::Notice
            if matches!(facility, "FAIL" | "ERROR" | "FATAL") =>
        {
            tracing::debug!(target: LOG_TARGET, facility, "librdkafka: {line}");
        }
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: LOG_TARGET, facility, "librdkafka: {line}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: LOG_TARGET, facility, "librdkafka: {line}");
        }
        RDKafkaLogLevel::Notice => {
            tracing::info!(target: LOG_TARGET, facility, "librdkafka: {line}");
        }
        RDKafkaLogLevel::Info => {
            tracing::debug!(target: LOG_TARGET, facility, "librdkafka: {line}");
        }
        RDKafkaLogLevel::Debug => {
            tracing::trace!(target: LOG_TARGET, facility, "librdkafka: {line}");
        }
    }
}

/// A panic while the lock is held can't leave these values half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::error::RDKafkaErrorCode;

    fn context() -> Context {
        Context::new(Redactor::new(["hunter2".to_owned(), "a".to_owned()]))
    }

    #[test]
    fn the_last_error_is_kept_until_a_delivery_succeeds() {
        let context = context();
        let refused = KafkaError::Global(RDKafkaErrorCode::Authentication);
        context.error(refused, "SASL authentication failed");
        assert_eq!(
            context.last_error().unwrap().code,
            ErrorCode::AUTHENTICATION
        );
        context.recovered();
        assert_eq!(context.last_error(), None);
    }

    #[test]
    fn all_brokers_down_does_not_hide_the_reason() {
        let context = context();
        let down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        context.error(down.clone(), "1/1 brokers are down");
        assert_eq!(
            context.last_error().unwrap().code,
            ErrorCode::ALL_BROKERS_DOWN
        );
        context.error(
            KafkaError::Global(RDKafkaErrorCode::Authentication),
            "denied",
        );
        context.error(down, "1/1 brokers are down");
        assert_eq!(
            context.last_error().unwrap().code,
            ErrorCode::AUTHENTICATION
        );
    }

    #[test]
    fn secrets_are_taken_out_of_errors() {
        let context = context();
        let error = KafkaError::Global(RDKafkaErrorCode::Authentication);
        context.error(error, "user app with password hunter2 denied");
        let fault = context.last_error().unwrap();
        assert_eq!(fault.detail, "user app with password **** denied");
        assert!(!format!("{context:?}").contains("hunter2"));
    }
}
