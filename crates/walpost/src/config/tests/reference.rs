//! `docs/configuration.md`, made from the table of keys and the text around it.

use std::fmt::Write;
use std::path::Path;

use crate::config::schema::{self, Form, KEYS, Key, Kind, PROPERTIES, TOPIC_SETTINGS};
use crate::config::{Config, Sources, layer::Layer, reader};

/// The text around the keys.
const FRAME: &str = include_str!("configuration.md.in");

/// Where the list of keys goes.
const PLACE: &str = "{{keys}}\n";

/// The first line of an example that is a whole configuration.
const WHOLE: &str = "# walpost.yaml";

fn page() -> String {
    let mut keys = String::new();
    for section in schema::sections() {
        let _ = writeln!(keys, "### {section}\n");
        for key in KEYS.iter().filter(|key| is_in(key, section)) {
            let _ = write!(keys, "{}", entry(key));
        }
    }
    let keys = keys.trim_end();
    FRAME.replace(PLACE, &format!("{keys}\n"))
}

fn is_in(key: &Key, section: &str) -> bool {
    let rest = key.path.strip_prefix(section);
    rest.is_some_and(|rest| rest.starts_with('.'))
}

fn entry(key: &Key) -> String {
    let default = match key.default {
        Some(default) => format!("`{default}`"),
        None => "none".to_owned(),
    };
    let variable = schema::variable(key.path);
    let name = match key.kind {
        Kind::Text | Kind::List => "",
        Kind::Map => "__<NAME>",
    };
    let last = key.path.rsplit('.').next().unwrap_or(key.path);
    format!(
        "#### {}\n\n{}\n\n* Takes: {}. Default: {default}.\n* Variable: `{variable}{name}`\n* \
         Example: `{last}: {}`\n\n",
        key.path,
        key.description,
        takes(key),
        key.example,
    )
}

fn takes(key: &Key) -> String {
    let one = one(key.form);
    match key.kind {
        Kind::Text => one,
        Kind::List if key.form == Form::Command => "one text, or a list of texts".to_owned(),
        Kind::List => format!("{one}, or a list of them"),
        Kind::Map if key.path == PROPERTIES || key.path == TOPIC_SETTINGS => {
            "a map from name to value".to_owned()
        }
        Kind::Map => format!("a map from name to {one}"),
    }
}

fn one(form: Form) -> String {
    match form {
        Form::Conninfo => "a connection string".to_owned(),
        Form::Secret => "a secret text".to_owned(),
        Form::SecretFile => "a file's path".to_owned(),
        Form::Command | Form::Property | Form::TopicSetting => "a text".to_owned(),
        Form::Slot => "a slot's name".to_owned(),
        Form::Name(bytes) => format!("a name of 1 to {bytes} bytes"),
        Form::Table => "a table's name".to_owned(),
        Form::Word(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(" or ")
        }
        Form::Boolean => "`true` or `false`".to_owned(),
        Form::Number(min, max) => format!("a number from {min} to {max}"),
        Form::Duration => "a duration".to_owned(),
        Form::Size => "a size of at least 1 byte".to_owned(),
        Form::Template => "a template".to_owned(),
        Form::Topic => "a topic's name".to_owned(),
        Form::TopicRule => "a topic or a `/regular expression/`".to_owned(),
        Form::Broker => "`host:port`".to_owned(),
    }
}

fn repository() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("the crate lies two levels below the repository")
}

#[test]
fn the_page_is_what_the_table_of_keys_says() {
    let path = repository().join("docs/configuration.md");
    let page = page();
    if std::env::var_os("WALPOST_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/configuration.md differs from the table of keys: \
         'WALPOST_UPDATE_DOCS=1 cargo test --profile tests -p walpost config' writes it"
    );
}

/// What a reference in an example names has to be there.
fn sources() -> Sources {
    let variables = [
        ("DB_PASSWORD", "x"),
        ("DB_HOST", "db"),
        ("KAFKA_BROKERS", "k:1"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Sources {
        variables: variables.map(owned).into(),
        ..Sources::default()
    }
}

#[test]
fn every_whole_example_of_the_documentation_is_a_configuration() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "x").unwrap();
    let docs = std::fs::read_dir(repository().join("docs")).unwrap();
    let pages = docs.map(|entry| entry.unwrap().path());
    let mut whole = 0;
    for page in pages.chain([repository().join("README.md")]) {
        if page.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if !block.starts_with(WHOLE) {
                continue;
            }
            whole += 1;
            let block = secrets_at(block, secret.path());
            let sources = sources();
            let layer = reader::from_file("example", block.as_bytes(), &sources.variables);
            if let Err(error) = Config::over(layer, &sources) {
                panic!("{}: {error}\n{block}", page.display());
            }
        }
    }
    assert!(whole >= 5, "{whole}");
}

fn secrets_at(block: &str, file: &Path) -> String {
    let line = |line: &str| match line.split_once("_file: ") {
        Some((key, _)) => format!("{key}_file: {}\n", file.display()),
        None => format!("{line}\n"),
    };
    block.lines().map(line).collect()
}

#[test]
fn every_example_of_a_key_is_taken() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "x").unwrap();
    for key in KEYS {
        let example = if key.form == Form::SecretFile {
            secret.path().to_str().unwrap()
        } else {
            key.example
        };
        let mut levels: Vec<&str> = key.path.split('.').collect();
        let last = levels.pop().unwrap();
        let mut text = String::new();
        for (depth, level) in levels.iter().enumerate() {
            let _ = writeln!(text, "{}{level}:", "  ".repeat(depth));
        }
        let _ = writeln!(text, "{}{last}: {example}", "  ".repeat(levels.len()));
        let mut sources = sources();
        for (path, value) in [
            ("postgres.url", "postgresql://u@db/shop"),
            ("kafka.brokers", "k:1"),
        ] {
            if key.path != path {
                sources.set.push(format!("{path}={value}"));
            }
        }
        let layer = reader::from_file("example", text.as_bytes(), &sources.variables);
        if let Err(error) = Config::over(layer, &sources) {
            panic!("{error}\n{text}");
        }
    }
}

#[test]
fn every_default_is_the_one_that_is_built() {
    let load = |set: Vec<String>| {
        let sources = Sources { set, ..sources() };
        Config::over(Layer::default(), &sources).unwrap()
    };
    let minimal = vec![
        "postgres.url=postgresql://u@db/shop".to_owned(),
        "kafka.brokers=k:1".to_owned(),
    ];
    let bare = load(minimal.clone());
    for key in KEYS {
        let Some(default) = key.default else {
            continue;
        };
        let mut set = minimal.clone();
        set.push(format!("{}={default}", key.path));
        let mut given = load(set);
        given.origins = bare.origins.clone();
        given.mapping_spec = bare.mapping_spec.clone();
        given.delivery.unknown_topic_after_set = false;
        assert_eq!(format!("{given:?}"), format!("{bare:?}"), "{}", key.path);
    }
}
