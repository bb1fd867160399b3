//! Logging in: certificates and passwords.

use walpost_tests::SecuredKafka;

use crate::stage::{PASSWORD, Stage, USER, all_deliver};

const ALGORITHM: &str = "ssl.endpoint.identification.algorithm";
const SECRET: &str = "store-hunter-91";
const TLS: (&str, &str) = ("security.protocol", "ssl");

#[test]
fn tls_is_spoken_where_the_authority_is_named() {
    let kafka = SecuredKafka::shared();
    let (ca, pem) = (kafka.authority_file(), kafka.authority().pem());
    let store = [
        ("ssl.truststore.location", ca.as_str()),
        ("ssl.truststore.type", "PEM"),
    ];
    let ways = [
        vec![TLS, ("ssl.ca.location", &ca)],
        vec![TLS, ("ssl.ca.pem", &pem)],
        vec![TLS, store[0], store[1]],
    ];
    all_deliver("TLS", &ways);
}

#[test]
fn the_name_in_a_certificate_need_not_fit_if_that_is_wished() {
    let ca = SecuredKafka::shared().authority_file();
    // The second one is Java's.
    let ways = ["none", ""].map(|none| {
        let trusted = ("ssl.ca.location", ca.as_str());
        vec![TLS, trusted, (ALGORITHM, none)]
    });
    all_deliver("STRANGER", &ways);
}

#[test]
fn a_client_certificate_is_shown_from_files_text_and_stores() {
    let stage = Stage::new("mtls");
    let authority = stage.kafka.authority();
    let identity = authority.issue(USER, &[]);
    let (certificate, key) = (identity.certificate_pem(), identity.key_pem());
    let locked = identity.encrypted_key_pem(SECRET);
    let certificate_file = stage.file("client.pem", &certificate);
    let key_file = stage.file("key.pem", &key);
    let locked_file = stage.file("locked.pem", &locked);
    let both_file = stage.file("both.pem", key.clone() + &certificate);
    let store_file = stage.file("client.p12", identity.pkcs12(authority, SECRET));
    let ca = stage.kafka.authority_file();
    let ways: [&[(&str, &str)]; 6] = [
        &[
            ("ssl.certificate.location", &certificate_file),
            ("ssl.key.location", &key_file),
        ],
        &[
            ("ssl.certificate.location", &certificate_file),
            ("ssl.key.location", &locked_file),
            ("ssl.key.password", SECRET),
        ],
        &[
            ("ssl.certificate.pem", &certificate),
            ("ssl.key.pem", &locked),
            ("ssl.key.password", SECRET),
        ],
        &[
            ("ssl.keystore.location", &store_file),
            ("ssl.keystore.password", SECRET),
        ],
        &[
            ("ssl.keystore.location", &both_file),
            ("ssl.keystore.type", "PEM"),
        ],
        &[
            ("ssl.keystore.certificate.chain", &certificate),
            ("ssl.keystore.key", &key),
        ],
    ];
    let trusted = [TLS, ("ssl.ca.location", ca.as_str())];
    all_deliver("MTLS", &ways.map(|way| [&trusted, way].concat()));
}

#[test]
fn passwords_open_every_mechanism_with_and_without_tls() {
    let ca = SecuredKafka::shared().authority_file();
    let login = |protocol| {
        vec![
            ("security.protocol", protocol),
            ("sasl.username", USER),
            ("sasl.password", PASSWORD),
        ]
    };
    let plain = ["PLAIN", "SCRAM-SHA-256"].map(|mechanism| {
        let mechanism = ("sasl.mechanism", mechanism);
        [login("sasl_plaintext"), vec![mechanism]].concat()
    });
    all_deliver("SASL", &plain);
    let tls = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(|mechanism| {
        let trusted = ("ssl.ca.location", ca.as_str());
        [
            login("SASL_SSL"),
            vec![trusted, ("sasl.mechanisms", mechanism)],
        ]
        .concat()
    });
    all_deliver("SASLTLS", &tls);
}

#[test]
fn the_login_of_a_java_client_is_understood() {
    let modules = [
        ("PLAIN", "plain.PlainLoginModule"),
        ("SCRAM-SHA-256", "scram.ScramLoginModule"),
    ];
    let logins = modules.map(|(mechanism, module)| {
        let login = format!(
            "org.apache.kafka.common.security.{module} required username=\"{USER}\" \
             password=\"{PASSWORD}\";"
        );
        (mechanism, login)
    });
    let ways = logins.each_ref().map(|(mechanism, login)| {
        vec![
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", *mechanism),
            ("sasl.jaas.config", login.as_str()),
        ]
    });
    all_deliver("SASL", &ways);
}
