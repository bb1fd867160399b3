//! Java's spellings: what a producer's, a Connect worker's or a connector's configuration says.
//!
//! Most of Java's names are librdkafka's as well. The others are translated here where there is
//! something that means the same, and explained where there is not, so that a configuration can be
//! copied and comes out right or is told what to write.

use super::jaas::{self, Module};
use super::{PropertyError, problem};

/// A property as the user gave it and as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// What the user wrote, for messages.
    pub(super) spelling: String,
    /// The name that it stands for.
    pub(super) name: String,
    pub(super) value: String,
}

impl Given {
    pub(super) fn new(spelling: &str, name: &str, value: &str) -> Self {
        Self {
            spelling: spelling.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }
}

/// What a property of Java's stands for; `None` where it is none that has to be translated.
pub(super) fn translated(
    spelling: &str,
    value: &str,
    stores: &Stores<'_>,
) -> Option<Result<Vec<Given>, PropertyError>> {
    if let Some(rest) = prefixed(spelling) {
        let why = "it is the spelling of a worker or connector that has other clients as well";
        return Some(Err(problem(spelling, why, format!("write {rest}"))));
    }
    let one = |name: &str| Some(Ok(vec![Given::new(spelling, name, value)]));
    let nothing = || Some(Ok(Vec::new()));
    match spelling {
        "sasl.jaas.config" => Some(login(spelling, value)),
        "sasl.mechanism" if value.trim().eq_ignore_ascii_case("AWS_MSK_IAM") => None,
        "ssl.endpoint.identification.algorithm" if value.trim().is_empty() => {
            Some(Ok(vec![Given::new(spelling, spelling, "none")]))
        }
        "ssl.truststore.location" if stores.trust_is_pem() => one("ssl.ca.location"),
        "ssl.truststore.location" => Some(Err(trust_store(value, stores))),
        "ssl.truststore.type" if value.eq_ignore_ascii_case("PEM") => nothing(),
        // What is wrong with it is said where the store itself is named.
        "ssl.truststore.type" | "ssl.truststore.password" if stores.trust.is_some() => nothing(),
        "ssl.keystore.type" => Some(key_store_type(spelling, value)),
        "ssl.keystore.location" if stores.key_is("PEM") => Some(Ok(vec![
            Given::new(spelling, "ssl.certificate.location", value),
            Given::new(spelling, "ssl.key.location", value),
        ])),
        "ssl.keystore.location" if stores.key_is("JKS") || is_java_store(value) => {
            // The type's own problem says it already.
            if stores.key_is("JKS") {
                return nothing();
            }
            Some(Err(java_key_store(spelling, value)))
        }
        "sasl.login.callback.handler.class" => Some(callback(spelling, value)),
        _ => None,
    }
}

/// What the other properties say of Java's stores.
#[derive(Default)]
pub(super) struct Stores<'a> {
    pub(super) trust: Option<&'a str>,
    pub(super) trust_type: Option<&'a str>,
    pub(super) key_type: Option<&'a str>,
}

impl Stores<'_> {
    fn trust_is_pem(&self) -> bool {
        match self.trust_type {
            Some(kind) => kind.eq_ignore_ascii_case("PEM"),
            None => self.trust.is_some_and(is_pem),
        }
    }

    fn key_is(&self, kind: &str) -> bool {
        self.key_type
            .is_some_and(|found| found.eq_ignore_ascii_case(kind))
    }
}

fn is_pem(path: &str) -> bool {
    [".pem", ".crt", ".cer"]
        .iter()
        .any(|end| path.ends_with(end))
}

fn is_java_store(path: &str) -> bool {
    path.ends_with(".jks")
}

/// The property without the prefix of a Connect worker, a connector, Debezium or Spring.
fn prefixed(spelling: &str) -> Option<&str> {
    const PREFIXES: &[&str] = &[
        "producer.override.",
        "producer.",
        "database.history.producer.",
        "schema.history.internal.producer.",
        "debezium.sink.kafka.producer.",
        "spring.kafka.properties.",
        "kafka.",
    ];
    PREFIXES
        .iter()
        .find_map(|prefix| spelling.strip_prefix(prefix))
}

fn login(spelling: &str, text: &str) -> Result<Vec<Given>, PropertyError> {
    let fail = |why: &str, fix: &str| Err(problem(spelling, why, fix));
    let entry = match jaas::parse(text) {
        Ok(entry) => entry,
        Err(why) => {
            let fix = "write it as 'MODULE required username=\"…\" password=\"…\";', or set \
                       sasl.username and sasl.password";
            return fail(why, fix);
        }
    };
    let wanted: &[(&str, &str)] = match entry.module {
        Module::Plain | Module::Scram => {
            &[("username", "sasl.username"), ("password", "sasl.password")]
        }
        Module::Oauth => &[
            ("clientId", "sasl.oauthbearer.client.id"),
            ("clientSecret", "sasl.oauthbearer.client.secret"),
            ("scope", "sasl.oauthbearer.scope"),
        ],
        Module::Kerberos => return fail(super::rules::KERBEROS.0, super::rules::KERBEROS.1),
        Module::MskIam => return fail(super::rules::MSK_IAM.0, super::rules::MSK_IAM.1),
        Module::Other => {
            return fail(
                "there is no such login module here",
                "PlainLoginModule, ScramLoginModule and OAuthBearerLoginModule can be used; for \
                 others see docs/kafka.md",
            );
        }
    };
    let mut given = Vec::new();
    let mut extensions = Vec::new();
    for (option, value) in &entry.options {
        if let Some((_, name)) = wanted.iter().find(|(known, _)| known == option) {
            given.push(Given::new(spelling, name, value));
        } else if let (Module::Oauth, Some(name)) =
            (entry.module, option.strip_prefix("extension_"))
        {
            extensions.push(format!("{name}={value}"));
        } else {
            let names: Vec<_> = wanted.iter().map(|(known, _)| *known).collect();
            let why = format!("its option {option} is not known here");
            return fail(&why, &format!("{} can be used", names.join(", ")));
        }
    }
    if !extensions.is_empty() {
        let extensions = extensions.join(",");
        given.push(Given::new(
            spelling,
            "sasl.oauthbearer.extensions",
            &extensions,
        ));
    }
    Ok(given)
}

fn callback(spelling: &str, class: &str) -> Result<Vec<Given>, PropertyError> {
    let name = class.trim().rsplit('.').next().unwrap_or_default();
    match name {
        // What it does is done here as well.
        "OAuthBearerLoginCallbackHandler" => Ok(Vec::new()),
        "IAMClientCallbackHandler" | "IAMOAuthBearerLoginCallbackHandler" => Err(problem(
            spelling,
            super::rules::MSK_IAM.0,
            super::rules::MSK_IAM.1,
        )),
        _ => Err(problem(
            spelling,
            "no Java class can be called here",
            "remove it; tokens are fetched from sasl.oauthbearer.token.endpoint.url",
        )),
    }
}

fn trust_store(path: &str, stores: &Stores<'_>) -> PropertyError {
    let is_pkcs12 = stores
        .trust_type
        .is_some_and(|kind| kind.eq_ignore_ascii_case("PKCS12"))
        || path.ends_with(".p12")
        || path.ends_with(".pfx");
    let line = if is_pkcs12 {
        format!("openssl pkcs12 -in {path} -nokeys -out ca.pem")
    } else {
        format!("keytool -list -rfc -keystore {path} > ca.pem")
    };
    problem(
        "ssl.truststore.location",
        "librdkafka reads no Java trust store",
        format!(
            "export its certificates ({line}) and set ssl.ca.location: ca.pem; a PEM file is taken \
             with ssl.truststore.type: PEM"
        ),
    )
}

fn key_store_type(spelling: &str, kind: &str) -> Result<Vec<Given>, PropertyError> {
    match kind.trim().to_ascii_uppercase().as_str() {
        "PKCS12" | "PEM" => Ok(Vec::new()),
        _ => Err(java_key_store(spelling, "OLD.jks")),
    }
}

fn java_key_store(spelling: &str, path: &str) -> PropertyError {
    problem(
        spelling,
        "librdkafka reads no Java key store",
        format!(
            "convert it (keytool -importkeystore -srckeystore {path} -destkeystore client.p12 \
             -deststoretype PKCS12) and set ssl.keystore.location: client.p12, or name PEM files \
             in ssl.certificate.location and ssl.key.location"
        ),
    )
}
