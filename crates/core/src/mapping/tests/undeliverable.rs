//! Rows that can be no event, and what is said of them.

use super::*;

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
    let Err(Unmapped::Event(refusal)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.id.to_string(), ID);
    let row = with(&with(&ROW, "payload", None), "id", Some("not a uuid\n"));
    let Err(Unmapped::Event(refusal)) = map(&spec(), &row) else {
        panic!("a NULL payload is refused");
    };
    assert_eq!(refusal.id.to_string(), "not a uuid\\n");
}
