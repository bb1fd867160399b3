//! `on_undeliverable: hold`: the process stays before an event that it can't deliver.
//!
//! No stream is open meanwhile, so nothing of the server waits for us; its WAL is kept for the
//! slot. The line goes on when an operator lets the event pass, or when the cause is gone: it is
//! tried again now and then.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};
use walpost_core::Undeliverable;
use walpost_walsender::Connection;

use crate::config::Config;
use crate::connect::connect;
use crate::control;
use crate::shutdown::ShutdownSignal;
use crate::skip;

/// How often it is looked whether the event may be passed over.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long after a try the next one is made.
const RETRY: Duration = Duration::from_secs(30);

/// How long a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until the event is worth another try, or the process is to stop.
pub(super) async fn hold(config: &Config, event: &Undeliverable, shutdown: &ShutdownSignal) {
    let retry = Instant::now() + RETRY;
    let mut shutdown = shutdown.clone();
    tokio::select! {
        () = shutdown.changed() => {}
        () = sleep_until(retry) => debug!("trying the event again"),
        () = until_skipped(config, event) => info!(
            position = %event.position,
            id = %event.id,
            "an operator lets the event pass: going on"
        ),
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
    let id = event.id.to_string();
    recorded
        .iter()
        .any(|recorded| recorded.skip.position == event.position && recorded.skip.id == id)
}
