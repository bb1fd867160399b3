//! The servers of a run, the ways between them, the relay and the load.

use std::{
    fmt::Write,
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use postgres::{Client, NoTls};
use walpost_tests::{
    Binaries, Database, Held, Kafka, Postgres, Proxy, Running, RunningWriter, Stop, Walpost,
    Writer, wait_until,
};
use walpost_witness::{Ledger, Sampler, Topics, Witness};

use crate::{
    SOON,
    plan::{Fault, Plan, Way},
    repeats::millis,
    timeline::Timeline,
};

pub(crate) struct Arena<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) timeline: &'a Timeline,
    pub(crate) postgres: &'a Postgres,
    pub(crate) brokers: &'a [Kafka],
    pub(crate) database: Database<'a>,
    pub(crate) topic: String,
    pub(crate) slot: String,
    pub(crate) walpost: Walpost,
    pub(crate) partitions: AtomicU32,
    /// The life that goes on; none between two lives.
    relay: Mutex<Option<Running>>,
    /// What the lives that are over logged.
    logs: Mutex<Vec<String>>,
    is_expected_to_run: AtomicBool,
    /// The largest resident set of any life, in bytes.
    peak: AtomicU64,
    threads: AtomicUsize,
    descriptors: AtomicUsize,
    /// Faults that did not come about.
    missed: AtomicUsize,
    blows: Mutex<Vec<Dealt>>,
    to_postgres: Proxy,
    to_brokers: Vec<Proxy>,
    of_writers: Proxy,
}

/// A fault that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dealt {
    pub(crate) fault: Fault,
    /// In milliseconds since 1970.
    pub(crate) began_ms: i64,
    pub(crate) ended_ms: i64,
}

/// One server of each kind, or three brokers, started side by side.
pub(crate) fn servers(plan: &Plan) -> (Postgres, Vec<Kafka>) {
    thread::scope(|scope| {
        let postgres = scope.spawn(|| {
            let binaries = Binaries::major(plan.postgres).unwrap_or_else(Binaries::newest);
            Postgres::builder()
                .binaries(binaries)
                .setting("max_prepared_transactions", "10")
                .setting("log_replication_commands", "on")
                .setting("log_timezone", "UTC")
                .start()
        });
        let replicas = if plan.brokers == 1 { "1" } else { "3" };
        let builder = || Kafka::builder().property("default.replication.factor", replicas);
        let first = builder().start();
        let mut brokers = vec![first];
        if plan.brokers > 1 {
            let joined: Vec<Kafka> = thread::scope(|scope| {
                let first = &brokers[0];
                let joining: Vec<_> = [2, 3]
                    .map(|node| scope.spawn(move || builder().join(first, node)))
                    .into();
                let joined = joining.into_iter().map(|one| one.join());
                joined.map(|one| one.expect("a broker starts")).collect()
            });
            brokers.extend(joined);
        }
        (postgres.join().expect("Postgres starts"), brokers)
    })
}

impl<'a> Arena<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        timeline: &'a Timeline,
        postgres: &'a Postgres,
        brokers: &'a [Kafka],
    ) -> Self {
        let database = postgres.database("chaos");
        let partitions = usize::try_from(plan.partitions).expect("it is positive");
        let topic = if brokers.len() == 1 {
            brokers[0].topic("chaos", plan.partitions)
        } else {
            let replicas = [[1, 2, 3], [2, 3, 1], [3, 1, 2]];
            let replicas: Vec<&[i32]> = (0..partitions).map(|i| &replicas[i % 3][..]).collect();
            brokers[0].replicated_topic("chaos", &replicas, &[("min.insync.replicas", "2")])
        };
        let to_postgres = Proxy::new(&format!("127.0.0.1:{}", postgres.port()));
        let of_writers = Proxy::new(&format!("127.0.0.1:{}", postgres.port()));
        let to_brokers: Vec<Proxy> = brokers.iter().map(Kafka::proxy).collect();
        let slot = database.slot_name();
        let walpost = configure(plan, &database, &slot, &to_postgres, &to_brokers);
        walpost.init();
        let arena = Self {
            plan,
            timeline,
            postgres,
            brokers,
            database,
            topic,
            slot,
            walpost,
            partitions: AtomicU32::new(plan.partitions.cast_unsigned()),
            relay: Mutex::default(),
            logs: Mutex::default(),
            is_expected_to_run: AtomicBool::new(false),
            peak: AtomicU64::new(0),
            threads: AtomicUsize::new(0),
            descriptors: AtomicUsize::new(0),
            missed: AtomicUsize::new(0),
            blows: Mutex::default(),
            to_postgres,
            to_brokers,
            of_writers,
        };
        arena.database.execute(
            "create table public.ledger (
                 id uuid primary key, aggregate text not null, version bigint not null);
             create table public.aggregate (name text primary key, version bigint not null);
             create table public.unrelated (id bigint)",
        );
        for index in 0..AGGREGATES {
            let name = Writer::shared_aggregate(index);
            arena.database.execute(&format!(
                "insert into public.aggregate values ('{name}', 0)"
            ));
        }
        arena.witness().begin().expect("make the witness slot");
        arena
    }

    pub(crate) fn witness(&self) -> Witness {
        Witness::new(&self.database.url(), "witness")
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(&self.database.url(), "public.ledger")
    }

    /// As the checker reaches them: not through the proxies.
    pub(crate) fn topics(&self) -> Topics {
        let brokers: Vec<String> = self.brokers.iter().map(Kafka::brokers).collect();
        Topics::new(&brokers.join(","), std::slice::from_ref(&self.topic), &[])
    }

    /// Looks at the relay's slot and the topic.
    pub(crate) fn sampler(&self) -> Sampler {
        Sampler::new(&self.database.url(), &self.slot, self.topics())
    }

    /// The load of the whole run.
    pub(crate) fn start_writers(&self) -> Vec<RunningWriter> {
        let url = self.database.url_through(self.of_writers.port());
        let writer = |seed: u64| {
            Writer::new(&self.database, &self.topic)
                .url(&url)
                .ledger("public.ledger")
                .shared_aggregates("public.aggregate")
                .seed(self.plan.seed * 10 + seed)
                .aggregates(AGGREGATES)
        };
        let writers = [
            writer(1).rows_between(1, 8).rate(35.0).rollbacks(0.05),
            writer(2)
                .rows_between(1, 4)
                .rate(25.0)
                .savepoints(true)
                .headers(r#"{"tenant": "a'b", "zone": 3, "a": null, "flag": true}"#),
            writer(3).rows_between(1, 2).rate(10.0).payload_bytes(6000),
        ];
        writers.iter().map(Writer::start).collect()
    }

    /// The load of one large transaction.
    pub(crate) fn large_transaction(&self, rows: usize) -> Writer {
        Writer::new(&self.database, &self.topic)
            .ledger("public.ledger")
            .shared_aggregates("public.aggregate")
            .seed(self.plan.seed)
            .aggregates(AGGREGATES)
            .rows(rows)
            .transactions(1)
    }

    pub(crate) fn way(&self, way: Way) -> &Proxy {
        match way {
            Way::Postgres => &self.to_postgres,
            Way::Broker(one) => &self.to_brokers[one],
            Way::Writers => &self.of_writers,
        }
    }

    pub(crate) fn start_relay(&self) {
        let mut relay = self.relay();
        if relay.is_none() {
            self.timeline.note("chaos", "the relay is started");
            *relay = Some(self.walpost.start(&["run"]));
            self.is_expected_to_run.store(true, Ordering::Relaxed);
        }
    }

    /// Does something to the relay; nothing when it has ended.
    pub(crate) fn with_relay(&self, act: impl FnOnce(&Running)) {
        if let Some(relay) = self.relay().as_ref() {
            act(relay);
        }
    }

    /// Looks how much memory the relay has taken, unless its life ends at this moment.
    pub(crate) fn note_peak(&self) {
        if let Ok(relay) = self.relay.try_lock()
            && let Some(running) = relay.as_ref()
        {
            self.note_peak_of(running);
        }
    }

    fn note_peak_of(&self, running: &Running) {
        let peak = running.rss_peak_if_running().unwrap_or(0);
        self.peak.fetch_max(peak, Ordering::Relaxed);
        let held = running.held().unwrap_or_default();
        self.threads.fetch_max(held.threads, Ordering::Relaxed);
        self.descriptors
            .fetch_max(held.descriptors, Ordering::Relaxed);
    }

    /// The most threads and descriptors that any life had, as it was last looked at.
    pub(crate) fn held(&self) -> Held {
        Held {
            threads: self.threads.load(Ordering::Relaxed),
            descriptors: self.descriptors.load(Ordering::Relaxed),
        }
    }

    /// The largest resident set of any life, in bytes, as it was last looked at.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Ends a life of the relay: what it logged is kept.
    pub(crate) fn end_relay(&self, end: impl FnOnce(Running) -> walpost_tests::Finished) -> i32 {
        let mut relay = self.relay();
        let Some(running) = relay.take() else {
            return 0;
        };
        self.is_expected_to_run.store(false, Ordering::Relaxed);
        self.note_peak_of(&running);
        let finished = end(running);
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(finished.stderr);
        finished.code
    }

    /// The code of a relay that ended by itself.
    pub(crate) fn ended_by_itself(&self) -> Option<i32> {
        let has_ended = {
            let relay = self.relay();
            let running = relay.as_ref()?;
            self.is_expected_to_run.load(Ordering::Relaxed) && !running.is_running()
        };
        has_ended.then(|| self.end_relay(|running| running.finish(SOON)))
    }

    /// The logs of all lives until now.
    pub(crate) fn relay_logs(&self) -> Vec<String> {
        let mut logs = self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        logs.extend(self.relay().as_ref().map(Running::log));
        logs
    }

    /// Deals a fault out, and notes from when to when.
    pub(crate) fn dealt<T>(&self, fault: Fault, strike: impl FnOnce() -> T) -> T {
        let now = || millis(SystemTime::now()).expect("it is after 1970");
        let began_ms = now();
        self.timeline.note("chaos", format!("{fault:?} begins"));
        let struck = strike();
        self.timeline.note("chaos", format!("{fault:?} ends"));
        let mut blows = self.blows.lock().unwrap_or_else(PoisonError::into_inner);
        blows.push(Dealt {
            fault,
            began_ms,
            ended_ms: now(),
        });
        struck
    }

    /// The faults until now.
    pub(crate) fn blows(&self) -> Vec<Dealt> {
        self.blows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A fault of the plan did not come about.
    pub(crate) fn missed(&self, what: &str) {
        self.timeline.note("chaos", what);
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many faults there were.
    pub(crate) fn struck(&self) -> usize {
        self.plan.blows.len() - self.missed.load(Ordering::Relaxed)
    }

    /// Ends every fault and starts everything that is down.
    pub(crate) fn heal(&self) {
        for way in [&self.to_postgres, &self.of_writers]
            .into_iter()
            .chain(&self.to_brokers)
        {
            way.resume();
        }
        if self.postgres.is_running() {
            self.postgres.resume();
        } else {
            self.postgres.start();
        }
        for broker in self.brokers {
            broker.resume();
            self.start_broker(broker);
        }
        wait_until(BROKERS_DEADLINE, "the brokers answer", || {
            self.brokers.iter().all(Kafka::answers).then_some(())
        });
        self.with_relay(Running::resume);
        self.start_relay();
    }

    /// A session past the proxies; none, after a rest, while Postgres takes none: a server that is
    /// about to stop must not be kept busy with refusals.
    pub(crate) fn session(&self) -> Option<Client> {
        let session = Client::connect(&self.database.url(), NoTls);
        if session.is_err() {
            thread::sleep(Duration::from_millis(200));
        }
        session.ok()
    }

    /// Waits until Postgres takes sessions.
    pub(crate) fn wait_for_postgres(&self) {
        wait_until(SOON, "Postgres takes sessions", || self.session());
    }

    /// Ends a second relay in order, wherever it is.
    pub(crate) fn end_standby(&self, standby: Running) {
        self.note_peak_of(&standby);
        let finished = standby.stop(SOON);
        assert_eq!(finished.code, 0, "the second relay: {}", finished.stderr);
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(finished.stderr);
    }

    /// Starts a broker that is down. It is not waited for: what it needs may be down too.
    pub(crate) fn start_broker(&self, broker: &Kafka) {
        if !broker.is_running() {
            broker.start_process();
        }
    }

    /// Stops Postgres and starts it again after a rest.
    pub(crate) fn restart_postgres(&self, how: Option<Stop>, rest: Duration) {
        match how {
            Some(how) => self.postgres.stop(how),
            None => self.postgres.kill(),
        }
        thread::sleep(rest);
        self.postgres.start();
    }

    fn relay(&self) -> MutexGuard<'_, Option<Running>> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All writers share them.
const AGGREGATES: usize = 20;

/// Three of them, after everything, on a machine that is busy.
const BROKERS_DEADLINE: Duration = Duration::from_secs(180);

fn configure(
    plan: &Plan,
    database: &Database<'_>,
    slot: &str,
    to_postgres: &Proxy,
    to_brokers: &[Proxy],
) -> Walpost {
    let brokers: Vec<String> = to_brokers.iter().map(Proxy::address).collect();
    let mut yaml = String::new();
    write!(
        yaml,
        "postgres:\n  url: \"{}\"\n  slot: {slot}\n  publication: {slot}\n\
         kafka:\n  brokers: \"{}\"\n\
         delivery:\n  in_flight_events: {}\n",
        database.url_through(to_postgres.port()),
        brokers.join(","),
        plan.window
    )
    .expect("a String takes everything");
    let walpost = Walpost::new(&yaml);
    let Some(memory) = plan.memory else {
        return walpost;
    };
    let plain = walpost.command(&[]).get_program().to_owned();
    let limited = walpost.dir().join("limited");
    let script = format!(
        "#!/bin/sh\nulimit -v {memory}\nexec '{}' \"$@\"\n",
        plain.display()
    );
    fs::write(&limited, script).expect("write a script");
    fs::set_permissions(&limited, fs::Permissions::from_mode(0o755)).expect("make it executable");
    walpost.program(&limited)
}
