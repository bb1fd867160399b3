//! Seeded simulation: the real relay against models of Postgres and Kafka.
//!
//! One seed is one schedule on one virtual clock: transactions, crashes, shutdowns, outages,
//! rejections, kills, servers that are replaced by ones that were behind, events that can't be
//! delivered and operators who have them passed over. The promises are checked at every step, and
//! at the end everything heals and has to come to rest: each event that the server has is in Kafka,
//! or its dead letter is, unless an operator gave it up, and the slot stands at the end of the WAL.
//!
//! `WALPOST_SIM_SEEDS=n` sets how many seeds are run, `WALPOST_SIM_SEED=n` runs one of them with a
//! trace of all that happens.

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
mod session;
mod walsender;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::world::World;

const SEEDS: u64 = 2_000;

/// Each of these has to happen somewhere, or the simulation shows less than it seems to.
const COVERED: [&str; 74] = [
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
    "a record is too large for good",
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
    "the producer was full",
    "the producer refused an event",
    "smaller batches are tried",
    "a run caught up",
    "a complete drain",
    "a drain that ran out of time",
    "the process was killed",
    "the relay parked",
    "a checkpoint",
    "a checkpoint that the relay does not know of",
    "a checkpoint that failed",
    "a position without a checkpoint",
    "a position without a checkpoint, for the slot's sake",
    "a slot was adopted",
    "a slot was rewound",
    "a position was remembered",
    "a position was accepted",
    "a session that starts without its checkpoint",
    "a slot that was moved is refused",
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
    "an event below what a lost server was told",
];

#[test]
fn no_schedule_loses_invents_or_reorders_an_event() {
    if let Some(seed) = number("WALPOST_SIM_SEED") {
        World::new(seed, true).run();
        return;
    }
    let seeds = number("WALPOST_SIM_SEEDS").unwrap_or(SEEDS);
    let mut coverage = BTreeMap::new();
    let (mut owed, mut appended) = (0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed, false);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
            eprintln!("seed {seed} failed: WALPOST_SIM_SEED={seed} shows how");
            resume_unwind(panic);
        }
        for (what, times) in &world.env.coverage {
            *coverage.entry(*what).or_insert(0) += times;
        }
        owed += world.env.history.owed();
        appended += world.env.history.appended;
    }
    eprintln!("{seeds} seeds, {owed} events, {appended} records, {coverage:#?}");
    if seeds >= SEEDS {
        for what in COVERED {
            assert!(coverage.contains_key(what), "it never happened: {what}");
        }
    }
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
