//! Where Kafka is there and does not let us in: said at once, with the fix.

use walpost_tests::Authority;

use crate::stage::{PASSWORD, Refused, Stage, USER, assert_refused, each, ended};

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
        (stage.refuses(code, &words), brokers)
    };
    let listed = |(refused, brokers): (Refused, String), title: &str| {
        refused.is_listed(title, &[(&brokers, "127.0.0.1:9092")]);
    };
    for (mechanism, user, title) in [
        ("PLAIN", USER, "A wrong password for PLAIN"),
        ("SCRAM-SHA-256", USER, "A wrong password for SCRAM"),
        ("SCRAM-SHA-256", "nobody", "A user that Kafka does not know"),
    ] {
        let login = login(mechanism, user, WRONG);
        let words = ["refused the login", user, mechanism, "sasl.password"];
        let properties = [&[SASL][..], &login].concat();
        listed(refused("SASL", &properties, 77, &words), title);
    }
    let login = login("SCRAM-SHA-512", USER, PASSWORD);
    let words = [
        "does not offer the mechanism SCRAM-SHA-512",
        "PLAIN,SCRAM-SHA-256",
    ];
    let properties = [&[SASL][..], &login].concat();
    let title = "A mechanism that the broker does not offer";
    listed(refused("SASL", &properties, 78, &words), title);
    let ca = stage.kafka.authority_file();
    let ca = ("ssl.ca.location", ca.as_str());
    let words = ["asks for no login", "set security.protocol to ssl"];
    let properties = [&[SASL_TLS, ca][..], &login].concat();
    let title = "A login where the port asks for none";
    listed(refused("TLS", &properties, 78, &words), title);
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
    let finished = ended(stage.walpost.start(&["run"]));
    let _ = assert_refused(&finished, 77, &["refused the login"]);
    stage.check_finds(
        77,
        "WP-KAFKA-CREDENTIALS",
        &["refused the login", "sasl.password"],
    );
}

#[test]
fn certificates_of_brokers_are_refused_with_the_reason() {
    let stage = Stage::new("certificates");
    let ca = stage.kafka.authority_file();
    let other = stage.file("other.pem", Authority::new("Another authority").pem());
    let trusted = vec![TLS, ("ssl.ca.location", ca.as_str())];
    let unknown = [
        "The tests' authority",
        "not trusted here",
        "ssl.ca.location",
    ];
    let cases: [(&str, &str, _, &[&str]); 4] = [
        (
            "No authority named for the broker's certificate",
            "TLS",
            vec![TLS],
            &unknown,
        ),
        (
            "A broker's certificate of another authority",
            "TLS",
            vec![TLS, ("ssl.ca.location", other.as_str())],
            &unknown,
        ),
        (
            "A broker's certificate that is out of date",
            "EXPIRED",
            trusted.clone(),
            &["expired on", "renew"],
        ),
        (
            "A broker's certificate for another name",
            "STRANGER",
            trusted,
            &["made out to kafka.elsewhere.example, and not to 127.0.0.1"],
        ),
    ];
    each(&cases, |(title, listener, properties, words)| {
        let stage = Stage::new("certificate");
        let topic = stage.kafka.topic("certificate", 1);
        stage.write(&topic, "1");
        let brokers = stage.kafka.listener(listener);
        stage.configure(&brokers, properties, "");
        let refused = stage.refuses(78, words);
        stage.check_finds(1, "WP-KAFKA-SETTINGS", words);
        let text = refused.message.clone();
        let date = text.split("expired on ").nth(1).unwrap_or("no date");
        let names = [
            (brokers.as_str(), "127.0.0.1:9093"),
            (date, "Jan  1 00:00:00 2026 GMT"),
        ];
        refused.is_listed(title, &names);
    });
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
    let names = [(brokers.as_str(), "127.0.0.1:9093")];
    let words = ["wants a client certificate", "ssl.certificate.location"];
    let title = "No client certificate where one is wanted";
    stage.refuses(77, &words).is_listed(title, &names);
    let identities = [
        (
            Authority::new("Another authority").issue(USER, &[]),
            "A client certificate of another authority",
        ),
        (
            stage.kafka.authority().issue_expired(USER, &[]),
            "A client certificate that is out of date",
        ),
    ];
    for (identity, title) in identities {
        let certificate = stage.file("client.pem", identity.certificate_pem());
        let key = stage.file("key.pem", identity.key_pem());
        let shown = [
            ("ssl.certificate.location", certificate.as_str()),
            ("ssl.key.location", &key),
        ];
        stage.configure(&brokers, &[&[TLS, ca][..], &shown].concat(), "");
        let refused = stage.refuses(77, &["refused the client certificate", "trusts"]);
        refused.is_listed(title, &names);
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
    let brokers = stage.kafka.brokers();
    let names = [(brokers.as_str(), "127.0.0.1:9092")];
    let refused = stage.refuses(78, &words);
    refused.is_listed("TLS on a port without it", &names);
    stage.check_finds(1, "WP-KAFKA-SETTINGS", &words);
}

/// `run` ends with 78 and these words, for each set of properties beside those of TLS.
#[track_caller]
fn refuses_all(first: &[(&str, &str)], cases: &[Case<'_>]) {
    each(cases, |(properties, words)| {
        let stage = Stage::new("refused");
        let properties = [first, properties].concat();
        stage.configure(&stage.kafka.listener("MTLS"), &properties, "");
        let _ = stage.refuses(78, words);
    });
}

/// Properties, and words of the refusal.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn authorities_that_can_not_be_read_are_told_before_anything_connects() {
    let stage = Stage::new("authorities");
    let nowhere = stage
        .walpost
        .dir()
        .join("nowhere.pem")
        .display()
        .to_string();
    let key = stage.file("key.pem", stage.kafka.authority().issue("c", &[]).key_pem());
    let cases: [Case<'_>; 3] = [
        (
            &[("ssl.ca.location", &nowhere)],
            &["ssl.ca.location", "No such file", &nowhere],
        ),
        (
            &[("ssl.ca.location", &key)],
            &["ssl.ca.location", "no certificate in PEM"],
        ),
        (
            &[("ssl.ca.pem", "garbage")],
            &["ssl.ca.pem", "no certificate in PEM"],
        ),
    ];
    refuses_all(&[TLS], &cases);
}

#[test]
fn keys_and_passphrases_that_are_no_good_are_told_before_anything_connects() {
    let stage = Stage::new("keys");
    let authority = stage.kafka.authority();
    let (identity, other) = (authority.issue("c", &[]), authority.issue("d", &[]));
    let certificate = stage.file("client.pem", identity.certificate_pem());
    let other_key = stage.file("other.pem", other.key_pem());
    let locked = stage.file("locked.pem", identity.encrypted_key_pem("right-hunter"));
    let store = stage.file("c.p12", identity.pkcs12(authority, "right-hunter"));
    let nowhere = stage
        .walpost
        .dir()
        .join("nowhere.pem")
        .display()
        .to_string();
    let wrong = ("ssl.keystore.password", WRONG);
    let certificate = ("ssl.certificate.location", certificate.as_str());
    let cases: [Case<'_>; 6] = [
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
            &[("ssl.keystore.location", &store), wrong],
            &["ssl.keystore.password does not open"],
        ),
        (
            &[("ssl.keystore.location", &other_key), wrong],
            &["no PKCS #12 store", "keytool -importkeystore"],
        ),
    ];
    let ca = stage.kafka.authority_file();
    refuses_all(&[TLS, ("ssl.ca.location", &ca)], &cases);
}
