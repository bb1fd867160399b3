//! `sslmode`, against servers of every kind.

use super::{Place, Row, Section, World, words};
use crate::{
    cell::Cell,
    machine::{NO_TLS, PASSWORD, Phase, RIGHT},
};

pub(super) const MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// What `sslrootcert` and its likes are.
#[derive(Clone, Copy)]
enum Trust {
    Nothing,
    /// This file.
    File(&'static str),
    MissingFile,
    /// The roots of the operating system are those of this file.
    System(&'static str),
    /// The right root, and these revocations.
    Revocations(&'static str),
    MissingRevocations,
    RevocationDirectory(&'static str),
    MissingRevocationDirectory,
}

impl Trust {
    fn apply(self, world: &World, cell: Cell) -> Cell {
        let root = |cell: Cell| cell.with("sslrootcert", world.path("root.crt"));
        match self {
            Self::Nothing => cell,
            Self::File(name) => cell.with("sslrootcert", world.path(name)),
            Self::MissingFile => cell.with("sslrootcert", "/nonexistent/root.crt"),
            Self::System(name) => cell
                .with("sslrootcert", "system")
                .system_roots(world.path(name)),
            Self::Revocations(name) => root(cell).with("sslcrl", world.path(name)),
            Self::MissingRevocations => root(cell).with("sslcrl", "/nonexistent/root.crl"),
            Self::MissingRevocationDirectory => root(cell).with("sslcrldir", "/nonexistent"),
            Self::RevocationDirectory(name) => root(cell).with("sslcrldir", world.path(name)),
        }
    }
}

const NOTHING: (&str, Trust) = ("nothing", Trust::Nothing);
const ROOT: (&str, Trust) = ("its root", Trust::File("root.crt"));
const OTHER: (&str, Trust) = ("another root", Trust::File("root-other.crt"));
const MISSING: (&str, Trust) = ("a file that is missing", Trust::MissingFile);
const SYSTEM: (&str, Trust) = ("`system`, which has its root", Trust::System("root.crt"));
const SYSTEM_OTHER: (&str, Trust) = (
    "`system`, which has others",
    Trust::System("root-other.crt"),
);

const OWN: (&str, Trust) = ("that certificate", Trust::File("root-self-signed.crt"));

/// Label of the server, its phase, and the trust of each of its rows.
type Group = (&'static str, Phase, &'static [(&'static str, Trust)]);

const GROUPS: [Group; 12] = [
    ("has no TLS", NO_TLS, &[NOTHING, ROOT, SYSTEM]),
    (
        "certificate of this host, by the root",
        RIGHT,
        &[
            NOTHING,
            ROOT,
            OTHER,
            MISSING,
            (
                "a file with other roots too",
                Trust::File("root-bundle.crt"),
            ),
            (
                "a file without a certificate",
                Trust::File("root-garbage.crt"),
            ),
            ("a file with words around it", Trust::File("root-words.crt")),
            (
                "a file with a broken one behind it",
                Trust::File("root-broken.crt"),
            ),
            ("an empty file", Trust::File("root-empty.crt")),
            ("a directory", Trust::File("revoked")),
            SYSTEM,
            SYSTEM_OTHER,
        ],
    ),
    (
        "certificate signed by itself",
        Phase::certificate("server-self-signed"),
        &[NOTHING, OWN, OTHER, MISSING, SYSTEM],
    ),
    (
        "certificate by an intermediate, which it sends",
        Phase::certificate("server-chain"),
        &[
            NOTHING,
            ROOT,
            (
                "only the intermediate",
                Trust::File("root-intermediate.crt"),
            ),
            (
                "revocations of the intermediate only",
                Trust::Revocations("revoked-intermediate.crl"),
            ),
            (
                "revocations of the root only",
                Trust::Revocations("revoked.crl"),
            ),
            (
                "revocations of both",
                Trust::Revocations("revoked-chain.crl"),
            ),
        ],
    ),
    (
        "certificate by an intermediate, which it does not send",
        Phase::certificate("server-without-chain"),
        &[
            ROOT,
            (
                "only the intermediate",
                Trust::File("root-intermediate.crt"),
            ),
            ("root and intermediate", Trust::File("root-bundle.crt")),
        ],
    ),
    (
        "certificate of another host",
        Phase::certificate("server-wrong"),
        &[NOTHING, ROOT, OTHER, SYSTEM],
    ),
    (
        "expired certificate",
        Phase::certificate("server-expired"),
        &[NOTHING, ROOT, SYSTEM],
    ),
    (
        "certificate of the future",
        Phase::certificate("server-early"),
        &[NOTHING, ROOT],
    ),
    (
        "certificate by a root that has expired",
        Phase::certificate("server-old-root"),
        &[NOTHING, ("its root", Trust::File("root-old.crt"))],
    ),
    (
        "certificate that is for clients",
        Phase::certificate("server-for-clients"),
        &[NOTHING, ROOT],
    ),
    (
        "revoked certificate",
        Phase::certificate("server-revoked"),
        &[
            ("its root, no revocations", Trust::File("root.crt")),
            ("revocations in a file", Trust::Revocations("revoked.crl")),
            (
                "revocations in a directory",
                Trust::RevocationDirectory("revoked"),
            ),
            (
                "revocations in a file that is missing",
                Trust::MissingRevocations,
            ),
            (
                "revocations in a file without any",
                Trust::Revocations("garbage.crl"),
            ),
            (
                "revocations of another root",
                Trust::Revocations("other.crl"),
            ),
            (
                "a directory of revocations that is missing",
                Trust::MissingRevocationDirectory,
            ),
            (
                "an empty directory of revocations",
                Trust::RevocationDirectory("revoked-nothing"),
            ),
        ],
    ),
    (
        "certificate that is not among the revoked",
        RIGHT,
        &[
            ("revocations in a file", Trust::Revocations("revoked.crl")),
            (
                "revocations that are out of date",
                Trust::Revocations("old.crl"),
            ),
        ],
    ),
];

/// Servers that let anybody in, by their certificates.
pub(super) fn by_server(world: &World) -> Section {
    let mut rows = Vec::new();
    for (server, phase, trusts) in GROUPS {
        for &(label, trust) in trusts {
            let cell = |mode: &str| trust.apply(world, world.installed().with("sslmode", mode));
            let place = Place::Installed(phase);
            rows.push(Row::new(&[server, label], place, MODES.map(cell)));
        }
    }
    Section {
        title: "`sslmode`, by the server's certificate",
        about: "The server lets the role in with TLS and without. What is trusted is \
                `sslrootcert`, with `sslcrl` or `sslcrldir` for revocations, which come with the \
                right root.",
        corners: &["server", "trusted"],
        columns: words(&MODES),
        rows,
    }
}

/// Servers with a certificate that is right, by whom they let in.
pub(super) fn by_admission(world: &World) -> Section {
    let row = |label: &str, user: &str, rest: &[(&str, &str)], trusted: &str| {
        let cell = |mode: &str| {
            let mut cell = world.installed().with("user", user).with("sslmode", mode);
            for (key, value) in rest {
                cell = cell.with(key, *value);
            }
            match trusted {
                "nothing" => cell,
                "its root" => cell.with("sslrootcert", world.path("root.crt")),
                _ => cell.with("sslrootcert", world.path("root-other.crt")),
            }
        };
        Row::new(&[label, trusted], Place::Installed(RIGHT), MODES.map(cell))
    };
    let mut rows = Vec::new();
    for trusted in ["nothing", "its root", "another root"] {
        rows.push(row("only with TLS (`hostssl`)", "tls_only", &[], trusted));
    }
    for trusted in ["nothing", "its root", "another root"] {
        let label = "only without TLS (`hostnossl`)";
        rows.push(row(label, "clear_only", &[], trusted));
    }
    let right = [("password", PASSWORD)];
    let wrong = [("password", "planted-wrong")];
    let (tls, clear) = ("tls_password", "clear_password");
    for (label, user, rest) in [
        (
            "with TLS by password, without by trust; right password",
            tls,
            &right[..],
        ),
        (
            "with TLS by password, without by trust; wrong password",
            tls,
            &wrong,
        ),
        (
            "with TLS by password, without by trust; no password",
            tls,
            &[],
        ),
        (
            "without TLS by password, with TLS by trust; right password",
            clear,
            &right,
        ),
        (
            "without TLS by password, with TLS by trust; wrong password",
            clear,
            &wrong,
        ),
        (
            "without TLS by password, with TLS by trust; no password",
            clear,
            &[],
        ),
        ("a role that does not exist", "nobody", &[]),
    ] {
        rows.push(row(label, user, rest, "nothing"));
    }
    Section {
        title: "`sslmode`, by whom the server lets in",
        about: "The server's certificate is right. Refused without TLS, a client may be let in \
                with it, and the other way round.",
        corners: &["the server lets the role in", "trusted"],
        columns: words(&MODES),
        rows,
    }
}
