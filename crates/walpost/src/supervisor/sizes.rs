//! The limits on sizes where they are known: in the producer's settings, and in the topics.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::debug;
use walpost_core::judge::{Sizes, TopicSizes};
use walpost_kafka::{Producer, Settings};

/// librdkafka's property for the bytes of one batch. The first record of a batch is always taken.
const BATCH_SIZE: &str = "batch.size";

/// Its default.
const BATCH_BYTES: usize = 1_000_000;

/// librdkafka's property for the bytes of one record.
const MESSAGE_MAX_BYTES: &str = "message.max.bytes";

/// How long the cluster may take to answer. It does not where it is down.
const PATIENCE: Duration = Duration::from_secs(2);

/// The limits that are configured.
pub(super) fn configured(settings: &Settings) -> Sizes {
    Sizes {
        record: settings.message_max_bytes(),
        record_is_fixed: settings.is_chosen(MESSAGE_MAX_BYTES),
        batch: settings.number(BATCH_SIZE).unwrap_or(BATCH_BYTES),
        batch_is_fixed: settings.is_chosen(BATCH_SIZE),
    }
}

/// The settings with these limits. What the operator wrote stays as it is written.
pub(super) fn apply(sizes: Sizes, settings: &Settings) -> Settings {
    let before = configured(settings);
    let mut applied = settings.clone();
    if sizes.record != before.record {
        applied = applied.with(MESSAGE_MAX_BYTES, &sizes.record.to_string());
    }
    if sizes.batch != before.batch {
        applied = applied.with(BATCH_SIZE, &sizes.batch.to_string());
    }
    applied
}

/// Asks the topics, beside the thread that delivers. `None` where nobody has answered: then they
/// are to be asked again.
pub(super) async fn ask(
    side: &Handle,
    producer: &mut Producer,
    topics: Vec<String>,
) -> Option<TopicSizes> {
    let deadline = Instant::now() + PATIENCE;
    let (metadata, asked) = (producer.metadata(), topics.clone());
    let mut answer = side.spawn_blocking(move || {
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        metadata.topic_max_message_bytes(&topics, PATIENCE)
    });
    let limits = loop {
        tokio::select! {
            answer = &mut answer => break answer.ok()?,
            () = producer.ready() => {
                producer.poll(&mut Vec::new());
                if producer.total_trouble().is_some() {
                    return None;
                }
            }
            () = tokio::time::sleep_until(deadline.into()) => return None,
        }
    };
    match limits {
        Ok(limits) => Some(TopicSizes { asked, limits }),
        Err(fault) => {
            debug!(%fault, "the topics' limits can't be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn settings(properties: &[(&str, &str)]) -> Settings {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let properties: BTreeMap<_, _> = properties.iter().map(owned).collect();
        Settings::new("kafka:9092", &properties, "test", false).unwrap()
    }

    #[test]
    fn what_the_operator_chose_is_fixed() {
        let sizes = configured(&settings(&[
            ("max.request.size", "2000000"),
            ("batch.size", "500000"),
        ]));
        let chosen = Sizes {
            record: 2_000_000,
            record_is_fixed: true,
            batch: 500_000,
            batch_is_fixed: true,
        };
        assert_eq!(sizes, chosen);
        let sizes = configured(&settings(&[]));
        assert!(!sizes.record_is_fixed && !sizes.batch_is_fixed);
        assert_eq!((sizes.record, sizes.batch), (1 << 20, 1_000_000));
    }

    #[test]
    fn the_settings_get_what_has_changed() {
        // librdkafka reads hexadecimal numbers.
        let chosen = settings(&[("message.max.bytes", "0x300000")]);
        let sizes = configured(&chosen);
        assert_eq!(apply(sizes, &chosen), chosen);
        let smaller = Sizes {
            batch: 20_000,
            ..sizes
        };
        let applied = apply(smaller, &chosen);
        assert_eq!(applied.get("message.max.bytes"), Some("0x300000"));
        assert_eq!(applied.get("batch.size"), Some("20000"));
        let default = settings(&[]);
        let larger = Sizes {
            record: 5_242_868,
            ..configured(&default)
        };
        let applied = apply(larger, &default);
        assert_eq!(applied.get("message.max.bytes"), Some("5242868"));
        assert_eq!(applied.get("batch.size"), None);
    }
}
