//! How TLS begins: versions, at once or after a question, and the name that is told.

use super::{Place, Row, Section, World, heads, words};
use crate::{
    cell::{Cell, LIBPQ_17},
    fake::{Alpn, Answer, Manner},
    machine::{NO_TLS, RIGHT},
};

use super::modes::MODES;

/// How many of the clients want what a server can refuse.
const SENSIBLE: usize = 8;

pub(super) fn versions(world: &World) -> Section {
    let servers = [
        ("any", ""),
        (
            "only TLS 1.2",
            "ssl_min_protocol_version = 'TLSv1.2'\nssl_max_protocol_version = 'TLSv1.2'",
        ),
        ("only TLS 1.3", "ssl_min_protocol_version = 'TLSv1.3'"),
    ];
    let clients = [
        ("unset", ""),
        ("1.2 at least", "ssl_min_protocol_version=TLSv1.2"),
        ("1.3 at least", "ssl_min_protocol_version=TLSv1.3"),
        ("1.2 at most", "ssl_max_protocol_version=TLSv1.2"),
        ("1.3 at most", "ssl_max_protocol_version=TLSv1.3"),
        (
            "1.0 at least, 1.2 at most",
            "ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.2",
        ),
        ("any at least", "ssl_min_protocol_version="),
        (
            "1.1 only",
            "ssl_min_protocol_version=TLSv1.1 ssl_max_protocol_version=TLSv1.1",
        ),
        (
            "1.3 at least, 1.2 at most",
            "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        ),
        (
            "1.1 at most, least unset",
            "ssl_max_protocol_version=TLSv1.1",
        ),
        ("any spelling", "ssl_min_protocol_version=tlsv1.2"),
        ("nonsense", "ssl_min_protocol_version=TLSv2"),
    ];
    let columns = [
        ("`require`", "sslmode=require"),
        ("`prefer`", "sslmode=prefer"),
        ("`disable`", "sslmode=disable"),
    ];
    let mut rows = Vec::new();
    for (server, settings) in servers {
        // What is wrong in itself is so with any server.
        let clients = if settings.is_empty() {
            &clients
        } else {
            &clients[..SENSIBLE]
        };
        for (client, text) in clients {
            let cell = |(_, mode): (&str, &str)| world.installed().with_all(text).with_all(mode);
            let place = Place::Installed(RIGHT.settings(settings));
            rows.push(Row::new(&[server, client], place, columns.map(cell)));
        }
    }
    Section {
        title: "`ssl_min_protocol_version`, `ssl_max_protocol_version`",
        about: "",
        corners: &["the server speaks", "the client wants"],
        columns: heads(&columns),
        rows,
    }
}

pub(super) fn direct(world: &World) -> Section {
    let with_root = |cell: Cell| cell.with("sslrootcert", world.path("root.crt"));
    let row = |label: &str, place, new: &dyn Fn() -> Cell, negotiation: &str| {
        let cell = |mode: &str| {
            with_root(new())
                .with("sslmode", mode)
                .with("sslnegotiation", negotiation)
                .needs(LIBPQ_17)
        };
        Row::new(
            &[label, &format!("`{negotiation}`")],
            place,
            MODES.map(cell),
        )
    };
    let yes = Manner::answering(Answer::Yes);
    let without = world.fake(yes.alpn(Alpn::None));
    let with = world.fake(yes);
    let mut rows = Vec::new();
    for negotiation in ["direct", "postgres", "nonsense"] {
        for (label, place) in [
            ("PostgreSQL 17 or newer", Place::Newer(RIGHT)),
            ("PostgreSQL 17 or newer, without TLS", Place::Newer(NO_TLS)),
            ("PostgreSQL 16 or older", Place::Older(RIGHT)),
            ("PostgreSQL 16 or older, without TLS", Place::Older(NO_TLS)),
        ] {
            rows.push(row(label, place, &|| world.cell(place), negotiation));
        }
    }
    for (label, cell) in [
        ("TLS with the protocol's name (ALPN)", &with),
        ("TLS without the protocol's name", &without),
    ] {
        rows.push(row(label, Place::Fake, &|| cell.clone(), "direct"));
    }
    Section {
        title: "`sslnegotiation`",
        about: "The root is right, and so is the certificate.",
        corners: &["server", "`sslnegotiation`"],
        columns: words(&MODES),
        rows,
    }
}

pub(super) fn server_name(world: &World) -> Section {
    let base = world.fake(Manner::answering(Answer::Yes));
    let columns = [
        ("unset", ""),
        ("`sslsni=1`", "sslsni=1"),
        ("`sslsni=0`", "sslsni=0"),
        ("`sslsni=2`", "sslsni=2"),
        ("`sslsni=yes`", "sslsni=yes"),
    ];
    let row = |label: &str, change: &dyn Fn(Cell) -> Cell| {
        let cell = |(_, text): (&str, &str)| {
            change(base.clone())
                .with_all("sslmode=require")
                .with_all(text)
        };
        Row::new(&[label], Place::Fake, columns.map(cell))
    };
    let hosts = [
        "localhost",
        "LocalHost",
        "db.example.test",
        "db.example.test.",
        "127.0.0.1",
        "::1",
        "127.1",
        "10.0.0",
        "1",
        "dead:beef",
        "under_score.test",
    ];
    let mut rows: Vec<Row> = hosts
        .iter()
        .map(|host| row(&format!("`{host}`"), &|cell| cell.with("host", *host)))
        .collect();
    rows.push(row("none, only `hostaddr`", &|cell| cell.without("host")));
    Section {
        title: "`sslsni`: the name that is told to the server",
        about: "The name as the server sees it; `TLS` where it is told none.",
        corners: &["`host`"],
        columns: heads(&columns),
        rows,
    }
}
