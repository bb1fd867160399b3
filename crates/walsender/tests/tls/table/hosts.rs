//! Several hosts in one connection string: after which failures the next one is tried.

use super::{Place, Row, Section, World, modes::MODES, words};
use crate::{
    cell::Cell,
    fake::{Admission, Answer, Manner},
    server,
};

/// Both hosts are this machine, by two ports.
fn both(cell: Cell, first: u16, second: u16) -> Cell {
    cell.with("host", "localhost,localhost")
        .with("hostaddr", "127.0.0.1,127.0.0.1")
        .with("port", format!("{first},{second}"))
        .with("sslsni", "0")
}

pub(super) fn section(world: &World) -> Section {
    let good = Manner::answering(Answer::Yes);
    let second = world.fake_port(good);
    let refuse = |code| good.admitting(Admission::Refuse(code));
    let firsts = [
        ("nobody listens", None),
        ("has no TLS", Some(Manner::answering(Answer::No))),
        (
            "closes at the question for TLS",
            Some(Manner::answering(Answer::Close)),
        ),
        (
            "answers it with an error",
            Some(Manner::answering(Answer::Error)),
        ),
        (
            "answers it with nonsense",
            Some(Manner::answering(Answer::Garbage)),
        ),
        (
            "sends more behind its answer",
            Some(Manner::answering(Answer::Injected)),
        ),
        (
            "closes at the handshake",
            Some(Manner::answering(Answer::NoHandshake)),
        ),
        ("refuses the password (28P01)", Some(refuse("28P01"))),
        ("has no rule for the client (28000)", Some(refuse("28000"))),
        ("starts up (57P03)", Some(refuse("57P03"))),
        ("is full (53300)", Some(refuse("53300"))),
        ("has no such database (3D000)", Some(refuse("3D000"))),
        (
            "asks for a password, none is given",
            Some(good.admitting(Admission::Method(3))),
        ),
        (
            "asks for GSSAPI",
            Some(good.admitting(Admission::Method(7))),
        ),
    ];
    let mut rows: Vec<Row> = firsts
        .into_iter()
        .map(|(label, manner)| {
            let first = manner.map_or_else(server::dead_port, |manner| world.fake_port(manner));
            let cell = |mode: &str| {
                both(world.installed(), first, second)
                    .with("sslrootcert", world.path("root.crt"))
                    .with("sslmode", mode)
            };
            Row::new(&[label], Place::Fake, MODES.map(cell))
        })
        .collect();
    let other = |mode: &str| {
        both(world.installed(), second, second)
            .with("sslrootcert", world.path("root-other.crt"))
            .with("sslmode", mode)
    };
    let label = "certificate is by a root that is not trusted (of both)";
    rows.push(Row::new(&[label], Place::Fake, MODES.map(other)));
    Section {
        title: "Several hosts",
        about: "The second host does everything right: what makes the client try it?",
        corners: &["the first host"],
        columns: words(&MODES),
        rows,
    }
}
