//! One idempotent Kafka producer behind a small interface; the only place that knows librdkafka.
//!
//! * [`Settings`] decides which librdkafka properties may be set: ours, the user's, and those that
//!   are refused because delivery in order and without a gap depends on them.
//! * [`Producer`] sends and polls on one thread. Every record that [`Producer::send`] took is
//!   reported exactly once by [`Producer::poll`], delivered or rejected; [`Producer::ready`] waits
//!   for reports without a timer.
//! * [`Metadata`] asks the cluster blocking questions, from any thread.
//! * [`MockBroker`] is librdkafka's in-process cluster, for demonstrations and tests.
//!
//! No type of `rdkafka` appears in a public signature. Raw calls to the C library, the only unsafe
//! code, live in one module.

mod breaks;
mod certificate;
mod configs;
mod consumer;
mod context;
mod creation;
mod error;
mod firsts;
mod metadata;
mod mock;
#[allow(unsafe_code)]
mod native;
mod oauth;
mod producer;
mod proof;
mod properties;
mod trouble;
mod wakeup;

pub use configs::TopicConfig;
pub use consumer::{ConsumedRecord, Consumer, ReadFrom};
pub use error::{CreateFault, Error, ErrorCode, Fault, Rejection, SendError, TopicFault};
pub use metadata::{Metadata, TopicPlan, TopicShape, reach};
pub use mock::{MockBroker, MockRequest};
pub use producer::{Delivery, Header, Placed, Producer, Record};
pub use proof::prove;
pub use properties::{PropertyError, Settings, is_secret};
pub use trouble::{Trouble, TroubleKind};

/// The target of every log line of this crate.
const LOG_TARGET: &str = "walpost_kafka";

/// The version of the librdkafka that is linked in, such as `2.12.1`.
#[must_use]
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// What the linked librdkafka was compiled with (`ssl`, `sasl_scram`, `zstd`, ...).
///
/// # Errors
///
/// Only when librdkafka can't allocate a configuration.
pub fn librdkafka_features() -> Result<Vec<String>, Error> {
    let action = "read librdkafka's features";
    let features = rdkafka::ClientConfig::new()
        .create_native_config()
        .and_then(|config| config.get("builtin.features"))
        .map_err(|error| Error::from_kafka(action, &error))?;
    Ok(features
        .split(',')
        .map(|feature| feature.trim().to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafka_has_every_codec_and_security_mode_that_we_promise() {
        let features = librdkafka_features().unwrap();
        let promised = [
            "ssl",
            "sasl_scram",
            "sasl_plain",
            "sasl_oauthbearer",
            "lz4",
            "zstd",
            "gzip",
            "snappy",
        ];
        for feature in promised {
            assert!(
                features.iter().any(|found| found == feature),
                "{feature}: {features:?}"
            );
        }
    }

    #[test]
    fn the_linked_librdkafka_names_its_version() {
        assert!(
            librdkafka_version().starts_with("2."),
            "{}",
            librdkafka_version()
        );
    }
}
