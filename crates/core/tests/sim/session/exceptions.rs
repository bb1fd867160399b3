//! Events that are not sent as they are: those at fault, and those that an operator named.

use std::collections::BTreeMap;

use walpost_core::{EventId, Exception, Reason, Record, Undeliverable};

use super::Session;
use super::ending::check_missing;
use crate::env::Env;
use crate::history::content;
use crate::kafka::number;

impl Session {
    /// Each one has a reason that is true.
    pub(super) fn look_at_exceptions(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        while let Some(exception) = self.relay.poll_exception() {
            env.say(|| format!("relay: {exception:?}"));
            match exception {
                Exception::Skipped { id, position } => {
                    let EventId::Uuid(id) = id else {
                        panic!("skip: {id} is no id of ours");
                    };
                    env.history.check_skipped(position, id);
                    env.cover(if self.terms.skips.contains(&(position, id)) {
                        "an event was passed over"
                    } else {
                        "an event was passed over for its id"
                    });
                }
                Exception::DeadLetter(event) => self.check_letter(env, believed, &event),
            }
        }
    }

    fn check_letter(
        &self,
        env: &mut Env,
        believed: &BTreeMap<usize, u32>,
        undeliverable: &Undeliverable,
    ) {
        let Undeliverable {
            id,
            position,
            reason,
        } = undeliverable;
        let EventId::Uuid(id) = id else {
            panic!("dead letter: {id} is no id of ours");
        };
        let event = env.history.named(*id);
        let what = if let Reason::TopicMissing { topic, waited } = reason {
            assert_eq!(number(topic), event.topic, "dead letter: {id}");
            check_missing(env, believed, (topic, *waited), env.ms());
            "a dead letter for a missing topic"
        } else if let Reason::Rejected(rejection) = reason {
            let code = Some(rejection.code);
            assert_eq!(event.poison, code, "dead letter: {id} is not at fault");
            if self.terms.condemned.contains(&(*position, *id)) {
                "a dead letter of an event that was refused in an earlier session"
            } else {
                "a dead letter of an event that was refused in its session"
            }
        } else {
            assert_eq!(*reason, Reason::NullPayload, "dead letter: {id}");
            assert!(event.payload.is_none(), "dead letter: {id} has a payload");
            "a dead letter for a missing payload"
        };
        env.cover(what);
        let for_topic = matches!(reason, Reason::TopicMissing { .. });
        env.history
            .redirect(*id, for_topic, (env.processes, self.terms.era));
    }

    /// What is passed over does not leave, and suspects leave alone.
    pub(super) fn check_terms(&self, env: &Env, record: &Record) {
        let position = record.position();
        let id = env.history.find(record).id;
        let skipped = self.terms.skips.contains(&(position, id)) || self.terms.ids.contains(&id);
        assert!(!skipped, "skip: {id} at {position} is sent");
        let is_letter = number(record.topic()) == env.plan.topics;
        assert_eq!(
            content::cause(record).is_some(),
            is_letter,
            "dead letter: {id}"
        );
        let suspects = &self.terms.suspects;
        let mut in_flight = self.positions.values();
        let is_followed = in_flight.any(|position| suspects.contains(position));
        let is_behind = suspects.contains(&position) && self.unacked > 0;
        assert!(
            !is_followed && !is_behind,
            "alone: {position} is sent beside others"
        );
    }
}
