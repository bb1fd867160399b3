//! Chaos: real servers, the real binary, faults of everything at once, and the judgement of
//! `walpost-witness`.
//!
//! One run is one seed: it draws servers, settings, load and at least eight faults with their times
//! ([`plan`]). The same seed draws the same plan; what the servers make of it is theirs. At the end
//! everything is healed, has to arrive within a deadline, and is judged. A run that fails leaves a
//! timeline, the logs and the data directories, and says how it is repeated.
//!
//! `make chaos RUNS=20 SEED=7 DURATION=60 JOBS=2`

#![allow(clippy::print_stdout, reason = "a run tells its plan and its outcome")]

mod arena;
mod blows;
mod plan;
mod repeats;
mod run;
mod timeline;

use std::{
    env, iter,
    str::FromStr,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use walpost_tests::scaled;

/// Two runs with the seeds 1 and 2, so that those who change something meet the same faults as
/// before. At full scale as many as `RUNS` says: seed 1 and new ones, or all from `SEED` on.
#[test]
fn whatever_fails_nothing_is_lost_made_up_or_out_of_order() {
    let runs = setting("WALPOST_CHAOS_RUNS").unwrap_or(scaled(2, 10));
    let seed = setting("WALPOST_CHAOS_SEED");
    let seconds = setting("WALPOST_CHAOS_SECONDS").unwrap_or(scaled(20, 60));
    let new = scaled(1, fastrand::u64(2..1_000_000));
    let further = seed.unwrap_or(new);
    let seeds = (0..runs).map(|run| match seed {
        None if run == 0 => 1,
        _ => further + run,
    });
    let seeds = Mutex::new(seeds);
    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    let jobs = setting("WALPOST_CHAOS_JOBS").unwrap_or(2);
    let failed: Vec<String> = thread::scope(|scope| {
        let work = || {
            let runs = iter::from_fn(next).map(|seed| run::run(seed, Duration::from_secs(seconds)));
            runs.filter_map(Result::err).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let failed = workers.into_iter().map(|worker| worker.join());
        failed
            .flat_map(|failed| failed.expect("a run begins"))
            .collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    let Ok(value) = text.parse() else {
        panic!("{name} is a number, not {text:?}");
    };
    Some(value)
}

/// For what a healthy server does.
const SOON: Duration = Duration::from_secs(60);
