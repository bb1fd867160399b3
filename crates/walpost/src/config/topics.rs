//! `kafka.topics.create`: how a missing topic is made.

use walpost_kafka::TopicPlan;

use super::build::Builder;
use super::layer::Given;
use super::schema::{self, TOPICS};

/// More than any cluster carries.
const PARTITIONS_MAX: i32 = 100_000;

/// Kafka keeps it in a 16-bit number.
const REPLICATION_MAX: i32 = 32_767;

impl Builder {
    /// The plan, if one is given. `create: {}` is one: everything as the broker has it.
    pub(super) fn topic_plan(&mut self) -> Option<TopicPlan> {
        let given: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.key.path == TOPICS)
            .map(|entry| (entry.name.clone().unwrap_or_default(), entry.value.clone()))
            .collect();
        if given.is_empty() {
            return None;
        }
        let mut plan = TopicPlan::default();
        for (name, value) in given {
            if let Err(problem) = take(&mut plan, &name, &value) {
                self.wrong(&format!("{TOPICS}.{name}"), problem);
            }
        }
        Some(plan)
    }
}

fn take(plan: &mut TopicPlan, name: &str, value: &Given) -> Result<(), String> {
    let Given::Text(text) = value else {
        return match name {
            "create" | "create.config" => Ok(()),
            _ => Err("expected one value, found a map".to_owned()),
        };
    };
    let number = |max: i32| {
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| format!("expected a number from 1 to {max}"))
    };
    match name {
        "create.partitions" => plan.partitions = Some(number(PARTITIONS_MAX)?),
        "create.replication" => plan.replication = Some(number(REPLICATION_MAX)?),
        "create" => {
            return Err(
                "expected keys below it: partitions, replication, config, or {}".to_owned(),
            );
        }
        _ => match name.strip_prefix("create.config.") {
            Some(property) => {
                plan.config.insert(property.to_owned(), text.clone());
            }
            None => return Err(unknown(name)),
        },
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    let known = ["create.partitions", "create.replication", "create.config"];
    match schema::nearest(name, known) {
        Some(known) => format!("there is no such key; did you mean {TOPICS}.{known}?"),
        None => format!("there is no such key: there are {}", known.join(", ")),
    }
}
