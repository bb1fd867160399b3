//! Which names in a certificate are the host's.

use super::{Place, Row, Section, World, words};
use crate::machine::Phase;

/// Certificate, what it says, and the hosts that are tried.
const NAMES: [(&str, &str, &[&str]); 9] = [
    (
        "server-right",
        "DNS `localhost`",
        &[
            "localhost",
            "LOCALHOST",
            "localhost.",
            "127.0.0.1",
            "notlocalhost",
        ],
    ),
    (
        "server-address",
        "IP `127.0.0.1` and `::1`, CN `db`",
        &[
            "127.0.0.1",
            "127.0.0.2",
            "127.1",
            "0x7f000001",
            "0177.0.0.01",
            "2130706433",
            "2130706434",
            "127.0.0.1.",
            "::1",
            "0:0:0:0:0:0:0:1",
            "::2",
            "db",
            "localhost",
        ],
    ),
    (
        "server-common-name",
        "CN `localhost`",
        &["localhost", "LOCALHOST", "127.0.0.1"],
    ),
    (
        "server-common-address",
        "CN `127.0.0.1`",
        &["127.0.0.1", "localhost"],
    ),
    (
        "server-address-as-name",
        "DNS `127.0.0.1` and `*.0.0.2`, CN `db`",
        &["127.0.0.1", "127.0.0.2", "db"],
    ),
    (
        "server-name-beside-address",
        "IP `127.0.0.1`, CN `localhost`",
        &["127.0.0.1", "localhost"],
    ),
    (
        "server-address-beside-name",
        "DNS `localhost`, CN `127.0.0.1`",
        &["127.0.0.1", "localhost"],
    ),
    (
        "server-wildcard",
        "DNS `*.example.test`, `*`, `d*.part.test`, `*.top`; CN `db`",
        &[
            "db.example.test",
            "DB.EXAMPLE.TEST",
            "a.db.example.test",
            "example.test",
            ".example.test",
            "*.example.test",
            "localhost",
            "db.part.test",
            "d*.part.test",
            "a.top",
            "db",
        ],
    ),
    (
        "server-common-wildcard",
        "CN `*.example.test`",
        &["db.example.test", "a.db.example.test", "example.test"],
    ),
];

pub(super) fn section(world: &World) -> Section {
    let mut rows = Vec::new();
    for (certificate, label, hosts) in NAMES {
        let place = Place::Installed(Phase::certificate(certificate));
        let cell = |mode: &str| {
            world
                .installed()
                .with("sslmode", mode)
                .with("sslrootcert", world.path("root.crt"))
        };
        let mut row = |host: &str, change: &dyn Fn(crate::cell::Cell) -> crate::cell::Cell| {
            let cells = ["verify-ca", "verify-full"].map(|mode| change(cell(mode)));
            rows.push(Row::new(&[label, host], place, cells));
        };
        for host in hosts {
            row(&format!("`{host}`"), &|cell| cell.with("host", *host));
        }
        if certificate == "server-address" {
            row("none, only `hostaddr=127.0.0.1`", &|cell| {
                cell.without("host")
            });
        }
    }
    Section {
        title: "Names of the host",
        about: "The root is right, and the connection goes to the address of `hostaddr`: `host` \
                is only the name that is compared with the certificate. It says what is listed.",
        corners: &["certificate", "`host`"],
        columns: words(&["verify-ca", "verify-full"]),
        rows,
    }
}
