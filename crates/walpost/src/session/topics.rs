//! Topics: what the relay wants to know of them is asked beside the loop, because it may block.

use std::time::{Duration, Instant};

use tracing::warn;
use walpost_core::{Topic, TopicFault, TopicNews};
use walpost_crashpoint as crash_point;
use walpost_kafka::Trouble;

use super::convert::{NoCount, partition_count};
use super::{Answer, Session, SessionError};

/// The id came with the topic's metadata.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Hears what was asked beside the loop.
    pub(super) fn take_answers(&mut self, now: Instant) -> Result<(), SessionError> {
        while let Some(answer) = self.heard.take().or_else(|| self.answers.try_recv().ok()) {
            let (topic, count) = match answer {
                Answer::Topic {
                    topic,
                    count,
                    cluster,
                } => {
                    self.see_cluster(cluster.as_deref())?;
                    (topic, count)
                }
                Answer::Control(news) => {
                    self.take_news(news)?;
                    continue;
                }
                Answer::Cluster { question, said } => {
                    self.take_proof(question, &said)?;
                    continue;
                }
            };
            let count = match count {
                Ok(count) => Ok(count),
                Err(NoCount::Fault(fault)) => Err(fault),
                Err(NoCount::Denied(trouble)) if self.context.once => {
                    return Err(SessionError::Kafka(trouble));
                }
                Err(NoCount::Denied(Trouble { message, fix, .. })) => {
                    Err(TopicFault::Unavailable(format!("{message}; {fix}")))
                }
                // A name that a row brought may be at fault: then it is that event's.
                Err(NoCount::Unwanted { topic, why }) if !self.is_named(&topic) => {
                    if self.unwanted.as_ref() != Some(&topic) {
                        warn!(topic, why, "the topic is missing and can't be created");
                        self.unwanted = Some(topic);
                    }
                    Err(TopicFault::Missing)
                }
                Err(NoCount::Unmakeable { topic, why } | NoCount::Unwanted { topic, why }) => {
                    return Err(SessionError::TopicUnmakeable { topic, why });
                }
            };
            match crash_point::around!("topic", self.relay.handle_topic(now, &topic, count)) {
                TopicNews::None => {}
                TopicNews::Recounted { from, to } => warn!(
                    %topic, from, to,
                    "the topic's partition count changed: from here on an aggregate may be in \
                     another partition"
                ),
                TopicNews::Standing { fault, was_known } => {
                    self.log_standing(topic, fault, was_known);
                }
            }
        }
        Ok(())
    }

    /// Whether the configuration names the topic, and not only a row.
    fn is_named(&self, topic: &str) -> bool {
        let named = self.context.config.named_topics();
        named.iter().any(|named| named == topic)
    }

    /// The line stands for a topic: said once, and again when the reason is another one.
    fn log_standing(&mut self, topic: Topic, fault: TopicFault, was_known: bool) {
        let standing = Some((topic, fault));
        if self.standing == standing {
            return;
        }
        self.standing = standing;
        let Some((topic, fault)) = &self.standing else {
            return;
        };
        let reason = match fault {
            TopicFault::Missing if was_known => "it was there before and is gone now",
            TopicFault::Missing => "Kafka has no such topic",
            TopicFault::Unavailable(why) => why,
        };
        warn!(%topic, reason, "nothing is sent: the next event waits for its topic");
    }

    /// Whether the line stands is part of the relay's state. The first question about a topic is
    /// not worth a word.
    pub(super) fn tell_standing(&self) {
        let stands = self.standing.is_some() && self.relay.waits_for_topic();
        self.context.state.set_standing(stands);
    }

    /// Asks what the relay wants to know of topics, where it may block.
    pub(super) fn ask_for_topics(&mut self, now: Instant) {
        while let Some(topic) = self.relay.poll_topic(now) {
            let asker = self.asker.clone();
            let metadata = self.producer.metadata();
            let kafka = &self.context.config.kafka;
            let settings = kafka.settings.clone();
            // One that was there and is gone was deleted: that is not for us to mend.
            let plan = kafka.create_topics.clone();
            let plan = plan.filter(|_| !self.relay.knows_topic(&topic));
            self.context.side.spawn_blocking(move || {
                let count = partition_count(&metadata, &topic, plan.as_ref(), &settings);
                // Also one that says that it has no such topic may be another one.
                let is_silent = matches!(count, Err(NoCount::Fault(TopicFault::Unavailable(_))));
                let cluster = (!is_silent).then(|| metadata.cluster_id(CLUSTER_TIMEOUT));
                // The session may be over: then nobody wants the answer.
                let _ = asker.send(Answer::Topic {
                    topic,
                    count,
                    cluster: cluster.flatten(),
                });
            });
        }
    }
}
