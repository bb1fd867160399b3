//! Which Kafka cluster takes the records. An address can lead to another one: a name that was moved
//! to the cluster of another site, say. What that takes is not delivered.
//!
//! A new producer's first records wait for their topics' counts, which come with the cluster's id.
//! One that has lost a connection makes another, and sends what waits for it at once. So what is
//! reported after a break is believed when a broker was asked since; and where a connection broke
//! once more before it had answered, it is not known any more which one took what, and all of it
//! has to be sent again.

use std::ops::RangeInclusive;

/// What is known of the cluster, over all sessions of a process.
///
/// The owner counts how often a connection of its producer was made after one had broken, and keeps
/// that number with each report: these are the breaks of which is spoken here. All connections that
/// are open at a time are taken to lead to the same cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The one that has the events from before.
    known: Option<String>,
    /// From and to how many breaks of the producer's connections what is reported is its own.
    proven: (u64, u64),
    question: Question,
    /// How many questions there were: an answer to an earlier one than the last says nothing.
    asked: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Question {
    #[default]
    None,
    /// A broker was asked when that many connections had broken.
    Asked(u64),
    /// It was the known cluster that answered.
    Answered(u64),
}

/// What to do about a report of a record that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// It counts.
    Believed,
    /// It is kept, unread. A broker is to be asked for the cluster's id now.
    Ask,
    /// It is kept, unread, until the answer comes.
    Wait,
    /// Nobody will ever know: the session has to end, and send the record again.
    Doubt,
}

/// What came of the question for the cluster's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A broker told it.
    Id(String),
    /// A broker answered, and has none to tell: there are services like that.
    NoId,
    /// Nobody answered.
    Nothing,
}

/// Another cluster than the one that has the events from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherCluster {
    /// The one that has them.
    pub known: String,
    /// The one that answers.
    pub seen: String,
}

impl Cluster {
    /// A session begins. `recorded`: the cluster on record, which counts for more than what the
    /// process has seen.
    pub fn session_begins(&mut self, recorded: Option<String>) {
        self.known = recorded.or_else(|| self.known.take());
        self.question = Question::None;
    }

    /// Another producer sends from here on: none of its connections has broken, and its first
    /// records wait until [`see`](Self::see) has the cluster's id.
    pub fn producer_is_new(&mut self) {
        self.proven = (0, 0);
        self.question = Question::None;
    }

    /// The cluster that has the events, where it is known.
    pub fn id(&self) -> Option<&str> {
        self.known.as_deref()
    }

    /// What answers has this id. `accepted`: the one that an operator lets the events go to.
    /// Returns the cluster that had them until then, where that is another one.
    ///
    /// # Errors
    ///
    /// It is another cluster: nothing may be sent to it.
    pub fn see(
        &mut self,
        seen: &str,
        accepted: Option<&str>,
    ) -> Result<Option<String>, OtherCluster> {
        let before = self.known.take().filter(|known| known != seen);
        match before {
            Some(known) if accepted != Some(seen) => {
                self.known = Some(known.clone());
                Err(OtherCluster {
                    known,
                    seen: seen.to_owned(),
                })
            }
            before => {
                self.known = Some(seen.to_owned());
                Ok(before)
            }
        }
    }

    /// The number of the question that [`Belief::Ask`] wanted.
    pub fn question(&self) -> u64 {
        self.asked
    }

    /// Takes the answer to the question of that number. Clusters without an id can't be told apart:
    /// an answer is enough where none was ever known.
    ///
    /// # Errors
    ///
    /// As [`see`](Self::see).
    pub fn answered(
        &mut self,
        question: u64,
        said: &Said,
        accepted: Option<&str>,
    ) -> Result<Option<String>, OtherCluster> {
        // Its asker may have been slow, and connections have broken since.
        if question != self.asked {
            return Ok(None);
        }
        let question = std::mem::take(&mut self.question);
        let before = match said {
            Said::Id(seen) => self.see(seen, accepted)?,
            Said::NoId if self.known.is_none() => None,
            Said::NoId | Said::Nothing => return Ok(None),
        };
        if let Question::Asked(breaks) = question {
            self.question = Question::Answered(breaks);
        }
        Ok(before)
    }

    /// What to do about a report that came when the producer's connections had broken so often, at
    /// least and at most. By now, which has to be looked at after the answer has come, they have
    /// `now` times.
    pub fn judge(&mut self, at: &RangeInclusive<u64>, now: u64) -> Belief {
        if let Question::Answered(breaks) = self.question {
            self.question = Question::None;
            // Otherwise it is not known whether the answer came before the last break.
            if breaks == now {
                self.prove(now);
            }
        }
        match self.first_unproven(at) {
            None => return Belief::Believed,
            // What is not proven, and over, never will be.
            Some(breaks) if breaks < now => return Belief::Doubt,
            Some(_) => {}
        }
        if self.question == Question::Asked(now) {
            return Belief::Wait;
        }
        self.question = Question::Asked(now);
        self.asked += 1;
        Belief::Ask
    }

    /// What was between the last time that is proven and this one stays unknown.
    fn prove(&mut self, breaks: u64) {
        let (from, to) = self.proven;
        let from = if breaks > to + 1 { breaks } else { from };
        self.proven = (from, breaks);
    }

    fn first_unproven(&self, at: &RangeInclusive<u64>) -> Option<u64> {
        let (from, to) = self.proven;
        let (first, last) = (*at.start(), *at.end());
        if first < from || first > to {
            return Some(first);
        }
        (last > to).then_some(to + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a producer whose first answers came from `a`.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.session_begins(None);
        cluster.producer_is_new();
        assert_eq!(cluster.see("a", None), Ok(None));
        cluster
    }

    /// What is to be done about a report from between two breaks.
    fn judge(cluster: &mut Cluster, at: u64, now: u64) -> Belief {
        cluster.judge(&(at..=at), now)
    }

    /// A broker says to which cluster it belongs.
    fn answered(cluster: &mut Cluster, id: &str) -> Result<Option<String>, OtherCluster> {
        cluster.answered(cluster.question(), &Said::Id(id.to_owned()), None)
    }

    #[test]
    fn an_answer_to_an_earlier_question_proves_nothing() {
        let mut cluster = cluster();
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Ask);
        let earlier = cluster.question();
        assert_eq!(judge(&mut cluster, 2, 2), Belief::Ask);
        let late = Said::Id("a".to_owned());
        assert_eq!(cluster.answered(earlier, &late, None), Ok(None));
        assert_eq!(judge(&mut cluster, 2, 2), Belief::Wait);
        assert_eq!(answered(&mut cluster, "a"), Ok(None));
        assert_eq!(judge(&mut cluster, 2, 2), Belief::Believed);
        // That of a producer that was given up.
        assert_eq!(judge(&mut cluster, 3, 3), Belief::Ask);
        let earlier = cluster.question();
        cluster.producer_is_new();
        assert_eq!(judge(&mut cluster, 3, 3), Belief::Ask);
        assert_eq!(cluster.answered(earlier, &late, None), Ok(None));
        assert_eq!(judge(&mut cluster, 3, 3), Belief::Wait);
    }

    #[test]
    fn an_answer_is_enough_where_no_cluster_has_an_id() {
        let mut nameless = Cluster::default();
        nameless.producer_is_new();
        assert_eq!(judge(&mut nameless, 1, 1), Belief::Ask);
        let question = nameless.question();
        assert_eq!(nameless.answered(question, &Said::NoId, None), Ok(None));
        assert_eq!(judge(&mut nameless, 1, 1), Belief::Believed);
        // Where there was one, it is not known whose the answer is.
        let mut cluster = cluster();
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Ask);
        let question = cluster.question();
        assert_eq!(cluster.answered(question, &Said::NoId, None), Ok(None));
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Ask);
    }

    #[test]
    fn a_report_that_may_be_from_before_a_break_or_after_it_has_to_be_proven_for_both() {
        let mut cluster = cluster();
        assert_eq!(cluster.judge(&(0..=1), 1), Belief::Ask);
        assert_eq!(answered(&mut cluster, "a"), Ok(None));
        assert_eq!(cluster.judge(&(0..=1), 1), Belief::Believed);
        assert_eq!(cluster.judge(&(1..=2), 2), Belief::Ask);
        assert_eq!(
            cluster.judge(&(2..=3), 3),
            Belief::Doubt,
            "nobody asked at 2"
        );
    }

    #[test]
    fn a_report_that_may_be_from_between_two_breaks_is_in_doubt_if_nobody_asked_there() {
        let mut cluster = cluster();
        assert_eq!(cluster.judge(&(0..=2), 2), Belief::Doubt);
        // It is asked for the sake of another one: that proves nothing of the time before.
        assert_eq!(judge(&mut cluster, 2, 2), Belief::Ask);
        assert_eq!(answered(&mut cluster, "a"), Ok(None));
        assert_eq!(judge(&mut cluster, 2, 2), Belief::Believed);
        assert_eq!(cluster.judge(&(1..=2), 2), Belief::Doubt);
        assert_eq!(cluster.judge(&(0..=2), 2), Belief::Doubt);
        assert_eq!(judge(&mut cluster, 1, 2), Belief::Doubt);
        assert_eq!(cluster.judge(&(2..=3), 3), Belief::Ask);
        assert_eq!(answered(&mut cluster, "a"), Ok(None));
        assert_eq!(cluster.judge(&(2..=3), 3), Belief::Believed);
    }

    fn other() -> OtherCluster {
        OtherCluster {
            known: "a".to_owned(),
            seen: "b".to_owned(),
        }
    }

    #[test]
    fn what_is_reported_before_any_connection_broke_is_believed() {
        let mut cluster = cluster();
        assert_eq!(judge(&mut cluster, 0, 0), Belief::Believed);
        assert_eq!(
            judge(&mut cluster, 0, 1),
            Belief::Believed,
            "it came before"
        );
    }

    #[test]
    fn what_is_reported_after_a_break_waits_until_the_cluster_was_asked() {
        let mut cluster = cluster();
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Ask);
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Wait);
        assert_eq!(
            cluster.answered(cluster.question(), &Said::Nothing, None),
            Ok(None)
        );
        assert_eq!(
            judge(&mut cluster, 1, 1),
            Belief::Ask,
            "nobody has answered"
        );
        assert_eq!(answered(&mut cluster, "a"), Ok(None));
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Believed);
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Believed);
        assert_eq!(judge(&mut cluster, 2, 2), Belief::Ask);
    }

    #[test]
    fn what_another_cluster_took_is_not_believed_when_the_way_leads_back_again() {
        let mut cluster = cluster();
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Ask);
        assert_eq!(
            judge(&mut cluster, 1, 2),
            Belief::Doubt,
            "it broke meanwhile"
        );
        // Also where the answer was there before the second break was seen.
        assert_eq!(answered(&mut cluster, "a"), Ok(None));
        assert_eq!(judge(&mut cluster, 1, 2), Belief::Doubt);
        assert_eq!(judge(&mut cluster, 2, 2), Belief::Ask);
    }

    #[test]
    fn another_cluster_gets_nothing_unless_an_operator_accepts_it() {
        let mut cluster = cluster();
        assert_eq!(cluster.see("b", None), Err(other()));
        assert_eq!(cluster.see("b", Some("c")), Err(other()));
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Ask);
        assert_eq!(answered(&mut cluster, "b"), Err(other()));
        assert_eq!(cluster.id(), Some("a"));
        let before = Ok(Some("a".to_owned()));
        assert_eq!(cluster.see("b", Some("b")), before);
        assert_eq!(cluster.id(), Some("b"));
    }

    #[test]
    fn the_cluster_on_record_counts_for_more_than_the_one_that_was_seen() {
        let mut cluster = cluster();
        cluster.session_begins(Some("b".to_owned()));
        assert_eq!(cluster.id(), Some("b"));
        cluster.session_begins(None);
        assert_eq!(cluster.id(), Some("b"));
    }

    #[test]
    fn a_producer_that_is_kept_has_to_be_proven_where_its_predecessor_was() {
        let mut cluster = cluster();
        assert_eq!(judge(&mut cluster, 3, 3), Belief::Ask);
        assert_eq!(answered(&mut cluster, "a"), Ok(None));
        assert_eq!(judge(&mut cluster, 3, 3), Belief::Believed);
        cluster.session_begins(None);
        assert_eq!(
            judge(&mut cluster, 4, 4),
            Belief::Ask,
            "it broke in between"
        );
        cluster.session_begins(None);
        assert_eq!(judge(&mut cluster, 4, 4), Belief::Ask, "nobody will answer");
        cluster.producer_is_new();
        assert_eq!(judge(&mut cluster, 1, 1), Belief::Ask);
    }
}
