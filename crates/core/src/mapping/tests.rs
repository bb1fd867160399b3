//! Tests of the mapping. Here: the rows that they start from, and what they ask of an event.

mod formats;
mod nulls;
mod rows;
mod specification;
mod tables;
mod undeliverable;

use bytes::Bytes;
use walpost_pgoutput::{
    Begin, Cell, Column, Lsn, Message, PgTimestamp, Relation, RelationId, Tuple,
};

use super::types::{BYTEA, UUID};
use super::*;
use crate::error::Reason;
use crate::stream::{Stream, Transaction};

const TEXT: u32 = 25;
const JSONB: u32 = 3802;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const ID: &str = "a0000000-0000-4000-8000-000000000001";
const ID_BYTES: [u8; 16] = [0xA0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1];

/// One column of a row: name, type, and value in a text stream.
type Field<'a> = (&'a str, u32, Option<&'a str>);

/// A row of the table that `walpost init` makes.
const ROW: [Field<'_>; 8] = [
    ("id", UUID, Some(ID)),
    ("destination", TEXT, Some("orders")),
    ("aggregate_type", TEXT, Some("Order")),
    ("aggregate_id", TEXT, Some("o-17")),
    ("event_type", TEXT, Some("OrderPlaced")),
    ("payload", JSONB, Some("{\"a\": 1}")),
    ("headers", JSONB, Some("{\"trace\": \"t1\", \"n\": 2}")),
    ("created_at", TIMESTAMPTZ, Some("2024-02-29 12:34:56.7+00")),
];

/// A row of Debezium's outbox table.
const DEBEZIUM_ROW: [Field<'_>; 5] = [
    ("id", UUID, Some(ID)),
    ("aggregatetype", TEXT, Some("Order")),
    ("aggregateid", TEXT, Some("o-17")),
    ("type", TEXT, Some("OrderPlaced")),
    ("payload", JSONB, Some("{\"a\": 1}")),
];

/// The row with another value in one column.
fn with<'a>(row: &[Field<'a>], name: &str, value: Option<&'a str>) -> Vec<Field<'a>> {
    assert!(row.iter().any(|(found, ..)| *found == name));
    let replace = |&(found, oid, old): &Field<'a>| {
        let new = if found == name { value } else { old };
        (found, oid, new)
    };
    row.iter().map(replace).collect()
}

/// The row of a table without one of the columns.
fn without<'a>(row: &[Field<'a>], name: &str) -> Vec<Field<'a>> {
    let kept = row.iter().filter(|(found, ..)| *found != name);
    kept.copied().collect()
}

fn table_of(schema: &str, name: &str) -> TableName {
    TableName {
        schema: schema.to_owned(),
        name: name.to_owned(),
    }
}

fn spec() -> MappingSpec {
    MappingSpec {
        tables: vec![table_of("public", "outbox")],
        ..MappingSpec::default()
    }
}

fn debezium() -> MappingSpec {
    MappingSpec {
        layout: Layout::Debezium,
        ..spec()
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn relation(schema: &str, name: &str, columns: &[(&str, u32)]) -> Relation {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let column = |(name, type_oid): &(&str, u32)| Column {
        is_key: false,
        name: bytes(name),
        type_oid: *type_oid,
        type_modifier: -1,
    };
    Relation {
        id: RelationId(1),
        namespace: bytes(schema),
        name: bytes(name),
        replica_identity: b'd',
        columns: columns.iter().map(column).collect(),
    }
}

fn shape(row: &[Field<'_>]) -> Relation {
    let columns: Vec<_> = row.iter().map(|(name, oid, _)| (*name, *oid)).collect();
    relation("public", "outbox", &columns)
}

/// Maps one row of [`transaction`].
fn map_tuple(
    spec: &MappingSpec,
    relation: &Relation,
    types: &Types,
    format: Format,
    tuple: &Tuple,
) -> Result<Event, Unmapped> {
    let (mapping, binding) = bound(spec, relation, types, format);
    binding.event(&mapping, tuple, &transaction())
}

fn bound(
    spec: &MappingSpec,
    relation: &Relation,
    types: &Types,
    format: Format,
) -> (Mapping, Binding) {
    let mapping = Mapping::new(spec).unwrap();
    let binding = mapping.bind(relation, types, format).unwrap();
    (mapping, binding)
}

/// A transaction that committed at 0/AB, in 2023, as number 7.
fn transaction() -> Transaction {
    let mut stream = Stream::new();
    let begin = Message::Begin(Begin {
        final_lsn: Lsn::new(0xAB),
        commit_time: PgTimestamp::from_unix_micros(1_700_000_000_000_001),
        xid: 7,
    });
    stream.advance(begin).unwrap();
    stream.transaction().unwrap().clone()
}

fn tuple(row: &[Field<'_>]) -> Tuple {
    Tuple::from_cells(row.iter().map(|(_, _, value)| match value {
        Some(value) => Cell::Text(value.as_bytes()),
        None => Cell::Null,
    }))
}

fn map(spec: &MappingSpec, row: &[Field<'_>]) -> Result<Event, Unmapped> {
    map_tuple(
        spec,
        &shape(row),
        &Types::default(),
        Format::Text,
        &tuple(row),
    )
}

fn event(spec: &MappingSpec, row: &[Field<'_>]) -> Event {
    map(spec, row).unwrap()
}

/// Why the row can't be delivered.
fn reason(spec: &MappingSpec, row: &[Field<'_>]) -> Reason {
    match map(spec, row) {
        Err(Unmapped::Event(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

fn shown(bytes: Option<&Bytes>) -> Option<String> {
    bytes.map(|bytes| bytes.escape_ascii().to_string())
}

fn headers(event: &Event) -> Vec<(String, String)> {
    let pair = |header: &crate::event::Header| {
        let value = shown(header.value.as_ref()).unwrap();
        (header.name().to_owned(), value)
    };
    event.headers.iter().map(pair).collect()
}

fn header_names(event: &Event) -> Vec<String> {
    headers(event).into_iter().map(|(name, _)| name).collect()
}

/// Everything that a consumer sees of an event, and its placement and size.
fn all(event: &Event) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        event.id.clone(),
        event.position,
        event.topic.clone(),
        shown(event.key.as_ref()),
        shown(Some(&event.placement)),
        shown(event.value.as_ref()),
        headers(event),
        event.bytes,
    )
}

fn bind_error(spec: &MappingSpec, row: &[Field<'_>], format: Format) -> String {
    let mapping = Mapping::new(spec).unwrap();
    let bound = mapping.bind(&shape(row), &Types::default(), format);
    bound.unwrap_err().to_string()
}
