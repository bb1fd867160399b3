//! What a configuration relies on: columns of the outbox tables, and topics.

use std::collections::BTreeSet;

use walpost_core::{Layout, NeededColumn, NullPayload, Policy};

use super::Config;

impl Config {
    /// The columns that every outbox table has to have.
    pub(crate) fn needed_columns(&self) -> Vec<NeededColumn> {
        self.mapping.needed_columns()
    }

    /// The columns that are read where the table has them.
    pub(crate) fn optional_columns(&self) -> Vec<NeededColumn> {
        self.mapping.optional_columns()
    }

    /// Every column that is read, if it is there.
    pub(crate) fn read_columns(&self) -> Vec<NeededColumn> {
        let mut columns = self.needed_columns();
        columns.extend(self.optional_columns());
        columns
    }

    /// The columns of the table that a key of the route reads: `route.topic`, `route.key`, or
    /// `route.partition_by` where it is configured.
    pub(crate) fn route_columns(&self, key: &str) -> BTreeSet<String> {
        self.mapping.route_columns(key)
    }

    /// Whether the key is the event's id and nothing else.
    pub(crate) fn key_is_the_id(&self) -> bool {
        self.mapping.key_is_the_id()
    }

    /// Whether a row alone says to which topic it goes, and any topic will do.
    pub(crate) fn topic_is_open(&self) -> bool {
        self.mapping.topic_is_open()
    }

    /// Whether a NULL payload stops the line in a table that does not mean it.
    pub(crate) fn refuses_null_payload(&self) -> bool {
        // Debezium's table has a payload that can be NULL.
        self.mapping_spec.null_payload == NullPayload::Refuse
            && self.mapping_spec.layout == Layout::Walpost
    }

    /// The topics that the configuration names: the one of the route, and those in its list.
    pub(crate) fn named_topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.mapping.fixed_topic().into_iter().collect();
        if topics.is_empty() {
            let is_name = |allowed: &&String| !allowed.starts_with('/');
            topics.extend(self.mapping_spec.allow.iter().filter(is_name).cloned());
        }
        if let Policy::DeadLetter(topic) = self.delivery.policy() {
            topics.push(topic.as_str().to_owned());
        }
        topics.sort_unstable();
        topics.dedup();
        topics
    }
}
