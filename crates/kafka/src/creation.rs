//! Why librdkafka did not make a client: mostly a file of keys that can't be used.
//!
//! Its texts name the property and an OpenSSL code. Whether a file is not there, is no file of that
//! kind, or wants another passphrase is told apart here.

use std::fs::File;

use rdkafka::error::KafkaError;

use crate::error::Error;
use crate::properties::Settings;

/// Properties that name files.
pub(crate) const FILES: &[&str] = &[
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// The error of a creation, with what it means where that is known.
pub(crate) fn explained(action: &'static str, error: &KafkaError, settings: &Settings) -> Error {
    let redactor = settings.redactor();
    let plain = Error::from_kafka(action, error);
    let KafkaError::ClientCreation(text) = error else {
        return plain.map_detail(|detail| redactor.redacted(&detail));
    };
    let better = unreadable(settings).or_else(|| meaning(text, settings));
    plain.map_detail(|detail| redactor.redacted(&better.unwrap_or(detail)))
}

/// The first file that can't be opened.
fn unreadable(settings: &Settings) -> Option<String> {
    FILES.iter().find_map(|name| {
        let path = settings.get(name).filter(|path| *path != "probe")?;
        let error = File::open(path).err()?;
        Some(format!("{name}: can't read {path}: {error}"))
    })
}

fn meaning(text: &str, settings: &Settings) -> Option<String> {
    let path = |name: &str| settings.get(name).unwrap_or_default().to_owned();
    let has = |part: &str| text.contains(part);
    if has("key values mismatch") {
        let why = "the private key does not belong to the certificate: name a pair in \
                   ssl.certificate.location and ssl.key.location";
        return Some(why.to_owned());
    }
    if has("ssl.keystore.location") {
        let store = path("ssl.keystore.location");
        return Some(if has("mac verify failure") {
            format!("ssl.keystore.password does not open {store}")
        } else if has("PKCS#12") {
            format!(
                "ssl.keystore.location: {store} is no PKCS #12 store (a Java store becomes one \
                 with keytool -importkeystore -srckeystore OLD.jks -destkeystore NEW.p12 \
                 -deststoretype PKCS12)"
            )
        } else {
            return None;
        });
    }
    for name in ["ssl.key.location", "ssl.key.pem"] {
        if has(name) {
            let place = match name {
                "ssl.key.pem" => "the key".to_owned(),
                _ => path(name),
            };
            let passphrase = match settings.get("ssl.key.password") {
                Some(_) => "ssl.key.password is not the passphrase of it, or it is no key",
                None => "it is no private key in PEM, or has a passphrase: set ssl.key.password",
            };
            return Some(format!("{name}: {place} can't be used: {passphrase}"));
        }
    }
    for name in [
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.ca.location",
        "ssl.ca.pem",
    ] {
        if has(name) {
            return Some(format!("{name}: there is no certificate in PEM in it"));
        }
    }
    None
}
