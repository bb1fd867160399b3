//! Logging in: certificates and passwords.

use crate::stage::{PASSWORD, Stage, USER};

const ALGORITHM: &str = "ssl.endpoint.identification.algorithm";
const SECRET: &str = "store-hunter-91";

#[test]
fn tls_is_spoken_where_the_authority_is_named() {
    let stage = Stage::new("tls");
    let ca = stage.kafka.authority_file();
    let tls = ("security.protocol", "ssl");
    stage.delivers("TLS", &[tls, ("ssl.ca.location", &ca)]);
    let pem = stage.kafka.authority().pem();
    stage.delivers("TLS", &[tls, ("ssl.ca.pem", &pem)]);
    stage.delivers(
        "TLS",
        &[
            tls,
            ("ssl.truststore.location", &ca),
            ("ssl.truststore.type", "PEM"),
        ],
    );
}

#[test]
fn the_name_in_a_certificate_need_not_fit_if_that_is_wished() {
    let stage = Stage::new("unnamed");
    let ca = stage.kafka.authority_file();
    let tls = [
        ("security.protocol", "ssl"),
        ("ssl.ca.location", ca.as_str()),
    ];
    stage.delivers("STRANGER", &[tls[0], tls[1], (ALGORITHM, "none")]);
    // Java's word for none.
    stage.delivers("STRANGER", &[tls[0], tls[1], (ALGORITHM, "")]);
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
    let tls = [
        ("security.protocol", "ssl"),
        ("ssl.ca.location", ca.as_str()),
    ];
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
    for way in ways {
        stage.delivers("MTLS", &[&tls, way].concat());
    }
}

#[test]
fn passwords_open_every_mechanism_with_and_without_tls() {
    let stage = Stage::new("passwords");
    let ca = stage.kafka.authority_file();
    let user = [("sasl.username", USER), ("sasl.password", PASSWORD)];
    let plain = ("security.protocol", "sasl_plaintext");
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let mechanism = ("sasl.mechanism", mechanism);
        stage.delivers("SASL", &[plain, mechanism, user[0], user[1]]);
    }
    let tls = [
        ("security.protocol", "SASL_SSL"),
        ("ssl.ca.location", ca.as_str()),
    ];
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mechanism = ("sasl.mechanisms", mechanism);
        stage.delivers("SASLTLS", &[tls[0], tls[1], mechanism, user[0], user[1]]);
    }
}

#[test]
fn the_login_of_a_java_client_is_understood() {
    let stage = Stage::new("jaas");
    let login = |module: &str| {
        format!(
            "org.apache.kafka.common.security.{module} required username=\"{USER}\" \
                 password=\"{PASSWORD}\";"
        )
    };
    let modules = [
        ("PLAIN", "plain.PlainLoginModule"),
        ("SCRAM-SHA-256", "scram.ScramLoginModule"),
    ];
    for (mechanism, module) in modules {
        let login = login(module);
        let properties = [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", mechanism),
            ("sasl.jaas.config", login.as_str()),
        ];
        stage.delivers("SASL", &properties);
    }
}
