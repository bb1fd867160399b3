//! Environment variables and `--set` flags become entries.

use super::layer::{Given, Layer};
use super::problem::Origin;
use super::reader;
use super::references::Variables;
use super::schema::{self, Kind, PROPERTIES, TOPIC_SETTINGS};

/// What all our variables begin with.
const PREFIX: &str = "WALPOST_";

/// What stands between the levels of a key.
const LEVEL: &str = "__";

/// Reads the variables that have the form of a key, `WALPOST_SECTION__KEY`. Others are not ours:
/// orchestrators make variables like `WALPOST_PORT` for a service of that name. `unreadable` are
/// the names of variables that are not UTF-8.
pub(super) fn from_environment(variables: &Variables, unreadable: &[String]) -> Layer {
    let mut layer = Layer::default();
    for (variable, value) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let origin = Origin::Environment(variable.clone());
        let lower = rest.to_ascii_lowercase();
        if !rest.contains(LEVEL) {
            if let Some(meant) = without_level(&lower) {
                let text = format!("two underscores stand between levels: {meant}");
                layer.problem(origin, "", text);
            }
            continue;
        }
        // Compose files pass a variable on as empty where it is not set.
        if value.is_empty() {
            continue;
        }
        let (path, name) = levels(&lower);
        if schema::key(&path).is_none()
            && let Some(meant) = without_level(&lower.replace(LEVEL, "_"))
        {
            let text = format!("two underscores stand between levels: {meant}");
            layer.problem(origin, "", text);
            continue;
        }
        assign(&mut layer, &path, name, value, &origin);
    }
    for variable in unreadable {
        let is_ours = variable.strip_prefix(PREFIX);
        if is_ours.is_some_and(|rest| rest.contains(LEVEL)) {
            let origin = Origin::Environment(variable.clone());
            layer.problem(origin, "", "its value is not UTF-8 text");
        }
    }
    layer
}

/// Reads `key=value` texts.
pub(super) fn from_flags(flags: &[String]) -> Layer {
    let mut layer = Layer::default();
    for flag in flags {
        layer.overlay(from_flag(flag));
    }
    layer
}

/// Of several flags for one key the last one counts.
fn from_flag(flag: &str) -> Layer {
    let mut layer = Layer::default();
    let Some((path, value)) = flag.split_once('=') else {
        let text = "needs the form KEY=VALUE, as postgres.slot=orders";
        layer.problem(Origin::Flag, "", text);
        return layer;
    };
    let below = schema::KEYS.iter().find_map(|key| {
        let name = path.strip_prefix(key.path)?.strip_prefix('.')?;
        Some((key.path, name.to_owned()))
    });
    match below {
        Some((path, name)) => assign(&mut layer, path, Some(name), value, &Origin::Flag),
        None => assign(&mut layer, path, None, value, &Origin::Flag),
    }
    layer
}

/// The key of a variable, and the name inside a map.
fn levels(lower: &str) -> (String, Option<String>) {
    let levels: Vec<&str> = lower.split(LEVEL).collect();
    let depths = (1..levels.len()).rev();
    for depth in depths {
        let path = levels[..depth].join(".");
        if schema::key(&path).is_some() {
            let name = variable_name(&path, &levels[depth..].join(LEVEL));
            return (path, Some(name));
        }
    }
    (levels.join("."), None)
}

/// The variable that was meant by one without the two underscores.
fn without_level(lower: &str) -> Option<String> {
    schema::KEYS.iter().find_map(|key| {
        let name = lower.strip_prefix(&key.path.replace('.', "_"))?;
        let variable = schema::variable(key.path);
        match name.strip_prefix('_') {
            None => name.is_empty().then_some(variable),
            Some(name) if key.kind == Kind::Map => {
                Some(format!("{variable}{LEVEL}{}", name.to_ascii_uppercase()))
            }
            Some(_) => None,
        }
    })
}

/// `SASL_PASSWORD` is `sasl.password`; where a file holds a secret, `SASL_PASSWORD_FILE`.
fn variable_name(path: &str, name: &str) -> String {
    let dotted = |name: &str| name.replace('_', ".");
    if path == TOPIC_SETTINGS {
        return dotted(name);
    }
    if path != PROPERTIES {
        return name.to_owned();
    }
    match name.strip_suffix("_file") {
        // These are files for librdkafka itself.
        Some(secret)
            if walpost_kafka::is_secret(&dotted(secret)) && !secret.contains("assertion") =>
        {
            format!("{}_file", dotted(secret))
        }
        _ => dotted(name),
    }
}

/// Takes a text for a key. Only what has to be a list or a map is read as YAML: a password with
/// special characters needs no quotes.
fn assign(layer: &mut Layer, path: &str, name: Option<String>, value: &str, origin: &Origin) {
    let Some(key) = schema::key(path) else {
        if schema::is_group(path) {
            return reader::from_text(layer, path, value, origin);
        }
        layer.problem(origin.clone(), path, schema::unknown(path));
        return;
    };
    let structured = match (key.kind, &name) {
        (Kind::Map, None) => true,
        (Kind::List, None) => value.trim_start().starts_with('['),
        (Kind::Text, None) | (Kind::Map, Some(_)) => false,
        (Kind::Text | Kind::List, Some(_)) => {
            layer.problem(origin.clone(), path, "has no keys below it");
            return;
        }
    };
    if structured {
        reader::from_text(layer, path, value, origin);
    } else if layer.takes(value, path, origin) {
        layer.push(key, name, Given::Text(value.to_owned()), origin.clone());
    }
}
