//! What is wrong with the configuration, and where it says so.

use std::fmt;
use std::sync::Arc;

use super::raw::Position;
use super::schema;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    File {
        file: Arc<str>,
        at: Option<Position>,
    },
    /// The variable's name.
    Environment(String),
    Flag,
    /// Nobody gave it.
    Missing,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                file,
                at: Some(Position { line, column }),
            } => {
                write!(f, "{file}:{line}:{column}: ")
            }
            Self::File { file, at: None } => write!(f, "{file}: "),
            Self::Environment(name) => write!(f, "{name}: "),
            Self::Flag => f.write_str("--set: "),
            Self::Missing => Ok(()),
        }
    }
}

/// One thing that is wrong. Never holds a value that can be a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(super) origin: Origin,
    /// Empty where it is not about one key.
    pub(super) key: String,
    pub(super) text: String,
}

impl Problem {
    pub(super) fn new(origin: Origin, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            origin,
            key: key.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, text } = self;
        if key.is_empty() {
            write!(f, "{origin}{text}")
        } else {
            write!(f, "{origin}{}: {text}", schema::shown(key))
        }
    }
}
