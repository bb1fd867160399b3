//! The same connection strings given to libpq and to the crate: both must end up in the same place,
//! or fail after the same attempts.

use std::{
    collections::BTreeMap,
    error::Error as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;
use walpost_walsender::{Connection, Conninfo, Mode};

use crate::cluster::{Cluster, conninfo, dead_port, options, server_programs};

mod servers;
mod strings;

/// What an attempt to connect came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Port, user and database of the session.
    Session(String),
    /// The ports that were tried, in order, each once.
    Failed(Vec<u16>),
    /// The connection string is at fault.
    Refused,
}

/// A version of libpq, under the `psql` of the installed server.
#[derive(Clone, Debug)]
struct Libpq {
    psql: PathBuf,
    /// Where another version's libraries are.
    libraries: Option<PathBuf>,
}

impl Libpq {
    fn installed() -> Self {
        let own = server_programs().join("psql");
        let psql = if own.exists() { own } else { "psql".into() };
        Self {
            psql,
            libraries: None,
        }
    }

    /// Version 18, where it was fetched and an installed `psql` runs with it.
    fn newer() -> Option<Self> {
        let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache");
        let cache =
            std::env::var_os("WALPOST_CACHE").map_or_else(|| repository.into(), PathBuf::from);
        let libraries = cache.join("postgres-18/lib");
        let newer = Self {
            libraries: libraries.join("libpq.so.5").exists().then_some(libraries),
            ..Self::installed()
        };
        let runs = |libpq: &Self| {
            // A key that is younger than 15.
            let refused = libpq.connect("load_balance_hosts=none", &BTreeMap::new());
            let tried = libpq.connect(
                &format!(
                    "load_balance_hosts=random host=127.0.0.1 port={}",
                    dead_port()
                ),
                &BTreeMap::new(),
            );
            refused == Outcome::Refused && matches!(tried, Outcome::Failed(_))
        };
        Some(newer).filter(runs)
    }

    /// Those that are there, looked for once.
    fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Libpq>> = OnceLock::new();
        ALL.get_or_init(|| {
            let versions = [Some(Self::installed()), Self::newer()];
            versions.into_iter().flatten().collect()
        })
    }

    fn connect(&self, text: &str, env: &BTreeMap<&str, String>) -> Outcome {
        let mut command = Command::new(&self.psql);
        command
            .args(["-XAtq", "-F", " ", "-d", text, "-c", QUESTION])
            .env_clear()
            .env("HOME", "/nonexistent")
            .envs(env);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let output = command.output().expect("psql is installed");
        if output.status.success() {
            let answer = String::from_utf8(output.stdout).unwrap();
            return Outcome::Session(answer.trim().to_owned());
        }
        let error = String::from_utf8(output.stderr).unwrap();
        if error.contains("invalid integer value") {
            // Noticed late, and told of the connection.
            return Outcome::Refused;
        }
        let ports = error.lines().filter_map(|line| {
            let (_, after) = line.split_once("connection to server ")?;
            let after = after
                .split_once(", port ")
                .or(after.split_once(".s.PGSQL."))?
                .1;
            let digits = after.find(|char: char| !char.is_ascii_digit())?;
            after[..digits].parse().ok()
        });
        failed(ports)
    }
}

const QUESTION: &str = "SELECT current_setting('port'), current_user, current_database()";

async fn connect(text: &str, env: &BTreeMap<&str, String>) -> Outcome {
    let env = |name: &str| match name {
        "HOME" => Some(env.get(name).map_or("/nonexistent", |home| home).to_owned()),
        name => env.get(name).cloned(),
    };
    let Ok(conninfo) = Conninfo::parse(text, &env) else {
        return Outcome::Refused;
    };
    match Connection::connect(&conninfo, &options(Mode::Sql)).await {
        Ok(mut connection) => {
            let rows = connection.query(QUESTION).await.unwrap();
            let values: Vec<_> = (0..3).filter_map(|index| rows[0].get(index)).collect();
            connection.close().await;
            Outcome::Session(values.join(" "))
        }
        Err(error) => {
            let text = error.source().unwrap().to_string();
            let ports = text.split("; ").filter_map(|attempt| {
                let place = attempt.split(": ").next()?;
                let place = place.split(' ').next()?;
                place.rsplit([':', '.']).next()?.parse().ok()
            });
            if conninfo.hosts.len() == 1 {
                // Of a single server nothing but the cause is told.
                return Outcome::Failed(vec![conninfo.hosts[0].port]);
            }
            failed(ports)
        }
    }
}

fn failed(ports: impl Iterator<Item = u16>) -> Outcome {
    let mut once = Vec::new();
    for port in ports {
        if !once.contains(&port) {
            once.push(port);
        }
    }
    if once.is_empty() {
        Outcome::Refused
    } else {
        Outcome::Failed(once)
    }
}

/// Both come to the same, for each version of libpq.
async fn assert_same(text: &str, env: &BTreeMap<&str, String>) -> Outcome {
    let differences = differences(text, env).await;
    assert!(differences.is_empty(), "{differences:#?}");
    connect(text, env).await
}

async fn differences(text: &str, env: &BTreeMap<&str, String>) -> Vec<String> {
    let ours = connect(text, env).await;
    let differs = |libpq: &Libpq| {
        let theirs = libpq.connect(text, env);
        (ours != theirs).then(|| format!("{text}: ours {ours:?}, theirs {theirs:?}: {libpq:?}"))
    };
    Libpq::all().iter().filter_map(differs).collect()
}

/// A primary, its hot standby, and one that takes no sessions.
struct Servers {
    primary: &'static Cluster,
    standby: &'static Cluster,
    starting: &'static Cluster,
}

impl Servers {
    fn get() -> &'static Self {
        static SERVERS: OnceLock<Servers> = OnceLock::new();
        SERVERS.get_or_init(|| {
            let primary = Cluster::own();
            primary.psql(
                "postgres",
                "CREATE ROLE reader LOGIN; \
                 ALTER ROLE reader SET default_transaction_read_only = on; \
                 CREATE ROLE scram_user LOGIN PASSWORD 'right'",
            );
            Self {
                primary,
                standby: primary.standby(true),
                starting: primary.standby(false),
            }
        })
    }

    /// A list for `port`, of the servers that the letters stand for: p, s, t for the one that takes
    /// no sessions, d for one that is dead.
    fn ports(&self, letters: &str) -> (String, String) {
        let port = |letter| match letter {
            'p' => self.primary.port(),
            's' => self.standby.port(),
            't' => self.starting.port(),
            _ => dead_port(),
        };
        let ports: Vec<_> = letters
            .chars()
            .map(|letter| port(letter).to_string())
            .collect();
        let hosts = vec!["127.0.0.1"; ports.len()];
        (hosts.join(","), ports.join(","))
    }

    fn text(&self, letters: &str) -> String {
        let (hosts, ports) = self.ports(letters);
        format!("host={hosts} port={ports} dbname=postgres ")
    }
}
