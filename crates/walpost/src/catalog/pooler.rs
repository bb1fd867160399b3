//! Whether a connection pooler stands between us and Postgres.
//!
//! Poolers answer a login themselves, so they make up the process id that the server tells there.
//! Most of them refuse the startup parameters that a stream needs, each in words of its own.

use walpost_walsender::{Connection, Conninfo, Error, Host, ServerError};

use crate::checks;
use crate::finding::Finding;

/// A pooler that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pooler {
    pub name: &'static str,
    /// What gave it away.
    pub sign: String,
}

/// How our statements get to Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The process id that was told at the login.
    pub told_pid: i32,
    /// The one that the statement ran in.
    pub real_pid: i32,
    /// Where Postgres itself listens, as it knows it: an address where the connection to it is over
    /// TCP, and the port.
    pub address: Option<String>,
    pub port: String,
}

/// Asks Postgres who and where it is.
pub(crate) async fn way(connection: &mut Connection) -> Result<Way, Error> {
    const SQL: &str = "select pg_catalog.pg_backend_pid(), \
         pg_catalog.host(pg_catalog.inet_server_addr()), pg_catalog.current_setting('port')";
    let rows = connection.query(SQL).await?;
    let text = |index: usize| rows.first().and_then(|row| row.get(index));
    Ok(Way {
        told_pid: connection.backend_pid(),
        real_pid: text(0).and_then(|pid| pid.parse().ok()).unwrap_or(0),
        address: text(1).map(str::to_owned),
        port: text(2).unwrap_or_default().to_owned(),
    })
}

impl Way {
    /// The pooler on the way, if there is one.
    pub(crate) fn pooler(&self, conninfo: &Conninfo) -> Option<Pooler> {
        if self.told_pid == self.real_pid {
            return None;
        }
        let sign = format!(
            "it told process {} at the login, and statements run in process {}",
            self.told_pid, self.real_pid
        );
        let name = Pooler::of_place(conninfo).map_or("a connection pooler", |found| found.name);
        Some(Pooler { name, sign })
    }

    /// Where to connect instead.
    pub(crate) fn direct(&self, conninfo: &Conninfo) -> String {
        let place = match &self.address {
            Some(address) if address.contains(':') => format!("[{address}]:{}", self.port),
            Some(address) => format!("{address}:{}", self.port),
            None => format!("port {} of the pooler's machine", self.port),
        };
        let hint = advice(conninfo).unwrap_or(PLAIN);
        format!("{hint} (the pooler reaches Postgres at {place})")
    }
}

const PLAIN: &str = "name host and port of Postgres itself in postgres.url";

impl Pooler {
    /// A pooler that refused the login, by its words.
    pub(crate) fn of_refusal(error: &ServerError, conninfo: &Conninfo) -> Option<Self> {
        let text = error.message.to_lowercase();
        let has = |words: &str| text.contains(words);
        let name = if has("rds proxy") {
            "RDS Proxy"
        } else if has("odyssey:") {
            "Odyssey"
        } else if has("pgcat") {
            "PgCat"
        } else if has("supavisor") || has("tenant or user not found") {
            "Supavisor"
        } else if has("unsupported startup parameter") {
            Self::of_place(conninfo).map_or("PgBouncer", |found| found.name)
        } else if has("pgbouncer") {
            "PgBouncer"
        } else {
            return None;
        };
        let sign = format!("it answers: {error}");
        Some(Self { name, sign })
    }

    /// The first host whose name is known for a pooler's.
    pub(crate) fn of_place(conninfo: &Conninfo) -> Option<Self> {
        conninfo
            .hosts
            .iter()
            .find_map(|entry| Self::of_host(&entry.host))
    }

    fn of_host(host: &Host) -> Option<Self> {
        let Host::Tcp(host) = host else {
            return None;
        };
        let host = host.to_lowercase();
        let name = if host.ends_with(".pooler.supabase.com") {
            "Supavisor"
        } else if host.contains(".proxy-") && host.ends_with(".rds.amazonaws.com") {
            "RDS Proxy"
        } else if host.ends_with(".neon.tech") && first_label(&host).ends_with("-pooler") {
            "Neon's PgBouncer"
        } else {
            return None;
        };
        let sign = format!("the host is called {host}");
        Some(Self { name, sign })
    }

    /// It refused the login.
    pub(crate) fn problem(&self, conninfo: &Conninfo) -> Finding {
        let Self { name, sign } = self;
        let seen = format!("{conninfo} is {name}, which carries no replication: {sign}");
        checks::PG_POOLER.found(*name, seen, Self::direct(conninfo))
    }

    /// Where to connect instead, as far as the place tells.
    fn direct(conninfo: &Conninfo) -> &'static str {
        advice(conninfo).unwrap_or(
            "name host and port of Postgres itself in postgres.url: those that the pooler has in \
             its own configuration (PgBouncer: section [databases])",
        )
    }
}

fn advice(conninfo: &Conninfo) -> Option<&'static str> {
    Some(match Pooler::of_place(conninfo)?.name {
        "Supavisor" => "use Supabase's direct connection, db.PROJECT.supabase.co, port 5432",
        "RDS Proxy" => "use the endpoint of the instance or of the cluster, without .proxy-",
        _ => "use Neon's direct connection: the same host without -pooler",
    })
}

fn first_label(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conninfo(host: &str) -> Conninfo {
        Conninfo::parse(&format!("host={host} user=u"), &|_| None).unwrap()
    }

    #[test]
    fn a_host_that_is_a_pooler_by_its_name_is_known_and_so_is_the_way_round_it() {
        for (host, name, advice) in [
            (
                "aws-0-eu-west-1.pooler.supabase.com",
                "Supavisor",
                "db.PROJECT.supabase.co",
            ),
            (
                "shop.proxy-abc.eu-west-1.rds.amazonaws.com",
                "RDS Proxy",
                "without .proxy-",
            ),
            (
                "ep-cool-1-pooler.eu-central-1.aws.neon.tech",
                "Neon's PgBouncer",
                "without -pooler",
            ),
        ] {
            let conninfo = conninfo(host);
            assert_eq!(Pooler::of_place(&conninfo).unwrap().name, name);
            assert!(Pooler::direct(&conninfo).contains(advice), "{host}");
        }
        for host in [
            "db.example.com",
            "shop.abc.eu-west-1.rds.amazonaws.com",
            "ep-cool-1.eu-central-1.aws.neon.tech",
        ] {
            assert_eq!(Pooler::of_place(&conninfo(host)), None, "{host}");
        }
    }

    #[test]
    fn a_process_id_that_is_made_up_gives_a_pooler_away() {
        let mut way = Way {
            told_pid: 7,
            real_pid: 7,
            address: Some("10.0.0.5".to_owned()),
            port: "5432".to_owned(),
        };
        let conninfo = conninfo("db");
        assert_eq!(way.pooler(&conninfo), None);
        way.real_pid = 8;
        assert_eq!(way.pooler(&conninfo).unwrap().name, "a connection pooler");
        assert!(way.direct(&conninfo).contains("10.0.0.5:5432"));
        way.address = None;
        assert!(way.direct(&conninfo).contains("port 5432"));
    }
}
