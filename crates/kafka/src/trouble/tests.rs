use std::collections::BTreeMap;

use super::*;

/// What a line of librdkafka's log means with these properties.
fn explain(properties: &[(&str, &str)], line: &str) -> Trouble {
    let user: BTreeMap<_, _> = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let settings = Settings::new("k1:9092, k2", &user, "test", false).unwrap();
    Facts::of(&settings).explain(line)
}

const TLS: &[(&str, &str)] = &[("security.protocol", "ssl")];
const LOGIN: &[(&str, &str)] = &[
    ("security.protocol", "sasl_plaintext"),
    ("sasl.mechanism", "PLAIN"),
    ("sasl.username", "app"),
    ("sasl.password", "hunter2"),
];

#[track_caller]
fn assert_says(trouble: &Trouble, kind: TroubleKind, message: &str, fix: &str) {
    assert_eq!(trouble.kind, kind, "{trouble:?}");
    assert_eq!(trouble.message, message);
    assert!(trouble.fix.contains(fix), "{fix:?} is not in {trouble:?}");
}

#[test]
fn addresses_that_only_the_cluster_names_are_told_from_configured_ones() {
    let refused = "Connect to ipv4#10.0.0.7:9092 failed: Connection refused (after 2ms in state \
                   CONNECT, 3 identical error(s) suppressed)";
    for known in ["k1:9092/bootstrap", "k1:9092/1", "k2:9092/2"] {
        let trouble = explain(&[], &format!("{known}: {refused}"));
        let (address, _) = known.split_once('/').unwrap();
        let message = format!("the broker {address} can't be reached: Connection refused");
        assert_says(
            &trouble,
            TroubleKind::Unreachable,
            &message,
            "kafka.brokers",
        );
    }
    let trouble = explain(TLS, &format!("ssl://inner:9093/3: {refused}"));
    let message = "Kafka answers at kafka.brokers, and names inner:9093 as the address of its \
                   broker 3: the broker inner:9093 can't be reached: Connection refused";
    assert_says(
        &trouble,
        TroubleKind::Unreachable,
        message,
        "advertised.listeners",
    );
}

#[test]
fn a_name_without_an_address_is_told() {
    let line = "nowhere:9092/bootstrap: Failed to resolve 'nowhere:9092': Name or service not \
                known (after 0ms in state CONNECT)";
    let message =
        "the name of the broker nowhere:9092 can't be resolved: Name or service not known";
    assert_says(
        &explain(&[], line),
        TroubleKind::Unreachable,
        message,
        "kafka.brokers",
    );
}

#[test]
fn a_broker_that_hangs_up_is_explained_by_what_we_do_not_offer() {
    let ends = [
        "Disconnected: connection closed by peer: receive 0 after POLLIN (after 2ms in state UP)",
        "Send failed: SSL transport error: Broken pipe (after 0ms in state UP)",
        "Receive failed: Connection reset by peer (after 0ms in state UP)",
    ];
    for end in ends {
        let line = format!("k1:9092/bootstrap: {end}");
        let message = "the broker k1:9092 closes the connection without a word";
        assert_says(
            &explain(&[], &line),
            TroubleKind::Unreachable,
            message,
            "TLS or a login",
        );
        assert_says(
            &explain(TLS, &line),
            TroubleKind::Unreachable,
            message,
            "a login",
        );
        assert_says(
            &explain(LOGIN, &line),
            TroubleKind::Unreachable,
            message,
            "sasl_ssl",
        );
    }
}

#[test]
fn tls_errors_say_on_which_side_the_mistake_is() {
    let explain_tls = |text: &str| explain(TLS, &format!("ssl://k1:9092/bootstrap: {text}"));
    for text in [
        "SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a \
         PLAINTEXT broker listener? (after 2ms in state SSL_HANDSHAKE)",
        "SSL handshake failed: error:0A00010B:SSL routines::wrong version number",
    ] {
        let message = "the broker k1:9092 does not answer as TLS: the port seems to be one \
                       without encryption";
        assert_says(
            &explain_tls(text),
            TroubleKind::Configuration,
            message,
            "plaintext",
        );
    }
    let alert = "Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL \
                 alert number 42";
    let message = "the broker k1:9092 wants a client certificate (bad certificate)";
    assert_says(
        &explain_tls(alert),
        TroubleKind::Credentials,
        message,
        "ssl.key.location",
    );
    let shown = [
        TLS[0],
        ("ssl.certificate.location", "/c.pem"),
        ("ssl.key.location", "/k.pem"),
    ];
    let message = "the broker k1:9092 refused the client certificate (bad certificate)";
    let line = format!("ssl://k1:9092/1: {alert}");
    assert_says(
        &explain(&shown, &line),
        TroubleKind::Credentials,
        message,
        "truststore",
    );
    let version = "SSL handshake failed: error:0A00042E:SSL routines::tlsv1 alert protocol \
                   version: SSL alert number 70";
    let message = "the broker k1:9092 refused the TLS handshake (protocol version)";
    assert_says(
        &explain_tls(version),
        TroubleKind::Configuration,
        message,
        "ciphers",
    );
    let verify = "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: \
                  broker certificate could not be verified, verify that ...";
    let trouble = explain_tls(verify);
    assert_eq!(trouble.refused_certificate_of.as_deref(), Some("k1:9092"));
    assert_eq!(trouble.kind, TroubleKind::Configuration);
}

#[test]
fn logins_that_fail_name_the_user_and_never_the_password() {
    let line = "sasl_plaintext://k1:9092/bootstrap: SASL authentication error: Authentication \
                failed: Invalid username or password (after 301ms in state AUTH_REQ)";
    let message = "the broker k1:9092 refused the login of the user 'app' by PLAIN: \
                   Authentication failed: Invalid username or password";
    let trouble = explain(LOGIN, line);
    assert_says(&trouble, TroubleKind::Credentials, message, "sasl.password");
    assert!(!format!("{trouble:?}").contains("hunter2"));

    let offered = "sasl_plaintext://k1:9092/1: SASL PLAIN mechanism handshake failed: Broker: \
                   Unsupported SASL mechanism: broker's supported mechanisms: SCRAM-SHA-512 \
                   (after 0ms in state AUTH_HANDSHAKE)";
    let message = "the broker k1:9092 does not offer the mechanism PLAIN, but SCRAM-SHA-512";
    assert_says(
        &explain(LOGIN, offered),
        TroubleKind::Configuration,
        message,
        "sasl.mechanism",
    );
    let none = "sasl_plaintext://k1:9092/1: SASL PLAIN mechanism handshake failed: Broker: \
                Request not valid in current SASL state: broker's supported mechanisms:  (after \
                0ms in \
                state AUTH_HANDSHAKE)";
    let message = "the broker k1:9092 asks for no login: its listener has no SASL";
    assert_says(
        &explain(LOGIN, none),
        TroubleKind::Configuration,
        message,
        "plaintext",
    );
}

#[test]
fn what_is_not_known_is_passed_on() {
    let trouble = explain(
        &[],
        "k1:9092/bootstrap: something new (after 1ms in state UP)",
    );
    let message = "the connection to the broker k1:9092 failed: something new";
    assert_says(&trouble, TroubleKind::Unreachable, message, "kafka.brokers");
    let trouble = explain(&[], "no colon");
    assert_eq!(
        trouble.message,
        "the connection to a broker failed: no colon"
    );
}

#[test]
fn a_missing_right_is_told_with_the_line_that_grants_it() {
    let user = BTreeMap::from([("client.id".to_owned(), "x".to_owned())]);
    let settings = Settings::new("k1:9092", &user, "test", false).unwrap();
    let trouble = Trouble::denied("CREATE", "orders", &settings);
    assert_eq!(trouble.kind, TroubleKind::Credentials);
    assert!(
        trouble
            .message
            .starts_with("A client that does not say who it is"),
        "{trouble}"
    );
    assert!(
        trouble.fix.contains("--operation CREATE --topic orders"),
        "{}",
        trouble.fix
    );
}
