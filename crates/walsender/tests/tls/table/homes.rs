//! What lies in the home directory, what the environment says, and sockets.

use super::{Certificates, Path, PermissionsExt, Place, Row, Section, World, fs, heads, words};
use crate::{
    cell::LIBPQ_17,
    machine::{NO_TLS, Phase, RIGHT},
};

use super::modes::MODES;

/// What lies in a home directory's `.postgresql`: name there, name of ours, mode.
type Files = &'static [(&'static str, &'static str, u32)];

const HOMES: [(&str, Files); 8] = [
    ("empty", &[]),
    ("root", &[("root.crt", "root.crt", 0o644)]),
    ("root-other", &[("root.crt", "root-other.crt", 0o644)]),
    (
        "revoked",
        &[
            ("root.crt", "root.crt", 0o644),
            ("root.crl", "revoked.crl", 0o644),
        ],
    ),
    (
        "client",
        &[
            ("postgresql.crt", "client.crt", 0o644),
            ("postgresql.key", "client.key", 0o600),
        ],
    ),
    ("client-keyless", &[("postgresql.crt", "client.crt", 0o644)]),
    ("key-only", &[("postgresql.key", "client.key", 0o600)]),
    (
        "client-open",
        &[
            ("postgresql.crt", "client.crt", 0o644),
            ("postgresql.key", "client.key", 0o644),
        ],
    ),
];

pub(super) fn make(directory: &Path, certificates: &Certificates) {
    for (name, files) in HOMES {
        let home = directory.join("homes").join(name).join(".postgresql");
        fs::create_dir_all(&home).unwrap();
        for (name, source, mode) in files {
            let path = home.join(name);
            fs::copy(certificates.path(source), &path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

pub(super) fn section(world: &World) -> Section {
    let row = |label: &str, home: &str, phase| {
        let cell = |mode: &str| {
            world
                .installed()
                .home(world.home(home))
                .with("sslmode", mode)
        };
        Row::new(&[label], Place::Installed(phase), MODES.map(cell))
    };
    let client = |label: &str, home: &str| {
        let cell = |mode: &str| {
            world
                .installed()
                .home(world.home(home))
                .with_all("user=certified dbname=with_certificate")
                .with("sslmode", mode)
        };
        Row::new(&[label], Place::Installed(RIGHT.asking()), MODES.map(cell))
    };
    let revoked = Phase::certificate("server-revoked");
    Section {
        title: "Files of `~/.postgresql`",
        about: "No key names a file: what lies in the home directory counts. The last rows are \
                for a role that needs a client certificate.",
        corners: &["there lies"],
        columns: words(&MODES),
        rows: vec![
            row("`root.crt`, the right one", "root", RIGHT),
            row("`root.crt`, another one", "root-other", RIGHT),
            row(
                "`root.crt`, the right one; the server has no TLS",
                "root",
                NO_TLS,
            ),
            row(
                "`root.crl` that revokes the certificate",
                "revoked",
                revoked,
            ),
            row("`root.crl` that does not", "revoked", RIGHT),
            client("`postgresql.crt` and `postgresql.key`", "client"),
            client("`postgresql.crt` without a key", "client-keyless"),
            client("`postgresql.key` without a certificate", "key-only"),
            client("`postgresql.key` that others may read", "client-open"),
        ],
    }
}

/// Label, variables, connection string; a value after `@` is the path of our file of that name.
type Variables = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const VARIABLES: [Variables; 18] = [
    ("`PGSSLMODE=disable`", &[("PGSSLMODE", "disable")], ""),
    ("`PGSSLMODE=require`", &[("PGSSLMODE", "require")], ""),
    (
        "`PGSSLMODE=verify-full`",
        &[("PGSSLMODE", "verify-full")],
        "",
    ),
    ("`PGSSLMODE=nonsense`", &[("PGSSLMODE", "nonsense")], ""),
    (
        "`PGSSLMODE=nonsense`",
        &[("PGSSLMODE", "nonsense")],
        "sslmode=disable",
    ),
    (
        "`PGSSLMODE=disable`",
        &[("PGSSLMODE", "disable")],
        "sslmode=require",
    ),
    ("`PGSSLMODE=` (empty)", &[("PGSSLMODE", "")], ""),
    (
        "`PGSSLMODE=verify-full`, `PGSSLROOTCERT`: the right one",
        &[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", "@root.crt")],
        "",
    ),
    (
        "`PGSSLMODE=verify-full`, `PGSSLROOTCERT`: another one",
        &[
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "@root-other.crt"),
        ],
        "",
    ),
    (
        "`PGSSLMODE=verify-full`, `PGSSLROOTCERT`: the right one, `PGSSLCRL`: an old one",
        &[
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "@root.crt"),
            ("PGSSLCRL", "@old.crl"),
        ],
        "",
    ),
    ("`PGREQUIRESSL=1`", &[("PGREQUIRESSL", "1")], ""),
    (
        "`PGREQUIRESSL=1`",
        &[("PGREQUIRESSL", "1")],
        "sslmode=disable",
    ),
    (
        "`PGREQUIRESSL=0`",
        &[("PGREQUIRESSL", "0")],
        "sslmode=disable",
    ),
    (
        "`PGSSLCERT`, `PGSSLKEY`",
        &[("PGSSLCERT", "@client.crt"), ("PGSSLKEY", "@client.key")],
        "user=certified dbname=with_certificate sslmode=require",
    ),
    (
        "`PGSSLCERT`",
        &[("PGSSLCERT", "@client.crt")],
        "user=certified dbname=with_certificate sslmode=require",
    ),
    (
        "`PGCHANNELBINDING=require`",
        &[("PGCHANNELBINDING", "require")],
        "",
    ),
    (
        "`PGSSLMINPROTOCOLVERSION=TLSv1.3`, `PGSSLMAXPROTOCOLVERSION=TLSv1.2`",
        &[
            ("PGSSLMINPROTOCOLVERSION", "TLSv1.3"),
            ("PGSSLMAXPROTOCOLVERSION", "TLSv1.2"),
        ],
        "",
    ),
    ("`PGSSLSNI=nonsense`", &[("PGSSLSNI", "nonsense")], ""),
];

/// The same, for variables that need a new libpq.
const NEW_VARIABLES: [Variables; 4] = [
    (
        "`PGREQUIREAUTH=scram-sha-256`",
        &[("PGREQUIREAUTH", "scram-sha-256")],
        "",
    ),
    ("`PGREQUIREAUTH=none`", &[("PGREQUIREAUTH", "none")], ""),
    (
        "`PGSSLCERTMODE=require`",
        &[("PGSSLCERTMODE", "require")],
        "",
    ),
    (
        "`PGSSLNEGOTIATION=direct`",
        &[("PGSSLNEGOTIATION", "direct")],
        "",
    ),
];

pub(super) fn environment(world: &World) -> Section {
    let row = |(label, variables, text): Variables, needs: u32| {
        let mut cell = world.installed().with_all(text).needs(needs);
        for (name, value) in variables {
            let path = value.strip_prefix('@').map(|name| world.path(name));
            cell = cell.variable(name, path.unwrap_or_else(|| (*value).to_owned()));
        }
        let text = if text.is_empty() {
            ""
        } else {
            &format!("`{text}`")
        };
        Row::new(&[label, text], Place::Installed(RIGHT.asking()), [cell])
    };
    let old = VARIABLES.map(|variables| row(variables, 0));
    let new = NEW_VARIABLES.map(|variables| row(variables, LIBPQ_17));
    Section {
        title: "Variables of the environment",
        about: "A server with TLS.",
        corners: &["variables", "connection string"],
        columns: words(&["ends"]),
        rows: old.into_iter().chain(new).collect(),
    }
}

pub(super) fn sockets(world: &World) -> Section {
    let columns = [
        ("`disable`", "sslmode=disable"),
        ("`prefer`", "sslmode=prefer"),
        ("`require`", "sslmode=require"),
        ("`verify-full`", "sslmode=verify-full"),
        ("`channel_binding=require`", "channel_binding=require"),
    ];
    let row = |label: &str, user: &str| {
        let cell = |(_, rest): (&str, &str)| {
            world
                .installed()
                .without("hostaddr")
                .with("host", world.socket_directory())
                .with("user", user)
                .with_all(rest)
        };
        Row::new(&[label], Place::Installed(RIGHT), columns.map(cell))
    };
    Section {
        title: "Unix sockets",
        about: "There is no TLS on a socket of the machine itself, whatever is asked for.",
        corners: &["role"],
        columns: heads(&columns),
        rows: vec![row("trusted", "trusted")],
    }
}
