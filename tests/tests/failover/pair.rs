//! What every test of failover stands on: a primary, its standby, and a relay that knows both.

use std::{collections::BTreeSet, env, path::PathBuf};

use uuid::Uuid;
use walpost_tests::{
    Binaries, Consumer, Database, Kafka, Ledger, Lsn, Postgres, Proxy, Record, Running, Walpost,
    Writer, check, try_wait_until,
};

use crate::SOON;

/// Two servers with one outbox, and a relay's configuration for both.
pub(crate) struct Pair {
    pub(crate) primary: Postgres,
    pub(crate) standby: Postgres,
    /// The way from the standby to its primary.
    pub(crate) way: Proxy,
    /// The name of the standby's slot and session.
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) slot: String,
    pub(crate) walpost: Walpost,
    database: String,
}

impl Pair {
    /// A pair whose relay's slot is one that a standby copies. None where there is no server that
    /// can do that.
    pub(crate) fn synchronised(hint: &str) -> Option<Self> {
        let binaries = match env::var_os("WALPOST_TEST_FAILOVER_PG_BIN") {
            Some(dir) => Some(Binaries::in_dir(PathBuf::from(dir))),
            None => Binaries::major(18),
        };
        Some(Self::new(hint, binaries?, true))
    }

    /// A pair whose standby knows nothing of the relay's slot.
    pub(crate) fn unsynchronised(hint: &str, binaries: Binaries) -> Self {
        Self::new(hint, binaries, false)
    }

    fn new(hint: &str, binaries: Binaries, synchronises: bool) -> Self {
        let primary = Postgres::builder().binaries(binaries).start();
        let way = Proxy::new(&format!("127.0.0.1:{}", primary.port()));
        let builder = primary.standby().through(way.port());
        let builder = if synchronises {
            builder.synchronises_slots()
        } else {
            builder
        };
        let name = builder.name().to_owned();
        let standby = builder.start();
        let (database, slot) = {
            let database = primary.database(hint);
            (database.name().to_owned(), database.slot_name())
        };
        let url = url(&[&primary, &standby], &database);
        let walpost = Walpost::minimal(&url, &Kafka::shared().brokers(), &slot);
        let mut args = vec!["init", "--apply"];
        args.extend(synchronises.then_some("--failover"));
        let finished = walpost.finish(&args, SOON);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        Self {
            primary,
            standby,
            way,
            name,
            topic: Kafka::shared().topic(hint, 4),
            slot,
            walpost,
            database,
        }
    }

    /// The outbox's database on the first primary.
    pub(crate) fn old(&self) -> Database<'_> {
        self.primary.database_named(&self.database)
    }

    /// The outbox's database on the standby, which is the new primary some day.
    pub(crate) fn new_one(&self) -> Database<'_> {
        self.standby.database_named(&self.database)
    }

    /// Writes to whichever of the two takes it: about 300 events a second.
    pub(crate) fn writer(&self) -> Writer {
        let both = url(&[&self.primary, &self.standby], &self.database);
        self.writer_to(&both)
    }

    /// Writes to one of the two.
    pub(crate) fn writer_of(&self, server: &Postgres) -> Writer {
        self.writer_to(&server.url(&self.database))
    }

    fn writer_to(&self, url: &str) -> Writer {
        Writer::new(&self.old(), &self.topic)
            .url(url)
            .aggregates(20)
            .rollbacks(0.02)
            .rows_between(1, 5)
            .rate(100.0)
    }

    /// The relay with one server instead of both.
    pub(crate) fn walpost_of(&self, server: &Postgres) -> Walpost {
        let url = server.url(&self.database);
        Walpost::minimal(&url, &Kafka::shared().brokers(), &self.slot)
    }

    pub(crate) fn run(&self) -> Running {
        self.walpost.start(&["run"])
    }

    pub(crate) fn consumer(&self) -> Consumer {
        Consumer::new(&Kafka::shared().brokers(), &self.topic)
    }

    /// Waits until the standby has copied the relay's slot, with all that is committed now.
    pub(crate) fn wait_until_synchronised(&self) {
        let old = self.old();
        let end = old.current_lsn();
        old.wait_until_confirmed(&self.slot, end, SOON);
        // What the primary logs of its running transactions, every 15 s, makes a copied slot last.
        let standby = self.new_one();
        let synchronised = try_wait_until(SOON, || {
            // The relay confirms a quiet outbox's WAL by the mebibyte: this writes some.
            old.execute("select pg_log_standby_snapshot()");
            old.wait_until_confirmed(&self.slot, old.current_lsn(), SOON);
            standby.is_synchronised(&self.slot, end).then_some(())
        });
        assert!(synchronised.is_some(), "no copy of the slot {}", self.slot);
    }

    /// What the new primary has of a ledger of the old one, and what it has not. A standby that is
    /// not promoted yet may not have replayed all that it has.
    pub(crate) fn split(&self, ledger: Ledger) -> (Ledger, BTreeSet<Uuid>) {
        let rows = self.new_one().client().query("select id from outbox", &[]);
        let kept: BTreeSet<Uuid> = rows
            .expect("read the outbox")
            .iter()
            .map(|row| row.get(0))
            .collect();
        let lost = ledger.committed.iter().map(|event| event.id);
        let lost = lost.filter(|id| !kept.contains(id)).collect();
        let mut ledger = ledger;
        ledger.committed.retain(|event| kept.contains(&event.id));
        (ledger, lost)
    }

    /// Waits until everything has arrived and is confirmed, stops the relay in order, and reads the
    /// topic.
    pub(crate) fn end(&self, running: Running, ledgers: &[&Ledger]) -> Vec<Record> {
        let mut consumer = self.consumer();
        for ledger in ledgers {
            consumer.wait_for_events(ledger, SOON);
        }
        let database = self.new_one();
        let end = database.current_lsn();
        database.wait_until_confirmed(&self.slot, end, SOON);
        self.walpost.stop_in_order(running, &mut consumer, SOON);
        consumer.into_records()
    }
}

/// One URL for several servers, of which the one that can be written to will do.
fn url(servers: &[&Postgres], database: &str) -> String {
    let places: Vec<_> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port()))
        .collect();
    let places = places.join(",");
    format!("postgresql://postgres@{places}/{database}?target_session_attrs=read-write")
}

/// Checks that nothing is lost, that the order holds, that nothing but `phantoms` is made up, and
/// that no event came again that lies before `floor`, where the last session began. Returns the
/// number of repeats.
pub(crate) fn check_all(
    ledgers: &[&Ledger],
    phantoms: &BTreeSet<Uuid>,
    records: &[Record],
    floor: Lsn,
) -> usize {
    let known: Vec<Record> = records
        .iter()
        .filter(|record| record.event_id().is_none_or(|id| !phantoms.contains(&id)))
        .cloned()
        .collect();
    let repeats = check(ledgers, &known).assert_clean();
    let mut seen = BTreeSet::new();
    let mut behind = 0;
    for record in &known {
        if !seen.insert(record.event_id()) {
            assert!(record.commit_lsn() >= floor, "a repeat from before {floor}");
            behind += 1;
        }
    }
    assert_eq!(repeats, behind);
    repeats
}

/// Where the last session began, by the log.
pub(crate) fn last_start(log: &str) -> Lsn {
    let line = log.lines().rfind(|line| line.contains("\"streaming\""));
    field(line.expect("a session"), "start_lsn")
        .parse()
        .expect("an LSN")
}

/// The ids that the log names as those of events that the new primary has never had.
pub(crate) fn phantoms(log: &str) -> BTreeSet<Uuid> {
    let lines = log.lines().filter(|line| line.contains("\"phantoms\""));
    let ids = lines.map(|line| field(line, "ids"));
    let ids = ids.flat_map(|ids| ids.split(' ').map(str::to_owned).collect::<Vec<_>>());
    ids.map(|id| id.parse().expect("a UUID")).collect()
}

/// A field of a line of the log.
pub(crate) fn field(line: &str, name: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
    let found = line.get(name).or_else(|| line.get("fields")?.get(name));
    let found = found.unwrap_or_else(|| panic!("no {name} in {line}"));
    found
        .as_str()
        .map_or_else(|| found.to_string(), str::to_owned)
}
