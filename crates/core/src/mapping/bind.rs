//! A mapping meets a table's shape: columns by name become places in the row.

use bytes::Bytes;
use walpost_pgoutput::{Column, Relation};

use super::template::Template;
use super::types::{Kind, Types};
use super::{HeaderTemplate, Mapping, NullPayload, Placement, Role, TableName};
use crate::limits::MAPPED_COLUMNS_MAX;

/// The format that the stream was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Every value as Postgres prints it.
    Text,
    /// Values in their binary form: `bytea` payloads without the doubling of hex.
    Binary,
}

/// A table of the stream can't be mapped. Nothing of it was produced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// A column that the mapping needs is not there.
    #[error("the table {table} has no column '{column}', which {used_by} needs")]
    MissingColumn {
        /// The table.
        table: TableName,
        /// Its missing column.
        column: String,
        /// The configuration key that names it.
        used_by: String,
    },
    /// A column's type can't be printed in a binary stream.
    #[error(
        "the column '{column}' of {table}, which {used_by} needs, has a type (oid {type_oid}) that \
         can't be read beside a bytea payload: cast it to one that can \
         (alter table … alter column … type text), or to uuid, an integer, boolean, json, jsonb \
         or timestamptz"
    )]
    UnsupportedType {
        /// The table.
        table: TableName,
        /// Its column.
        column: String,
        /// The type.
        type_oid: u32,
        /// The configuration key that names it.
        used_by: String,
    },
    /// More columns than one row's gathering holds.
    #[error("the mapping names more than {MAPPED_COLUMNS_MAX} columns of {table}")]
    TooManyColumns {
        /// The table.
        table: TableName,
    },
}

/// A gathered cell, by its number.
pub(super) type Slot = usize;

/// A mapping bound to one table.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(super) table: TableName,
    /// Columns of the table: a row has as many cells.
    pub(super) width: usize,
    /// Which slot each column of the row goes to.
    pub(super) slots: Vec<Option<Slot>>,
    /// How each slot's cell becomes text.
    pub(super) kinds: Vec<Kind>,
    pub(super) id: Slot,
    pub(super) payload: Slot,
    pub(super) topic: Template<Slot>,
    pub(super) key: Template<Slot>,
    /// None: by the key.
    pub(super) placement: Option<Template<Slot>>,
    pub(super) headers: Vec<(Bytes, Template<Slot>)>,
    pub(super) row_headers: Option<Slot>,
    pub(super) null_payload: NullPayload,
}

impl Mapping {
    /// Whether a table of the stream is one of the outbox tables.
    pub(crate) fn is_outbox(&self, relation: &Relation) -> bool {
        self.tables.iter().any(|table| {
            table.name.as_bytes() == &relation.name[..]
                && table.schema.as_bytes() == schema(relation)
        })
    }

    /// Finds every column that the mapping needs.
    pub(crate) fn bind(
        &self,
        relation: &Relation,
        types: &Types,
        format: Format,
    ) -> Result<Binding, BindError> {
        let mut binder = Binder::new(relation, types, format);
        let payload = binder.place(self.column(Role::Payload), "outbox.columns.payload")?;
        let id = binder.place(self.column(Role::Id), "outbox.columns.id")?;
        let topic = self.template(&self.topic, "route.topic", &mut binder)?;
        let key = self.template(&self.key, "route.key", &mut binder)?;
        let placement = self.placement(&mut binder)?;
        let headers = self.headers(&mut binder)?;
        let row_headers = self.row_headers(&mut binder)?;
        for role in &self.configured {
            binder.find(
                self.column(*role),
                &format!("outbox.columns.{}", role.name()),
            )?;
        }
        if binder.kinds.len() > MAPPED_COLUMNS_MAX {
            return Err(BindError::TooManyColumns {
                table: binder.table,
            });
        }
        Ok(Binding {
            table: binder.table,
            width: relation.columns.len(),
            slots: binder.slots,
            kinds: binder.kinds,
            id,
            payload,
            topic,
            key,
            placement,
            headers,
            row_headers,
            null_payload: self.null_payload,
        })
    }

    fn template(
        &self,
        template: &Template<String>,
        used_by: &str,
        binder: &mut Binder<'_>,
    ) -> Result<Template<Slot>, BindError> {
        template.resolve(|name| binder.place(self.table_column(name), used_by))
    }

    fn placement(&self, binder: &mut Binder<'_>) -> Result<Option<Template<Slot>>, BindError> {
        match &self.placement {
            Placement::Key => Ok(None),
            Placement::Template(template) => self
                .template(template, "route.partition_by", binder)
                .map(Some),
            Placement::Aggregate if !binder.has(self.column(Role::AggregateId)) => Ok(None),
            Placement::Aggregate => {
                let template = Template::column(Role::AggregateId.name());
                self.template(&template, "outbox.columns.aggregate_id", binder)
                    .map(Some)
            }
        }
    }

    /// A header of the layout is left out where the table lacks its column.
    fn headers(&self, binder: &mut Binder<'_>) -> Result<Vec<(Bytes, Template<Slot>)>, BindError> {
        let mut headers = Vec::new();
        for HeaderTemplate {
            name,
            template,
            configured,
        } in &self.headers
        {
            let used_by = format!("route.headers.{}", name.escape_ascii());
            match self.template(template, &used_by, binder) {
                Ok(template) => headers.push((name.clone(), template)),
                Err(BindError::MissingColumn { .. }) if !configured => {}
                Err(error) => return Err(error),
            }
        }
        Ok(headers)
    }

    fn row_headers(&self, binder: &mut Binder<'_>) -> Result<Option<Slot>, BindError> {
        let configured = self.configured.contains(&Role::Headers);
        let column = self.column(Role::Headers);
        let looked_for = configured || (self.layout.has_row_headers() && binder.has(column));
        if !looked_for {
            return Ok(None);
        }
        binder.place(column, "outbox.columns.headers").map(Some)
    }
}

impl Binding {
    /// The table.
    pub(crate) fn table(&self) -> &TableName {
        &self.table
    }
}

/// The table's name as the configuration would write it. The stream leaves `pg_catalog` out.
pub(crate) fn table_name(relation: &Relation) -> TableName {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    TableName {
        schema: text(schema(relation)),
        name: text(&relation.name),
    }
}

fn schema(relation: &Relation) -> &[u8] {
    if relation.namespace.is_empty() {
        b"pg_catalog"
    } else {
        &relation.namespace
    }
}

/// Collects the columns that are needed, each once.
struct Binder<'a> {
    relation: &'a Relation,
    types: &'a Types,
    format: Format,
    table: TableName,
    slots: Vec<Option<Slot>>,
    kinds: Vec<Kind>,
}

impl<'a> Binder<'a> {
    fn new(relation: &'a Relation, types: &'a Types, format: Format) -> Self {
        Self {
            relation,
            types,
            format,
            table: table_name(relation),
            slots: vec![None; relation.columns.len()],
            kinds: Vec::new(),
        }
    }

    fn has(&self, column: &str) -> bool {
        self.relation
            .columns
            .iter()
            .any(|found| &found.name[..] == column.as_bytes())
    }

    fn find(&self, column: &str, used_by: &str) -> Result<usize, BindError> {
        let found = |found: &Column| &found.name[..] == column.as_bytes();
        self.relation
            .columns
            .iter()
            .position(found)
            .ok_or_else(|| BindError::MissingColumn {
                table: self.table.clone(),
                column: column.to_owned(),
                used_by: used_by.to_owned(),
            })
    }

    fn place(&mut self, column: &str, used_by: &str) -> Result<Slot, BindError> {
        let index = self.find(column, used_by)?;
        if let Some(slot) = self.slots[index] {
            return Ok(slot);
        }
        let type_oid = self.relation.columns[index].type_oid;
        let kind = self.types.kind(type_oid);
        if kind == Kind::TextOnly && self.format == Format::Binary {
            return Err(BindError::UnsupportedType {
                table: self.table.clone(),
                column: column.to_owned(),
                type_oid,
                used_by: used_by.to_owned(),
            });
        }
        let slot = self.kinds.len();
        self.slots[index] = Some(slot);
        self.kinds.push(kind);
        Ok(slot)
    }
}
