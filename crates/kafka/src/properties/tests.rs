use super::*;

fn user(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| owned(name, value))
        .collect()
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    Settings::new("localhost:9092", &user(pairs), "walpost", false).unwrap()
}

/// The problems of one set of properties.
fn problems(pairs: &[(&str, &str)], allow_unsafe: bool) -> Vec<PropertyError> {
    Settings::new("localhost:9092", &user(pairs), "walpost", allow_unsafe)
        .err()
        .unwrap_or_default()
}

fn only_problem(property: &str, value: &str) -> PropertyError {
    let mut found = problems(&[(property, value)], false);
    assert_eq!(found.len(), 1, "{property}={value}: {found:?}");
    found.remove(0)
}

#[test]
fn the_defaults_are_those_that_the_promise_rests_on() {
    let settings = settings(&[]);
    let expected = [
        ("bootstrap.servers", "localhost:9092"),
        ("client.id", "walpost"),
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("enable.gapless.guarantee", "true"),
        ("message.timeout.ms", "0"),
        ("linger.ms", "0"),
        ("compression.type", "lz4"),
        ("reconnect.backoff.max.ms", "1000"),
        ("allow.auto.create.topics", "false"),
        ("message.max.bytes", "1048576"),
        ("socket.keepalive.enable", "true"),
    ];
    for (name, value) in expected {
        assert_eq!(settings.get(name), Some(value), "{name}");
    }
    let native = settings.client_config().create_native_config().unwrap();
    assert_eq!(native.get("enable.idempotence").unwrap(), "true");
    assert_eq!(native.get("message.timeout.ms").unwrap(), "0");
    assert_eq!(native.get("linger.ms").unwrap(), "0");
}

#[test]
fn the_user_overrides_what_is_not_guarded() {
    let settings = settings(&[
        ("linger.ms", "5"),
        ("compression.type", "zstd"),
        ("client.id", "mine"),
        ("message.max.bytes", "2000000"),
        ("socket.keepalive.enable", "false"),
        ("statistics.interval.ms", "5000"),
    ]);
    assert_eq!(settings.get("linger.ms"), Some("5"));
    assert_eq!(settings.get("compression.type"), Some("zstd"));
    assert_eq!(settings.get("client.id"), Some("mine"));
    assert_eq!(settings.message_max_bytes(), 2_000_000);
}

#[test]
fn what_would_break_the_promise_is_refused_unless_it_is_allowed() {
    let table = [
        ("acks", "1"),
        ("acks", "0"),
        ("request.required.acks", "1"),
        ("enable.idempotence", "false"),
        ("enable.gapless.guarantee", "false"),
        ("message.timeout.ms", "300000"),
        ("delivery.timeout.ms", "120000"),
        ("retries", "3"),
        ("message.send.max.retries", "0"),
        ("max.in.flight", "6"),
        ("max.in.flight.requests.per.connection", "1000000"),
        ("queuing.strategy", "lifo"),
        ("allow.auto.create.topics", "true"),
        ("queue.buffering.max.messages", "100"),
        ("queue.buffering.max.kbytes", "1024"),
    ];
    for (property, value) in table {
        let found = only_problem(property, value);
        assert_eq!(found.property, property);
        assert!(found.fix.contains("kafka.unsafe: true"), "{found}");
        assert_eq!(
            problems(&[(property, value)], true),
            [],
            "{property}={value}"
        );
    }
}

#[test]
fn safe_values_of_guarded_properties_are_accepted() {
    let table = [
        ("acks", "all"),
        ("acks", "-1"),
        ("enable.idempotence", "True"),
        ("enable.gapless.guarantee", "true"),
        ("delivery.timeout.ms", "0"),
        ("retries", "2147483647"),
        ("max.in.flight", "1"),
        ("max.in.flight.requests.per.connection", "5"),
        ("queuing.strategy", "FIFO"),
        ("allow.auto.create.topics", "false"),
        ("delivery.report.only.error", "false"),
    ];
    for (property, value) in table {
        assert_eq!(
            problems(&[(property, value)], false),
            [],
            "{property}={value}"
        );
    }
}

#[test]
fn what_can_not_work_is_refused_even_where_unsafe_is_allowed() {
    let table = [
        ("partitioner", "murmur2_random", "route.partition_by"),
        (
            "partitioner.class",
            "com.example.Mine",
            "route.partition_by",
        ),
        ("partitioner.ignore.keys", "true", "route.partition_by"),
        ("transactional.id", "walpost", "remove it"),
        ("bootstrap.servers", "other:9092", "kafka.brokers"),
        ("metadata.broker.list", "other:9092", "kafka.brokers"),
        ("delivery.report.only.error", "true", "remove it"),
        ("enabled_events", "0", "remove it"),
        ("dr_cb", "x", "remove it"),
        ("dr_msg_cb", "x", "remove it"),
        ("test.mock.num.brokers", "3", "remove it"),
        ("buffer.memory", "33554432", "delivery.in_flight_bytes"),
        (
            "key.serializer",
            "org.apache.kafka.StringSerializer",
            "remove it",
        ),
        (
            "ssl.truststore.location",
            "/etc/kafka/trust.jks",
            "ssl.ca.location",
        ),
        ("ssl.keystore.type", "JKS", "ssl.keystore.location"),
        ("sasl.mechanism", "AWS_MSK_IAM", "SCRAM-SHA-512"),
        ("sasl.mechanism", "DIGEST-MD5", "OAUTHBEARER"),
        ("sasl.mechanisms", "GSSAPI", "SCRAM-SHA-512"),
        ("group.id", "walpost", "remove it"),
        ("log_level", "7", "log filter"),
    ];
    for (property, value, fix) in table {
        for allow_unsafe in [false, true] {
            let found = problems(&[(property, value)], allow_unsafe);
            assert_eq!(found.len(), 1, "{property}={value}: {found:?}");
            assert_eq!(found[0].property, property);
            assert!(found[0].fix.contains(fix), "{}", found[0]);
        }
    }
}

#[test]
fn java_spellings_with_the_same_meaning_are_translated() {
    let translated = settings(&[
        ("max.request.size", "3000000"),
        ("delivery.timeout.ms", "0"),
        ("send.buffer.bytes", "131072"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "3"),
    ]);
    assert_eq!(translated.get("message.max.bytes"), Some("3000000"));
    assert_eq!(translated.get("max.request.size"), Some("3000000"));
    assert_eq!(translated.get("socket.send.buffer.bytes"), Some("131072"));
    assert_eq!(translated.get("compression.level"), Some("3"));

    let tls = settings(&[
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "app"),
        ("sasl.password", "hunter2"),
        ("ssl.truststore.certificates", "-----BEGIN CERTIFICATE-----"),
    ]);
    assert_eq!(tls.get("ssl.ca.pem"), Some("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn two_spellings_of_one_property_are_refused() {
    let found = problems(
        &[("linger.ms", "1"), ("queue.buffering.max.ms", "2")],
        false,
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].problem.contains("linger.ms"), "{}", found[0]);
}

#[test]
fn an_unknown_property_names_the_nearest_known_one() {
    let found = only_problem("compresion.type", "lz4");
    assert_eq!(found.fix, "did you mean compression.type?");
    let found = only_problem("no.such.thing.at.all", "1");
    assert!(found.fix.contains("CONFIGURATION.md"), "{found}");
}

#[test]
fn a_value_that_librdkafka_does_not_take_is_refused_with_its_words() {
    let found = only_problem("linger.ms", "soon");
    assert!(found.problem.contains("linger.ms") || found.problem.contains("queue.buffering"));
    let found = only_problem("compression.type", "rar");
    assert!(found.problem.contains("rar"), "{found}");
    assert_eq!(
        only_problem("message.max.bytes", "10").property,
        "message.max.bytes"
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let pairs = [
        ("acks", "1"),
        ("partitioner", "random"),
        ("no.such", "1"),
        ("linger.ms", "x"),
    ];
    let found = Settings::new("  ", &user(&pairs), "walpost", false).unwrap_err();
    let names: Vec<_> = found.iter().map(|found| found.property.as_str()).collect();
    assert_eq!(
        names,
        [
            "bootstrap.servers",
            "acks",
            "linger.ms",
            "no.such",
            "partitioner"
        ]
    );
}

#[test]
fn sasl_without_its_parts_and_secrets_without_sasl_are_refused() {
    let names = |pairs: &[(&str, &str)]| -> Vec<String> {
        problems(pairs, false)
            .into_iter()
            .map(|found| found.property)
            .collect()
    };
    let bare = [("security.protocol", "sasl_ssl")];
    assert_eq!(
        names(&bare),
        ["sasl.mechanism", "sasl.username", "sasl.password"]
    );
    assert_eq!(names(&[("sasl.password", "hunter2")]), ["sasl.password"]);
    assert_eq!(
        names(&[("ssl.ca.location", "/etc/ca.pem")]),
        ["ssl.ca.location"]
    );
    let whole = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanisms", "PLAIN"),
        ("sasl.username", "app"),
        ("sasl.password", "hunter2"),
    ];
    assert_eq!(names(&whole), Vec::<String>::new());
}

#[test]
fn secrets_are_masked_wherever_settings_and_problems_are_shown() {
    let secrets = [
        ("sasl.password", "hunter2-password"),
        ("ssl.key.password", "hunter2-key"),
        ("ssl.keystore.password", "hunter2-store"),
        ("ssl.key.pem", "hunter2-pem"),
        ("ssl.certificate.pem", "hunter2-certificate"),
        ("sasl.oauthbearer.config", "hunter2-config"),
    ];
    let mut pairs = vec![
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "app"),
        ("ssl.key.location", "/etc/key.pem"),
    ];
    pairs.extend(secrets);
    let settings = settings(&pairs).with("sasl.oauthbearer.client.secret", "hunter2-client");
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("/etc/key.pem"), "{shown}");
    assert_eq!(settings.get("sasl.password"), Some("hunter2-password"));
    let redacted = settings
        .redactor()
        .redacted("user app, password hunter2-password");
    assert_eq!(redacted, "user app, password ****");
}

#[test]
fn a_problem_never_shows_the_value_of_a_secret_or_of_an_unknown_property() {
    let names = [
        "sasl.pasword",
        "sasl.passwort",
        "sasl.jaas.config",
        "ssl.keystore.pwd",
        "secret",
    ];
    for name in names {
        let found = problems(&[(name, "hunter2")], false);
        assert!(!found.is_empty(), "{name}");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }
}

#[test]
fn the_queue_never_fills_before_the_window() {
    let default = settings(&[]);
    assert!(default.queue_messages() >= 2 * WINDOW_EVENTS);
    assert!(default.queue_kbytes() * 1024 > 2 * WINDOW_BYTES + 1_048_576);

    let small = settings(&[])
        .with_window(10, 1000)
        .with("message.max.bytes", "100000000");
    assert!(small.queue_messages() >= 20);
    assert!(
        small.queue_kbytes() * 1024 > 100_000_000,
        "one record may exceed the window"
    );

    let huge = settings(&[]).with_window(usize::MAX, usize::MAX);
    huge.client_config().create_native_config().unwrap();
}

#[test]
fn an_unsafe_choice_takes_with_it_what_librdkafka_would_refuse() {
    let chosen = |pairs: &[(&str, &str)]| {
        Settings::new("localhost:9092", &user(pairs), "walpost", true).unwrap()
    };
    let weak = chosen(&[("acks", "1")]);
    assert_eq!(weak.get("enable.idempotence"), Some("false"));
    assert_eq!(weak.get("enable.gapless.guarantee"), Some("false"));
    crate::Producer::new(&weak).unwrap();
    let weak = chosen(&[("enable.idempotence", "false")]);
    assert_eq!(weak.get("enable.gapless.guarantee"), Some("false"));
    crate::Producer::new(&weak).unwrap();
    let strong = chosen(&[("message.timeout.ms", "5000")]);
    assert_eq!(strong.get("enable.idempotence"), Some("true"));
    crate::Producer::new(&strong).unwrap();
}

#[test]
fn our_own_adjustments_are_not_guarded() {
    let probe = settings(&[])
        .with("batch.num.messages", "1")
        .with("max.in.flight", "1");
    assert_eq!(
        probe.get("max.in.flight.requests.per.connection"),
        Some("1")
    );
    crate::Producer::new(&probe).unwrap();
}

#[test]
fn suggestions_are_properties_of_librdkafka() {
    let native = ClientConfig::new().create_native_config().unwrap();
    for name in rules::NAMES {
        // A property without a value is known, too: only its reading fails otherwise.
        let known = native.get(name);
        assert!(
            !matches!(
                known,
                Err(KafkaError::ClientConfig(
                    RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
                    ..
                ))
            ) || accepted_by_librdkafka(name, name, "1").is_ok(),
            "{name}"
        );
    }
}

/// What a configuration comes to, without the defaults.
fn meant(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let defaults = settings(&[]).properties;
    let whole = Settings::new("localhost:9092", &user(pairs), "walpost", false);
    let whole = whole.unwrap_or_else(|problems| panic!("{pairs:?}: {problems:?}"));
    let is_new = |(name, value): &(&String, &String)| defaults.get(*name) != Some(*value);
    let owned = |(name, value): (&String, &String)| (name.clone(), value.clone());
    whole.properties.iter().filter(is_new).map(owned).collect()
}

/// Properties with their values.
type Given<'a> = &'a [(&'a str, &'a str)];

#[test]
fn a_java_clients_configuration_is_understood_as_a_whole() {
    const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                         username=\"app\" password=\"p\\\"w;hunter2\";";
    let cases: [(Given<'_>, Given<'_>); 3] = [
        (
            &[
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.jaas.config", PLAIN),
                ("ssl.endpoint.identification.algorithm", ""),
            ],
            &[
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", "app"),
                ("sasl.password", "p\"w;hunter2"),
                ("ssl.endpoint.identification.algorithm", "none"),
            ],
        ),
        (
            &[
                ("security.protocol", "SSL"),
                ("ssl.truststore.location", "/etc/ca.pem"),
                ("ssl.keystore.location", "/etc/both.pem"),
                ("ssl.keystore.type", "PEM"),
            ],
            &[
                ("security.protocol", "SSL"),
                ("ssl.ca.location", "/etc/ca.pem"),
                ("ssl.certificate.location", "/etc/both.pem"),
                ("ssl.key.location", "/etc/both.pem"),
            ],
        ),
        (
            &[
                ("security.protocol", "SSL"),
                ("ssl.keystore.location", "/etc/client.p12"),
                ("ssl.keystore.type", "PKCS12"),
                ("ssl.keystore.password", "hunter2"),
            ],
            &[
                ("security.protocol", "SSL"),
                ("ssl.keystore.location", "/etc/client.p12"),
                ("ssl.keystore.password", "hunter2"),
            ],
        ),
    ];
    for (java, expected) in cases {
        assert_eq!(meant(java), user(expected), "{java:?}");
    }
}

#[test]
fn what_has_the_same_name_in_java_is_taken_as_it_is() {
    let java = [
        ("acks", "-1"),
        ("max.in.flight.requests.per.connection", "5"),
        ("retries", "2147483647"),
        ("compression.type", "zstd"),
        ("batch.size", "16384"),
        ("linger.ms", "5"),
        ("request.timeout.ms", "20000"),
        ("metadata.max.age.ms", "60000"),
        ("connections.max.idle.ms", "540000"),
        ("reconnect.backoff.ms", "50"),
        ("client.dns.lookup", "use_all_dns_ips"),
    ];
    assert_eq!(meant(&java), user(&java));
}

/// Property, value, and a part of the explanation.
const EXPLAINED: &[(&str, &str, &str)] = &[
    ("producer.acks", "all", "write acks"),
    ("producer.override.linger.ms", "5", "write linger.ms"),
    (
        "database.history.producer.security.protocol",
        "SSL",
        "write security.protocol",
    ),
    (
        "schema.history.internal.producer.sasl.mechanism",
        "PLAIN",
        "write sasl.mechanism",
    ),
    (
        "ssl.truststore.location",
        "/t.jks",
        "keytool -list -rfc -keystore /t.jks",
    ),
    (
        "ssl.truststore.location",
        "/t.p12",
        "openssl pkcs12 -in /t.p12 -nokeys",
    ),
    (
        "ssl.keystore.location",
        "/k.jks",
        "keytool -importkeystore -srckeystore /k.jks",
    ),
    ("ssl.keystore.type", "JKS", "PKCS12"),
    ("ssl.engine.factory.class", "a.B", "remove it"),
    ("ssl.protocol", "TLSv1.3", "remove it"),
    ("sasl.kerberos.service.name", "kafka", "SCRAM-SHA-512"),
    (
        "sasl.login.callback.handler.class",
        "a.Mine",
        "token.endpoint.url",
    ),
    (
        "sasl.login.callback.handler.class",
        "software.amazon.msk.auth.iam.IAMClientCallbackHandler",
        "SASL/SCRAM on the MSK cluster",
    ),
    (
        "sasl.jaas.config",
        "software.amazon.msk.auth.iam.IAMLoginModule required;",
        "SASL/SCRAM on the MSK cluster",
    ),
    (
        "sasl.jaas.config",
        "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;",
        "OAUTHBEARER",
    ),
    ("sasl.jaas.config", "hunter2", "sasl.username"),
    ("sasl.jaas.config", "a.Mine required;", "docs/kafka.md"),
    (
        "sasl.jaas.config",
        "PlainLoginModule required pass=\"hunter2\";",
        "username, password",
    ),
    ("sasl.login.refresh.window.factor", "0.9", "remove it"),
    (
        "sasl.oauthbearer.jwks.endpoint.url",
        "https://x/keys",
        "remove it",
    ),
    ("sasl.oauthbearer.assertion.file", "/x", "client.secret"),
    ("max.block.ms", "60000", "remove it"),
    ("buffer.memory", "33554432", "delivery.in_flight_bytes"),
    ("value.serializer", "a.B", "remove it"),
    ("interceptor.classes", "a.B", "remove it"),
    ("config.providers", "file", "${file:PATH}"),
];

#[test]
fn java_spellings_without_a_counterpart_are_explained() {
    for &(property, value, fix) in EXPLAINED {
        let found = problems(&[(property, value)], false);
        let found: Vec<_> = found
            .iter()
            .filter(|one| one.property == property)
            .collect();
        assert_eq!(found.len(), 1, "{property}={value}: {found:?}");
        assert!(found[0].fix.contains(fix), "{}", found[0]);
        assert!(!found[0].to_string().contains("hunter2"), "{}", found[0]);
    }
}

#[test]
fn a_token_endpoint_is_taken_over_and_kept_from_librdkafka() {
    let whole = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "OIDC"),
        (
            "sasl.oauthbearer.token.endpoint.url",
            "https://login.example/token",
        ),
        ("sasl.oauthbearer.client.credentials.client.id", "app"),
        ("sasl.oauthbearer.client.secret", "hunter2"),
        ("sasl.oauthbearer.extensions", "pool=b"),
        ("https.ca.location", "/etc/ca.pem"),
    ];
    let settings = settings(&whole);
    assert!(settings.tokens().is_some());
    let config = settings.client_config();
    assert_eq!(config.get("sasl.mechanism"), Some("OAUTHBEARER"));
    for name in oauth::PROPERTIES {
        assert_eq!(config.get(name), None, "{name}");
    }
    assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
    assert_eq!(settings.redactor().redacted("id hunter2"), "id ****");
    config.create_native_config().unwrap();
}

#[test]
fn a_token_endpoint_that_lacks_something_is_refused() {
    let base = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "OAUTHBEARER"),
    ];
    let names: Vec<_> = problems(&base, false)
        .into_iter()
        .map(|one| one.property)
        .collect();
    assert_eq!(names, [oauth::URL, oauth::CLIENT_ID, oauth::CLIENT_SECRET]);
    let unsecured = [
        base[0],
        base[1],
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
    ];
    assert_eq!(problems(&unsecured, false), []);
    let table = [
        (oauth::METHOD, "saml"),
        (oauth::URL, "login.example/token"),
        (oauth::URL, "https://"),
        (oauth::URL, "https://app:hunter2@login.example/token"),
        (oauth::EXTENSIONS, "auth=x"),
        (oauth::CLIENT_ID, ""),
        (oauth::CLIENT_SECRET, ""),
    ];
    for (name, value) in table {
        let found = problems(&[base[0], base[1], (name, value)], false);
        let found = found.iter().find(|one| one.property == name);
        let found = found.unwrap_or_else(|| panic!("{name}={value}"));
        assert!(!found.to_string().contains("hunter2"), "{found}");
    }
    let idle = [(oauth::CLIENT_SECRET, "hunter2")];
    assert_eq!(problems(&idle, false)[0].property, oauth::CLIENT_SECRET);
}

#[test]
fn numbers_are_read_as_librdkafka_reads_them() {
    for (text, number) in [
        ("5000", 5_000),
        (" 5000", 5_000),
        ("0x300000", 0x30_0000),
        ("0X300000", 0x30_0000),
        ("010000", 4_096),
        ("+5000", 5_000),
    ] {
        let settings = settings(&[("message.max.bytes", text)]);
        assert_eq!(settings.message_max_bytes(), number, "{text:?}");
        let native = settings.client_config().create_native_config().unwrap();
        let read = native.get("message.max.bytes").unwrap();
        assert_eq!(read, number.to_string(), "{text:?}");
    }
}

#[test]
fn what_the_user_chose_is_known_under_any_of_its_names() {
    let settings = settings(&[("max.request.size", "5000")]).with("batch.size", "7");
    assert!(settings.is_chosen("message.max.bytes"));
    assert!(settings.is_chosen("max.request.size"));
    assert!(!settings.is_chosen("batch.size"), "that was ours");
    assert!(!settings.is_chosen("acks"));
}
