//! Servers that misbehave, and values that mean nothing.

use super::{Place, Row, Section, World, methods::unproven_columns, modes::MODES, words};
use crate::{
    cell::{LIBPQ_16, LIBPQ_17},
    fake::{Admission, Answer, Manner},
    machine::{PASSWORD, RIGHT},
};

pub(super) fn answers(world: &World) -> Section {
    let rows = [
        ("yes, and means it", Answer::Yes),
        ("no", Answer::No),
        ("nothing, and closes", Answer::Close),
        ("an error", Answer::Error),
        ("a byte that means nothing", Answer::Garbage),
        ("yes, with more behind it in the clear", Answer::Injected),
        ("yes, and closes at the handshake", Answer::NoHandshake),
        ("yes, and no handshake", Answer::BadHandshake),
    ];
    let rows = rows.map(|(label, answer)| {
        let base = world.fake(Manner::answering(answer));
        let base = base.with("sslrootcert", world.path("root.crt"));
        // The answer is the session's, not the name's.
        let base = base.with("sslsni", "0");
        let cell = |mode: &str| base.clone().with("sslmode", mode);
        Row::new(&[label], Place::Fake, MODES.map(cell))
    });
    Section {
        title: "Servers that misbehave at the question for TLS",
        about: "Without TLS they let anybody in. The certificate and the root are right.",
        corners: &["the answer is"],
        columns: words(&MODES),
        rows: rows.into(),
    }
}

pub(super) fn admissions(world: &World) -> Section {
    const SCRAM: &str = "SCRAM-SHA-256";
    const PLUS: &str = "SCRAM-SHA-256-PLUS";
    let unproven = Admission::Unproven;
    let rows = [
        ("SCRAM, and skips its own proof", unproven(&[SCRAM])),
        (
            "both kinds of SCRAM, and skips its own proof",
            unproven(&[PLUS, SCRAM]),
        ),
        (
            "only bound SCRAM, and skips its own proof",
            unproven(&[PLUS]),
        ),
        ("an unknown mechanism", unproven(&["NONSENSE"])),
        ("no mechanism", unproven(&[])),
        ("Kerberos", Admission::Method(2)),
        ("GSSAPI", Admission::Method(7)),
        ("SSPI", Admission::Method(9)),
        ("an unknown method", Admission::Method(99)),
        ("nothing", Admission::Trust),
    ];
    let mut all = Vec::new();
    for (label, admission) in rows {
        let base = world.fake(Manner::answering(Answer::Yes).admitting(admission));
        let base = base.with("sslsni", "0").with("password", PASSWORD);
        for mode in ["require", "disable"] {
            let cell = base.clone().with("sslmode", mode);
            let cells = [
                cell.clone().needs(LIBPQ_16),
                cell.clone().with("channel_binding", "require"),
                cell.clone()
                    .with("require_auth", "scram-sha-256")
                    .needs(LIBPQ_16),
            ];
            all.push(Row::new(&[label, mode], Place::Fake, cells));
        }
    }
    Section {
        title: "Servers that misbehave at authentication",
        about: "",
        corners: &["the server asks for", "`sslmode`"],
        columns: unproven_columns(),
        rows: all,
    }
}

pub(super) fn values(world: &World) -> Section {
    let values = [
        ("sslmode", "Require", 0),
        ("sslmode", "verify_full", 0),
        ("sslmode", "", 0),
        ("sslnegotiation", "", LIBPQ_17),
        ("sslnegotiation", "Direct", LIBPQ_17),
        ("sslcertmode", "Require", LIBPQ_16),
        ("sslcertmode", "", LIBPQ_16),
        ("channel_binding", "Require", 0),
        ("channel_binding", "", 0),
        ("require_auth", "", LIBPQ_16),
        ("require_auth", "scram", LIBPQ_16),
        ("require_auth", "SCRAM-SHA-256", LIBPQ_16),
        ("require_auth", ",none", LIBPQ_16),
        ("require_auth", "none,", LIBPQ_16),
        ("require_auth", "!none,!none", LIBPQ_16),
        ("ssl_min_protocol_version", "1.2", 0),
        ("ssl_max_protocol_version", "", 0),
        ("ssl_max_protocol_version", "TLSV1.3", 0),
        ("sslsni", "", 0),
        ("sslsni", "true", 0),
        ("sslrootcert", "", 0),
        ("sslcert", "", 0),
        ("sslkey", "", 0),
        ("sslcrl", "", 0),
        ("sslcompression", "1", 0),
        ("sslcompression", "0", 0),
        ("gssencmode", "disable", 0),
        ("gssencmode", "prefer", 0),
        ("requiressl", "1", 0),
        ("requiressl", "0", 0),
        ("ssl", "true", 0),
    ];
    let rows = values.map(|(key, value, needs)| {
        let cell = world.installed().with(key, value).needs(needs);
        let label = format!("`{key}={value}`");
        Row::new(&[&label], Place::Installed(RIGHT), [cell])
    });
    let port = world.installed.port();
    let urls = [
        "ssl=true",
        "ssl=false",
        "ssl=TRUE",
        "sslmode=require",
        "sslmode=verify-full",
        "sslmode=verify%2Dfull",
        "requiressl=1",
        "sslmode=disable&sslmode=require",
        "sslmode=require&sslmode=disable",
        "sslmode=disable&ssl=true",
    ];
    let urls = urls.map(|query| {
        let url = format!("postgresql://trusted@127.0.0.1:{port}/postgres?{query}");
        let label = format!("`postgresql://...?{query}`");
        Row::new(
            &[&label],
            Place::Installed(RIGHT),
            [world.installed().url(url)],
        )
    });
    Section {
        title: "Values",
        about: "A server with TLS; nothing but these keys is given.",
        corners: &["connection string"],
        columns: words(&["ends"]),
        rows: rows.into_iter().chain(urls).collect(),
    }
}
