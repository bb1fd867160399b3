//! Values of the core and values of the edges: the same things under other types.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use walpost_core as core;
use walpost_core::{Record, Topic, TopicFault};
use walpost_kafka::{Delivery, Header, Metadata, Producer, SendError};
use walpost_pgoutput::{PgTimestamp, StandbyStatus};

/// How long a question about a topic may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn send(producer: &mut Producer, record: &Record) -> Result<(), SendError> {
    /// Most rows bring few headers of their own: these need no allocation.
    const INLINE: usize = 12;
    let mut inline = [Header {
        name: "",
        value: None,
    }; INLINE];
    let mut heap = Vec::new();
    let headers: &[Header<'_>] = if record.headers.len() <= INLINE {
        for (to, from) in inline.iter_mut().zip(&record.headers) {
            *to = Header {
                name: from.name(),
                value: from.value.as_deref(),
            };
        }
        &inline[..record.headers.len()]
    } else {
        heap.extend(record.headers.iter().map(|from| Header {
            name: from.name(),
            value: from.value.as_deref(),
        }));
        &heap
    };
    producer.send(&walpost_kafka::Record {
        topic: record.topic.as_str(),
        partition: record.partition,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
        opaque: record.ticket.0,
    })
}

pub(super) fn partition_count(metadata: &Metadata, topic: &Topic) -> Result<u32, TopicFault> {
    use walpost_kafka::TopicFault as Fault;
    metadata
        .partition_count(topic.as_str(), TOPIC_TIMEOUT)
        .map_err(|fault| match fault {
            Fault::Missing | Fault::Illegal(_) => TopicFault::Missing,
            Fault::NotAuthorized | Fault::Unreachable(_) => {
                TopicFault::Unavailable(fault.to_string())
            }
        })
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
