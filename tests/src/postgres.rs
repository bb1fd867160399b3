//! A throwaway Postgres cluster from installed binaries.

mod binaries;
mod builder;
mod database;
mod standby;
mod upgrade;

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use postgres::{Client, NoTls};

pub use self::{
    binaries::Binaries,
    builder::PostgresBuilder,
    database::{Database, SlotRow},
    standby::StandbyBuilder,
};
pub use postgres::types::PgLsn as Lsn;

pub(crate) use self::binaries::Owner;
use crate::{
    GuardedDir, Port, Process, guardian,
    process::{children, has_ended, send_signal},
    try_wait_until, unique, wait_until,
};

/// A cluster with one server, on a port and a socket that stay the same over every restart.
///
/// Trust authentication for all, superuser `postgres`, `wal_level = logical`. Every method takes
/// `&self`: a shared cluster is a static.
#[derive(Debug)]
pub struct Postgres {
    // Before `dir`: dropped in this order, the server ends before its files go.
    server: Mutex<Option<Process>>,
    binaries: Binaries,
    owner: Option<Owner>,
    port: Port,
    dir: GuardedDir,
}

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Waits for all sessions to end (SIGTERM).
    Smart,
    /// Ends the sessions, then waits until the walsenders have sent and heard everything (SIGINT).
    Fast,
    /// Ends at once, without a checkpoint: the next start recovers (SIGQUIT).
    Immediate,
}

impl Postgres {
    /// The cluster of this test binary, started on first use and never stopped by anybody: for
    /// tests that do nothing to the server.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// A cluster of the test's own, started, with the default settings.
    pub fn new() -> Self {
        Self::builder().start()
    }

    /// A cluster with settings.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::new()
    }

    /// A started cluster of another major version, where its binaries are there (installed, or put
    /// into the cache by `scripts/postgres-major.sh`).
    pub fn major(version: u32) -> Option<Self> {
        Some(Self::builder().binaries(Binaries::major(version)?).start())
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The directory of its Unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The binaries that it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// URL of a database over TCP, as superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// A new session in the database `postgres`, as superuser.
    ///
    /// # Panics
    ///
    /// When the server does not take it.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(&self.url("postgres"), NoTls)
            .unwrap_or_else(|error| panic!("connect to Postgres: {error:?}"))
    }

    /// A new, empty database whose name starts with the hint and is unique in this test binary.
    #[track_caller]
    pub fn database(&self, hint: &str) -> Database<'_> {
        self.database_with(hint, "")
    }

    /// The same, with options of `CREATE DATABASE`.
    #[track_caller]
    pub fn database_with(&self, hint: &str, options: &str) -> Database<'_> {
        let name = unique(hint);
        self.client()
            .batch_execute(&format!(r#"create database "{name}" {options}"#))
            .unwrap_or_else(|error| panic!("create the database {name}: {error:?}"));
        Database::new(self, name)
    }

    /// Starts the server after a stop or kill, and waits until it takes sessions.
    ///
    /// # Panics
    ///
    /// When it runs already, or takes none within 60 s: with the end of its log.
    #[track_caller]
    pub fn start(&self) {
        self.start_process();
        wait_until(START_DEADLINE, "Postgres takes sessions", || {
            if !self.is_running() {
                panic!("Postgres ended at its start:\n{}", tail(&self.log()));
            }
            Client::connect(&self.url("postgres"), NoTls).ok()
        });
    }

    /// As [`Postgres::start`] without the wait: the server may be in recovery for a while.
    #[track_caller]
    pub fn start_process(&self) {
        let mut server = self.server();
        if let Some(process) = server.as_ref() {
            assert!(!process.is_running(), "Postgres runs already");
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path());
        let log = log.expect("open the server log");
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data_dir())
            .stdin(std::process::Stdio::null())
            .stdout(
                log.try_clone()
                    .expect("duplicate the handle of the server log"),
            )
            .stderr(log);
        *server = Some(Process::spawn_postmaster(&mut command).expect("start postgres"));
    }

    /// Asks the server to stop and waits for its end.
    ///
    /// # Panics
    ///
    /// When it runs on after 60 s.
    #[track_caller]
    pub fn stop(&self, how: Stop) {
        self.begin_stop(how);
        assert!(
            self.wait_stopped(STOP_DEADLINE),
            "Postgres is not down ({how:?})"
        );
    }

    /// Asks the server to stop. Together with [`Postgres::wait_stopped`]: how long it takes.
    pub fn begin_stop(&self, how: Stop) {
        self.signal(match how {
            Stop::Smart => "TERM",
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        });
    }

    /// Whether the server ended within the deadline.
    pub fn wait_stopped(&self, deadline: Duration) -> bool {
        try_wait_until(deadline, || (!self.is_running()).then_some(())).is_some()
    }

    /// Stops and starts it in place.
    #[track_caller]
    pub fn restart(&self, how: Stop) {
        self.stop(how);
        self.start();
    }

    /// Kills the server and all of its processes at once (SIGKILL), as a power cut does except
    /// that what was written but not flushed survives.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn kill(&self) {
        let postmaster = self.postmaster();
        // Frozen first: it must not start a new child while its children are being counted.
        send_signal("STOP", &[postmaster.to_string()]);
        let children: Vec<u32> = children(postmaster)
            .into_iter()
            .map(|(pid, _)| pid)
            .collect();
        let all: Vec<String> = children
            .iter()
            .chain([&postmaster])
            .map(u32::to_string)
            .collect();
        send_signal("KILL", &all);
        assert!(
            self.wait_stopped(Duration::from_secs(10)),
            "the postmaster survived SIGKILL"
        );
        wait_until(
            Duration::from_secs(10),
            "the end of all of its processes",
            || children.iter().all(|pid| has_ended(*pid)).then_some(()),
        );
    }

    /// Freezes the postmaster and the walsenders (SIGSTOP): connections stay open, new ones are
    /// taken by the kernel and never answered, the stream is silent. Other sessions go on.
    pub fn pause(&self) {
        send_signal("STOP", &self.pids(|title| title.contains("walsender")));
    }

    /// Freezes the postmaster and every process of the server.
    pub fn pause_all(&self) {
        send_signal("STOP", &self.pids(|_| true));
    }

    /// Lets everything that was frozen go on.
    pub fn resume(&self) {
        send_signal("CONT", &self.pids(|_| true));
    }

    /// Sends a signal to the walsenders.
    pub fn signal_walsenders(&self, name: &str) {
        let postmaster = self.postmaster();
        let senders = children(postmaster).into_iter();
        let senders = senders.filter(|(_, title)| title.contains("walsender"));
        let pids: Vec<String> = senders.map(|(pid, _)| pid.to_string()).collect();
        send_signal(name, &pids);
    }

    /// Leaves its directory behind, for people to look at, and says where.
    pub fn keep(&self) -> &Path {
        self.dir.keep();
        self.dir.path()
    }

    /// Whether the server runs, frozen or not.
    pub fn is_running(&self) -> bool {
        self.server().as_ref().is_some_and(Process::is_running)
    }

    /// The process id of the postmaster.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn postmaster(&self) -> u32 {
        assert!(self.is_running(), "Postgres does not run");
        self.server()
            .as_ref()
            .map(Process::pid)
            .expect("a running server is a process")
    }

    /// Sends a signal to the postmaster.
    pub fn signal(&self, name: &str) {
        if let Some(process) = self.server().as_ref() {
            process.signal(name);
        }
    }

    /// Changes a setting with `alter system` and a reload; some need a restart all the same.
    ///
    /// # Panics
    ///
    /// When the server refuses it.
    #[track_caller]
    pub fn set(&self, setting: &str, value: &str) {
        let mut client = self.client();
        let value = value.replace('\'', "''");
        let statement = format!("alter system set {setting} = '{value}'");
        client
            .batch_execute(&statement)
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        client
            .batch_execute("select pg_reload_conf()")
            .expect("reload the configuration");
    }

    /// Everything the server logged until now.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// The postmaster and those children whose title is chosen.
    fn pids(&self, chosen: impl Fn(&str) -> bool) -> Vec<String> {
        let postmaster = self.postmaster();
        children(postmaster)
            .into_iter()
            .filter(|(_, title)| chosen(title))
            .map(|(pid, _)| pid)
            .chain([postmaster])
            .map(|pid| pid.to_string())
            .collect()
    }

    fn command(&self, program: &str) -> Command {
        self.binaries.command(program, self.owner.as_ref())
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.is_running() {
            // A frozen server does not hear the request; its children must hear theirs too.
            self.resume();
            self.signal("QUIT");
            if !self.wait_stopped(Duration::from_secs(10)) {
                self.kill();
            }
        }
        release_shared_memory(&self.data_dir());
        if let Some(process) = self.server().take() {
            guardian().forget(process.pid());
        }
    }
}

/// A killed postmaster leaves a System V segment; the next start would remove it, but there is
/// none. Its id is the last word of the seventh line of the lock file.
fn release_shared_memory(data_dir: &Path) {
    let Ok(lock_file) = fs::read_to_string(data_dir.join("postmaster.pid")) else {
        return;
    };
    let id = lock_file
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().last());
    if let Some(id) = id {
        // Without ipcrm the segment of 56 bytes stays until the next boot.
        Command::new("ipcrm").args(["-m", id]).output().ok();
    }
}

/// The last lines of a log, for a message.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
