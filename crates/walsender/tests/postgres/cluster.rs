//! The clusters of these tests, and databases in them.

use std::{
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use walpost_walsender::{ConnectOptions, Connection, Conninfo, Error, Mode};

use crate::server::{Server, Setup};
pub(crate) use crate::server::{dead_port, programs as server_programs};

const CONFIG: &str = "
wal_level = logical
max_wal_senders = 40
max_replication_slots = 40
";

const HBA: &str = "
local all,replication all trust
host all scram_user 127.0.0.1/32 scram-sha-256
host all md5_user 127.0.0.1/32 md5
host all cleartext_user 127.0.0.1/32 password
host all all 127.0.0.1/32 trust
";

pub(crate) struct Cluster(Server);

impl Cluster {
    /// A cluster for one test, which may do to it what it likes.
    pub(crate) fn own() -> &'static Self {
        Self::started("", "")
    }

    /// A standby of this cluster. One that is not hot takes no sessions.
    pub(crate) fn standby(&self, is_hot: bool) -> &'static Self {
        let directory = self.socket_directory().display();
        let primary = format!("host={directory} port={} user=postgres", self.port());
        let config = if is_hot {
            "hot_standby = on\n"
        } else {
            "hot_standby = off\n"
        };
        Self::started(&primary, config)
    }

    fn started(primary: &str, config: &str) -> &'static Self {
        let server = Server::start(Setup {
            programs: &server_programs(),
            config: &format!("{CONFIG}{config}"),
            hba: HBA,
            primary,
        });
        Box::leak(Box::new(Self(server)))
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

    pub(crate) fn port(&self) -> u16 {
        self.0.port()
    }

    pub(crate) fn socket_directory(&self) -> &Path {
        self.0.directory()
    }

    /// Runs SQL as superuser by a client that shares nothing with the crate; its output without
    /// decoration.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        self.0.psql(database, sql)
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
        self.0.signal("INT");
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
        let port = self.cluster.port();
        let directory = self.cluster.socket_directory().display();
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
