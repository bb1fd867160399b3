use std::collections::BTreeMap;

use bytes::Bytes;
use walpost_pgoutput::{
    Begin, Cell, Column, Lsn, Message, PgTimestamp, Relation, RelationId, Tuple, Type,
};

use super::types::{BYTEA, UUID};
use super::*;
use crate::error::Reason;
use crate::limits::MAPPED_COLUMNS_MAX;
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
        Err(Unmapped::Event { reason, .. }) => reason,
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

fn problems(spec: &MappingSpec) -> Vec<String> {
    let problems = Mapping::new(spec).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_row_of_our_table_becomes_a_record_keyed_by_id_and_placed_by_aggregate() {
    let event = event(&spec(), &ROW);
    assert_eq!(event.id.to_string(), ID);
    assert!(matches!(event.id, crate::event::EventId::Uuid(_)));
    assert_eq!(event.topic.as_str(), "orders");
    assert_eq!(event.key.as_deref(), Some(ID.as_bytes()));
    assert_eq!(&event.placement[..], b"o-17");
    assert_eq!(event.value.as_deref(), Some(&b"{\"a\": 1}"[..]));
    let expected = [
        ("id", ID),
        ("type", "OrderPlaced"),
        ("trace", "t1"),
        ("n", "2"),
        ("walpost-position", "00000000000000AB/00000000"),
        ("walpost-commit-time", "2023-11-14T22:13:20.000001Z"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(headers(&event), expected);
    let header_bytes: usize = expected.iter().map(|(n, v)| n.len() + v.len()).sum();
    assert_eq!(event.bytes, 36 + 8 + header_bytes);
}

#[test]
fn a_row_of_debeziums_table_becomes_the_record_that_debezium_makes() {
    let event = event(&debezium(), &DEBEZIUM_ROW);
    assert_eq!(event.topic.as_str(), "outbox.event.Order");
    assert_eq!(event.key.as_deref(), Some(&b"o-17"[..]));
    assert_eq!(&event.placement[..], b"o-17");
    let names = ["id", "walpost-position", "walpost-commit-time"];
    assert_eq!(header_names(&event), names);
}

#[test]
fn debeziums_layout_reads_row_headers_only_when_they_are_configured() {
    let row = [&DEBEZIUM_ROW[..], &[("headers", JSONB, Some("{\"a\": 1}"))]].concat();
    assert!(!header_names(&event(&debezium(), &row)).contains(&"a".to_owned()));
    let configured = MappingSpec {
        columns: vec![(Role::Headers, "headers".to_owned())],
        ..debezium()
    };
    assert!(header_names(&event(&configured, &row)).contains(&"a".to_owned()));
}

#[test]
fn the_least_table_has_an_id_a_payload_and_what_the_templates_name() {
    let row = [("id", UUID, Some(ID)), ("payload", TEXT, Some("x"))];
    let fixed = MappingSpec {
        topic: text("orders"),
        ..spec()
    };
    assert_eq!(Mapping::new(&fixed).unwrap().fixed_topic(), text("orders"));
    let event = event(&fixed, &row);
    assert_eq!(&event.placement[..], ID.as_bytes());
    let names = ["id", "walpost-position", "walpost-commit-time"];
    assert_eq!(header_names(&event), names);
}

#[test]
fn columns_of_other_names_play_their_roles_also_in_templates() {
    let row = [
        ("Event ID", TEXT, Some("e-1")),
        ("to", TEXT, Some("orders")),
        ("who", TEXT, Some("o-17")),
        ("what", TEXT, Some("Placed")),
        ("body", TEXT, Some("x")),
        ("meta", TEXT, Some("{\"a\": \"b\"}")),
    ];
    let columns = [
        (Role::Id, "Event ID"),
        (Role::Destination, "to"),
        (Role::AggregateId, "who"),
        (Role::EventType, "what"),
        (Role::Payload, "body"),
        (Role::Headers, "meta"),
    ];
    let renamed = MappingSpec {
        columns: columns
            .map(|(role, column)| (role, column.to_owned()))
            .into(),
        ..spec()
    };
    let by_role = event(&renamed, &row);
    assert_eq!(by_role.topic.as_str(), "orders");
    assert_eq!(by_role.key.as_deref(), Some(&b"e-1"[..]));
    assert_eq!(&by_role.placement[..], b"o-17");
    let start: Vec<_> = headers(&by_role).into_iter().take(3).collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        start,
        [pair("id", "e-1"), pair("type", "Placed"), pair("a", "b")]
    );
    assert_eq!(by_role.id.to_string(), "e-1");

    let by_column = MappingSpec {
        key: text("${Event ID}"),
        topic: text("${to}"),
        ..renamed
    };
    assert_eq!(all(&event(&by_column, &row)), all(&by_role));
}

#[test]
fn without_a_setting_the_partition_follows_the_aggregate_or_a_key_that_is_no_id() {
    let placed = |key: Option<&str>, partition_by: Option<&str>, row: &[Field<'_>]| {
        let spec = MappingSpec {
            key: key.map(str::to_owned),
            partition_by: partition_by.map(str::to_owned),
            ..spec()
        };
        shown(Some(&event(&spec, row).placement)).unwrap()
    };
    assert_eq!(placed(None, None, &ROW), "o-17");
    assert_eq!(placed(Some("${id}"), None, &ROW), "o-17");
    assert_eq!(placed(Some("${event_type}"), None, &ROW), "OrderPlaced");
    assert_eq!(placed(Some("x-${id}"), None, &ROW), format!("x-{ID}"));
    assert_eq!(placed(None, Some("key"), &ROW), ID);
    assert_eq!(
        placed(None, Some("${aggregate_type}/${aggregate_id}"), &ROW),
        "Order/o-17"
    );
    let no_aggregate = without(&ROW, "aggregate_id");
    assert_eq!(placed(None, None, &no_aggregate), ID);
}

#[test]
fn a_null_in_the_placement_falls_back_to_the_key_and_then_to_the_id() {
    let row = with(&ROW, "aggregate_id", None);
    assert_eq!(&event(&spec(), &row).placement[..], ID.as_bytes());
    let by_type = MappingSpec {
        key: text("${event_type}"),
        partition_by: text("${aggregate_type}-${aggregate_id}"),
        ..spec()
    };
    assert_eq!(&event(&by_type, &row).placement[..], b"OrderPlaced");
    let row = with(&row, "event_type", None);
    let event = event(&by_type, &row);
    assert_eq!(event.key, None);
    assert_eq!(&event.placement[..], ID.as_bytes());
}

#[test]
fn a_null_is_refused_where_the_record_needs_a_value() {
    for (column, refused) in [
        ("id", Reason::NullId),
        ("destination", Reason::NullTopic),
        ("payload", Reason::NullPayload),
    ] {
        assert_eq!(reason(&spec(), &with(&ROW, column, None)), refused);
    }
    let nested = MappingSpec {
        topic: text("x.${aggregate_type}"),
        ..spec()
    };
    let row = with(&ROW, "aggregate_type", None);
    assert_eq!(reason(&nested, &row), Reason::NullTopic);
}

#[test]
fn a_null_elsewhere_leaves_out_what_it_would_have_been() {
    for (column, left_out) in [
        ("aggregate_type", &[][..]),
        ("aggregate_id", &[]),
        ("event_type", &["type"]),
        ("headers", &["trace", "n"]),
        ("created_at", &[]),
    ] {
        let names = header_names(&event(&spec(), &with(&ROW, column, None)));
        let all = header_names(&event(&spec(), &ROW));
        let kept: Vec<_> = all
            .into_iter()
            .filter(|name| !left_out.contains(&name.as_str()))
            .collect();
        assert_eq!(names, kept, "{column}");
    }
}

#[test]
fn a_null_payload_can_be_a_tombstone_and_a_json_null_never_is_one() {
    let tombstone = MappingSpec {
        null_payload: NullPayload::Tombstone,
        ..spec()
    };
    let value = |spec: &MappingSpec, payload: Option<&str>| {
        event(spec, &with(&ROW, "payload", payload)).value
    };
    assert_eq!(value(&tombstone, None), None);
    assert_eq!(value(&tombstone, Some("null")).unwrap(), "null");
    assert_eq!(value(&spec(), Some("null")).unwrap(), "null");
    assert_eq!(value(&spec(), Some("")).unwrap(), "");
}

#[test]
fn templates_join_columns_text_and_our_own_values() {
    let templated = MappingSpec {
        topic: text("shop.${aggregate_type}.v1"),
        key: text("${aggregate_id}:${walpost.position}"),
        partition_by: text("${walpost.xid}"),
        headers: Some(vec![
            ("when".to_owned(), "${walpost.commit_time}".to_owned()),
            ("plain".to_owned(), "cost $5, $${id}".to_owned()),
            ("none".to_owned(), "${event_type}!".to_owned()),
        ]),
        ..spec()
    };
    let event = event(&templated, &with(&ROW, "event_type", None));
    assert_eq!(event.topic.as_str(), "shop.Order.v1");
    let key = b"o-17:00000000000000AB/00000000";
    assert_eq!(event.key.as_deref(), Some(&key[..]));
    assert_eq!(&event.placement[..], b"7");
    let headers: BTreeMap<_, _> = headers(&event).into_iter().collect();
    assert_eq!(headers["when"], "2023-11-14T22:13:20.000001Z");
    assert_eq!(headers["plain"], "cost $5, ${id}");
    assert!(!headers.contains_key("none"));
    assert!(!headers.contains_key("type"));
    assert_eq!(headers["trace"], "t1");
}

#[test]
fn topics_are_admitted_by_name_or_by_an_expression_over_the_whole_name() {
    let allow = |rules: &[&str]| MappingSpec {
        allow: rules.iter().map(|&rule| rule.to_owned()).collect(),
        ..spec()
    };
    let to = |topic| with(&ROW, "destination", Some(topic));
    for (rules, topic) in [
        (&[][..], "anything"),
        (&["orders", "bills"], "bills"),
        (&["/orders\\..*/"], "orders.eu"),
        (&["/a|b/"], "b"),
        (&["/[a-z]+/", "X"], "X"),
    ] {
        assert_eq!(event(&allow(rules), &to(topic)).topic.as_str(), topic);
    }
    for (rules, topic) in [
        (&["orders"][..], "orders2"),
        (&["orders"], "Orders"),
        (&["/orders\\..*/"], "my.orders.eu"),
        (&["/a|b/"], "ab"),
        (&["/a|b/"], "xb"),
    ] {
        let topic_checked = Topic::new(Bytes::from_static(topic.as_bytes())).unwrap();
        let refused = Reason::TopicNotAllowed(topic_checked);
        assert_eq!(reason(&allow(rules), &to(topic)), refused, "{rules:?}");
    }
}

#[test]
fn topics_that_kafka_has_not_are_undeliverable_also_when_everything_is_allowed() {
    for topic in ["", "a b", "__consumer_offsets", "..", "größe"] {
        let row = with(&ROW, "destination", Some(topic));
        assert!(
            matches!(reason(&spec(), &row), Reason::TopicIllegal(_)),
            "{topic}"
        );
    }
}

#[test]
fn row_headers_that_can_not_be_headers_are_undeliverable() {
    for headers in [
        "[]",
        "\"x\"",
        "{\"id\": 1}",
        "{\"a\": {}}",
        "{\"walpost-x\": 1}",
    ] {
        let row = with(&ROW, "headers", Some(headers));
        assert!(
            matches!(reason(&spec(), &row), Reason::Headers(_)),
            "{headers}"
        );
    }
}

#[test]
fn an_undeliverable_row_is_named_by_its_id() {
    let refused = map(&spec(), &with(&ROW, "payload", None));
    let Err(Unmapped::Event { id, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(id.to_string(), ID);
    let row = with(&with(&ROW, "payload", None), "id", Some("not a uuid\n"));
    let Err(Unmapped::Event { id, .. }) = map(&spec(), &row) else {
        panic!("a NULL payload is refused");
    };
    assert_eq!(id.to_string(), "not a uuid\\n");
}

/// One column of every type that a binary stream is read in: type, text, binary.
fn every_type() -> Vec<(u32, &'static str, Vec<u8>)> {
    vec![
        (16, "t", vec![1]),
        (16, "f", vec![0]),
        (21, "-32768", i16::MIN.to_be_bytes().into()),
        (23, "2147483647", i32::MAX.to_be_bytes().into()),
        (20, "-5", (-5_i64).to_be_bytes().into()),
        (19, "a name", b"a name".into()),
        (TEXT, "täxt", "täxt".into()),
        (1042, "ab  ", b"ab  ".into()),
        (1043, "", Vec::new()),
        (114, "{\"b\":1,  \"b\":2}", b"{\"b\":1,  \"b\":2}".into()),
        (JSONB, "{\"b\": 2}", b"\x01{\"b\": 2}".into()),
        (UUID, ID, ID_BYTES.into()),
        (BYTEA, "\\x00ff", vec![0, 0xFF]),
        (
            TIMESTAMPTZ,
            "2024-02-29 12:34:56.7+00",
            762_525_296_700_000_i64.to_be_bytes().into(),
        ),
        (
            TIMESTAMPTZ,
            "9999-12-31 23:59:59.999999+00",
            252_455_615_999_999_999_i64.to_be_bytes().into(),
        ),
        (TIMESTAMPTZ, "infinity", i64::MAX.to_be_bytes().into()),
    ]
}

#[test]
fn a_text_stream_and_a_binary_one_give_the_same_event() {
    let types = every_type();
    let names: Vec<String> = (0..types.len()).map(|n| format!("c{n}")).collect();
    let mut columns = vec![("id", UUID), ("aggregate_id", TEXT), ("payload", BYTEA)];
    columns.extend(
        names
            .iter()
            .map(String::as_str)
            .zip(types.iter().map(|t| t.0)),
    );
    let relation = relation("public", "outbox", &columns);
    let header = |name: &String| (name.clone(), format!("${{{name}}}"));
    let everything = MappingSpec {
        topic: text("orders"),
        headers: Some(names.iter().map(header).collect()),
        ..spec()
    };
    let fixed = [
        (&ID.as_bytes().to_vec(), &ID_BYTES.to_vec()),
        (&b"o-17".to_vec(), &b"o-17".to_vec()),
        (&b"\\x00017f".to_vec(), &vec![0, 1, 0x7F]),
    ];
    let owned: Vec<_> = types
        .iter()
        .map(|t| (t.1.as_bytes().to_vec(), t.2.clone()))
        .collect();
    let cells = fixed.into_iter().chain(owned.iter().map(|(t, b)| (t, b)));
    let (texts, binaries): (Vec<_>, Vec<_>) = cells
        .map(|(text, binary)| (Cell::Text(text), Cell::Binary(binary)))
        .unzip();
    let run = |format, cells: Vec<Cell<'_>>| {
        let tuple = Tuple::from_cells(cells);
        map_tuple(&everything, &relation, &Types::default(), format, &tuple).unwrap()
    };
    let as_text = run(Format::Text, texts);
    let as_binary = run(Format::Binary, binaries);
    assert_eq!(all(&as_text), all(&as_binary));
    assert_eq!(as_binary.value.as_deref(), Some(&[0, 1, 0x7F][..]));
    for (name, value) in headers(&as_binary).iter().take(types.len()) {
        let index: usize = name[1..].parse().unwrap();
        assert_eq!(*value, types[index].1.as_bytes().escape_ascii().to_string());
    }
}

#[test]
fn payloads_of_every_type_are_the_same_in_both_formats() {
    for (oid, text, binary) in every_type() {
        let columns = [("id", UUID), ("payload", oid)];
        let relation = relation("public", "outbox", &columns);
        let fixed = MappingSpec {
            topic: Some("orders".to_owned()),
            ..spec()
        };
        let value = |format, cells: [Cell<'_>; 2]| {
            let tuple = Tuple::from_cells(cells);
            let event = map_tuple(&fixed, &relation, &Types::default(), format, &tuple);
            event.unwrap().value.unwrap()
        };
        let texts = [Cell::Text(ID.as_bytes()), Cell::Text(text.as_bytes())];
        let binaries = [Cell::Binary(&ID_BYTES), Cell::Binary(&binary)];
        assert_eq!(
            value(Format::Text, texts),
            value(Format::Binary, binaries),
            "{text}"
        );
    }
}

#[test]
fn a_domain_is_read_as_the_type_below_it() {
    const DOMAIN: u32 = 16_500;
    let relation = relation(
        "public",
        "outbox",
        &[("id", DOMAIN), ("payload", DOMAIN + 1)],
    );
    let fixed = MappingSpec {
        topic: text("orders"),
        ..spec()
    };
    let mut types = Types::default();
    types.learn(&described(DOMAIN, "", "uuid"));
    types.learn(&described(DOMAIN + 1, "", "jsonb"));
    let tuple = Tuple::from_cells([Cell::Binary(&ID_BYTES), Cell::Binary(b"\x01{}")]);
    let event = map_tuple(&fixed, &relation, &types, Format::Binary, &tuple).unwrap();
    assert_eq!(event.id.to_string(), ID);
    assert_eq!(event.value.unwrap(), "{}");
}

fn described(type_oid: u32, namespace: &str, name: &str) -> Type {
    Type {
        type_oid,
        namespace: Bytes::copy_from_slice(namespace.as_bytes()),
        name: Bytes::copy_from_slice(name.as_bytes()),
    }
}

/// The key of a row that a binary stream brings, whose column is of that type; or the refusal.
fn binary_key(types: &Types, type_oid: u32, binary: &[u8]) -> String {
    let columns = [("id", UUID), ("label", type_oid), ("payload", BYTEA)];
    let relation = relation("public", "outbox", &columns);
    let by_label = MappingSpec {
        topic: text("orders"),
        key: text("${label}"),
        ..spec()
    };
    let mapping = Mapping::new(&by_label).unwrap();
    let binding = match mapping.bind(&relation, types, Format::Binary) {
        Ok(binding) => binding,
        Err(error) => return error.to_string(),
    };
    let cells = [
        Cell::Binary(&ID_BYTES),
        Cell::Binary(binary),
        Cell::Binary(b""),
    ];
    let event = binding.event(&mapping, &Tuple::from_cells(cells), &transaction());
    String::from_utf8(event.unwrap().key.unwrap().to_vec()).unwrap()
}

#[test]
fn an_enum_is_its_label_where_the_catalogue_said_so() {
    const ENUM: u32 = 16_700;
    const DOMAIN_OF_IT: u32 = 16_701;
    let mut types = Types::new([ENUM, DOMAIN_OF_IT].into());
    types.learn(&described(ENUM, "shop", "mood"));
    types.learn(&described(DOMAIN_OF_IT, "shop", "mood"));
    for oid in [ENUM, DOMAIN_OF_IT] {
        assert_eq!(binary_key(&types, oid, "größer".as_bytes()), "größer");
    }
    let error = binary_key(&Types::default(), ENUM, b"ok");
    assert!(error.contains("(oid 16700)"), "{error}");
}

#[test]
fn a_type_that_only_has_the_name_of_a_built_in_one_is_not_read_as_it() {
    const OWN: u32 = 16_900;
    for name in ["int4", "text", "uuid", "jsonb"] {
        let mut types = Types::default();
        types.learn(&described(OWN, "shop", name));
        let refused = binary_key(&types, OWN, &[0, 0, 0, 7]);
        assert!(refused.contains("(oid 16900)"), "{name}: {refused}");
    }
    let mut types = Types::default();
    types.learn(&described(OWN, "", "int4"));
    assert_eq!(binary_key(&types, OWN, &[0, 0, 0, 7]), "7");
}

#[test]
fn the_readable_types_are_those_of_the_documentation() {
    let readable = [
        "bool",
        "bytea",
        "name",
        "int8",
        "int2",
        "int4",
        "text",
        "json",
        "bpchar",
        "varchar",
        "timestamptz",
        "uuid",
        "jsonb",
    ];
    assert!(readable.into_iter().all(is_read_in_binary));
    for other in [
        "numeric",
        "timestamp",
        "_int4",
        "char",
        "date",
        "float8",
        "citext",
        "",
    ] {
        assert!(!is_read_in_binary(other), "{other}");
    }
}

#[test]
fn an_empty_text_is_a_value_wherever_it_stands() {
    let row = with(
        &with(&ROW, "aggregate_id", Some("")),
        "event_type",
        Some(""),
    );
    let by_type = MappingSpec {
        key: text("${event_type}"),
        partition_by: text("${aggregate_id}"),
        ..spec()
    };
    let event = event(&by_type, &with(&row, "payload", Some("")));
    assert_eq!(event.key.as_deref(), Some(&b""[..]));
    assert_eq!(&event.placement[..], b"");
    assert_eq!(event.value.as_deref(), Some(&b""[..]));
    assert!(headers(&event).contains(&("type".to_owned(), String::new())));
}

#[test]
fn row_headers_that_are_null_in_json_are_none() {
    for none in [None, Some("null"), Some("{}")] {
        let names = header_names(&event(&spec(), &with(&ROW, "headers", none)));
        assert_eq!(
            names,
            ["id", "type", "walpost-position", "walpost-commit-time"]
        );
    }
}

#[test]
fn a_type_without_a_binary_reading_is_refused_in_a_binary_stream_only() {
    let row = [
        ("id", UUID, Some(ID)),
        ("destination", TEXT, Some("orders")),
        ("amount", NUMERIC, Some("1.50")),
        ("payload", BYTEA, Some("\\x00")),
    ];
    let by_amount = MappingSpec {
        key: text("${amount}"),
        ..spec()
    };
    let key = event(&by_amount, &row).key;
    assert_eq!(key.as_deref(), Some(&b"1.50"[..]));
    let error = bind_error(&by_amount, &row, Format::Binary);
    assert!(
        error.contains("'amount' of public.outbox, which route.key needs, has a type (oid 1700)"),
        "{error}"
    );
    let unmapped = Mapping::new(&spec()).unwrap();
    let bound = unmapped.bind(&shape(&row), &Types::default(), Format::Binary);
    assert!(
        bound.is_ok(),
        "a column that nobody names may have any type"
    );
}

#[test]
fn columns_that_are_missing_are_named_with_the_setting_that_needs_them() {
    let error =
        |spec: &MappingSpec, missing: &str| bind_error(spec, &without(&ROW, missing), Format::Text);
    for (column, used_by) in [
        ("id", "outbox.columns.id"),
        ("payload", "outbox.columns.payload"),
        ("destination", "route.topic"),
    ] {
        let expected =
            format!("the table public.outbox has no column '{column}', which {used_by} needs");
        assert_eq!(error(&spec(), column), expected);
    }
    let key = MappingSpec {
        key: text("${customer}"),
        ..spec()
    };
    assert!(error(&key, "id").contains("outbox.columns.id"));
    assert!(bind_error(&key, &ROW, Format::Text).contains("'customer', which route.key needs"));
    let placed = MappingSpec {
        partition_by: text("${tenant}"),
        ..spec()
    };
    let expected = "'tenant', which route.partition_by needs";
    assert!(bind_error(&placed, &ROW, Format::Text).contains(expected));
    let header = MappingSpec {
        headers: Some(vec![("type".to_owned(), "${event_type}".to_owned())]),
        ..spec()
    };
    assert!(error(&header, "event_type").contains("'event_type', which route.headers.type needs"));
    let configured = MappingSpec {
        columns: vec![(Role::CreatedAt, "at".to_owned())],
        ..spec()
    };
    let expected = "'at', which outbox.columns.created_at needs";
    assert!(bind_error(&configured, &ROW, Format::Text).contains(expected));
}

#[test]
fn columns_that_only_the_layout_names_may_be_missing() {
    for column in [
        "aggregate_type",
        "aggregate_id",
        "event_type",
        "headers",
        "created_at",
    ] {
        event(&spec(), &without(&ROW, column));
    }
}

#[test]
fn a_mapping_of_too_many_columns_is_refused() {
    let names: Vec<String> = (0..MAPPED_COLUMNS_MAX).map(|n| format!("c{n}")).collect();
    let mut row = vec![("id", UUID, Some(ID)), ("payload", TEXT, Some("x"))];
    row.extend(names.iter().map(|name| (name.as_str(), TEXT, Some("v"))));
    let named = |count: usize| MappingSpec {
        topic: Some("orders".to_owned()),
        key: Some(names[..count].iter().map(|n| format!("${{{n}}}")).collect()),
        ..spec()
    };
    let most = MAPPED_COLUMNS_MAX - 2;
    assert_eq!(event(&named(most), &row).key.unwrap().len(), most);
    let error = bind_error(&named(most + 1), &row, Format::Text);
    assert!(error.contains("more than 32 columns of public.outbox"));
}

#[test]
fn a_table_described_anew_is_bound_by_names_and_not_by_places() {
    let mut turned = ROW;
    for _ in 0..ROW.len() {
        turned.rotate_left(1);
        assert_eq!(all(&event(&spec(), &turned)), all(&event(&spec(), &ROW)));
    }
    let wider = [&[("added", NUMERIC, Some("1"))], &ROW[..]].concat();
    assert_eq!(all(&event(&spec(), &wider)), all(&event(&spec(), &ROW)));
}

#[test]
fn names_are_compared_as_postgres_stores_them() {
    let outbox = |tables: &[(&str, &str)], schema: &str, name: &str| {
        let spec = MappingSpec {
            tables: tables.iter().map(|(s, n)| table_of(s, n)).collect(),
            ..spec()
        };
        let relation = relation(schema, name, &[]);
        Mapping::new(&spec).unwrap().is_outbox(&relation)
    };
    assert!(outbox(&[("public", "outbox")], "public", "outbox"));
    assert!(outbox(
        &[("a", "b"), ("public", "outbox")],
        "public",
        "outbox"
    ));
    assert!(outbox(&[("Shop.EU", "out\"box")], "Shop.EU", "out\"box"));
    assert!(outbox(&[("größe", "Outbox")], "größe", "Outbox"));
    assert!(outbox(&[("pg_catalog", "outbox")], "", "outbox"));
    assert!(!outbox(&[("public", "outbox")], "public", "Outbox"));
    assert!(!outbox(&[("public", "outbox")], "other", "outbox"));
    assert!(!outbox(&[("public", "outbox")], "", "outbox"));
    assert!(!outbox(&[("a", "b.c")], "a.b", "c"));
}

#[test]
fn columns_with_odd_names_are_found_in_templates() {
    let row = [
        ("ID", UUID, Some(ID)),
        ("pay.load", TEXT, Some("x")),
        ("the \"key\"", TEXT, Some("k")),
        ("destination", TEXT, Some("orders")),
        ("größe", TEXT, Some("XL")),
    ];
    let odd = MappingSpec {
        columns: vec![
            (Role::Id, "ID".to_owned()),
            (Role::Payload, "pay.load".to_owned()),
        ],
        key: text("${the \"key\"}-${größe}-${pay.load}"),
        ..spec()
    };
    let key = event(&odd, &row).key.unwrap();
    assert_eq!(key, "k-XL-x");
    let wrong_case = MappingSpec {
        columns: Vec::new(),
        ..odd
    };
    assert!(bind_error(&wrong_case, &row, Format::Text).contains("no column 'payload'"));
}

#[test]
fn a_row_that_is_not_what_the_table_promised_is_a_fault_of_the_stream() {
    let stream_fault = |tuple: &Tuple, format| {
        let row = [
            ("id", UUID, None),
            ("destination", TEXT, None),
            ("payload", JSONB, None),
        ];
        match map_tuple(&spec(), &shape(&row), &Types::default(), format, tuple) {
            Err(Unmapped::Stream(problem)) => problem,
            other => panic!("{other:?}"),
        }
    };
    let short = Tuple::from_cells([Cell::Text(b"x")]);
    assert!(stream_fault(&short, Format::Text).contains("number of columns"));
    let toasted = [Cell::Text(b"x"), Cell::Text(b"orders"), Cell::Unchanged];
    let toasted = Tuple::from_cells(toasted);
    assert!(stream_fault(&toasted, Format::Text).contains("unchanged"));
    let no_uuid = [
        Cell::Binary(b"short"),
        Cell::Binary(b"orders"),
        Cell::Binary(b"\x01{}"),
    ];
    let no_uuid = Tuple::from_cells(no_uuid);
    assert!(stream_fault(&no_uuid, Format::Binary).contains("another length"));
}

#[test]
fn every_problem_of_a_specification_is_reported_at_once() {
    let broken = MappingSpec {
        tables: Vec::new(),
        columns: vec![(Role::Payload, String::new())],
        topic: text("a.${b"),
        key: text(""),
        partition_by: text("${walpost.lsn}"),
        headers: Some(vec![
            ("walpost-x".to_owned(), "x".to_owned()),
            (String::new(), "${}".to_owned()),
        ]),
        allow: vec!["a b".to_owned(), "/(/".to_owned(), "fine".to_owned()],
        ..MappingSpec::default()
    };
    let problems = problems(&broken);
    let starts = [
        "outbox.table: name at least one table",
        "outbox.columns.payload: the column's name is empty",
        "route.topic: the '${' at byte 2 has no '}'",
        "route.key: the template is empty",
        "route.partition_by: '${walpost.lsn}' is not known",
        "route.headers.walpost-x: a header needs a name",
        "route.headers.: a header needs a name",
        "route.headers.: the '${}' at byte 0 names nothing",
        "route.allow: 'a b': the topic name has ' ' at byte 1",
        "route.allow: '/(/': ",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

#[test]
fn a_mapping_answers_what_the_start_gate_asks() {
    let mapping = Mapping::new(&debezium()).unwrap();
    assert_eq!(mapping.tables(), [table_of("public", "outbox")]);
    assert_eq!(mapping.column(Role::EventType), "type");
    assert_eq!(mapping.column(Role::Payload), "payload");
    assert_eq!(mapping.fixed_topic(), None);
}
