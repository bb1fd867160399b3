//! What librdkafka calls back: deliveries, errors of its connections, log lines.
//!
//! All of it arrives inside [`Producer::poll`](crate::Producer::poll), on the thread that owns the
//! producer. Others only say that the cluster has answered, and that there is no token: what they
//! change is behind a lock.

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
use crate::breaks::Breaks;
use crate::error::{ErrorCode, Fault, Rejection};
use crate::firsts::{Admission, Firsts};
use crate::producer::{Delivery, Placed};
use crate::properties::Settings;
use crate::trouble::{Facts, Trouble, TroubleKind};

/// The producer of the crate, with our context.
pub(crate) type Client = BaseProducer<Context>;

/// Receives what one producer reports.
#[derive(Debug)]
pub(crate) struct Context {
    records: Mutex<Records>,
    troubles: Mutex<Troubles>,
    /// Whether `troubles` holds anything: spares a lock for each delivery.
    is_troubled: AtomicBool,
    /// Whether an error event was served since the owner last asked.
    has_news: AtomicBool,
    /// Whether the owner has given up its records: the errors that follow are no news.
    is_purged: AtomicBool,
    /// Whether the cluster ever took a record or answered a question about topics.
    has_answered: AtomicBool,
    facts: Facts,
    redactor: Redactor,
    /// What goes wrong is kept, and logged for developers only.
    is_quiet: bool,
}

#[derive(Debug, Default)]
struct Records {
    reports: Vec<Delivery>,
    breaks: Breaks,
    firsts: Firsts,
}

/// Errors of the connections since the last successful delivery.
#[derive(Debug, Default)]
struct Troubles {
    last: Option<Fault>,
    /// The last failure that was logged and may have come without an event: a broker that hangs up.
    hint: Option<String>,
    /// The worst of what is known.
    worst: Option<Trouble>,
    /// No broker is left, or no token.
    is_total: bool,
    logged: BTreeSet<String>,
}

impl Troubles {
    /// "All brokers down" follows the error that says why: it must not hide it. Where a broker just
    /// hangs up, only a log line says why.
    fn add(&mut self, mut fault: Fault, is_loud: bool) {
        let is_summary = fault.code == ErrorCode::ALL_BROKERS_DOWN;
        if is_summary
            && self.last.is_none()
            && let Some(hint) = self.hint.take()
        {
            fault.detail = format!("{}: {hint}", fault.detail);
        }
        let Fault { code, detail } = &fault;
        if is_summary {
            self.is_total = true;
        } else if is_loud && self.worst.is_none() && self.logged.insert(code.name()) {
            tracing::warn!(target: LOG_TARGET, %code, detail, "Kafka error");
        }
        if !is_summary || self.last.is_none() {
            self.last = Some(fault);
        }
    }

    /// Logged once each until a record is delivered, if at all.
    fn explain(&mut self, trouble: Trouble, is_loud: bool) {
        if is_loud && self.logged.insert(trouble.message.clone()) {
            let Trouble { message, fix, .. } = &trouble;
            tracing::warn!(target: LOG_TARGET, fix, "{message}");
        }
        let is_worse = |worst: &Trouble| trouble.kind >= worst.kind;
        if self.worst.as_ref().is_none_or(is_worse) {
            self.worst = Some(trouble);
        }
    }
}

impl Context {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            facts: Facts::of(settings),
            has_answered: AtomicBool::new(false),
            records: Mutex::default(),
            troubles: Mutex::default(),
            is_troubled: AtomicBool::new(false),
            has_news: AtomicBool::new(false),
            is_purged: AtomicBool::new(false),
            redactor: settings.redactor(),
            is_quiet: false,
        }
    }

    /// Of a client whose failures are told otherwise.
    pub(crate) fn quiet(settings: &Settings) -> Self {
        Self {
            is_quiet: true,
            ..Self::new(settings)
        }
    }

    /// Moves the waiting reports to the end of `deliveries`; returns how many. All that librdkafka
    /// had to say was served before.
    pub(crate) fn take_reports(&self, deliveries: &mut Vec<Delivery>) -> usize {
        let mut records = locked(&self.records);
        records.breaks.queue_is_empty();
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

    /// Whether an error event was served since this was last asked: it may have been a fatal one.
    pub(crate) fn take_news(&self) -> bool {
        self.has_news.swap(false, Ordering::Relaxed)
    }

    /// How often a connection was made after one had broken, as [`Breaks`] counts.
    pub(crate) fn breaks(&self) -> u64 {
        locked(&self.records).breaks.count()
    }

    /// The owner gives up its records. A gapless producer fails over that, which is then expected.
    pub(crate) fn purged(&self) {
        self.is_purged.store(true, Ordering::Relaxed);
    }

    pub(crate) fn last_error(&self) -> Option<Fault> {
        locked(&self.troubles).last.clone()
    }

    /// The worst trouble since the last success.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        locked(&self.troubles).worst.clone()
    }

    /// As [`Context::trouble`], where nothing at all works because of it. Costs nothing while there
    /// is none.
    pub(crate) fn total_trouble(&self) -> Option<Trouble> {
        if !self.is_troubled.load(Ordering::Relaxed) {
            return None;
        }
        let troubles = locked(&self.troubles);
        troubles.worst.clone().filter(|_| troubles.is_total)
    }

    /// The cluster answered: it lets us in. Single brokers can still be out of reach, and
    /// librdkafka does not repeat that soon.
    pub(crate) fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        if self.is_troubled.load(Ordering::Relaxed) {
            let mut troubles = locked(&self.troubles);
            troubles.is_total = false;
            let remains = |trouble: &Trouble| trouble.kind == TroubleKind::Unreachable;
            troubles.worst = troubles.worst.take().filter(remains);
        }
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// There is no token to log in with.
    pub(crate) fn no_token(&self, trouble: Trouble) {
        let mut troubles = locked(&self.troubles);
        troubles.explain(trouble, !self.is_quiet);
        troubles.is_total = true;
        self.is_troubled.store(true, Ordering::Relaxed);
    }

    /// The text without the secrets of this producer's settings.
    pub(crate) fn redacted(&self, text: &str) -> String {
        self.redactor.redacted(text)
    }

    /// A connection failed. One that the broker closed although it worked is normal: idle
    /// connections are closed, and brokers are restarted.
    fn failed(&self, line: String) {
        let trouble = self.facts.explain(&line);
        let is_normal = self.has_answered() && line.contains("Disconnected");
        let mut troubles = locked(&self.troubles);
        troubles.hint = Some(line);
        troubles.explain(trouble, !is_normal && !self.is_quiet);
        self.is_troubled.store(true, Ordering::Relaxed);
    }

    fn recovered(&self) {
        let mut troubles = locked(&self.troubles);
        let last = std::mem::take(&mut *troubles).last;
        self.is_troubled.store(false, Ordering::Relaxed);
        drop(troubles);
        if let Some(fault) = last {
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
        locked(&self.records).breaks.hear(facility, line);
        let is_debug = matches!(level, RDKafkaLogLevel::Debug);
        // Asked for because of the breaks.
        if is_debug && !tracing::enabled!(target: LOG_TARGET, tracing::Level::TRACE) {
            return;
        }
        let line = self.redactor.redacted(without_thread(line));
        if self.is_quiet {
            tracing::debug!(target: LOG_TARGET, facility, "librdkafka: {line}");
        } else {
            log_line(level, facility, &line);
        }
        if facility == "FAIL" && !is_debug && !self.is_purged.load(Ordering::Relaxed) {
            self.failed(line);
        }
    }

    /// Called twice for each event, and again at each attempt to reconnect: one line is logged for
    /// each kind of error until a record is delivered again.
    fn error(&self, error: KafkaError, reason: &str) {
        let code = ErrorCode::of(&error);
        let detail = self.redactor.redacted(reason);
        self.has_news.store(true, Ordering::Relaxed);
        if self.is_purged.load(Ordering::Relaxed) {
            tracing::debug!(target: LOG_TARGET, %code, detail, "error after a purge");
            return;
        }
        let mut troubles = locked(&self.troubles);
        if code == ErrorCode::CLUSTER_AUTHORIZATION_FAILED {
            troubles.explain(self.facts.nothing_writable(), !self.is_quiet);
            troubles.is_total = true;
        }
        troubles.add(Fault { code, detail }, !self.is_quiet);
        self.is_troubled.store(true, Ordering::Relaxed);
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
                self.has_answered.store(true, Ordering::Relaxed);
                Ok(Placed {
                    partition: message.partition(),
                    offset: message.offset(),
                })
            }
            // The broker's own words (`rd_kafka_message_produce_errstr`) must not be read:
            // librdkafka frees them with the response, before it reports.
            Err((error, _)) => {
                let code = ErrorCode::of(error);
                let detail = code.description();
                Err(Rejection { code, detail })
            }
        };
        let mut records = locked(&self.records);
        let breaks = match &result {
            Ok(_) => records.breaks.delivered(),
            Err(_) => records.breaks.count()..=records.breaks.count(),
        };
        // Lossless: the crate only compiles where the two have the same width.
        let report = Delivery {
            opaque: opaque as u64,
            result,
            breaks,
        };
        if records.firsts.is_waiting() {
            let (Ok(message) | Err((_, message))) = delivered;
            records
                .firsts
                .reported(message.topic(), message.partition(), delivered.is_ok());
        }
        records.reports.push(report);
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

/// The line without the thread that librdkafka puts before it.
fn without_thread(line: &str) -> &str {
    let rest = line.strip_prefix("[thrd:");
    rest.and_then(|rest| rest.split_once("]: "))
        .map_or(line, |(_thread, text)| text)
}

/// Connection errors and fatal ones come as log line and as error event: the event is the one that
/// is logged for the operator. Leaders that are away are logged for each partition.
fn is_told_otherwise(facility: &str) -> bool {
    matches!(facility, "FAIL" | "ERROR" | "FATAL" | "METADATAUPDATE")
}

/// Passes one log line of librdkafka on.
fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    // Advice about the configuration is for us, who made it: the user can't follow it.
    if facility == "CONFWARN" {
        tracing::debug!(target: LOG_TARGET, facility, "librdkafka: {line}");
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning
        | RDKafkaLogLevel::Notice
            if is_told_otherwise(facility) =>
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
        let secret = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "app"),
            ("sasl.password", "hunter2"),
        ];
        let user = secret.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Context::new(&Settings::new("broker:9092", &user.into(), "test", false).unwrap())
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
    fn a_broker_that_hangs_up_is_explained_by_the_line_that_was_logged() {
        let context = context();
        let line = "broker:9092: Disconnected: verify that security.protocol is correct";
        let logged = format!("[thrd:broker:9092/bootstrap]: {line}");
        context.log(RDKafkaLogLevel::Info, "FAIL", &logged);
        let down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        for _ in 0..2 {
            context.error(down.clone(), "1/1 brokers are down");
            let fault = context.last_error().unwrap();
            assert_eq!(fault.detail, format!("1/1 brokers are down: {line}"));
        }
    }

    #[test]
    fn trouble_is_total_when_no_broker_is_left_and_over_when_one_answers() {
        let context = context();
        let line = "sasl_plaintext://broker:9092/1: SASL authentication error: no";
        context.log(RDKafkaLogLevel::Error, "FAIL", line);
        assert_eq!(context.total_trouble(), None);
        let down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        context.error(down, "1/1 brokers are down");
        let total = context.total_trouble().unwrap();
        assert_eq!(total.kind, TroubleKind::Credentials);
        context.answered();
        assert!(context.has_answered());
        assert_eq!((context.total_trouble(), context.trouble()), (None, None));
    }

    #[test]
    fn a_broker_out_of_reach_is_remembered_until_a_record_arrives() {
        let context = context();
        let line = "inner:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused";
        context.log(RDKafkaLogLevel::Error, "FAIL", line);
        context.answered();
        assert_eq!(context.trouble().unwrap().kind, TroubleKind::Unreachable);
        context.recovered();
        assert_eq!(context.trouble(), None);
    }

    #[test]
    fn a_user_without_any_right_to_write_is_told_so() {
        let context = context();
        let refused = KafkaError::Global(RDKafkaErrorCode::ClusterAuthorizationFailed);
        context.error(refused, "Failed to acquire idempotence PID");
        let total = context.total_trouble().unwrap();
        assert_eq!(total.message, "The user 'app' may write to no topic");
    }

    #[test]
    fn errors_after_a_purge_are_no_news() {
        let context = context();
        context.purged();
        context.error(
            KafkaError::Global(RDKafkaErrorCode::GaplessGuarantee),
            "purged",
        );
        assert_eq!(context.last_error(), None);
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
