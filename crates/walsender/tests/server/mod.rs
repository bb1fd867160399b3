//! Throwaway Postgres servers, for every test target of the crate.
//!
//! A shell, the guardian, makes the cluster and starts it, then waits for the end of its standard
//! input: the pipe that this process holds. However this process ends, also by SIGKILL, the
//! guardian then stops the server and removes the directory.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use socket2::{Domain, Socket, Type};

/// How often a port is tried: another process can take it between the look and the start.
const STARTS_MAX: u32 = 5;

const CONFIG: &str = "
fsync = off
full_page_writes = off
listen_addresses = '127.0.0.1'
log_min_messages = warning
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

/// What to start.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// Where the server's programs are.
    pub(crate) programs: &'a Path,
    /// Settings beside those that every test needs.
    pub(crate) config: &'a str,
    /// The lines of `pg_hba.conf`.
    pub(crate) hba: &'a str,
    /// Where the primary is, for a standby; empty for a primary.
    pub(crate) primary: &'a str,
}

/// A running server with its cluster.
pub(crate) struct Server {
    directory: PathBuf,
    port: u16,
    /// Holds the pipe that the guardian waits on.
    _guardian: Child,
}

impl Server {
    /// Makes a cluster and starts it.
    pub(crate) fn start(setup: Setup<'_>) -> Self {
        let server = (0..STARTS_MAX).find_map(|_| Self::try_start(setup));
        server.expect("Postgres starts (its log is above)")
    }

    fn try_start(setup: Setup<'_>) -> Option<Self> {
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
            "{CONFIG}{}\nport = {port}\nunix_socket_directories = '{}'\n",
            setup.config,
            directory.display()
        );
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN])
            .env("DIR", &directory)
            .env("BIN", setup.programs)
            .env("DROP", if is_root { "1" } else { "0" })
            .env("PRIMARY", setup.primary)
            .env("CONFIG", config)
            .env("HBA", setup.hba)
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

    /// The directory of the cluster, of its socket, and of whatever a test puts there; it is
    /// removed with the server.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs SQL as superuser by a client that shares nothing with the crate; its output without
    /// decoration.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        let output = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d"])
            .arg(database)
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

    /// Sends the postmaster a signal: `INT` for a fast shutdown, `HUP` to read its settings anew.
    pub(crate) fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let status = Command::new("kill")
            .args([&format!("-{name}"), pid])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

/// A port on which nobody listens now; somebody else can take it.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A port that is taken for as long as this process lives, but where nobody listens.
pub(crate) fn dead_port() -> u16 {
    static BOUND: OnceLock<(u16, Socket)> = OnceLock::new();
    let bound = BOUND.get_or_init(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (address.port(), socket)
    });
    bound.0
}

/// Programs of the newest installed server, or those of the directory that the environment names.
pub(crate) fn programs() -> PathBuf {
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

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).unwrap();
    line
}
