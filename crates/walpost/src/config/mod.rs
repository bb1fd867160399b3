//! Configuration: file, environment and flags become one checked [`Config`], or every problem at
//! once.
//!
//! ```text
//! walpost.yaml ── raw ── reader ──┐
//! WALPOST_… ──────────────────────┼── layer: entries with their origin ── build ──> Config
//! --set ──────────────────────────┘
//! ```
//!
//! What keys there are is one table, `schema`: the reader follows it, `config schema` and the
//! reference of the documentation are made from it.
//!
//! After [`Config::load`] nothing is optional and no text means something later. No message quotes
//! a line of the file or a value that can be a secret.

mod build;
mod environment;
mod file;
mod json_schema;
mod kafka_files;
mod layer;
mod needs;
mod origins;
mod password;
mod problem;
mod raw;
mod reader;
mod references;
mod schema;
mod shown_url;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use walpost_core::NeededColumn;
use walpost_core::class::Exit;
use walpost_core::limits::WindowLimits;
use walpost_core::start::Fingerprint;
use walpost_core::{Mapping, MappingSpec, Policy, TableName, Topic};
use walpost_kafka::{Settings, TopicPlan};
use walpost_walsender::Conninfo;

pub(crate) use self::file::secret as secret_from_file;
pub(crate) use self::json_schema::json_schema;
pub(crate) use self::kafka_files::KafkaFiles;
use self::layer::Layer;
pub(crate) use self::origins::Origins;
pub(crate) use self::password::{PasswordCommand, PasswordSource};
use self::problem::{Origin, Problem};
use self::schema::{CHECKPOINT_TABLE, SKIP_SUFFIX, SKIP_TABLE, SPARE_SUFFIX};
pub(crate) use self::value::table_text;
use crate::error::Error;

/// The file that is read when none is named.
const FILE_DEFAULT: &str = "walpost.yaml";

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
    /// Where each value comes from.
    pub origins: Origins,
}

#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    /// With the password, as far as it was known when the configuration was read. Connections are
    /// made by [`crate::connect`].
    pub conninfo: Conninfo,
    pub password: PasswordSource,
    /// `postgres.url` as it was given, secrets masked.
    pub shown_url: String,
    pub slot: String,
    pub publication: String,
    /// Where the position is kept; `None`: nowhere.
    pub checkpoint: Option<Checkpoint>,
}

/// The table of the checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub table: TableName,
    /// After so long without it, positions are confirmed all the same.
    pub grace: Duration,
}

impl Checkpoint {
    /// The table beside it, of events that may be passed over. In a schema that is not the relay's
    /// own, a name that nobody else has.
    pub(crate) fn skip_table(&self) -> TableName {
        let TableName { schema, name } = &self.table;
        let name = match name.as_str() {
            CHECKPOINT_TABLE => SKIP_TABLE.to_owned(),
            other => format!("{other}{SKIP_SUFFIX}"),
        };
        TableName {
            schema: schema.clone(),
            name,
        }
    }
}

impl Postgres {
    /// The publication that takes over when the first one is dropped by mistake.
    pub(crate) fn spare_publication(&self) -> String {
        format!("{}{SPARE_SUFFIX}", self.publication)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    /// `host:port,…`
    pub brokers: String,
    pub settings: Settings,
    /// What the settings are made of, where files can change.
    pub files: KafkaFiles,
    /// How a topic is made that is missing when an event names it first; `None`: not at all.
    pub create_topics: Option<TopicPlan>,
    /// Properties that can lose or reorder events are let through.
    pub allow_unsafe: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub on_undeliverable: OnUndeliverable,
    pub dead_letter_topic: Topic,
    pub window: WindowLimits,
    pub unknown_topic_after: Duration,
    /// The user chose it; it is the default otherwise.
    pub unknown_topic_after_set: bool,
}

/// What is done at an event that can't be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnUndeliverable {
    /// The process ends.
    Halt,
    /// The process waits.
    Hold,
    /// Its record goes to the dead-letter topic.
    DeadLetter,
}

impl OnUndeliverable {
    /// The words of the configuration.
    const WORDS: [(&str, Self); 3] = [
        ("halt", Self::Halt),
        ("hold", Self::Hold),
        ("dead_letter", Self::DeadLetter),
    ];

    /// As the configuration has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Hold => "hold",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// Where a configuration comes from.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// `-c`, where `-` is standard input: without it, `walpost.yaml` in the working directory if it
    /// is there.
    pub file: Option<PathBuf>,
    /// `--set`: `key=value`.
    pub set: Vec<String>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// The names of its variables whose values are not UTF-8.
    pub unreadable: Vec<String>,
}

impl Sources {
    /// The process's environment with these flags. A variable whose name is not UTF-8 is no one's
    /// that we know.
    pub(crate) fn new(file: Option<PathBuf>, set: Vec<String>) -> Self {
        let mut sources = Self {
            file,
            set,
            ..Self::default()
        };
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => sources.variables.push((name, value)),
                (Ok(name), Err(_)) => sources.unreadable.push(name),
                (Err(_), _) => {}
            }
        }
        sources
    }
}

impl Delivery {
    /// What the relay does at an event that can't be delivered.
    pub(crate) fn policy(&self) -> Policy {
        match self.on_undeliverable {
            OnUndeliverable::Halt | OnUndeliverable::Hold => Policy::Halt,
            OnUndeliverable::DeadLetter => Policy::DeadLetter(self.dead_letter_topic.clone()),
        }
    }
}

impl Config {
    /// The settings on which identity and order of the events depend.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.mapping.fingerprint(&self.mapping_spec)
    }

    /// Reads, merges and checks. The error has one line for each problem.
    pub(crate) fn load(sources: &Sources) -> Result<Self, Error> {
        let layer = file_layer(sources.file.as_deref(), &sources.variables);
        Self::over(layer, sources)
    }

    /// The same over a file that is read already.
    fn over(mut layer: Layer, sources: &Sources) -> Result<Self, Error> {
        let Sources {
            variables,
            unreadable,
            set,
            ..
        } = sources;
        layer.overlay(environment::from_environment(variables, unreadable));
        layer.overlay(environment::from_flags(set));
        let hidden = std::mem::take(&mut layer.hidden);
        build::build(layer, variables).map_err(|problems| report(sources, problems, &hidden))
    }
}

fn file_layer(file: Option<&Path>, variables: &[(String, String)]) -> Layer {
    let path = file.unwrap_or(Path::new(FILE_DEFAULT));
    let shown = if path == Path::new(file::STDIN) {
        "<stdin>".to_owned()
    } else {
        path.display().to_string()
    };
    match file::read(path) {
        Ok(bytes) => reader::from_file(&shown, &bytes, variables),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            Layer::default()
        }
        Err(error) => {
            let origin = Origin::File {
                file: shown.into(),
                at: None,
            };
            let problem = Problem::new(origin, "", format!("can't read the file: {error}"));
            Layer {
                problems: vec![problem],
                ..Layer::default()
            }
        }
    }
}

/// `hidden` are texts that no message may have in it.
fn report(sources: &Sources, mut problems: Vec<Problem>, hidden: &[String]) -> Error {
    problems.sort();
    problems.dedup();
    let mut message = match problems.len() {
        1 => "the configuration has a problem".to_owned(),
        count => format!("the configuration has {count} problems"),
    };
    for problem in &problems {
        message.push_str("\n  ");
        message.push_str(&without(problem, hidden));
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

/// Shorter texts are no secrets, and stand in every message by chance.
const HIDDEN_BYTES_MIN: usize = 4;

/// A problem without what references brought: it may be a secret in a place where nobody expects
/// one. Places and keys are never made of it.
fn without(problem: &Problem, hidden: &[String]) -> String {
    let mut problem = problem.clone();
    for value in hidden
        .iter()
        .filter(|value| value.len() >= HIDDEN_BYTES_MIN)
    {
        problem.text = problem.text.replace(value.as_str(), MASK);
    }
    problem.to_string()
}

/// Stands for what must not be shown.
pub(crate) const MASK: &str = "****";

#[cfg(test)]
mod tests;
