//! `on_undeliverable: hold`: the process stays before an event that it can't deliver.
//!
//! No stream is open meanwhile, so nothing of the server waits for us; its WAL is kept for the
//! slot. The line goes on when an operator lets the event pass, or when the cause is gone: it is
//! tried again now and then.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};
use walpost_core::{Reason, Topic, Undeliverable};
use walpost_kafka::Producer;
use walpost_walsender::Connection;

use super::Supervisor;
use crate::config::Config;
use crate::connect::connect;
use crate::control;
use crate::skip::{self, Skip};
use crate::state::Activity;

/// How often it is looked whether the event may be passed over.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long after a try the next one is made, where only Kafka can say whether it is worth it.
const RETRY: Duration = Duration::from_secs(30);

/// A slot that nobody streams from is visited when this part of its server's patience is over.
const VISITS: u32 = 3;

/// No visit is due within any time that matters.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// How long a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

impl Supervisor<'_> {
    /// Waits until the event is worth another try, or the process is to stop.
    pub(super) async fn hold(&mut self, event: &Undeliverable) {
        self.state.set_activity(Activity::Holding);
        let Self {
            config,
            shutdown,
            rotation,
            producer,
            side,
            ..
        } = self;
        let visit = match self.idle_slot_timeout {
            Duration::ZERO => FOREVER,
            timeout => timeout / VISITS,
        };
        tokio::select! {
            () = shutdown.stopped() => {}
            () = rotation.due() => {}
            () = sleep(visit) => debug!("the server sees the slot in use for a moment"),
            () = until_mended(&event.reason, producer, side) => debug!("trying the event again"),
            () = until_skipped(config, event) => info!(
                position = %event.position,
                id = %event.id,
                "an operator lets the event pass: going on"
            ),
        }
        self.state.set_activity(Activity::Connecting);
    }
}

/// Waits until the cause may be gone. A row stays as it was committed, and the configuration as it
/// was read: where these are the cause, that is never.
async fn until_mended(reason: &Reason, producer: &mut Option<Producer>, side: &Handle) {
    match reason {
        Reason::TopicMissing { topic, .. } => until_topic(topic, producer, side).await,
        Reason::Rejected(_) | Reason::DeadLetter { .. } => sleep(RETRY).await,
        Reason::NullId
        | Reason::NullPayload
        | Reason::NullTopic
        | Reason::TopicIllegal(_)
        | Reason::TopicNotAllowed(_)
        | Reason::Headers(_)
        | _ => std::future::pending().await,
    }
}

/// Waits until Kafka has the topic. What stands before the event in its transaction would come
/// again with each session that is tried.
async fn until_topic(topic: &Topic, producer: &mut Option<Producer>, side: &Handle) {
    loop {
        sleep(LOOK_INTERVAL).await;
        // The session after the wait makes another one.
        let Some(producer) = producer else { return };
        producer.poll(&mut Vec::new());
        let (metadata, topic) = (producer.metadata(), topic.clone());
        let asked = side.spawn_blocking(move || {
            let count = metadata.partition_count(topic.as_str(), LOOK_TIMEOUT);
            count.is_ok()
        });
        if asked.await.unwrap_or(false) {
            return;
        }
    }
}

async fn until_skipped(config: &Config, event: &Undeliverable) {
    let mut connection = None;
    loop {
        let next = Instant::now() + LOOK_INTERVAL;
        match timeout(LOOK_TIMEOUT, is_skipped(config, event, &mut connection)).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(_) => connection = None,
        }
        sleep_until(next).await;
    }
}

/// Looks, on the connection of the look before. What goes wrong is looked at again.
async fn is_skipped(
    config: &Config,
    event: &Undeliverable,
    connection: &mut Option<Connection>,
) -> bool {
    let postgres = &config.postgres;
    let Some(checkpoint) = &postgres.checkpoint else {
        return false;
    };
    let mut open = match connection.take() {
        Some(open) => open,
        None => match connect(postgres, &control::options(config)).await {
            Ok(open) => open,
            Err(error) => {
                debug!(%error, "can't look whether the event may be passed over");
                return false;
            }
        },
    };
    let (table, from) = (checkpoint.skip_table(), event.position.commit_lsn);
    let recorded = match skip::read(&mut open, &table, &postgres.slot, from).await {
        Ok(recorded) => recorded,
        Err(error) => {
            debug!(%error, "can't look whether the event may be passed over");
            return false;
        }
    };
    *connection = Some(open);
    let is_it = |skip: &Skip| skip.position == event.position && event.id.is(&skip.id);
    recorded.iter().any(|recorded| is_it(&recorded.skip))
}
