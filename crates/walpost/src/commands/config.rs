//! `walpost config print`: what every key came to, secrets masked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use walpost_core::{Layout, NullPayload, Role};
use walpost_kafka::TopicPlan;

use crate::config::{Config, table_text, to_yaml};
use crate::error::Error;
use crate::output::Output;

/// Stands for a secret.
const MASK: &str = "****";

/// In the order and with the names of the file.
#[derive(Serialize)]
struct Printed {
    postgres: Postgres,
    outbox: Outbox,
    route: Route,
    kafka: Kafka,
    delivery: Delivery,
    shutdown: Shutdown,
}

#[derive(Serialize)]
struct Postgres {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'static str>,
    slot: String,
    publication: String,
}

#[derive(Serialize)]
struct Outbox {
    table: Vec<String>,
    layout: &'static str,
    columns: BTreeMap<&'static str, String>,
    null_payload: &'static str,
}

#[derive(Serialize)]
struct Route {
    topic: String,
    allow: Vec<String>,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_by: Option<String>,
    #[serde(serialize_with = "in_order")]
    headers: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Kafka {
    brokers: String,
    properties: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Topics>,
}

#[derive(Serialize)]
struct Topics {
    create: Create,
}

#[derive(Serialize)]
struct Create {
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<i32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    config: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Delivery {
    in_flight_events: u32,
    in_flight_bytes: usize,
    unknown_topic_after: String,
}

#[derive(Serialize)]
struct Shutdown {
    drain: String,
}

pub(super) fn print(config: &Config, output: Output) -> Result<(), Error> {
    let printed = Printed::of(config);
    let yaml = to_yaml(&printed)?;
    output.report(&printed, None, |_| yaml)
}

impl Printed {
    fn of(config: &Config) -> Self {
        let conninfo = &config.postgres.conninfo;
        Self {
            postgres: Postgres {
                url: conninfo.to_string(),
                password: conninfo
                    .hosts
                    .iter()
                    .any(|entry| entry.password.is_some())
                    .then_some(MASK),
                slot: config.postgres.slot.clone(),
                publication: config.postgres.publication.clone(),
            },
            outbox: Outbox::of(config),
            route: Route::of(config),
            kafka: Kafka::of(config),
            delivery: Delivery {
                in_flight_events: config.delivery.window.events,
                in_flight_bytes: config.delivery.window.bytes,
                unknown_topic_after: duration(config.delivery.unknown_topic_after),
            },
            shutdown: Shutdown {
                drain: duration(config.drain),
            },
        }
    }
}

impl Outbox {
    fn of(config: &Config) -> Self {
        let spec = &config.mapping_spec;
        let column = |role: Role| (role.name(), config.mapping.column(role).to_owned());
        Self {
            table: spec.tables.iter().map(table_text).collect(),
            layout: match spec.layout {
                Layout::Walpost => "walpost",
                Layout::Debezium => "debezium",
            },
            columns: Role::ALL.map(column).into(),
            null_payload: match spec.null_payload {
                NullPayload::Refuse => "refuse",
                NullPayload::Tombstone => "tombstone",
            },
        }
    }
}

impl Route {
    fn of(config: &Config) -> Self {
        let spec = &config.mapping_spec;
        let layout = spec.layout;
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let default_headers = || layout.headers().iter().map(owned).collect();
        Self {
            topic: spec
                .topic
                .clone()
                .unwrap_or_else(|| layout.topic().to_owned()),
            allow: spec.allow.clone(),
            key: spec.key.clone().unwrap_or_else(|| layout.key().to_owned()),
            partition_by: spec.partition_by.clone(),
            headers: spec.headers.clone().unwrap_or_else(default_headers),
        }
    }
}

impl Kafka {
    fn of(config: &Config) -> Self {
        let settings = config.kafka.settings.masked();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            brokers: config.kafka.brokers.clone(),
            properties: settings
                .filter(|(name, _)| *name != "bootstrap.servers")
                .map(owned)
                .collect(),
            topics: config.kafka.create_topics.as_ref().map(Topics::of),
        }
    }
}

impl Topics {
    fn of(plan: &TopicPlan) -> Self {
        Self {
            create: Create {
                partitions: plan.partitions,
                replication: plan.replication,
                config: plan.config.clone(),
            },
        }
    }
}

fn duration(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// A list of pairs as a map that keeps their order.
fn in_order<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, text)| (name, text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn secrets_are_masked_and_order_is_kept() {
        let set = [
            "postgres.url=postgresql://u:hunter2@db/shop",
            "kafka.brokers=k:9092",
            "kafka.properties={security.protocol: sasl_ssl, sasl.mechanism: PLAIN, \
             sasl.username: u, sasl.password: hunter2}",
            "route.headers={z: '${id}', a: '${id}'}",
        ];
        let set = set.map(str::to_owned).to_vec();
        let config = Config::load(&Sources {
            set,
            ..Sources::default()
        })
        .unwrap();
        let printed = Printed::of(&config);
        let json = serde_json::to_string(&printed).unwrap();
        let yaml = to_yaml(&printed).unwrap();
        for text in [json, yaml] {
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains(MASK), "{text}");
            let (_, headers) = text.rsplit_once("headers").unwrap();
            assert!(
                headers.find('z').unwrap() < headers.find('a').unwrap(),
                "{text}"
            );
        }
    }
}
