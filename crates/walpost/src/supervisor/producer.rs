//! The producer between the sessions: made, fitted to the topics, replaced, or thrown away.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::{error, info};
use walpost_core::Topics;
use walpost_core::class::Exit;
use walpost_crashpoint as crash_point;
use walpost_kafka::Producer;

use super::{CREDENTIALS_PATIENCE, ONCE_PATIENCE, Supervisor, sizes};
use crate::error::Error;
use crate::shutdown::Shutdown;

/// Hears what librdkafka has to say while nothing else asks it: what it logs would pile up. Without
/// a producer there is nothing to hear. Can be dropped and called again.
pub(super) async fn serve(producer: &mut Option<Producer>) {
    match producer {
        Some(producer) => loop {
            producer.ready().await;
            producer.poll(&mut Vec::new());
        },
        None => std::future::pending().await,
    }
}

/// How long after the making of a producer failed the next one is tried.
const RETRY: Duration = Duration::from_secs(1);

impl Supervisor<'_> {
    /// Makes a producer where there is none. Once Kafka has worked, files that can't be used may be
    /// half of a rotation: tried again for a while.
    pub(super) async fn prepare_producer(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        let mut is_told = false;
        while self.producer.is_none() && self.shutdown.requested() == Shutdown::None {
            self.renew();
            let settings = sizes::apply(self.judge.sizes(), &self.settings);
            let made = crash_point::around!(self.point(), Producer::new(&settings));
            let error = match made {
                Ok(producer) => {
                    self.producer = Some(producer);
                    self.kafka.producer_is_new();
                    // It may reach another cluster: what it says of a topic goes with its cluster.
                    if let Some(topics) = &mut self.topics {
                        topics.distrust();
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            let patience = match self.once {
                true => ONCE_PATIENCE,
                false => CREDENTIALS_PATIENCE,
            };
            if !self.kafka.has_answered() || begun.elapsed() >= patience {
                let error = Error::new(Exit::Configuration, error.to_string());
                return Err(error.with_fix("check kafka.properties"));
            }
            if !std::mem::replace(&mut is_told, true) {
                error!(%error, "there is no Kafka producer: trying again");
            }
            tokio::select! {
                () = self.shutdown.stopped() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        Ok(())
    }

    /// The crash point of a producer: the process's first, or one after it.
    #[cfg(debug_assertions)]
    fn point(&self) -> &'static str {
        if self.begun { "rebuild" } else { "producer" }
    }

    /// Certificates or passwords for Kafka have changed: the next producer has them.
    pub(super) fn renew(&mut self) {
        if let Some(settings) = self.rotation.take() {
            info!(
                "files of kafka.properties have changed: connecting to Kafka with what is in them"
            );
            self.settings = settings;
            self.producer = None;
        }
    }

    /// Asks what the topics take that are known by now, and makes the producer anew where it does
    /// not fit them. A Kafka that is down is not waited for.
    pub(super) async fn fit_producer(&mut self) -> Result<(), Error> {
        let known = self.topics.iter().flat_map(Topics::known);
        let known: BTreeSet<_> = known.map(|topic| topic.as_str().to_owned()).collect();
        let named = self.config.named_topics().into_iter();
        let Some(topics) = self.judge.question(named.chain(known.iter().cloned())) else {
            return Ok(());
        };
        let Some(producer) = &mut self.producer else {
            return Ok(());
        };
        let answer = tokio::select! {
            answer = sizes::ask(&self.side, producer, topics) => answer,
            () = self.shutdown.stopped() => None,
        };
        let before = self.judge.sizes();
        let changes = self.judge.take_answer(answer, &known, Instant::now());
        let sizes = self.judge.sizes();
        if sizes != before {
            info!(
                message_max_bytes = sizes.record,
                batch_size = sizes.batch,
                "records and batches are as large as the topics take them"
            );
        }
        if changes {
            self.producer = None;
            self.prepare_producer().await?;
        }
        Ok(())
    }

    /// Keeps the producer only if it is whole and has nothing left from the session.
    pub(super) fn retire_producer(&mut self) {
        let whole = |producer: &Producer| producer.in_flight() == 0 && producer.is_whole();
        self.producer = self.producer.take().filter(whole);
    }
}
