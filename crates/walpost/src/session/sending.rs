//! The producer's side of a session: what was reported, and what leaves.

use std::time::Instant;

use tracing::warn;
use walpost_core::Exception;
use walpost_crashpoint as crash_point;
use walpost_kafka::{Fault, Producer, SendError};

use super::convert::{core_rejection, send};
use super::{Session, SessionError};

impl Session<'_> {
    pub(super) fn take_deliveries(&mut self, now: Instant) -> Result<(), SessionError> {
        self.producer.poll(&mut self.deliveries);
        let mut deliveries = self.take_believed()?;
        let mut result = Ok(());
        // A record that was refused, and in whose place another one goes.
        let mut is_replaced = false;
        for delivery in deliveries.drain(..) {
            let is_refused = delivery.result.is_err();
            let handled = self.relay_delivery(delivery);
            is_replaced |= is_refused && handled.is_ok();
            if result.is_ok() {
                result = handled;
            }
        }
        if self.deliveries.is_empty() {
            self.deliveries = deliveries;
        }
        if self.relay.halted().is_none() {
            result?;
            self.hear_kafka(now)?;
            if let Some(fault) = self.producer.fatal() {
                return self.give_up_producer(fault, is_replaced);
            }
        }
        Ok(())
    }

    /// Librdkafka gives a producer up with the first record that Kafka refuses. Where that was a
    /// record that had left alone, another one can go on from there: with what goes in its place.
    fn give_up_producer(&mut self, fault: Fault, is_replaced: bool) -> Result<(), SessionError> {
        if !is_replaced || self.producer.in_flight() > 0 || !self.relay.is_drained() {
            return Err(SessionError::Producer(fault));
        }
        let settings = &self.context.settings;
        match crash_point::around!("replace", Producer::new(settings)) {
            Ok(producer) => {
                *self.producer = producer;
                self.context.kafka.producer_is_new();
                self.relay.distrust_topics();
            }
            Err(_) => return Err(SessionError::Producer(fault)),
        }
        Ok(())
    }

    /// Sends what may leave; stops where the producer has no room.
    pub(super) fn send_records(&mut self, now: Instant) -> Result<(), SessionError> {
        loop {
            self.try_drain(now);
            if !self.ending.may_send() {
                return Ok(());
            }
            let Some(record) = self.unsent.take().or_else(|| self.relay.poll_record(now)) else {
                return Ok(());
            };
            let sent = crash_point::around!(self.point(&record), send(self.producer, &record));
            match sent {
                Ok(()) => {}
                Err(SendError::QueueFull) => {
                    self.unsent = Some(record);
                    return Ok(());
                }
                Err(SendError::Rejected(rejection)) => {
                    let rejection = core_rejection(&rejection);
                    self.relay.handle_refusal(now, record, rejection)?;
                }
                Err(SendError::Fatal(fault)) => return Err(SessionError::Producer(fault)),
            }
        }
    }

    fn try_drain(&mut self, now: Instant) {
        if self.ending.is_open() {
            return;
        }
        let holds = self.unsent.is_some();
        let (ending, relay) = (&mut self.ending, &mut self.relay);
        crash_point::tried!("drain", ending.try_drain(relay, holds, now), |begun| *begun);
    }

    /// The crash point of a record.
    #[cfg(debug_assertions)]
    fn point(&self, record: &walpost_core::Record) -> &'static str {
        let dead_letters = &self.context.config.delivery.dead_letter_topic;
        if record.topic() == dead_letters {
            "dead-letter"
        } else {
            "produce"
        }
    }

    /// Every event that is not sent as it is leaves a line.
    pub(super) fn tell_exceptions(&mut self) {
        while let Some(exception) = self.relay.poll_exception() {
            match exception {
                Exception::Skipped { id, position } => {
                    warn!(%position, %id, "an event is passed over, as an operator wants it");
                }
                Exception::DeadLetter(event) => {
                    let topic = self.context.config.delivery.dead_letter_topic.as_str();
                    warn!(cause = %event, topic, "an event goes to the dead-letter topic");
                }
            }
        }
    }
}
