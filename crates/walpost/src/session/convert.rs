//! Values of the core and values of the edges: the same things under other types.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::info;
use walpost_core as core;
use walpost_core::{Record, Topic, TopicFault};
use walpost_kafka::{
    CreateFault, Delivery, Header, Metadata, Producer, SendError, Settings, TopicPlan, Trouble,
};
use walpost_pgoutput::{PgTimestamp, StandbyStatus};

/// How long a question about a topic may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the creation of a topic may take, until all of the cluster knows it.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn send(producer: &mut Producer, record: &Record) -> Result<(), SendError> {
    /// Most rows bring few headers of their own: these need no allocation.
    const INLINE: usize = 12;
    let mut inline = [Header {
        name: "",
        value: None,
    }; INLINE];
    let mut heap = Vec::new();
    let headers: &[Header<'_>] = if record.headers().len() <= INLINE {
        for (to, from) in inline.iter_mut().zip(record.headers()) {
            *to = Header {
                name: from.name(),
                value: from.value.as_deref(),
            };
        }
        &inline[..record.headers().len()]
    } else {
        heap.extend(record.headers().iter().map(|from| Header {
            name: from.name(),
            value: from.value.as_deref(),
        }));
        &heap
    };
    producer.send(&walpost_kafka::Record {
        topic: record.topic().as_str(),
        partition: record.partition,
        key: record.key().map(|key| &key[..]),
        value: record.value().map(|value| &value[..]),
        headers,
        opaque: record.ticket.0,
    })
}

/// Why a topic has no partitions to write to.
#[derive(Debug)]
pub(super) enum NoCount {
    /// To be asked for again, and for the core to judge.
    Fault(TopicFault),
    /// A right is missing.
    Denied(Trouble),
    /// It can't be made as the configuration has it.
    Unmakeable { topic: String, why: String },
    /// A policy of the cluster does not want it: as the configuration has it, or by that name.
    Unwanted { topic: String, why: String },
}

/// Asks for a topic's partitions, and makes it by the plan where it is missing.
pub(super) fn partition_count(
    metadata: &Metadata,
    topic: &Topic,
    plan: Option<&TopicPlan>,
    settings: &Settings,
) -> Result<u32, NoCount> {
    use walpost_kafka::TopicFault as Fault;
    let name = topic.as_str();
    let unavailable = |why: String| NoCount::Fault(TopicFault::Unavailable(why));
    match (metadata.partition_count(name, TOPIC_TIMEOUT), plan) {
        (Ok(count), _) => Ok(count),
        (Err(Fault::Missing), Some(plan)) => create(metadata, name, plan, settings),
        (Err(Fault::Missing | Fault::Illegal(_)), _) => Err(NoCount::Fault(TopicFault::Missing)),
        (Err(Fault::NotAuthorized), _) => {
            Err(NoCount::Denied(Trouble::denied("DESCRIBE", name, settings)))
        }
        (Err(fault @ Fault::Unreachable(_)), _) => Err(unavailable(fault.to_string())),
    }
}

fn create(
    metadata: &Metadata,
    name: &str,
    plan: &TopicPlan,
    settings: &Settings,
) -> Result<u32, NoCount> {
    match metadata.create_topic(name, plan, CREATE_TIMEOUT) {
        Ok(partitions) => {
            info!(topic = name, partitions, "created the topic");
            Ok(partitions)
        }
        Err(CreateFault::NotAuthorized) => {
            Err(NoCount::Denied(Trouble::denied("CREATE", name, settings)))
        }
        Err(CreateFault::Refused(why)) => Err(NoCount::Unmakeable {
            topic: name.to_owned(),
            why,
        }),
        Err(CreateFault::Unwanted(why)) => Err(NoCount::Unwanted {
            topic: name.to_owned(),
            why,
        }),
        Err(CreateFault::Illegal(_)) => Err(NoCount::Fault(TopicFault::Missing)),
        Err(fault @ CreateFault::Unreachable(_)) => {
            Err(NoCount::Fault(TopicFault::Unavailable(fault.to_string())))
        }
    }
}

pub(super) fn core_delivery(delivery: Delivery) -> core::Delivery {
    let result = match &delivery.result {
        Ok(_) => Ok(()),
        Err(rejection) => Err(core_rejection(rejection)),
    };
    core::Delivery {
        ticket: core::Ticket(delivery.opaque),
        result,
    }
}

pub(super) fn core_rejection(rejection: &walpost_kafka::Rejection) -> core::Rejection {
    core::Rejection {
        code: rejection.code.0,
        name: rejection.code.name(),
        detail: rejection.detail.clone(),
    }
}

pub(super) fn standby_status(status: core::Status) -> StandbyStatus {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
    StandbyStatus {
        write: status.write,
        flush: status.flush,
        apply: status.flush,
        client_time: PgTimestamp::from_unix_micros(micros),
        reply_requested: status.reply_requested,
    }
}
