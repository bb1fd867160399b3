//! A mapping meets a table: which columns it needs, and where it finds them.

use super::*;
use crate::limits::MAPPED_COLUMNS_MAX;

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
