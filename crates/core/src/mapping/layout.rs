//! What a mapping is made from: tables, columns, templates, and the presets of the two layouts.

use std::fmt;

/// A table's qualified name, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Table.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A preset of columns, topic, key and headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// The table that `walpost init` creates.
    #[default]
    Walpost,
    /// The table and the records of Debezium's outbox event router with its defaults.
    Debezium,
}

/// What an outbox row without a payload becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NullPayload {
    /// An undeliverable event.
    #[default]
    Refuse,
    /// A record with a null value, which deletes its key from a compacted topic.
    Tombstone,
}

/// The columns that walpost knows by role. A template may use these names whatever the table calls
/// its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Identifies the event.
    Id,
    /// Topic.
    Destination,
    /// Kind of the aggregate.
    AggregateType,
    /// The aggregate.
    AggregateId,
    /// Kind of the event.
    EventType,
    /// Value of the record.
    Payload,
    /// Flat JSON object of further headers.
    Headers,
    /// When the row was written.
    CreatedAt,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 8] = [
        Self::Id,
        Self::Destination,
        Self::AggregateType,
        Self::AggregateId,
        Self::EventType,
        Self::Payload,
        Self::Headers,
        Self::CreatedAt,
    ];

    /// The name in templates and under `outbox.columns`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Destination => "destination",
            Self::AggregateType => "aggregate_type",
            Self::AggregateId => "aggregate_id",
            Self::EventType => "event_type",
            Self::Payload => "payload",
            Self::Headers => "headers",
            Self::CreatedAt => "created_at",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The column that plays this role unless the configuration says otherwise.
    pub const fn default_column(self, layout: Layout) -> &'static str {
        match (layout, self) {
            (Layout::Debezium, Self::AggregateType) => "aggregatetype",
            (Layout::Debezium, Self::AggregateId) => "aggregateid",
            (Layout::Debezium, Self::EventType) => "type",
            (_, role) => role.name(),
        }
    }
}

impl Layout {
    /// Default of `route.topic`.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Walpost => "${destination}",
            Self::Debezium => "outbox.event.${aggregate_type}",
        }
    }

    /// Default of `route.key`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Walpost => "${id}",
            Self::Debezium => "${aggregate_id}",
        }
    }

    /// Default of `route.headers`: name and template.
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Walpost => &[("id", "${id}"), ("type", "${event_type}")],
            Self::Debezium => &[("id", "${id}")],
        }
    }

    /// Whether a column of row headers is looked for without being configured.
    pub const fn has_row_headers(self) -> bool {
        matches!(self, Self::Walpost)
    }
}

/// Everything that says how rows become records. Absent means the layout's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingSpec {
    /// The outbox tables, of one shape.
    pub tables: Vec<TableName>,
    /// Where the defaults come from.
    pub layout: Layout,
    /// Columns that are not called as in the layout.
    pub columns: Vec<(Role, String)>,
    /// `outbox.null_payload`.
    pub null_payload: NullPayload,
    /// `route.topic`: a template.
    pub topic: Option<String>,
    /// `route.allow`: topics by name, or `/regular expression/` over the whole name. Empty allows
    /// all.
    pub allow: Vec<String>,
    /// `route.key`: a template.
    pub key: Option<String>,
    /// `route.partition_by`: a template, or the word `key`.
    pub partition_by: Option<String>,
    /// `route.headers`: name and template, in order.
    pub headers: Option<Vec<(String, String)>>,
}

/// A setting of the mapping that can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// The configuration key.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}
