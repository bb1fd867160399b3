//! A throwaway Postgres: its own data directory, reachable through a socket in it and by nobody
//! else.
//!
//! It does not listen on TCP. Authentication is `trust`, and whoever may connect as a superuser may
//! run commands as the user that Postgres runs as: the socket's directory, which only that user
//! (and root) can enter, is what keeps other users of the machine out. It also saves looking for a
//! free port.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use walpost_core::class::Exit;
use walpost_walsender::{ConnectOptions, Connection, Conninfo, Mode};

use super::binaries::{Binaries, Owner};
use super::guard::Guard;
use crate::error::Error;

/// `initdb` and the start of the server take about a second together.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two attempts to connect to the server that starts.
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// A Unix socket's address holds so many bytes on Linux, and fewer elsewhere: 103 on macOS.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// The file name of the socket of port 5432, which clients take as their default.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// No durability, small caches, and what logical replication needs. `mmap`: what is shared lies in
/// the data directory and goes away with it.
const SETTINGS: &[&str] = &[
    "port=5432",
    "listen_addresses=",
    "wal_level=logical",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=16MB",
    "dynamic_shared_memory_type=mmap",
    "max_connections=20",
    "logging_collector=off",
];

/// A running server. Dropping it ends it and removes its directory.
pub(super) struct Cluster {
    guard: Guard,
    dir: PathBuf,
    binaries: Binaries,
}

impl Cluster {
    /// Makes a data directory, starts the server and waits until it answers.
    pub(super) async fn start() -> Result<Self, Error> {
        let owner = Owner::choose()?;
        let binaries = Binaries::find(owner.as_ref())?;
        let dir = directory(&std::env::temp_dir(), owner.is_some());
        let settings = SETTINGS
            .iter()
            .flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]);
        let settings: Vec<String> = settings.collect();
        let guard = Guard::start(&dir, binaries.dir(), owner.as_ref(), &settings)
            .map_err(|error| Error::new(Exit::Internal, format!("can't start /bin/sh: {error}")))?;
        let mut cluster = Self {
            guard,
            dir,
            binaries,
        };
        match tokio::time::timeout(START_DEADLINE, cluster.wait_until_it_answers()).await {
            Ok(Ok(())) => Ok(cluster),
            Ok(Err(why)) => Err(not_started(&why)),
            Err(_) => Err(not_started(&format!("no answer within {START_DEADLINE:?}"))),
        }
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let conninfo = parsed(&self.url()).map_err(|error| error.to_string())?;
        let options = sql_options();
        loop {
            let again = Instant::now() + CONNECT_INTERVAL;
            tokio::select! {
                biased;
                why = self.guard.ended() => return Err(why),
                connected = Connection::connect(&conninfo, &options) => {
                    if let Ok(connection) = connected {
                        connection.close().await;
                        return Ok(());
                    }
                }
            }
            sleep(again.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Waits for the server's end, which nobody wants, and says why. Can be dropped.
    pub(super) async fn ended(&mut self) -> Error {
        let why = self.guard.ended().await;
        Error::new(
            Exit::Unavailable,
            format!("the throwaway Postgres is gone: {why}"),
        )
    }

    /// How to connect, complete: nothing is left to environment variables.
    pub(super) fn url(&self) -> String {
        format!(
            "host={} port=5432 user=postgres dbname=postgres",
            self.dir.display()
        )
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn version(&self) -> &str {
        self.binaries.version()
    }

    pub(super) fn psql(&self) -> PathBuf {
        self.binaries.psql()
    }
}

/// Reads a connection string without the environment.
pub(super) fn parsed(url: &str) -> Result<Conninfo, Error> {
    Conninfo::parse(url, &|_| None)
        .map_err(|error| Error::new(Exit::Internal, format!("the demo's own URL: {error}")))
}

pub(super) fn sql_options() -> ConnectOptions {
    ConnectOptions {
        mode: Mode::Sql,
        application_name: "walpost-demo".to_owned(),
        ..ConnectOptions::default()
    }
}

fn not_started(why: &str) -> Error {
    let message = format!("the throwaway Postgres did not start: {}", why.trim_end());
    Error::new(Exit::Unavailable, message).with_fix(
        "see what Postgres says above, or name a server of yours: walpost demo --postgres URL",
    )
}

/// A path that does not exist yet, below `temp` where that is of use: the socket's path must be
/// short, a user other than ours must be able to make a directory there, and neither the shell's
/// nor libpq's rules of quoting are to be met in it.
fn directory(temp: &Path, for_another_user: bool) -> PathBuf {
    let name = format!(
        "walpost-demo-{}-{:06x}",
        std::process::id(),
        fastrand::u32(..1 << 24)
    );
    let in_temp = temp.join(&name);
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/-_.+".contains(char);
    let plain = in_temp
        .to_str()
        .is_some_and(|path| path.chars().all(is_plain));
    let short = in_temp.join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
    let open = !for_another_user || is_open_to_all(temp).unwrap_or(false);
    if temp.is_absolute() && plain && short && open {
        in_temp
    } else {
        Path::new("/tmp").join(name)
    }
}

/// Whether everybody may enter the directory and make files in it.
fn is_open_to_all(dir: &Path) -> io::Result<bool> {
    let mode = |dir: &Path| fs::metadata(dir).map(|found| found.permissions().mode());
    let real = dir.canonicalize()?;
    for above in real.ancestors() {
        if mode(above)? & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(mode(&real)? & 0o002 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_that_is_too_long_or_odd_is_not_used() {
        let long = format!("/var/{}", "x".repeat(80));
        for temp in [
            long.as_str(),
            "/var/a b",
            "/var/it's",
            "relative",
            "/var/größe",
        ] {
            let chosen = directory(Path::new(temp), false);
            assert_eq!(chosen.parent(), Some(Path::new("/tmp")), "{temp}");
        }
        let chosen = directory(Path::new("/var/tmp"), false);
        assert_eq!(chosen.parent(), Some(Path::new("/var/tmp")));
    }

    #[test]
    fn a_private_directory_is_not_used_for_another_user() {
        let private = tempfile::tempdir_in("/tmp").unwrap();
        let open = private.path().join("open");
        fs::create_dir(&open).unwrap();
        let set_mode = |dir: &Path, mode| {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        };
        set_mode(&open, 0o777);
        set_mode(private.path(), 0o700);
        assert_eq!(directory(&open, true).parent(), Some(Path::new("/tmp")));
        assert_eq!(directory(&open, false).parent(), Some(open.as_path()));
        set_mode(private.path(), 0o755);
        assert_eq!(directory(&open, true).parent(), Some(open.as_path()));
    }

    #[test]
    fn two_demos_have_two_directories() {
        let temp = Path::new("/tmp");
        assert_ne!(directory(temp, false), directory(temp, false));
    }
}
