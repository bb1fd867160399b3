//! The line is held before an event that can't be delivered: what can make it worth another try.
//!
//! A row stays as it was committed, and the configuration as it was read. What can change while the
//! process runs is Kafka.

use std::time::Duration;

use crate::error::Reason;
use crate::event::Topic;

/// How often Kafka and the operator's table are looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long after a try the next one is made, where only Kafka can say whether it is worth it.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// When an event is worth another try, unless an operator lets it pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not in this process.
    Never,
    /// When Kafka has this topic. What stands before the event in its transaction would come again
    /// with each session that is tried.
    OnceThereIs(Topic),
    /// Now and then, after so long.
    After(Duration),
}

impl Retry {
    /// Of an event that is in the way for this reason.
    pub fn of(reason: &Reason) -> Self {
        match reason {
            Reason::TopicMissing { topic, .. } => Self::OnceThereIs(topic.clone()),
            Reason::Rejected(_) | Reason::DeadLetter { .. } => Self::After(RETRY_INTERVAL),
            Reason::NullId
            | Reason::NullPayload
            | Reason::NullTopic
            | Reason::TopicIllegal(_)
            | Reason::TopicNotAllowed(_)
            | Reason::Headers(_) => Self::Never,
        }
    }
}
