//! `walpost version`.

use serde::Serialize;

use crate::error::Error;
use crate::output::Output;

/// What was built, and with what.
#[derive(Serialize)]
struct Version {
    walpost: &'static str,
    librdkafka: String,
    librdkafka_features: Vec<String>,
    os: &'static str,
    architecture: &'static str,
}

pub(super) fn print(output: Output) -> Result<(), Error> {
    let features = walpost_kafka::librdkafka_features().map_err(anyhow::Error::from)?;
    let version = Version {
        walpost: env!("CARGO_PKG_VERSION"),
        librdkafka: walpost_kafka::librdkafka_version(),
        librdkafka_features: features,
        os: std::env::consts::OS,
        architecture: std::env::consts::ARCH,
    };
    output.report(&version, None, |_| {
        let Version {
            walpost,
            librdkafka,
            librdkafka_features,
            os,
            architecture,
        } = &version;
        let features = librdkafka_features.join(", ");
        format!("walpost {walpost} ({os} {architecture})\nlibrdkafka {librdkafka} ({features})\n")
    })
}
