//! Where the binaries of Postgres are, and which user may run them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use walpost_core::class::Exit;

use super::guard::clean_environment;
use crate::error::Error;

/// Older versions lack what the relay needs.
const MAJOR_MIN: u32 = 14;

/// Where Debian and its relatives put every major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// One installed version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    dir: PathBuf,
    version: String,
}

impl Binaries {
    /// What is in `PATH`, else the newest version that Debian's packages have installed. `owner`
    /// must be able to run it.
    pub(super) fn find(owner: Option<&Owner>) -> Result<Self, Error> {
        let mut refused = Vec::new();
        for dir in in_path().into_iter().chain(installed(Path::new(DEBIAN))) {
            match Self::at(&dir, owner) {
                Ok(found) => return Ok(found),
                Err(why) => refused.push(format!("\n  {}: {why}", dir.display())),
            }
        }
        refused.dedup();
        let mut message = format!(
            "no PostgreSQL server is installed here that the demo could use: initdb and postgres \
             were looked for in PATH and in {DEBIAN}/*/bin"
        );
        message.extend(refused);
        Err(Error::new(Exit::Configuration, message).with_fix(
            "install one (Debian, Ubuntu: apt install postgresql; in a checkout, `make demo` does \
             it), or name a server of yours: walpost demo --postgres URL",
        ))
    }

    fn at(dir: &Path, owner: Option<&Owner>) -> Result<Self, String> {
        if let Some(missing) = ["initdb", "postgres"]
            .iter()
            .find(|name| !is_file(dir, name))
        {
            return Err(format!("no {missing}"));
        }
        let mut command = Command::new(dir.join("postgres"));
        command.arg("--version").current_dir("/");
        clean_environment(&mut command);
        if let Some(owner) = owner {
            owner.own(&mut command);
        }
        let as_whom =
            owner.map_or_else(String::new, |owner| format!(" as the user {}", owner.name));
        let output = command
            .output()
            .map_err(|error| format!("postgres does not run{as_whom}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let version = version(&said).ok_or("postgres --version names no version")?;
        match major(version) {
            Some(major) if major >= MAJOR_MIN => Ok(Self {
                dir: dir.to_owned(),
                version: version.to_owned(),
            }),
            _ => Err(format!("version {version}, and {MAJOR_MIN} is needed")),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// As the server says it: `15.18`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The client of this version, or the one in `PATH` where only the server is installed.
    pub(super) fn psql(&self) -> PathBuf {
        if is_file(&self.dir, "psql") {
            self.dir.join("psql")
        } else {
            PathBuf::from("psql")
        }
    }
}

/// An unprivileged user: Postgres refuses to run as root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    name: String,
    uid: u32,
    gid: u32,
}

impl Owner {
    /// `None` when this process is unprivileged itself.
    pub(super) fn choose() -> Result<Option<Self>, Error> {
        if !is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::named(&users, name));
        found.map(Some).ok_or_else(|| {
            Error::new(
                Exit::Configuration,
                "Postgres does not run as root, and /etc/passwd has neither a user postgres nor a \
                 user nobody to run it as",
            )
            .with_fix("run the demo as another user than root")
        })
    }

    fn named(users: &str, name: &str) -> Option<Self> {
        let mut fields = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then_some(fields)
        })?;
        let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self {
            name: name.to_owned(),
            uid,
            gid,
        })
    }

    /// Has the command run as this user, without our groups.
    pub(super) fn own(&self, command: &mut Command) {
        // The standard library drops the supplementary groups where it sets the user.
        command.uid(self.uid).gid(self.gid);
    }
}

fn is_root() -> bool {
    if let Ok(me) = fs::metadata("/proc/self") {
        return me.uid() == 0;
    }
    // There is no /proc on macOS.
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The directory of the `postgres` in `PATH`. It may be a link to one program of an installation,
/// whose real place has them all.
fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).find(|dir| is_file(dir, "postgres"))?;
    let program = found.join("postgres").canonicalize().ok()?;
    program.parent().map(Path::to_owned)
}

/// `root/MAJOR/bin`, newest first.
fn installed(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let numbered = |entry: fs::DirEntry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path().join("bin")))
    };
    let mut versions: Vec<(u32, PathBuf)> = entries.filter_map(numbered).collect();
    versions.sort_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

fn is_file(dir: &Path, name: &str) -> bool {
    dir.join(name).is_file()
}

/// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" has the version 15.18.
fn version(said: &str) -> Option<&str> {
    said.split_once("(PostgreSQL) ")?
        .1
        .split_whitespace()
        .next()
}

fn major(version: &str) -> Option<u32> {
    version
        .split(|char: char| !char.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        for (said, expected) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some(("15.18", Some(15))),
            ),
            (
                "postgres (PostgreSQL) 19beta1\n",
                Some(("19beta1", Some(19))),
            ),
            ("postgres (PostgreSQL) 9.6.24", Some(("9.6.24", Some(9)))),
            ("command not found", None),
            ("", None),
        ] {
            let found = version(said).map(|version| (version, major(version)));
            assert_eq!(found, expected, "{said}");
        }
    }

    #[test]
    fn the_newest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9", "15", "17", "old", "7x"] {
            fs::create_dir_all(root.path().join(name).join("bin")).unwrap();
        }
        let found = installed(root.path());
        let expected = ["17", "15", "9"].map(|name| root.path().join(name).join("bin"));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_user_is_read_from_the_list_of_users() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:,,,:/var:/bin/sh\nbad:x\n";
        let owner = Owner::named(users, "postgres").unwrap();
        assert_eq!((owner.uid, owner.gid), (101, 104));
        assert_eq!(Owner::named(users, "nobody"), None);
        assert_eq!(Owner::named(users, "bad"), None);
        assert_eq!(
            Owner::named(users, "root"),
            None,
            "as root Postgres does not run"
        );
    }

    #[test]
    fn an_installation_without_initdb_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("postgres"), "").unwrap();
        assert_eq!(Binaries::at(dir.path(), None).unwrap_err(), "no initdb");
    }
}
