//! Passwords from files.

use super::{Place, Row, Section, World, fs, words};
use crate::machine::{NO_TLS, PASSWORD};
use std::os::unix::fs::PermissionsExt;

/// Label, what the file holds, its mode. `PORT`, `PASSWORD` and `SOCKET` stand for those.
const FILES: [(&str, &str, u32); 16] = [
    (
        "all fields",
        "localhost:PORT:postgres:scram:PASSWORD",
        0o600,
    ),
    ("stars", "*:*:*:*:PASSWORD", 0o600),
    ("mode 0400", "*:*:*:*:PASSWORD", 0o400),
    ("mode 0640", "*:*:*:*:PASSWORD", 0o640),
    ("mode 0644", "*:*:*:*:PASSWORD", 0o644),
    (
        "the address in place of the name",
        "127.0.0.1:PORT:postgres:scram:PASSWORD",
        0o600,
    ),
    ("another port", "localhost:1:postgres:scram:PASSWORD", 0o600),
    ("another role", "localhost:*:*:md5:PASSWORD", 0o600),
    (
        "another database",
        "localhost:*:other:scram:PASSWORD",
        0o600,
    ),
    (
        "the first of two that match is wrong",
        "*:*:*:*:planted-wrong\n*:*:*:*:PASSWORD",
        0o600,
    ),
    (
        "the first does not match",
        "elsewhere:*:*:*:planted-wrong\nlocalhost:*:*:scram:PASSWORD",
        0o600,
    ),
    (
        "a comment before it",
        "# *:*:*:*:planted-wrong\n*:*:*:*:PASSWORD",
        0o600,
    ),
    ("an escaped letter", "l\\ocalhost:*:*:scram:PASSWORD", 0o600),
    (
        "lines of DOS",
        "elsewhere:*:*:*:planted-wrong\r\n*:*:*:*:PASSWORD\r\n",
        0o600,
    ),
    ("a blank behind it", "*:*:*:*:PASSWORD ", 0o600),
    ("nothing", "", 0o600),
];

const COLUMNS: [&str; 6] = [
    "`~/.pgpass`",
    "`passfile`",
    "`PGPASSFILE`",
    "`~/.pgpass`, only `hostaddr`",
    "`~/.pgpass`, Unix socket",
    "`~/.pgpass`, wrong `password`",
];

pub(super) fn section(world: &World) -> Section {
    let rows = FILES.into_iter().enumerate().map(|(number, file)| {
        let (label, content, mode) = file;
        let home = world.new_home(&format!("passwords-{number}"));
        let path = format!("{home}/.pgpass");
        let content = content
            .replace("PORT", &world.installed.port().to_string())
            .replace("PASSWORD", PASSWORD);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let base = world.installed().with("user", "scram");
        let at_home = base.clone().home(home);
        let cells = [
            at_home.clone(),
            base.clone().with("passfile", &*path),
            base.variable("PGPASSFILE", path),
            at_home.clone().without("host"),
            at_home
                .clone()
                .without("hostaddr")
                .with("host", world.socket_directory())
                .with("user", "locked"),
            at_home.with("password", "planted-wrong"),
        ];
        Row::new(&[label], Place::Installed(NO_TLS), cells)
    });
    Section {
        title: "Files of passwords",
        about: "The role has a password (SCRAM), and no password is given but by the file; a \
                server without TLS. The role on the socket is another one.",
        corners: &["the file has"],
        columns: words(&COLUMNS),
        rows: rows.collect(),
    }
}
