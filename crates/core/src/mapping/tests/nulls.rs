//! NULL and the empty text in each place.

use super::*;

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
    let bytes = |payload| event(&tombstone, &with(&ROW, "payload", payload)).bytes;
    assert_eq!(bytes(None), bytes(Some("")), "nothing has no bytes");
    assert_eq!(value(&tombstone, Some("null")).unwrap(), "null");
    assert_eq!(value(&spec(), Some("null")).unwrap(), "null");
    assert_eq!(value(&spec(), Some("")).unwrap(), "");
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
