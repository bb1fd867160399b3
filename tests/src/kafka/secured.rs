//! One broker with a listener for every way to log in.

use std::{fs, ops::Deref, path::PathBuf, sync::OnceLock};

use super::{Kafka, KafkaBuilder, Right};
use crate::{Authority, GuardedDir, Identity, Issuer, Port, free_port};

/// A broker that asks for certificates, passwords or tokens, depending on the listener.
///
/// | listener | protocol | lets in |
/// |---|---|---|
/// | `TLS` | SSL | everybody |
/// | `MTLS` | SSL | whoever has a certificate of the authority, as its common name |
/// | `SASL` | SASL_PLAINTEXT | PLAIN, SCRAM-SHA-256, and OAUTHBEARER with unsigned tokens |
/// | `SASLTLS` | SASL_SSL | PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 |
/// | `OAUTH` | SASL_SSL | OAUTHBEARER, tokens of the issuer, for as long as they last |
/// | `EXPIRED` | SSL | everybody; its certificate is out of date |
/// | `STRANGER` | SSL | everybody; its certificate is made out to another host |
/// | `LOST` | PLAINTEXT | everybody; it advertises an address where nobody listens |
///
/// It has an authorizer. Everything is allowed to [`SecuredKafka::USER`] and to whoever is not
/// asked for a name; everybody else needs [`Kafka::grant`].
#[derive(Debug)]
pub struct SecuredKafka {
    kafka: Kafka,
    files: Files,
    nowhere: Port,
}

#[derive(Debug)]
struct Files {
    authority: Authority,
    issuer: Issuer,
    dir: GuardedDir,
}

impl SecuredKafka {
    /// Who may do everything.
    pub const USER: &'static str = "relay";
    /// The password of that user.
    pub const PASSWORD: &'static str = "relay-hunter-4c19";
    /// Who may do nothing unless it is granted.
    pub const LIMITED: &'static str = "limited";
    /// The password of that user.
    pub const LIMITED_PASSWORD: &'static str = "limited-hunter-77b0";
    /// The audience that tokens have to be made out to.
    pub const AUDIENCE: &'static str = "kafka-of-the-tests";
    /// After so long a client has to show a token again, if its own lasts longer.
    pub const SESSION_MS: u32 = 3_000;

    /// The broker of this test binary.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<SecuredKafka> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let files = Files {
            authority: Authority::new("The tests' authority"),
            issuer: Issuer::new(Self::AUDIENCE),
            dir: GuardedDir::new("secured"),
        };
        let nowhere = free_port();
        let advertised = format!("127.0.0.1:{}", nowhere.number());
        let builder = Kafka::builder()
            .listener("TLS", "SSL", None)
            .listener("MTLS", "SSL", None)
            .listener("SASL", "SASL_PLAINTEXT", None)
            .listener("SASLTLS", "SASL_SSL", None)
            .listener("OAUTH", "SASL_SSL", None)
            .listener("EXPIRED", "SSL", None)
            .listener("STRANGER", "SSL", None)
            .listener("LOST", "PLAINTEXT", Some(advertised))
            .scram_user(Self::USER, Self::PASSWORD)
            .scram_user(Self::LIMITED, Self::LIMITED_PASSWORD);
        let builder = files.with_certificates(builder);
        let builder = files.with_tokens(with_passwords(builder));
        let everything = format!("User:ANONYMOUS;User:{}", Self::USER);
        let kafka = builder
            .property(
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            )
            .property("super.users", &everything)
            .start();
        Self {
            kafka,
            files,
            nowhere,
        }
    }

    /// The authority that the broker's certificates are signed by, and that it trusts.
    pub fn authority(&self) -> &Authority {
        &self.files.authority
    }

    /// Whose tokens it takes.
    pub fn issuer(&self) -> &Issuer {
        &self.files.issuer
    }

    /// A file with the authority's certificate.
    pub fn authority_file(&self) -> String {
        self.files.path("ca.pem").display().to_string()
    }

    /// The address that the listener `LOST` advertises.
    pub fn lost_address(&self) -> String {
        format!("127.0.0.1:{}", self.nowhere.number())
    }

    /// Lets the limited user write to a topic.
    pub fn let_limited_write(&self, topic: &str) {
        self.grant(Self::LIMITED, &[Right::Write(topic)]);
    }
}

impl Deref for SecuredKafka {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("write a file of the broker");
        path.display().to_string()
    }

    fn with_certificates(&self, builder: KafkaBuilder) -> KafkaBuilder {
        const HERE: [&str; 2] = ["localhost", "127.0.0.1"];
        let ca = self.write("ca.pem", &self.authority.pem());
        let store = |name: &str, identity: &Identity| {
            let both = identity.key_pem() + &identity.certificate_pem() + &self.authority.pem();
            self.write(name, &both)
        };
        let good = store("broker.pem", &self.authority.issue("broker", &HERE));
        let expired = store("old.pem", &self.authority.issue_expired("broker", &HERE));
        let stranger = self
            .authority
            .issue("stranger", &["kafka.elsewhere.example"]);
        let stranger = store("stranger.pem", &stranger);
        builder
            .property("ssl.keystore.type", "PEM")
            .property("ssl.keystore.location", &good)
            .property("ssl.truststore.type", "PEM")
            .property("ssl.truststore.location", &ca)
            .property("listener.name.expired.ssl.keystore.location", &expired)
            .property("listener.name.stranger.ssl.keystore.location", &stranger)
            .property("listener.name.mtls.ssl.client.auth", "required")
            .property(
                "ssl.principal.mapping.rules",
                "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
            )
    }

    fn with_tokens(&self, builder: KafkaBuilder) -> KafkaBuilder {
        let keys = self.write("keys.json", &self.issuer.key_set());
        let keys = format!("file://{keys}");
        let module = format!("{OAUTH_MODULE} required;");
        builder
            .java_option(&format!(
                "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}"
            ))
            .java_option(&format!(
                "-Dorg.apache.kafka.sasl.oauthbearer.allowed.files={}",
                self.path("keys.json").display()
            ))
            .property("sasl.oauthbearer.jwks.endpoint.url", &keys)
            .property("sasl.oauthbearer.expected.audience", SecuredKafka::AUDIENCE)
            .property("listener.name.oauth.sasl.enabled.mechanisms", "OAUTHBEARER")
            .property("listener.name.oauth.oauthbearer.sasl.jaas.config", &module)
            .property(
                "listener.name.oauth.oauthbearer.sasl.server.callback.handler.class",
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
            )
            .property(
                "listener.name.oauth.oauthbearer.connections.max.reauth.ms",
                &SecuredKafka::SESSION_MS.to_string(),
            )
            .property("listener.name.sasl.oauthbearer.sasl.jaas.config", &module)
    }
}

fn with_passwords(builder: KafkaBuilder) -> KafkaBuilder {
    let (user, password) = (SecuredKafka::USER, SecuredKafka::PASSWORD);
    let (other, other_password) = (SecuredKafka::LIMITED, SecuredKafka::LIMITED_PASSWORD);
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required \
         user_{user}=\"{password}\" user_{other}=\"{other_password}\";"
    );
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let mut builder = builder
        .property(
            "listener.name.sasl.sasl.enabled.mechanisms",
            "PLAIN,SCRAM-SHA-256,OAUTHBEARER",
        )
        .property(
            "listener.name.sasltls.sasl.enabled.mechanisms",
            "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        );
    for listener in ["sasl", "sasltls"] {
        let config = |mechanism: &str| format!("listener.name.{listener}.{mechanism}.{JAAS}");
        builder = builder
            .property(&config("plain"), &plain)
            .property(&config("scram-sha-256"), scram)
            .property(&config("scram-sha-512"), scram);
    }
    builder
}

const JAAS: &str = "sasl.jaas.config";
const OAUTH_MODULE: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
