//! Every bound of the core, by name.

use std::time::Duration;

/// How much may be in flight to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Records between the oldest unacknowledged one and the newest.
    pub events: u32,
    /// Bytes of key, value and headers of unacknowledged records.
    pub bytes: usize,
}

impl Default for WindowLimits {
    /// 50,000 events keep librdkafka's batches full at any round trip seen; 64 MiB bound the memory
    /// where events are large.
    fn default() -> Self {
        Self {
            events: 50_000,
            bytes: 64 << 20,
        }
    }
}

/// Header names and values that a row may bring, together, in bytes.
pub const ROW_HEADER_BYTES_MAX: usize = 64 << 10;

/// Headers that a row may bring.
pub const ROW_HEADERS_MAX: usize = 64;

/// Columns that one mapping may name: they are gathered on the stack for every row.
pub const MAPPED_COLUMNS_MAX: usize = 32;

/// A status update tells of a new confirmed LSN at most this often: it bounds what a crash repeats
/// without a message for every commit.
pub const STATUS_MOVED_INTERVAL: Duration = Duration::from_millis(100);

/// A status update goes out at least this often, whatever the server's timeout.
pub const STATUS_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// The checkpoint is written for confirmed events at most this often.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);

/// How long after the beginning of a write that failed the next one is tried.
pub const CHECKPOINT_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The checkpoint is written when more WAL than this passed without an event.
pub const CHECKPOINT_WAL_BYTES: u64 = 1 << 20;

/// Events whose ids are kept after they were delivered, 40 bytes each: what an asynchronous standby
/// may be behind by is rather less.
pub const RECENT_EVENTS_MAX: usize = 50_000;

/// Default of `postgres.checkpoint_grace`.
pub const CHECKPOINT_GRACE: Duration = Duration::from_secs(300);

/// How long a topic's partition count is believed. Java's producer refreshes its metadata as often.
pub const TOPIC_REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// How soon a topic that is missing is asked for again while the line stands.
pub const TOPIC_RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// How long a topic that was judged missing is not asked for again.
pub const TOPIC_DENIED_INTERVAL: Duration = Duration::from_secs(5);

/// How many topics are remembered that Kafka has not got.
pub const DENIED_TOPICS_MAX: usize = 1_000;

/// Default of `delivery.unknown_topic_after`.
pub const UNKNOWN_TOPIC_AFTER: Duration = Duration::from_secs(60);

/// With records in flight and none delivered for so long, the stream is closed until Kafka answers.
pub const PARK_AFTER: Duration = Duration::from_secs(20);
