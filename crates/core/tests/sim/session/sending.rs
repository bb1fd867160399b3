//! Records on their way from the relay to the producer.

use std::collections::BTreeMap;

use walpost_core::Record;

use super::Session;
use crate::env::Env;
use crate::history::content;
use crate::kafka::{TOO_LARGE, number, record_bytes, rejection};
use crate::plan::{Fault, chance};

impl Session {
    /// Sends what may leave; stops where the producer has no room.
    pub(super) fn send_records(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) {
        while self.may_send(env) {
            let polled = self.unsent.take().or_else(|| self.poll(env, believed));
            let Some((record, count)) = polled else {
                return;
            };
            if !self.producer.has_room(&env.plan) {
                env.cover("the producer was full");
                self.unsent = Some((record, count));
                return;
            }
            let objection = env.kafka.objection(&record, &env.history, env.ms());
            let bytes = record_bytes(&record, &env.history);
            if env.plan.has(Fault::Refuse) && objection == Some(TOO_LARGE) {
                self.refuse(env, record);
            } else if bytes > self.producer.sizes.record {
                env.cover("the producer refused an event that its topic takes");
                let may_be = env.plan.has(Fault::TopicAgain) && !env.healing;
                if may_be && chance(&mut env.rng, 10) {
                    let topic = &mut env.kafka.topics[number(record.topic())];
                    topic.remake(&mut env.rng, env.clock.ms());
                }
                self.refuse(env, record);
            } else {
                self.producer.send(record, count, bytes, &env.kafka);
            }
        }
    }

    /// The producer would not send this record.
    fn refuse(&mut self, env: &mut Env, record: Record) {
        env.cover("the producer refused an event");
        self.positions.remove(&record.ticket);
        let letters = self.relay.snapshot().dead_letters;
        let now = env.clock.now();
        let is_letter = content::cause(&record).is_some();
        let is_final = self
            .terms
            .size_is_final_until
            .is_some_and(|until| now < until);
        // Where an earlier event is in the way, this one comes again.
        let halted = self.relay.halted().map(|halted| halted.position);
        let is_next = halted.is_none_or(|halted| record.position() <= halted);
        let refused = self.relay.handle_refusal(now, record, rejection(TOO_LARGE));
        assert!(refused.is_ok(), "halt: a refused event is no error");
        let is_replaced = self.relay.snapshot().dead_letters > letters;
        let is_due = env.plan.letters && is_final && !is_letter && is_next;
        assert_eq!(is_replaced, is_due, "dead letter: by its size");
        if is_replaced {
            env.cover("a dead letter in the place of an event that the producer refused");
        }
        self.take_back();
    }

    /// Whether records may leave. A stop begins as soon as it cuts no transaction in two.
    fn may_send(&mut self, env: &mut Env) -> bool {
        let cuts = self.is_in_the_middle();
        // The end of its transaction is behind an event that can't leave.
        let stands = self.relay.refused().is_some();
        let (holds, now) = (self.unsent.is_some(), env.clock.now());
        if self.ending.try_drain(&mut self.relay, holds, now) {
            if cuts || stands {
                self.left = None;
            }
            self.is_cut = cuts;
            if cuts {
                env.cover("a stop cut a transaction in two");
            }
        }
        self.is_open()
    }

    /// The next record, and the count that it was placed by.
    fn poll(&mut self, env: &mut Env, believed: &BTreeMap<usize, u32>) -> Option<(Record, u32)> {
        let record = self.relay.poll_record(env.clock.now())?;
        let topic = number(record.topic());
        let Some(count) = believed.get(&topic).copied() else {
            panic!("placement: a record left without a count");
        };
        assert!(
            record.partition >= 0 && record.partition.cast_unsigned() < count,
            "placement: partition {} of {count}",
            record.partition
        );
        env.say(|| describe_record(&record));
        self.check_terms(env, &record);
        let was_delivered = env.history.was_delivered_by(&record, env.processes);
        self.repeated += u64::from(was_delivered);
        self.unacked += 1;
        self.left = Some(record.position());
        self.grace.sent(record.position().commit_lsn);
        self.positions.insert(record.ticket, record.position());
        Some((record, count))
    }
}

fn describe_record(record: &Record) -> String {
    let (topic, position) = (record.topic(), record.position());
    let (ticket, partition) = (record.ticket.0, record.partition);
    format!("relay: record {ticket} to {topic}/{partition} ({position})")
}
