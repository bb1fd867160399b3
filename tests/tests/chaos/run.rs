//! One run, from the servers' start to the verdict.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use walpost_tests::{Finished, Ledger, Running, RunningWriter, scaled, wait_until};
use walpost_witness::{Event, History, Lsn, Rules, Sample, Verdict, judge};

use crate::{
    SOON,
    arena::{Arena, servers},
    blows,
    plan::{Fault, Plan},
    repeats::{Stream, streams},
    timeline::Timeline,
};

/// Runs a seed. The error is for people: what was found, where it lies, how it is repeated.
pub(crate) fn run(seed: u64, lasts: Duration) -> Result<(), String> {
    let plan = Plan::draw(seed, lasts);
    println!("{plan}");
    let (postgres, brokers) = servers(&plan);
    let timeline = Timeline::new();
    let arena = Arena::new(&plan, &timeline, &postgres, &brokers);
    let played = catch_unwind(AssertUnwindSafe(|| play(&arena)));
    let failure = match played {
        Ok(outcome) if outcome.wrong.is_empty() => {
            println!("seed {seed}: {}", outcome.summary);
            if std::env::var_os("WALPOST_CHAOS_KEEP").is_some_and(|keep| !keep.is_empty()) {
                println!("kept: {}", keep(&arena, &outcome.summary).display());
            }
            return Ok(());
        }
        Ok(outcome) => format!("{}\n{}", outcome.wrong.join("\n"), outcome.summary),
        Err(panic) => format!("the run ended with a panic: {}", words(&*panic)),
    };
    let kept = keep(&arena, &failure);
    let again = again(seed, lasts.as_secs());
    let failure = format!(
        "seed {seed} failed: {failure}\nkept: {}\nagain: {again}",
        kept.display()
    );
    println!("{failure}");
    Err(failure)
}

/// The command that repeats a run, with the same binary.
fn again(seed: u64, seconds: u64) -> String {
    scaled(
        format!(
            "WALPOST_CHAOS_RUNS=1 WALPOST_CHAOS_SEED={seed} WALPOST_CHAOS_SECONDS={seconds} \
             make blackbox T=whatever_fails"
        ),
        format!("make chaos RUNS=1 SEED={seed} DURATION={seconds}"),
    )
}

struct Outcome {
    wrong: Vec<String>,
    summary: String,
}

fn play(arena: &Arena<'_>) -> Outcome {
    let is_over = AtomicBool::new(false);
    let samples = Mutex::new(Vec::new());
    let wrong = Mutex::new(Vec::new());
    let (ledgers, caught_up) = thread::scope(|scope| {
        arena.start_relay();
        let writers = arena.start_writers();
        scope.spawn(|| sample(arena, &is_over, &samples));
        scope.spawn(|| look_after(arena, &is_over, &wrong));
        // Whatever ends this, the threads above have to end too.
        let over = Over(&is_over);
        let began = Instant::now();
        let ledgers = thread::scope(|scope| {
            let dealing = scope.spawn(|| blows::deal(arena));
            while began.elapsed() < arena.plan.lasts || !dealing.is_finished() {
                thread::sleep(Duration::from_secs(1));
                note_writers(arena, &writers);
            }
            dealing.join()
        });
        let mut ledgers = ledgers.expect("the faults are dealt out");
        arena.timeline.note("chaos", "everything is healed");
        arena.heal();
        ledgers.extend(writers.into_iter().map(RunningWriter::stop));
        arena.timeline.note("chaos", "the writers have ended");
        let caught_up = wait_until_caught_up(arena, &samples);
        if caught_up.is_some() {
            wait_until_let_go(arena);
        }
        drop(over);
        (ledgers, caught_up)
    });
    let mut wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    let code = arena.end_relay(|running: Running| running.stop(SOON));
    if code != 0 {
        wrong.push(format!(
            "the relay ended with {code} when it was asked to stop"
        ));
    }
    let mut samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    // After an orderly end nothing is left to be sent again.
    samples.extend(arena.sampler().sample());
    let once = arena.walpost.finish(&["run", "--once"], SOON);
    if once.code != 0 {
        let Finished { code, stderr, .. } = once;
        wrong.push(format!("run --once ended with {code}: {stderr}"));
    }
    arena.timeline.note_samples(&samples);
    let (history, streams) = history(arena, &ledgers, samples, caught_up.is_some());
    let verdict = judge(&history);
    if !verdict.is_clean() {
        wrong.push(verdict.to_string());
    }
    wrong.extend(tell_tales(arena));
    wrong.extend(beyond_the_bound(arena, &streams));
    let own = own_count(arena);
    if let Some(own) = own.filter(|own| verdict.duplicates > *own) {
        let seen = verdict.duplicates;
        wrong.push(format!("{seen} repeats, and the relay counted {own}"));
    }
    let peak = arena.peak();
    if peak > RSS_PEAK_MAX {
        wrong.push(format!("{} MiB resident", peak >> 20));
    }
    let held = arena.held();
    if held.threads > THREADS_MAX || held.descriptors > DESCRIPTORS_MAX {
        wrong.push(format!("it held {held:?}"));
    }
    Outcome {
        summary: summary(arena, &verdict, &history, &streams, caught_up, own, peak),
        wrong,
    }
}

/// Sets the flag when dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn sample(arena: &Arena<'_>, is_over: &AtomicBool, samples: &Mutex<Vec<Sample>>) {
    let mut sampler = arena.sampler();
    let mut fault = String::new();
    while !is_over.load(Ordering::Relaxed) {
        let seen = sampler.sample();
        arena.note_peak();
        let now = seen.as_ref().err().cloned().unwrap_or_default();
        if now != fault {
            let what = if now.is_empty() { "again" } else { &now };
            arena.timeline.note("sampler", what);
            fault = now;
        }
        samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(seen);
        thread::sleep(SAMPLE_INTERVAL);
    }
}

/// A relay that ends by itself is wrong, whatever was done to its servers.
fn look_after(arena: &Arena<'_>, is_over: &AtomicBool, wrong: &Mutex<Vec<String>>) {
    while !is_over.load(Ordering::Relaxed) {
        if let Some(code) = arena.ended_by_itself() {
            let what = format!("the relay ended by itself, with {code}");
            arena.timeline.note("relay", what.clone());
            wrong
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(what);
            arena.start_relay();
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn note_writers(arena: &Arena<'_>, writers: &[RunningWriter]) {
    let ledgers: Vec<Ledger> = writers.iter().map(RunningWriter::ledger).collect();
    let sum = |of: fn(&Ledger) -> usize| ledgers.iter().map(of).sum::<usize>();
    let what = format!(
        "{} events ok, {} failed, {} unknown, {} reconnects",
        sum(|ledger| ledger.committed.len()),
        sum(|ledger| ledger.rolled_back.len()),
        sum(|ledger| ledger.unknown.len()),
        sum(|ledger| usize::try_from(ledger.reconnects).unwrap_or_default()),
    );
    arena.timeline.note("writers", what);
}

/// Waits until what was committed last is confirmed, and returns how long it took; `None` when for
/// too long nothing more was confirmed.
fn wait_until_caught_up(arena: &Arena<'_>, samples: &Mutex<Vec<Sample>>) -> Option<Duration> {
    let began = Instant::now();
    let end = arena
        .witness()
        .events("public.outbox")
        .expect("read the witness slot")
        .last()
        .and_then(|event| Some(event.commit.as_ref()?.end))?;
    let (mut reached, mut moved) = (Lsn::default(), Instant::now());
    let caught_up = loop {
        let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        let confirmed = samples.last().map_or(reached, |last| last.confirmed);
        drop(samples);
        if confirmed >= end {
            break Some(());
        }
        if confirmed > reached {
            (reached, moved) = (confirmed, Instant::now());
        }
        if moved.elapsed() > PROGRESS_DEADLINE {
            break None;
        }
        thread::sleep(SAMPLE_INTERVAL);
    };
    let what = match caught_up {
        Some(()) => "everything is confirmed",
        None => "the deadline has passed",
    };
    arena.timeline.note("chaos", what);
    caught_up.map(|()| began.elapsed())
}

/// Waits until the slot lets go of WAL that it held.
fn wait_until_let_go(arena: &Arena<'_>) {
    let held = || {
        let slot = arena.database.slot(&arena.slot).expect("the slot");
        slot.restart.expect("a slot that is not lost holds WAL")
    };
    let before = held();
    wait_until(SOON, "restart_lsn moves", || {
        // As much WAL as a quiet relay confirms for its own sake; where the slot could go on is
        // noted with each checkpoint.
        arena.database.execute(FILLER);
        arena.database.execute("checkpoint");
        thread::sleep(NOTE_INTERVAL);
        (held() > before).then_some(())
    });
    arena.timeline.note("chaos", "restart_lsn has moved");
}

fn history(
    arena: &Arena<'_>,
    ledgers: &[Ledger],
    samples: Vec<Sample>,
    caught_up: bool,
) -> (History, Vec<Stream>) {
    let line = arena
        .witness()
        .events("public.outbox")
        .expect("read the witness slot");
    let ledger = arena.ledger().events().expect("read the ledger");
    let last = arena.partitions.load(Ordering::Relaxed);
    let mut history = History {
        lines: vec![line],
        rolled_back: ledgers
            .iter()
            .flat_map(|ledger| &ledger.rolled_back)
            .copied()
            .collect(),
        acknowledged: ledgers
            .iter()
            .flat_map(|ledger| &ledger.committed)
            .map(|event| event.id)
            .collect(),
        unknown: BTreeSet::new(),
        ledger: Some(ledger),
        records: arena.topics().read(SOON).expect("read the topic"),
        samples,
        caught_up: Some(caught_up),
        rules: Rules {
            duplicates_max: None,
            partition_counts: (arena.plan.partitions.cast_unsigned()..=last).collect(),
            late_repeats: true,
            unaware: unaware(arena),
        },
    };
    // Each stream sends again what had been sent and was not on record when it was opened, and
    // nothing else.
    let streams = streams(&arena.postgres.log(), &arena.slot, &history);
    history.rules.duplicates_max = Some(streams.iter().map(|stream| stream.open).sum());
    (history, streams)
}

/// The first moments of a relay that stood still while another one was there to take its slot.
fn unaware(arena: &Arena<'_>) -> Vec<(i64, i64)> {
    let blows = arena.blows();
    let freezes = blows.iter().filter(|blow| blow.fault == Fault::RelayFrozen);
    let taken = freezes.filter(|freeze| {
        let mut seconds = blows.iter().filter(|blow| blow.fault == Fault::SecondRelay);
        seconds
            .any(|second| second.began_ms <= freeze.ended_ms && second.ended_ms >= freeze.began_ms)
    });
    taken
        .map(|freeze| (freeze.ended_ms, freeze.ended_ms + UNAWARE_MS))
        .collect()
}

/// Streams that found more open than the window, the longest transaction and a second of the load,
/// although Postgres could put everything on record since the stream before it was opened.
fn beyond_the_bound(arena: &Arena<'_>, streams: &[Stream]) -> Vec<String> {
    let rows = arena.plan.largest_transaction().max(ROWS_MAX);
    let blows = arena.blows();
    let mut wrong = Vec::new();
    for pair in streams.windows(2) {
        let (from, to) = (pair[0].opened_ms, pair[1].opened_ms);
        let hindered = blows.iter().any(|blow| {
            blow.fault.hinders_records() && blow.began_ms <= to && blow.ended_ms >= from
        });
        let bound = arena.plan.window + rows + pair[1].last_second;
        if !hindered && pair[1].open > bound {
            let open = pair[1].open;
            wrong.push(format!(
                "{open} events were not on record at {to} ms, {bound} may be"
            ));
        }
    }
    wrong
}

/// How many events the relay says that it sent again; `None` where there was more than one: what
/// the one had sent the next does not know, also when the one ended in order.
fn own_count(arena: &Arena<'_>) -> Option<usize> {
    let logs = arena.relay_logs();
    if logs.len() > 1 {
        return None;
    }
    let lines = logs.iter().flat_map(|log| log.lines());
    let counts = lines.map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let message = line["message"].as_str().unwrap_or_default();
        let is_count = message.starts_with("sent again");
        let events = line["events"].as_u64().filter(|_| is_count);
        usize::try_from(events.unwrap_or_default()).unwrap_or(usize::MAX)
    });
    Some(counts.sum())
}

/// What no log of a relay may have: certain words, and a line that is no object.
fn tell_tales(arena: &Arena<'_>) -> Vec<String> {
    let logs = arena.relay_logs();
    let lines = logs.iter().flat_map(|log| log.lines());
    lines
        .filter(|line| {
            let is_read = serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object());
            let words = ["panicked", "a bug:", "hunter"];
            !is_read || words.iter().any(|word| line.contains(word))
        })
        .map(|line| format!("the relay said: {line}"))
        .collect()
}

fn summary(
    arena: &Arena<'_>,
    verdict: &Verdict,
    history: &History,
    streams: &[Stream],
    caught_up: Option<Duration>,
    own: Option<usize>,
    peak: u64,
) -> String {
    let confirmed: Vec<&Event> = history.lines.iter().flatten().collect();
    let held = arena.held();
    format!(
        "{} of {} faults, {} committed, {} streams, {} duplicates of at most {} \
         (own count {own:?}), {} late, {} samples, caught up after {caught_up:.1?}, peak {} MiB, \
         {} threads, {} descriptors",
        arena.struck(),
        arena.plan.blows.len(),
        confirmed.len(),
        streams.len(),
        verdict.duplicates,
        history.rules.duplicates_max.unwrap_or_default(),
        verdict.late,
        verdict.samples,
        peak >> 20,
        held.threads,
        held.descriptors
    )
}

/// Puts everything that tells what happened into one directory, and leaves the servers' own.
fn keep(arena: &Arena<'_>, failure: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", arena.plan.seed));
    fs::remove_dir_all(&dir).ok();
    fs::create_dir_all(&dir).expect("make a directory for what is kept");
    let logs = arena.relay_logs();
    for (log, life) in logs.iter().zip(1..) {
        arena.timeline.note_log(&format!("relay {life}"), log);
    }
    arena.timeline.note_postgres(&arena.postgres.log());
    let mut about = format!("{failure}\n\n{}\n", arena.plan);
    for place in [arena.postgres.keep(), arena.walpost.keep()]
        .into_iter()
        .chain(arena.brokers.iter().map(walpost_tests::Kafka::keep))
    {
        writeln!(about, "{}", place.display()).expect("a String takes everything");
    }
    fs::write(dir.join("about.txt"), about).expect("write what happened");
    fs::write(dir.join("timeline.txt"), arena.timeline.text()).expect("write the timeline");
    fs::write(dir.join("postgres.log"), arena.postgres.log()).expect("write a log");
    for (broker, number) in arena.brokers.iter().zip(1..) {
        let path = dir.join(format!("broker-{number}.log"));
        fs::write(path, broker.log()).expect("write a log");
    }
    dir
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}

const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// The longest wait between two sessions is 30 s. A machine that is busy may take longer for all of
/// it than for some of it.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(60);
/// The largest transaction of the writers.
const ROWS_MAX: usize = 8;
/// It learns it with the next look at the slot, 2 s later; on a machine that is busy.
const UNAWARE_MS: i64 = 10_000;
const RSS_PEAK_MAX: u64 = 256 << 20;
/// With three brokers it has 11 threads and some 40 descriptors.
const THREADS_MAX: usize = 32;
const DESCRIPTORS_MAX: usize = 128;
const FILLER: &str = "select pg_logical_emit_message(false, 'filler', repeat('x', 17 << 20))";
/// How often the server is asked to note where its slots could go on.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
