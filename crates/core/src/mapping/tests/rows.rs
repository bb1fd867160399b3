//! What a row becomes: topic, key, placement, value and headers.

use std::collections::BTreeMap;

use super::*;
use crate::event::EventId;

#[test]
fn a_row_of_our_table_becomes_a_record_keyed_by_id_and_placed_by_aggregate() {
    let event = event(&spec(), &ROW);
    assert_eq!(event.id.to_string(), ID);
    assert!(matches!(event.id, EventId::Uuid(_)));
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
fn what_is_one_column_is_a_slice_of_the_row_and_no_copy() {
    let tuple = tuple(&ROW);
    let (types, shape) = (Types::default(), shape(&ROW));
    let event = map_tuple(&spec(), &shape, &types, Format::Text, &tuple).unwrap();
    let start = |cell| {
        let Cell::Text(text) = cell else {
            panic!("the row has a text in each column");
        };
        text.as_ptr()
    };
    let cells: Vec<_> = tuple.cells().map(start).collect();
    assert_eq!(event.key.unwrap().as_ptr(), cells[0]);
    assert_eq!(event.placement.as_ptr(), cells[3]);
    assert_eq!(event.value.unwrap().as_ptr(), cells[5]);
}

#[test]
fn an_id_in_a_column_of_text_is_known_as_it_is_written() {
    let written = ID.to_uppercase();
    let row = [
        ("id", TEXT, Some(written.as_str())),
        ("destination", TEXT, Some("orders")),
        ("payload", TEXT, Some("x")),
    ];
    assert_eq!(event(&spec(), &row).id.to_string(), written);
}
