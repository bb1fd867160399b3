//! What the relay costs: memory, CPU, the WAL that its slot holds, and the walsender's time.
//!
//! The tests run one after the other, because they measure. With `WALPOST_TEST_SCALE=full` they
//! have the sizes that the documentation speaks of. Every test prints a line of figures
//! (`--nocapture` shows it).

#![allow(
    clippy::print_stdout,
    reason = "figures are what a run at full scale is for"
)]

use std::{
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use walpost_tests::{
    Consumer, Database, Kafka, Lsn, Postgres, Proxy, Running, Walpost, Writer, scaled, wait_until,
};

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(120);

const MEBIBYTE: u64 = 1 << 20;

#[test]
fn a_quiet_outbox_does_not_hold_the_wal_of_other_tables() {
    const LAG_MAX: u64 = 16 * MEBIBYTE;
    const FOLLOWS_WITHIN: Duration = Duration::from_secs(10);
    let rig = Rig::new("foreign", 1);
    rig.database.execute("create table other (filler text)");
    let running = rig.run();
    rig.one_event();
    let begin = rig.database.current_lsn();
    let wanted = scaled(30, 200) * MEBIBYTE;
    let mut client = rig.database.client();
    // Where the WAL was at what moment, until the slot has come so far.
    let mut waiting: Vec<(Instant, Lsn)> = Vec::new();
    let (mut longest, mut lag_max) = (Duration::ZERO, 0);
    let mut done = None;
    loop {
        if done.is_none() {
            client.batch_execute(FOREIGN_MEBIBYTE).expect("other rows");
        }
        let end = rig.database.current_lsn();
        waiting.push((Instant::now(), end));
        let confirmed = rig.confirmed();
        lag_max = lag_max.max(distance(confirmed, end));
        waiting.retain(|(at, lsn)| {
            let follows = *lsn <= confirmed;
            if follows {
                longest = longest.max(at.elapsed());
            }
            !follows
        });
        let late = waiting
            .first()
            .is_some_and(|(at, _)| at.elapsed() > FOLLOWS_WITHIN);
        assert!(!late, "the slot stands at {confirmed}, the WAL at {end}");
        if done.is_none() && distance(begin, end) >= wanted {
            done = Some(Instant::now());
        }
        let small = distance(confirmed, end) < LAG_MAX;
        if let Some(done) = done
            && small
        {
            let after = done.elapsed();
            println!(
                "quiet outbox: {} MiB of other WAL, a position was confirmed after at most \
                 {longest:.2?}, lag at most {} MiB, at the end {} MiB within {after:.2?}",
                distance(begin, end) / MEBIBYTE,
                lag_max / MEBIBYTE,
                distance(confirmed, end) / MEBIBYTE,
            );
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(running.stop(SOON).code, 0);
}

#[test]
fn an_idle_relay_costs_next_to_no_cpu() {
    const SHARE_MAX: f64 = 0.02;
    let rig = Rig::new("idle", 1);
    let running = rig.run();
    rig.one_event();
    let idle = Duration::from_secs(scaled(5, 30));
    let before = running.cpu_time();
    thread::sleep(idle);
    let share = (running.cpu_time() - before).as_secs_f64() / idle.as_secs_f64();
    println!("idle: {:.2} % of a core over {idle:?}", share * 100.0);
    assert!(share < SHARE_MAX, "{:.2} % of a core", share * 100.0);
    assert_eq!(running.stop(SOON).code, 0);
}

#[test]
fn the_memory_of_the_relay_does_not_grow_with_a_transaction() {
    const RSS_PEAK_MAX: u64 = 200 * MEBIBYTE;
    let rows = scaled(100_000, 1_000_000);
    let rig = Rig::new("large", 4);
    let running = rig.run();
    rig.one_event();
    let begun = Instant::now();
    rig.insert_numbered(0, rows);
    let committed = begun.elapsed();
    let mut counter = Counter::new(&rig, rows);
    counter.read(SOON);
    let arrived = begun.elapsed() - committed;
    let rss = running.rss_peak_bytes();
    println!(
        "one transaction: {rows} rows, committed in {committed:.1?}, arrived {arrived:.1?} after \
         that, peak {} MiB, {}",
        rss / MEBIBYTE,
        counter.figures()
    );
    assert!(rss < RSS_PEAK_MAX, "{} MiB resident", rss / MEBIBYTE);
    assert_eq!(counter.repeated, 0);
    assert_eq!(running.stop(SOON).code, 0);
}

#[test]
fn once_with_nothing_to_do_ends_at_once() {
    let rig = Rig::new("nothing", 1);
    let begun = Instant::now();
    let finished = rig.walpost.finish(&["run", "--once"], SOON);
    println!("--once, nothing to do: {:.2?}", begun.elapsed());
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}

#[test]
fn once_delivers_a_backlog_of_small_and_large_transactions() {
    let half = scaled(10_000, 150_000);
    let rig = Rig::new("backlog", 4);
    rig.database.execute(&format!(
        "do $$ begin for n in 0..{half} - 1 loop
             insert into public.outbox (destination, aggregate_type, aggregate_id, payload)
             values ('{}', 'thing', n % 100, jsonb_build_object('n', n));
             commit;
         end loop; end $$",
        rig.topic
    ));
    for first in (half..2 * half).step_by(1000) {
        rig.insert_numbered(first, 1000);
    }
    let begun = Instant::now();
    let running = rig.walpost.start(&["run", "--once"]);
    let finished = running.finish(SOON);
    let took = begun.elapsed();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let mut counter = Counter::new(&rig, 2 * half);
    counter.read(SOON);
    println!(
        "--once, backlog of {} events: {took:.2?}, {:.0}/s, {}",
        2 * half,
        f64::from(u32::try_from(2 * half).expect("a small number")) / took.as_secs_f64(),
        counter.figures()
    );
    assert_eq!(counter.repeated, 0);
}

#[test]
fn the_walsender_is_not_kept_busy_while_kafka_is_dead() {
    let share_max = scaled(0.05, 0.01);
    let rig = Rig::new("busy", 1);
    rig.database.execute("create table other (filler text)");
    let running = rig.run();
    rig.one_event();
    rig.kafka.pause();
    let held = Writer::new(&rig.database, &rig.topic)
        .transactions(1)
        .run(SOON);
    let foreign = Foreign::start(&rig.database);
    foreign.wait_for_transactions();
    let slot = rig.database.slot(&rig.slot).expect("the slot");
    let walsender = slot.active_pid.expect("a walsender");
    let seconds = scaled(5, 15);
    let before = (cpu_time(walsender), running.cpu_time());
    thread::sleep(Duration::from_secs(seconds));
    let after = (cpu_time(walsender), running.cpu_time());
    let transactions = foreign.stop();
    rig.kafka.resume();
    let share = |from: Duration, to: Duration| (to - from).as_secs_f64() / seconds as f64;
    let (walsender, relay) = (share(before.0, after.0), share(before.1, after.1));
    println!(
        "Kafka dead, {transactions} other transactions in about {seconds} s: walsender {:.1} %, \
         relay {:.1} % of a core",
        walsender * 100.0,
        relay * 100.0
    );
    assert!(
        walsender < share_max,
        "{:.1} % of a core",
        walsender * 100.0
    );
    Consumer::new(&rig.kafka.brokers(), &rig.topic).wait_for_events(&held, SOON);
    assert_eq!(running.stop(SOON).code, 0);
}

#[test]
fn a_long_decode_of_other_tables_is_not_taken_for_a_dead_server() {
    let rows = scaled(200_000, 16_000_000);
    let rig = Rig::new("long_decode", 1);
    rig.database.execute("create table other (number bigint)");
    let running = rig.run();
    rig.one_event();
    rig.database.execute(&format!(
        "insert into other select generate_series(1, {rows})"
    ));
    let committed = Instant::now();
    rig.insert_numbered(0, 1);
    let mut counter = Counter::new(&rig, 1);
    counter.read(Duration::from_secs(300));
    let log = running.log();
    println!(
        "{rows} rows of another table in one transaction: the event behind it after {:.1?}",
        committed.elapsed()
    );
    assert!(!log.contains("the session ended"), "{log}");
    assert_eq!(log.matches("\"streaming\"").count(), 1, "{log}");
    assert_eq!(running.stop(SOON).code, 0);
}

#[test]
fn connections_that_break_again_and_again_leave_no_thread_and_no_descriptor_behind() {
    // The relay waits longer from one to the next.
    let rounds = scaled(6, 20);
    let rig = Rig::new("breaks", 1);
    let to_postgres = Proxy::new(&format!("127.0.0.1:{}", rig.database.postgres().port()));
    let to_kafka = rig.kafka.proxy();
    let url = rig.database.url_through(to_postgres.port());
    let walpost = Walpost::minimal(&url, &to_kafka.address(), &rig.slot);
    let running = walpost.start(&["run"]);
    rig.one_event();
    let break_both = || {
        to_kafka.cut();
        to_postgres.cut();
        rig.one_event();
    };
    // What is only made when something breaks is there from now on.
    break_both();
    let before = running.held().expect("the relay runs");
    let accepted = (to_postgres.accepted(), to_kafka.accepted());
    (0..rounds).for_each(|_| break_both());
    let after = running.held().expect("the relay runs");
    println!("connections broken {rounds} times: {before:?} before, {after:?} after");
    // A connection more or less may be open at the moment.
    assert!(after.threads < before.threads + rounds);
    assert!(after.descriptors < before.descriptors + rounds);
    for (proxy, before) in [(&to_postgres, accepted.0), (&to_kafka, accepted.1)] {
        let further = usize::try_from(proxy.accepted() - before).expect("not so many");
        assert!(further >= rounds, "{further} new connections");
    }
    assert_eq!(running.stop(SOON).code, 0);
}

/// The turn of one test: a database, a topic and a configuration.
struct Rig {
    kafka: &'static Kafka,
    database: Database<'static>,
    topic: String,
    partitions: i32,
    slot: String,
    walpost: Walpost,
    _turn: MutexGuard<'static, ()>,
}

impl Rig {
    fn new(hint: &str, partitions: i32) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (postgres, kafka) = (Postgres::shared(), Kafka::shared());
        // A test that failed may have left it frozen.
        kafka.resume();
        let database = postgres.database(hint);
        // What is measured is not the disk.
        let name = database.name();
        database.execute(&format!(
            "alter database {name} set synchronous_commit = off"
        ));
        let topic = kafka.topic(hint, partitions);
        let slot = database.slot_name();
        let walpost = Walpost::minimal(&database.url(), &kafka.brokers(), &slot);
        walpost.init();
        Self {
            kafka,
            database,
            topic,
            partitions,
            slot,
            walpost,
            _turn: turn,
        }
    }

    fn run(&self) -> Running {
        self.walpost.start(&["run"])
    }

    /// Commits one event and waits until it is confirmed: the relay is at work.
    fn one_event(&self) {
        Writer::new(&self.database, &self.topic)
            .transactions(1)
            .run(SOON);
        let end = self.database.current_lsn();
        self.database.wait_until_confirmed(&self.slot, end, SOON);
    }

    fn confirmed(&self) -> Lsn {
        let slot = self.database.slot(&self.slot).expect("the slot");
        slot.confirmed
            .expect("a logical slot has confirmed something")
    }

    /// One transaction of `rows` events with the payload `{"n": NUMBER}`, made by the server.
    fn insert_numbered(&self, first: usize, rows: usize) {
        self.database.execute(&format!(
            "insert into public.outbox (destination, aggregate_type, aggregate_id, payload)
             select '{}', 'thing', n % 100, jsonb_build_object('n', n)
             from generate_series({first}, {first} + {rows} - 1) as n",
            self.topic
        ));
    }
}

/// Counts numbered events without keeping them: a million records are a gigabyte.
struct Counter {
    consumer: BaseConsumer,
    seen: Vec<bool>,
    /// The last number of each partition: it only grows, since nothing is sent again.
    last: Vec<Option<usize>>,
    missing: usize,
    repeated: usize,
    overtaken: usize,
}

impl Counter {
    fn new(rig: &Rig, numbers: usize) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", rig.kafka.brokers())
            .set("group.id", "unused")
            .set("enable.auto.commit", "false")
            .set("queued.max.messages.kbytes", "16384")
            .create()
            .expect("the configuration of the consumer is valid");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..rig.partitions {
            let added = assignment.add_partition_offset(&rig.topic, partition, Offset::Beginning);
            added.expect("the beginning is a valid offset");
        }
        consumer.assign(&assignment).expect("assign the partitions");
        let partitions = usize::try_from(rig.partitions).expect("a small number");
        Self {
            consumer,
            seen: vec![false; numbers],
            last: vec![None; partitions],
            missing: numbers,
            repeated: 0,
            overtaken: 0,
        }
    }

    /// Reads until every number has been seen.
    #[track_caller]
    fn read(&mut self, deadline: Duration) {
        let end = Instant::now() + deadline;
        while self.missing > 0 {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} are missing", self.missing);
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    let partition = usize::try_from(message.partition()).expect("not negative");
                    let number = message.payload().and_then(number);
                    drop(message);
                    if let Some(number) = number {
                        self.count(partition, number);
                    }
                }
                Some(Err(KafkaError::MessageConsumption(_))) | None => {}
                Some(Err(error)) => panic!("read the topic: {error}"),
            }
        }
        assert_eq!(self.overtaken, 0, "records out of order");
    }

    fn count(&mut self, partition: usize, number: usize) {
        if std::mem::replace(&mut self.seen[number], true) {
            self.repeated += 1;
        } else {
            self.missing -= 1;
        }
        let last = self.last[partition].replace(number);
        self.overtaken += usize::from(last.is_some_and(|last| last >= number));
    }

    fn figures(&self) -> String {
        format!("{} repeated", self.repeated)
    }
}

/// The number in `{"n": NUMBER}`; another writer's payload has none.
fn number(payload: &[u8]) -> Option<usize> {
    let payload: serde_json::Value = serde_json::from_slice(payload).ok()?;
    usize::try_from(payload.get("n")?.as_u64()?).ok()
}

/// Small transactions on a table that is not published.
struct Foreign {
    stop: Arc<AtomicBool>,
    transactions: Arc<std::sync::atomic::AtomicU64>,
    thread: JoinHandle<()>,
}

impl Foreign {
    fn start(database: &Database<'_>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let transactions = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let mut client = database.client();
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&transactions));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                client
                    .batch_execute("insert into other values ('x')")
                    .expect("other rows");
                counted.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(4));
            }
        });
        Self {
            stop,
            transactions,
            thread,
        }
    }

    fn wait_for_transactions(&self) {
        wait_until(SOON, "other transactions", || {
            (self.transactions.load(Ordering::Relaxed) > 100).then_some(())
        });
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the other writer");
        self.transactions.load(Ordering::Relaxed)
    }
}

/// CPU time of a process of the server until now, in steps of 10 ms.
fn cpu_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the walsender runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a line of /proc/PID/stat");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number of ticks");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn distance(from: Lsn, to: Lsn) -> u64 {
    u64::from(to).saturating_sub(u64::from(from))
}

/// About 1 MiB of WAL.
const FOREIGN_MEBIBYTE: &str =
    "insert into other select repeat('x', 900) from generate_series(1, 1000)";
