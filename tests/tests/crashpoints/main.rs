//! The relay dies at every place where a death can matter, exactly there, and goes on after it.
//!
//! Each case starts a relay that is to die at one crash point (`crates/crashpoint`), brings it
//! there, and fails if the process dies of anything else or not at all. Then a relay without one
//! has to deliver what is left: nothing may be lost, out of order or altered, and an event comes
//! once more at most, if neither the checkpoint nor the slot had it.
//!
//! `make test` brings the relay once to each side of each point, in one of three situations: while
//! it is quiet, under load, or within a large transaction. With `WALPOST_TEST_SCALE=full` every
//! point is met in all three, and the first, a middle and the last row of the large transaction.
//! Every case prints a line (`--nocapture` shows it).

#![allow(
    clippy::print_stdout,
    reason = "figures are what a run at full scale is for"
)]

mod case;
mod rig;

use std::{thread, time::Duration};

use walpost_crashpoint::{POINTS, Side};

use crate::{
    case::{Case, Situation, Way},
    rig::Rig,
};

/// Enough for every server on a busy machine; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(90);

#[test]
fn a_death_before_the_stream_is_open_loses_nothing() {
    run(Way::Opening);
}

#[test]
fn a_death_while_rows_are_read_loses_nothing() {
    run(Way::Reading);
}

#[test]
fn a_death_while_records_are_sent_loses_nothing() {
    run(Way::Sending);
}

#[test]
fn a_death_while_a_position_is_told_loses_nothing() {
    run(Way::Telling);
}

#[test]
fn a_death_in_an_orderly_stop_loses_nothing() {
    run(Way::Stopping);
}

#[test]
fn a_death_while_a_broken_session_is_settled_loses_nothing() {
    run(Way::Settling);
}

#[test]
fn a_death_at_a_dead_letter_loses_neither_it_nor_others() {
    run(Way::DeadLetter);
}

#[test]
fn a_death_between_two_producers_loses_nothing() {
    run(Way::Rebuilding);
}

#[test]
fn a_death_where_a_refused_record_cost_the_producer_loses_neither_it_nor_others() {
    run(Way::Replacing);
}

/// It takes 20 s until a relay parks: these cases wait side by side, each with a way to the broker
/// that can be cut.
#[test]
fn a_death_at_either_end_of_a_park_loses_nothing() {
    const ABREAST: usize = 5;
    let cases = cases(Way::Parking);
    thread::scope(|scope| {
        for first in 0..ABREAST {
            let own = cases.iter().skip(first).step_by(ABREAST);
            scope.spawn(move || {
                let rig = Rig::new(Way::Parking);
                own.for_each(|case| rig.run(case));
            });
        }
    });
}

#[test]
fn every_point_has_a_way_to_it() {
    let met: usize = Way::ALL.iter().map(|way| points(*way).count()).sum();
    assert_eq!(met, POINTS.len());
}

/// The cases of one way, one after the other, on one database.
fn run(way: Way) {
    let rig = Rig::new(way);
    for case in cases(way) {
        rig.run(&case);
    }
}

/// The points that are reached in that way.
fn points(way: Way) -> impl Iterator<Item = (&'static str, &'static [Side])> {
    POINTS
        .iter()
        .copied()
        .filter(move |(name, _)| Way::to(name) == way)
}

fn cases(way: Way) -> Vec<Case> {
    let is_full = walpost_tests::scaled(false, true);
    let mut cases = Vec::new();
    for (name, sides) in points(way) {
        for side in sides {
            let situations = Situation::ALL.into_iter().cycle();
            let (skip, take) = if is_full {
                (0, 3)
            } else {
                (cases.len() % 3, 1)
            };
            for situation in situations.skip(skip).take(take) {
                for nth in case::times(name, situation) {
                    cases.push(Case {
                        name,
                        side: *side,
                        situation,
                        way,
                        nth,
                    });
                }
            }
        }
    }
    cases
}
