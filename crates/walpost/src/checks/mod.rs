//! The table of checks: every problem that walpost knows, with its code.
//!
//! A code is a promise: people search for it and alert on it, so it never changes its meaning and
//! is never given out again. `docs/checks.md` is made from this table, and a test compares both.

#[cfg(test)]
mod docs;
mod kafka;
mod postgres;
mod publication;
mod routing;
mod slot;
mod table;

use serde::Serialize;

pub(crate) use self::kafka::*;
pub(crate) use self::postgres::*;
pub(crate) use self::publication::*;
pub(crate) use self::routing::*;
pub(crate) use self::slot::*;
pub(crate) use self::table::*;

/// What is looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Area {
    Postgres,
    Slot,
    Publication,
    Table,
    Routing,
    Kafka,
}

impl Area {
    /// Its heading.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Slot => "slot",
            Self::Publication => "publication",
            Self::Table => "table",
            Self::Routing => "routing",
            Self::Kafka => "kafka",
        }
    }
}

/// How bad the problem is where it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warning,
    /// It depends, as `why` tells.
    Either,
}

/// One problem that can be found.
#[derive(Debug)]
pub(crate) struct Check {
    pub code: &'static str,
    pub area: Area,
    pub level: Level,
    /// The problem in a few words.
    pub title: &'static str,
    /// Where it shows.
    pub looks_at: &'static str,
    /// What happens if it stays.
    pub why: &'static str,
    /// What can be done, in general: a finding has it with the names filled in.
    pub fix: &'static str,
}

/// A part of the table: one static for each check, and all of them in order.
macro_rules! checks {
    ($area:ident, $all:ident; $(
        $name:ident = $code:literal, $level:ident, $title:literal,
        looks_at: $looks_at:literal,
        why: $why:literal,
        fix: $fix:literal;
    )*) => {
        $(pub(crate) static $name: $crate::checks::Check = $crate::checks::Check {
            code: $code,
            area: $crate::checks::Area::$area,
            level: $crate::checks::Level::$level,
            title: $title,
            looks_at: $looks_at,
            why: $why,
            fix: $fix,
        };)*
        pub(super) static $all: &[&$crate::checks::Check] = &[$(&$name),*];
    };
}
use checks;

/// Every check, area by area.
pub(crate) fn all() -> impl Iterator<Item = &'static Check> {
    let areas = [
        POSTGRES_CHECKS,
        SLOT_CHECKS,
        PUBLICATION_CHECKS,
        TABLE_CHECKS,
        ROUTING_CHECKS,
        KAFKA_CHECKS,
    ];
    areas.into_iter().flatten().copied()
}

/// The check of that code, in any case of letters.
pub(crate) fn find(code: &str) -> Option<&'static Check> {
    all().find(|check| check.code.eq_ignore_ascii_case(code))
}

impl Level {
    /// In words.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Either => "error or warning",
        }
    }
}
