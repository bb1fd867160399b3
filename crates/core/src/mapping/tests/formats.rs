//! Types, and that a text stream and a binary one say the same.

use walpost_pgoutput::Type;

use super::*;

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
