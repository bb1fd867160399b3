//! `on_undeliverable: hold`: the process stays before an event that it can't deliver.
//!
//! No stream is open meanwhile, so nothing of the server waits for us; its WAL is kept for the
//! slot. The line goes on when an operator lets the event pass, or when the cause is gone: it is
//! tried again now and then.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};
use walpost_core::hold::{LOOK_INTERVAL, Retry};
use walpost_core::{Reason, Topic, Undeliverable};
use walpost_kafka::{Metadata, Producer};
use walpost_walsender::Connection;

use super::visit::Visits;
use super::{Supervisor, producer};
use crate::config::Config;
use crate::connect::connect;
use crate::control;
use crate::error::chain;
use crate::session::Parked;
use crate::skip::{self, Skip};
use crate::state::Activity;

/// How long a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

impl Supervisor<'_> {
    /// Waits until the event is worth another try, or the process is to stop. The slot and its
    /// set-up are watched meanwhile.
    pub(super) async fn hold(&mut self, event: &Undeliverable, parked: &mut Parked) {
        self.state.set_activity(Activity::Holding);
        let (config, side) = (self.config, self.side.clone());
        let metadata = self.producer.as_ref().map(Producer::metadata);
        let mended = until_mended(&event.reason, metadata, &side);
        let skipped = until_skipped(config, event);
        tokio::pin!(mended, skipped);
        let mut visits = Visits::new();
        loop {
            let timeout = parked.idle_slot_timeout();
            tokio::select! {
                () = self.shutdown.stopped() => break,
                () = self.rotation.due() => break,
                () = parked.watch() => {
                    debug!("the slot is gone, or lost: the next session says how");
                    break;
                }
                () = &mut mended => {
                    debug!("trying the event again");
                    break;
                }
                () = &mut skipped => {
                    info!(
                        position = %event.position,
                        id = %event.id,
                        "an operator lets the event pass: going on"
                    );
                    break;
                }
                () = producer::serve(&mut self.producer) => {}
                () = visits.due(timeout) => {}
            }
            if visits.is_due(timeout)
                && let Err(error) = self.visit(&mut visits, timeout).await
            {
                debug!(cause = chain(&error), "the next session says it too");
                break;
            }
        }
        self.state.set_activity(Activity::Connecting);
    }
}

/// Waits until the cause may be gone.
async fn until_mended(reason: &Reason, metadata: Option<Metadata>, side: &Handle) {
    match (Retry::of(reason), metadata) {
        (Retry::OnceThereIs(topic), Some(metadata)) => until_topic(&topic, &metadata, side).await,
        // The session after the wait makes another producer.
        (Retry::OnceThereIs(_), None) => sleep(LOOK_INTERVAL).await,
        (Retry::After(pause), _) => sleep(pause).await,
        (Retry::Never, _) => std::future::pending().await,
    }
}

/// Waits until Kafka has the topic.
async fn until_topic(topic: &Topic, metadata: &Metadata, side: &Handle) {
    loop {
        sleep(LOOK_INTERVAL).await;
        let (metadata, topic) = (metadata.clone(), topic.clone());
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
        None => match connect_to_look(config).await {
            Ok(open) => open,
            Err(error) => {
                debug!(error, "can't look whether the event may be passed over");
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

/// On what is asked here the server gives up before we do, so that nothing piles up there.
async fn connect_to_look(config: &Config) -> Result<Connection, String> {
    let mut open = connect(&config.postgres, &control::options(config))
        .await
        .map_err(|error| error.to_string())?;
    let prepared = control::prepare(&mut open).await;
    prepared.map_err(|error| chain(&error))?;
    Ok(open)
}
