//! Seeded simulation: the real relay against models of Postgres and Kafka.
//!
//! One seed is one schedule on one virtual clock: transactions, crashes, shutdowns, outages,
//! rejections, kills, servers that are replaced by ones that were behind, events that can't be
//! delivered and operators who have them passed over. The promises are checked at every step, and
//! at the end everything heals and has to come to rest: each event that the server has is in Kafka,
//! or its dead letter is, unless an operator gave it up, and the slot stands at the end of the WAL.
//!
//! `WALPOST_SIM_SEEDS=n` sets how many seeds are run, from `WALPOST_SIM_FROM` on.
//! `WALPOST_SIM_SEED=n` runs one of them with a trace of all that happens. A seed that breaks an
//! invariant is shrunk to the least that still does, unless `WALPOST_SIM_SHRINK` is 0.

#![expect(
    clippy::print_stderr,
    reason = "the trace and the failing seed are printed"
)]

mod clock;
mod env;
mod history;
mod kafka;
mod operator;
mod plan;
mod postgres;
mod process;
mod runner;
mod schedule;
mod session;
mod shrink;
mod walsender;
mod watch;
mod world;

use crate::runner::{run, run_all, silence_expected_panics};
use crate::schedule::Case;
use crate::shrink::Shrunk;

/// How many are run unless somebody says otherwise. Fewer do not show everything.
const SEEDS: u64 = 20_000;

/// Each of these has to happen somewhere, or the simulation shows less than it seems to.
const COVERED: [&str; 100] = [
    "Postgres crashed",
    "Postgres shuts down",
    "Postgres shut down",
    "the connection broke",
    "the network lost the connection",
    "a silent stream was asked",
    "a silent stream was given up",
    "a stream ended with an error",
    "the process was stopped for a while",
    "something that is no event was passed over",
    "the slot was busy",
    "Kafka went away",
    "a batch is rejected",
    "a batch is rejected for its size",
    "a batch is rejected: no such topic",
    "a batch is rejected: no such partition",
    "a session ended with an error",
    "a courtesy answer",
    "one in a shutdown",
    "a halt for a missing topic",
    "a halt for a rejected event",
    "a halt for a missing payload",
    "a batch is rejected for a record in it",
    "records are refused together",
    "an event was found among its batch",
    "the topics are asked what they take",
    "no topic answers what it takes",
    "the line stands for a topic that does not say what it takes",
    "a record is too large for good",
    "the producer refused an event that its topic takes",
    "the producer takes larger records, as the topics do",
    "batches are as small as the topics take them",
    "a dead letter for a missing payload",
    "a dead letter for a missing topic",
    "a dead letter of an event that was refused in an earlier session",
    "a dead letter of an event that was refused in its session",
    "a dead letter in the place of an event that was refused alone",
    "a dead letter in the place of an event that the producer refused",
    "a dead letter arrived",
    "a dead letter without its value",
    "a halt for a dead letter",
    "a halt for a dead letter that has no topic",
    "somebody mends what events were refused for",
    "an event was passed over",
    "an event was passed over for its id",
    "a wrong skip lets nothing pass",
    "a stop in the middle of a transaction",
    "a stop cut a transaction in two",
    "a stop while room is made for another producer",
    "a session made room for another producer",
    "the producer was full",
    "the producer refused an event",
    "smaller batches are tried",
    "a run caught up",
    "a complete drain",
    "a drain that ran out of time",
    "the process was killed",
    "the relay parked",
    "a checkpoint while parked",
    "the line is held before an event",
    "an event that holds the line is tried again",
    "an event that held the line is let pass",
    "a topic that held the line is there",
    "a process that held the line is restarted",
    "a checkpoint",
    "a checkpoint that the relay does not know of",
    "a checkpoint that failed",
    "a checkpoint that was not answered",
    "a locked checkpoint is remembered",
    "the publication was made behind the slot",
    "rows are left out for the want of the publication",
    "a producer sends again what has arrived",
    "a position without a checkpoint",
    "a position without a checkpoint, for the slot's sake",
    "a slot was adopted",
    "a slot was rewound",
    "a position was remembered",
    "a position was accepted",
    "a session that starts without its checkpoint",
    "a slot that was moved is refused",
    "a slot that was moved under a lost stream is seen",
    "a position of a process that is gone is refused",
    "a standby was promoted",
    "a backup was restored",
    "a snapshot was put back",
    "a snapshot was put back where an event was in the way",
    "a promoted server was taken",
    "a slot that is gone is refused",
    "a slot that was made anew is refused",
    "a gap was accepted",
    "a repeat came late",
    "phantoms of a server that was lost",
    "a phantom was named",
    "Kafka's address leads to another cluster",
    "another cluster took records",
    "another cluster is refused",
    "a report waits for the cluster's id",
    "a report that nobody can believe any more",
    "a server that was left behind is passed over",
    "an event below what a lost server was told",
];

#[test]
fn no_schedule_loses_invents_or_reorders_an_event() {
    silence_expected_panics();
    if let Some(seed) = number("WALPOST_SIM_SEED") {
        replay(seed);
        return;
    }
    let from = number("WALPOST_SIM_FROM").unwrap_or(0);
    let seeds = number("WALPOST_SIM_SEEDS").unwrap_or(SEEDS);
    let report = run_all(from, from + seeds);
    if let Some((seed, broken)) = report.broken {
        if number("WALPOST_SIM_SHRINK") == Some(0) {
            eprintln!("seed {seed} breaks an invariant: {}", broken.message);
        } else {
            eprintln!("{}", Shrunk::of(Case::of(seed), broken));
        }
        panic!("seed {seed} breaks an invariant");
    }
    eprintln!(
        "{seeds} seeds, {} events, {} records, {:#?}",
        report.owed, report.appended, report.coverage
    );
    // Some are rare, and a part of a longer run may lack them.
    if from == 0 && seeds >= SEEDS {
        for what in COVERED {
            let happened = report.coverage.contains_key(what);
            assert!(happened, "it never happened: {what}");
        }
    }
}

/// Shows what happens in one seed. Where that breaks an invariant: in the smallest part of it that
/// does.
fn replay(seed: u64) {
    let (_, broken) = run(Case::of(seed), false);
    let Some(broken) = broken else {
        run(Case::of(seed), true);
        return;
    };
    let shrunk = Shrunk::of(Case::of(seed), broken);
    run(shrunk.case.clone(), true);
    eprintln!("{shrunk}");
    panic!("seed {seed} breaks an invariant");
}

fn number(variable: &str) -> Option<u64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs the test chooses the seed"
    )]
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is no number")))
}
