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

use crate::cluster::{Cluster, conninfo, free_port, options, server_programs};

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
                    free_port()
                ),
                &BTreeMap::new(),
            );
            refused == Outcome::Refused && matches!(tried, Outcome::Failed(_))
        };
        Some(newer).filter(runs)
    }

    fn all() -> Vec<Self> {
        [Some(Self::installed()), Self::newer()]
            .into_iter()
            .flatten()
            .collect()
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
            match failed(ports) {
                // Of a single server nothing but the cause is told.
                Outcome::Refused => Outcome::Failed(vec![conninfo.hosts[0].port]),
                outcome => outcome,
            }
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
        format!("host={hosts} port={ports} dbname=postgres sslmode=disable ")
    }
}

/// A port that is taken, but where nobody listens.
fn dead_port() -> u16 {
    static PORT: OnceLock<(u16, socket2::Socket)> = OnceLock::new();
    let bound = PORT.get_or_init(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (address.port(), socket)
    });
    bound.0
}

const TARGETS: [&str; 6] = [
    "any",
    "read-write",
    "read-only",
    "primary",
    "standby",
    "prefer-standby",
];

#[tokio::test]
async fn server_that_fits_is_the_one_that_libpq_chooses() {
    let servers = Servers::get();
    let mut sessions = 0;
    for letters in [
        "p", "s", "ps", "sp", "dps", "dsp", "tp", "ts", "pdt", "sd", "td",
    ] {
        for target in TARGETS {
            for user in ["postgres", "reader"] {
                let text = servers.text(letters);
                let text = format!("{text}user={user} target_session_attrs={target}");
                let outcome = assert_same(&text, &BTreeMap::new()).await;
                sessions += usize::from(matches!(outcome, Outcome::Session(_)));
            }
        }
    }
    // Not all alike.
    assert!(sessions > 60 && sessions < 120, "{sessions}");
}

#[tokio::test]
async fn server_that_fits_is_chosen_as_expected() {
    let servers = Servers::get();
    let (primary, standby) = (servers.primary.port(), servers.standby.port());
    for (letters, target, expected) in [
        ("sp", "any", standby),
        ("sp", "read-write", primary),
        ("ps", "read-only", standby),
        ("dtsp", "primary", primary),
        ("dtps", "standby", standby),
        ("ps", "prefer-standby", standby),
        ("dtp", "prefer-standby", primary),
    ] {
        let text = format!(
            "{}user=postgres target_session_attrs={target}",
            servers.text(letters)
        );
        let expected = Outcome::Session(format!("{expected} postgres postgres"));
        assert_eq!(
            connect(&text, &BTreeMap::new()).await,
            expected,
            "{letters} {target}"
        );
    }
    let text = format!(
        "{}user=postgres target_session_attrs=read-write",
        servers.text("ts")
    );
    let conninfo = conninfo(&text);
    let options = options(Mode::Sql);
    let error = Connection::connect(&conninfo, &options).await.unwrap_err();
    assert!(error.is_target());
    let cause = error.source().unwrap().to_string();
    let expected = format!(
        "127.0.0.1:{standby}: the session is read-only, and target_session_attrs asks for another"
    );
    assert!(
        cause.contains("FATAL 57P03: ") && cause.ends_with(&expected),
        "{cause}"
    );
}

#[tokio::test]
async fn refusal_ends_the_search_where_it_does_for_libpq() {
    let servers = Servers::get();
    let (primary, dead) = (servers.primary.port(), dead_port());
    for (letters, rest, expected) in [
        ("ps", "user=scram_user password=wrong", vec![primary]),
        ("dps", "user=scram_user password=wrong", vec![dead, primary]),
        ("ps", "user=scram_user", vec![primary]),
        ("ps", "user=nobody", vec![primary]),
        ("ps", "user=postgres dbname=nowhere", vec![primary]),
        (
            "tps",
            "user=postgres options='-c no_such=1'",
            vec![servers.starting.port(), primary],
        ),
        ("dd", "user=postgres", vec![dead]),
    ] {
        let text = format!("{}{rest}", servers.text(letters));
        let outcome = assert_same(&text, &BTreeMap::new()).await;
        assert_eq!(outcome, Outcome::Failed(expected), "{letters} {rest}");
    }
    for letters in ["ps", "tdp"] {
        let text = format!("{}user=scram_user password=right", servers.text(letters));
        let expected = format!("{primary} scram_user postgres");
        let outcome = assert_same(&text, &BTreeMap::new()).await;
        assert_eq!(outcome, Outcome::Session(expected));
    }
}

#[tokio::test]
async fn random_order_reaches_all_servers() {
    const TIMES: usize = 32;
    let servers = Servers::get();
    let text = format!(
        "{}user=postgres load_balance_hosts=random",
        servers.text("ps")
    );
    let mut ours = BTreeMap::<_, usize>::new();
    let mut theirs = BTreeMap::<_, usize>::new();
    let newer = Libpq::newer();
    for _ in 0..TIMES {
        let outcome = connect(&text, &BTreeMap::new()).await;
        *ours.entry(format!("{outcome:?}")).or_default() += 1;
        if let Some(libpq) = &newer {
            let outcome = libpq.connect(&text, &BTreeMap::new());
            *theirs.entry(format!("{outcome:?}")).or_default() += 1;
        }
    }
    // The same one each time: once in 2^31.
    assert_eq!(ours.len(), 2, "{ours:?}");
    if newer.is_some() {
        assert!(ours.keys().eq(theirs.keys()), "{ours:?} {theirs:?}");
    }
}

#[tokio::test]
async fn password_file_opens_the_same_doors() {
    let servers = Servers::get();
    let (primary, standby) = (servers.primary.port(), servers.standby.port());
    let lines = [
        format!("127.0.0.1:{primary}:*:scram_user:right"),
        format!("127.0.0.1:{primary}:postgres:scram_user:wrong\n*:*:*:*:right"),
        format!("#x\n\n127.0.0.1:{standby}:*:*:right\r\n*:{primary}:*:*:wrong"),
        "127.0.0.1:\\*:*:*:wrong\n127\\.0.0.1:*:post\\gres:*:ri\\ght:rest".to_owned(),
        "*:*:*:scram_user:".to_owned(),
        "*:*:*:scram_user:\n*:*:*:*:right".to_owned(),
        "127.0.0.1 :*:*:*:right".to_owned(),
        "**:*:*:*:right".to_owned(),
        "*:*:*:*:right ".to_owned(),
    ];
    for line in &lines {
        for mode in [0o600, 0o640] {
            let home = home_with(".pgpass", line, mode);
            let path = home.path().join(".pgpass").display().to_string();
            let by_home = BTreeMap::from([("HOME", home.path().display().to_string())]);
            let by_name = BTreeMap::from([("PGPASSFILE", path)]);
            for letters in ["ps", "sp"] {
                let text = format!("{}user=scram_user", servers.text(letters));
                assert_same(&text, &by_home).await;
                assert_same(&text, &by_name).await;
            }
        }
    }
}

#[tokio::test]
async fn service_and_environment_give_way_in_the_same_order() {
    let servers = Servers::get();
    let (primary, standby) = (servers.primary.port(), servers.standby.port());
    let service = format!(
        "[full]\nhost=127.0.0.1\nport={standby}\nuser=reader\nsslmode=disable\n\
         [part]\n# none\n  user=reader \n[bad]\nhots=x\n[nested]\nservice=part\n[none]\n x"
    );
    let home = home_with(".pg_service.conf", &service, 0o644);
    let home = home.path().display().to_string();
    let mut env = BTreeMap::from([
        ("HOME", home.clone()),
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGPORT", primary.to_string()),
        ("PGUSER", "postgres".to_owned()),
        ("PGDATABASE", "template1".to_owned()),
    ]);
    let texts = [
        "service=full".to_owned(),
        "service=part".to_owned(),
        "service=bad".to_owned(),
        "service=nested".to_owned(),
        "service=none".to_owned(),
        "service=missing".to_owned(),
        "service=full user=postgres dbname=postgres".to_owned(),
        format!("postgresql://:{primary}/?service=full"),
        "postgresql:///postgres?service=part".to_owned(),
        "dbname='' service=full".to_owned(),
        String::new(),
    ];
    for text in &texts {
        assert_same(text, &env).await;
    }
    env.insert("PGSERVICE", "part".to_owned());
    assert_same("", &env).await;
    assert_same("service=full", &env).await;
    env.insert("PGSERVICEFILE", format!("{home}/missing"));
    assert_same("service=full", &env).await;
    env.insert("PGSERVICEFILE", format!("{home}/.pg_service.conf"));
    env.insert("HOME", "/nonexistent".to_owned());
    let outcome = assert_same("service=full", &env).await;
    assert_eq!(
        outcome,
        Outcome::Session(format!("{standby} reader template1"))
    );
}

#[tokio::test]
async fn strings_are_refused_by_both_or_by_none() {
    let (primary, dead) = (Servers::get().primary.port(), dead_port());
    let base = "user=postgres dbname=postgres sslmode=disable connect_timeout=5 host=127.0.0.1";
    let mut found = Vec::new();
    for rest in [
        "port=P",
        "port=' P '",
        "port=D",
        "port=0",
        "port=65536",
        "port=x",
        "port=P,P",
        "port=P,P,P host=127.0.0.1,127.0.0.1",
        "port=D, host=127.0.0.1,127.0.0.1",
        "port=P hostaddr=127.0.0.1",
        "port=P host=nowhere.invalid hostaddr=127.0.0.1",
        "port=D,P host=,127.0.0.1 hostaddr=127.0.0.1,",
        "port=P hostaddr=127.0.0.1,127.0.0.1",
        "port=P sslmode=''",
        "port=P sslmode=x",
        "port=P requiressl=0",
        "port=P sslrootcert=''",
        "port=P channel_binding=x",
        "port=P connect_timeout=x",
        "port=P connect_timeout=''",
        "port=P connect_timeout=-1",
        "port=P keepalives=0",
        "port=P keepalives=x",
        "port=P keepalives_idle=7 keepalives_count=2",
        "port=P user=''",
        "port=P gssencmode=prefer",
        "port=P gssencmode=x",
        "port=P sslcompression=1",
        "port=P ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        "port=P ssl_min_protocol_version=tlsv1.3",
        "port=P ssl_max_protocol_version=SSLv3",
        "port=P ssl_max_protocol_version=TLSv1.1",
        "port=P target_session_attrs=''",
        "port=P target_session_attrs=Any",
        "port=P tcp_user_timeout=1000",
        "port=P Host=x",
        "port=P password",
        "port=P password='x",
        "port=P password=a\\ b",
        "port=P fallback=x",
        "port=P fallback_application_name=x",
        "port=P client_encoding=UTF8",
        "port = P",
    ] {
        let text = format!("{base} {rest}")
            .replace('P', &primary.to_string())
            .replace("=D", &format!("={dead}"));
        found.extend(differences(&text, &BTreeMap::new()).await);
    }
    for url in [
        "postgresql://postgres@127.0.0.1:P/postgres",
        "postgres://postgres@127.0.0.1:D,127.0.0.1:P/postgres",
        "postgresql://postgres@127.0.0.1,127.0.0.1:P/postgres?port=D,P",
        "postgresql://127.0.0.1:P?user=postgres&dbname=template1",
        "postgresql://%70ostgres@127.0.0.1:P/%70ostgres",
        "postgresql://postgres@127.0.0.1:P/postgres?sslmode=x",
        "postgresql://postgres@127.0.0.1:P/postgres?x=1",
        "postgresql://postgres@127.0.0.1:P/postgres?ssl=false",
        "postgresql://postgres@127.0.0.1:P/postgres?sslmode=disable&",
        "postgresql://postgres@127.0.0.1:P/postgres?sslmode",
        "postgresql://postgres@127.0.0.1:P/postgres?sslmode=a=b",
        "postgresql://postgres@[::1:P/postgres",
        "postgresql://postgres@[]:P/postgres",
        "postgresql://postgres@127.0.0.1:P/post%gres",
        "postgresql://postgres@127.0.0.1:P/a%2Fb",
    ] {
        let text = url
            .replace('P', &primary.to_string())
            .replace(":D", &format!(":{dead}"));
        let text = text.replace("=D", &format!("={dead}"));
        let env = BTreeMap::from([("PGSSLMODE", "disable".to_owned())]);
        found.extend(differences(&text, &env).await);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn younger_keys_are_refused_by_both_or_by_none() {
    let Some(libpq) = Libpq::newer() else {
        return;
    };
    let primary = Servers::get().primary.port();
    let base = format!("host=127.0.0.1 port={primary} user=postgres dbname=postgres ");
    for (rest, is_refused) in [
        ("sslmode=disable load_balance_hosts=disable", false),
        ("sslmode=disable load_balance_hosts=x", true),
        ("sslmode=disable load_balance_hosts=''", true),
        ("sslmode=disable sslcertmode=allow", false),
        ("sslmode=disable sslcertmode=x", true),
        ("sslmode=disable sslcertmode=''", true),
        ("sslmode=disable require_auth=''", false),
        ("sslmode=disable require_auth=x", true),
        ("sslmode=disable require_auth=md5,md5", true),
        ("sslmode=disable require_auth=md5,!none", true),
        ("sslmode=disable require_auth=!md5,none", true),
        ("sslmode=disable require_auth=md5,", true),
        ("sslmode=disable sslnegotiation=postgres", false),
        ("sslmode=disable sslnegotiation=direct", true),
        ("sslmode=prefer sslnegotiation=direct", true),
        ("sslmode=disable sslnegotiation=x", true),
        ("sslmode=require sslrootcert=system", true),
        ("sslmode=disable min_protocol_version=3.0", false),
        ("sslmode=disable min_protocol_version=3.1", true),
        ("sslmode=disable max_protocol_version=3.2", false),
        ("sslmode=disable max_protocol_version=4", true),
    ] {
        let text = format!("{base}{rest}");
        let ours = connect(&text, &BTreeMap::new()).await;
        let theirs = libpq.connect(&text, &BTreeMap::new());
        assert_eq!(ours, theirs, "{rest}: ours is left");
        assert_eq!(ours == Outcome::Refused, is_refused, "{rest}");
    }
}

fn home_with(name: &str, text: &str, mode: u32) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let path: &Path = &home.path().join(name);
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    home
}
