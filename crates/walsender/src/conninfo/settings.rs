//! Keys, and the values that text and environment give them.

use std::collections::BTreeMap;

use super::ConninfoError;

/// A key that this build acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Host,
    Hostaddr,
    Port,
    Dbname,
    User,
    Password,
    ApplicationName,
    ConnectTimeout,
    Sslmode,
    Options,
}

/// Key, its name in the text, its variable in the environment.
const KEYS: [(Key, &str, &str); 10] = [
    (Key::Host, "host", "PGHOST"),
    (Key::Hostaddr, "hostaddr", "PGHOSTADDR"),
    (Key::Port, "port", "PGPORT"),
    (Key::Dbname, "dbname", "PGDATABASE"),
    (Key::User, "user", "PGUSER"),
    (Key::Password, "password", "PGPASSWORD"),
    (Key::ApplicationName, "application_name", "PGAPPNAME"),
    (Key::ConnectTimeout, "connect_timeout", "PGCONNECT_TIMEOUT"),
    (Key::Sslmode, "sslmode", "PGSSLMODE"),
    (Key::Options, "options", "PGOPTIONS"),
];

/// The other keys of libpq.
const UNSUPPORTED: [&str; 42] = [
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// A longer name is no key, but text that went astray.
const KEY_BYTES_MAX: usize = 40;

/// A value and what gave it, for errors. Deliberately without `Debug`: it can be the password.
pub(super) struct Value {
    pub(super) text: String,
    origin: &'static str,
}

impl Value {
    /// An error that names where the value comes from, but not the value.
    pub(super) fn error(&self, what: &str) -> ConninfoError {
        ConninfoError::new(format!("`{}` {what}", self.origin))
    }
}

#[derive(Default)]
pub(super) struct Settings {
    values: BTreeMap<Key, Value>,
    /// The last key of the text was `password`.
    after_password: bool,
}

impl Settings {
    /// Sets a key of the text; a later value replaces an earlier one.
    pub(super) fn set(&mut self, name: &str, text: String) -> Result<(), ConninfoError> {
        let Some(&(key, origin, _)) = KEYS.iter().find(|(_, known, _)| *known == name) else {
            return Err(self.unknown(name));
        };
        let value = Value { text, origin };
        if value.text.contains('\0') {
            return Err(value.error("holds a zero byte"));
        }
        self.after_password = key == Key::Password;
        self.values.insert(key, value);
        Ok(())
    }

    /// Takes what the text leaves open from the environment.
    pub(super) fn add_environment(
        &mut self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), ConninfoError> {
        for (key, _, origin) in KEYS {
            if self.values.contains_key(&key) {
                continue;
            }
            if let Some(text) = env(origin) {
                let value = Value { text, origin };
                if value.text.contains('\0') {
                    return Err(value.error("holds a zero byte"));
                }
                self.values.insert(key, value);
            }
        }
        Ok(())
    }

    /// The key's value. An empty one stands for the default, as libpq has it: `dbname=''` is not
    /// `PGDATABASE`.
    pub(super) fn take(&mut self, key: Key) -> Option<Value> {
        self.values
            .remove(&key)
            .filter(|value| !value.text.is_empty())
    }

    fn unknown(&self, name: &str) -> ConninfoError {
        if UNSUPPORTED.contains(&name) {
            return ConninfoError::new(format!("key `{name}` is not supported by this build"));
        }
        if self.after_password {
            return ConninfoError::new(
                "an unknown key follows the password; if it is a part of it, quote the password \
                 (password='...'), or in a URL write '&' as %26",
            );
        }
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > KEY_BYTES_MAX || !name.bytes().all(is_name) {
            return ConninfoError::new("a word before a '=' is not a key");
        }
        ConninfoError::new(format!("unknown key `{name}`"))
    }
}

#[cfg(test)]
pub(super) fn supported() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().map(|(_, name, variable)| (*name, *variable))
}
