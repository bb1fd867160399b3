//! The small model, searched to the end: three transactions of two events each, two partitions, a
//! relay that is killed once and a server that crashes once and takes its slot back. Every
//! interleaving of what can happen is tried on the real core, and not a sample of them.
//!
//! What is searched is a graph. A node is a state of the whole: the core (`core.rs`), where the
//! stream stands, what Kafka has, the checkpoint row and the slot (`model.rs`). From each node
//! everything is done that can happen next: a message or a keepalive is read, a report or the
//! outcome of a checkpoint comes, time passes, something fails. States that were met before are
//! not gone into again. So the promises are checked on every path:
//!
//! * nothing is told to the server, or put on record, that Kafka has not got;
//! * each partition has the events in commit order, without a gap, but for repeats;
//! * each record is the one that was written, and goes to its partition;
//! * a start is never refused, never skips an event that Kafka has not got, and repeats nothing
//!   that is on record; an orderly stop leaves nothing to be repeated;
//! * every path ends, as long as anything that is not a fault can still happen, and where it ends
//!   everything is delivered and told.
//!
//! Why no state is taken for another one. The core is compared by its `Debug` form, which is
//! derived and therefore names every field. Two things are not in it: the values of headers, which
//! follow from the events that they belong to; and how long ago an instant before now was. Every
//! interval that the core waits for is shorter than the step that time moves by, so all earlier
//! instants are alike. (One is longer, the age at which a partition count is asked for again: its
//! answer is the same. And a checkpoint's grace never ends here.)
//!
//! Why fewer steps than in the world are enough.
//!
//! * Kafka appends a record in the step in which it reports it, or in the step of a crash without
//!   a report: nothing in between can be told apart by the relay, and it is the latest moment, so
//!   that a position which is told too soon is seen.
//! * A status update is taken by the server, or is lost, in the step of the crash: until then
//!   nothing depends on it. Any position that was told may have been the last that was heard.
//! * A crash of the server takes the slot to any position that it may ever have had.
//! * All transactions are committed when a path begins: a relay can't know of one before it is
//!   sent.
//!
//! What is left out: records that arrive after their producer's end, single events that are
//! refused, and promotions. The simulation beside this test has them.

#![expect(clippy::print_stderr, reason = "the size of each search is printed")]

mod core;
mod model;
mod planted;
mod search;
mod wal;

use std::time::Instant;

use crate::model::{Fault, Setting};
use crate::planted::Planted;
use crate::search::{Figures, search};
use crate::wal::{EVENTS, Layout};

/// A kill and a rewind.
const CRASHES: &[Fault] = &[Fault::Kill, Fault::Rewind];

const MIXED: Setting = Setting {
    layout: [0, 1, 1, 0, 0, 1],
    events_in_flight: 4,
    has_checkpoint: true,
    faults: CRASHES,
    planted: Planted::Nothing,
};

#[test]
fn no_interleaving_with_a_kill_and_a_rewind_breaks_a_promise_wherever_the_events_go() {
    for has_checkpoint in [true, false] {
        let mut sum = Figures::default();
        for layout in layouts().step_by(if is_full_scale() { 1 } else { 5 }) {
            sum += whole(Setting {
                layout,
                has_checkpoint,
                ..MIXED
            });
        }
        print("a kill and a rewind", has_checkpoint, sum);
    }
}

#[test]
fn no_interleaving_with_a_record_that_fails_breaks_a_promise() {
    const FAULTS: &[Fault] = &[Fault::Kill, Fault::Rewind, Fault::Refuse];
    for has_checkpoint in [true, false] {
        let setting = Setting {
            has_checkpoint,
            faults: FAULTS,
            ..MIXED
        };
        let figures = whole(setting);
        print("a record that fails as well", has_checkpoint, figures);
    }
}

#[test]
fn no_interleaving_with_a_stop_and_a_checkpoint_that_fails_breaks_a_promise() {
    const FAULTS: &[Fault] = &[Fault::Kill, Fault::Stop, Fault::Unwritable];
    let figures = whole(Setting {
        faults: FAULTS,
        ..MIXED
    });
    print("a kill, a stop, a failed checkpoint", true, figures);
}

#[test]
fn no_interleaving_breaks_a_promise_while_the_window_is_full() {
    for events_in_flight in [1, 2] {
        let figures = whole(Setting {
            events_in_flight,
            ..MIXED
        });
        print("a window of one or two events", true, figures);
    }
}

/// Half a minute, and a gigabyte.
#[test]
fn at_full_scale_all_faults_come_together() {
    const FAULTS: &[Fault] = &[
        Fault::Kill,
        Fault::Rewind,
        Fault::Refuse,
        Fault::Unwritable,
        Fault::Stop,
    ];
    if !is_full_scale() {
        return;
    }
    for has_checkpoint in [true, false] {
        let setting = Setting {
            has_checkpoint,
            faults: FAULTS,
            ..MIXED
        };
        print("all faults", has_checkpoint, whole(setting));
    }
}

#[test]
fn records_that_are_acknowledged_when_they_leave_are_found() {
    let found = broken(Planted::AcknowledgesEarly, true);
    assert!(found.contains("is not in Kafka"), "{found}");
}

#[test]
fn a_failed_record_that_is_taken_for_a_delivered_one_is_found() {
    let found = broken(Planted::TakesErrorsForAcknowledgements, true);
    assert!(found.contains("is not in Kafka"), "{found}");
}

#[test]
fn a_status_that_goes_out_before_the_checkpoint_is_written_is_found() {
    let found = broken(Planted::TellsBeforeItIsWritten, true);
    assert!(found.contains("on record"), "{found}");
}

#[test]
fn a_session_that_starts_where_the_wal_ends_is_found() {
    let found = broken(Planted::StartsAtTheEnd, true);
    assert!(found.contains("a session starts at"), "{found}");
}

#[test]
fn keepalives_that_are_dropped_are_found() {
    let found = broken(Planted::DropsKeepalives, false);
    assert!(found.contains("it rests"), "{found}");
}

/// A search that has to find nothing.
#[track_caller]
fn whole(setting: Setting) -> Figures {
    let begun = now();
    match search(setting) {
        Ok(figures) => figures,
        Err(broken) => panic!(
            "{} ({setting:?}, after {:.1?}), by this way:\n{:#?}",
            broken.promise,
            begun.elapsed(),
            broken.path
        ),
    }
}

/// What a search finds of a planted mistake.
#[track_caller]
fn broken(planted: Planted, has_checkpoint: bool) -> String {
    const FAULTS: &[Fault] = &[Fault::Kill, Fault::Refuse];
    let setting = Setting {
        planted,
        has_checkpoint,
        faults: FAULTS,
        ..MIXED
    };
    let broken = search(setting).expect_err("the mistake was not found");
    let (promise, steps) = (broken.promise, broken.path.len());
    eprintln!("{planted:?}: {promise}, after {steps} steps");
    promise
}

/// Every way to spread the events over two partitions, but for their names. `make test` takes some
/// of them: the core does not look at partitions when it counts.
fn layouts() -> impl Iterator<Item = Layout> {
    (0..1_u8 << (EVENTS - 1)).map(|bits| {
        let mut layout = Layout::default();
        for (event, partition) in layout.iter_mut().skip(1).enumerate() {
            *partition = bits >> event & 1;
        }
        layout
    })
}

fn print(what: &str, has_checkpoint: bool, figures: Figures) {
    let Figures {
        states,
        transitions,
        cores,
        rests,
    } = figures;
    let row = if has_checkpoint { "with" } else { "without" };
    eprintln!(
        "{what}, {row} a checkpoint: {states} states, {transitions} transitions, {cores} states of \
         the core, {rests} ends"
    );
}

fn is_full_scale() -> bool {
    std::env::var_os("WALPOST_TEST_SCALE").is_some_and(|scale| scale == "full")
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a search says how long it took")]
    Instant::now()
}
