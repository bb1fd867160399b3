//! What a judgement says.

use std::{collections::BTreeMap, fmt};

/// Everything that was found, and what it was found in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What breaks the promise, or shows that the witnesses disagree.
    pub anomalies: Vec<Anomaly>,
    /// Committed events.
    pub events: usize,
    /// Records of them.
    pub records: usize,
    /// Records beyond the first of their event.
    pub duplicates: usize,
    /// Those of them that arrived behind the records of the next producer.
    pub late: usize,
    /// Samples that had a confirmed position and the ends of all partitions.
    pub samples: usize,
}

impl Verdict {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// How many anomalies of that kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.anomalies.iter().filter(|one| one.kind == kind).count()
    }

    pub(crate) fn add(&mut self, kind: Kind, what: String) {
        self.anomalies.push(Anomaly { kind, what });
    }
}

/// The counts, then of each kind the first few anomalies.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            events,
            records,
            duplicates,
            late,
            samples,
            ..
        } = self;
        write!(
            f,
            "{events} events, {records} records, {duplicates} repeats ({late} late), \
             {samples} samples: "
        )?;
        if self.is_clean() {
            return write!(f, "nothing lost, made up, altered or out of order");
        }
        let mut by_kind: BTreeMap<Kind, Vec<&Anomaly>> = BTreeMap::new();
        for anomaly in &self.anomalies {
            by_kind.entry(anomaly.kind).or_default().push(anomaly);
        }
        for (kind, anomalies) in by_kind {
            write!(f, "\n{} × {}", anomalies.len(), kind.meaning())?;
            for anomaly in anomalies.iter().take(SHOWN) {
                write!(f, "\n  {}", anomaly.what)?;
            }
        }
        Ok(())
    }
}

/// One thing that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// What it is.
    pub kind: Kind,
    /// Which event, where.
    pub what: String,
}

/// What an anomaly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A committed event is in no record.
    Lost,
    /// A record is of no committed event.
    Phantom,
    /// A record is in another topic than the row says.
    Topic,
    /// A record has another key than the row says.
    Key,
    /// A record has another value than the row's payload.
    Value,
    /// A record has other headers than the row says.
    Headers,
    /// `walpost-position` or `walpost-commit-time` are not those of the commit.
    Stamp,
    /// An event arrived after one that was committed later.
    Overtaken,
    /// What was repeated is not a suffix of the partition.
    Torn,
    /// The versions of an aggregate are no count that goes on, but for repeats of its end.
    Miscounted,
    /// Events of one aggregate are in several partitions.
    Moved,
    /// A record is in another partition than its aggregate's hash gives.
    Misplaced,
    /// More repeats than allowed.
    Duplicates,
    /// An event came again although its position had been on record before.
    Needless,
    /// A position was confirmed before an event below it had arrived.
    ConfirmedEarly,
    /// Everything arrived, and the last position was not confirmed.
    NotConfirmed,
    /// Events had not arrived at the deadline.
    NotCaughtUp,
    /// The witnesses of what was committed disagree: no fault of the relay.
    Witness,
}

impl Kind {
    /// In words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Phantom => "made up",
            Self::Topic => "in another topic",
            Self::Key => "with another key",
            Self::Value => "with another value",
            Self::Headers => "with other headers",
            Self::Stamp => "with another position or commit time",
            Self::Overtaken => "out of order",
            Self::Torn => "repeated without reaching the end",
            Self::Miscounted => "out of order by the versions of an aggregate",
            Self::Moved => "in another partition than before",
            Self::Misplaced => "in another partition than the hash gives",
            Self::Duplicates => "repeated too often",
            Self::Needless => "repeated although on record",
            Self::ConfirmedEarly => "confirmed before it had arrived",
            Self::NotConfirmed => "arrived and not confirmed",
            Self::NotCaughtUp => "not arrived in time",
            Self::Witness => "witnesses that disagree",
        }
    }
}

/// So many of a kind tell what it is; the rest is a number.
const SHOWN: usize = 5;
