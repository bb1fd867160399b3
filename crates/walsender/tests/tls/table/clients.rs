//! Certificates of clients.

use super::{Place, Row, Section, World, heads, words};
use crate::{
    cell::{Cell, LIBPQ_16},
    certificates::PASSPHRASE,
    machine::{PASSWORD, Phase, RIGHT},
};

/// A certificate and a key by their names; with a passphrase.
fn show(world: &World, cell: Cell, certificate: &str, key: &str, passphrase: &str) -> Cell {
    let path = |name: &str| match name {
        "missing" => "/nonexistent/client".to_owned(),
        name => world.path(name),
    };
    let mut cell = cell;
    if !certificate.is_empty() {
        cell = cell.with("sslcert", path(certificate));
    }
    if !key.is_empty() {
        cell = cell.with("sslkey", path(key));
    }
    if !passphrase.is_empty() {
        cell = cell.with("sslpassword", passphrase);
    }
    cell
}

/// Label; certificate, key and passphrase.
const SHOWN: [(&str, [&str; 3]); 28] = [
    ("nothing", ["", "", ""]),
    ("right", ["client.crt", "client.key", ""]),
    (
        "right, a passphrase that is not needed",
        ["client.crt", "client.key", PASSPHRASE],
    ),
    (
        "right, by an intermediate that is sent",
        ["client-chain.crt", "client-chain.key", ""],
    ),
    (
        "by an intermediate that is not sent",
        ["client-without-chain.crt", "client-without-chain.key", ""],
    ),
    (
        "by another root",
        ["client-other.crt", "client-other.key", ""],
    ),
    (
        "of another role",
        ["client-somebody.crt", "client-somebody.key", ""],
    ),
    ("expired", ["client-expired.crt", "client-expired.key", ""]),
    ("certificate file missing", ["missing", "client.key", ""]),
    (
        "certificate file without one",
        ["client-garbage.crt", "client.key", ""],
    ),
    ("no key given", ["client.crt", "", ""]),
    ("key file missing", ["client.crt", "missing", ""]),
    (
        "key file without one",
        ["client.crt", "client-garbage.key", ""],
    ),
    (
        "key of another certificate",
        ["client.crt", "client-somebody.key", ""],
    ),
    ("key is a directory", ["client.crt", "revoked", ""]),
    ("key with mode 0400", ["client.crt", "client-400.key", ""]),
    ("key with mode 0644", ["client.crt", "client-644.key", ""]),
    ("key with mode 0660", ["client.crt", "client-660.key", ""]),
    (
        "certificate and key in one file",
        ["client-both.pem", "client-both.pem", ""],
    ),
    ("certificate in DER", ["client-der.crt", "client.key", ""]),
    (
        "key behind its parameters",
        ["client.crt", "client-parameters.key", ""],
    ),
    ("key in DER", ["client.crt", "client-der.key", ""]),
    (
        "encrypted key, passphrase",
        ["client.crt", "client-encrypted.key", PASSPHRASE],
    ),
    (
        "encrypted key, wrong passphrase",
        ["client.crt", "client-encrypted.key", "planted-wrong"],
    ),
    (
        "encrypted key, no passphrase",
        ["client.crt", "client-encrypted.key", ""],
    ),
    (
        "traditional encrypted key, passphrase",
        ["client.crt", "client-traditional.key", PASSPHRASE],
    ),
    (
        "traditional encrypted key, wrong passphrase",
        ["client.crt", "client-traditional.key", "planted-wrong"],
    ),
    (
        "traditional encrypted key, no passphrase",
        ["client.crt", "client-traditional.key", ""],
    ),
];

/// Head; database, mode.
const DEMANDS: [(&str, &str); 7] = [
    ("nothing", "sslmode=require"),
    ("nothing, `prefer`", "sslmode=prefer"),
    ("nothing, `allow`", "sslmode=allow"),
    (
        "`clientcert=verify-ca`",
        "sslmode=require dbname=with_authority",
    ),
    (
        "`clientcert=verify-full`",
        "sslmode=require dbname=with_name",
    ),
    ("`cert`", "sslmode=require dbname=with_certificate"),
    ("`cert`, `prefer`", "sslmode=prefer dbname=with_certificate"),
];

pub(super) fn certificates(world: &World) -> Section {
    let place = Place::Installed(RIGHT.asking());
    let row = |(label, [certificate, key, passphrase]): (&str, [&str; 3])| {
        let cell = |(_, rest): (&str, &str)| {
            let cell = world.installed().with("user", "certified").with_all(rest);
            show(world, cell, certificate, key, passphrase)
        };
        Row::new(&[label], place, DEMANDS.map(cell))
    };
    let mut rows: Vec<Row> = SHOWN.into_iter().map(row).collect();
    // Only root's keys may be read by their group: another owner can't try it.
    let mut of_root = row((
        "key of root with mode 0640",
        ["client.crt", "client-640.key", ""],
    ));
    if !is_root() {
        of_root.cells = of_root.cells.into_iter().map(Cell::impossible).collect();
    }
    rows.push(of_root);
    Section {
        title: "Client certificates",
        about: "The server asks for a certificate by its root, and demands what heads the column; \
                `sslmode` is `require` where nothing else is said. Keys belong to the user who \
                connects.",
        corners: &["the client shows"],
        columns: heads(&DEMANDS),
        rows,
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

const CERTIFICATE: [&str; 3] = ["client.crt", "client.key", ""];
const NO_CERTIFICATE: [&str; 3] = [""; 3];
const MISSING_CERTIFICATE: [&str; 3] = ["missing", "missing", ""];
const OLD: Phase = RIGHT.settings("ssl_max_protocol_version = 'TLSv1.2'");

/// What the client has and what the server does; the server, what is shown, more keys.
const CERTMODES: [([&str; 2], Phase, [&str; 3], &str); 13] = [
    (["a certificate", "does not ask"], RIGHT, CERTIFICATE, ""),
    (["none", "does not ask"], RIGHT, NO_CERTIFICATE, ""),
    (["a certificate", "asks"], RIGHT.asking(), CERTIFICATE, ""),
    (["none", "asks"], RIGHT.asking(), NO_CERTIFICATE, ""),
    (
        ["a certificate", "asks, in TLS 1.2"],
        OLD.asking(),
        CERTIFICATE,
        "",
    ),
    (
        ["none", "asks, in TLS 1.2"],
        OLD.asking(),
        NO_CERTIFICATE,
        "",
    ),
    (
        ["a certificate", "does not ask, in TLS 1.2"],
        OLD,
        CERTIFICATE,
        "",
    ),
    (
        ["a certificate", "demands one (`cert`)"],
        RIGHT.asking(),
        CERTIFICATE,
        "dbname=with_certificate",
    ),
    (
        ["none", "demands one (`cert`)"],
        RIGHT.asking(),
        NO_CERTIFICATE,
        "dbname=with_certificate",
    ),
    (
        ["a file that is missing", "asks"],
        RIGHT.asking(),
        MISSING_CERTIFICATE,
        "",
    ),
    (
        ["a certificate and a password", "demands both"],
        RIGHT.asking(),
        CERTIFICATE,
        "dbname=with_both",
    ),
    (
        ["a certificate", "has TLS, `sslmode=disable`"],
        RIGHT,
        CERTIFICATE,
        "sslmode=disable",
    ),
    (
        ["a certificate", "has TLS, `sslmode=prefer`"],
        RIGHT,
        CERTIFICATE,
        "sslmode=prefer",
    ),
];

pub(super) fn sslcertmode(world: &World) -> Section {
    let modes = ["unset", "disable", "allow", "require"];
    let rows = CERTMODES.map(|(labels, phase, [certificate, key, passphrase], rest)| {
        let cell = |mode: &str| {
            let cell = world
                .installed()
                .with_all("user=certified sslmode=require")
                .with("password", PASSWORD)
                .with_all(rest)
                .needs(LIBPQ_16);
            let cell = show(world, cell, certificate, key, passphrase);
            match mode {
                "unset" => cell,
                mode => cell.with("sslcertmode", mode),
            }
        };
        Row::new(&labels, Place::Installed(phase), modes.map(cell))
    });
    Section {
        title: "`sslcertmode`",
        about: "Whether a client certificate is sent where there is one, and whether the server \
                has to ask for it.",
        corners: &["the client has", "the server"],
        columns: words(&modes),
        rows: rows.into(),
    }
}
