//! What can go wrong in the core: the stream, the table, one event, the cluster.

use std::fmt;
use std::time::Duration;

use walpost_pgoutput::DecodeError;

use crate::class;
use crate::event::{EventId, Position, Topic};
use crate::mapping::{BindError, TableName};
use crate::stream::ProtocolError;

/// The session can't go on. Nothing past the last acknowledged record was confirmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// Bytes that are no message.
    #[error("can't decode what the server sent")]
    Decode(#[from] DecodeError),
    /// Messages out of order.
    #[error("the server broke the replication protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// A row that does not fit its table's description.
    #[error("can't read a row of {table}: {problem}")]
    Row {
        /// The table.
        table: TableName,
        /// What is wrong.
        problem: &'static str,
    },
    /// An outbox table that the mapping does not fit.
    #[error("can't map the outbox table: {0}")]
    Bind(#[from] BindError),
    /// The publication carries a table that is no outbox.
    #[error(
        "the publication carries inserts of {0}, which is not listed in outbox.table: list it, or \
         take it out of the publication (what is in the WAL already stays in the slot's stream)"
    )]
    ForeignTable(TableName),
    /// Kafka did not take a record, and it is not the event's fault.
    #[error("Kafka did not take the event at {position}: {rejection}")]
    Cluster {
        /// The lowest record that failed.
        position: Position,
        /// What the report said.
        rejection: Rejection,
    },
}

/// Why Kafka did not take a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// librdkafka's number: negative from the client, positive from the broker.
    pub code: i32,
    /// The code's name.
    pub name: String,
    /// Further text.
    pub detail: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, name, detail } = self;
        write!(f, "{name} ({code})")?;
        if detail.is_empty() {
            Ok(())
        } else {
            write!(f, ": {detail}")
        }
    }
}

/// An event that can't be delivered, by its own fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeliverable {
    /// Which event.
    pub id: EventId,
    /// Where it stands.
    pub position: Position,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Undeliverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            position,
            reason,
        } = self;
        write!(f, "event {id} at {position} can't be delivered: {reason}")
    }
}

/// Why an event can't be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The id column is NULL.
    NullId,
    /// The payload is NULL and `outbox.null_payload` is `refuse`.
    NullPayload,
    /// A column of the topic template is NULL.
    NullTopic,
    /// Kafka has no such topic names.
    TopicIllegal(String),
    /// `route.allow` does not list the topic.
    TopicNotAllowed(Topic),
    /// Kafka has not got the topic.
    TopicMissing {
        /// The topic.
        topic: Topic,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The row's headers can't be Kafka headers.
    Headers(String),
    /// Kafka refused the record, or the client did before sending it.
    Rejected(Rejection),
    /// Its dead letter can't be delivered either.
    DeadLetter {
        /// The dead-letter topic.
        topic: Topic,
        /// Why there is a dead letter.
        cause: Box<Self>,
        /// Why it can't be delivered.
        why: Box<Self>,
    },
}

impl Reason {
    /// The cause in one word, for the header of a dead letter and for metrics: it stays the same in
    /// every version.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NullId => "null-id",
            Self::NullPayload => "null-payload",
            Self::NullTopic => "null-topic",
            Self::TopicIllegal(_) => "illegal-topic",
            Self::TopicNotAllowed(_) => "topic-not-allowed",
            Self::TopicMissing { .. } => "topic-missing",
            Self::Headers(_) => "bad-headers",
            Self::Rejected(_) if self.is_too_large() => "too-large",
            Self::Rejected(_) => "rejected",
            Self::DeadLetter { .. } => "dead-letter",
        }
    }

    /// Whether the event's size is at fault.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Rejected(rejection) if class::is_too_large(rejection.code))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NullId => f.write_str("its id is NULL"),
            Self::NullPayload => f.write_str(
                "its payload is NULL (outbox.null_payload: tombstone sends a null value instead)",
            ),
            Self::NullTopic => f.write_str("a column of route.topic is NULL"),
            Self::TopicIllegal(problem) | Self::Headers(problem) => f.write_str(problem),
            Self::TopicNotAllowed(topic) => {
                write!(f, "route.allow does not list its topic '{topic}'")
            }
            Self::TopicMissing { topic, waited } => write!(
                f,
                "its topic '{topic}' does not exist, also not after {} s",
                waited.as_secs()
            ),
            Self::Rejected(rejection) => write!(f, "Kafka refused it: {rejection}"),
            Self::DeadLetter { topic, cause, why } => {
                write!(f, "{cause}; nor can its dead letter, in '{topic}': {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use walpost_pgoutput::Lsn;

    use super::*;

    fn rejected(code: i32, detail: &str) -> Reason {
        Reason::Rejected(Rejection {
            code,
            name: "INVALID_RECORD".to_owned(),
            detail: detail.to_owned(),
        })
    }

    #[test]
    fn an_event_that_can_not_be_delivered_is_told_with_its_id_its_position_and_why() {
        let event = Undeliverable {
            id: EventId::Other(b"o-17".as_slice().into()),
            position: Position {
                commit_lsn: Lsn::new(0xAB),
                ordinal: 1,
            },
            reason: rejected(87, ""),
        };
        assert_eq!(
            event.to_string(),
            "event o-17 at 00000000000000AB/00000001 can't be delivered: Kafka refused it: \
             INVALID_RECORD (87)"
        );
        assert_eq!(
            rejected(87, "no timestamp").to_string(),
            "Kafka refused it: INVALID_RECORD (87): no timestamp"
        );
    }
}
