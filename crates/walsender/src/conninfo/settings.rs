//! The values that text, service file and environment give the keys.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use super::{
    ConninfoError,
    keys::{KEYS, Key, REFUSED, Variable, nearest},
};

/// A longer name is no key, but text that went astray.
const KEY_BYTES_MAX: usize = 40;

/// What gave a value.
#[derive(Clone, Debug)]
enum Origin {
    /// The key in the text, or its variable.
    Name(&'static str),
    Service {
        name: &'static str,
        at: Line,
    },
}

/// A line of a file.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) path: Arc<Path>,
    /// Counted from 1.
    pub(super) number: usize,
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {} of {}", self.number, self.path.display())
    }
}

/// A value and what gave it, for errors. Deliberately without `Debug`: it can be the password.
pub(super) struct Value {
    pub(super) text: String,
    origin: Origin,
}

impl Value {
    /// An error that names where the value comes from, but not the value.
    pub(super) fn error(&self, what: &str) -> ConninfoError {
        ConninfoError::new(match &self.origin {
            Origin::Name(name) => format!("`{name}` {what}"),
            Origin::Service { name, at } => format!("`{name}` ({at}) {what}"),
        })
    }

    /// The key in the text, or the variable, that gave the value.
    pub(super) fn name(&self) -> &'static str {
        match self.origin {
            Origin::Name(name) | Origin::Service { name, .. } => name,
        }
    }

    fn checked(self) -> Result<Self, ConninfoError> {
        if self.text.contains('\0') {
            return Err(self.error("holds a zero byte"));
        }
        Ok(self)
    }
}

#[derive(Default)]
pub(super) struct Settings {
    values: BTreeMap<Key, Value>,
    /// The last key of the text was a password.
    after_password: bool,
}

impl Settings {
    /// Sets a key of the text; a later value replaces an earlier one.
    pub(super) fn set(&mut self, name: &str, text: String) -> Result<(), ConninfoError> {
        if name == "requiressl" {
            // The key of long ago; what libpq makes of it.
            let mode = if text.starts_with('1') {
                "require"
            } else {
                "prefer"
            };
            return self.set("sslmode", mode.to_owned());
        }
        let (key, name) = self.known(name)?;
        let origin = Origin::Name(name);
        let value = Value { text, origin }.checked()?;
        self.after_password = matches!(key, Key::Password | Key::Sslpassword);
        self.values.insert(key, value);
        Ok(())
    }

    /// Sets a key by a line of a service file, unless the text has it.
    pub(super) fn set_by_service(
        &mut self,
        name: &str,
        text: String,
        at: &Line,
    ) -> Result<(), ConninfoError> {
        // A service file's lines are apart: no password reaches into the next.
        self.after_password = false;
        let (key, name) = self.known(name).map_err(|error| error.at(at))?;
        let origin = Origin::Service {
            name,
            at: at.clone(),
        };
        let value = Value { text, origin }.checked()?;
        self.values.entry(key).or_insert(value);
        Ok(())
    }

    /// Takes what text and service file leave open from the environment. The warnings are about
    /// variables that can't act.
    pub(super) fn add_environment(
        &mut self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>, ConninfoError> {
        for (key, _, variable) in KEYS {
            let Some(variable) = variable else { continue };
            // The service, and its file, are read before.
            if matches!(key, Key::Service | Key::Servicefile) || self.values.contains_key(&key) {
                continue;
            }
            let mut name = variable;
            let mut text = env(variable);
            if key == Key::Sslmode && text.is_none() {
                name = "PGREQUIRESSL";
                let required = env(name).is_some_and(|text| text.starts_with('1'));
                text = required.then(|| "require".to_owned());
            }
            if let Some(text) = text {
                let origin = Origin::Name(name);
                let value = Value { text, origin }.checked()?;
                self.values.insert(key, value);
            }
        }
        let mut warnings = Vec::new();
        for refused in REFUSED {
            let is_set = |name: &str| env(name).is_some_and(|text| !text.is_empty());
            match refused.variable {
                Variable::Refused(name) if is_set(name) => {
                    return Err(ConninfoError::new(format!("`{name}` {}", refused.reason)));
                }
                Variable::Idle(name) if is_set(name) => {
                    warnings.push(format!("{name} has no effect: GSSAPI is not spoken here"));
                }
                Variable::None | Variable::Refused(_) | Variable::Idle(_) => {}
            }
        }
        Ok(warnings)
    }

    /// A value of the environment, as if it were taken by `add_environment`.
    pub(super) fn variable(
        env: &dyn Fn(&str) -> Option<String>,
        name: &'static str,
    ) -> Result<Option<Value>, ConninfoError> {
        let value = env(name).map(|text| Value {
            text,
            origin: Origin::Name(name),
        });
        value.map(Value::checked).transpose()
    }

    /// The key's value. An empty one stands for the default, as libpq has it: `dbname=''` is not
    /// `PGDATABASE`.
    pub(super) fn take(&mut self, key: Key) -> Option<Value> {
        self.values
            .remove(&key)
            .filter(|value| !value.text.is_empty())
    }

    /// The key's value, for those whose empty value libpq refuses, or takes for one of its own.
    pub(super) fn take_even_empty(&mut self, key: Key) -> Option<Value> {
        self.values.remove(&key)
    }

    fn known(&self, name: &str) -> Result<(Key, &'static str), ConninfoError> {
        let known = KEYS.iter().find(|(_, known, _)| *known == name);
        known
            .map(|(key, name, _)| (*key, *name))
            .ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> ConninfoError {
        if let Some(refused) = REFUSED.iter().find(|refused| refused.name == name) {
            return ConninfoError::new(format!("key `{name}` {}", refused.reason));
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
        ConninfoError::new(match nearest(name) {
            Some(nearest) => format!("unknown key `{name}`; did you mean `{nearest}`?"),
            None => format!("unknown key `{name}`"),
        })
    }
}

#[cfg(test)]
pub(super) fn supported() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    KEYS.iter().map(|(_, name, variable)| (*name, *variable))
}
