//! The look at Kafka: brokers, and the topics that the configuration names.

use std::time::Duration;

use walpost_core::class::Exit;
use walpost_kafka::{
    CreateFault, ErrorCode, Fault, Metadata, Producer, Settings, TopicConfig, TopicFault,
    TopicPlan, TopicShape, Trouble, TroubleKind, reach,
};

use super::Look;
use crate::catalog::{bytes_text, counted};
use crate::checks::{self, Area};
use crate::config::Config;
use crate::finding::Finding;

/// For each question. A broker that is away is waited for as long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A list of topics can be long; more of them are not looked at.
const TOPICS_MAX: usize = 50;

/// So many brokers are connected to; what is wrong with one is mostly wrong with all.
const BROKERS_MAX: usize = 20;

/// The events so far went elsewhere.
pub(super) fn cluster_problem(kafka: &Look, postgres: &Look) -> Option<Finding> {
    let (seen, recorded) = (
        kafka.kafka_cluster.as_ref()?,
        postgres.kafka_cluster.as_ref()?,
    );
    if seen == recorded {
        return None;
    }
    let text = format!(
        "Kafka's cluster.id is '{seen}', and everything that was delivered so far is in \
         '{recorded}'"
    );
    let fix = format!(
        "correct kafka.brokers; or walpost run --accept-kafka-cluster {seen}, where the events are \
         to go on there"
    );
    Some(checks::KAFKA_CLUSTER.found(seen, text, fix))
}

/// A topic that was looked at.
#[derive(Debug)]
pub(super) struct Topic {
    name: String,
    shape: TopicShape,
    /// Or why it is not shown.
    config: Result<TopicConfig, Fault>,
    /// None where Kafka does not tell.
    may_write: Option<bool>,
}

/// Looks at everything that can be seen. Blocks.
pub(super) fn look(config: &Config) -> (Look, Vec<Topic>) {
    let mut look = Look::default();
    let mut producer = match Producer::new(&config.kafka.settings) {
        Ok(producer) => producer,
        Err(error) => {
            let fix = "correct kafka.properties";
            let object = "kafka.properties";
            look.push(checks::KAFKA_SETTINGS.found(object, error.to_string(), fix));
            return (look, Vec::new());
        }
    };
    let metadata = producer.metadata();
    let brokers = match metadata.brokers(TIMEOUT) {
        Ok(brokers) => brokers,
        Err(error) => {
            producer.poll(&mut Vec::new());
            let look = not_reached(look, config, &error, producer.trouble());
            return (look, Vec::new());
        }
    };
    let away = out_of_reach(&brokers);
    if !away.is_empty() {
        let look = look.blind(Exit::Unavailable, badly_advertised(&away));
        return (look, Vec::new());
    }
    let brokers = brokers.len();
    look.kafka_cluster = metadata.cluster_id(TIMEOUT);
    let cluster = match &look.kafka_cluster {
        Some(id) => format!(" of the cluster {id}"),
        None => String::new(),
    };
    let (count, place) = (counted(brokers, "broker"), &config.kafka.brokers);
    look.push(Finding::ok(
        Area::Kafka,
        format!("{count}{cluster} behind {place}"),
    ));

    let topics = look_at_topics(&mut look, &metadata, config);
    for topic in &topics {
        look.extend(topic.findings(brokers, config.key_is_the_id(), &config.kafka.settings));
    }
    (look, topics)
}

/// Looks at the topics that the configuration names.
fn look_at_topics(look: &mut Look, metadata: &Metadata, config: &Config) -> Vec<Topic> {
    let settings = &config.kafka.settings;
    let plan = config.kafka.create_topics.as_ref();
    let mut names = config.named_topics();
    if names.len() > TOPICS_MAX {
        let more = counted(names.split_off(TOPICS_MAX).len(), "topic");
        let seen = format!("not checked: {more}, after the first {TOPICS_MAX}");
        look.push(Finding::ok(Area::Kafka, seen));
    }
    let mut found = Vec::new();
    for name in &names {
        match (metadata.topic_shape(name, TIMEOUT), plan) {
            (Ok(shape), _) => found.push((name.as_str(), shape)),
            (Err(TopicFault::Missing), Some(plan)) => {
                look.push(creation(metadata, name, plan, settings));
            }
            (Err(fault), _) => look.push(topic_problem(name, &fault, settings)),
        }
    }
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    let configs = metadata.topic_configs(&names, TIMEOUT);
    let topic = |(name, shape): (&str, TopicShape)| Topic {
        name: name.to_owned(),
        shape,
        config: match &configs {
            Ok(configs) => configs
                .get(name)
                .cloned()
                .unwrap_or_else(|| Ok(TopicConfig::new())),
            Err(fault) => Err(fault.clone()),
        },
        // Both questions go to the controller: where it is away, one wait is enough.
        may_write: match &configs {
            Ok(_) => metadata.may_write(name, TIMEOUT).ok().flatten(),
            Err(_) => None,
        },
    };
    found.into_iter().map(topic).collect()
}

/// What would become of a topic that is missing, and that `run` would make.
fn creation(metadata: &Metadata, topic: &str, plan: &TopicPlan, settings: &Settings) -> Finding {
    let seen = format!("the topic '{topic}' does not exist yet");
    match metadata.would_create_topic(topic, plan, TIMEOUT) {
        Ok(()) => Finding::ok(Area::Kafka, format!("{seen}: walpost creates it")),
        Err(CreateFault::NotAuthorized) => {
            let Trouble { message, fix, .. } = Trouble::denied("CREATE", topic, settings);
            checks::KAFKA_TOPIC_CREATE.found(topic, format!("{seen}: {message}"), fix)
        }
        Err(fault @ (CreateFault::Refused(_) | CreateFault::Unwanted(_))) => {
            let fix = "correct kafka.topics.create, or create the topic yourself";
            checks::KAFKA_TOPIC_CREATE.found(topic, format!("{seen}: {fault}"), fix)
        }
        Err(fault @ CreateFault::Illegal(_)) => {
            let fix = "correct route.topic or route.allow";
            checks::KAFKA_TOPIC_NAME.found(topic, format!("the topic '{topic}': {fault}"), fix)
        }
        Err(fault @ CreateFault::Unreachable(_)) => {
            let fix = "run walpost check again; walpost run tries to create it";
            checks::KAFKA_TOPIC_UNKNOWN.found(topic, format!("{seen}: {fault}"), fix)
        }
    }
}

fn not_reached(
    mut look: Look,
    config: &Config,
    error: &walpost_kafka::Error,
    cause: Option<Trouble>,
) -> Look {
    let brokers = &config.kafka.brokers;
    let Some(cause) = cause else {
        let seen = format!(
            "no broker answers at {brokers} within {} s: {error}",
            TIMEOUT.as_secs()
        );
        let fix = "is Kafka running there? correct kafka.brokers, and security.protocol under \
                   kafka.properties";
        let finding = checks::KAFKA_UNREACHABLE.found(brokers, seen, fix);
        return look.blind(Exit::Unavailable, finding);
    };
    let Trouble {
        kind, message, fix, ..
    } = cause.investigated(&config.kafka.settings);
    match kind {
        TroubleKind::Credentials => {
            let finding = checks::KAFKA_CREDENTIALS.found(brokers, message, fix);
            look.blind(Exit::Permission, finding)
        }
        TroubleKind::Configuration => {
            look.push(checks::KAFKA_SETTINGS.found(brokers, message, fix));
            look
        }
        TroubleKind::Unreachable => {
            let finding = checks::KAFKA_UNREACHABLE.found(brokers, message, fix);
            look.blind(Exit::Unavailable, finding)
        }
    }
}

/// The brokers that accept no connection, and why. All are tried at once: each can take seconds.
fn out_of_reach(brokers: &[String]) -> Vec<(String, String)> {
    std::thread::scope(|scope| {
        let tried: Vec<_> = brokers
            .iter()
            .take(BROKERS_MAX)
            .map(|broker| (broker, scope.spawn(move || reach(broker))))
            .collect();
        let away = tried.into_iter().filter_map(|(broker, tried)| {
            let why = tried.join().ok()?.err()?;
            Some((broker.clone(), why))
        });
        away.collect()
    })
}

/// The cluster answers, but its brokers are not where it says that they are.
fn badly_advertised(brokers: &[(String, String)]) -> Finding {
    let one = |(address, why): &(String, String)| format!("{address} ({why})");
    let addresses: Vec<_> = brokers.iter().map(one).collect();
    let seen = format!(
        "Kafka answers, and advertises brokers that can't be reached from here: {}",
        addresses.join(", ")
    );
    let object = brokers.first().map_or("", |(address, _)| address);
    let fix = "have the brokers' advertised.listeners name addresses that can be reached from \
               here, for this listener";
    checks::KAFKA_UNREACHABLE.found(object, seen, fix)
}

fn topic_problem(topic: &str, fault: &TopicFault, settings: &Settings) -> Finding {
    let seen = format!("the topic '{topic}': {fault}");
    match fault {
        TopicFault::Missing => {
            let fix = format!(
                "kafka-topics.sh --bootstrap-server … --create --topic {topic} --partitions 6, or \
                 correct route.topic or route.allow"
            );
            checks::KAFKA_TOPIC.found(topic, seen, fix)
        }
        TopicFault::NotAuthorized => right_problem("DESCRIBE", topic, settings),
        TopicFault::Illegal(_) => {
            checks::KAFKA_TOPIC_NAME.found(topic, seen, "correct route.topic or route.allow")
        }
        TopicFault::Unreachable(_) => {
            let fix = "try again: it may have been made a moment ago";
            checks::KAFKA_TOPIC_UNKNOWN.found(topic, seen, fix)
        }
    }
}

/// A right that is missing, in the words of `run`.
fn right_problem(operation: &str, topic: &str, settings: &Settings) -> Finding {
    let Trouble { message, fix, .. } = Trouble::denied(operation, topic, settings);
    checks::KAFKA_TOPIC_RIGHT.found(topic, message, fix)
}

/// What the largest payload of the table makes of the topics' limits.
pub(super) fn payload_problems(topics: &[Topic], payload_bytes: Option<u64>) -> Vec<Finding> {
    let Some(payload_bytes) = payload_bytes else {
        return Vec::new();
    };
    let problem = |topic: &Topic| {
        let limit: u64 = topic.setting("max.message.bytes")?.parse().ok()?;
        if payload_bytes < limit {
            return None;
        }
        let name = &topic.name;
        let seen = format!(
            "a payload of {} is in the table, and the topic '{name}' takes batches of up to {} \
             (max.message.bytes)",
            bytes_text(payload_bytes),
            bytes_text(limit)
        );
        let more = payload_bytes.saturating_mul(2);
        let fix = topic.alter(&format!("max.message.bytes={more}"));
        Some(checks::KAFKA_MAX_BYTES.found(name, seen, fix))
    };
    topics.iter().filter_map(problem).collect()
}

impl Topic {
    fn setting(&self, name: &str) -> Option<&str> {
        self.config.as_ref().ok()?.get(name).map(String::as_str)
    }

    fn alter(&self, setting: &str) -> String {
        format!(
            "kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {} \
             --add-config {setting}",
            self.name
        )
    }

    fn findings(&self, brokers: usize, key_is_the_id: bool, settings: &Settings) -> Vec<Finding> {
        let TopicShape {
            partitions,
            replicas_min,
            ..
        } = self.shape;
        let (name, count) = (&self.name, partitions as usize);
        let mut seen = format!(
            "the topic '{name}': {}, {}",
            counted(count, "partition"),
            counted(replicas_min, "replica")
        );
        if self.may_write == Some(true) {
            seen.push_str(", which may be written to");
        }
        let mut found = vec![Finding::ok(Area::Kafka, seen)];
        found.extend(self.unseen());
        if self.may_write == Some(false) {
            found.push(right_problem("WRITE", name, settings));
        }
        found.extend(self.leader_problem());
        found.extend(self.replica_problem(brokers));
        found.extend(self.acknowledgement_problem());
        found.extend(self.unclean_problem());
        found.extend(self.compaction_problem(key_is_the_id));
        found
    }

    /// What could not be looked at.
    fn unseen(&self) -> impl Iterator<Item = Finding> {
        let name = &self.name;
        let config = self.config.as_ref().err().map(|fault| {
            let right = match fault.code {
                ErrorCode::TOPIC_AUTHORIZATION_FAILED => " (it needs DESCRIBE_CONFIGS)",
                _ => "",
            };
            format!("not checked: the configuration of the topic '{name}'{right}: {fault}")
        });
        let right = self.may_write.is_none().then(|| {
            format!(
                "not checked: whether the topic '{name}' may be written to (the cluster does \
                 not tell; a record shows it)"
            )
        });
        let unseen = [config, right].into_iter().flatten();
        unseen.map(|seen| Finding::ok(Area::Kafka, seen))
    }

    fn min_in_sync(&self) -> Option<usize> {
        self.setting("min.insync.replicas")?.parse().ok()
    }

    fn leader_problem(&self) -> Option<Finding> {
        let (name, leaderless) = (&self.name, self.shape.leaderless);
        let verb = match leaderless {
            0 => return None,
            1 => "has",
            _ => "have",
        };
        let partitions = counted(self.shape.partitions as usize, "partition");
        let seen = format!("the topic '{name}': {leaderless} of its {partitions} {verb} no leader");
        let fix = "bring the broker back that is away";
        Some(checks::KAFKA_LEADER.found(name, seen, fix))
    }

    fn replica_problem(&self, brokers: usize) -> Option<Finding> {
        let TopicShape {
            replicas_min,
            in_sync_min,
            ..
        } = self.shape;
        let (name, wanted) = (&self.name, self.min_in_sync().unwrap_or(1));
        let (what, fix) = if replicas_min == 1 && brokers > 1 {
            (
                format!("has one replica in a cluster of {brokers} brokers"),
                "kafka-reassign-partitions.sh: give it more replicas".to_owned(),
            )
        } else if replicas_min < wanted {
            let fix = self.alter(&format!("min.insync.replicas={}", replicas_min.max(1)));
            let replicas = counted(replicas_min, "replica");
            (
                format!("has {replicas}, fewer than min.insync.replicas={wanted}"),
                fix + " (or more replicas)",
            )
        } else if in_sync_min < wanted {
            (
                format!(
                    "has {in_sync_min} replicas in sync, fewer than min.insync.replicas={wanted}"
                ),
                "bring the broker back that is away".to_owned(),
            )
        } else {
            return None;
        };
        let seen = format!("the topic '{name}' {what}");
        Some(checks::KAFKA_REPLICAS.found(name, seen, fix))
    }

    fn acknowledgement_problem(&self) -> Option<Finding> {
        let replicas = self.shape.replicas_min;
        if replicas < 3 || self.min_in_sync()? > 1 {
            return None;
        }
        let name = &self.name;
        let seen = format!(
            "the topic '{name}' has {replicas} replicas and min.insync.replicas=1: one copy is \
             enough for an acknowledgement"
        );
        let fix = self.alter("min.insync.replicas=2");
        Some(checks::KAFKA_MIN_ISR.found(name, seen, fix))
    }

    fn unclean_problem(&self) -> Option<Finding> {
        const SETTING: &str = "unclean.leader.election.enable";
        if self.setting(SETTING)? != "true" {
            return None;
        }
        let name = &self.name;
        let seen = format!("the topic '{name}' has {SETTING}=true: acknowledged events can vanish");
        let fix = self.alter(&format!("{SETTING}=false"));
        Some(checks::KAFKA_UNCLEAN.found(name, seen, fix))
    }

    fn compaction_problem(&self, key_is_the_id: bool) -> Option<Finding> {
        let policy = self.setting("cleanup.policy")?;
        let has = |word: &str| policy.split(',').any(|part| part.trim() == word);
        if !has("compact") || (key_is_the_id && has("delete")) {
            return None;
        }
        let effect = if key_is_the_id {
            "the key is the event's id, so nothing is ever removed and it grows for ever"
        } else {
            "of each key only the last event is kept, older ones are removed"
        };
        let name = &self.name;
        let seen = format!("the topic '{name}' has cleanup.policy={policy}: {effect}");
        let fix = self.alter("cleanup.policy=delete")
            + ", or choose route.key so that its last record is all that matters";
        Some(checks::COMPACT.found(name, seen, fix))
    }
}

#[cfg(test)]
mod tests;
