//! Crash points: places at which a test build can be made to die, exactly there.
//!
//! A process that is started with `CRASH_AT=commit/before:3` in its environment is gone when it
//! comes to the point `commit` for the third time, before it does what stands there. It is gone at
//! once, as after SIGKILL: nothing is flushed, no destructor runs, and the kernel closes what is
//! open. One line on stderr says where it was.
//!
//! The macros are all there is to use. Without debug assertions they are what they wrap and nothing
//! else: no check, no name, no environment variable is in a release build, because the code that
//! knows of them is not compiled.

#![warn(missing_docs)]

#[cfg(debug_assertions)]
mod armed;

#[cfg(debug_assertions)]
pub use crate::armed::{pending, reached};

/// On which side of what stands at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It is not done yet.
    Before,
    /// It is done, and nothing follows from it yet.
    After,
}

impl Side {
    /// As it is written in `CRASH_AT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

const BOTH: &[Side] = &[Side::Before, Side::After];
const AFTER: &[Side] = &[Side::After];

/// Every point of the program, with the sides that it has, in the order of a session's life. One
/// that has no side before it is where something comes of what another point stands around: before
/// it is before that.
pub const POINTS: &[(&str, &[Side])] = &[
    // The gate.
    ("producer", BOTH),
    ("connect", BOTH),
    ("auth", BOTH),
    ("identify", BOTH),
    ("control", BOTH),
    ("checkpoint-read", BOTH),
    ("gate", BOTH),
    ("start", BOTH),
    // The stream.
    ("first-byte", BOTH),
    ("keepalive", BOTH),
    // Before it is `keepalive/before` or `commit/before`: one call of the core.
    ("barrier", AFTER),
    ("begin", BOTH),
    ("relation", BOTH),
    ("row", BOTH),
    ("commit", BOTH),
    // Kafka.
    ("topic", BOTH),
    ("produce", BOTH),
    ("report", BOTH),
    // Before it is `report/before`: one call of the core.
    ("advance", AFTER),
    ("dead-letter", BOTH),
    // A producer that takes the place of another one: between two sessions, and within one.
    ("rebuild", BOTH),
    ("replace", BOTH),
    // What is told of it.
    ("checkpoint-write", BOTH),
    // Before it is `checkpoint-write/before`: that one is the answer's, this one the question's.
    ("checkpoint-sent", AFTER),
    ("checkpoint-told", BOTH),
    ("status", BOTH),
    // Ends.
    ("drain", BOTH),
    ("drained", BOTH),
    ("settle", BOTH),
    ("last-record", BOTH),
    ("finish", BOTH),
    ("park", BOTH),
    ("unpark", BOTH),
    // Before it is `report/after`: something has arrived again, and that is all there is to it.
    ("recover", AFTER),
];

/// Does what stands at a point, and is what that is.
#[macro_export]
macro_rules! around {
    ($name:expr, $done:expr) => {{
        #[cfg(debug_assertions)]
        let name = $name;
        #[cfg(debug_assertions)]
        $crate::reached(name, $crate::Side::Before);
        let done = $done;
        #[cfg(debug_assertions)]
        $crate::reached(name, $crate::Side::After);
        done
    }};
}

/// Something has happened.
#[macro_export]
macro_rules! at {
    ($name:expr) => {{
        #[cfg(debug_assertions)]
        $crate::reached($name, $crate::Side::After);
    }};
}

/// As [`around`], where what stands there may come to nothing: before each try, and after one that
/// came to something.
#[macro_export]
macro_rules! tried {
    ($name:expr, $done:expr, $came:expr) => {{
        #[cfg(debug_assertions)]
        $crate::reached($name, $crate::Side::Before);
        let done = $done;
        #[cfg(debug_assertions)]
        {
            let came: fn(&_) -> bool = $came;
            if came(&done) {
                $crate::reached($name, $crate::Side::After);
            }
        }
        done
    }};
}

/// As [`at`], where doing something has changed what is watched.
#[macro_export]
macro_rules! moved {
    ($name:expr, $watched:expr, $done:expr) => {{
        #[cfg(debug_assertions)]
        let before = $watched;
        let done = $done;
        #[cfg(debug_assertions)]
        if $watched != before {
            $crate::reached($name, $crate::Side::After);
        }
        done
    }};
}

/// As [`at`], when a future has done what it can, and waits for an answer.
#[macro_export]
macro_rules! waiting {
    ($name:expr, $future:expr) => {{
        #[cfg(debug_assertions)]
        let future = $crate::pending($name, $future);
        #[cfg(not(debug_assertions))]
        let future = $future;
        future
    }};
}
