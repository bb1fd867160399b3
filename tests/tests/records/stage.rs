//! A database, a slot and a configuration that belong together.

use walpost_tests::{Database, Finished, Kafka, Postgres, Record, Running, Walpost, read_all};

use crate::SOON;

/// Where one test plays.
pub(crate) struct Stage<'a> {
    pub(crate) database: Database<'a>,
    pub(crate) kafka: &'static Kafka,
    pub(crate) slot: String,
    pub(crate) walpost: Walpost,
}

impl Stage<'static> {
    /// On the shared servers, with the smallest configuration and nothing in the database.
    pub(crate) fn new(hint: &str) -> Self {
        Self::on(Postgres::shared(), hint)
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn on(postgres: &'a Postgres, hint: &str) -> Self {
        let (database, kafka) = (postgres.database(hint), Kafka::shared());
        let slot = database.slot_name();
        let walpost = Walpost::minimal(&database.url(), &kafka.brokers(), &slot);
        Self {
            database,
            kafka,
            slot,
            walpost,
        }
    }

    /// Adds sections to the smallest configuration.
    pub(crate) fn configure(&self, sections: &str) {
        let (url, brokers, slot) = (self.database.url(), self.kafka.brokers(), &self.slot);
        self.walpost.configure(&format!(
            "postgres:\n  url: \"{url}\"\n  slot: {slot}\n  publication: {slot}\n\
             kafka:\n  brokers: \"{brokers}\"\n{sections}"
        ));
    }

    /// Delivers what is committed.
    #[track_caller]
    pub(crate) fn once(&self) -> Finished {
        let finished = self.walpost.finish(&["run", "--once"], SOON);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished
    }

    /// Starts to stream, and waits until it does.
    #[track_caller]
    pub(crate) fn stream(&self) -> Running {
        let running = self.walpost.start(&["run"]);
        running.wait_for_log("\"streaming\"", SOON);
        running
    }

    #[track_caller]
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        read_all(&self.kafka.brokers(), topic)
    }
}

/// Stops a stream that has no reason to fail.
#[track_caller]
pub(crate) fn stop(running: Running) {
    let finished = running.stop(SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}

/// The records in the order of their positions.
pub(crate) fn in_order(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|left, right| {
        let position = |record: &Record| record.header("walpost-position").map(str::to_owned);
        position(left).cmp(&position(right))
    });
    records
}

/// Values as text, in the order of the records.
#[track_caller]
pub(crate) fn values(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| {
        let value = record.value.clone().expect("no tombstone is expected here");
        String::from_utf8(value).expect("the payload is text")
    };
    records.iter().map(text).collect()
}

/// Headers as text, without walpost's position and commit time.
#[track_caller]
pub(crate) fn headers(record: &Record) -> Vec<(String, String)> {
    let text = |value: &Option<Vec<u8>>| {
        let value = value.clone().expect("no header is null");
        String::from_utf8(value).expect("these headers are text")
    };
    let own = |(name, _): &&(String, Option<Vec<u8>>)| !name.starts_with("walpost-");
    let headers = record.headers.iter().filter(own);
    headers
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Names and values, for comparing with [`headers`].
pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}
