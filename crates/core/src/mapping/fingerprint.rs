//! The settings on which an event's identity and order depend.

use super::{Mapping, MappingSpec, Placement, Role};
use crate::start::{Fingerprint, TABLES};

impl Mapping {
    /// What the settings come to by which an event has its table, topic, key and partition, by
    /// their names in the configuration: with others, events go elsewhere, or come again as others.
    pub fn fingerprint(&self, spec: &MappingSpec) -> Fingerprint {
        let layout = self.layout;
        let tables: Vec<_> = self.tables.iter().map(ToString::to_string).collect();
        let topic = spec.topic.as_deref().unwrap_or(layout.topic());
        let key = spec.key.as_deref().unwrap_or(layout.key());
        let partition_by = match (&self.placement, &spec.partition_by) {
            (Placement::Template(_), Some(text)) => text.as_str(),
            (Placement::Aggregate, _) => "${aggregate_id}",
            (Placement::Key | Placement::Template(_), _) => "key",
        };
        let column = |role: Role| self.column(role).to_owned();
        [
            (TABLES, tables.join(", ")),
            ("outbox.columns.id", column(Role::Id)),
            ("route.topic", topic.to_owned()),
            ("route.key", key.to_owned()),
            ("route.partition_by", partition_by.to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Layout, TableName};

    fn fingerprint(change: impl FnOnce(&mut MappingSpec)) -> Vec<String> {
        let table = TableName {
            schema: "public".to_owned(),
            name: "outbox".to_owned(),
        };
        let mut spec = MappingSpec {
            tables: vec![table],
            ..MappingSpec::default()
        };
        change(&mut spec);
        let mapping = Mapping::new(&spec).unwrap();
        mapping.fingerprint(&spec).into_values().collect()
    }

    #[test]
    fn a_default_that_is_spelled_out_is_no_other_setting() {
        let default = [
            "id",
            "public.outbox",
            "${id}",
            "${aggregate_id}",
            "${destination}",
        ];
        assert_eq!(fingerprint(|_| {}), default);
        let spelled_out = fingerprint(|spec| {
            spec.topic = Some("${destination}".to_owned());
            spec.key = Some("${id}".to_owned());
            spec.partition_by = Some("${aggregate_id}".to_owned());
        });
        assert_eq!(spelled_out, default);
    }

    #[test]
    fn what_places_an_event_elsewhere_is_another_setting() {
        let by_key = fingerprint(|spec| spec.key = Some("${aggregate_id}".to_owned()));
        assert_eq!(by_key[2..4], ["${aggregate_id}", "key"]);
        let debezium = fingerprint(|spec| spec.layout = Layout::Debezium);
        assert_eq!(debezium[4], "outbox.event.${aggregate_type}");
    }
}
