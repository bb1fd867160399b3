//! Where Kafka is there and does not let us in: said at once, with the fix.

use walpost_tests::Authority;

use crate::stage::{PASSWORD, Stage, USER};

const WRONG: &str = "wrong-hunter-00";

const TLS: (&str, &str) = ("security.protocol", "ssl");
const SASL: (&str, &str) = ("security.protocol", "sasl_plaintext");
const SASL_TLS: (&str, &str) = ("security.protocol", "sasl_ssl");

#[test]
fn passwords_and_mechanisms_that_do_not_fit_are_refused() {
    let stage = Stage::new("login");
    let topic = stage.kafka.topic("login", 1);
    stage.write(&topic, "1");
    let login = |mechanism, user, password| {
        [
            ("sasl.mechanism", mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
        ]
    };
    let refused = |listener: &str, properties: &[(&str, &str)], code, words: &[&str]| {
        let brokers = stage.kafka.listener(listener);
        stage.configure(&brokers, properties, "");
        let words = [words, &[brokers.as_str()]].concat();
        stage.refuses(code, &words);
    };
    for (mechanism, user) in [
        ("PLAIN", USER),
        ("SCRAM-SHA-256", USER),
        ("SCRAM-SHA-256", "nobody"),
    ] {
        let login = login(mechanism, user, WRONG);
        let words = ["refused the login", user, mechanism, "sasl.password"];
        refused("SASL", &[&[SASL][..], &login].concat(), 77, &words);
    }
    let login = login("SCRAM-SHA-512", USER, PASSWORD);
    let words = [
        "does not offer the mechanism SCRAM-SHA-512",
        "PLAIN,SCRAM-SHA-256",
    ];
    refused("SASL", &[&[SASL][..], &login].concat(), 78, &words);
    let ca = stage.kafka.authority_file();
    let ca = ("ssl.ca.location", ca.as_str());
    let words = ["asks for no login", "set security.protocol to ssl"];
    refused("TLS", &[&[SASL_TLS, ca][..], &login].concat(), 78, &words);
    assert!(stage.read(&topic).is_empty());

    // A service ends as well: nothing will change by itself. And `check` sees the same.
    let login = [
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", USER),
        ("sasl.password", WRONG),
    ];
    stage.configure(
        &stage.kafka.listener("SASL"),
        &[&[SASL][..], &login].concat(),
        "",
    );
    let finished = crate::stage::ended(stage.walpost.start(&["run"]));
    crate::stage::assert_refused(&finished, 77, &["refused the login"]);
    stage.check_finds(
        77,
        "WP-KAFKA-CREDENTIALS",
        &["refused the login", "sasl.password"],
    );
}

#[test]
fn certificates_of_brokers_are_refused_with_the_reason() {
    let stage = Stage::new("certificates");
    let topic = stage.kafka.topic("certificates", 1);
    stage.write(&topic, "1");
    let ca = stage.kafka.authority_file();
    let other = stage.file("other.pem", Authority::new("Another authority").pem());
    let refused = |listener: &str, properties: &[(&str, &str)], words: &[&str]| {
        stage.configure(&stage.kafka.listener(listener), properties, "");
        stage.refuses(78, words);
        stage.check_finds(1, "WP-KAFKA-SETTINGS", words);
    };
    let unknown = [
        "The tests' authority",
        "not trusted here",
        "ssl.ca.location",
    ];
    refused("TLS", &[TLS], &unknown);
    refused("TLS", &[TLS, ("ssl.ca.location", &other)], &unknown);
    let ca = ("ssl.ca.location", ca.as_str());
    refused("EXPIRED", &[TLS, ca], &["expired on", "renew"]);
    let words = ["made out to kafka.elsewhere.example, and not to 127.0.0.1"];
    refused("STRANGER", &[TLS, ca], &words);
}

#[test]
fn certificates_of_clients_are_asked_for_and_judged() {
    let stage = Stage::new("clients");
    let topic = stage.kafka.topic("clients", 1);
    stage.write(&topic, "1");
    let ca = stage.kafka.authority_file();
    let ca = ("ssl.ca.location", ca.as_str());
    let brokers = stage.kafka.listener("MTLS");
    stage.configure(&brokers, &[TLS, ca], "");
    stage.refuses(
        77,
        &["wants a client certificate", "ssl.certificate.location"],
    );
    let identities = [
        Authority::new("Another authority").issue(USER, &[]),
        stage.kafka.authority().issue_expired(USER, &[]),
    ];
    for identity in identities {
        let certificate = stage.file("client.pem", identity.certificate_pem());
        let key = stage.file("key.pem", identity.key_pem());
        let shown = [
            ("ssl.certificate.location", certificate.as_str()),
            ("ssl.key.location", &key),
        ];
        stage.configure(&brokers, &[&[TLS, ca][..], &shown].concat(), "");
        stage.refuses(77, &["refused the client certificate", "trusts"]);
    }
}

#[test]
fn tls_on_a_port_without_it_is_recognised() {
    let stage = Stage::new("tls_to_plain");
    let topic = stage.kafka.topic("tls_to_plain", 1);
    stage.write(&topic, "1");
    let ca = stage.kafka.authority_file();
    let words = ["does not answer as TLS", "security.protocol to plaintext"];
    stage.configure(&stage.kafka.brokers(), &[TLS, ("ssl.ca.location", &ca)], "");
    stage.refuses(78, &words);
    stage.check_finds(1, "WP-KAFKA-SETTINGS", &words);
}

#[test]
fn files_and_passphrases_that_are_no_good_are_told_before_anything_connects() {
    let stage = Stage::new("files");
    let authority = stage.kafka.authority();
    let (identity, other) = (authority.issue("c", &[]), authority.issue("d", &[]));
    let certificate = stage.file("client.pem", identity.certificate_pem());
    let key = stage.file("key.pem", identity.key_pem());
    let other_key = stage.file("other.pem", other.key_pem());
    let locked = stage.file("locked.pem", identity.encrypted_key_pem("right-hunter"));
    let store = stage.file("c.p12", identity.pkcs12(authority, "right-hunter"));
    let nowhere = stage
        .walpost
        .dir()
        .join("nowhere.pem")
        .display()
        .to_string();
    let ca = stage.kafka.authority_file();
    let certificate = ("ssl.certificate.location", certificate.as_str());
    let cases: [(&[(&str, &str)], &[&str]); 9] = [
        (
            &[("ssl.ca.location", &nowhere)],
            &["ssl.ca.location", "No such file", &nowhere],
        ),
        (
            &[("ssl.ca.location", &key)],
            &["ssl.ca.location", "no certificate in PEM"],
        ),
        (
            &[certificate, ("ssl.key.location", &nowhere)],
            &["ssl.key.location", "No such file"],
        ),
        (
            &[
                certificate,
                ("ssl.key.location", &locked),
                ("ssl.key.password", WRONG),
            ],
            &["ssl.key.password is not the passphrase"],
        ),
        (
            &[certificate, ("ssl.key.location", &locked)],
            &["set ssl.key.password"],
        ),
        (
            &[certificate, ("ssl.key.location", &other_key)],
            &["does not belong to the certificate"],
        ),
        (
            &[
                ("ssl.keystore.location", &store),
                ("ssl.keystore.password", WRONG),
            ],
            &["ssl.keystore.password does not open"],
        ),
        (
            &[
                ("ssl.keystore.location", &key),
                ("ssl.keystore.password", WRONG),
            ],
            &["no PKCS #12 store", "keytool -importkeystore"],
        ),
        (
            &[("ssl.ca.pem", "garbage")],
            &["ssl.ca.pem", "no certificate in PEM"],
        ),
    ];
    for (properties, words) in cases {
        let trusted = [TLS, ("ssl.ca.location", ca.as_str())];
        let names_authority = properties
            .iter()
            .any(|(name, _)| name.starts_with("ssl.ca."));
        let first = if names_authority {
            &trusted[..1]
        } else {
            &trusted[..]
        };
        stage.configure(
            &stage.kafka.listener("MTLS"),
            &[first, properties].concat(),
            "",
        );
        stage.refuses(78, words);
    }
}
