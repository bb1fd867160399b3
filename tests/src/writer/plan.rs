//! What the next transaction holds.

use std::fmt::Write;

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
    pub(super) event: Written,
    pub(super) payload: String,
}

impl Plan {
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
    prefix: String,
    filler: String,
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
            filler: "x".repeat(writer.payload_bytes),
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

    /// Counts the versions of a transaction that was committed.
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
        let version = versions[index];
        let aggregate = format!("{}-{index}", self.prefix);
        // Not from the seeded generator: ids have to differ from run to run.
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
        let mut payload = String::with_capacity(80 + self.filler.len());
        write!(
            payload,
            r#"{{"aggregate": "{aggregate}", "version": {version}, "transaction": {}"#,
            self.transactions
        )
        .expect("a String takes everything");
        if !self.filler.is_empty() {
            write!(payload, r#", "filler": "{}""#, self.filler).expect("a String takes everything");
        }
        payload.push('}');
        Row {
            event: Written {
                id,
                aggregate,
                version,
            },
            payload,
        }
    }
}
