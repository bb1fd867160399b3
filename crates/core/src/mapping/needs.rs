//! Which columns a mapping relies on, asked before any row is there.

use std::collections::BTreeSet;

use super::template::{Piece, Template};
use super::{Mapping, Placement, Role};

/// A column that every outbox table has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededColumn {
    /// Its name in the table.
    pub column: String,
    /// The configuration key that names it.
    pub used_by: String,
}

impl Mapping {
    /// The columns without which a table can't be mapped, each once. What a layout takes where it
    /// is there and leaves out where it is not, such as its headers, is not among them.
    pub fn needed_columns(&self) -> Vec<NeededColumn> {
        let mut needs = Needs {
            mapping: self,
            needed: Vec::new(),
        };
        needs.role(Role::Id);
        needs.role(Role::Payload);
        needs.template(&self.topic, "route.topic");
        needs.template(&self.key, "route.key");
        if let Placement::Template(template) = &self.placement {
            needs.template(template, "route.partition_by");
        }
        for header in self.headers.iter().filter(|header| header.configured) {
            let used_by = format!("route.headers.{}", header.name.escape_ascii());
            needs.template(&header.template, &used_by);
        }
        for role in &self.configured {
            needs.role(*role);
        }
        needs.needed
    }

    /// The columns that are read where a table has them, apart from those that it has to have.
    pub fn optional_columns(&self) -> Vec<NeededColumn> {
        let needed = self.needed_columns();
        let mut needs = Needs {
            mapping: self,
            needed: Vec::new(),
        };
        if self.placement == Placement::Aggregate {
            needs.role(Role::AggregateId);
        }
        if self.layout.has_row_headers() {
            needs.role(Role::Headers);
        }
        for header in self.headers.iter().filter(|header| !header.configured) {
            for piece in header.template.pieces() {
                if let Piece::Column(name) = piece
                    && let Some(role) = Role::named(name)
                {
                    needs.role(role);
                }
            }
        }
        let is_optional =
            |column: &NeededColumn| needed.iter().all(|needed| needed.column != column.column);
        needs.needed.retain(is_optional);
        needs.needed
    }

    /// The columns of the table that a key of the route reads: `route.topic`, `route.key`, or
    /// `route.partition_by` where it is a template.
    pub fn route_columns(&self, key: &str) -> BTreeSet<String> {
        let template = match (key, &self.placement) {
            ("route.topic", _) => &self.topic,
            ("route.key", _) => &self.key,
            ("route.partition_by", Placement::Template(template)) => template,
            _ => return BTreeSet::new(),
        };
        let column = |piece: &Piece<String>| match piece {
            Piece::Column(name) => Some(self.table_column(name).to_owned()),
            Piece::Literal(_) | Piece::Own(_) => None,
        };
        template.pieces().iter().filter_map(column).collect()
    }

    /// Whether the key is the event's id and nothing else.
    pub fn key_is_the_id(&self) -> bool {
        self.key.is_column(Role::Id.name()) || self.key.is_column(self.column(Role::Id))
    }

    /// Whether a row alone says to which topic it goes, and any topic will do.
    pub fn topic_is_open(&self) -> bool {
        let starts_plain = matches!(self.topic.pieces().first(), Some(Piece::Literal(_)));
        self.allow.is_empty() && !starts_plain
    }
}

struct Needs<'a> {
    mapping: &'a Mapping,
    needed: Vec<NeededColumn>,
}

impl Needs<'_> {
    fn role(&mut self, role: Role) {
        let used_by = format!("outbox.columns.{}", role.name());
        self.column(self.mapping.column(role).to_owned(), &used_by);
    }

    fn template(&mut self, template: &Template<String>, used_by: &str) {
        for piece in template.pieces() {
            if let Piece::Column(name) = piece {
                self.column(self.mapping.table_column(name).to_owned(), used_by);
            }
        }
    }

    fn column(&mut self, column: String, used_by: &str) {
        if self.needed.iter().all(|known| known.column != column) {
            self.needed.push(NeededColumn {
                column,
                used_by: used_by.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Layout, MappingSpec, TableName};
    use super::*;

    fn mapping(change: impl FnOnce(&mut MappingSpec)) -> Mapping {
        let mut spec = MappingSpec {
            tables: vec![TableName {
                schema: "public".to_owned(),
                name: "outbox".to_owned(),
            }],
            ..MappingSpec::default()
        };
        change(&mut spec);
        Mapping::new(&spec).unwrap()
    }

    fn needed(change: impl FnOnce(&mut MappingSpec)) -> Vec<(String, String)> {
        let needed = mapping(change).needed_columns().into_iter();
        needed.map(|need| (need.column, need.used_by)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(left, right): &(&str, &str)| ((*left).to_owned(), (*right).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_layout_needs_id_payload_topic_and_key() {
        let expected = pairs(&[
            ("id", "outbox.columns.id"),
            ("payload", "outbox.columns.payload"),
            ("destination", "route.topic"),
        ]);
        assert_eq!(needed(|_| {}), expected);
        let expected = pairs(&[
            ("id", "outbox.columns.id"),
            ("payload", "outbox.columns.payload"),
            ("aggregatetype", "route.topic"),
            ("aggregateid", "route.key"),
        ]);
        assert_eq!(needed(|spec| spec.layout = Layout::Debezium), expected);
    }

    #[test]
    fn what_is_configured_is_needed_once_under_its_own_name() {
        let expected = pairs(&[
            ("id", "outbox.columns.id"),
            ("body", "outbox.columns.payload"),
            ("tenant", "route.topic"),
            ("customer", "route.partition_by"),
            ("kind", "route.headers.kind"),
            ("made", "outbox.columns.created_at"),
        ]);
        let found = needed(|spec| {
            let role = |role, column: &str| (role, column.to_owned());
            spec.columns = vec![
                role(Role::Payload, "body"),
                role(Role::EventType, "kind"),
                role(Role::CreatedAt, "made"),
            ];
            spec.topic = Some("t.${tenant}.${walpost.xid}.$${no}".to_owned());
            spec.partition_by = Some("${customer}${tenant}".to_owned());
            spec.headers = Some(vec![("kind".to_owned(), "${event_type}".to_owned())]);
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_layout_takes_where_it_is_there_is_optional() {
        let optional = |change: fn(&mut MappingSpec)| {
            let columns = mapping(change).optional_columns().into_iter();
            columns.map(|need| need.column).collect::<Vec<_>>()
        };
        assert_eq!(optional(|_| {}), ["aggregate_id", "headers", "event_type"]);
        assert_eq!(optional(|spec| spec.layout = Layout::Debezium), [""; 0]);
        assert_eq!(
            optional(|spec| spec.key = Some("${event_type}".to_owned())),
            ["headers"]
        );
    }

    #[test]
    fn the_columns_of_a_route_are_those_of_the_table() {
        let mapping = mapping(|spec| {
            spec.columns = vec![(Role::Destination, "topic".to_owned())];
            spec.topic = Some("a.${destination}.${tenant}".to_owned());
            spec.partition_by = Some("key".to_owned());
        });
        let columns = |key| mapping.route_columns(key).into_iter().collect::<Vec<_>>();
        assert_eq!(columns("route.topic"), ["tenant", "topic"]);
        assert_eq!(columns("route.key"), ["id"]);
        assert_eq!(columns("route.partition_by"), [""; 0]);
    }

    #[test]
    fn the_columns_that_place_a_record_are_those_of_its_template() {
        let mapping = mapping(|spec| spec.partition_by = Some("${tenant}.${id}".to_owned()));
        let columns = mapping.route_columns("route.partition_by");
        assert_eq!(columns.into_iter().collect::<Vec<_>>(), ["id", "tenant"]);
    }

    #[test]
    fn the_key_is_the_id_under_its_role_and_under_the_name_of_its_column() {
        let is_id = |key: &str| {
            let mapping = mapping(|spec| {
                spec.columns = vec![(Role::Id, "event_id".to_owned())];
                spec.key = Some(key.to_owned());
            });
            mapping.key_is_the_id()
        };
        assert!(mapping(|_| {}).key_is_the_id());
        assert!(is_id("${id}"));
        assert!(is_id("${event_id}"));
        assert!(!is_id("${aggregate_id}"));
        assert!(!is_id("e-${id}"));
    }

    #[test]
    fn a_topic_is_open_where_a_row_can_name_any() {
        assert!(mapping(|_| {}).topic_is_open());
        assert!(!mapping(|spec| spec.allow = vec!["a".to_owned()]).topic_is_open());
        assert!(!mapping(|spec| spec.topic = Some("a.${destination}".to_owned())).topic_is_open());
    }
}
