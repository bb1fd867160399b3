//! Runs seeds on all cores until one of them breaks an invariant.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::schedule::Case;
use crate::world::World;

/// An invariant that does not hold.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// What was said of it: its name, and behind a colon what was seen.
    pub(crate) message: String,
    /// At this step.
    pub(crate) step: u32,
}

/// What many seeds have shown.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The first seed that breaks an invariant.
    pub(crate) broken: Option<(u64, Broken)>,
    /// How often what happened.
    pub(crate) coverage: BTreeMap<&'static str, u64>,
    /// Events that were committed, and records that were appended.
    pub(crate) owed: usize,
    pub(crate) appended: usize,
}

thread_local! {
    /// A panic of this thread is expected, and is looked at by who caught it.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

impl Broken {
    /// The name of the invariant.
    pub(crate) fn invariant(&self) -> &str {
        let name = self.message.split_once(": ").map(|(name, _)| name);
        name.unwrap_or(&self.message)
    }
}

/// Panics of a run are caught and told by whoever ran it.
pub(crate) fn silence_expected_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if !IS_QUIET.get() {
            default(info);
        }
    }));
}

/// One run to its end.
pub(crate) fn run(case: Case, traced: bool) -> (World, Option<Broken>) {
    let mut world = World::new(case, traced);
    IS_QUIET.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    IS_QUIET.set(false);
    let broken = ended.err().map(|panic| Broken {
        message: text(panic.as_ref()),
        step: world.step,
    });
    (world, broken)
}

/// What a panic says, without the compiler's words in front of ours.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text,
        (None, Some(text)) => *text,
        (None, None) => "a panic without a word",
    };
    let said = text.strip_prefix("assertion `left == right` failed: ");
    said.unwrap_or(text).replace('\n', ",")
}

/// Runs the seeds of a range in order, on all cores. After one that breaks an invariant none is
/// begun, and the ones before it are brought to their end: the report has the first of all.
pub(crate) fn run_all(from: u64, until: u64) -> Report {
    let next = AtomicU64::new(from);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let reports = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| scope.spawn(|| work(&next, until)))
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Report>| worker.join();
        workers.into_iter().map(join).collect::<Vec<_>>()
    });
    let mut all = Report::default();
    for report in reports {
        all.add(report.expect("what a run panics with is caught"));
    }
    all
}

fn work(next: &AtomicU64, until: u64) -> Report {
    let mut report = Report::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= until {
            return report;
        }
        let (world, broken) = run(Case::of(seed), false);
        if let Some(broken) = broken {
            next.store(until, Ordering::Relaxed);
            report.broken = Some((seed, broken));
            return report;
        }
        report.owed += world.env.history.owed();
        report.appended += world.env.history.appended;
        for (what, times) in world.env.coverage {
            *report.coverage.entry(what).or_insert(0) += times;
        }
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        self.owed += other.owed;
        self.appended += other.appended;
        for (what, times) in other.coverage {
            *self.coverage.entry(what).or_insert(0) += times;
        }
        let first = |one: &(u64, Broken), two: &(u64, Broken)| one.0 <= two.0;
        self.broken = match (self.broken.take(), other.broken) {
            (Some(one), Some(two)) if first(&two, &one) => Some(two),
            (Some(one), _) => Some(one),
            (None, two) => two,
        };
    }
}
