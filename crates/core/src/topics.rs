//! The topics' partition counts, and the judgement of topics that are not there.
//!
//! Every record goes to an explicit partition, so the count must be known before the record leaves.
//! A topic that is seen for the first time stops the line until its count was fetched: nothing
//! later is sent before an unknown topic is judged. A topic that *never* was there is the event's
//! fault once Kafka has denied it for some time; its next events are not waited for as long again,
//! only until Kafka was asked once more, every few seconds. One that was there before and is
//! missing now is a fault of the cluster: the line stands until it is back.
//!
//! The counts outlive a session: they are what tells the two apart.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::event::Topic;
use crate::limits::{
    DENIED_TOPICS_MAX, TOPIC_DENIED_INTERVAL, TOPIC_REFRESH_INTERVAL, TOPIC_RETRY_INTERVAL,
};

/// What is known of the topics.
#[derive(Clone, Debug)]
pub struct Topics {
    unknown_after: Duration,
    known: HashMap<Topic, Known>,
    /// The topic that the line stands for.
    wanted: Option<Wanted>,
    /// Topics that Kafka denied. Patience with one does not begin anew with the next event, nor
    /// with the next session.
    denied: BTreeMap<Topic, Denied>,
    /// Known topics whose count is to be asked for again.
    refreshes: VecDeque<Topic>,
}

#[derive(Clone, Debug)]
struct Known {
    partitions: u32,
    refreshed_at: Instant,
    refreshing: bool,
    /// Kafka contradicted the count: not to be used before it was fetched again.
    stale: bool,
}

#[derive(Clone, Debug)]
struct Wanted {
    topic: Topic,
    /// When Kafka first said that it does not exist.
    missing_since: Option<Instant>,
    /// When to ask. None while a question is under way.
    ask_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Denied {
    /// When Kafka first said that it does not exist.
    since: Instant,
    /// Until when that is the verdict on its events. Kafka is to be asked first where it is over.
    holds_until: Option<Instant>,
}

/// Why a topic's partition count could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicFault {
    /// Kafka says that there is no such topic.
    Missing,
    /// Kafka could not be asked, or would not answer us.
    Unavailable(String),
}

/// What an answer changed, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicNews {
    /// Nothing new.
    None,
    /// A known topic's partition count is another one: aggregates may be elsewhere from here on.
    Recounted {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// The line stands because of this.
    Standing {
        /// What Kafka said.
        fault: TopicFault,
        /// The topic was there before: a fault of the cluster.
        was_known: bool,
    },
}

/// Whether a record may leave to a topic.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Partitions(u32),
    Wait,
    Missing(Duration),
}

impl Topics {
    /// Knows nothing yet. A topic that never was there is waited for during `unknown_after`.
    pub fn new(unknown_after: Duration) -> Self {
        Self {
            unknown_after,
            known: HashMap::new(),
            wanted: None,
            denied: BTreeMap::new(),
            refreshes: VecDeque::new(),
        }
    }

    /// The topics that were there at any time, sorted.
    pub fn known(&self) -> BTreeSet<&Topic> {
        #[expect(clippy::disallowed_methods, reason = "the set puts them in order")]
        self.known.keys().collect()
    }

    /// A new session begins: questions that were under way are forgotten.
    pub(crate) fn restart(&mut self) {
        for denied in self.denied.values_mut() {
            denied.holds_until = None;
        }
        if let Some(Wanted {
            topic,
            missing_since: Some(since),
            ..
        }) = self.wanted.take()
        {
            self.deny(topic, since, None);
        }
        self.refreshes.clear();
        for known in self.known.values_mut() {
            known.refreshing = false;
        }
    }

    /// Kafka contradicted a count, or another client asks from here on: all are fetched again
    /// before they are used.
    pub fn distrust(&mut self) {
        for known in self.known.values_mut() {
            known.stale = true;
        }
    }

    pub(crate) fn place(&mut self, topic: &Topic, now: Instant) -> Place {
        if let Some(known) = self.known.get_mut(topic)
            && !known.stale
        {
            let age = now.saturating_duration_since(known.refreshed_at);
            if age >= TOPIC_REFRESH_INTERVAL && !known.refreshing {
                known.refreshing = true;
                self.refreshes.push_back(topic.detached());
            }
            return Place::Partitions(known.partitions);
        }
        let denied = self.denied.get(topic);
        if let Some(denied) = denied
            && denied.holds_until.is_some_and(|until| now < until)
        {
            return Place::Missing(now.saturating_duration_since(denied.since));
        }
        if self
            .wanted
            .as_ref()
            .is_none_or(|wanted| wanted.topic != *topic)
        {
            self.wanted = Some(Wanted {
                topic: topic.detached(),
                missing_since: denied.map(|denied| denied.since),
                ask_at: Some(now),
            });
        }
        Place::Wait
    }

    fn deny(&mut self, topic: Topic, since: Instant, holds_until: Option<Instant>) {
        // Rows name topics: there may be any number of them.
        if self.denied.len() >= DENIED_TOPICS_MAX {
            self.denied.clear();
        }
        self.denied.insert(topic, Denied { since, holds_until });
    }

    /// Whether the topic was there at any time.
    pub(crate) fn is_known(&self, topic: &Topic) -> bool {
        self.known.contains_key(topic)
    }

    /// The topic whose count is to be asked for now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Topic> {
        if let Some(wanted) = &mut self.wanted
            && wanted.ask_at.is_some_and(|at| at <= now)
        {
            wanted.ask_at = None;
            return Some(wanted.topic.clone());
        }
        self.refreshes.pop_front()
    }

    /// When to poll again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wanted.as_ref()?.ask_at
    }

    /// Whether a record waits for a count.
    pub(crate) fn is_waiting(&self) -> bool {
        self.wanted.is_some()
    }

    /// The answer to a question.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        topic: &Topic,
        answer: Result<u32, TopicFault>,
    ) -> TopicNews {
        match answer {
            Ok(0) => self.unanswered(now, topic, TopicFault::Missing),
            Ok(partitions) => self.counted(now, topic, partitions),
            Err(fault) => self.unanswered(now, topic, fault),
        }
    }

    fn counted(&mut self, now: Instant, topic: &Topic, partitions: u32) -> TopicNews {
        self.wanted = self.wanted.take().filter(|wanted| wanted.topic != *topic);
        self.denied.remove(topic);
        let known = Known {
            partitions,
            refreshed_at: now,
            refreshing: false,
            stale: false,
        };
        match self.known.insert(topic.detached(), known) {
            Some(before) if before.partitions != partitions => TopicNews::Recounted {
                from: before.partitions,
                to: partitions,
            },
            _ => TopicNews::None,
        }
    }

    fn unanswered(&mut self, now: Instant, topic: &Topic, fault: TopicFault) -> TopicNews {
        let known = self.known.get_mut(topic);
        let was_known = known.is_some();
        if let Some(known) = known {
            // The old count serves until a delivery says otherwise; it is asked for again later.
            known.refreshing = false;
            known.refreshed_at = now;
        }
        let Some(wanted) = self.wanted.as_mut().filter(|wanted| wanted.topic == *topic) else {
            return TopicNews::None;
        };
        wanted.ask_at = Some(now + TOPIC_RETRY_INTERVAL);
        if fault == TopicFault::Missing && !was_known {
            let since = *wanted.missing_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.unknown_after {
                self.wanted = None;
                self.deny(topic.detached(), since, Some(now + TOPIC_DENIED_INTERVAL));
            }
        }
        TopicNews::Standing { fault, was_known }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::instants::start;

    const AFTER: Duration = Duration::from_secs(60);

    fn topic(name: &'static str) -> Topic {
        Topic::new(Bytes::from_static(name.as_bytes())).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_first_seen_topic_waits_for_its_count_and_is_asked_for_once() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        assert_eq!(topics.place(&topic("a"), now), Place::Wait);
        assert_eq!(topics.poll(now), Some(topic("a")));
        assert_eq!(topics.place(&topic("a"), now), Place::Wait);
        assert_eq!(topics.poll(now), None);
        assert!(topics.is_waiting());
        topics.answer(now, &topic("a"), Ok(6));
        assert!(!topics.is_waiting());
        assert_eq!(topics.place(&topic("a"), now), Place::Partitions(6));
        assert_eq!(topics.poll(now), None);
    }

    #[test]
    fn a_topic_that_never_was_there_is_judged_after_kafka_denied_it_long_enough() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        topics.place(&topic("a"), now);
        topics.poll(now);
        topics.answer(now, &topic("a"), Err(TopicFault::Missing));
        assert_eq!(topics.deadline(), Some(now + TOPIC_RETRY_INTERVAL));
        assert_eq!(topics.place(&topic("a"), now + seconds(59)), Place::Wait);
        assert_eq!(topics.poll(now + seconds(60)), Some(topic("a")));
        topics.answer(now + seconds(60), &topic("a"), Err(TopicFault::Missing));
        assert_eq!(
            topics.place(&topic("a"), now + seconds(60)),
            Place::Missing(AFTER)
        );
    }

    #[test]
    fn a_new_session_does_not_begin_the_patience_with_a_topic_anew() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        for at in [0, 20, 40] {
            let then = now + seconds(at);
            assert_eq!(topics.place(&topic("a"), then), Place::Wait);
            assert_eq!(topics.poll(then), Some(topic("a")));
            topics.answer(then, &topic("a"), Err(TopicFault::Missing));
            topics.restart();
            // A session that never came to the topic.
            topics.restart();
        }
        let then = now + AFTER;
        assert_eq!(topics.place(&topic("b"), then), Place::Wait);
        topics.answer(then, &topic("b"), Ok(1));
        assert_eq!(topics.place(&topic("a"), then), Place::Wait);
        topics.answer(then, &topic("a"), Err(TopicFault::Missing));
        assert_eq!(topics.place(&topic("a"), then), Place::Missing(AFTER));
    }

    /// Kafka has denied it for so long that its events are at fault.
    fn denied(topics: &mut Topics, topic: &Topic, now: Instant) {
        topics.place(topic, now);
        for at in [now, now + AFTER] {
            topics.answer(at, topic, Err(TopicFault::Missing));
        }
        let place = topics.place(topic, now + AFTER);
        assert_eq!(place, Place::Missing(AFTER));
    }

    #[test]
    fn a_topic_that_is_judged_does_not_undo_the_judgement_of_another() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        denied(&mut topics, &topic("a"), now);
        denied(&mut topics, &topic("b"), now);
        let place = topics.place(&topic("a"), now + AFTER);
        assert_eq!(place, Place::Missing(AFTER));
    }

    #[test]
    fn rows_that_name_any_number_of_topics_do_not_fill_the_memory() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        for number in 0..=DENIED_TOPICS_MAX {
            denied(&mut topics, &format!("t{number}").parse().unwrap(), now);
        }
        assert!(topics.denied.len() <= DENIED_TOPICS_MAX);
    }

    #[test]
    fn time_without_kafka_does_not_judge_a_topic() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        topics.place(&topic("a"), now);
        for at in [0, 100, 200] {
            let away = TopicFault::Unavailable("all brokers down".to_owned());
            topics.answer(now + seconds(at), &topic("a"), Err(away));
            assert_eq!(topics.place(&topic("a"), now + seconds(at)), Place::Wait);
        }
    }

    #[test]
    fn a_topic_that_was_there_is_waited_for_without_end() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        topics.answer(now, &topic("a"), Ok(6));
        topics.distrust();
        topics.restart();
        for at in [0, 100, 1_000] {
            let then = now + seconds(at);
            assert_eq!(topics.place(&topic("a"), then), Place::Wait);
            assert_eq!(topics.poll(then), Some(topic("a")));
            let news = topics.answer(then, &topic("a"), Err(TopicFault::Missing));
            let fault = TopicFault::Missing;
            assert_eq!(
                news,
                TopicNews::Standing {
                    fault,
                    was_known: true
                }
            );
        }
        let news = topics.answer(now, &topic("a"), Ok(3));
        assert_eq!(news, TopicNews::Recounted { from: 6, to: 3 });
        assert_eq!(topics.place(&topic("a"), now), Place::Partitions(3));
    }

    #[test]
    fn a_refresh_that_failed_is_tried_again_when_the_old_count_has_aged_once_more() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        topics.answer(now, &topic("a"), Ok(6));
        let mut then = now;
        for _ in 0..3 {
            then += TOPIC_REFRESH_INTERVAL;
            let almost = then - seconds(1);
            assert_eq!(topics.place(&topic("a"), almost), Place::Partitions(6));
            assert_eq!(topics.poll(almost), None);
            assert_eq!(topics.place(&topic("a"), then), Place::Partitions(6));
            assert_eq!(topics.poll(then), Some(topic("a")));
            let away = TopicFault::Unavailable("all brokers down".to_owned());
            assert_eq!(
                topics.answer(then, &topic("a"), Err(away)),
                TopicNews::None,
                "the line does not stand for it"
            );
        }
    }

    #[test]
    fn a_question_that_was_not_asked_yet_is_forgotten_with_its_session() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        topics.answer(now, &topic("a"), Ok(6));
        let later = now + TOPIC_REFRESH_INTERVAL;
        topics.place(&topic("a"), later);
        topics.restart();
        assert_eq!(topics.place(&topic("a"), later), Place::Partitions(6));
        assert_eq!(topics.poll(later), Some(topic("a")));
        assert_eq!(topics.poll(later), None);
    }

    #[test]
    fn an_old_count_is_refreshed_beside_the_line() {
        let now = start();
        let mut topics = Topics::new(AFTER);
        topics.answer(now, &topic("a"), Ok(6));
        let later = now + TOPIC_REFRESH_INTERVAL;
        assert_eq!(topics.place(&topic("a"), later), Place::Partitions(6));
        assert_eq!(topics.place(&topic("a"), later), Place::Partitions(6));
        assert_eq!(topics.poll(later), Some(topic("a")));
        assert_eq!(topics.poll(later), None);
        topics.answer(later, &topic("a"), Ok(12));
        assert_eq!(topics.place(&topic("a"), later), Place::Partitions(12));
    }
}
