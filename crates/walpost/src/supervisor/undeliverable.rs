//! What is done at an event that can't be delivered, or that may be one.

use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};
use walpost_core::class::Exit;
use walpost_core::judge::{self, Finding, Judge};
use walpost_core::{EventId, Found, Halt, Reason, Rulings, Undeliverable};

use super::{AT_ONCE, Next, ONCE_PATIENCE, Supervisor, sizes};
use crate::config::{Config, OnUndeliverable};
use crate::error::Error;
use crate::session::Parked;

/// Why a record that is too large for the client may not be too large for its topic.
const LIMITS_UNREAD: &str = "; not every topic says what it takes: grant the user DESCRIBE_CONFIGS \
                             on the topics, or set message.max.bytes under kafka.properties";

/// How long topics are asked that do not answer, while a record waits that the client refuses.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// What is known of single events when the process begins: what its command line says of them.
pub(super) fn new_judge(config: &Config, once: bool, rulings: Rulings) -> Judge {
    let has_letters = config.delivery.on_undeliverable == OnUndeliverable::DeadLetter;
    let patience = if once { ONCE_PATIENCE } else { ANSWER_PATIENCE };
    let sizes = sizes::configured(&config.kafka.settings);
    Judge::new(rulings, sizes, has_letters, patience)
}

impl Supervisor<'_> {
    /// Either the next session knows more than the last one did, or the line stands.
    pub(super) async fn after_halt(&mut self, halt: Halt, parked: &mut Parked) -> Next {
        let next = self.judge.after_halt(&halt, Instant::now());
        let Halt { event, found, .. } = halt;
        let may_be_innocent = match next {
            judge::Next::Again(finding) => {
                log_finding(&event, finding);
                self.producer = None;
                return AT_ONCE;
            }
            judge::Next::Later => {
                warn!(
                    cause = %event,
                    "no topic has told how large a record may be: asking again"
                );
                let delay = self.backoff.next_delay(fastrand::u32(..));
                return Next::Again { delay };
            }
            judge::Next::Stand { may_be_innocent } => may_be_innocent,
        };
        if self.config.delivery.on_undeliverable == OnUndeliverable::Hold && !self.once {
            self.log_hold(&event, &found);
            self.hold(&event, parked).await;
            return AT_ONCE;
        }
        let ways = self.ways_on(&event);
        let more = if may_be_innocent { LIMITS_UNREAD } else { "" };
        let fix = format!("{ways}{more}; then start again; {}", left(&found));
        let error = Error::new(Exit::Undeliverable, event.to_string());
        Next::Stop(Err(error.with_fix(fix)))
    }

    /// Loud once, and whispered at each try that changes nothing.
    fn log_hold(&mut self, event: &Undeliverable, found: &Found) {
        let is_same = |held: &Undeliverable| {
            let same_event = (held.position, &held.id) == (event.position, &event.id);
            same_event && held.reason.code() == event.reason.code()
        };
        if self.held.as_ref().is_some_and(is_same) {
            debug!(cause = %event, "still holding the line");
            return;
        }
        let fix = format!("{}; {}", self.ways_on(event), left(found));
        error!(cause = %event, fix, "holding the line until this event can be delivered");
        self.held = Some(event.clone());
    }

    /// How the line can go on.
    fn ways_on(&self, event: &Undeliverable) -> String {
        let Undeliverable {
            id,
            position,
            reason,
        } = event;
        let skip = if self.config.postgres.checkpoint.is_some() {
            format!("walpost skip {position} {id} --reason '…'", id = quoted(id))
        } else {
            format!("walpost run --skip-id={id}", id = quoted(id))
        };
        format!("{}; or, where no consumer needs it: {skip}", mend(reason))
    }
}

fn log_finding(event: &Undeliverable, finding: Finding) {
    match finding {
        Finding::Together(records) => warn!(
            cause = %event, records,
            "Kafka refused records together: finding out whether one of them is at fault"
        ),
        Finding::AsksTopics => {
            info!(cause = %event, "asking the topics again how large a record may be");
        }
        // That is told when its dead letter leaves.
        Finding::Condemned => {}
    }
}

/// An id as a shell takes it for one word: a row can have anything there.
fn quoted(id: &EventId) -> String {
    let id = id.to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !id.is_empty() && id.bytes().all(is_plain) {
        return id;
    }
    format!("'{}'", id.replace('\'', r"'\''"))
}

/// What stands where when the line stands.
fn left(found: &Found) -> &'static str {
    match found {
        Found::BeforeSending => "nothing from it on was sent or confirmed",
        Found::Alone | Found::Among(_) => {
            "nothing from it on is confirmed, nothing after it is in its partition; other \
             partitions may be ahead, and what is in them comes again"
        }
    }
}

/// How an event can be delivered after all. Its row is in the WAL as it was committed: what can be
/// changed is how it is read and where it goes.
fn mend(reason: &Reason) -> String {
    let text = match reason {
        Reason::NullId => "map outbox.columns.id to a column that is never NULL",
        Reason::NullPayload => {
            "set outbox.null_payload: tombstone if a NULL payload is meant as a tombstone"
        }
        Reason::NullTopic | Reason::TopicIllegal(_) => {
            "have route.topic name a topic for such rows (a fixed one, or another column) and \
             accept \
             that once (--accept-config-change route.topic)"
        }
        Reason::TopicNotAllowed(topic) => {
            return format!("add '{topic}' to route.allow if it is right");
        }
        Reason::TopicMissing { topic, .. } => {
            return format!(
                "create the topic '{topic}' (or set kafka.topics.create, and it is created)"
            );
        }
        Reason::Headers(_) => {
            "map outbox.columns.headers to a column whose values are flat JSON objects"
        }
        Reason::DeadLetter { topic, .. } => {
            return format!("have '{topic}' take the dead letter (delivery.dead_letter_topic)");
        }
        reason if reason.is_too_large() => {
            "raise the topic's max.message.bytes, and message.max.bytes under kafka.properties \
             where it is set"
        }
        Reason::Rejected(_) | _ => "mend what Kafka names",
    };
    text.to_owned()
}
