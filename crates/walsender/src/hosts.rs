//! From the servers of a connection string to one session, by libpq's rules.
//!
//! Servers are tried in order, and the addresses of each, until one lets us in and is of the kind
//! that `target_session_attrs` asks for. What follows a failure:
//!
//! | failure                                              | what is tried next  |
//! |------------------------------------------------------|---------------------|
//! | an address can't be reached, or its time is up       | the next address    |
//! | a name has no address                                | the next server     |
//! | the server says that it can't take sessions (57P03)  | the next server     |
//! | the server is not of the kind that is asked for      | the next server     |
//! | anything else: a password refused, TLS that fails    | nothing             |
//!
//! The last line is libpq's as well: another server would most likely refuse the same password,
//! and a reason that is plain would drown among others.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::AtomicBool,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{
    connection::{ConnectOptions, Connection},
    conninfo::{Conninfo, Endpoint, Host, HostEntry, TargetSessionAttrs},
    error::{Attempt, Cause},
    negotiate,
    socket::Address,
};

/// Longer waits are as good as none; what is added to a clock must stay in its range.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is tried after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Address,
    Server,
    Nothing,
}

/// Connects to the first server that will do.
pub(crate) async fn connect(
    conninfo: &Conninfo,
    options: &ConnectOptions,
) -> Result<Connection, Cause> {
    let mut entries: Vec<_> = conninfo.hosts.iter().enumerate().collect();
    if conninfo.load_balance_hosts {
        shuffle(&mut entries);
    }
    let mut search = Search {
        conninfo,
        options,
        limit: conninfo.connect_timeout.min(CONNECT_TIMEOUT_MAX),
        attempts: Vec::new(),
    };
    for target in rounds(conninfo.target_session_attrs) {
        for (index, entry) in &entries {
            match search.server(*index, entry, *target).await {
                Ok(connection) => return Ok(connection),
                Err(Next::Nothing) => return Err(search.failure()),
                Err(Next::Address | Next::Server) => {}
            }
        }
    }
    Err(search.failure())
}

/// What is asked of the servers, in one round after the other.
fn rounds(target: TargetSessionAttrs) -> &'static [Target] {
    match target {
        TargetSessionAttrs::Any => &[Target::Any],
        TargetSessionAttrs::ReadWrite => &[Target::ReadWrite],
        TargetSessionAttrs::ReadOnly => &[Target::ReadOnly],
        TargetSessionAttrs::Primary => &[Target::Primary],
        TargetSessionAttrs::Standby => &[Target::Standby],
        TargetSessionAttrs::PreferStandby => &[Target::Standby, Target::Any],
    }
}

struct Search<'a> {
    conninfo: &'a Conninfo,
    options: &'a ConnectOptions,
    /// For each address.
    limit: Duration,
    /// Those that failed, in order.
    attempts: Vec<Attempt>,
}

impl Search<'_> {
    async fn server(
        &mut self,
        index: usize,
        entry: &HostEntry,
        target: Target,
    ) -> Result<Connection, Next> {
        let mut addresses = match self.resolve(entry).await {
            Ok(addresses) => addresses,
            Err(cause) => {
                self.failed(entry.to_string(), cause);
                return Err(Next::Server);
            }
        };
        addresses.retain(|address| !self.is_passed_over(index, address));
        if self.conninfo.load_balance_hosts {
            shuffle(&mut addresses);
        }
        for address in &addresses {
            match self.address(index, address, entry, target).await {
                Ok(connection) => return Ok(connection),
                Err((cause, next)) => {
                    self.failed(place(entry, address), cause);
                    if next != Next::Address {
                        return Err(next);
                    }
                }
            }
        }
        Err(Next::Server)
    }

    fn is_passed_over(&self, index: usize, address: &Address) -> bool {
        let address = address.ip();
        let endpoint = Endpoint { index, address };
        self.options.passed_over.contains(&endpoint)
    }

    async fn resolve(&self, entry: &HostEntry) -> Result<Vec<Address>, Cause> {
        let deadline = Instant::now() + self.limit;
        match timeout_at(deadline, resolve(entry)).await {
            Ok(Ok(addresses)) if addresses.is_empty() => Err(unresolved(io::ErrorKind::NotFound)),
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(unresolved(error)),
            Err(_) => Err(Cause::Timeout(self.limit)),
        }
    }

    async fn address(
        &self,
        index: usize,
        address: &Address,
        entry: &HostEntry,
        target: Target,
    ) -> Result<Connection, (Cause, Next)> {
        let deadline = Instant::now() + self.limit;
        let is_taken = AtomicBool::new(false);
        // The handshake's buffers are large for a future that lives on its owner's stack.
        let session = Box::pin(async {
            let opened =
                negotiate::open(address, entry, self.conninfo, self.options, &is_taken).await;
            let (wire, greeting) = opened.map_err(|cause| {
                let next = after(&cause);
                (cause, next)
            })?;
            let endpoint = Endpoint {
                index,
                address: address.ip(),
            };
            let mut connection = Connection::new(wire, endpoint, greeting);
            match target.check(&mut connection).await {
                Ok(()) => Ok(connection),
                Err(cause) => {
                    connection.close().await;
                    Err((cause, Next::Server))
                }
            }
        });
        match timeout_at(deadline, session).await {
            Ok(result) => result,
            Err(_) if is_taken.into_inner() => Err((Cause::NotLetIn(self.limit), Next::Address)),
            Err(_) => Err((Cause::Timeout(self.limit), Next::Address)),
        }
    }

    fn failed(&mut self, place: String, cause: Cause) {
        let attempt = Attempt { place, cause };
        // The second round has little new to say.
        let text = attempt.to_string();
        if !self
            .attempts
            .iter()
            .any(|attempt| attempt.to_string() == text)
        {
            self.attempts.push(attempt);
        }
    }

    /// Each attempt's failure with its place. A single server's single failure is the whole.
    fn failure(mut self) -> Cause {
        let is_single = self.attempts.len() == 1 && self.conninfo.hosts.len() == 1;
        match self.attempts.pop() {
            None => Cause::Usage("no server is named"),
            Some(only) if is_single => only.cause,
            Some(last) => Cause::Attempts {
                earlier: self.attempts,
                last: Box::new(last),
            },
        }
    }
}

fn unresolved(error: impl Into<io::Error>) -> Cause {
    Cause::Connect {
        addresses: Vec::new(),
        source: error.into(),
    }
}

fn after(cause: &Cause) -> Next {
    let cause = cause.main();
    if let Cause::Server(error) = cause
        && error.takes_no_sessions()
    {
        Next::Server
    } else if matches!(cause, Cause::Connect { .. }) {
        Next::Address
    } else {
        Next::Nothing
    }
}

/// The server as the string names it, and the address where that says more.
fn place(entry: &HostEntry, address: &Address) -> String {
    match (address, &entry.host) {
        (Address::Tcp(address), Host::Tcp(name)) if *name != address.ip().to_string() => {
            format!("{entry} ({})", address.ip())
        }
        _ => address.to_string(),
    }
}

async fn resolve(entry: &HostEntry) -> io::Result<Vec<Address>> {
    let port = entry.port;
    let name = match (&entry.host, entry.hostaddr) {
        (_, Some(address)) => return Ok(vec![Address::Tcp(SocketAddr::new(address, port))]),
        (Host::Unix(directory), None) => {
            return Ok(vec![Address::Unix(
                directory.join(format!(".s.PGSQL.{port}")),
            )]);
        }
        (Host::Tcp(name), None) => name,
    };
    // A numeric address needs no look-up, nor the thread that a look-up takes.
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![Address::Tcp(SocketAddr::new(address, port))]);
    }
    let addresses = tokio::net::lookup_host((name.as_str(), port)).await?;
    Ok(addresses.map(Address::Tcp).collect())
}

/// Puts the items into a random order, each order being as likely as any other.
fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let count = u64::try_from(last + 1).unwrap_or(u64::MAX);
        // Each state of a hash map is seeded anew; nothing here is worth a better source.
        let random = RandomState::new().build_hasher().finish() % count;
        items.swap(last, usize::try_from(random).unwrap_or(last));
    }
}

/// What a server has to be, in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
}

impl Target {
    async fn check(self, connection: &mut Connection) -> Result<(), Cause> {
        let fits = match self {
            Self::Any => true,
            Self::ReadWrite => !is_read_only(connection).await?,
            Self::ReadOnly => is_read_only(connection).await?,
            Self::Primary => !is_standby(connection).await?,
            Self::Standby => is_standby(connection).await?,
        };
        if fits {
            Ok(())
        } else {
            Err(Cause::Target(self))
        }
    }
}

impl fmt::Display for Target {
    /// What is wrong with a server that is not of this kind.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Any => "the server will not do",
            Self::ReadWrite => "the session is read-only",
            Self::ReadOnly => "the session is not read-only",
            Self::Primary => "the server is in hot standby mode",
            Self::Standby => "the server is not in hot standby mode",
        })
    }
}

/// Whether a transaction could write nothing. PostgreSQL 14 and later tell at the start.
async fn is_read_only(connection: &mut Connection) -> Result<bool, Cause> {
    let is_on = |name| connection.parameter(name).map(|value| value == "on");
    match (
        is_on("default_transaction_read_only"),
        is_on("in_hot_standby"),
    ) {
        (Some(read_only), Some(standby)) => Ok(read_only || standby),
        _ => Ok(connection.ask("SHOW transaction_read_only").await? == "on"),
    }
}

/// Whether the server replays another one's WAL.
async fn is_standby(connection: &mut Connection) -> Result<bool, Cause> {
    match connection.parameter("in_hot_standby") {
        Some(value) => Ok(value == "on"),
        None => Ok(connection
            .ask("SELECT pg_catalog.pg_is_in_recovery()")
            .await?
            == "t"),
    }
}

#[cfg(test)]
mod tests;
