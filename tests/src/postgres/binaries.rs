//! Where the binaries of Postgres are, and which user may run them.

use std::{
    env, fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{cache_dir, lookup::program};

/// The `bin` directory of one installed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// The newest installed version; `WALPOST_TEST_PG_BIN` names another `bin` directory.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn newest() -> Self {
        if let Some(dir) = env::var_os("WALPOST_TEST_PG_BIN") {
            return Self::in_dir(PathBuf::from(dir));
        }
        let newest = installed()
            .into_iter()
            .max_by_key(|binaries| binaries.major);
        newest.expect("PostgreSQL server binaries; scripts/setup.sh test installs them")
    }

    /// The version whose `bin` directory this is.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn in_dir(dir: PathBuf) -> Self {
        let found = Self::of(dir.clone());
        found.unwrap_or_else(|| panic!("no postgres and initdb in {}", dir.display()))
    }

    /// A certain major version, installed or in the cache.
    pub fn major(version: u32) -> Option<Self> {
        let cached = Self::of(cache_dir().join(format!("postgres-{version}/bin")));
        installed()
            .into_iter()
            .chain(cached)
            .find(|binaries| binaries.major == version)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a client program: of this version, or of the newest installed one where this
    /// one was packed without its clients.
    pub fn client(&self, program: &str) -> PathBuf {
        let dirs = installed()
            .into_iter()
            .map(|found| (found.major, found.dir));
        let newest = dirs
            .filter(|(_, dir)| dir.join(program).is_file())
            .max_by_key(|(major, _)| *major)
            .map(|(_, dir)| dir.join(program));
        let own = Some(self.dir.join(program)).filter(|file| file.is_file());
        own.or(newest).unwrap_or_else(|| PathBuf::from(program))
    }

    /// The major version.
    pub fn version(&self) -> u32 {
        self.major
    }

    fn of(dir: PathBuf) -> Option<Self> {
        if !dir.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        let version = String::from_utf8(output.stdout).ok()?;
        let number = version.split_whitespace().nth(2)?;
        let major = number
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()?;
        Some(Self { dir, major })
    }

    /// A command for one of the programs, to run as the owner of the cluster.
    pub(super) fn command(&self, program: &str, owner: Option<&Owner>) -> Command {
        let mut command = Command::new(self.dir.join(program));
        // Settings of the developer's own server (PGPORT, PGOPTIONS, …) must not leak in.
        for (name, _) in
            env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG"))
        {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
        if let Some(owner) = owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }

    /// The same binaries at a place where the owner may run them: a copy below `dir` when the
    /// installed ones lie under somebody's private home.
    pub(super) fn reachable(self, owner: Option<&Owner>, dir: &Path) -> Self {
        let mut probe = self.command("postgres", owner);
        let runs = probe.arg("--version").stdout(Stdio::null()).status();
        if runs.is_ok_and(|status| status.success()) {
            return self;
        }
        let installation = self.dir.parent().expect("bin lies in an installation");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(installation)
            .arg(dir)
            .status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "copy {}",
            installation.display()
        );
        let name = installation
            .file_name()
            .expect("an installation has a name");
        Self {
            dir: dir.join(name).join("bin"),
            ..self
        }
    }
}

/// An unprivileged user: Postgres refuses to run as root.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// `None` when this process is unprivileged itself.
    ///
    /// # Panics
    ///
    /// When it is root and the machine has neither a user `postgres` nor `nobody`.
    pub(crate) fn choose() -> Option<Self> {
        let me = fs::metadata("/proc/self").ok()?.uid();
        if me != 0 {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Self::named(&users, name));
        assert!(
            user.is_some(),
            "root, and no user postgres or nobody in /etc/passwd"
        );
        user
    }

    fn named(users: &str, name: &str) -> Option<Self> {
        let mut fields = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then_some(fields)
        })?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

fn installed() -> Vec<Binaries> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    // In PATH there may be a link to one program of an installation: its real place has them all.
    let in_path = program("postgres")
        .and_then(|file| file.canonicalize().ok())
        .and_then(|file| file.parent().map(Path::to_owned));
    debian
        .map(|entry| entry.path().join("bin"))
        .chain(in_path)
        .filter_map(Binaries::of)
        .collect()
}
