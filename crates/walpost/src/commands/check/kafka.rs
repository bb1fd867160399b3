//! The look at Kafka: brokers, and the topic where there is only one.

use std::time::Duration;

use walpost_core::class::Exit;
use walpost_kafka::{ErrorCode, Fault, Producer, TopicFault};

use super::Look;
use crate::config::Config;
use crate::finding::Finding;

/// For each question. A broker that is away is waited for as long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at everything that can be seen. Blocks.
pub(super) fn look(config: &Config) -> Look {
    let mut look = Look::default();
    look_at_route(&mut look, config);
    let mut producer = match Producer::new(&config.kafka.settings) {
        Ok(producer) => producer,
        Err(error) => {
            let fix = "check kafka.properties";
            look.push(Finding::error("WP-KAFKA-SETTINGS", error.to_string(), fix));
            return look;
        }
    };
    let metadata = producer.metadata();
    match metadata.brokers_reachable(TIMEOUT) {
        Ok(count) => look.push(Finding::ok(format!(
            "{count} {} behind {}",
            if count == 1 { "broker" } else { "brokers" },
            config.kafka.brokers
        ))),
        Err(error) => {
            producer.poll(&mut Vec::new());
            return not_reached(look, config, &error, producer.last_error().as_ref());
        }
    }
    if let Some(topic) = config.mapping.fixed_topic() {
        match metadata.partition_count(&topic, TIMEOUT) {
            Ok(count) => look.push(Finding::ok(format!(
                "the topic '{topic}': {count} partitions"
            ))),
            Err(fault) => look.push(topic_problem(&topic, &fault)),
        }
    }
    look
}

fn look_at_route(look: &mut Look, config: &Config) {
    if config.topic_is_open() {
        let seen = "the topic is a column alone: whoever writes a row can send it to any topic";
        let fix = "list the topics in route.allow, as [orders, '/payments\\..*/']";
        look.push(Finding::warning("WP-ROUTE-OPEN", seen, fix));
    }
}

fn not_reached(
    look: Look,
    config: &Config,
    error: &walpost_kafka::Error,
    cause: Option<&Fault>,
) -> Look {
    let brokers = &config.kafka.brokers;
    let mut seen = format!(
        "no broker answers at {brokers} within {} s",
        TIMEOUT.as_secs()
    );
    match cause {
        Some(Fault { detail, .. }) => seen.push_str(&format!(": {detail}")),
        None => seen.push_str(&format!(": {error}")),
    }
    if cause.is_some_and(|cause| cause.code == ErrorCode::AUTHENTICATION) {
        let fix = "check sasl.username, sasl.password and sasl.mechanism under kafka.properties";
        let finding = Finding::error("WP-KAFKA-CREDENTIALS", seen, fix);
        return look.blind(Exit::Permission, finding);
    }
    let fix = "is Kafka running there? check kafka.brokers, and security.protocol under \
               kafka.properties";
    look.blind(
        Exit::Unavailable,
        Finding::error("WP-KAFKA-UNREACHABLE", seen, fix),
    )
}

fn topic_problem(topic: &str, fault: &TopicFault) -> Finding {
    let seen = format!("the topic '{topic}': {fault}");
    match fault {
        TopicFault::Missing => {
            let fix = format!("kafka-topics.sh --create --topic {topic} …, or mend route.topic");
            Finding::error("WP-KAFKA-TOPIC", seen, fix)
        }
        TopicFault::NotAuthorized => {
            let fix = format!("grant DESCRIBE and WRITE on the topic {topic}");
            Finding::error("WP-KAFKA-TOPIC-RIGHT", seen, fix)
        }
        TopicFault::Illegal(_) => Finding::error("WP-KAFKA-TOPIC-NAME", seen, "mend route.topic"),
        TopicFault::Unreachable(_) => {
            let fix = "try again: it may have been made a moment ago";
            Finding::warning("WP-KAFKA-TOPIC-UNKNOWN", seen, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use walpost_kafka::MockBroker;

    use super::*;
    use crate::config::Sources;
    use crate::finding::Severity;

    #[test]
    fn brokers_and_the_fixed_topic_are_found() {
        let broker = MockBroker::start(2).unwrap();
        broker.create_topic("orders", 3, 1).unwrap();
        let look = look(&config(&broker.bootstrap(), "orders"));
        assert_eq!(look.blind, None);
        assert!(
            look.findings
                .iter()
                .all(|found| found.severity == Severity::Ok),
            "{look:?}"
        );
        assert!(look.findings[0].seen.starts_with("2 brokers"), "{look:?}");
        assert_eq!(look.findings[1].seen, "the topic 'orders': 3 partitions");
    }

    #[test]
    fn a_topic_without_a_legal_name_is_an_error_that_leaves_the_look_whole() {
        let broker = MockBroker::start(1).unwrap();
        let look = look(&config(&broker.bootstrap(), "a/b"));
        assert_eq!(codes(&look), ["WP-KAFKA-TOPIC-NAME"]);
        assert_eq!(look.blind, None);
    }

    #[test]
    fn a_topic_that_is_a_column_alone_is_a_warning_unless_the_topics_are_listed() {
        let broker = MockBroker::start(1).unwrap();
        let open = config(&broker.bootstrap(), "${destination}");
        assert_eq!(codes(&look(&open)), ["WP-ROUTE-OPEN"]);
        assert!(codes(&look(&config(&broker.bootstrap(), "events.${destination}"))).is_empty());
    }

    #[test]
    fn a_cluster_that_is_away_is_told_and_ends_the_look() {
        // Bound, but nobody accepts there once it is closed.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let look = look(&config(&address, "orders"));
        assert_eq!(codes(&look), ["WP-KAFKA-UNREACHABLE"]);
        assert_eq!(look.blind, Some(Exit::Unavailable));
        assert!(look.findings[0].seen.contains(&address), "{look:?}");
    }

    fn codes(look: &Look) -> Vec<&'static str> {
        look.findings
            .iter()
            .filter_map(|finding| finding.code)
            .collect()
    }

    fn config(brokers: &str, topic: &str) -> Config {
        let set = [
            "postgres.url=postgresql://u@db/shop".to_owned(),
            format!("kafka.brokers={brokers}"),
            format!("route.topic={topic}"),
        ];
        Config::load(&Sources {
            set: set.to_vec(),
            ..Sources::default()
        })
        .unwrap()
    }
}
