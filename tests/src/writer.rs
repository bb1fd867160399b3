//! Transactions into an outbox table, and the ledger of what was committed.

mod bulk;
mod plan;
mod session;

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use uuid::Uuid;

pub use self::bulk::copy_text;
use self::{
    plan::{Fate, Plan, Planner},
    session::{Outcome, Session},
};
use crate::Database;

/// What a writer commits. Every event's payload says which aggregate it belongs to
/// (`"aggregate"`), which version of it it is (`"version"`, from 1, without gaps in what is
/// committed) and in which transaction it was written (`"transaction"`).
#[derive(Clone, Debug)]
pub struct Writer {
    url: String,
    table: String,
    topic: String,
    rows: (usize, usize),
    aggregates: usize,
    payload_bytes: usize,
    rate: Option<f64>,
    limit: Option<u64>,
    rollbacks: f64,
    savepoints: bool,
    headers: Option<String>,
    ledger: Option<String>,
    shared: Option<String>,
    seed: u64,
}

/// One event that a writer wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The outbox row's id.
    pub id: Uuid,
    /// The aggregate's id.
    pub aggregate: String,
    /// Its version of the aggregate, from 1.
    pub version: u64,
}

/// What became of everything that a writer wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Committed events in the order of their commits, and in their transaction's order.
    pub committed: Vec<Written>,
    /// Rows that were inserted and rolled back.
    pub rolled_back: Vec<Uuid>,
    /// Events whose commit was not answered and could not be looked up before the end.
    pub unknown: Vec<Written>,
    /// Transactions that committed at least one event.
    pub transactions: u64,
    /// How often the writer lost its connection.
    pub reconnects: u64,
}

impl Writer {
    /// A writer into the table `public.outbox` of the database, for one topic: 1 row per
    /// transaction, 10 aggregates, as fast as it can, without rollbacks.
    pub fn new(database: &Database<'_>, topic: &str) -> Self {
        Self {
            url: database.url(),
            table: "public.outbox".to_owned(),
            topic: topic.to_owned(),
            rows: (1, 1),
            aggregates: 10,
            payload_bytes: 0,
            rate: None,
            limit: None,
            rollbacks: 0.0,
            savepoints: false,
            headers: None,
            ledger: None,
            shared: None,
            seed: 1,
        }
    }

    /// Another table of the same columns, as SQL names it.
    #[must_use]
    pub fn table(mut self, table: &str) -> Self {
        table.clone_into(&mut self.table);
        self
    }

    /// Another way to the database: through a proxy.
    #[must_use]
    pub fn url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.url);
        self
    }

    /// Rows of each transaction.
    #[must_use]
    pub fn rows(self, rows: usize) -> Self {
        self.rows_between(rows, rows)
    }

    /// Rows of each transaction, drawn from a range.
    #[must_use]
    pub fn rows_between(mut self, least: usize, most: usize) -> Self {
        assert!(
            1 <= least && least <= most,
            "a transaction has at least one row"
        );
        self.rows = (least, most);
        self
    }

    /// Over how many aggregates the events are spread.
    #[must_use]
    pub fn aggregates(mut self, aggregates: usize) -> Self {
        assert!(aggregates > 0, "an event belongs to an aggregate");
        self.aggregates = aggregates;
        self
    }

    /// Filler in each payload.
    #[must_use]
    pub fn payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// Transactions per second; as fast as it can without.
    #[must_use]
    pub fn rate(mut self, transactions_per_second: f64) -> Self {
        assert!(transactions_per_second > 0.0, "a rate is above zero");
        self.rate = Some(transactions_per_second);
        self
    }

    /// Ends by itself after so many transactions, those that were rolled back counted.
    #[must_use]
    pub fn transactions(mut self, count: u64) -> Self {
        self.limit = Some(count);
        self
    }

    /// The share of transactions that are rolled back, 0 to 1.
    #[must_use]
    pub fn rollbacks(mut self, share: f64) -> Self {
        self.rollbacks = share;
        self
    }

    /// Mixes savepoints in: rows before, inside and after one, which is released or rolled back to.
    #[must_use]
    pub fn savepoints(mut self, on: bool) -> Self {
        self.savepoints = on;
        self
    }

    /// The row's `headers`, a JSON object.
    #[must_use]
    pub fn headers(mut self, json: &str) -> Self {
        self.headers = Some(json.to_owned());
        self
    }

    /// A table (`id uuid, aggregate text, version bigint`) that gets every event in the same
    /// transaction. Not by [`Writer::bulk`].
    #[must_use]
    pub fn ledger(mut self, table: &str) -> Self {
        self.ledger = Some(table.to_owned());
        self
    }

    /// A table (`name text primary key, version bigint`) of aggregates that all writers share, with
    /// at least as many of them as [`Writer::shared_aggregate`] names. Each transaction locks the
    /// rows of its aggregates, and takes the versions from them: writers wait for each other, and a
    /// transaction that waits in vain is rolled back. Not by [`Writer::bulk`].
    #[must_use]
    pub fn shared_aggregates(mut self, table: &str) -> Self {
        self.shared = Some(table.to_owned());
        self
    }

    /// The name of a shared aggregate, from 0.
    pub fn shared_aggregate(index: usize) -> String {
        format!("shared-{index}")
    }

    /// Another sequence of shapes: the same seed draws the same one. Ids are always new.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Commits one transaction of `rows` rows by COPY, the fastest way in, and returns its ledger.
    ///
    /// # Panics
    ///
    /// When the database refuses it.
    #[track_caller]
    pub fn bulk(&self, rows: usize) -> Ledger {
        self.bulk_transactions(1, rows)
    }

    /// Commits `transactions` transactions of `rows` rows each by COPY.
    ///
    /// # Panics
    ///
    /// When the database refuses one.
    #[track_caller]
    pub fn bulk_transactions(&self, transactions: usize, rows: usize) -> Ledger {
        bulk::write(self, transactions, rows)
    }

    /// Runs it in this thread until its limit.
    ///
    /// # Panics
    ///
    /// When no limit was set, or the transactions take longer than the deadline.
    #[track_caller]
    pub fn run(&self, deadline: Duration) -> Ledger {
        assert!(
            self.limit.is_some(),
            "a writer without a limit does not end by itself"
        );
        let running = self.start();
        let ended = crate::try_wait_until(deadline, || running.is_finished().then_some(()));
        assert!(
            ended.is_some(),
            "not within {deadline:?}: the writer's transactions"
        );
        running.stop()
    }

    /// Starts it in a thread of its own.
    pub fn start(&self) -> RunningWriter {
        let shared = Arc::new(Shared::default());
        let writer = self.clone();
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || write_until_stopped(&writer, &for_thread));
        RunningWriter {
            shared,
            thread: Some(thread),
        }
    }

    /// The prefix of this writer's aggregates: no two writers share one, or there would be no
    /// order of its versions.
    fn aggregate_prefix() -> String {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        format!("w{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A writer that is writing.
#[derive(Debug)]
pub struct RunningWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl RunningWriter {
    /// How many events it has committed until now.
    pub fn committed(&self) -> usize {
        self.shared.progress().ledger.committed.len()
    }

    /// A copy of the ledger as it is now.
    pub fn ledger(&self) -> Ledger {
        self.shared.progress().ledger.clone()
    }

    /// Whether it has reached its limit, or ended by a panic.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it has committed so many events.
    ///
    /// # Panics
    ///
    /// When it has not by the deadline, or ended before.
    #[track_caller]
    pub fn wait_for(&self, events: usize, deadline: Duration) {
        crate::wait_until(deadline, &format!("{events} committed events"), || {
            let finished = self.is_finished();
            let committed = self.committed();
            assert!(
                !finished || committed >= events,
                "the writer ended after {committed} events"
            );
            (committed >= events).then_some(())
        });
    }

    /// Ends it after the current transaction, and returns what was committed. When the database is
    /// away, it waits for it a little to look up a commit that was not answered.
    ///
    /// # Panics
    ///
    /// When the writer's thread panicked: the database refused a statement.
    #[track_caller]
    pub fn stop(mut self) -> Ledger {
        self.shared.ask_to_stop();
        let thread = self
            .thread
            .take()
            .expect("only stop and drop take the thread");
        assert!(
            thread.join().is_ok(),
            "the writer failed; its message stands above"
        );
        mem::take(&mut self.shared.progress().ledger)
    }
}

impl Drop for RunningWriter {
    fn drop(&mut self) {
        self.shared.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            // Its panic was printed; a second one here would end the process.
            thread.join().ok();
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    stopping: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    ledger: Ledger,
    stop_asked: Option<Instant>,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_to_stop(&self) {
        self.progress().stop_asked.get_or_insert_with(Instant::now);
        self.stopping.notify_all();
    }

    /// Waits until `then` or a request to stop; whether it was asked to stop.
    fn rest_until(&self, then: Instant) -> bool {
        let mut progress = self.progress();
        loop {
            let left = then.saturating_duration_since(Instant::now());
            if progress.stop_asked.is_some() || left.is_zero() {
                return progress.stop_asked.is_some();
            }
            let waited = self.stopping.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether a writer that can't reach its database should give up.
    fn is_out_of_patience(&self) -> bool {
        self.progress()
            .stop_asked
            .is_some_and(|asked| asked.elapsed() > PATIENCE)
    }
}

fn write_until_stopped(writer: &Writer, shared: &Shared) {
    let mut planner = Planner::new(writer);
    let mut session: Option<Session> = None;
    let mut next = Instant::now();
    let mut done = 0;
    while writer.limit.is_none_or(|limit| done < limit) && !shared.rest_until(next) {
        let Some(connected) = session.take().or_else(|| connect(writer, shared)) else {
            break;
        };
        let mut plan = planner.plan();
        let (outcome, kept) = connected.execute(&mut plan);
        let committed = match outcome {
            Outcome::Committed => Some(true),
            Outcome::RolledBack => Some(false),
            Outcome::Unknown(backend) => look_up(writer, shared, &plan, &backend),
        };
        if kept.is_none() {
            shared.progress().ledger.reconnects += 1;
        }
        session = kept;
        book(&mut shared.progress().ledger, &plan, committed);
        if committed == Some(true) {
            planner.keep(&plan);
        }
        done += 1;
        if let Some(rate) = writer.rate {
            next += Duration::from_secs_f64(1.0 / rate);
        }
    }
}

/// Enters what became of a transaction; `None` when nobody knows.
fn book(ledger: &mut Ledger, plan: &Plan, committed: Option<bool>) {
    ledger.rolled_back.extend(plan.discarded());
    match committed {
        Some(true) => {
            ledger.committed.extend(plan.kept().cloned());
            ledger.transactions += 1;
        }
        Some(false) => ledger.rolled_back.extend(plan.kept().map(|event| event.id)),
        None => ledger.unknown.extend(plan.kept().cloned()),
    }
}

/// Connects, however long the server is away; `None` when asked to stop meanwhile.
fn connect(writer: &Writer, shared: &Shared) -> Option<Session> {
    loop {
        match Session::connect(writer) {
            Ok(session) => return Some(session),
            Err(_) if shared.is_out_of_patience() => return None,
            Err(_) => thread::sleep(RECONNECT_INTERVAL),
        }
    }
}

/// Whether a transaction was committed whose commit was not answered.
fn look_up(
    writer: &Writer,
    shared: &Shared,
    plan: &Plan,
    backend: &session::Backend,
) -> Option<bool> {
    // A transaction without kept rows leaves nothing to look for, and nothing to know.
    let Some(first) = plan.kept().next() else {
        return Some(false);
    };
    if plan.fate == Fate::Rollback {
        return Some(false);
    }
    loop {
        match connect(writer, shared)?.find(first.id, backend) {
            Ok(committed) => return Some(committed),
            Err(_) if shared.is_out_of_patience() => return None,
            Err(_) => thread::sleep(RECONNECT_INTERVAL),
        }
    }
}

const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);
/// How long a stopping writer waits for a database that is away.
const PATIENCE: Duration = Duration::from_secs(15);
