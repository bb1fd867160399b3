//! Settings of a cluster, and its first start.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
};

use super::{Binaries, Owner, Postgres};
use crate::{GuardedDir, free_port};

/// What a cluster is made with.
#[derive(Debug, Default)]
pub struct PostgresBuilder {
    binaries: Option<Binaries>,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    initdb: Vec<String>,
}

impl PostgresBuilder {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Other binaries than the newest installed ones.
    #[must_use]
    pub fn binaries(mut self, binaries: Binaries) -> Self {
        self.binaries = Some(binaries);
        self
    }

    /// A line of `postgresql.conf`; a later one of the same name wins.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whether commits are flushed (default: on, as in production).
    #[must_use]
    pub fn fsync(self, on: bool) -> Self {
        self.setting("fsync", if on { "on" } else { "off" })
    }

    /// A line of `pg_hba.conf` before those that let everybody in.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// A file in the data directory, readable by the server alone (certificates, keys).
    #[must_use]
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// A further argument of `initdb`.
    #[must_use]
    pub fn initdb(mut self, argument: &str) -> Self {
        self.initdb.push(argument.to_owned());
        self
    }

    /// Makes the cluster and starts its server.
    ///
    /// Each has a directory from `initdb`, about a second: a copied one would share its system
    /// identifier, and a relay is right to take such clusters for one.
    ///
    /// # Panics
    ///
    /// When the binaries are missing or the server does not start.
    pub fn start(self) -> Postgres {
        let postgres = self.initialised();
        postgres.start();
        postgres
    }

    /// Makes the cluster, for a server that is started later.
    pub(super) fn initialised(self) -> Postgres {
        let owner = Owner::choose();
        let dir = GuardedDir::new("pg");
        if let Some(owner) = &owner {
            chown(dir.path(), Some(owner.uid), Some(owner.gid)).expect("chown as root");
        }
        let binaries = self.binaries.clone().unwrap_or_else(Binaries::newest);
        let binaries = binaries.reachable(owner.as_ref(), dir.path());
        let postgres = Postgres {
            server: Mutex::new(None),
            binaries,
            owner,
            port: free_port(),
            dir,
        };
        self.initialise(&postgres);
        postgres
    }

    fn initialise(&self, postgres: &Postgres) {
        let data_dir = postgres.data_dir();
        let mut command = postgres.command("initdb");
        command
            .arg("-D")
            .arg(&data_dir)
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
        command
            .args(["--locale=C", "--no-sync", "--no-instructions"])
            .args(&self.initdb);
        let output = command.stdin(Stdio::null()).output().expect("run initdb");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "initdb failed: {errors}");

        let socket_dir = postgres.socket_dir();
        fs::create_dir(&socket_dir).expect("make the socket directory");
        append(
            &data_dir.join("postgresql.conf"),
            &self.configuration(postgres),
        );
        if !self.hba.is_empty() {
            let path = data_dir.join("pg_hba.conf");
            let rest = fs::read_to_string(&path).expect("initdb wrote pg_hba.conf");
            fs::write(&path, format!("{}\n{rest}", self.hba.join("\n")))
                .expect("write pg_hba.conf");
        }
        let files: Vec<PathBuf> = self
            .files
            .iter()
            .map(|(name, content)| private_file(&data_dir, name, content))
            .collect();
        if let Some(owner) = &postgres.owner {
            for path in files.iter().chain([&socket_dir]) {
                chown(path, Some(owner.uid), Some(owner.gid)).expect("chown as root");
            }
        }
    }

    fn configuration(&self, postgres: &Postgres) -> String {
        let defaults = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", postgres.port().to_string()),
            (
                "unix_socket_directories",
                postgres.socket_dir().display().to_string(),
            ),
            ("wal_level", "logical".to_owned()),
            ("max_wal_senders", "50".to_owned()),
            ("max_replication_slots", "400".to_owned()),
            ("max_connections", "200".to_owned()),
            ("shared_buffers", "64MB".to_owned()),
            // In the data directory, so that a killed server leaves nothing in /dev/shm.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("log_line_prefix", "%m [%p] %q%u@%d %a ".to_owned()),
        ];
        let chosen = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        defaults
            .into_iter()
            .chain(chosen)
            .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
            .collect()
    }
}

pub(super) fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).expect("initdb wrote its configuration");
    fs::write(path, before + text).expect("write the configuration");
}

fn private_file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    fs::write(&path, content).expect("write a file of the cluster");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("change its mode");
    path
}
