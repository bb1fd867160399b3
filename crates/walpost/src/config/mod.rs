//! Configuration: file, environment and flags become one checked [`Config`], or every problem at
//! once.
//!
//! ```text
//! walpost.yaml ── raw ──┐
//! WALPOST_… ────────────┼── layer: entries with their origin ── build ──> Config
//! --set ────────────────┘
//! ```
//!
//! After [`Config::load`] nothing is optional and no text means something later. No message quotes
//! a line of the file or a value that can be a secret.

mod build;
mod layer;
mod needs;
mod problem;
mod raw;
mod schema;
mod topics;
mod value;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walpost_core::class::Exit;
use walpost_core::limits::WindowLimits;
use walpost_core::{Mapping, MappingSpec};
use walpost_kafka::{Settings, TopicPlan};
use walpost_walsender::Conninfo;

use self::layer::Layer;
pub(crate) use self::needs::NeededColumn;
use self::problem::{Origin, Problem};
pub(crate) use self::raw::to_yaml;
pub(crate) use self::value::table_text;
use crate::error::Error;

/// The file that is read when none is named.
const FILE_DEFAULT: &str = "walpost.yaml";

/// No configuration is that large: a larger file is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that a command needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub postgres: Postgres,
    pub mapping: Mapping,
    /// What the mapping was made from.
    pub mapping_spec: MappingSpec,
    pub kafka: Kafka,
    pub delivery: Delivery,
    /// How long a stop waits for what is in flight.
    pub drain: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pub conninfo: Conninfo,
    pub slot: String,
    pub publication: String,
}

impl Postgres {
    /// The publication that takes over when the first one is dropped by mistake.
    pub(crate) fn spare_publication(&self) -> String {
        format!("{}{SPARE_SUFFIX}", self.publication)
    }
}

const SPARE_SUFFIX: &str = "_spare";

#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    /// `host:port,…`
    pub brokers: String,
    pub settings: Settings,
    /// How a topic is made that is missing when an event names it first; `None`: not at all.
    pub create_topics: Option<TopicPlan>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub window: WindowLimits,
    pub unknown_topic_after: Duration,
    /// The user chose it; it is the default otherwise.
    pub unknown_topic_after_set: bool,
}

/// Where a configuration comes from.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// `-c`: without it, `walpost.yaml` in the working directory if it is there.
    pub file: Option<PathBuf>,
    /// `--set`: `key=value`.
    pub set: Vec<String>,
    /// The environment.
    pub variables: Vec<(String, String)>,
}

impl Sources {
    /// The process's environment with these flags. A variable that is not UTF-8 is no one's that we
    /// know.
    pub(crate) fn new(file: Option<PathBuf>, set: Vec<String>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            file,
            set,
            variables: std::env::vars_os().filter_map(text).collect(),
        }
    }
}

impl Config {
    /// Reads, merges and checks. The error has one line for each problem.
    pub(crate) fn load(sources: &Sources) -> Result<Self, Error> {
        let mut layer = file_layer(sources.file.as_deref());
        layer.overlay(layer::from_environment(&sources.variables));
        layer.overlay(layer::from_flags(&sources.set));
        build::build(layer, &sources.variables).map_err(|problems| report(sources, problems))
    }
}

fn file_layer(file: Option<&Path>) -> Layer {
    let path = file.unwrap_or(Path::new(FILE_DEFAULT));
    let shown = path.display().to_string();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Layer::default();
        }
        Err(error) => {
            let origin = Origin::File {
                file: shown.into(),
                at: None,
            };
            let problem = Problem::new(origin, "", format!("can't read the file: {error}"));
            return Layer {
                problems: vec![problem],
                ..Layer::default()
            };
        }
    };
    layer::from_file(&shown, &text)
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let mut file = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1);
    file.read_to_string(&mut text)?;
    if file.limit() == 0 {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

fn report(sources: &Sources, mut problems: Vec<Problem>) -> Error {
    problems.sort();
    problems.dedup();
    let mut message = match problems.len() {
        1 => "the configuration has a problem".to_owned(),
        count => format!("the configuration has {count} problems"),
    };
    for problem in &problems {
        message.push_str("\n  ");
        message.push_str(&problem.to_string());
    }
    let error = Error::new(Exit::Configuration, message);
    let nothing_given = problems
        .iter()
        .all(|problem| problem.origin == Origin::Missing);
    if nothing_given && sources.file.is_none() && !Path::new(FILE_DEFAULT).exists() {
        return error.with_fix(format!(
            "there is no {FILE_DEFAULT} in the working directory: name the file with -c"
        ));
    }
    error
}

#[cfg(test)]
mod tests;
