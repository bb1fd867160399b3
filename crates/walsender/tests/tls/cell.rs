//! One connection string in one environment, and how it ended.

use std::fmt;

/// Tells whether the session is encrypted. Psql and the crate send the same.
pub(crate) const QUERY: &str =
    "select coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false)";

/// The version of libpq that knows `sslcertmode`, `require_auth` and `sslrootcert=system`.
pub(crate) const LIBPQ_16: u32 = 16;

/// The version of libpq that knows `sslnegotiation`.
pub(crate) const LIBPQ_17: u32 = 17;

/// How an attempt to connect ended.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// With the answer to [`QUERY`].
    Connected(String),
    /// With the text of the error.
    Refused(String),
}

impl Verdict {
    /// Whether both mean the same, whatever the errors say.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connected(answer) if answer == "t" => "TLS",
            Self::Connected(answer) if answer == "f" => "clear",
            Self::Connected(answer) => answer,
            Self::Refused(_) => "refused",
        })
    }
}

/// What is tried.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    keys: Vec<(String, String)>,
    /// In place of the keys.
    url: Option<String>,
    /// Variables of the environment.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// The home directory.
    pub(crate) home: String,
    /// The oldest libpq that knows the keys.
    pub(crate) needs: u32,
}

impl Cell {
    /// As a role that is trusted, by name and address, so that no name has to be resolved.
    pub(crate) fn new(port: u16, home: &str) -> Self {
        let cell = Self {
            keys: Vec::new(),
            url: None,
            variables: Vec::new(),
            home: home.to_owned(),
            needs: 0,
        };
        cell.with("host", "localhost")
            .with("hostaddr", "127.0.0.1")
            .with("port", port.to_string())
            .with("dbname", "postgres")
            .with("user", "trusted")
    }

    /// With a key, in place of what it had.
    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        match self.keys.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => entry.1 = value,
            None => self.keys.push((key.to_owned(), value)),
        }
        self
    }

    /// With several keys, as `key=value key=value`, no quotes.
    pub(crate) fn with_all(self, text: &str) -> Self {
        text.split_whitespace().fold(self, |cell, pair| {
            let (key, value) = pair.split_once('=').expect("a pair");
            cell.with(key, value)
        })
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    /// A URL in place of all keys.
    pub(crate) fn url(self, url: String) -> Self {
        let url = Some(url);
        Self { url, ..self }
    }

    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    pub(crate) fn home(mut self, home: String) -> Self {
        self.home = home;
        self
    }

    pub(crate) fn needs(mut self, libpq: u32) -> Self {
        self.needs = self.needs.max(libpq);
        self
    }

    /// Can't be tried on this machine.
    pub(crate) fn impossible(self) -> Self {
        self.needs(u32::MAX)
    }

    /// The operating system's roots are those of this file.
    pub(crate) fn system_roots(self, path: String) -> Self {
        self.variable("SSL_CERT_FILE", path)
            .variable("SSL_CERT_DIR", "/nonexistent")
            .needs(LIBPQ_16)
    }

    /// OpenSSL itself reads its variables: they have to be those of the process.
    pub(crate) fn needs_own_process(&self) -> bool {
        self.variables
            .iter()
            .any(|(name, _)| name.starts_with("SSL_CERT_"))
    }

    /// The connection string.
    pub(crate) fn text(&self) -> String {
        if let Some(url) = &self.url {
            return url.clone();
        }
        let pair = |(key, value): &(String, String)| {
            let value = value.replace('\\', r"\\").replace('\'', r"\'");
            format!("{key}='{value}'")
        };
        self.keys.iter().map(pair).collect::<Vec<_>>().join(" ")
    }
}
