//! Throwaway Postgres clusters.
//!
//! A shell, the guardian, makes the cluster and starts it, then waits for the end of its standard
//! input: the pipe that this process holds. However this process ends, also by SIGKILL, the
//! guardian then stops the server and removes the directory.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use walpost_walsender::{ConnectOptions, Connection, Conninfo, Error, Mode};

/// How often a port is tried: another process can take it between the look and the start.
const STARTS_MAX: u32 = 5;

const CONFIG: &str = "
wal_level = logical
max_wal_senders = 40
max_replication_slots = 40
fsync = off
full_page_writes = off
listen_addresses = '127.0.0.1'
log_min_messages = warning
";

const HBA: &str = "
local all,replication all trust
host all scram_user 127.0.0.1/32 scram-sha-256
host all md5_user 127.0.0.1/32 md5
host all cleartext_user 127.0.0.1/32 password
host all all 127.0.0.1/32 trust
";

const GUARDIAN: &str = r#"
run() {
    if [ "$DROP" = 1 ]; then
        setpriv --reuid postgres --regid postgres --clear-groups "$@"
    else
        "$@"
    fi
}
make() {
    if [ -n "$PRIMARY" ]; then
        run "$BIN/pg_basebackup" -D "$DIR/data" -d "$PRIMARY" -c fast -R --no-sync
    else
        run "$BIN/initdb" -D "$DIR/data" -U postgres -A trust -E UTF8 --locale=C --no-sync
    fi
}
cd "$DIR"
make >"$DIR/make.log" 2>&1 &&
printf '%s' "$CONFIG" >>"$DIR/data/postgresql.conf" &&
printf '%s' "$HBA" >"$DIR/data/pg_hba.conf" &&
run "$BIN/pg_ctl" -D "$DIR/data" -l "$DIR/data/log" -w -t 60 start >"$DIR/start.log" 2>&1 &&
echo ready || { cat "$DIR"/*.log "$DIR/data/log" >&2; echo failed; }
cat >/dev/null
run "$BIN/pg_ctl" -D "$DIR/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$DIR"
"#;

pub(crate) struct Cluster {
    directory: PathBuf,
    port: u16,
    /// Holds the pipe that the guardian waits on.
    _guardian: Child,
}

impl Cluster {
    /// A cluster for one test, which may do to it what it likes.
    pub(crate) fn own() -> &'static Self {
        Self::started("", "")
    }

    /// A standby of this cluster. One that is not hot takes no sessions.
    pub(crate) fn standby(&self, is_hot: bool) -> &'static Self {
        let directory = self.directory.display();
        let primary = format!("host={directory} port={} user=postgres", self.port);
        let config = if is_hot {
            "hot_standby = on\n"
        } else {
            "hot_standby = off\n"
        };
        Self::started(&primary, config)
    }

    fn started(primary: &str, config: &str) -> &'static Self {
        let cluster = (0..STARTS_MAX).find_map(|_| Self::start(primary, config));
        Box::leak(Box::new(
            cluster.expect("Postgres starts (its log is above)"),
        ))
    }

    /// The cluster that all other tests share.
    pub(crate) fn shared() -> &'static Self {
        static CLUSTER: OnceLock<&Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| {
            let cluster = Self::own();
            cluster.psql(
                "postgres",
                "CREATE ROLE plain LOGIN; \
                 CREATE ROLE scram_user LOGIN REPLICATION; \
                 SET password_encryption = 'scram-sha-256'; \
                 ALTER ROLE scram_user PASSWORD 'p\u{e4}ss word'; \
                 CREATE ROLE cleartext_user LOGIN REPLICATION PASSWORD 'clear'; \
                 SET password_encryption = 'md5'; \
                 CREATE ROLE md5_user LOGIN REPLICATION PASSWORD 'digest'",
            );
            cluster
        })
    }

    /// With a conninfo in `primary`, a standby of that.
    fn start(primary: &str, more_config: &str) -> Option<Self> {
        let directory = tempfile::Builder::new()
            .prefix("walpost-pg-")
            .tempdir()
            .unwrap()
            .keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        // Only root may become another user, and Postgres refuses to run as root.
        let is_root = fs::metadata(&directory).unwrap().uid() == 0;
        let port = free_port();
        let config = format!(
            "{CONFIG}{more_config}port = {port}\nunix_socket_directories = '{}'\n",
            directory.display()
        );
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN])
            .env("DIR", &directory)
            .env("BIN", server_programs())
            .env("DROP", if is_root { "1" } else { "0" })
            .env("PRIMARY", primary)
            .env("CONFIG", config)
            .env("HBA", HBA)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt from the terminal goes to the whole group: the guardian must outlive it.
            .process_group(0)
            .spawn()
            .expect("sh is installed");
        let answer = first_line(&mut guardian);
        (answer == "ready\n").then_some(Self {
            directory,
            port,
            _guardian: guardian,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// Runs SQL as superuser by a client that shares nothing with the crate; its output without
    /// decoration.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        let output = Command::new("psql")
            .args([
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                database,
            ])
            .arg("-h")
            .arg(&self.directory)
            .args(["-p", &self.port.to_string(), "-c", sql])
            .output()
            .expect("psql is installed");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {error}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Makes a database of its own for a test.
    pub(crate) fn create_database(&'static self, name: &'static str) -> Database {
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        Database {
            cluster: self,
            name,
        }
    }

    /// Asks the server to shut down: no new sessions, and an orderly end for those that stream.
    pub(crate) fn stop_fast(&self) {
        let data = self.directory.join("data");
        let pid = fs::read_to_string(data.join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let status = Command::new("kill").args(["-INT", pid]).status().unwrap();
        assert!(status.success());
    }
}

/// A test's own database.
pub(crate) struct Database {
    cluster: &'static Cluster,
    pub(crate) name: &'static str,
}

impl Database {
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.cluster.psql(self.name, sql)
    }

    pub(crate) fn tcp(&self) -> Conninfo {
        let port = self.cluster.port();
        conninfo(&format!(
            "postgresql://postgres@127.0.0.1:{port}/{}",
            self.name
        ))
    }

    pub(crate) fn unix(&self) -> Conninfo {
        let Cluster {
            directory, port, ..
        } = self.cluster;
        let directory = directory.display();
        conninfo(&format!(
            "host={directory} port={port} user=postgres dbname={}",
            self.name
        ))
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        Connection::connect(&self.unix(), &options(Mode::Replication)).await
    }

    /// A table `items`, a publication of it, and a slot, all of the test's own.
    pub(crate) fn create_slot(&self, publication: &str) -> &'static str {
        self.psql("CREATE TABLE items (id int PRIMARY KEY, body text)");
        self.psql(&format!("CREATE PUBLICATION {publication} FOR TABLE items"));
        let slot = self.name;
        self.psql(&format!(
            "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ));
        slot
    }
}

pub(crate) fn conninfo(text: &str) -> Conninfo {
    Conninfo::parse(text, &|_| None).unwrap()
}

pub(crate) fn options(mode: Mode) -> ConnectOptions {
    ConnectOptions {
        mode,
        application_name: "walsender test".to_owned(),
        ..ConnectOptions::default()
    }
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).unwrap();
    line
}

/// Programs of the newest installed server, or those of the directory that the environment names.
pub(crate) fn server_programs() -> PathBuf {
    if let Some(directory) = std::env::var_os("WALPOST_TEST_PG_BIN") {
        return directory.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").expect("Postgres is installed");
    let newest = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let major: u32 = path.file_name()?.to_str()?.parse().ok()?;
            Some((major, path.join("bin")))
        })
        .max();
    newest.expect("Postgres is installed").1
}
