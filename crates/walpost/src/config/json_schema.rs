//! The configuration as a JSON Schema (draft 2020-12), for editors and for checks before a start.
//!
//! It never refuses what we take. What it can't tell, such as a template with a mistake or two
//! spellings of one property, it lets through.

use serde_json::{Map, Value, json};
use walpost_core::Role;

use super::raw;
use super::schema::{Form, KEYS, Key, Kind, PROPERTIES};

/// Where the reference of the keys is.
const TITLE: &str = "walpost.yaml";

/// Secrets among librdkafka's properties: each has a form that names a file.
const SECRET_PROPERTIES: &[&str] = &[
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.certificate.pem",
    "ssl.ca.pem",
    "ssl.keystore.password",
];

/// Keys of which one at most can be given.
const ALTERNATIVES: &[&[&str]] = &[&[
    "postgres.password",
    "postgres.password_file",
    "postgres.password_command",
]];

/// A topic's name, as Kafka allows it.
const TOPIC: &str = "^[a-zA-Z0-9._-]{1,249}$";

/// A table's name in one or two parts, in lower case or in double quotes.
const TABLE: &str =
    r#"^\s*(?:[^".A-Z\s]+|"(?:[^"]|"")+")(?:\.(?:[^".A-Z\s]+|"(?:[^"]|"")+"))?\s*$"#;

/// The whole schema.
pub(crate) fn json_schema() -> Value {
    let mut root = group("");
    let about =
        "Configuration of walpost: every committed row of a Postgres outbox table to Kafka.";
    let defs = json!({
        "reference": {
            "description": "A text with ${env:NAME} or ${file:PATH} in it.",
            "type": "string",
            "pattern": r"\$\{(?:env|file):",
        },
    });
    let object = root.as_object_mut().expect("a group is an object");
    object.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    object.insert("title".to_owned(), json!(TITLE));
    object.insert("description".to_owned(), json!(about));
    object.insert("$defs".to_owned(), defs);
    root
}

/// The keys below a path, which is empty for the sections.
fn group(above: &str) -> Value {
    let mut properties = Map::new();
    for key in KEYS {
        let below = match above {
            "" => Some(key.path),
            _ => key
                .path
                .strip_prefix(above)
                .and_then(|rest| rest.strip_prefix('.')),
        };
        let Some(below) = below else {
            continue;
        };
        let name = below.split('.').next().unwrap_or(below);
        if properties.contains_key(name) {
            continue;
        }
        let schema = if name == below {
            of_key(key)
        } else if above.is_empty() {
            group(name)
        } else {
            group(&format!("{above}.{name}"))
        };
        properties.insert(name.to_owned(), schema);
    }
    let mut group = json!({
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    });
    let exclusive: Vec<Value> = ALTERNATIVES
        .iter()
        .flat_map(|paths| exclusive(above, paths))
        .collect();
    if !exclusive.is_empty() {
        group["allOf"] = exclusive.into();
    }
    group
}

/// Not two of these keys, as far as they are in this group.
fn exclusive(above: &str, paths: &[&str]) -> Vec<Value> {
    let name = |path: &&str| {
        let (group, name) = path.rsplit_once('.')?;
        (group == above).then(|| name.to_owned())
    };
    not_two(&paths.iter().filter_map(name).collect::<Vec<_>>())
}

fn not_two(names: &[String]) -> Vec<Value> {
    let mut rules = Vec::new();
    for (place, first) in names.iter().enumerate() {
        for second in &names[place + 1..] {
            rules.push(json!({ "not": { "type": "object", "required": [first, second] } }));
        }
    }
    rules
}

fn of_key(key: &Key) -> Value {
    let one = scalar(key.form);
    let mut schema = match key.kind {
        Kind::Text => one,
        Kind::List => {
            let mut list = json!({ "type": "array", "items": one, "minItems": 1 });
            if key.form == Form::Table {
                list["uniqueItems"] = json!(true);
            }
            json!({ "anyOf": [one, list] })
        }
        Kind::Map => map(key, &one),
    };
    schema["description"] = json!(plain(key.description));
    if let Some(default) = key.default {
        schema["default"] = typed(default, key.form);
    }
    schema["examples"] = json!([example(key)]);
    schema
}

fn scalar(form: Form) -> Value {
    // A number or a boolean is the text that stands in the file.
    let any = json!(["string", "number", "boolean"]);
    let whole = json!(["string", "integer", "boolean"]);
    let schema = match form {
        Form::Conninfo | Form::Secret | Form::Property | Form::TopicSetting => {
            json!({ "type": any })
        }
        Form::SecretFile | Form::Command | Form::Template | Form::Broker => {
            json!({ "type": any, "minLength": 1 })
        }
        Form::Slot => json!({ "type": whole, "pattern": "^[a-z0-9_]{1,63}$", "minimum": 0 }),
        Form::Name(bytes_max) => json!({ "type": any, "minLength": 1, "maxLength": bytes_max }),
        Form::Table => json!({ "type": whole, "pattern": TABLE, "minimum": 0 }),
        Form::Word(words) => json!({ "enum": words }),
        Form::Boolean => json!({ "enum": [true, false, "true", "false"] }),
        Form::Number(min, max) => json!({
            "type": ["integer", "string"],
            "minimum": min,
            "maximum": max,
            "pattern": r"^\+?[0-9]+$",
        }),
        Form::Duration => json!({
            "type": "string",
            "pattern": r"^\s*[0-9]+\s*(?:ms|s|m|min|h)\s*$",
        }),
        Form::Size => json!({
            "type": ["integer", "string"],
            "minimum": 1,
            "pattern": r"^\s*[0-9]+\s*(?:B|[kK]B|[MG]B|[KMG]iB)?\s*$",
        }),
        Form::Topic => json!({ "type": whole, "pattern": TOPIC, "minimum": 0 }),
        Form::TopicRule => json!({
            "type": any,
            "pattern": r"^(?:[a-zA-Z0-9._-]{1,249}|/[\s\S]*/)$",
        }),
    };
    let takes_every_text = schema.as_object().is_some_and(|schema| schema.len() == 1)
        && schema["type"].is_array()
        || schema["minLength"] == json!(1) && schema["maxLength"].is_null();
    if takes_every_text {
        return schema;
    }
    json!({ "anyOf": [schema, { "$ref": "#/$defs/reference" }] })
}

fn map(key: &Key, one: &Value) -> Value {
    match key.path {
        "outbox.columns" => {
            let properties: Map<String, Value> = Role::ALL
                .into_iter()
                .map(|role| (role.name().to_owned(), one.clone()))
                .collect();
            json!({ "type": "object", "properties": properties, "additionalProperties": false })
        }
        "route.headers" => json!({
            "type": "object",
            "propertyNames": { "minLength": 1, "not": { "pattern": "^walpost-" } },
            "additionalProperties": one,
        }),
        PROPERTIES => {
            let mut properties = Map::new();
            let mut rules = Vec::new();
            for name in SECRET_PROPERTIES {
                let file = format!("{name}_file");
                let mut of_file = scalar(Form::SecretFile);
                of_file["description"] = json!(format!("A file that holds {name}."));
                properties.insert((*name).to_owned(), one.clone());
                properties.insert(file.clone(), of_file);
                rules.extend(not_two(&[(*name).to_owned(), file]));
            }
            json!({
                "type": "object",
                "properties": properties,
                "additionalProperties": one,
                "allOf": rules,
            })
        }
        _ => json!({ "type": "object", "additionalProperties": one }),
    }
}

/// The example, as an editor would insert it.
fn example(key: &Key) -> Value {
    let node = raw::parse(key.example).expect("an example is YAML");
    value(&node.value, key.form)
}

fn value(value: &raw::Value, form: Form) -> Value {
    match value {
        raw::Value::Null => Value::Null,
        raw::Value::Scalar(text) => typed(text, form),
        raw::Value::List(nodes) => nodes
            .iter()
            .map(|node| self::value(&node.value, form))
            .collect(),
        raw::Value::Map(entries) => {
            let entry = |(name, node): &(raw::Node, raw::Node)| {
                let raw::Value::Scalar(name) = &name.value else {
                    return None;
                };
                Some((name.clone(), self::value(&node.value, form)))
            };
            Value::Object(entries.iter().filter_map(entry).collect())
        }
    }
}

fn typed(text: &str, form: Form) -> Value {
    if form == Form::Boolean {
        return json!(text == "true");
    }
    match text.parse::<u64>() {
        Ok(number) if matches!(form, Form::Number(..)) => json!(number),
        _ => json!(text),
    }
}

/// Markdown without the targets of its links.
fn plain(description: &str) -> String {
    let mut text = String::new();
    let mut rest = description;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(&before.replacen('[', "", 1));
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text + rest
}
