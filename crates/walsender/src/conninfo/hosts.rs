//! Which servers a connection string names, and which of them will do.

use std::{fmt, net::IpAddr, path::PathBuf};

use secrecy::SecretString;

use super::{
    ConninfoError,
    keys::Key,
    settings::{Settings, Value},
    values,
};

const PORT_DEFAULT: u16 = 5432;

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A host name or an IP address.
    Tcp(String),
    /// The directory of a Unix socket.
    Unix(PathBuf),
}

/// One of the servers. `Display` is the place without secrets.
#[derive(Clone, Debug)]
pub struct HostEntry {
    /// The server's name or its socket directory.
    pub host: Host,
    /// Connect to this address; the name in `host` then only serves to say who the server is.
    pub hostaddr: Option<IpAddr>,
    /// Whether `host` names the server. Otherwise only `hostaddr` was given, and `host` repeats it:
    /// it says where the server is, and not who.
    pub(crate) is_named: bool,
    /// TCP port, and the number in the name of a Unix socket.
    pub port: u16,
    /// The password, for a server that asks for one: the string's, or the password file's for this
    /// host.
    pub password: Option<SecretString>,
}

impl fmt::Display for HostEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match (&self.host, self.hostaddr) {
            (Host::Unix(directory), None) => {
                write!(formatter, "{}/.s.PGSQL.{port}", directory.display())
            }
            (Host::Tcp(name), _) if name.contains(':') => write!(formatter, "[{name}]:{port}"),
            (Host::Tcp(name), _) => write!(formatter, "{name}:{port}"),
            (Host::Unix(_), Some(IpAddr::V6(address))) => write!(formatter, "[{address}]:{port}"),
            (Host::Unix(_), Some(IpAddr::V4(address))) => write!(formatter, "{address}:{port}"),
        }
    }
}

/// The one place, of all that a connection string names, where a connection found its server.
/// [`Conninfo::pinned_to`](super::Conninfo::pinned_to) leads there again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Which of the servers.
    pub(crate) index: usize,
    /// Which of its addresses. None of a Unix socket, which is one place anyway, and of an address
    /// that says nothing without its interface.
    pub(crate) address: Option<IpAddr>,
}

/// Which server will do: `target_session_attrs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// The first that lets us in.
    #[default]
    Any,
    /// One whose sessions can write.
    ReadWrite,
    /// One whose sessions can't write.
    ReadOnly,
    /// One that is not in hot standby mode.
    Primary,
    /// One that is in hot standby mode.
    Standby,
    /// As `Standby`, and if there is none, as `Any`.
    PreferStandby,
}

/// A server, and the name by which the password file knows it.
pub(super) struct Place {
    pub(super) entry: HostEntry,
    pub(super) passfile_name: String,
}

/// Reads the lists `host`, `hostaddr` and `port`. `default` stands for an empty element.
pub(super) fn places(settings: &mut Settings, default: &Host) -> Result<Vec<Place>, ConninfoError> {
    let hosts = settings.take(Key::Host);
    let addresses = settings.take(Key::Hostaddr);
    let ports = settings.take(Key::Port);
    let count = addresses.as_ref().or(hosts.as_ref()).map_or(1, length);
    if let Some(hosts) = hosts.as_ref().filter(|hosts| length(hosts) != count) {
        let names = length(hosts);
        let what = format!("lists {names}, and `hostaddr` {count}: give as many of both");
        return Err(hosts.error(&what));
    }
    if let Some(ports) = &ports {
        let given = length(ports);
        if given != 1 && given != count {
            let hosts = if count == 1 { "host" } else { "hosts" };
            let what =
                format!("lists {given}, for {count} {hosts}: give one for all, or each its own");
            return Err(ports.error(&what));
        }
    }
    (0..count)
        .map(|index| {
            let host = hosts.as_ref().map_or("", |list| element(list, index));
            let address = addresses.as_ref().map_or("", |list| element(list, index));
            let hostaddr = match &addresses {
                Some(list) if !address.is_empty() => Some(parse_address(list, address)?),
                _ => None,
            };
            let named = match &hosts {
                Some(list) if !host.is_empty() => Some(parse_host(list, host)?),
                _ => None,
            };
            let is_named = hostaddr.is_none() || matches!(named, Some(Host::Tcp(_)));
            let host = match (named, hostaddr) {
                (Some(Host::Tcp(name)), _) => Host::Tcp(name),
                (_, Some(address)) => Host::Tcp(address.to_string()),
                (Some(Host::Unix(directory)), None) => Host::Unix(directory),
                (None, None) => default.clone(),
            };
            Ok(Place {
                passfile_name: passfile_name(hosts.as_ref(), index, &host, default),
                entry: HostEntry {
                    is_named,
                    host,
                    hostaddr,
                    port: ports
                        .as_ref()
                        .map_or(Ok(PORT_DEFAULT), |list| port(list, index))?,
                    password: None,
                },
            })
        })
        .collect()
}

fn length(list: &Value) -> usize {
    list.text.split(',').count()
}

fn element(list: &Value, index: usize) -> &str {
    list.text.split(',').nth(index).unwrap_or_default()
}

/// The host's text, and where that is empty the address. The default, given or not, is `localhost`.
fn passfile_name(hosts: Option<&Value>, index: usize, host: &Host, default: &Host) -> String {
    const LOCAL: &str = "localhost";
    let given = hosts.map_or("", |list| element(list, index));
    match (given, host) {
        ("", Host::Tcp(name)) => name.clone(),
        ("", Host::Unix(_)) => LOCAL.to_owned(),
        (given, _) => match default {
            Host::Unix(directory) if directory.as_os_str() == given => LOCAL.to_owned(),
            Host::Unix(_) | Host::Tcp(_) => given.to_owned(),
        },
    }
}

fn parse_host(list: &Value, text: &str) -> Result<Host, ConninfoError> {
    if text.starts_with('/') {
        return Ok(Host::Unix(text.into()));
    }
    let is_odd = |char: char| char.is_control() || char.is_whitespace();
    if text.chars().any(is_odd) {
        return Err(list.error("holds blanks or control characters"));
    }
    if text.contains('@') {
        return Err(list.error(
            "holds an '@'; in a URL, write '@' as %40 and '/' as %2F inside user and password",
        ));
    }
    Ok(Host::Tcp(text.to_owned()))
}

fn parse_address(list: &Value, text: &str) -> Result<IpAddr, ConninfoError> {
    let address = text.parse();
    address.map_err(|_| list.error("is not a numeric IPv4 or IPv6 address, or a list of them"))
}

/// One port is for all hosts.
fn port(list: &Value, index: usize) -> Result<u16, ConninfoError> {
    let index = if length(list) == 1 { 0 } else { index };
    match element(list, index) {
        "" => Ok(PORT_DEFAULT),
        text => match values::integer(text).map(u16::try_from) {
            Some(Ok(port)) if port > 0 => Ok(port),
            _ => Err(list.error(
                "is not a number from 1 to 65535; in a URL, write '/' as %2F, '@' as %40 and ':' \
                 as %3A inside user and password",
            )),
        },
    }
}
