//! The promise, from outside: what was committed arrives, in order, whatever fails meanwhile.

use std::time::Duration;

use walpost_tests::{
    Consumer, Database, Kafka, Ledger, Postgres, Running, Settled, Stop, Walpost, Writer, check,
    read_all,
};

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn everything_arrives_once_and_in_order_when_nothing_fails() {
    let (postgres, kafka) = (Postgres::shared(), Kafka::shared());
    let relay = Relay::new(postgres, kafka, "calm");
    let running = relay.walpost.start(&["run"]);
    let ledger = relay
        .writer()
        .rows_between(1, 20)
        .rollbacks(0.2)
        .savepoints(true)
        .transactions(200)
        .run(SOON);
    assert_eq!(relay.finish(running, &ledger), 0);
}

#[test]
fn once_delivers_what_was_committed_before_and_exits() {
    let (postgres, kafka) = (Postgres::shared(), Kafka::shared());
    let relay = Relay::new(postgres, kafka, "once");
    let ledger = relay.writer().bulk_transactions(10, 1000);
    let end = relay.database.current_lsn();
    let finished = relay.walpost.finish(&["run", "--once"], SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let records = read_all(&kafka.brokers(), &relay.topic);
    assert_eq!(check(&[&ledger], &records).assert_clean(), 0);
    relay.database.wait_until_confirmed(&relay.slot, end, SOON);

    // Nothing is left: a second run sends nothing again.
    assert_eq!(relay.walpost.finish(&["run", "--once"], SOON).code, 0);
    assert_eq!(
        read_all(&kafka.brokers(), &relay.topic).len(),
        records.len()
    );
}

#[test]
fn a_killed_relay_loses_nothing_and_repeats_only_suffixes() {
    let (postgres, kafka) = (Postgres::shared(), Kafka::shared());
    let relay = Relay::new(postgres, kafka, "killed");
    let writer = relay
        .writer()
        .rows_between(1, 5)
        .rollbacks(0.1)
        .rate(200.0)
        .start();
    let mut consumer = Consumer::new(&kafka.brokers(), &relay.topic);
    let mut settled = Settled::default();
    for round in 0..8 {
        let running = relay.walpost.start(&["run"]);
        consumer.wait_for_new_events(100, SOON);
        if round % 2 == 1 {
            let end = relay.database.current_lsn();
            relay.database.wait_until_confirmed(&relay.slot, end, SOON);
        }
        running.kill();
        // What it had told last is still heard.
        relay.database.wait_until_free(&relay.slot, SOON);
        let slot = relay.database.slot(&relay.slot).expect("the slot");
        let confirmed = slot.confirmed.expect("it has a position");
        let counts = settled.note(consumer.read_to_end(SOON), confirmed);
        assert!(round == 0 || counts.0 > 0, "nothing was confirmed");
    }
    let running = relay.walpost.start(&["run"]);
    relay.finish(running, &writer.stop());
    // Nothing comes again that was confirmed at a kill.
    settled.assert_final(consumer.read_to_end(SOON));
}

#[test]
fn killed_servers_lose_nothing_and_the_relay_goes_on_by_itself() {
    let (postgres, kafka) = (Postgres::new(), Kafka::new());
    let relay = Relay::new(&postgres, &kafka, "servers");
    let writer = relay.writer().rows_between(1, 5).rate(100.0).start();
    let running = relay.walpost.start(&["run"]);
    let mut consumer = Consumer::new(&kafka.brokers(), &relay.topic);
    for round in 0..2 {
        consumer.wait_for_new_events(50, SOON);
        postgres.kill();
        postgres.start();
        consumer.wait_for_new_events(50, SOON);
        kafka.kill();
        kafka.start();
        consumer.wait_for_new_events(50, SOON);
        postgres.restart(if round == 0 {
            Stop::Fast
        } else {
            Stop::Immediate
        });
    }
    relay.finish(running, &writer.stop());
}

/// A database, a topic and a configuration that belong together.
struct Relay<'a> {
    database: Database<'a>,
    kafka: &'a Kafka,
    topic: String,
    slot: String,
    walpost: Walpost,
}

impl<'a> Relay<'a> {
    fn new(postgres: &'a Postgres, kafka: &'a Kafka, hint: &str) -> Self {
        let database = postgres.database(hint);
        let topic = kafka.topic(hint, 4);
        let slot = database.slot_name();
        let walpost = Walpost::minimal(&database.url(), &kafka.brokers(), &slot);
        walpost.init();
        Self {
            database,
            kafka,
            topic,
            slot,
            walpost,
        }
    }

    fn writer(&self) -> Writer {
        Writer::new(&self.database, &self.topic).aggregates(20)
    }

    /// Waits until everything has arrived, stops the relay, and returns the number of repeats.
    /// After an orderly end nothing is left to be sent again.
    fn finish(&self, running: Running, ledger: &Ledger) -> usize {
        let mut consumer = Consumer::new(&self.kafka.brokers(), &self.topic);
        consumer.wait_for_events(ledger, SOON);
        self.walpost.stop_in_order(running, &mut consumer, SOON);
        check(&[ledger], consumer.records()).assert_clean()
    }
}
