//! Connection strings, as libpq reads them.
//!
//! Text, then environment, then defaults: each key is taken from the first that has it. The rules
//! of quoting and of percent-encoding are libpq's. What differs is deliberate:
//!
//! * A key that this build does not act on is an error, never ignored: `sslrootcert` that does
//!   nothing would be worse than none.
//! * An unencoded `@` after the first, or a port that is no number, is an error that says what to
//!   encode. libpq goes on with a part of the password as the host's name, and prints it.
//! * Errors quote no values. They name keys, but none that follows a password: it may be a part of
//!   it.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

use settings::{Key, Settings, Value};

mod keywords;
mod settings;
mod tls;
mod url;

pub use tls::{
    AuthMethod, ChannelBinding, RequireAuth, RootCert, SslCertMode, SslMode, SslNegotiation,
    TlsSettings, TlsVersion,
};

/// Where distributions put the server's socket; libpq has it compiled in.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

const PORT_DEFAULT: u16 = 5432;
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Where and as whom to connect. `Display` and `Debug` show it without secrets.
#[derive(Clone)]
#[non_exhaustive]
pub struct Conninfo {
    /// The server's name or its socket directory.
    pub host: Host,
    /// Connect to this address; the name in `host` then only serves to say who the server is.
    pub hostaddr: Option<IpAddr>,
    /// TCP port, and the number in the name of a Unix socket.
    pub port: u16,
    /// Database to connect to.
    pub database: String,
    /// Role to connect as.
    pub user: String,
    /// The password, for a server that asks for one.
    pub password: Option<SecretString>,
    /// What the string wants the session to be called. Only a wish: each connection is named by
    /// `ConnectOptions::application_name`.
    pub application_name: Option<String>,
    /// Limit for all of connecting, authentication included. [`Duration::MAX`]: none.
    pub connect_timeout: Duration,
    /// Command-line options for the server process, such as `-c work_mem=64MB`.
    pub options: Option<String>,
}

/// How the server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A host name or an IP address.
    Tcp(String),
    /// The directory of a Unix socket.
    Unix(PathBuf),
}

impl Conninfo {
    /// Reads `postgresql://user:password@host:port/database?key=value` or `key=value key='value'`.
    ///
    /// Keys: `host`, `hostaddr`, `port`, `dbname`, `user`, `password`, `application_name`,
    /// `connect_timeout` (seconds, default 10; 0 or less: no limit), `options`, and `sslmode`,
    /// whose values `disable`, `allow` and `prefer` mean a connection without TLS.
    ///
    /// `env` answers for the variables that libpq knows for these keys (`PGHOST` ...), and for
    /// `USER` and `LOGNAME`, from which the default user comes. The default database is the user's
    /// name; the default host is the local socket directory where there is one, and `localhost`
    /// otherwise.
    ///
    /// # Errors
    ///
    /// For a string that is not one of the two forms, a key that is unknown or not supported, or a
    /// value that its key can't have. The error holds no part of any value.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        let local = PathBuf::from(SOCKET_DIRECTORY);
        let host_default = if local.is_dir() {
            Host::Unix(local)
        } else {
            Host::Tcp("localhost".to_owned())
        };
        Self::parse_with(text, env, host_default)
    }

    fn parse_with(
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
        host_default: Host,
    ) -> Result<Self, ConninfoError> {
        let mut settings = Settings::default();
        let rest = ["postgresql://", "postgres://"];
        match rest.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => url::read(rest, &mut settings)?,
            None => keywords::read(text, &mut settings)?,
        }
        settings.add_environment(env)?;
        check_sslmode(settings.take(Key::Sslmode))?;

        let hostaddr = settings.take(Key::Hostaddr).map(hostaddr).transpose()?;
        let host = settings.take(Key::Host).map(host).transpose()?;
        let host = match (host, hostaddr) {
            (Some(Host::Tcp(name)), _) => Host::Tcp(name),
            (_, Some(address)) => Host::Tcp(address.to_string()),
            (Some(Host::Unix(directory)), None) => Host::Unix(directory),
            (None, None) => host_default,
        };
        let user = match settings.take(Key::User) {
            Some(user) => user.text,
            None => default_user(env)?,
        };
        let database = settings
            .take(Key::Dbname)
            .map_or_else(|| user.clone(), |name| name.text);
        let port = settings.take(Key::Port).map(port).transpose()?;
        let timeout = settings
            .take(Key::ConnectTimeout)
            .map(connect_timeout)
            .transpose()?;
        Ok(Self {
            host,
            hostaddr,
            port: port.unwrap_or(PORT_DEFAULT),
            database,
            user,
            password: settings.take(Key::Password).map(|value| value.text.into()),
            application_name: settings.take(Key::ApplicationName).map(|value| value.text),
            connect_timeout: timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
            options: settings.take(Key::Options).map(|value| value.text),
        })
    }
}

fn host(value: Value) -> Result<Host, ConninfoError> {
    if value.text.starts_with('/') {
        return Ok(Host::Unix(value.text.into()));
    }
    if value.text.contains(',') {
        return Err(value.error("names several hosts; this build connects to one"));
    }
    if value
        .text
        .chars()
        .any(|char| char.is_control() || char.is_whitespace())
    {
        return Err(value.error("holds blanks or control characters"));
    }
    if value.text.contains('@') {
        return Err(value.error(
            "holds an '@'; in a URL, write '@' as %40 and '/' as %2F inside user and password",
        ));
    }
    Ok(Host::Tcp(value.text))
}

fn hostaddr(value: Value) -> Result<IpAddr, ConninfoError> {
    let address = value.text.parse();
    address.map_err(|_| value.error("is not one numeric IPv4 or IPv6 address"))
}

fn port(value: Value) -> Result<u16, ConninfoError> {
    match value.text.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(value.error(
            "is not a number from 1 to 65535; in a URL, write '/' as %2F, '@' as %40 and ':' as \
             %3A inside user and password",
        )),
    }
}

fn connect_timeout(value: Value) -> Result<Duration, ConninfoError> {
    match value.text.trim().parse::<i32>() {
        Ok(seconds) => Ok(match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => Duration::MAX,
        }),
        Err(_) => Err(value.error("is not a number of seconds")),
    }
}

fn check_sslmode(value: Option<Value>) -> Result<(), ConninfoError> {
    let Some(value) = value else {
        return Ok(());
    };
    match value.text.as_str() {
        "disable" | "allow" | "prefer" => Ok(()),
        "require" | "verify-ca" | "verify-full" => Err(value.error(
            "demands TLS, which this build does not speak to Postgres; \
             use disable, allow or prefer for a connection in the clear",
        )),
        _ => {
            Err(value
                .error("is none of disable, allow, prefer, require, verify-ca and verify-full"))
        }
    }
}

fn default_user(env: &dyn Fn(&str) -> Option<String>) -> Result<String, ConninfoError> {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| env(name).filter(|user| !user.is_empty()))
        .ok_or_else(|| ConninfoError::new("no user is given; add user=NAME or set PGUSER"))
}

impl fmt::Display for Conninfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = Encoded(&self.user);
        write!(formatter, "postgresql://{user}@")?;
        match &self.host {
            Host::Tcp(name) if name.contains(':') => write!(formatter, "[{name}]")?,
            Host::Tcp(name) => Encoded(name).fmt(formatter)?,
            Host::Unix(directory) => Encoded(&directory.to_string_lossy()).fmt(formatter)?,
        }
        write!(formatter, ":{}/{}", self.port, Encoded(&self.database))
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Conninfo({self})")
    }
}

/// Text as a part of a URL.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    formatter.write_char(char::from(byte))?;
                }
                _ => write!(formatter, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// A connection string can't be used. `Display` is one line, without any value of the string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection string: {text}")]
pub struct ConninfoError {
    text: String,
}

impl ConninfoError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

#[cfg(test)]
mod tests;
