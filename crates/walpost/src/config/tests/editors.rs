//! The JSON Schema says of a file what we say, as far as a schema can.

use regex::Regex;
use serde_json::Value;

use super::super::json_schema;
use super::load_with;

/// The schema, and a validator of the keywords that it uses (JSON Schema, draft 2020-12).
pub(super) struct Schema(Value);

impl Schema {
    pub(super) fn new() -> Self {
        Self(json_schema())
    }

    /// Whether the schema refuses a file that is YAML.
    pub(super) fn refuses(&self, file: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(file) else {
            return false;
        };
        let Ok(value) = serde_saphyr::from_str::<Value>(text) else {
            return false;
        };
        !self.takes(&self.0, &value)
    }

    fn takes(&self, schema: &Value, value: &Value) -> bool {
        if let Value::Bool(taken) = schema {
            return *taken;
        }
        let rules = schema.as_object().expect("a schema is an object");
        rules
            .iter()
            .all(|(keyword, rule)| self.keeps(rules, keyword, rule, value))
    }

    fn keeps(
        &self,
        rules: &serde_json::Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
    ) -> bool {
        let schemas = || rule.as_array().expect("a list of schemas");
        let names = || {
            rule.as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
        };
        match keyword {
            "$schema" | "title" | "description" | "default" | "examples" | "$defs" => true,
            "$ref" => {
                let pointer = rule.as_str().and_then(|pointer| pointer.strip_prefix('#'));
                let target = pointer.and_then(|pointer| self.0.pointer(pointer));
                self.takes(target.expect("a reference leads somewhere"), value)
            }
            "type" => match rule.as_str() {
                Some(name) => is_of(name, value),
                None => names().any(|name| is_of(name, value)),
            },
            "enum" => schemas().contains(value),
            "anyOf" => schemas().iter().any(|schema| self.takes(schema, value)),
            "allOf" => schemas().iter().all(|schema| self.takes(schema, value)),
            "not" => !self.takes(rule, value),
            "pattern" => value.as_str().is_none_or(|text| {
                let pattern = rule.as_str().expect("a pattern is a text");
                Regex::new(pattern).unwrap().is_match(text)
            }),
            "minLength" | "maxLength" | "minimum" | "maximum" => is_within(keyword, rule, value),
            "minItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "uniqueItems" => value.as_array().is_none_or(|items| {
                (1..items.len()).all(|place| !items[..place].contains(&items[place]))
            }),
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| self.takes(rule, item))),
            "required" => value
                .as_object()
                .is_none_or(|object| names().all(|name| object.contains_key(name))),
            "propertyNames" => value.as_object().is_none_or(|object| {
                object
                    .keys()
                    .all(|name| self.takes(rule, &Value::from(name.as_str())))
            }),
            "properties" => value.as_object().is_none_or(|object| {
                object
                    .iter()
                    .all(|(name, value)| rule.get(name).is_none_or(|rule| self.takes(rule, value)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let is_known = |name: &str| {
                    rules
                        .get("properties")
                        .is_some_and(|p| p.get(name).is_some())
                };
                object
                    .iter()
                    .all(|(name, value)| is_known(name) || self.takes(rule, value))
            }),
            other => panic!("the validator does not know {other}"),
        }
    }
}

fn is_within(keyword: &str, rule: &Value, value: &Value) -> bool {
    let limit = rule.as_f64().expect("a limit is a number");
    let measured = if keyword.ends_with("Length") {
        value.as_str().map(|text| text.chars().count() as f64)
    } else {
        value.as_f64()
    };
    let is_kept = |measured: f64| {
        if keyword.starts_with("min") {
            measured >= limit
        } else {
            measured <= limit
        }
    };
    measured.is_none_or(is_kept)
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    }
}

/// As if both required keys were given elsewhere.
fn is_taken(yaml: &str) -> bool {
    let set = ["postgres.url=postgresql://u@db/shop", "kafka.brokers=k:1"];
    load_with(yaml, &[("X", "5")], &set).is_ok()
}

#[test]
fn the_schema_takes_what_we_take() {
    let schema = Schema::new();
    for yaml in TAKEN {
        assert!(
            is_taken(yaml),
            "we refuse {yaml}: {:?}",
            load_with(yaml, &[], &[])
        );
        assert!(
            !schema.refuses(yaml.as_bytes()),
            "the schema refuses {yaml}"
        );
    }
}

#[test]
fn the_schema_refuses_what_we_refuse() {
    let schema = Schema::new();
    for yaml in REFUSED {
        assert!(!is_taken(yaml), "we take {yaml}");
        assert!(schema.refuses(yaml.as_bytes()), "the schema takes {yaml}");
    }
}

#[test]
fn every_secret_that_the_schema_knows_is_one() {
    let schema = json_schema();
    let properties = &schema["properties"]["kafka"]["properties"]["properties"]["properties"];
    for name in properties.as_object().unwrap().keys() {
        let secret = name.strip_suffix("_file").unwrap_or(name);
        assert!(walpost_kafka::is_secret(secret), "{name}");
    }
}

#[test]
fn every_key_has_a_description_and_an_example() {
    let schema = json_schema();
    for key in super::super::schema::KEYS {
        let pointer = format!("/properties/{}", key.path.replace('.', "/properties/"));
        let of_key = schema.pointer(&pointer).unwrap();
        let description = of_key["description"].as_str().unwrap();
        assert!(description.ends_with('.'), "{}", key.path);
        assert!(!description.contains("]("), "{}", key.path);
        let examples = of_key["examples"].as_array().unwrap();
        assert!(Schema::new().takes(of_key, &examples[0]), "{}", key.path);
        if let Some(default) = of_key.get("default") {
            assert!(Schema::new().takes(of_key, default), "{}", key.path);
        }
    }
}

const TAKEN: &[&str] = &[
    "",
    "{}",
    "postgres:",
    "postgres: {slot: orders_1, publication: P b}",
    "postgres: {slot: 1, publication: 1.5}",
    "postgres: {slot: true}",
    "postgres: {password: 007}",
    "postgres: {password: 1e5}",
    "postgres: {password_command: echo x}",
    "postgres: {password_command: [echo, 1, true]}",
    "postgres: {slot: 'a${env:X}'}",
    "outbox: {table: a}",
    "outbox: {table: [a, b.c, '\"A b\".\"c\"\"d\"']}",
    "outbox: {layout: debezium, null_payload: tombstone, columns: {id: x, payload: 5}}",
    "route: {topic: '${destination}', key: a, partition_by: key, headers: {a: 1, b: '${id}'}}",
    "route: {allow: a}",
    "route: {allow: [a, 1, '/a.*/', '/a\\nb/']}",
    "route: {headers: {}}",
    "kafka: {brokers: 'a:1,b:2', unsafe: true}",
    "kafka: {unsafe: 'false'}",
    "kafka: {properties: {linger.ms: 5, compression.type: zstd, socket.keepalive.enable: true}}",
    "kafka: {topics: {create: {}}}",
    "kafka: {topics: {create: {partitions: 3, replication: '2', config: {retention.ms: -1}}}}",
    "delivery: {in_flight_events: 5, in_flight_bytes: 5, unknown_topic_after: 0s}",
    "delivery: {in_flight_events: '5', in_flight_bytes: 5 KiB, on_undeliverable: halt}",
    "delivery: {in_flight_events: '${env:X}', in_flight_bytes: '${env:X}MiB'}",
    "shutdown: {drain: 100 ms}",
];

const REFUSED: &[&str] = &[
    "a",
    "[a]",
    "nothing: {}",
    "http: {listen: x}",
    "postgres: a",
    "postgres: [a]",
    "postgres: {slto: x}",
    "postgres: {slot: A}",
    "postgres: {slot: }",
    "postgres: {slot: 1.5}",
    "postgres: {slot: -1}",
    "postgres: {slot: [a]}",
    "postgres: {publication: ''}",
    "postgres: {password: {a: b}}",
    "postgres: {password: a, password_file: /etc/hostname}",
    "postgres: {password: a, password_command: b}",
    "postgres: {password_file: ''}",
    "postgres: {password_command: []}",
    "postgres: {password_command: ''}",
    "outbox: {table: []}",
    "outbox: {table: [a, a]}",
    "outbox: {table: A}",
    "outbox: {table: a.b.c}",
    "outbox: {table: {a: b}}",
    "outbox: {layout: debesium}",
    "outbox: {columns: {agregate_id: x}}",
    "outbox: {columns: [id]}",
    "route: {topic: ''}",
    "route: {topic: [a]}",
    "route: {allow: []}",
    "route: {allow: [a b]}",
    "route: {headers: {walpost-x: a}}",
    "route: {headers: {a: ''}}",
    "kafka: {unsafe: perhaps}",
    "kafka: {properties: {sasl: {username: x}}}",
    "kafka: {properties: {sasl.password: x, sasl.password_file: /etc/hostname}}",
    "kafka: {topics: {create: {partitions: 0}}}",
    "kafka: {topics: {create: {partition: 3}}}",
    "kafka: {topics: {create: 3}}",
    "delivery: {in_flight_events: 0}",
    "delivery: {in_flight_events: 10000001}",
    "delivery: {in_flight_events: many}",
    "delivery: {in_flight_bytes: 0}",
    "delivery: {in_flight_bytes: 64M}",
    "delivery: {unknown_topic_after: 5}",
    "delivery: {on_undeliverable: skip}",
    "delivery: {dead_letter_topic: a b}",
    "shutdown: {drain: 5 parsecs}",
];
