//! Why a session ended, and what that means.

use std::time::Duration;

use walpost_core::class::{self, Class, Exit, KafkaClass};
use walpost_core::cluster::OtherCluster;
use walpost_core::{BindError, Rejection, RelayError};
use walpost_kafka::{Fault, Trouble, TroubleKind};
use walpost_pgoutput::Lsn;
use walpost_walsender::Conninfo;

use crate::connect::PasswordError;
use crate::error::{postgres_fix, standby_fix, tls_class};
use crate::finding::Finding;

/// Kafka's code for a record whose time is out of the topic's bounds.
const INVALID_TIMESTAMP: i32 = 32;

/// What is made after `initdb` has this number or a higher one.
const FIRST_OWN_OID: u32 = 16_384;

/// What to do about a publication that is younger than what the slot has to send.
const NOT_THERE_YET: &str = "the publication is not there at this position of the WAL: it was made \
    after the slot, or dropped since. Compare the outbox table with Kafka and deliver what is \
    missing, drop the slot, then walpost init --apply, which names the gap that is to be accepted";

/// Why a session ended, or could not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The connection failed, or the server reported an error.
    #[error(transparent)]
    Postgres(#[from] walpost_walsender::Error),
    /// There is no password to connect with.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The server's answer has another shape than its manual says.
    #[error("the server's answer to a question about {0} can't be read")]
    Answer(&'static str),
    /// Two connections of one session are with different servers.
    #[error("the stream and the control connection are with different servers: connecting again")]
    OtherServer,
    /// The events before went to another cluster.
    #[error(
        "Kafka's cluster.id is '{seen}', and everything that was delivered so far is in \
         '{recorded}'"
    )]
    OtherKafka { recorded: String, seen: String },
    /// Connections broke again before a broker was heard.
    #[error(
        "the connections to Kafka broke once more before a broker had said which cluster took the \
         last records: they are sent again"
    )]
    UnknownCluster,
    /// The server is in recovery.
    #[error("the server is a standby: waiting until it is promoted, or another one answers")]
    Standby,
    /// The server that answers is an old primary, and this process has met the new one.
    #[error(
        "{place} is on timeline {timeline}, and was left behind by a promotion: this relay has \
         met timeline {newest}. It is passed over"
    )]
    LeftBehind {
        place: String,
        timeline: u32,
        newest: u32,
    },
    /// Starting would lose events, or fail: what `check` finds too.
    #[error("{}", .finding.line())]
    Refused { finding: Box<Finding>, exit: Exit },
    /// Another walsender streams from the slot.
    #[error("the slot '{slot}' is in use by {user}: waiting for it")]
    SlotActive { slot: String, user: String },
    /// The server passes over rows because it can't load the publication.
    #[error("the server skips rows: {0}")]
    PublicationSkipped(String),
    /// Another relay wrote the checkpoint between our look at it and our own write.
    #[error("another relay moved the checkpoint: looking again")]
    CheckpointMoved,
    /// Our walsender has lost the slot: a relay that has it by right may have moved it.
    #[error("another session has taken the slot '{slot}' meanwhile: connecting again")]
    SlotTaken { slot: String },
    /// Somebody else moved the slot just before it was streamed from.
    #[error(
        "the slot '{slot}' stands at {confirmed}, and this relay has confirmed no more than \
         {told}: somebody else read from it or advanced it, and what was committed in between was \
         passed over"
    )]
    SlotMoved {
        slot: String,
        confirmed: Lsn,
        told: Lsn,
    },
    /// The first publication can't be read at this position: the spare is next.
    #[error("the publication can't be read at this position of the WAL: {0}")]
    PublicationGone(String),
    /// Nothing came for longer than a healthy server is silent.
    #[error("nothing came from the server for {} s: the connection is dead", .0.as_secs())]
    Silent(Duration),
    /// Kafka takes nothing: the stream is closed until it answers.
    #[error(
        "Kafka has taken nothing for {} s, {in_flight} records wait for it{}",
        .waited.as_secs(),
        because(.trouble.as_deref(), None)
    )]
    KafkaAway {
        waited: Duration,
        in_flight: usize,
        trouble: Option<Box<Trouble>>,
    },
    /// The server took the connection and says nothing to what it is asked there.
    #[error("the server does not answer: nothing was heard of it for {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The server ended the stream in order.
    #[error("the server ended the stream: it is stopping")]
    ServerEnded,
    /// The core can't go on.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The producer is unusable.
    #[error("the Kafka producer failed: {0}")]
    Producer(Fault),
    /// Kafka does not let us in, or not with this configuration.
    #[error("{0}")]
    Kafka(Trouble),
    /// A missing topic can't be made as the configuration has it.
    #[error("the topic '{topic}' is missing and can't be created: {why}")]
    TopicUnmakeable { topic: String, why: String },
    /// `--once` got no further.
    #[error(
        "nothing was delivered for {} s{}",
        super::ONCE_PATIENCE.as_secs(),
        because(trouble.as_ref(), checkpoint.as_deref())
    )]
    Stalled {
        in_flight: usize,
        waits_for_topic: bool,
        trouble: Option<Trouble>,
        /// Why the checkpoint can't be written, if it can't.
        checkpoint: Option<String>,
    },
}

/// Whether the server does not send what a standby of `synchronized_standby_slots` has not got:
/// it warns, and when it stops it gives the stream up with an error. Both have the SQLSTATE of
/// worse things.
pub(super) fn waits_for_standby(routine: Option<&str>) -> bool {
    routine == Some("StandbySlotsHaveCaughtup")
}

impl SessionError {
    /// What to do about it.
    pub(crate) fn class(&self) -> Class {
        const QUIET: Class = Class::Transient { alarm: false };
        const ALARM: Class = Class::Transient { alarm: true };
        match self {
            // A server that stops waits for no standby: it gives the stream up.
            Self::Postgres(error) if waits_for_standby(error.routine()) => ALARM,
            Self::Postgres(error) => match error.sqlstate() {
                Some(code) => class::sqlstate(code),
                None if error.is_target() => ALARM,
                None if error.is_foreign() => Class::Credentials(Exit::Configuration),
                None if error.is_protocol() => Class::Definite(Exit::Internal),
                None if error.is_authentication() => Class::Credentials(Exit::Permission),
                None if error.is_too_large() => Class::Definite(Exit::Configuration),
                None => error.tls().map_or(QUIET, tls_class),
            },
            Self::SlotActive { .. }
            | Self::SlotTaken { .. }
            | Self::CheckpointMoved
            | Self::ServerEnded => QUIET,
            Self::SlotMoved { .. } => Class::Definite(Exit::Gap),
            Self::Answer(_) => Class::Definite(Exit::Internal),
            Self::Standby | Self::LeftBehind { .. } => ALARM,
            Self::OtherServer | Self::Producer(_) | Self::Password(_) => ALARM,
            Self::UnknownCluster => QUIET,
            Self::OtherKafka { .. } => Class::Definite(Exit::Gap),
            Self::Refused { exit, .. } => Class::Definite(*exit),
            Self::PublicationSkipped(_) => Class::Definite(Exit::Gap),
            Self::PublicationGone(_) | Self::Silent(_) | Self::NoAnswer(_) => ALARM,
            Self::KafkaAway { .. } => ALARM,
            Self::Relay(error) => relay_class(error),
            Self::Stalled { .. } => Class::Definite(Exit::Unavailable),
            Self::TopicUnmakeable { .. } => Class::Definite(Exit::Configuration),
            Self::Kafka(trouble) => match trouble.kind {
                TroubleKind::Credentials => Class::Definite(Exit::Permission),
                TroubleKind::Configuration => Class::Definite(Exit::Configuration),
                TroubleKind::Unreachable => ALARM,
            },
        }
    }

    /// What an operator can do.
    pub(crate) fn fix(&self, conninfo: &Conninfo) -> Option<String> {
        match self {
            Self::Refused { finding, .. } => finding.fix.clone(),
            Self::Password(error) => Some(error.fix()),
            Self::PublicationSkipped(_) => Some(NOT_THERE_YET.to_owned()),
            Self::Kafka(trouble)
            | Self::Stalled {
                trouble: Some(trouble),
                ..
            } => Some(trouble.fix.clone()),
            Self::KafkaAway { trouble, .. } => trouble.as_ref().map(|trouble| trouble.fix.clone()),
            Self::TopicUnmakeable { .. } => {
                Some("mend kafka.topics.create, or create the topic beforehand".to_owned())
            }
            Self::Relay(RelayError::Cluster { rejection, .. })
                if cluster_fix(rejection.code).is_some() =>
            {
                cluster_fix(rejection.code)
            }
            Self::Stalled {
                waits_for_topic: true,
                ..
            } => Some("create the topic, or let Kafka answer for it".to_owned()),
            Self::Stalled {
                checkpoint: Some(_),
                ..
            } => Some("let the relay write the row of postgres.checkpoint".to_owned()),
            Self::Stalled { in_flight, .. } => Some(format!(
                "{in_flight} records wait for an acknowledgement: is Kafka up, and its replicas in \
                 sync?"
            )),
            Self::Postgres(error) if error.sqlstate() == Some("42704") => {
                Some(NOT_THERE_YET.to_owned())
            }
            Self::Postgres(error) => postgres_fix(error, conninfo),
            Self::Standby => Some(standby_fix(conninfo).to_owned()),
            Self::LeftBehind { .. } => Some(
                "stop the old primary, and name the new one in postgres.url; where the old one is \
                 to go on and the new one is given up, restart the relay"
                    .to_owned(),
            ),
            Self::OtherKafka { seen, .. } => Some(format!(
                "correct kafka.brokers; or, where the events are to go on there, walpost run \
                 --accept-kafka-cluster {seen}"
            )),
            Self::OtherServer => Some(
                "postgres.url may lead to one server only: name hosts, not a load balancer"
                    .to_owned(),
            ),
            Self::SlotMoved { confirmed, .. } => Some(format!(
                "compare the outbox table with Kafka; then walpost run --accept-slot-position \
                 {confirmed}"
            )),
            Self::Answer(_)
            | Self::CheckpointMoved
            | Self::PublicationGone(_)
            | Self::SlotActive { .. }
            | Self::SlotTaken { .. }
            | Self::Silent(_)
            | Self::NoAnswer(_)
            | Self::ServerEnded
            | Self::Relay(_)
            | Self::Producer(_)
            | Self::UnknownCluster => None,
        }
    }

    /// What the server said of the stream, if it did.
    pub(crate) fn stream_sqlstate(&self) -> Option<&str> {
        let Self::Postgres(error) = self else {
            return None;
        };
        error.sqlstate()
    }

    /// A type of the database's own that the session did not know. It asks once, at its start.
    pub(crate) fn unread_type(&self) -> Option<u32> {
        let Self::Relay(RelayError::Bind(BindError::UnsupportedType { type_oid, .. })) = self
        else {
            return None;
        };
        Some(*type_oid).filter(|oid| *oid >= FIRST_OWN_OID)
    }

    /// Whether Kafka refused us the right to do something.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::Relay(RelayError::Cluster { rejection: Rejection { code, .. }, .. })
                if is_denial(*code)
        )
    }

    /// Whether the next session waits until Kafka answers.
    pub(super) fn parks(&self) -> bool {
        matches!(self, Self::KafkaAway { .. })
    }

    /// Whether nothing may be put on record any more: it would hide what happened.
    pub(super) fn spoils_record(&self) -> bool {
        matches!(
            self,
            Self::SlotMoved { .. } | Self::SlotTaken { .. } | Self::OtherServer
        )
    }

    /// Whether a stream that had begun says that its publication is not there.
    pub(crate) fn is_of_publication(&self) -> bool {
        if let Self::Postgres(error) = self {
            return error.sqlstate() == Some("42704");
        }
        matches!(self, Self::PublicationSkipped(_))
    }

    /// Whether the stream itself broke, so that nothing more can be said on it.
    pub(super) fn is_of_stream(&self) -> bool {
        matches!(
            self,
            Self::Postgres(_)
                | Self::ServerEnded
                | Self::Silent(_)
                | Self::SlotMoved { .. }
                | Self::SlotTaken { .. }
        )
    }
}

/// What can be done about a fault of the cluster, by its code.
fn cluster_fix(code: i32) -> Option<String> {
    let fix = match code {
        code if is_denial(code) => {
            "grant the user WRITE on the topic: kafka-acls.sh --bootstrap-server … --add \
             --allow-principal User:NAME --producer --topic TOPIC"
        }
        INVALID_TIMESTAMP => {
            "set this machine's clock right; or raise the topic's message.timestamp.before.max.ms \
             and message.timestamp.after.max.ms"
        }
        _ => return None,
    };
    Some(fix.to_owned())
}

/// TOPIC_AUTHORIZATION_FAILED and CLUSTER_AUTHORIZATION_FAILED.
fn is_denial(code: i32) -> bool {
    matches!(code, 29 | 31)
}

fn because(trouble: Option<&Trouble>, checkpoint: Option<&str>) -> String {
    match (trouble, checkpoint) {
        (Some(trouble), _) => format!(": {trouble}"),
        (None, Some(why)) => format!(" or confirmed: the checkpoint can't be written ({why})"),
        (None, None) => String::new(),
    }
}

fn relay_class(error: &RelayError) -> Class {
    match error {
        RelayError::Bind(_) | RelayError::ForeignTable(_) => Class::Definite(Exit::Configuration),
        RelayError::Cluster {
            rejection: Rejection { code, .. },
            ..
        } => match class::kafka(*code) {
            KafkaClass::Stop => Class::Definite(Exit::Configuration),
            KafkaClass::Event | KafkaClass::Cluster | KafkaClass::Rebuild => {
                Class::Transient { alarm: true }
            }
        },
        // What is not understood is never passed over.
        RelayError::Decode(_) | RelayError::Protocol(_) | RelayError::Row { .. } | _ => {
            Class::Definite(Exit::Internal)
        }
    }
}

impl From<OtherCluster> for SessionError {
    fn from(other: OtherCluster) -> Self {
        let OtherCluster { known, seen } = other;
        Self::OtherKafka {
            recorded: known,
            seen,
        }
    }
}
