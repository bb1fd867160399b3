//! Methods of authentication: which are allowed, and whether they are bound to the connection.

use super::{Place, Row, Section, World, heads, words};
use crate::{
    cell::{Cell, LIBPQ_16},
    fake::{Admission, Answer, Manner},
    machine::{NO_TLS, PASSWORD, Phase, RIGHT},
};

/// Roles that are called by how they are let in.
const ROLES: [&str; 4] = ["trusted", "password", "md5", "scram"];

const BINDINGS: [(&str, &str); 7] = [
    ("`disable`, TLS", "sslmode=require channel_binding=disable"),
    ("`prefer`, TLS", "sslmode=require channel_binding=prefer"),
    ("`require`, TLS", "sslmode=require channel_binding=require"),
    (
        "`require`, `sslmode=prefer`",
        "sslmode=prefer channel_binding=require",
    ),
    (
        "`require`, `sslmode=allow`",
        "sslmode=allow channel_binding=require",
    ),
    ("`prefer`, clear", "sslmode=disable channel_binding=prefer"),
    (
        "`require`, clear",
        "sslmode=disable channel_binding=require",
    ),
];

fn row(world: &World, label: &str, phase: Phase, rest: &[(&str, &str)]) -> Row {
    let cell = |(_, text): (&str, &str)| {
        let cell = rest.iter().fold(world.installed(), |cell, (key, value)| {
            cell.with(key, *value)
        });
        cell.with_all(text)
    };
    Row::new(&[label], Place::Installed(phase), BINDINGS.map(cell))
}

pub(super) fn channel_binding(world: &World) -> Section {
    let mut rows = Vec::new();
    for role in ROLES {
        let rest = [("user", role), ("password", PASSWORD)];
        rows.push(row(world, role, RIGHT, &rest));
    }
    let wrong = [("user", "scram"), ("password", "planted-wrong")];
    rows.push(row(world, "scram, wrong password", RIGHT, &wrong));
    rows.push(row(
        world,
        "scram, no password",
        RIGHT,
        &[("user", "scram")],
    ));
    let right = [("user", "scram"), ("password", PASSWORD)];
    rows.push(row(world, "scram, server without TLS", NO_TLS, &right));
    Section {
        title: "`channel_binding`",
        about: "How the server lets the role in names the row; the password is right where \
                nothing else is said.",
        corners: &["method"],
        columns: heads(&BINDINGS),
        rows,
    }
}

pub(super) fn signatures(world: &World) -> Section {
    let right = [("user", "scram"), ("password", PASSWORD)];
    let rows = [
        ("ECDSA with SHA-256", "server-right"),
        ("ECDSA with SHA-384", "server-sha384"),
        ("ECDSA with SHA-512", "server-sha512"),
        ("RSA with SHA-256", "server-rsa"),
        ("RSA-PSS with SHA-256", "server-rsa-pss"),
        ("Ed25519", "server-ed25519"),
    ];
    let rows = rows.map(|(label, name)| row(world, label, Phase::certificate(name), &right));
    Section {
        title: "`channel_binding`, by how the server's certificate is signed",
        about: "SCRAM; what it is bound to is a digest of the certificate, and the signature says \
                which digest.",
        corners: &["signature"],
        columns: heads(&BINDINGS),
        rows: rows.into(),
    }
}

const REQUIRED: [&str; 16] = [
    "unset",
    "none",
    "password",
    "md5",
    "scram-sha-256",
    "gss",
    "!none",
    "!password",
    "!md5",
    "!scram-sha-256",
    "password,md5",
    "none,scram-sha-256",
    "!password,!md5",
    "!none,!scram-sha-256",
    "password,!md5",
    "md5,md5",
];

pub(super) fn require_auth(world: &World) -> Section {
    let row = |label: &str, change: &dyn Fn(Cell) -> Cell| {
        let cell = |required: &str| {
            let cell = change(world.installed()).needs(LIBPQ_16);
            match required {
                "unset" => cell,
                required => cell.with("require_auth", required),
            }
        };
        Row::new(
            &[label],
            Place::Installed(RIGHT.asking()),
            REQUIRED.map(cell),
        )
    };
    let mut rows = Vec::new();
    for role in ROLES {
        rows.push(row(role, &|cell| {
            cell.with("user", role).with("password", PASSWORD)
        }));
    }
    rows.push(row("scram, in the clear", &|cell| {
        cell.with("user", "scram")
            .with("password", PASSWORD)
            .with("sslmode", "disable")
    }));
    rows.push(row("cert", &|cell| {
        cell.with_all("user=certified dbname=with_certificate")
            .with("sslcert", world.path("client.crt"))
            .with("sslkey", world.path("client.key"))
    }));
    let spoken = |required: &&str| match *required {
        "unset" => (*required).to_owned(),
        required => format!("`{required}`"),
    };
    Section {
        title: "`require_auth`",
        about: "Which methods the client puts up with, by the method that the server asks for. The \
                password is right; TLS is preferred.",
        corners: &["method"],
        columns: REQUIRED.iter().map(spoken).collect(),
        rows,
    }
}

/// Which mechanism the client takes, and what it says of binding.
pub(super) fn mechanisms(world: &World) -> Section {
    const SCRAM: &str = "SCRAM-SHA-256";
    const PLUS: &str = "SCRAM-SHA-256-PLUS";
    let rows = [
        ("both", Admission::Scram(&[PLUS, SCRAM])),
        ("both, in another order", Admission::Scram(&[SCRAM, PLUS])),
        ("only the one that is bound", Admission::Scram(&[PLUS])),
        ("only the one that is not", Admission::Scram(&[SCRAM])),
        (
            "one that is unknown, and both",
            Admission::Scram(&["SCRAM-SHA-512", PLUS, SCRAM]),
        ),
        ("one, and its proof is wrong", Admission::FalseProof),
    ];
    let rows = rows.map(|(label, admission)| {
        let base = world.fake(Manner::answering(Answer::Yes).admitting(admission));
        let base = base.with("password", PASSWORD).with("sslsni", "0");
        let cell = |(_, text): (&str, &str)| base.clone().with_all(text);
        Row::new(&[label], Place::Fake, BINDINGS.map(cell))
    });
    Section {
        title: "`channel_binding`, by what the server offers",
        about: "Connected, the cell shows the mechanism that the client took and what it tells the \
                server of binding: `p` for bound, `y` for would if you could, `n` for no. By the \
                `y` a server finds out that someone in between took the better mechanism off its \
                offer.",
        corners: &["the server offers"],
        columns: heads(&BINDINGS),
        rows: rows.into(),
    }
}

/// For other sections: roles by their methods.
pub(super) fn unproven_columns() -> Vec<String> {
    words(&[
        "unset",
        "`channel_binding=require`",
        "`require_auth=scram-sha-256`",
    ])
}
