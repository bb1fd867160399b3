//! Connection strings, as libpq reads them.
//!
//! Text, then service file, then environment, then defaults: each key is taken from the first that
//! has it. The rules of quoting and of percent-encoding are libpq's, and so are those of the
//! password file. What differs is deliberate:
//!
//! * A key that can't act here is an error that says what to do instead, never ignored:
//!   `requirepeer` that does nothing would be worse than none.
//! * An unencoded `@` after the first, or a port that is no number, is an error that says what to
//!   encode. libpq goes on with a part of the password as the host's name, and prints it. For the
//!   same reason a host that begins with `@`, an abstract Unix socket to libpq, is an error.
//! * Errors quote no values. They name keys, but none that follows a password: it may be a part of
//!   it. A path is named once there is a file at it.
//! * Where libpq has no time limit, there is one: for connecting, and for a peer that vanished
//!   ([`TcpSettings`]).
//! * What libpq prints to standard error is kept as [`Conninfo::warnings`].

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;

use keys::Key;
use login::Login;
use passfile::{Passfile, Wanted};
use settings::{Line, Settings, Value};

mod hosts;
mod keys;
mod keywords;
mod login;
mod passfile;
mod service;
mod settings;
mod tcp;
mod tls;
mod url;
mod values;

pub use hosts::{Endpoint, Host, HostEntry, TargetSessionAttrs};
pub use tcp::TcpSettings;
pub use tls::{
    AuthMethod, ChannelBinding, RequireAuth, RootCert, SslCertMode, SslMode, SslNegotiation,
    TlsSettings, TlsVersion,
};

/// Where distributions put the server's socket; libpq has it compiled in.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The environment's variables.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where and as whom to connect. `Display` and `Debug` show it without secrets.
#[derive(Clone)]
#[non_exhaustive]
pub struct Conninfo {
    /// The servers, in the order in which they are tried. Never empty.
    pub hosts: Vec<HostEntry>,
    /// Database to connect to.
    pub database: String,
    /// Role to connect as.
    pub user: String,
    /// What the string wants the session to be called. Only a wish: each connection is named by
    /// `ConnectOptions::application_name`.
    pub application_name: Option<String>,
    /// Limit for each address of each server, authentication included. [`Duration::MAX`]: none.
    pub connect_timeout: Duration,
    /// Command-line options for the server process, such as `-c work_mem=64MB`.
    pub options: Option<String>,
    /// Whether to use TLS, and how.
    pub tls: TlsSettings,
    /// The TCP socket's own limits.
    pub tcp: TcpSettings,
    /// Whether authentication has to be bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// Which ways to authenticate the server may ask for.
    pub require_auth: RequireAuth,
    /// Which of the servers will do.
    pub target_session_attrs: TargetSessionAttrs,
    /// Try servers, and the addresses of each, in random order: `load_balance_hosts=random`.
    pub load_balance_hosts: bool,
    warnings: Vec<String>,
    /// Apart: with a password from elsewhere it is none.
    passfile_warning: Option<String>,
    /// Where the passwords come from, if no other is given.
    passfile: Option<PasswordFile>,
}

#[derive(Clone)]
struct PasswordFile {
    path: PathBuf,
    /// The key or variable that names it.
    asked_for_by: Option<&'static str>,
    /// What the file calls each of the hosts.
    names: Vec<String>,
}

impl Conninfo {
    /// Reads `postgresql://user:password@host:port,host:port/database?key=value` or `key=value
    /// key='value'`, with all keys of libpq in PostgreSQL 18. In `dbname`, a connection string is
    /// just a name, as it is to `PQconnectdb`.
    ///
    /// `env` answers for libpq's variables (`PGHOST` ...), and for `HOME`. The default user is the
    /// operating system's, by the effective user's line in `/etc/passwd`, and where there is none
    /// by `USER` or `LOGNAME`; the default database is the user's name; the default host is the
    /// local socket directory where there is one, and `localhost` otherwise. The time limit to
    /// connect is 10 s where `connect_timeout` is not given, and none where it is 0 or less.
    ///
    /// Reads files, and waits for the disk: the service file where a service is named, and the
    /// password file where no password is given, again in [`refreshed`](Self::refreshed). Both are
    /// looked for in the home directory, which is `HOME`, or the one in `/etc/passwd` where that is
    /// unset or empty. Files that have to do with TLS are not opened, and a `~` in a path is just a
    /// character, as with libpq.
    ///
    /// # Errors
    ///
    /// For a string that is not one of the two forms, a key that is unknown or can't act here, a
    /// value that its key can't have, or a service that can't be read. The error holds no part of
    /// any value.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        let local = PathBuf::from(SOCKET_DIRECTORY);
        let host_default = if local.is_dir() {
            Host::Unix(local)
        } else {
            Host::Tcp("localhost".to_owned())
        };
        Self::parse_with(text, env, Login::of_process(), &host_default)
    }

    fn parse_with(
        text: &str,
        env: Env<'_>,
        login: Option<Login>,
        host_default: &Host,
    ) -> Result<Self, ConninfoError> {
        let mut settings = Settings::default();
        let rest = ["postgresql://", "postgres://"];
        match rest.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => url::read(rest, &mut settings)?,
            None => keywords::read(text, &mut settings)?,
        }
        let home = env("HOME").filter(|home| !home.is_empty());
        let home = home
            .map(PathBuf::from)
            .or_else(|| login.as_ref().map(|login| login.home.clone()));
        service::add(&mut settings, env, home.as_deref())?;
        let warnings = settings.add_environment(env)?;

        let places = hosts::places(&mut settings, host_default)?;
        let user = match settings.take(Key::User) {
            Some(user) => user.text,
            None => default_user(login, env)?,
        };
        let database = settings
            .take(Key::Dbname)
            .map_or_else(|| user.clone(), |name| name.text);
        let (names, hosts) = places
            .into_iter()
            .map(|place| (place.passfile_name, place.entry))
            .unzip();
        let passfile = passfile(&mut settings, home.as_deref(), names);
        let mut conninfo = Self {
            hosts,
            database,
            user,
            application_name: None,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            options: settings.take(Key::Options).map(|value| value.text),
            tls: values::tls(&mut settings, home)?,
            tcp: values::tcp(&mut settings)?,
            channel_binding: ChannelBinding::default(),
            require_auth: values::require_auth(settings.take(Key::RequireAuth))?,
            target_session_attrs: TargetSessionAttrs::default(),
            load_balance_hosts: false,
            warnings,
            passfile_warning: None,
            passfile,
        };
        conninfo.add_rest(&mut settings)?;
        Ok(match settings.take(Key::Password) {
            Some(password) => conninfo.with_password(password.text.into()),
            None => conninfo.refreshed(),
        })
    }

    fn add_rest(&mut self, settings: &mut Settings) -> Result<(), ConninfoError> {
        let fallback = settings.take(Key::FallbackApplicationName);
        let name = settings.take(Key::ApplicationName).or(fallback);
        self.application_name = name.map(|value| value.text);
        if let Some(value) = settings.take_even_empty(Key::ConnectTimeout) {
            self.connect_timeout = values::connect_timeout(&value)?;
        }
        let mut take = |key| settings.take_even_empty(key);
        self.channel_binding = values::channel_binding(take(Key::ChannelBinding).as_ref())?;
        self.target_session_attrs = values::target(take(Key::TargetSessionAttrs).as_ref())?;
        self.load_balance_hosts = values::load_balance(take(Key::LoadBalanceHosts).as_ref())?;
        values::check_gssencmode(take(Key::Gssencmode).as_ref())?;
        values::check_protocol_versions(settings)?;
        values::check_client_encoding(settings.take(Key::ClientEncoding))
    }

    /// The same with a password from elsewhere, for every server.
    #[must_use]
    pub fn with_password(mut self, password: SecretString) -> Self {
        self = self.without_password();
        for entry in &mut self.hosts {
            entry.password = Some(password.clone());
        }
        self
    }

    /// The same without any password, for one that comes from elsewhere later: a password file,
    /// or what is wrong with it, then has no part in it.
    #[must_use]
    pub fn without_password(mut self) -> Self {
        for entry in &mut self.hosts {
            entry.password = None;
        }
        self.passfile_warning = None;
        self.passfile = None;
        self
    }

    /// The same for a single server, at the address where an earlier connection reached it. Nothing
    /// else changes: who the server has to be and which password it gets go by its name, as before.
    ///
    /// With several servers or addresses the next connection may end up somewhere else. What has to
    /// be asked of one server on two connections needs this.
    ///
    /// # Panics
    ///
    /// When the earlier connection was made with other servers than these.
    #[must_use]
    pub fn pinned_to(mut self, endpoint: &Endpoint) -> Self {
        let mut entry = self.hosts.swap_remove(endpoint.index);
        entry.hostaddr = endpoint.address.or(entry.hostaddr);
        self.hosts = vec![entry];
        if let Some(file) = &mut self.passfile {
            file.names = vec![file.names.swap_remove(endpoint.index)];
        }
        self
    }

    /// The password file, where the password of one of the servers comes from it.
    pub fn password_file(&self) -> Option<&Path> {
        let has_password = self.hosts.iter().any(|entry| entry.password.is_some());
        let file = self.passfile.as_ref().filter(|_| has_password);
        file.map(|file| file.path.as_path())
    }

    /// The same with the passwords that the password file has now, where they come from there:
    /// libpq reads it for each connection.
    #[must_use]
    pub fn refreshed(mut self) -> Self {
        let Some(file) = &self.passfile else {
            return self;
        };
        let read = Passfile::read(&file.path, file.asked_for_by);
        for (entry, name) in self.hosts.iter_mut().zip(&file.names) {
            entry.password = read.password(&Wanted {
                host: name,
                port: entry.port,
                database: &self.database,
                user: &self.user,
            });
        }
        self.passfile_warning = read.warning;
        self
    }

    /// What the user has to know, although one can connect: a password file that was not used, a
    /// variable without effect. One sentence each, without secrets.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings
            .iter()
            .chain(&self.passfile_warning)
            .map(String::as_str)
    }
}

fn passfile(
    settings: &mut Settings,
    home: Option<&Path>,
    names: Vec<String>,
) -> Option<PasswordFile> {
    let given = settings.take(Key::Passfile);
    let asked_for_by = given.as_ref().map(Value::name);
    let given = given.map(|file| PathBuf::from(file.text));
    Some(PasswordFile {
        path: given.or_else(|| home.map(|home| home.join(".pgpass")))?,
        asked_for_by,
        names,
    })
}

/// As libpq, by the effective user: `USER` can be what another program left behind.
fn default_user(login: Option<Login>, env: Env<'_>) -> Result<String, ConninfoError> {
    let variable = |name: &&str| env(name).filter(|user| !user.is_empty());
    login
        .map(|login| login.name)
        .or_else(|| ["USER", "LOGNAME"].iter().find_map(variable))
        .ok_or_else(|| ConninfoError::new("no user is given; add user=NAME or set PGUSER"))
}

impl fmt::Display for Conninfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "postgresql://{}@", Encoded(&self.user))?;
        for (index, entry) in self.hosts.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            match &entry.host {
                Host::Tcp(name) if name.contains(':') => write!(formatter, "[{name}]")?,
                Host::Tcp(name) => Encoded(name).fmt(formatter)?,
                Host::Unix(directory) => Encoded(&directory.to_string_lossy()).fmt(formatter)?,
            }
            write!(formatter, ":{}", entry.port)?;
        }
        write!(formatter, "/{}", Encoded(&self.database))
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

    /// The same, about a line of a file.
    fn at(self, line: &Line) -> Self {
        Self::new(format!("{line}: {}", self.text))
    }
}

#[cfg(test)]
mod tests;
