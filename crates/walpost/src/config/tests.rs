mod editors;
mod mutations;
mod reference;

use std::fs;

use super::*;

const MINIMAL: &str = "postgres: { url: \"postgresql://u:hunter2@db:5433/shop\" }\n\
                       kafka: { brokers: \"k1:9092\" }\n";

/// Reads a file of this text, with no environment.
fn load(yaml: &str) -> Result<Config, Error> {
    load_with(yaml, &[], &[])
}

fn load_with(yaml: &str, variables: &[(&str, &str)], set: &[&str]) -> Result<Config, Error> {
    let directory = directory_with(yaml);
    let file = directory.path().join("walpost.yaml");
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Config::load(&Sources {
        file: Some(file),
        set: set.iter().map(|set| (*set).to_owned()).collect(),
        variables: variables.iter().map(owned).collect(),
        ..Sources::default()
    })
}

/// The problems, one a line, without the directory.
fn problems(yaml: &str, variables: &[(&str, &str)], set: &[&str]) -> Vec<String> {
    let message = load_with(yaml, variables, set).unwrap_err().to_string();
    let line = |line: &str| {
        let line = line.trim();
        line.rsplit_once("/walpost.yaml:")
            .map_or(line, |(_, line)| line)
            .to_owned()
    };
    message.lines().skip(1).map(line).collect()
}

#[test]
fn the_smallest_file_has_every_default() {
    let config = load(MINIMAL).unwrap();
    assert_eq!(
        config.postgres.conninfo.to_string(),
        "postgresql://u@db:5433/shop"
    );
    assert_eq!(config.postgres.slot, "walpost");
    assert_eq!(config.postgres.publication, "walpost");
    assert_eq!(config.postgres.spare_publication(), "walpost_spare");
    assert_eq!(config.mapping.tables()[0].to_string(), "public.outbox");
    assert_eq!(config.kafka.brokers, "k1:9092");
    assert_eq!(
        config.kafka.settings.get("client.id"),
        Some("walpost-walpost")
    );
    assert_eq!(config.delivery.window, WindowLimits::default());
    assert_eq!(config.delivery.unknown_topic_after, Duration::from_secs(60));
    assert!(!config.delivery.unknown_topic_after_set);
    assert_eq!(config.drain, Duration::from_secs(20));
}

#[test]
fn every_key_is_read() {
    let config = load(
        "postgres:\n  url: host=db user=u\n  password: 007\n  slot: s_1\n  publication: P b\n\
         outbox:\n  table: [a.b, '\"C\"']\n  layout: debezium\n  columns: {payload: body}\n  \
         null_payload: tombstone\n\
         route:\n  topic: t.${destination}\n  allow: [t.a, /t\\..*/]\n  key: ${aggregate_id}\n  \
         partition_by: key\n  headers:\n    z: ${id}\n    a: ${id}\n\
         kafka:\n  brokers: [k1:9092, k2:9092]\n  unsafe: true\n  properties:\n    linger.ms: 5\n\
         delivery:\n  in_flight_events: 10\n  in_flight_bytes: 1MiB\n  unknown_topic_after: 0s\n\
         shutdown:\n  drain: 100ms\n",
    )
    .unwrap();
    let spec = &config.mapping_spec;
    assert_eq!(config.postgres.publication, "P b");
    assert_eq!(spec.tables[1].to_string(), "public.C");
    assert_eq!(spec.layout, walpost_core::Layout::Debezium);
    assert_eq!(spec.null_payload, walpost_core::NullPayload::Tombstone);
    assert_eq!(
        spec.columns,
        [(walpost_core::Role::Payload, "body".to_owned())]
    );
    assert_eq!(spec.allow, ["t.a", "/t\\..*/"]);
    let headers: Vec<_> = spec
        .headers
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(headers, ["z", "a"]);
    assert_eq!(config.kafka.brokers, "k1:9092,k2:9092");
    assert_eq!(config.kafka.settings.get("linger.ms"), Some("5"));
    assert_eq!(config.kafka.settings.get("client.id"), Some("walpost-s_1"));
    assert_eq!(
        config.delivery.window,
        WindowLimits {
            events: 10,
            bytes: 1 << 20
        }
    );
    assert!(config.delivery.unknown_topic_after_set);
    assert_eq!(config.drain, Duration::from_millis(100));
    assert_eq!(password(&config), "007");
}

#[test]
fn bad_inputs_are_told_with_their_place() {
    for (yaml, expected) in BAD_INPUTS {
        let mut found = problems(yaml, &[], &[]);
        found.retain(|problem| !problem.contains("is missing: "));
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
        assert!(
            found[0].contains(expected),
            "{yaml}:\n{}\n{expected}",
            found[0]
        );
    }
}

#[test]
fn what_a_reference_brings_is_hidden_in_what_is_said_and_not_in_the_place() {
    let yaml = format!("{MINIMAL}route: {{topic: 'a${{env:T}}${{'}}\n");
    let found = problems(&yaml, &[("T", "route.topic")], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("3:16: route.topic: "), "{found:?}");
    let yaml = format!("{MINIMAL}route: {{allow: ['${{env:T}}']}}\n");
    let found = problems(&yaml, &[("T", "hunter 2")], &[]);
    assert!(
        found[0].starts_with("3:16: route.allow: '****': "),
        "{found:?}"
    );
}

#[test]
fn the_line_ends_of_windows_are_line_ends() {
    let yaml = MINIMAL.replace('\n', "\r\n") + "postgres: {slot: a}\r\nshutdown:\r\n  drain: 5\r\n";
    let found = problems(&yaml, &[], &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("3:1: postgres: is there twice"),
        "{found:?}"
    );
    assert!(found[1].starts_with("5:10: shutdown.drain: "), "{found:?}");
    let config = load(&(MINIMAL.replace('\n', "\r\n") + "shutdown:\r\n  drain: 7s\r\n")).unwrap();
    assert_eq!(config.drain, Duration::from_secs(7));
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let found = problems(
        "kafka: {properties: {acks: 0, nope: 1}}\npostgres: {slot: A, typo: x}\n\
         route: {topic: ''}\n",
        &[
            ("WALPOST_SHUTDOWN__DRAIN", "5"),
            ("WALPOST_POSTGRES__SLOTT", "5"),
        ],
        &["outbox.layout=x", "novalue"],
    );
    let starts = [
        "1:28: kafka.properties.acks:",
        "1:37: kafka.properties.nope:",
        "2:18: postgres.slot:",
        "2:21: postgres.typo:",
        "3:16: route.topic:",
        "WALPOST_POSTGRES__SLOTT: postgres.slott:",
        "WALPOST_SHUTDOWN__DRAIN: shutdown.drain:",
        "--set: needs the form",
        "--set: outbox.layout:",
        "kafka.brokers: is missing",
        "postgres.url: is missing",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (problem, start) in found.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n{start}");
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let slot = |config: Config| config.postgres.slot;
    let yaml =
        format!("{MINIMAL}shutdown: {{drain: 1s}}\n").replace("shop\" }", "shop\", slot: file }");
    let env = [
        ("WALPOST_POSTGRES__SLOT", "env"),
        ("WALPOST_SHUTDOWN__DRAIN", "2s"),
    ];
    assert_eq!(slot(load_with(&yaml, &[], &[]).unwrap()), "file");
    assert_eq!(slot(load_with(&yaml, &env, &[]).unwrap()), "env");
    let config = load_with(&yaml, &env, &["postgres.slot=flag"]).unwrap();
    assert_eq!(
        (config.drain.as_secs(), slot(config)),
        (2, "flag".to_owned())
    );
    let twice = ["postgres.slot=a", "postgres.slot=b"];
    assert_eq!(slot(load_with(&yaml, &env, &twice).unwrap()), "b");
}

#[test]
fn the_environment_reaches_into_maps() {
    let config = load_with(
        &format!("{MINIMAL}route: {{headers: {{b: x, a: y}}}}\n"),
        &[
            ("WALPOST_KAFKA__PROPERTIES__SASL_USERNAME", "me"),
            ("WALPOST_OUTBOX__COLUMNS__AGGREGATE_ID", "agg"),
            ("WALPOST_ROUTE__HEADERS__B", "${id}"),
            ("WALPOST_ROUTE__ALLOW", "[orders, payments]"),
            ("WALPOST_KAFKA__BROKERS", "k2:1,k3:1"),
            // Kubernetes makes these for a service called walpost.
            ("WALPOST_PORT", "tcp://10.0.0.1:80"),
            ("WALPOST_SERVICE_HOST", "10.0.0.1"),
            ("WALPOST_POSTGRES__PASSWORD", ""),
        ],
        &["kafka.properties.linger.ms=7"],
    )
    .unwrap();
    let spec = &config.mapping_spec;
    assert_eq!(config.kafka.settings.get("sasl.username"), Some("me"));
    assert_eq!(config.kafka.settings.get("linger.ms"), Some("7"));
    assert_eq!(config.kafka.brokers, "k2:1,k3:1");
    assert_eq!(
        spec.columns,
        [(walpost_core::Role::AggregateId, "agg".to_owned())]
    );
    assert_eq!(spec.allow, ["orders", "payments"]);
    let headers = spec.headers.clone().unwrap();
    assert_eq!(headers[0], ("b".to_owned(), "${id}".to_owned()));
    assert_eq!(password(&config), "hunter2");
}

#[test]
fn a_variable_with_one_underscore_between_levels_is_explained() {
    let found = problems(MINIMAL, &[("WALPOST_POSTGRES_URL", "x")], &[]);
    assert_eq!(
        found,
        ["WALPOST_POSTGRES_URL: two underscores stand between levels: WALPOST_POSTGRES__URL"]
    );
}

#[test]
fn environment_alone_is_enough() {
    let variables = [
        ("WALPOST_POSTGRES__URL", "postgresql://u@db/shop"),
        ("WALPOST_KAFKA__BROKERS", "k:9092"),
    ];
    assert!(load_with("", &variables, &[]).is_ok());
    let variables = [
        ("PGHOST", "db"),
        ("PGUSER", "u"),
        ("WALPOST_KAFKA__BROKERS", "k:9092"),
    ];
    let config = load_with("", &variables, &[]).unwrap();
    assert_eq!(
        config.postgres.conninfo.to_string(),
        "postgresql://u@db:5432/u"
    );
}

#[test]
fn secrets_come_from_files_without_their_last_line_end() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, " s3cret \r\n").unwrap();
    let file = secret.to_str().unwrap();
    let yaml = format!(
        "postgres: {{url: 'postgresql://u@db/shop', password_file: {file}}}\n\
         kafka: {{brokers: 'k:9092', properties: {{sasl.password_file: {file}}}}}\n"
    );
    let sasl = ("WALPOST_KAFKA__PROPERTIES", SASL);
    let config = load_with(&yaml, &[sasl], &[]).unwrap();
    assert_eq!(password(&config), " s3cret ");
    assert_eq!(config.kafka.settings.get("sasl.password"), Some(" s3cret "));
    // A later source replaces the file's by the value, and the other way round.
    let variables = [sasl, ("WALPOST_POSTGRES__PASSWORD", "env")];
    let config = load_with(&yaml, &variables, &[]).unwrap();
    assert_eq!(password(&config), "env");
    let variables = [
        sasl,
        ("WALPOST_KAFKA__PROPERTIES__SASL_PASSWORD_FILE", file),
    ];
    let config = load_with(MINIMAL, &variables, &[]).unwrap();
    assert_eq!(config.kafka.settings.get("sasl.password"), Some(" s3cret "));
    let by_value = MINIMAL.replace("shop\" }", "shop\", password: x }");
    let variables = [("WALPOST_POSTGRES__PASSWORD_FILE", file)];
    let config = load_with(&by_value, &variables, &[]).unwrap();
    assert_eq!(password(&config), " s3cret ");
    let both = yaml
        .replace(" password_file", " password: x, password_file")
        .replace("sasl.password_file", "sasl.password: x, sasl.password_file");
    let found = problems(&both, &[sasl], &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .all(|problem| problem.contains("keep one of them")),
        "{found:?}"
    );
}

#[test]
fn secrets_are_in_no_debug_output_and_in_no_message() {
    let config = load_with(
        MINIMAL,
        &[
            ("WALPOST_KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"),
            ("WALPOST_POSTGRES__PASSWORD", "hunter2"),
            ("WALPOST_KAFKA__PROPERTIES", SASL),
        ],
        &["kafka.properties.ssl.key.password=hunter2"],
    )
    .unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for yaml in [
        "postgres: {url: 'postgresql://u:hunter2@h@x/d'}",
        "postgres: {url: 'postgresql://u:hunter2@h:port/d'}",
        "postgres: {url: 'host=h pasword=hunter2'}",
        "postgres: {password: [hunter2]}",
        "postgres: {password: {hunter2: 1}}",
        "postgres: {password: \"hunter2}",
        "postgres: {passwort: hunter2}",
        "kafka: {properties: {sasl.pasword: hunter2, sasl.jaas.config: hunter2}}",
        "kafka: {properties: {ssl.key.pem: hunter2, sasl.password: [hunter2]}}",
        "kafka: {unsafe: hunter2}",
        "hunter2",
    ] {
        let error = load(yaml).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_missing_file_is_an_error_only_when_it_was_named() {
    let sources = Sources {
        file: Some("/no/such.yaml".into()),
        ..Sources::default()
    };
    let error = Config::load(&sources).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/no/such.yaml: can't read the file: "),
        "{error}"
    );
    assert_eq!(error.exit(), Exit::Configuration);
    let error = Config::load(&Sources::default()).unwrap_err();
    assert!(
        error.fix().is_some_and(|fix| fix.contains("-c")),
        "{error:?}"
    );
    let sources = Sources {
        file: Some("/dev/zero".into()),
        ..Sources::default()
    };
    assert!(
        Config::load(&sources)
            .unwrap_err()
            .to_string()
            .contains("larger than 1 MiB")
    );
}

/// A file, and the one problem that it has.
const BAD_INPUTS: &[(&str, &str)] = &[
    (
        "postgres: {slto: x}\n",
        "1:12: postgres.slto: there is no such key; did you mean postgres.slot?",
    ),
    (
        "postgras: {slot: x}\n",
        "1:1: postgras: there is no such key; did you mean postgres?",
    ),
    (
        "http: {listen: x}\n",
        "1:1: http: is not available in this version",
    ),
    (
        "postgres: {checkpoint: a.b.c}\n",
        "1:24: postgres.checkpoint: expected schema.name",
    ),
    (
        "postgres:\n  slot: a-b\n",
        "2:9: postgres.slot: expected 1 to 63 characters out of a-z, 0-9 and '_'",
    ),
    (
        "postgres:\n  slot: [a]\n",
        "2:9: postgres.slot: expected one value, found a list",
    ),
    (
        "postgres:\n  slot:\n",
        "2:7: postgres.slot: has no value: give it one, or take the key out",
    ),
    (
        "postgres:\n  slot: a\n  slot: b\n",
        "3:3: postgres.slot: is there twice, first in line 2",
    ),
    (
        "shutdown: {drain: 5}\n",
        "1:19: shutdown.drain: expected a number and a unit, as 100ms, 5s, 2m or 1h",
    ),
    (
        "delivery: {in_flight_bytes: 64M}\n",
        "1:29: delivery.in_flight_bytes: expected a number of bytes, as 65536, 512KiB",
    ),
    (
        "delivery: {in_flight_events: 0}\n",
        "1:30: delivery.in_flight_events: expected a number from 1 to 10000000",
    ),
    (
        "outbox: {layout: debesium}\n",
        "1:18: outbox.layout: expected walpost or debezium",
    ),
    (
        "outbox: {columns: {agregate_id: x}}\n",
        "1:33: outbox.columns.agregate_id: there is no such role; did you mean aggregate_id?",
    ),
    (
        "outbox: {table: [a, public.a]}\n",
        "1:21: outbox.table: public.a is there twice",
    ),
    (
        "outbox: {table: []}\n",
        "outbox.table: name at least one table",
    ),
    (
        "outbox: {table: {a: b}}\n",
        "1:17: outbox.table: expected a value or a list, found a map",
    ),
    (
        "outbox: [a]\n",
        "1:9: outbox: expected keys below it, found a list",
    ),
    (
        "- a\n",
        "1:1: expected sections such as 'postgres:', found a list",
    ),
    (
        "route: {topic: '${walpost.nope}'}\n",
        "1:16: route.topic: '${walpost.nope}' is not known",
    ),
    ("route: {allow: ['a b']}\n", "1:16: route.allow: 'a b': "),
    (
        "route: {headers: {walpost-x: a}}\n",
        "1:30: route.headers.walpost-x: a header needs a name",
    ),
    (
        "kafka: {unsafe: yes}\n",
        "1:17: kafka.unsafe: expected true or false",
    ),
    (
        "kafka: {brokers: 'a:1,,b:1'}\n",
        "1:18: kafka.brokers: one of them is empty",
    ),
    (
        "kafka: {brokers: [a:1, b:x]}\n",
        "1:24: kafka.brokers: expected host:port, with a port from 1 to 65535",
    ),
    (
        "kafka: {brokers: []}\n",
        "1:18: kafka.brokers: names no broker",
    ),
    (
        "kafka: {brokers: 'ssl://a:1'}\n",
        "1:18: kafka.brokers: expected host:port alone",
    ),
    (
        "postgres: {url: 'jdbc:postgresql://h/d?user=u&password=x'}\n",
        "1:17: postgres.url: is not a URL of libpq: that begins with postgresql://",
    ),
    (
        "postgres: {url: 'postgresql+psycopg2://u:x@h/d'}\n",
        "1:17: postgres.url: is not a URL of libpq",
    ),
    (
        "postgres: {password: !env PW}\n",
        "1:27: a tag (!name) that is not YAML's own",
    ),
    (
        "postgres: {password: !hunter2}\n",
        "a tag (!name) that is not YAML's own",
    ),
    (
        "kafka: {properties: {acks: 1}}\n",
        "1:28: kafka.properties.acks: with anything but acks=all",
    ),
    (
        "kafka: {properties: {sasl: {username: x}}}\n",
        "1:28: kafka.properties.sasl: expected one value, under the property's whole name",
    ),
    (
        "kafka: {properties: {linger.mss: 1}}\n",
        "kafka.properties.linger.mss: librdkafka has no such property; did you mean linger.ms?",
    ),
    (
        "postgres: {password: '${env:PW}'}\n",
        "1:22: postgres.password: the environment variable PW is not set",
    ),
    (
        "postgres: {password: '${file:/no/such}'}\n",
        "1:22: postgres.password: can't read the file /no/such: ",
    ),
    (
        "postgres: {password: '${PASSWORD}'}\n",
        "1:22: postgres.password: '${…}' names neither a variable nor a file",
    ),
    (
        "outbox:\n  table: [a, '${env:T}']\n",
        "2:14: outbox.table: the environment variable T is not set",
    ),
    (
        "route: {headers: {'${env:H}': x}}\n",
        "1:19: route.headers: ${env:…} and ${file:…} stand in values, not in names",
    ),
    (
        "route: {allow: []}\n",
        "1:16: route.allow: allows no topic at all",
    ),
    (
        "postgres: {password_command: []}\n",
        "1:30: postgres.password_command: names no program",
    ),
    (
        "delivery: {dead_letter_topic: a b}\n",
        "1:31: delivery.dead_letter_topic: the topic name has ' ' at byte 1",
    ),
    (
        "route: {topic: dead}\ndelivery: {on_undeliverable: dead_letter, dead_letter_topic: \
         dead}\n",
        "2:62: delivery.dead_letter_topic: is where route.topic sends every event",
    ),
    (
        "delivery: {on_undeliverable: skip}\n",
        "1:30: delivery.on_undeliverable: expected halt or hold or dead_letter",
    ),
    (
        "kafka: {properties: {linger.ms_file: /etc/hostname}}\n",
        "1:38: kafka.properties.linger.ms_file: a '_file' at its end is for secrets",
    ),
    (
        "postgres: {password: abc, def}\n",
        "1:27: postgres.…: there is no such key, and it has no value",
    ),
    (
        "postgres: {password_file: /no/such/file}\n",
        "1:27: postgres.password_file: can't read the file /no/such/file: ",
    ),
    ("a: [\n", "not valid YAML: "),
    (
        "postgres: &a {slot: b}\nroute: {<<: *a}\n",
        "2:9: merge keys (<<) are not supported",
    ),
    ("postgres: {slot: a}\n---\n", "more than one document"),
    ("1: {a: b}\n", "1:1: 1: there is no such key"),
    ("[a]: {a: b}\n", "1:1: a key has to be text, not a list"),
];

/// What has to be set beside a SASL password.
const SASL: &str = "{security.protocol: sasl_ssl, sasl.mechanism: PLAIN, sasl.username: u}";

fn directory_with(yaml: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("walpost.yaml"), yaml).unwrap();
    directory
}

fn password(config: &Config) -> &str {
    use secrecy::ExposeSecret;

    config.postgres.conninfo.hosts[0]
        .password
        .as_ref()
        .map_or("", |password| password.expose_secret())
}
