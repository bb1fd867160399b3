//! What every test of faults stands on: both servers, a relay of its own, and the load.

use std::{
    mem,
    sync::{Condvar, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use walpost_tests::{
    Consumer, Database, Kafka, Ledger, Lsn, Postgres, Record, Report, Running, Walpost, Writer,
    check, wait_until,
};

use crate::{SOON, scaled};

/// The turn of one test with a pair of servers. They run when it begins.
pub(crate) struct Rig {
    pub(crate) postgres: &'static Postgres,
    pub(crate) kafka: &'static Kafka,
    _turn: Turn,
}

/// The numbers of the pairs that no other test has: one, or all of them.
pub(crate) struct Turn(Vec<usize>);

/// Servers that one test at a time stops and starts as it likes.
struct Pair {
    postgres: OnceLock<Postgres>,
    kafka: OnceLock<Kafka>,
}

static PAIRS: [Pair; 2] = [const { Pair::new() }; 2];

/// None: nobody has asked yet.
static TURNS: Mutex<Option<Turns>> = Mutex::new(None);
static RETURNED: Condvar = Condvar::new();

/// Who may begin.
struct Turns {
    /// How many pairs there are. At full scale it is one: what is measured is measured alone.
    pairs: usize,
    /// Those that no test has.
    free: Vec<usize>,
    /// How many tests wait for all of them. While one does, nobody else begins.
    waiting_for_all: usize,
}

impl Pair {
    const fn new() -> Self {
        Self {
            postgres: OnceLock::new(),
            kafka: OnceLock::new(),
        }
    }
}

/// Its processes die, and the machine lives on: what they wrote is there, flushed or not. How long
/// it takes to stop then says nothing about the disk.
fn server() -> Postgres {
    Postgres::builder().fsync(false).start()
}

impl Turns {
    fn new() -> Self {
        let pairs = scaled(PAIRS.len(), 1);
        Self {
            pairs,
            free: (0..pairs).collect(),
            waiting_for_all: 0,
        }
    }

    /// Waits until `choose` finds pairs.
    fn wait_for(choose: impl Fn(&mut Self) -> Option<Vec<usize>>) -> Turn {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(pairs) = choose(turns.get_or_insert_with(Self::new)) {
                return Turn(pairs);
            }
            turns = RETURNED.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Turn {
    /// The turn with one pair, beside which others have theirs.
    fn take() -> Self {
        Turns::wait_for(|turns| {
            let pair = turns.free.pop_if(|_| turns.waiting_for_all == 0)?;
            Some(vec![pair])
        })
    }

    /// The turn of a test beside which nothing else runs.
    pub(crate) fn take_alone() -> Self {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        turns.get_or_insert_with(Turns::new).waiting_for_all += 1;
        drop(turns);
        Turns::wait_for(|turns| {
            let is_alone = turns.free.len() == turns.pairs;
            is_alone.then(|| {
                turns.waiting_for_all -= 1;
                mem::take(&mut turns.free)
            })
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = turns.get_or_insert_with(Turns::new);
        turns.free.append(&mut self.0);
        RETURNED.notify_all();
    }
}

impl Rig {
    /// Waits for the turn.
    pub(crate) fn take() -> Self {
        Self::with(Turn::take())
    }

    /// Waits for a turn beside which no other test runs: for those that assert how long something
    /// takes.
    pub(crate) fn take_alone() -> Self {
        Self::with(Turn::take_alone())
    }

    fn with(turn: Turn) -> Self {
        let pair = &PAIRS[turn.0[0]];
        let postgres = pair.postgres.get_or_init(server);
        let kafka = pair.kafka.get_or_init(Kafka::new);
        // A test that failed may have left them in any state.
        if postgres.is_running() {
            postgres.resume();
        } else {
            postgres.start();
        }
        if kafka.is_running() {
            kafka.resume();
        } else {
            kafka.start();
        }
        Self {
            postgres,
            kafka,
            _turn: turn,
        }
    }

    /// A database with an outbox, a slot and a topic, and the relay's configuration for them.
    pub(crate) fn relay(&self, hint: &str) -> Relay {
        self.relay_through(hint, self.postgres.port())
    }

    /// As [`Rig::relay`], for a relay that reaches Postgres through another port.
    pub(crate) fn relay_through(&self, hint: &str, port: u16) -> Relay {
        let database = self.postgres.database(hint);
        let topic = self.kafka.topic(hint, PARTITIONS);
        let slot = database.slot_name();
        let url = database.url_through(port);
        let walpost = Walpost::minimal(&url, &self.kafka.brokers(), &slot);
        walpost.init();
        Relay {
            database,
            brokers: self.kafka.brokers(),
            topic,
            slot,
            walpost,
        }
    }
}

/// A database, a topic and a configuration that belong together.
pub(crate) struct Relay {
    pub(crate) database: Database<'static>,
    pub(crate) topic: String,
    pub(crate) slot: String,
    pub(crate) walpost: Walpost,
    brokers: String,
}

impl Relay {
    /// The load: about 300 events a second, at full scale about 6000.
    pub(crate) fn writer(&self) -> Writer {
        let (rows, rate) = scaled(((1, 5), 100.0), ((1, 49), 240.0));
        Writer::new(&self.database, &self.topic)
            .aggregates(20)
            .rollbacks(0.02)
            .rows_between(rows.0, rows.1)
            .rate(rate)
    }

    /// A reader of the topic as it is now.
    pub(crate) fn consumer(&self) -> Consumer {
        Consumer::new(&self.brokers, &self.topic)
    }

    pub(crate) fn run(&self) -> Running {
        self.walpost.start(&["run"])
    }

    /// Waits until the server has sent the relay everything that is committed now.
    pub(crate) fn wait_until_sent(&self) {
        let end = self.database.current_lsn();
        let mut client = self.database.client();
        let sent = "select max(sent_lsn) from pg_stat_replication where application_name = $1";
        let name = format!("walpost {}", self.slot);
        wait_until(SOON, "the relay was sent everything", || {
            let row = client.query_one(sent, &[&name]).ok()?;
            row.get::<_, Option<Lsn>>(0)
                .filter(|sent| *sent >= end)
                .map(drop)
        });
    }

    /// Waits until what is committed now is confirmed: from here on the relay keeps up with the
    /// load.
    pub(crate) fn wait_until_steady(&self) {
        let end = self.database.current_lsn();
        self.database.wait_until_confirmed(&self.slot, end, SOON);
    }

    /// Waits until everything has arrived, stops the relay in order and reads the topic.
    pub(crate) fn end(&self, running: Running, ledger: &Ledger) -> Vec<Record> {
        let mut consumer = self.consumer();
        consumer.wait_for_events(ledger, SOON);
        self.wait_until_steady();
        self.walpost.stop_in_order(running, &mut consumer, SOON);
        consumer.into_records()
    }

    /// As [`Relay::end`], and checks everything. Returns the number of repeats.
    pub(crate) fn finish(&self, running: Running, ledger: &Ledger) -> usize {
        assert!(!ledger.committed.is_empty(), "there was no load");
        check(&[ledger], &self.end(running, ledger)).assert_clean()
    }
}

/// The report without what a change of the partition count does to an aggregate: it moves.
pub(crate) fn of_partitions(mut report: Report) -> Report {
    report
        .disorder
        .retain(|violation| violation.starts_with("partition "));
    report
}

/// Long enough for the slowest way back: the longest wait between two sessions is 30 s.
pub(crate) const BACK: Duration = Duration::from_secs(60);

pub(crate) const PARTITIONS: i32 = 4;
