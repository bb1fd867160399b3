//! `walpost version`, which `--version` prints too.

use std::sync::OnceLock;

use serde::Serialize;

use crate::error::Error;
use crate::output::Output;

/// What was built, and with what.
#[derive(Serialize)]
struct Version {
    walpost: &'static str,
    /// The commit that it was built from, where the build was told (`WALPOST_COMMIT`).
    commit: Option<&'static str>,
    librdkafka: String,
    librdkafka_features: Vec<String>,
    openssl: &'static str,
    os: &'static str,
    architecture: &'static str,
}

impl Version {
    fn new() -> Self {
        Self {
            walpost: env!("CARGO_PKG_VERSION"),
            commit: option_env!("WALPOST_COMMIT").filter(|commit| !commit.is_empty()),
            librdkafka: walpost_kafka::librdkafka_version(),
            // A library that can't tell them has none to speak of.
            librdkafka_features: walpost_kafka::librdkafka_features().unwrap_or_default(),
            openssl: openssl::version::version(),
            os: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
        }
    }

    /// Without the program's name.
    fn text(&self) -> String {
        let Self {
            walpost,
            commit,
            librdkafka,
            librdkafka_features,
            openssl,
            os,
            architecture,
        } = self;
        let commit = commit
            .map(|commit| format!("commit {commit}, "))
            .unwrap_or_default();
        let features = librdkafka_features.join(", ");
        format!(
            "{walpost} ({commit}{os} {architecture})\n\
             librdkafka {librdkafka} ({features})\n\
             {openssl}"
        )
    }
}

pub(super) fn print(output: Output) -> Result<(), Error> {
    let version = Version::new();
    output.report(&version, None, |_| format!("walpost {}\n", version.text()))
}

/// What follows the program's name in `--version`.
pub(crate) fn long_version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| Version::new().text())
}
