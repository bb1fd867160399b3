//! What the next transaction holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    rc::Rc,
};

use uuid::Uuid;

use super::{Writer, Written};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Commit,
    Rollback,
}

/// One transaction, decided before it begins.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pieces: Vec<Piece>,
    pub(super) fate: Fate,
}

/// Rows of a transaction that share their fate.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) rows: Vec<Row>,
    pub(super) savepoint: Savepoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Savepoint {
    None,
    Released,
    RolledBack,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Without a version where that is taken from the aggregate's row.
    pub(super) event: Written,
    /// What the payload says besides.
    transaction: u64,
    filler: Rc<str>,
}

impl Row {
    pub(super) fn payload(&self) -> String {
        let Written {
            aggregate, version, ..
        } = &self.event;
        let transaction = self.transaction;
        let mut payload = format!(
            r#"{{"aggregate": "{aggregate}", "version": {version}, "transaction": {transaction}"#
        );
        if !self.filler.is_empty() {
            write!(payload, r#", "filler": "{}""#, self.filler).expect("a String takes everything");
        }
        payload.push('}');
        payload
    }
}

impl Piece {
    /// How many events each aggregate has in it, by name.
    pub(super) fn counts(&self) -> BTreeMap<&str, i64> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.event.aggregate.as_str()).or_default() += 1;
        }
        counts
    }

    /// Numbers the events, given the version that each aggregate had before.
    pub(super) fn number(&mut self, mut versions: BTreeMap<String, u64>) {
        for row in &mut self.rows {
            let version = versions
                .get_mut(&row.event.aggregate)
                .expect("the version of every aggregate");
            *version += 1;
            row.event.version = *version;
        }
    }
}

impl Plan {
    /// The aggregates that have events in it, in the order of their names.
    pub(super) fn aggregates(&self) -> BTreeSet<&str> {
        let rows = self.pieces.iter().flat_map(|piece| &piece.rows);
        rows.map(|row| row.event.aggregate.as_str()).collect()
    }

    /// The events that are there when the transaction is committed, in its order.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Written> {
        let kept = self
            .pieces
            .iter()
            .filter(|piece| piece.savepoint != Savepoint::RolledBack);
        kept.flat_map(|piece| &piece.rows).map(|row| &row.event)
    }

    /// Rows that are rolled back even then.
    pub(super) fn discarded(&self) -> impl Iterator<Item = Uuid> {
        let gone = self
            .pieces
            .iter()
            .filter(|piece| piece.savepoint == Savepoint::RolledBack);
        gone.flat_map(|piece| &piece.rows).map(|row| row.event.id)
    }
}

/// Draws transactions and counts the versions of the aggregates.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    writer: &'a Writer,
    random: fastrand::Rng,
    /// Of aggregates of its own.
    prefix: String,
    filler: Rc<str>,
    /// The last committed version of each aggregate.
    versions: Vec<u64>,
    transactions: u64,
}

impl<'a> Planner<'a> {
    pub(super) fn new(writer: &'a Writer) -> Self {
        Self {
            writer,
            random: fastrand::Rng::with_seed(writer.seed),
            prefix: Writer::aggregate_prefix(),
            filler: "x".repeat(writer.payload_bytes).into(),
            versions: vec![0; writer.aggregates],
            transactions: 0,
        }
    }

    /// Draws the next transaction. Its versions count only when it is given to
    /// [`Planner::keep`].
    pub(super) fn plan(&mut self) -> Plan {
        let (least, most) = self.writer.rows;
        let rows = self.random.usize(least..=most);
        let rolled_back = self.random.f64() < self.writer.rollbacks;
        let fate = if rolled_back {
            Fate::Rollback
        } else {
            Fate::Commit
        };
        let mut versions = self.versions.clone();
        let mut pieces = Vec::new();
        if self.writer.savepoints {
            let inside = self.random.usize(1..=3);
            let undone = self.random.bool();
            let (before, after) = (rows / 2, rows - rows / 2);
            pieces.push(self.piece(before, Savepoint::None, &mut versions));
            let savepoint = if undone {
                Savepoint::RolledBack
            } else {
                Savepoint::Released
            };
            // Versions of rows that vanish are used again by those that come after.
            let mut vanishing = versions.clone();
            let counted = if undone {
                &mut vanishing
            } else {
                &mut versions
            };
            pieces.push(self.piece(inside, savepoint, counted));
            pieces.push(self.piece(after, Savepoint::None, &mut versions));
        } else {
            pieces.push(self.piece(rows, Savepoint::None, &mut versions));
        }
        self.transactions += 1;
        Plan { pieces, fate }
    }

    /// Draws a transaction of exactly `rows` rows that is committed.
    pub(super) fn plain(&mut self, rows: usize) -> Plan {
        let mut versions = self.versions.clone();
        let piece = self.piece(rows, Savepoint::None, &mut versions);
        self.transactions += 1;
        Plan {
            pieces: vec![piece],
            fate: Fate::Commit,
        }
    }

    /// Counts the versions of a transaction that was committed; those of shared aggregates are
    /// counted by their rows.
    pub(super) fn keep(&mut self, plan: &Plan) {
        for event in plan.kept() {
            let index = event
                .aggregate
                .rsplit('-')
                .next()
                .and_then(|index| index.parse().ok());
            let index: usize = index.expect("an aggregate's name ends with its index");
            self.versions[index] = self.versions[index].max(event.version);
        }
    }

    fn piece(&mut self, rows: usize, savepoint: Savepoint, versions: &mut [u64]) -> Piece {
        let rows = (0..rows).map(|_| self.row(versions)).collect();
        Piece { rows, savepoint }
    }

    fn row(&mut self, versions: &mut [u64]) -> Row {
        let index = self.random.usize(..versions.len());
        versions[index] += 1;
        let aggregate = match self.writer.shared {
            Some(_) => Writer::shared_aggregate(index),
            None => format!("{}-{index}", self.prefix),
        };
        // Not from the seeded generator: ids have to differ from run to run.
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
        Row {
            event: Written {
                id,
                aggregate,
                version: versions[index],
            },
            transaction: self.transactions,
            filler: Rc::clone(&self.filler),
        }
    }
}
