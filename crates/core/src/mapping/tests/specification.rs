//! The configuration of a mapping, before any table is seen.

use super::*;

fn problems(spec: &MappingSpec) -> Vec<String> {
    let problems = Mapping::new(spec).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
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
