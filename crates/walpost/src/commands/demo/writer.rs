//! The application of the demo: it changes orders, and tells of it through the outbox.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, sleep_until};
use walpost_walsender::quote_literal;

use super::shop::{Shop, Transaction};
use super::stage::{Stage, connect};
use crate::config::Config;
use crate::error::Error;

/// Pause between two looks whether the relay streams.
const STREAMING_INTERVAL: Duration = Duration::from_millis(20);

/// The first record of a producer that is younger than 100 ms waits half a second.
const FIRST_AFTER: Duration = Duration::from_millis(250);

/// A writer that could not keep up for longer than this does not try to make up for it.
const LAG_MAX: Duration = Duration::from_secs(1);

/// What is added to a clock must stay in its range.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Writes until it is dropped.
pub(super) struct Writer<'a> {
    pub stage: &'a Stage,
    pub config: &'a Config,
    pub topic: &'a str,
    /// Committed events a second. Zero: none at all.
    pub rate: f64,
    /// Hears of the first rollback.
    pub notes: UnboundedSender<String>,
}

impl Writer<'_> {
    /// Waits until the relay streams, then writes at the rate.
    pub(super) async fn run(self) -> Result<Infallible, Error> {
        if self.rate <= 0.0 {
            return std::future::pending().await;
        }
        let conninfo = &self.config.postgres.conninfo;
        let failed = |error: walpost_walsender::Error| Error::postgres(&error, conninfo);
        let mut connection = connect(self.config).await?;
        while !self
            .stage
            .is_streaming(&mut connection)
            .await
            .map_err(failed)?
        {
            sleep(STREAMING_INTERVAL).await;
        }
        let mut shop = Shop::new(fastrand::u64(..), fastrand::u32(1..9) * 1000);
        let mut due = Instant::now() + self.pause(1).max(FIRST_AFTER);
        let mut notes = Some(&self.notes);
        loop {
            sleep_until(due).await;
            let transaction = shop.next();
            connection
                .query(&self.sql(&transaction))
                .await
                .map_err(failed)?;
            if transaction.commits {
                due += self.pause(transaction.events.len());
                due = due.max(Instant::now().checked_sub(LAG_MAX).unwrap_or(due));
            } else if let Some(notes) = notes.take() {
                // Nobody listens any more at the end.
                let _ = notes.send(rolled_back(&transaction));
            }
        }
    }

    fn pause(&self, events: usize) -> Duration {
        let seconds = f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / self.rate;
        Duration::try_from_secs_f64(seconds).map_or(PAUSE_MAX, |pause| pause.min(PAUSE_MAX))
    }

    fn sql(&self, transaction: &Transaction) -> String {
        let order = quote_literal(&transaction.order);
        let mut rows = Vec::new();
        for event in &transaction.events {
            rows.push(format!(
                "({}, 'order', {order}, {}, {}, '{{\"source\": \"walpost-demo\"}}')",
                quote_literal(self.topic),
                quote_literal(event.kind),
                quote_literal(&event.payload),
            ));
        }
        let end = if transaction.commits {
            "commit"
        } else {
            "rollback"
        };
        format!(
            "begin; \
             insert into {orders} values ({order}, {status}, {total}) \
             on conflict (id) do update set status = excluded.status; \
             insert into {outbox} (destination, aggregate_type, aggregate_id, event_type, payload, \
             headers) values {rows}; \
             {end}",
            orders = self.stage.orders(),
            outbox = self.stage.outbox(),
            status = quote_literal(transaction.status),
            total = transaction.total,
            rows = rows.join(", "),
        )
    }
}

fn rolled_back(transaction: &Transaction) -> String {
    let kinds: Vec<&str> = transaction.events.iter().map(|event| event.kind).collect();
    format!(
        "rolled back: {} of {}; a rollback is never seen here, and not told again\n",
        kinds.join(" and "),
        transaction.order
    )
}
