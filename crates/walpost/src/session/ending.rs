//! The end of a session: what is in flight is waited for, the position is put on record, and the
//! stream is left in order.

use std::time::{Duration, Instant};

use tracing::debug;
use walpost_core::class::Class;
use walpost_core::cluster::{Belief, Cluster};
use walpost_core::ending::Over;
use walpost_core::{Relay, RelayError};
use walpost_crashpoint as crash_point;
use walpost_kafka::{Delivery, Producer};
use walpost_walsender::WalStream;

use super::cluster::judge;
use super::convert::{core_delivery, standby_status};
use super::{Outcome, Parked, Session, SessionError};
use crate::error::chain;

/// How long the reports of what is in flight are waited for when a session ends.
const SETTLE: Duration = Duration::from_secs(2);

/// How long the server may take to end the stream after we said that we are done.
const FINISH: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Ends the session: what is in flight is waited for without sending more, the last status goes
    /// out where the stream still stands, and the topics go on to the next session.
    pub(super) async fn end(mut self, mut ended: Result<Over, SessionError>) -> Outcome {
        // A server that stops waits for this.
        if matches!(&ended, Err(error) if error.is_of_stream()) {
            self.stream = None;
        }
        let parks = matches!(&ended, Err(error) if error.parks());
        if parks {
            // It was waited for long enough.
            crash_point::around!("park", self.producer.purge());
        }
        if ended.is_err() {
            let held = std::mem::take(&mut self.deliveries);
            let cluster = &mut self.context.kafka.cluster;
            let settled = settle(self.producer, &mut self.relay, held, cluster);
            let fault = crash_point::around!("settle", settled.await);
            // A producer fails over a record, and may say so before the record's report does.
            if let (Err(SessionError::Producer(_)), Some(fault)) = (&ended, fault) {
                ended = Err(fault.into());
            }
        }
        // Nothing leaves later than that: the slot may be another relay's by now.
        self.producer.purge();
        if !matches!(&ended, Err(error) if error.spoils_record()) {
            crash_point::around!("last-record", self.record_last().await);
            if let Some(stream) = self.stream.take() {
                crash_point::around!("finish", finish(stream, &mut self.relay).await);
            }
        }
        // After the last status, which may have told more.
        let (recorded, unrecorded) = self.recorded();
        let is_recorded = self.relay.is_recorded();
        self.tell_exceptions();
        let ended = ended.or_else(|error| match self.relay.halt() {
            // Nothing that is tried again can change it.
            Some(halt) if !matches!(error.class(), Class::Definite(_)) => {
                let cause = chain(&error);
                debug!(
                    cause,
                    "the session ended beside an event that can't be delivered"
                );
                Ok(Over::Halted(Box::new(halt)))
            }
            _ => Err(error),
        });
        let confirmed = self.relay.confirmed();
        let rulings = self.relay.rulings().clone();
        let sent = self.relay.take_recent();
        let goes_on = match &ended {
            Ok(Over::Halted(_)) => true,
            Ok(_) => false,
            Err(_) => parks,
        };
        let (topics, parked) = if goes_on {
            let (parked, topics) = Parked::new(self, is_recorded);
            (topics, Some(Box::new(parked)))
        } else {
            self.control.close().await;
            (self.relay.into_topics(), None)
        };
        Outcome {
            ended,
            confirmed,
            rulings,
            sent,
            topics,
            recorded,
            unrecorded,
            is_recorded,
            parked,
        }
    }
}

/// Tells the confirmed LSN once more and ends the stream in order.
async fn finish(mut stream: WalStream, relay: &mut Relay) {
    stream.queue_status(&standby_status(relay.last_status(Instant::now())));
    if let Err(error) = stream.finish(FINISH).await {
        debug!(%error, "the stream did not end in order");
    }
}

/// Waits for reports without sending anything. Good ones are believed until a connection breaks:
/// nobody is asked any more where the next one leads. Returns the first that tells a fault of the
/// cluster.
async fn settle(
    producer: &mut Producer,
    relay: &mut Relay,
    mut deliveries: Vec<Delivery>,
    cluster: &mut Cluster,
) -> Option<RelayError> {
    let mut fault = None;
    let deadline = Instant::now() + SETTLE;
    loop {
        producer.poll(&mut deliveries);
        let breaks = producer.breaks();
        for delivery in deliveries.drain(..) {
            if judge(cluster, &delivery, breaks) != Belief::Believed {
                continue;
            }
            // The session is over already; only a fault of an event still matters, and the relay
            // remembers it.
            if let Err(error) = relay.handle_delivery(core_delivery(delivery)) {
                debug!(%error, "a record failed after the session's end");
                fault.get_or_insert(error);
            }
        }
        // Also after a fatal error: the reports say whether an event was its cause.
        if producer.in_flight() == 0 {
            return fault;
        }
        tokio::select! {
            () = producer.ready() => {}
            () = tokio::time::sleep_until(deadline.into()) => return fault,
        }
    }
}
