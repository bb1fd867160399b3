//! The tables of `docs/tls.md`: what is tried, on which server.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    cell::Cell,
    certificates::Certificates,
    fake::{self, Manner},
    machine::{self, Machine, Phase},
    reference::cached_postgres,
    run, server,
};

mod clients;
mod exceptions;
mod homes;
mod hosts;
mod markdown;
mod messages;
mod methods;
mod modes;
mod names;
mod negotiation;
mod passwords;
mod strange;

/// The first server with `sslnegotiation=direct`.
const DIRECT: u32 = 17;

/// One table.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    /// Heads of the columns that name a row.
    pub(crate) corners: &'static [&'static str],
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

pub(crate) struct Row {
    /// What names it, one for each corner.
    pub(crate) labels: Vec<String>,
    pub(crate) place: Place,
    /// One for each column.
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    fn new(labels: &[&str], place: Place, cells: impl IntoIterator<Item = Cell>) -> Self {
        Self {
            labels: labels.iter().map(ToString::to_string).collect(),
            place,
            cells: cells.into_iter().collect(),
        }
    }
}

/// The server that a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The installed one.
    Installed(Phase),
    /// One that does not know `sslnegotiation=direct`.
    Older(Phase),
    /// One that does.
    Newer(Phase),
    /// One of [`World::fake`]: the cell has its port.
    Fake,
}

/// Servers, certificates, home directories.
pub(crate) struct World {
    pub(crate) certificates: Certificates,
    installed: Machine,
    installed_major: u32,
    newer: Option<Machine>,
}

impl World {
    pub(crate) fn new() -> Self {
        let programs = server::programs();
        let installed_major = machine::major(&programs);
        let installed = Machine::start(&programs);
        let cached = cached_postgres().join("bin");
        let needs_newer = installed_major < DIRECT && cached.join("initdb").exists();
        let certificates = Certificates::make(installed.directory());
        homes::make(installed.directory(), &certificates);
        Self {
            certificates,
            installed,
            installed_major,
            newer: needs_newer.then(|| Machine::start(&cached)),
        }
    }

    /// The server of a place; None where this machine has none such.
    fn machine(&self, place: Place) -> Option<&Machine> {
        let is_older = self.installed_major < DIRECT;
        match place {
            Place::Installed(_) => Some(&self.installed),
            Place::Older(_) => is_older.then_some(&self.installed),
            Place::Newer(_) if is_older => self.newer.as_ref(),
            Place::Newer(_) => Some(&self.installed),
            Place::Fake => None,
        }
    }

    pub(crate) fn has(&self, place: Place) -> bool {
        place == Place::Fake || self.machine(place).is_some()
    }

    /// Makes the server be what the place says.
    pub(crate) fn enter(&self, place: Place) {
        if let Place::Installed(phase) | Place::Older(phase) | Place::Newer(phase) = place {
            let machine = self.machine(place).expect("only places that are there");
            machine.enter(phase, &self.certificates);
        }
    }

    /// A cell for the server of a place.
    fn cell(&self, place: Place) -> Cell {
        let port = self.machine(place).map_or(1, Machine::port);
        Cell::new(port, &self.home("empty"))
    }

    /// A cell for the installed server.
    fn installed(&self) -> Cell {
        Cell::new(self.installed.port(), &self.home("empty"))
    }

    /// A cell for a new server of this manner.
    fn fake(&self, manner: Manner) -> Cell {
        Cell::new(self.fake_port(manner), &self.home("empty"))
    }

    /// A new server of this manner.
    fn fake_port(&self, manner: Manner) -> u16 {
        fake::start(manner, &self.certificates)
    }

    /// A new, empty home directory.
    fn new_home(&self, name: &str) -> String {
        let path = self.installed.directory().join("homes").join(name);
        fs::create_dir(&path).unwrap();
        self.home(name)
    }

    /// A home directory that was made by its name.
    fn home(&self, name: &str) -> String {
        let path = self.installed.directory().join("homes").join(name);
        assert!(path.is_dir(), "there is no home {name}");
        path.to_str().unwrap().to_owned()
    }

    fn socket_directory(&self) -> String {
        let directory = self.installed.directory();
        directory.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.certificates.path(name)
    }
}

/// Names and values of a table's columns.
fn heads(columns: &[(&str, &str)]) -> Vec<String> {
    columns.iter().map(|(head, _)| (*head).to_owned()).collect()
}

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(ToString::to_string).collect()
}

fn sections(world: &World) -> Vec<Section> {
    let mut sections = vec![
        modes::by_server(world),
        modes::by_admission(world),
        names::section(world),
        clients::certificates(world),
        clients::sslcertmode(world),
        methods::channel_binding(world),
        methods::mechanisms(world),
        methods::signatures(world),
        methods::require_auth(world),
        negotiation::versions(world),
        negotiation::direct(world),
        negotiation::server_name(world),
    ];
    sections.extend([
        homes::section(world),
        homes::environment(world),
        homes::sockets(world),
        strange::answers(world),
        strange::admissions(world),
        strange::values(world),
        hosts::section(world),
        passwords::section(world),
    ]);
    for section in &sections {
        for row in &section.rows {
            assert_eq!(row.cells.len(), section.columns.len(), "{:?}", row.labels);
            assert_eq!(row.labels.len(), section.corners.len(), "{:?}", row.labels);
        }
    }
    sections
}

#[test]
fn every_connection_ends_as_that_of_psql() {
    let world = World::new();
    let sections = sections(&world);
    let outcomes = run::run(&world, &sections);
    run::assert_no_secret_is_told(&outcomes);
    let mut complaints = exceptions::complaints(&sections, &outcomes);
    complaints.extend(messages::complaints(&sections, &outcomes));
    assert!(
        complaints.is_empty(),
        "{} of {} cells:\n{}",
        complaints.len(),
        outcomes.len(),
        complaints.join("\n")
    );
    markdown::compare(&sections, &outcomes);
}
