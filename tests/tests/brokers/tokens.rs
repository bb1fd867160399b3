//! OAUTHBEARER: tokens that are fetched, replaced, and refused.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use walpost_tests::{Answer, Issuer, SecuredKafka, TokenEndpoint};

use crate::{
    SOON,
    stage::{Stage, USER, guarded},
};

const CLIENT: &str = "the-relay";
const CLIENT_SECRET: &str = "client-hunter+/%";

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

fn token(lifetime: Duration) -> Answer {
    Answer::Token {
        subject: USER.to_owned(),
        lifetime,
    }
}

fn other(status: &str, body: &str) -> Answer {
    Answer::Other {
        status: status.to_owned(),
        body: body.to_owned(),
    }
}

fn endpoint(lifetime: Duration) -> TokenEndpoint {
    TokenEndpoint::plain(SecuredKafka::shared().issuer(), token(lifetime))
}

/// The properties of librdkafka's spelling.
fn properties<'a>(ca: &'a str, url: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", ca),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.token.endpoint.url", url),
        ("sasl.oauthbearer.client.id", CLIENT),
        ("sasl.oauthbearer.client.secret", CLIENT_SECRET),
    ]
}

#[test]
fn a_token_is_fetched_with_the_clients_credentials_and_lets_us_in() {
    let (stage, endpoint) = (Stage::new("token"), endpoint(HOUR));
    let ca = stage.kafka.authority_file();
    let mut properties = properties(&ca, endpoint.url());
    properties.push(("sasl.oauthbearer.scope", "kafka write"));
    properties.push(("sasl.oauthbearer.extensions", "logicalCluster=a,pool=b"));
    stage.delivers("OAUTH", &properties);
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 1, "one token for one run: {requests:?}");
    let request = &requests[0];
    assert_eq!(request.line, "POST /oauth/token HTTP/1.1");
    assert_eq!(
        request.body,
        "grant_type=client_credentials&scope=kafka+write"
    );
    assert_eq!(
        request.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    // The id and the secret as they are: `printf the-relay:client-hunter+/% | base64`.
    assert_eq!(
        request.header("authorization"),
        Some("Basic dGhlLXJlbGF5OmNsaWVudC1odW50ZXIrLyU=")
    );
    // `check` asks for the topic's configuration by a client of its own.
    let topic = stage
        .kafka
        .topic_with("token", 3, &[("max.message.bytes", "2000")]);
    let sections = format!("route:\n  topic: {topic}\n");
    stage.configure(&stage.kafka.listener("OAUTH"), &properties, &sections);
    let (_, findings) = stage.check();
    let says = |text: &str| {
        let says = |finding: &serde_json::Value| finding["seen"].to_string().contains(text);
        assert!(
            findings.iter().any(says),
            "{text:?} is not in {findings:#?}"
        );
    };
    says("1 broker of the cluster");
    says(&format!("the topic '{topic}': 3 partitions"));
    assert!(
        !findings
            .iter()
            .any(|finding| finding["seen"].to_string().contains("may not be read"))
    );
}

#[test]
fn java_spellings_fetch_tokens_too() {
    let (stage, endpoint) = (Stage::new("java_token"), endpoint(HOUR));
    let ca = stage.kafka.authority_file();
    let login = format!(
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
         clientId=\"{CLIENT}\" clientSecret=\"{CLIENT_SECRET}\" scope=\"kafka\" \
         extension_pool=\"b\";"
    );
    let handler = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler";
    let properties = [
        ("security.protocol", "SASL_SSL"),
        ("ssl.truststore.location", ca.as_str()),
        ("ssl.truststore.type", "PEM"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", endpoint.url()),
        ("sasl.login.callback.handler.class", handler),
        ("sasl.jaas.config", login.as_str()),
    ];
    stage.delivers("OAUTH", &properties);
    assert_eq!(
        endpoint.requests()[0].body,
        "grant_type=client_credentials&scope=kafka"
    );
}

#[test]
fn an_endpoint_with_tls_is_trusted_by_its_own_authority_only() {
    let stage = Stage::new("token_tls");
    let authority = stage.kafka.authority();
    let identity = authority.issue("tokens", &["127.0.0.1"]);
    let endpoint = TokenEndpoint::tls(stage.kafka.issuer(), token(HOUR), &identity);
    let ca = stage.kafka.authority_file();
    let mut properties = properties(&ca, endpoint.url());
    let topic = stage.kafka.topic("untrusted", 1);
    stage.write(&topic, "1");
    stage.configure(&stage.kafka.listener("OAUTH"), &properties, "");
    let _ = stage.refuses(78, &["not trusted", "https.ca.location"]);
    assert!(endpoint.requests().is_empty(), "no secret for a stranger");
    properties.push(("https.ca.location", &ca));
    stage.delivers("OAUTH", &properties);
    assert_eq!(stage.read(&topic).len(), 1);
}

#[test]
fn events_flow_while_tokens_come_and_go() {
    let (stage, endpoint) = (Stage::new("expiry"), endpoint(Duration::from_secs(4)));
    let ca = stage.kafka.authority_file();
    let properties = properties(&ca, endpoint.url());
    stage.configure(&stage.kafka.listener("OAUTH"), &properties, "");
    let topic = stage.kafka.topic("expiry", 1);
    let running = stage.walpost.start(&["run"]);
    // The broker ends a session after 3 s that does not show another token: past four tokens,
    // every connection has had to.
    let mut written = 0;
    let deadline = Instant::now() + SOON;
    while endpoint.requests().len() < 5 {
        assert!(Instant::now() < deadline, "tokens are not replaced");
        // It can't be replaced for a while; the old one serves.
        let is_away = endpoint.requests().len() == 3;
        endpoint.answer(match is_away {
            true => other("503 Service Unavailable", ""),
            false => token(Duration::from_secs(4)),
        });
        stage.write(&topic, &written.to_string());
        written += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    walpost_tests::wait_until(SOON, "every event arrives", || {
        (stage.read(&topic).len() >= written).then_some(())
    });
    let finished = guarded(running.stop(SOON));
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let values: Vec<usize> = stage
        .read(&topic)
        .iter()
        .map(|record| {
            String::from_utf8_lossy(record.value.as_deref().unwrap())
                .parse()
                .unwrap()
        })
        .collect();
    let mut seen = BTreeSet::new();
    let firsts = values.iter().copied().filter(|value| seen.insert(*value));
    let all: Vec<usize> = (0..written).collect();
    assert_eq!(firsts.collect::<Vec<_>>(), all, "{}", finished.stderr);
    // Where a broker was slow, connections may have broken once more before it had said whose it
    // is: then the session ends, and sends again what it has no answer for.
    let has_ended = finished.stderr.contains("broke once more");
    assert!(has_ended || values == all, "{}", finished.stderr);
}

#[test]
fn an_endpoint_that_refuses_the_client_ends_the_run() {
    let (stage, endpoint) = (Stage::new("token_refused"), endpoint(HOUR));
    let ca = stage.kafka.authority_file();
    stage.configure(
        &stage.kafka.listener("OAUTH"),
        &properties(&ca, endpoint.url()),
        "",
    );
    let topic = stage.kafka.topic("token_refused", 1);
    stage.write(&topic, "1");
    let said =
        format!(r#"{{"error": "invalid_client", "error_description": "no {CLIENT_SECRET} here"}}"#);
    endpoint.answer(other("401 Unauthorized", &said));
    let words = [
        "status 401",
        "invalid_client",
        "****",
        "sasl.oauthbearer.client.secret",
    ];
    let refused = stage.refuses(77, &words);
    refused.is_listed(
        "A client that the token endpoint does not know",
        &[(endpoint.url(), "https://login.example.com/token")],
    );
    stage.check_finds(77, "WP-KAFKA-CREDENTIALS", &["invalid_client"]);
    endpoint.answer(other("302 Found\r\nLocation: http://127.0.0.1:1/", ""));
    let _ = stage.refuses(78, &["status 302", "sasl.oauthbearer.token.endpoint.url"]);
    endpoint.answer(other("200 OK", r#"{"token_type": "Bearer"}"#));
    let _ = stage.refuses(78, &["no access_token"]);
    endpoint.answer(other("200 OK", r#"{"access_token": "opaque"}"#));
    let _ = stage.refuses(78, &["how long it lasts"]);
}

#[test]
fn an_endpoint_that_is_busy_is_asked_again() {
    let (stage, endpoint) = (Stage::new("token_busy"), endpoint(HOUR));
    let ca = stage.kafka.authority_file();
    stage.configure(
        &stage.kafka.listener("OAUTH"),
        &properties(&ca, endpoint.url()),
        "",
    );
    let topic = stage.kafka.topic("token_busy", 1);
    stage.write(&topic, "1");
    endpoint.answer(other("503 Service Unavailable", ""));
    let running = stage.walpost.start(&["run", "--once"]);
    running.wait_for_log("status 503", SOON);
    endpoint.answer(token(HOUR));
    let finished = guarded(running.finish(SOON));
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(stage.read(&topic).len(), 1);
}

#[test]
fn a_token_of_another_issuer_is_refused_by_the_broker() {
    let stage = Stage::new("token_foreign");
    let stranger = Issuer::new(SecuredKafka::AUDIENCE);
    let other_audience = stage.kafka.issuer().for_audience("another cluster");
    let ca = stage.kafka.authority_file();
    let topic = stage.kafka.topic("token_foreign", 1);
    stage.write(&topic, "1");
    for issuer in [stranger, other_audience] {
        let endpoint = TokenEndpoint::plain(&issuer, token(HOUR));
        let properties = properties(&ca, endpoint.url());
        stage.configure(&stage.kafka.listener("OAUTH"), &properties, "");
        let _ = stage.refuses(
            77,
            &[
                "refused the login",
                "OAUTHBEARER",
                "the broker does not take",
            ],
        );
    }
}

#[test]
fn tokens_without_a_signature_are_for_tests() {
    let stage = Stage::new("unsecured");
    let principal = format!("principal={USER}");
    let properties = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("sasl.oauthbearer.config", principal.as_str()),
    ];
    stage.delivers("SASL", &properties);
}
