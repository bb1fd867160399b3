//! Runs the cells of all tables, and says where the crate and libpq end differently.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    cell::{Cell, Verdict},
    certificates::PASSPHRASE,
    machine::PASSWORD,
    ours,
    reference::Reference,
    table::{Place, Section, World},
};

/// Most of the time a thread waits for a process or for the server.
const THREADS: usize = 6;

/// How a cell ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) address: Address,
    pub(crate) cell: Cell,
    /// By each libpq that knows its keys, the newest last.
    pub(crate) psql: Vec<(u32, Verdict)>,
    pub(crate) ours: Verdict,
}

/// Where a cell stands: section, row, column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub(crate) usize, pub(crate) usize, pub(crate) usize);

impl Outcome {
    /// What libpq does: the newest one that could be asked.
    pub(crate) fn libpq(&self) -> &Verdict {
        &self.psql.last().expect("a cell that ran has a judge").1
    }

    /// Whether an older libpq ends differently.
    pub(crate) fn judges_agree(&self) -> bool {
        self.psql
            .iter()
            .all(|(_, verdict)| verdict.agrees(self.libpq()))
    }
}

/// Runs every cell that can run here. Those that need a libpq or a server that the machine lacks
/// have no outcome.
pub(crate) fn run(world: &World, sections: &[Section]) -> BTreeMap<Address, Outcome> {
    let references = Reference::all();
    let mut groups: BTreeMap<Place, Vec<(Address, &Cell)>> = BTreeMap::new();
    for (section_number, section) in sections.iter().enumerate() {
        for (row_number, row) in section.rows.iter().enumerate() {
            for (column, cell) in row.cells.iter().enumerate() {
                let address = Address(section_number, row_number, column);
                if references.iter().any(|reference| reference.knows(cell)) {
                    let place = cell_place(row.place, world);
                    if let Some(place) = place {
                        groups.entry(place).or_default().push((address, cell));
                    }
                }
            }
        }
    }
    let mut outcomes = BTreeMap::new();
    for (place, cells) in groups {
        world.enter(place);
        for outcome in run_group(&references, &cells) {
            outcomes.insert(outcome.address, outcome);
        }
    }
    outcomes
}

fn cell_place(place: Place, world: &World) -> Option<Place> {
    world.has(place).then_some(place)
}

fn run_group(references: &[Reference], cells: &[(Address, &Cell)]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let runtime = ours::runtime();
                while let Some((address, cell)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ours = ours::connect(&runtime, cell);
                    let psql = references
                        .iter()
                        .filter(|reference| reference.knows(cell))
                        .map(|reference| (reference.libpq, reference.connect(cell)))
                        .collect();
                    let outcome = Outcome {
                        address: *address,
                        cell: (*cell).clone(),
                        psql,
                        ours,
                    };
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// Fails when an error of the crate shows a password or a passphrase.
pub(crate) fn assert_no_secret_is_told(outcomes: &BTreeMap<Address, Outcome>) {
    for outcome in outcomes.values() {
        if let Verdict::Refused(text) = &outcome.ours {
            for secret in [PASSWORD, PASSPHRASE, "planted"] {
                assert!(!text.contains(secret), "a secret is in: {text}");
            }
        }
    }
}
