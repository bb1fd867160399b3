//! The tables: aliases, refusals, guards, names.

use std::collections::BTreeMap;

use super::{PropertyError, problem};
use crate::oauth;

/// A property whose unsafe values break the promise of delivery.
pub(super) struct Guard {
    pub(super) property: &'static str,
    pub(super) is_safe: fn(&str) -> bool,
    /// librdkafka does not start an idempotent producer with an unsafe value.
    pub(super) is_needed_by_idempotence: bool,
    pub(super) why: &'static str,
    pub(super) fix: &'static str,
}

pub(super) const GUARDS: &[Guard] = &[
    Guard {
        property: "acks",
        is_safe: |value| value.eq_ignore_ascii_case("all") || value.trim() == "-1",
        is_needed_by_idempotence: true,
        why: "with anything but acks=all an acknowledged event can be lost with one broker",
        fix: "remove it",
    },
    Guard {
        property: "enable.idempotence",
        is_safe: is_true,
        is_needed_by_idempotence: false,
        why: "without idempotence a retry can repeat and reorder events",
        fix: "remove it",
    },
    Guard {
        property: "enable.gapless.guarantee",
        is_safe: is_true,
        is_needed_by_idempotence: false,
        why: "without it events overtake a batch that the broker rejected",
        fix: "remove it",
    },
    Guard {
        property: "message.timeout.ms",
        is_safe: |value| value.trim() == "0",
        is_needed_by_idempotence: false,
        why: "events that time out during an outage leave a gap that later ones overtake",
        fix: "remove it: an event is tried until it is delivered",
    },
    Guard {
        property: "retries",
        is_safe: |value| value.trim() == "2147483647",
        is_needed_by_idempotence: false,
        why: "events that run out of retries during an outage leave a gap",
        fix: "remove it: an event is tried until it is delivered",
    },
    Guard {
        property: "max.in.flight.requests.per.connection",
        is_safe: |value| {
            value
                .trim()
                .parse()
                .is_ok_and(|requests: i64| requests <= 5)
        },
        is_needed_by_idempotence: true,
        why: "with more than 5 requests in flight a retry can reorder events",
        fix: "set 1 to 5, or remove it",
    },
    Guard {
        property: "queuing.strategy",
        is_safe: |value| value.eq_ignore_ascii_case("fifo"),
        is_needed_by_idempotence: true,
        why: "any other strategy reorders events",
        fix: "remove it",
    },
    Guard {
        property: "allow.auto.create.topics",
        is_safe: |value| !is_true(value),
        is_needed_by_idempotence: false,
        why: "a misspelt topic would be created, with the broker's defaults, and swallow events",
        fix: "remove it, and create topics beforehand or set kafka.topics.create",
    },
    Guard {
        property: "queue.buffering.max.messages",
        is_safe: |_| false,
        is_needed_by_idempotence: false,
        why: "librdkafka's queue must stay larger than our own window",
        fix: "set delivery.in_flight_events: the queue follows it",
    },
    Guard {
        property: "queue.buffering.max.kbytes",
        is_safe: |_| false,
        is_needed_by_idempotence: false,
        why: "librdkafka's queue must stay larger than our own window",
        fix: "set delivery.in_flight_bytes: the queue follows it",
    },
];

/// Other spellings of the same thing: librdkafka's aliases, then Java's names.
const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("max.request.size", "message.max.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("compression.gzip.level", "compression.level"),
    ("compression.lz4.level", "compression.level"),
    ("compression.zstd.level", "compression.level"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        oauth::CLIENT_ID,
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        oauth::CLIENT_SECRET,
    ),
];

/// The one spelling under which a property is kept.
pub(super) fn canonical(spelling: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == spelling)
        .map_or(spelling, |(_, name)| name)
}

type Refusal = (&'static str, &'static str);

const PLACEMENT: Refusal = (
    "every record goes to a partition of our choice",
    "set route.partition_by",
);
const BROKERS: Refusal = ("the brokers are named elsewhere", "set kafka.brokers");
const TRANSACTIONS: Refusal = (
    "transactions are not used: delivery is at least once",
    "remove it",
);
const NOT_NEEDED: Refusal = (
    "it means nothing here: bytes go out as they are",
    "remove it",
);
const JAVA_ONLY: Refusal = ("it belongs to the Java client", "remove it");
const INTERNAL: Refusal = ("it is librdkafka's own business or ours", "remove it");
const CONSUMER: Refusal = (
    "it belongs to consumers; nothing is consumed here",
    "remove it",
);
const TRUST_STORE: Refusal = (
    "librdkafka reads no Java trust store",
    "name a PEM file with the authority's certificate in ssl.ca.location",
);
const SASL_CALLBACK: Refusal = (
    "librdkafka can't call Java classes",
    "remove it; see sasl.mechanism for what can be used",
);
const TOKENS_OURS: Refusal = (
    "when tokens are fetched anew is not to be set: at 80 % of their lifetime, and again after \
     half a second to ten where that fails",
    "remove it",
);
const OF_BROKERS: Refusal = ("it is for brokers, which verify tokens", "remove it");
const OTHER_GRANT: Refusal = (
    "only the grant of client credentials is known here",
    "remove it, and set sasl.oauthbearer.client.id, sasl.oauthbearer.client.secret and \
     sasl.oauthbearer.token.endpoint.url",
);
const JAVA_TLS: Refusal = (
    "it chooses a part of Java's TLS; OpenSSL is used here",
    "remove it",
);

pub(super) const KERBEROS: Refusal = (
    "Kerberos (GSSAPI) is not compiled in",
    "use another listener of the cluster: SCRAM-SHA-512, client certificates \
     (security.protocol=ssl) or OAUTHBEARER",
);
pub(super) const MSK_IAM: Refusal = (
    "AWS's IAM login needs signed tokens of AWS, which are not made here",
    "turn on SASL/SCRAM on the MSK cluster (a user in AWS Secrets Manager, port 9096) and set \
     security.protocol=sasl_ssl, sasl.mechanism=SCRAM-SHA-512, sasl.username and sasl.password; or \
     TLS client certificates (port 9094)",
);

/// Whole names that are always refused.
const REFUSED: &[(&str, Refusal)] = &[
    ("bootstrap.servers", BROKERS),
    ("transactional.id", TRANSACTIONS),
    ("transaction.timeout.ms", TRANSACTIONS),
    ("key.serializer", NOT_NEEDED),
    ("value.serializer", NOT_NEEDED),
    (
        "buffer.memory",
        (
            "what is in flight has limits of its own",
            "set delivery.in_flight_bytes",
        ),
    ),
    ("max.block.ms", ("sending never blocks here", "remove it")),
    ("sasl.login.class", SASL_CALLBACK),
    ("sasl.client.callback.handler.class", SASL_CALLBACK),
    ("ssl.engine.factory.class", JAVA_TLS),
    ("ssl.keymanager.algorithm", JAVA_TLS),
    ("ssl.trustmanager.algorithm", JAVA_TLS),
    ("ssl.secure.random.implementation", JAVA_TLS),
    ("sasl.oauthbearer.grant.type", OTHER_GRANT),
    ("sasl.oauthbearer.metadata.authentication.type", OTHER_GRANT),
    ("sasl.oauthbearer.jwt.retriever.class", SASL_CALLBACK),
    ("sasl.oauthbearer.jwt.validator.class", SASL_CALLBACK),
    ("sasl.oauthbearer.scope.claim.name", OF_BROKERS),
    ("sasl.oauthbearer.sub.claim.name", OF_BROKERS),
    ("sasl.oauthbearer.clock.skew.seconds", OF_BROKERS),
    ("sasl.login.connect.timeout.ms", TOKENS_OURS),
    ("sasl.login.read.timeout.ms", TOKENS_OURS),
    (
        "ssl.protocol",
        (
            "OpenSSL takes the highest version that both sides know",
            "remove it",
        ),
    ),
    (
        "ssl.enabled.protocols",
        (
            "OpenSSL takes the highest version that both sides know",
            "remove it",
        ),
    ),
    ("interceptor.classes", JAVA_ONLY),
    ("metric.reporters", JAVA_ONLY),
    ("metrics.num.samples", JAVA_ONLY),
    ("metrics.recording.level", JAVA_ONLY),
    ("metrics.sample.window.ms", JAVA_ONLY),
    ("auto.include.jmx.reporter", JAVA_ONLY),
    ("security.providers", JAVA_ONLY),
    ("metadata.max.idle.ms", JAVA_ONLY),
    (
        "socket.connection.setup.timeout.max.ms",
        (
            "librdkafka knows one limit",
            "set socket.connection.setup.timeout.ms",
        ),
    ),
    (
        "config.providers",
        (
            "librdkafka resolves no references",
            "write ${env:NAME} or ${file:PATH} instead",
        ),
    ),
    (
        "log_level",
        (
            "librdkafka's log follows ours",
            "set the level of walpost_kafka in the log filter",
        ),
    ),
    ("enabled_events", INTERNAL),
    ("interceptors", INTERNAL),
    ("opaque", INTERNAL),
    ("default_topic_conf", INTERNAL),
    ("msg_order_cmp", INTERNAL),
    ("log.queue", INTERNAL),
    ("internal.termination.signal", INTERNAL),
    ("builtin.features", INTERNAL),
    (
        "ssl_key",
        ("it can't be text", "set ssl.key.location or ssl.key.pem"),
    ),
    (
        "ssl_certificate",
        (
            "it can't be text",
            "set ssl.certificate.location or ssl.certificate.pem",
        ),
    ),
    (
        "ssl_ca",
        ("it can't be text", "set ssl.ca.location or ssl.ca.pem"),
    ),
    ("ssl_engine_callback_data", INTERNAL),
    ("group.id", CONSUMER),
    ("group.instance.id", CONSUMER),
    ("auto.offset.reset", CONSUMER),
    ("enable.auto.commit", CONSUMER),
    ("isolation.level", CONSUMER),
    ("session.timeout.ms", CONSUMER),
    ("key.deserializer", CONSUMER),
    ("value.deserializer", CONSUMER),
];

/// Beginnings and ends of names that are always refused.
const REFUSED_STARTS: &[(&str, Refusal)] = &[
    ("partitioner", PLACEMENT),
    ("ssl.truststore.", TRUST_STORE),
    ("sasl.oauthbearer.assertion.", OTHER_GRANT),
    ("sasl.oauthbearer.jwks.", OF_BROKERS),
    ("sasl.oauthbearer.expected.", OF_BROKERS),
    ("sasl.login.refresh.", TOKENS_OURS),
    ("sasl.login.retry.", TOKENS_OURS),
    ("sasl.kerberos.", KERBEROS),
    (
        "test.mock.",
        ("it replaces the brokers by fake ones", "remove it"),
    ),
    ("fetch.", CONSUMER),
    ("max.poll.", CONSUMER),
];
const REFUSED_ENDS: &[(&str, Refusal)] = &[("_cb", INTERNAL)];

/// Why a property can't be used, whatever is allowed, and what to do.
pub(super) fn refusal(spelling: &str, name: &str, value: &str) -> Option<Refusal> {
    if name == "sasl.mechanism" {
        return mechanism_refusal(value);
    }
    if name == "delivery.report.only.error" && is_true(value) {
        return Some((
            "without reports of success nothing can be confirmed",
            "remove it",
        ));
    }
    let whole = REFUSED
        .iter()
        .find(|(refused, _)| *refused == name || *refused == spelling);
    let start = || {
        REFUSED_STARTS
            .iter()
            .find(|(start, _)| name.starts_with(start))
    };
    let end = || REFUSED_ENDS.iter().find(|(end, _)| name.ends_with(end));
    whole
        .or_else(start)
        .or_else(end)
        .map(|(_, refusal)| *refusal)
}

fn mechanism_refusal(mechanism: &str) -> Option<Refusal> {
    const FIX: &str = "set PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, or use client \
                       certificates (security.protocol=ssl)";
    match mechanism.trim().to_ascii_uppercase().as_str() {
        "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" | "OAUTHBEARER" => None,
        "GSSAPI" => Some(KERBEROS),
        "AWS_MSK_IAM" => Some(MSK_IAM),
        _ => Some(("librdkafka has no such mechanism", FIX)),
    }
}

/// Judges a property of the token endpoint: librdkafka, as it is compiled here, would take none.
pub(super) fn judge_oauth(spelling: &str, name: &str, value: &str) -> Result<(), PropertyError> {
    let fail = |why: &str, fix: &str| Err(problem(spelling, why, fix));
    match name {
        oauth::METHOD if !["oidc", "default"].contains(&value.to_ascii_lowercase().as_str()) => {
            fail("there is no such method", "set oidc, or remove it")
        }
        oauth::URL => {
            let rest = ["https://", "http://"]
                .iter()
                .find_map(|scheme| value.strip_prefix(scheme));
            let Some(rest) = rest else {
                return fail(
                    "tokens are fetched from http and https addresses only",
                    "write it as https://…",
                );
            };
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            if host.is_empty() {
                return fail("it names no host", "write it as https://…");
            }
            if host.contains('@') {
                return fail(
                    "it has a user or a password in it",
                    "set sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret",
                );
            }
            Ok(())
        }
        oauth::EXTENSIONS => match oauth::extension_pairs(value) {
            Ok(_) => Ok(()),
            Err(expected) => fail(&expected, "mend it"),
        },
        oauth::CLIENT_ID | oauth::CLIENT_SECRET if value.is_empty() => {
            fail("it is empty", "set it")
        }
        _ => Ok(()),
    }
}

/// What only shows when properties are looked at together; by canonical name, with the user's
/// spelling and value.
pub(super) fn contradictions(chosen: &BTreeMap<&str, (&str, &str)>) -> Vec<PropertyError> {
    let protocol = chosen
        .get("security.protocol")
        .map_or("plaintext", |(_, value)| value);
    let protocol = protocol.to_ascii_lowercase();
    let mut found = if protocol.starts_with("sasl") {
        missing_parts(chosen, &protocol)
    } else {
        needless_parts(chosen, &protocol)
    };
    let encrypts = protocol.ends_with("ssl");
    let of_tls = chosen.iter().find(|(name, _)| name.starts_with("ssl."));
    if let (false, Some((_, (spelling, _)))) = (encrypts, of_tls) {
        let why = format!("nothing is encrypted with security.protocol={protocol}");
        found.push(problem(
            spelling,
            why,
            "set security.protocol to ssl or sasl_ssl, or remove it",
        ));
    }
    found
}

fn missing_parts(chosen: &BTreeMap<&str, (&str, &str)>, protocol: &str) -> Vec<PropertyError> {
    const PASSWORD: &[&str] = &["sasl.mechanism", "sasl.username", "sasl.password"];
    const TOKEN: &[&str] = &[oauth::URL, oauth::CLIENT_ID, oauth::CLIENT_SECRET];
    let set = |name: &str| chosen.get(name).map(|(_, value)| *value);
    let mechanism = set("sasl.mechanism").unwrap_or_default();
    let (needed, needs) = if !mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
        (PASSWORD, format!("security.protocol={protocol} needs it"))
    } else if set("enable.sasl.oauthbearer.unsecure.jwt").is_some_and(is_true) {
        (&[][..], String::new())
    } else {
        (TOKEN, "sasl.mechanism=OAUTHBEARER needs it".to_owned())
    };
    let missing = needed.iter().filter(|name| !chosen.contains_key(*name));
    missing
        .map(|name| problem(name, format!("it is not set, and {needs}"), "set it"))
        .collect()
}

fn needless_parts(chosen: &BTreeMap<&str, (&str, &str)>, protocol: &str) -> Vec<PropertyError> {
    let secrets = ["sasl.password", oauth::CLIENT_SECRET];
    let needless = secrets.iter().find_map(|name| chosen.get(name));
    let why = format!("it would not be used with security.protocol={protocol}");
    let fix = "set security.protocol to sasl_ssl, or remove it";
    needless
        .map(|(spelling, _)| problem(spelling, why, fix))
        .into_iter()
        .collect()
}

/// librdkafka's idea of a true value.
pub(super) fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("t") || value == "1"
}

/// The property that a misspelt one most likely meant.
pub(super) fn nearest(spelling: &str) -> Option<&'static str> {
    let likeness = |name: &&str| strsim::jaro_winkler(spelling, name);
    let candidates = NAMES.iter().chain(oauth::PROPERTIES).copied();
    let nearest = candidates.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&nearest) > 0.9).then_some(nearest)
}

/// The properties that a user of a producer may want, for suggestions only.
pub(super) const NAMES: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "batch.num.messages",
    "batch.size",
    "bootstrap.servers",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.metrics.push",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "linger.ms",
    "log.connection.close",
    "max.in.flight.requests.per.connection",
    "message.copy.max.bytes",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.max.age.ms",
    "metadata.recovery.strategy",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];
