//! Errors, and where each one shows up.
//!
//! Seen with librdkafka 2.12.1 on Kafka 4.3.1, with the defaults of [`Settings`](crate::Settings).
//! "Fatal" means that [`Producer::fatal`] has an error afterwards, `_GAPLESS_GUARANTEE` (-148)
//! unless another one is named.
//!
//! Refused by [`Producer::send`], nothing fatal:
//! * `MSG_SIZE_TOO_LARGE` (10): the record is larger than `message.max.bytes`.
//! * `_UNKNOWN_PARTITION` (-190): the topic has fewer partitions, as far as the client knows. It
//!   learns of a topic that has grown by [`Metadata::partition_count`].
//! * `_UNKNOWN_TOPIC` (-188): a record for the topic was reported as unknown before.
//!   [`Metadata::partition_count`] also ends that, once the topic is there.
//!
//! Reported by [`Producer::poll`], fatal:
//! * `MSG_SIZE_TOO_LARGE` (10): the batch is larger than the topic's `max.message.bytes`.
//! * `INVALID_RECORD` (87): the broker finds fault with the batch.
//! * `TOPIC_AUTHORIZATION_FAILED` (29): the topic may be seen and not written to.
//! * `_PURGE_QUEUE` (-152): behind such a batch, on any partition. It was not written.
//!
//! Reported by [`Producer::poll`], not fatal:
//! * `UNKNOWN_TOPIC_OR_PART` (3), after 10 s: there is no such topic.
//! * `_UNKNOWN_PARTITION` (-190), after 10 s: the topic was deleted while records waited. If it is
//!   made again within the 10 s, they are delivered.
//! * `_UNKNOWN_PARTITION` (-190), at once: the topic was made again with fewer partitions.
//! * `TOPIC_EXCEPTION` (17), at once: the topic's name is illegal.
//!
//! After [`Producer::purge`]: `_PURGE_QUEUE` (-152) for what waited, `_PURGE_INFLIGHT` (-151) for
//! what was on its way and may have been written; the latter is fatal.
//!
//! Fatal before anything is sent: `CLUSTER_AUTHORIZATION_FAILED` (31), where there is no right to
//! write to any topic.
//!
//! [`Metadata::partition_count`]: [`TopicFault::Missing`], or [`TopicFault::NotAuthorized`] where
//! the topic may not be seen, whether it exists or not; [`TopicFault::Unreachable`] for the rest.
//!
//! In [`Producer::last_error`], with no reports until it is over:
//! * `_TRANSPORT` (-195): a broker is away.
//! * `_AUTHENTICATION` (-169): the credentials are wrong.
//! * `_ALL_BROKERS_DOWN` (-187): they hang up, as when they want SASL or TLS and get plain text.
//!
//! Nowhere, because it is retried: not enough replicas, a leader that moved, a corrupt batch.
//!
//! [`Producer::send`]: crate::Producer::send
//! [`Producer::poll`]: crate::Producer::poll
//! [`Producer::fatal`]: crate::Producer::fatal
//! [`Producer::purge`]: crate::Producer::purge
//! [`Producer::last_error`]: crate::Producer::last_error
//! [`Metadata::partition_count`]: crate::Metadata::partition_count

use std::fmt;

use rdkafka::error::KafkaError;

use crate::native;

/// An error in librdkafka's numbering: negative codes are raised by the client, positive ones are
/// the broker's protocol errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i32);

impl ErrorCode {
    /// The broker refused a batch for its size, or the client a record.
    pub const MSG_SIZE_TOO_LARGE: Self = Self(10);
    /// The topic's name is not one that Kafka allows.
    pub const TOPIC_EXCEPTION: Self = Self(17);
    /// The topic or partition does not exist on the broker.
    pub const UNKNOWN_TOPIC_OR_PART: Self = Self(3);
    /// No right to write to (or to see) the topic.
    pub const TOPIC_AUTHORIZATION_FAILED: Self = Self(29);
    /// No right to do something to the cluster.
    pub const CLUSTER_AUTHORIZATION_FAILED: Self = Self(31);
    /// The topic is there already.
    pub const TOPIC_ALREADY_EXISTS: Self = Self(36);
    /// The number of partitions is impossible.
    pub const INVALID_PARTITIONS: Self = Self(37);
    /// The replication factor is impossible: there are fewer brokers.
    pub const INVALID_REPLICATION_FACTOR: Self = Self(38);
    /// The broker does not know a topic's property, or does not take its value.
    pub const INVALID_CONFIG: Self = Self(40);
    /// The broker finds fault with a request.
    pub const INVALID_REQUEST: Self = Self(42);
    /// A policy of the cluster forbids it.
    pub const POLICY_VIOLATION: Self = Self(44);
    /// The client was asked for something impossible.
    pub const INVALID_ARG: Self = Self(-186);
    /// Something that none of the other codes describes.
    pub const FAIL: Self = Self(-196);
    /// No connection to any broker is left.
    pub const ALL_BROKERS_DOWN: Self = Self(-187);
    /// The topic has no partition of that number.
    pub const UNKNOWN_PARTITION: Self = Self(-190);
    /// The record was given up before it was sent.
    pub const PURGE_QUEUE: Self = Self(-152);
    /// The client's own queue is full.
    pub const QUEUE_FULL: Self = Self(-184);
    /// The broker did not accept our credentials.
    pub const AUTHENTICATION: Self = Self(-169);
    /// The producer is unusable; [`Producer::fatal`](crate::Producer::fatal) has the cause.
    pub const FATAL: Self = Self(-150);

    /// librdkafka's symbolic name, such as `MSG_SIZE_TOO_LARGE`. Names of codes that the client
    /// raises start with an underscore.
    #[must_use]
    pub fn name(self) -> String {
        native::code_name(self.0).unwrap_or_else(|| "UNKNOWN_CODE".to_owned())
    }

    /// librdkafka's description, such as `Broker: Message size too large`.
    #[must_use]
    pub fn description(self) -> String {
        native::code_description(self.0).unwrap_or_else(|| "unknown error code".to_owned())
    }

    /// The code behind an error of the crate; [`ErrorCode::FAIL`] where it has none.
    pub(crate) fn of(error: &KafkaError) -> Self {
        error
            .rdkafka_error_code()
            .map_or(Self::FAIL, |code| Self(code as i32))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// Why one record was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Rejection {
    /// What kind of error it is.
    pub code: ErrorCode,
    /// A description of the code, or the client's own words. Never the payload.
    pub detail: String,
}

/// Why a producer, or its connections, do not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Fault {
    /// What kind of error it is.
    pub code: ErrorCode,
    /// librdkafka's words, without secrets.
    pub detail: String,
}

/// Why [`Producer::send`](crate::Producer::send) did not take a record. It will not be reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Not now: librdkafka's queue is full, or the first record that this producer sends to the
    /// partition is still on its way and must travel alone. The record can be sent again after
    /// [`Producer::poll`](crate::Producer::poll) has reported others.
    #[error("the producer can't take the record before others are reported")]
    QueueFull,
    /// The client refuses this record: too large for `message.max.bytes`, or its topic or partition
    /// is unknown.
    #[error("the record was refused before it was sent: {0}")]
    Rejected(Rejection),
    /// The producer is unusable. It must be replaced, after its reports were drained.
    #[error("the producer hit a fatal error: {0}")]
    Fatal(Fault),
}

/// Why a topic can't be written to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicFault {
    /// The cluster has no such topic.
    #[error("the topic does not exist")]
    Missing,
    /// The cluster does not let us see the topic.
    #[error("not authorized to see the topic (it needs DESCRIBE, and WRITE to produce)")]
    NotAuthorized,
    /// Kafka allows no topic of that name.
    #[error("the topic's name is illegal: {0}")]
    Illegal(String),
    /// The question was not answered, or the topic has no leaders yet: ask again.
    #[error("the topic's metadata could not be read: {0}")]
    Unreachable(String),
}

/// Why a topic was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateFault {
    /// The cluster does not let us create it.
    #[error("not authorized to create the topic (it needs CREATE on the topic or the cluster)")]
    NotAuthorized,
    /// The cluster takes no topic of this shape or with these properties, whatever its name: its
    /// words.
    #[error("the cluster does not create such a topic: {0}")]
    Refused(String),
    /// A policy of the cluster does not want it. That can be for the shape or for the name: its
    /// words.
    #[error("a policy of the cluster does not let such a topic be created: {0}")]
    Unwanted(String),
    /// Kafka allows no topic of that name, or it is one that is never created.
    #[error("no topic of that name is created: {0}")]
    Illegal(String),
    /// Not now: the cluster did not answer, or is not ready to.
    #[error("the topic could not be created yet: {0}")]
    Unreachable(String),
}

/// A failure of the client itself or of a question to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't {action}: {detail}")]
pub struct Error {
    action: &'static str,
    code: Option<ErrorCode>,
    detail: String,
}

impl Error {
    pub(crate) fn new(action: &'static str, detail: impl Into<String>) -> Self {
        Self {
            action,
            code: None,
            detail: detail.into(),
        }
    }

    pub(crate) fn with_code(action: &'static str, code: ErrorCode) -> Self {
        Self {
            action,
            code: Some(code),
            detail: format!("{code}: {}", code.description()),
        }
    }

    /// Never carries the value of a property: it can be a password.
    pub(crate) fn from_kafka(action: &'static str, error: &KafkaError) -> Self {
        if let KafkaError::ClientConfig(_, problem, property, _) = error {
            return Self::new(action, format!("property {property}: {problem}"));
        }
        if let KafkaError::ClientCreation(problem) = error {
            return Self::new(action, problem.clone());
        }
        match error.rdkafka_error_code() {
            Some(code) => Self::with_code(action, ErrorCode(code as i32)),
            None => Self::new(action, error.to_string()),
        }
    }

    pub(crate) fn map_detail(mut self, map: impl FnOnce(String) -> String) -> Self {
        self.detail = map(self.detail);
        self
    }

    /// The error code, where one is known.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_prints_its_name_and_its_number() {
        assert_eq!(ErrorCode(10).to_string(), "MSG_SIZE_TOO_LARGE (10)");
        assert_eq!(ErrorCode(29).to_string(), "TOPIC_AUTHORIZATION_FAILED (29)");
        assert_eq!(ErrorCode(-152).to_string(), "_PURGE_QUEUE (-152)");
    }

    #[test]
    fn a_code_that_librdkafka_does_not_know_still_prints_its_number() {
        assert_eq!(ErrorCode(31_000).to_string(), "UNKNOWN_CODE (31000)");
        assert_eq!(ErrorCode(31_000).description(), "unknown error code");
    }

    #[test]
    fn the_named_codes_are_librdkafkas() {
        let named = [
            (ErrorCode::UNKNOWN_TOPIC_OR_PART, "UNKNOWN_TOPIC_OR_PART"),
            (ErrorCode::TOPIC_EXCEPTION, "TOPIC_EXCEPTION"),
            (ErrorCode::FAIL, "_FAIL"),
            (ErrorCode::ALL_BROKERS_DOWN, "_ALL_BROKERS_DOWN"),
            (ErrorCode::UNKNOWN_PARTITION, "_UNKNOWN_PARTITION"),
            (ErrorCode::QUEUE_FULL, "_QUEUE_FULL"),
            (ErrorCode::PURGE_QUEUE, "_PURGE_QUEUE"),
            (ErrorCode::AUTHENTICATION, "_AUTHENTICATION"),
            (ErrorCode::FATAL, "_FATAL"),
            (
                ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
                "CLUSTER_AUTHORIZATION_FAILED",
            ),
            (ErrorCode::TOPIC_ALREADY_EXISTS, "TOPIC_ALREADY_EXISTS"),
            (ErrorCode::INVALID_PARTITIONS, "INVALID_PARTITIONS"),
            (
                ErrorCode::INVALID_REPLICATION_FACTOR,
                "INVALID_REPLICATION_FACTOR",
            ),
            (ErrorCode::INVALID_CONFIG, "INVALID_CONFIG"),
            (ErrorCode::INVALID_REQUEST, "INVALID_REQUEST"),
            (ErrorCode::POLICY_VIOLATION, "POLICY_VIOLATION"),
            (ErrorCode::INVALID_ARG, "_INVALID_ARG"),
        ];
        for (code, name) in named {
            assert_eq!(code.name(), name);
        }
    }

    #[test]
    fn a_configuration_error_never_carries_the_value() {
        let mut config = rdkafka::ClientConfig::new();
        config.set("no.such.property", "hunter2");
        let error = config.create_native_config().err().unwrap();
        let error = Error::from_kafka("create the producer", &error);
        assert!(error.to_string().contains("no.such.property"), "{error}");
        assert!(
            !format!("{error:?} {error}").contains("hunter2"),
            "{error:?}"
        );
    }
}
