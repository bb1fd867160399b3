//! What is wrong with the connections to the cluster, in words for whoever can mend it.
//!
//! librdkafka says why a connection failed in one place only: a line of its log, `NAME: TEXT`,
//! where the name is that of a broker. Most of these texts are true and of little help: "SSL
//! handshake failed: error:0A000086". Here they become a sentence and a fix. The texts are those of
//! librdkafka 2.12 with OpenSSL 3 against Kafka 4.3; a text that is not known is passed on.

use std::fmt;

use crate::properties::Settings;

/// Whose fault a trouble is: this decides whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// Nobody answers, or whoever answers hangs up: it can be over in a moment.
    Unreachable,
    /// The cluster is there, and our configuration does not fit it.
    Configuration,
    /// The cluster is there, and does not let us in or lets us do nothing.
    Credentials,
}

/// What keeps the client from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whose fault it is.
    pub kind: TroubleKind,
    /// What happened: one line without a full stop, and without secrets.
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// The broker whose certificate was refused: `host:port`. A handshake of our own can tell why.
    pub(crate) refused_certificate_of: Option<String>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Trouble {
    /// A trouble that the caller knows of.
    pub fn new(kind: TroubleKind, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            fix: fix.into(),
            refused_certificate_of: None,
        }
    }

    /// The cluster refuses us something on a topic: `operation` is Kafka's word, as `WRITE`.
    #[must_use]
    pub fn denied(operation: &str, topic: &str, settings: &Settings) -> Self {
        let facts = Facts::of(settings);
        let who = capitalised(&facts.who());
        let message = format!("{who} has no right to {operation} on the topic '{topic}'");
        let name = facts.user.as_deref().unwrap_or("NAME");
        let fix = format!(
            "grant it: kafka-acls.sh --bootstrap-server … --add --allow-principal User:{name} \
             --operation {operation} --topic {topic}"
        );
        Self::new(TroubleKind::Credentials, message, fix)
    }

    /// The same trouble with its cause, where librdkafka did not tell it: connects to the broker
    /// and looks at its certificate. Blocks for some seconds at most.
    #[must_use]
    pub fn investigated(self, settings: &Settings) -> Self {
        match &self.refused_certificate_of {
            Some(address) => crate::certificate::verdict(address, settings).unwrap_or(self),
            None => self,
        }
    }
}

/// What of the settings the explanations need.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    brokers: Vec<String>,
    protocol: String,
    mechanism: String,
    user: Option<String>,
    shows_certificate: bool,
    fetches_tokens: bool,
}

impl Facts {
    pub(crate) fn of(settings: &Settings) -> Self {
        let value = |name| settings.get(name).map(str::to_owned);
        let brokers = value("bootstrap.servers").unwrap_or_default();
        let certificate = [
            "ssl.certificate.location",
            "ssl.certificate.pem",
            "ssl.keystore.location",
        ];
        Self {
            brokers: brokers.split(',').map(address).collect(),
            protocol: value("security.protocol")
                .unwrap_or_else(|| "plaintext".to_owned())
                .to_ascii_lowercase(),
            mechanism: value("sasl.mechanism").unwrap_or_default(),
            user: value("sasl.username"),
            shows_certificate: certificate.iter().any(|name| settings.get(name).is_some()),
            fetches_tokens: settings.tokens().is_some(),
        }
    }

    fn encrypts(&self) -> bool {
        self.protocol.ends_with("ssl")
    }

    fn logs_in(&self) -> bool {
        self.protocol.starts_with("sasl")
    }

    /// Who we say we are.
    fn who(&self) -> String {
        match &self.user {
            Some(user) => format!("the user '{user}'"),
            None if self.fetches_tokens => "the token's subject".to_owned(),
            None if self.shows_certificate => "the client certificate's owner".to_owned(),
            None => "a client that does not say who it is (User:ANONYMOUS)".to_owned(),
        }
    }

    /// Explains a line of librdkafka's log about a broker, without the thread's name.
    pub(crate) fn explain(&self, line: &str) -> Trouble {
        let (name, text) = line.split_once(": ").unwrap_or(("", line));
        let broker = Broker::named(name);
        let text = without_times(text);
        let known = self
            .explain_tls(&broker, text)
            .or_else(|| self.explain_login(&broker, text))
            .or_else(|| self.explain_hang_up(&broker, text))
            .or_else(|| self.explain_connect(&broker, text));
        known.unwrap_or_else(|| {
            let message = format!("the connection to {broker} failed: {text}");
            Trouble::new(TroubleKind::Unreachable, message, CHECK_BROKERS)
        })
    }

    fn explain_tls(&self, broker: &Broker<'_>, text: &str) -> Option<Trouble> {
        let has = |part: &str| text.contains(part);
        if has("certificate verify failed") || has("Failed to verify broker certificate") {
            let message = format!("the certificate of {broker} could not be verified");
            let fix = "name the file of the authority that signed it in ssl.ca.location";
            let mut trouble = Trouble::new(TroubleKind::Configuration, message, fix);
            trouble.refused_certificate_of = Some(broker.address.to_owned());
            return Some(trouble);
        }
        if has("wrong version number") || has("connecting to a PLAINTEXT broker listener?") {
            let message = format!(
                "{broker} does not answer as TLS: the port seems to be one without encryption"
            );
            let fix = format!(
                "set security.protocol to {}, or name the port of a TLS listener in kafka.brokers",
                if self.logs_in() {
                    "sasl_plaintext"
                } else {
                    "plaintext"
                }
            );
            return Some(Trouble::new(TroubleKind::Configuration, message, fix));
        }
        if has("alert") && has("SSL") {
            return Some(self.explain_alert(broker, text));
        }
        None
    }

    /// The broker ended the handshake, with TLS's word for the reason (RFC 8446, section 6.2).
    fn explain_alert(&self, broker: &Broker<'_>, text: &str) -> Trouble {
        let word = text.split("alert ").nth(1).unwrap_or(text);
        let word = word.split(':').next().unwrap_or(word);
        if !word.contains("certificate") && !word.contains("unknown ca") {
            let message = format!("{broker} refused the TLS handshake ({word})");
            let fix = "the broker's log says why: its protocol versions and ciphers may not fit \
                       ssl.cipher.suites here";
            return Trouble::new(TroubleKind::Configuration, message, fix);
        }
        if self.shows_certificate {
            let message = format!("{broker} refused the client certificate ({word})");
            let fix = "it has to be valid now, and signed by an authority that the broker trusts \
                       (its ssl.truststore.location): check ssl.certificate.location or \
                       ssl.keystore.location";
            return Trouble::new(TroubleKind::Credentials, message, fix);
        }
        let message = format!("{broker} wants a client certificate ({word})");
        let fix = "set ssl.certificate.location and ssl.key.location, or ssl.keystore.location \
                   (PKCS #12)";
        Trouble::new(TroubleKind::Credentials, message, fix)
    }

    fn explain_login(&self, broker: &Broker<'_>, text: &str) -> Option<Trouble> {
        let mechanism = &self.mechanism;
        if let Some((_, offered)) = text.split_once("broker's supported mechanisms:") {
            let offered = offered.trim();
            if offered.is_empty() {
                let message = format!("{broker} asks for no login: its listener has no SASL");
                let fix = format!(
                    "set security.protocol to {}, or name the port of a SASL listener in \
                     kafka.brokers",
                    if self.encrypts() { "ssl" } else { "plaintext" }
                );
                return Some(Trouble::new(TroubleKind::Configuration, message, fix));
            }
            let message =
                format!("{broker} does not offer the mechanism {mechanism}, but {offered}");
            let fix = "set sasl.mechanism to one of these, or enable it on the broker \
                       (sasl.enabled.mechanisms)";
            return Some(Trouble::new(TroubleKind::Configuration, message, fix));
        }
        let (_, said) = text.split_once("SASL authentication error: ")?;
        let who = self.who();
        let message = format!("{broker} refused the login of {who} by {mechanism}: {said}");
        let fix = if mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
            "the broker does not take the token: check issuer, audience and scope \
             (sasl.oauthbearer.scope), and the broker's sasl.oauthbearer.expected.* settings"
        } else {
            "check sasl.username and sasl.password, and that the user exists for this mechanism"
        };
        Some(Trouble::new(TroubleKind::Credentials, message, fix))
    }

    /// A broker that gets what it does not expect says nothing and closes the connection.
    fn explain_hang_up(&self, broker: &Broker<'_>, text: &str) -> Option<Trouble> {
        if text.contains("Invalid response size") {
            let message = format!("{broker} does not speak Kafka's protocol");
            let fix = "is that the port of a Kafka listener, and not of TLS or HTTP? check \
                       kafka.brokers and security.protocol";
            return Some(Trouble::new(TroubleKind::Configuration, message, fix));
        }
        let is_cut = |end: &str| text.ends_with(end);
        let hangs_up = text.starts_with("Disconnected")
            || is_cut("Broken pipe")
            || is_cut("Connection reset by peer");
        if !hangs_up {
            return None;
        }
        let message = format!("{broker} closes the connection without a word");
        let fix = match (self.encrypts(), self.logs_in()) {
            (false, false) => {
                "the port may expect TLS or a login: set security.protocol to ssl, sasl_ssl or \
                 sasl_plaintext, whatever the listener has"
            }
            (false, true) => "the port may expect TLS: set security.protocol to sasl_ssl",
            (true, false) => {
                "the port may expect a login: set security.protocol to sasl_ssl, with \
                 sasl.mechanism, sasl.username and sasl.password"
            }
            (true, true) => "the broker's log says why",
        };
        Some(Trouble::new(TroubleKind::Unreachable, message, fix))
    }

    fn explain_connect(&self, broker: &Broker<'_>, text: &str) -> Option<Trouble> {
        if text.starts_with("Failed to resolve") {
            let why = text.split("': ").nth(1).unwrap_or("no address");
            let message = format!("the name of {broker} can't be resolved: {why}");
            return Some(self.unreachable(broker, message, CHECK_BROKERS));
        }
        let refused = text.starts_with("Connect to ");
        if refused || text.contains("Connection setup timed out") || text.contains("timed out") {
            let why = text.split(" failed: ").nth(1).unwrap_or(text);
            let message = format!("{broker} can't be reached: {why}");
            return Some(self.unreachable(broker, message, CHECK_BROKERS));
        }
        None
    }

    /// An address that nobody configured comes from the cluster itself.
    fn unreachable(&self, broker: &Broker<'_>, message: String, fix: &str) -> Trouble {
        let Some(id) = broker.id else {
            return Trouble::new(TroubleKind::Unreachable, message, fix);
        };
        if self.brokers.iter().any(|known| known == broker.address) {
            return Trouble::new(TroubleKind::Unreachable, message, fix);
        }
        let address = broker.address;
        let message = format!(
            "Kafka answers at kafka.brokers, and names {address} as the address of its broker \
             {id}: {message}"
        );
        let fix = "the broker's advertised.listeners has to name an address that can be reached \
                   from here, for this listener";
        Trouble::new(TroubleKind::Unreachable, message, fix)
    }

    /// The broker gives no identity to a producer that may write to no topic.
    pub(crate) fn nothing_writable(&self) -> Trouble {
        let message = format!("{} may write to no topic", capitalised(&self.who()));
        let name = self.user.as_deref().unwrap_or("NAME");
        let fix = format!(
            "grant WRITE on the topics: kafka-acls.sh --bootstrap-server … --add --allow-principal \
             User:{name} --operation WRITE --topic TOPIC"
        );
        Trouble::new(TroubleKind::Credentials, message, fix)
    }
}

const CHECK_BROKERS: &str = "is Kafka running there, and reachable from here? check kafka.brokers";

/// A broker as librdkafka names it: `sasl_ssl://host:port/bootstrap`, or with a node id at the end.
struct Broker<'a> {
    address: &'a str,
    id: Option<i32>,
}

impl<'a> Broker<'a> {
    fn named(name: &'a str) -> Self {
        let rest = name.split_once("://").map_or(name, |(_, rest)| rest);
        let (address, id) = rest.rsplit_once('/').unwrap_or((rest, ""));
        Self {
            address,
            id: id.parse().ok(),
        }
    }
}

impl fmt::Display for Broker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            "" => f.write_str("a broker"),
            address => write!(f, "the broker {address}"),
        }
    }
}

/// `host:port` as librdkafka writes it: Kafka's port is added.
fn address(broker: &str) -> String {
    let broker = broker.trim();
    let broker = broker.split_once("://").map_or(broker, |(_, rest)| rest);
    let has_port = broker
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if has_port {
        broker.to_owned()
    } else {
        format!("{broker}:9092")
    }
}

/// The text without "(after 3ms in state CONNECT, 1 identical error(s) suppressed)".
fn without_times(text: &str) -> &str {
    text.rfind(" (after ").map_or(text, |end| &text[..end])
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests;
