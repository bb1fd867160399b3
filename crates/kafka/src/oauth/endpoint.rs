//! One request to the token endpoint.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::base64;
use serde_json::Value;
use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};

use super::connect::TlsConnector;
use super::{Grant, Token, TokenError};
use crate::trouble::TroubleKind;

/// For everything, from the name's resolution to the answer's last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Tokens have some kilobytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// What an endpoint says about an error is told up to this length.
const SAID_CHARS_MAX: usize = 300;

const CHECK_URL: &str = "check sasl.oauthbearer.token.endpoint.url";
const CHECK_CLIENT: &str = "check sasl.oauthbearer.client.id, sasl.oauthbearer.client.secret and \
                            sasl.oauthbearer.scope";

/// Fetches a token.
pub(super) fn fetch(grant: &Grant) -> Result<Token, TokenError> {
    let agent = agent(grant)?;
    let answer = agent
        .post(&grant.url)
        .header("Accept", "application/json")
        .header("Authorization", &authorization(grant))
        .content_type("application/x-www-form-urlencoded")
        .send(form(grant))
        .map_err(|error| unreachable(grant, &error))?;
    let (parts, body) = answer.into_parts();
    let text = body
        .into_with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
        .map_err(|error| unreachable(grant, &error))?;
    let json: Option<Value> = serde_json::from_str(&text).ok();
    let status = parts.status.as_u16();
    if status != 200 {
        return Err(refused(grant, status, json.as_ref()));
    }
    let json = json.ok_or_else(|| odd(grant, "it is no JSON object"))?;
    token(grant, &json)
}

fn agent(grant: &Grant) -> Result<Agent, TokenError> {
    let config = Config::builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        // A redirect would carry the secret elsewhere.
        .max_redirects(0)
        .proxy(None)
        .user_agent("walpost")
        .build();
    let tls = TlsConnector::new(grant.ca_location.as_deref(), grant.ca_pem.as_deref());
    let tls = tls.map_err(|error| {
        let message = format!("the authorities of the token endpoint can't be read: {error}");
        TokenError::new(
            TroubleKind::Configuration,
            message,
            "check https.ca.location",
        )
    })?;
    let connector = TcpConnector::default().chain(tls);
    Ok(Agent::with_parts(
        config,
        connector,
        DefaultResolver::default(),
    ))
}

fn form(grant: &Grant) -> String {
    let scope = grant.scope.as_deref();
    let scope = scope.map_or_else(String::new, |scope| format!("&scope={}", percent(scope)));
    format!("grant_type=client_credentials{scope}")
}

fn authorization(grant: &Grant) -> String {
    let part = |text: &str| match grant.url_encode {
        true => percent(text),
        false => text.to_owned(),
    };
    let both = format!("{}:{}", part(&grant.client_id), part(&grant.client_secret));
    let encoded = base64::encode_block(both.as_bytes()).replace('\n', "");
    format!("Basic {encoded}")
}

/// `application/x-www-form-urlencoded`, where a space is a plus sign.
fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
            char::from(byte).to_string()
        }
        b' ' => "+".to_owned(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn token(grant: &Grant, json: &Value) -> Result<Token, TokenError> {
    let value = json.get("access_token").and_then(Value::as_str);
    let value = value.ok_or_else(|| odd(grant, "it has no access_token"))?;
    // RFC 6750, section 2.1, and no byte that would end the login's fields.
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(odd(
            grant,
            "its access_token has other characters than a token can have",
        ));
    }
    let claims = claims(value);
    let lifetime = lifetime(json, claims.as_ref()).ok_or_else(|| {
        odd(
            grant,
            "neither expires_in nor the token itself says how long it lasts",
        )
    })?;
    let subject = claims
        .as_ref()
        .and_then(|claims| claims.get("sub")?.as_str());
    let principal = subject.unwrap_or(&grant.client_id).to_owned();
    Ok(Token::new(value.to_owned(), principal, lifetime, grant))
}

/// How long a token lasts from now on. What the endpoint says comes first: the two clocks need not
/// agree, and an endpoint that keeps tokens gives out such as have lasted for a while.
fn lifetime(json: &Value, claims: Option<&Value>) -> Option<Duration> {
    let seconds = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let claim = |name| claims.and_then(|claims| seconds(claims.get(name)?));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let told = json.get("expires_in").and_then(seconds);
    let left = || Some(claim("exp")? - now.as_secs_f64()).filter(|left| *left > 0.0);
    let whole = || Some(claim("exp")? - claim("iat")?);
    let seconds = told.or_else(left).or_else(whole)?;
    let lifetime = Duration::try_from_secs_f64(seconds.min(MAX_LIFETIME_S)).ok()?;
    Some(lifetime).filter(|lifetime| !lifetime.is_zero())
}

/// A year: librdkafka counts in microseconds.
const MAX_LIFETIME_S: f64 = 365.0 * 86_400.0;

/// The claims of a JSON Web Token (RFC 7519), unverified: the broker verifies them.
fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let mut padded = claims.replace('-', "+").replace('_', "/");
    while padded.len() % 4 != 0 {
        padded.push('=');
    }
    serde_json::from_slice(&base64::decode_block(&padded).ok()?).ok()
}

fn unreachable(grant: &Grant, error: &ureq::Error) -> TokenError {
    let url = &grant.url;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the errors of another crate, which may get more of them"
    )]
    let (kind, why, fix) = match error {
        ureq::Error::Timeout(_) => (
            TroubleKind::Unreachable,
            format!("no answer within {} s", TIMEOUT.as_secs()),
            CHECK_URL,
        ),
        ureq::Error::HostNotFound => (
            TroubleKind::Unreachable,
            "its name can't be resolved".to_owned(),
            CHECK_URL,
        ),
        ureq::Error::Other(tls) => (
            TroubleKind::Configuration,
            tls.to_string(),
            "set https.ca.location to a PEM file with the certificate of the authority that \
             signed the endpoint's",
        ),
        ureq::Error::BodyExceedsLimit(limit) => (
            TroubleKind::Configuration,
            format!("its answer is longer than {limit} bytes"),
            CHECK_URL,
        ),
        _ => (TroubleKind::Unreachable, error.to_string(), CHECK_URL),
    };
    TokenError::new(kind, format!("the token endpoint {url} failed: {why}"), fix)
}

/// RFC 6749, section 5.2: `error` and `error_description`.
fn refused(grant: &Grant, status: u16, json: Option<&Value>) -> TokenError {
    let url = &grant.url;
    let text = |name: &str| {
        let text = json?.get(name)?.as_str()?;
        let text = text.replace(&grant.client_secret, "****");
        let printable = text.chars().filter(|char| !char.is_control());
        Some(printable.take(SAID_CHARS_MAX).collect::<String>())
    };
    let said: Vec<_> = ["error", "error_description"]
        .into_iter()
        .filter_map(text)
        .collect();
    let said = match said.is_empty() {
        true => String::new(),
        false => format!(": {}", said.join(": ")),
    };
    let message = format!("the token endpoint {url} answers with status {status}{said}");
    match status {
        400 | 401 | 403 => TokenError::new(TroubleKind::Credentials, message, CHECK_CLIENT),
        300..=499 if status != 408 && status != 429 => {
            TokenError::new(TroubleKind::Configuration, message, CHECK_URL)
        }
        _ => {
            let fix = "it is tried again; the endpoint's own log says why";
            TokenError::new(TroubleKind::Unreachable, message, fix)
        }
    }
}

fn odd(grant: &Grant, why: &str) -> TokenError {
    let message = format!(
        "the answer of the token endpoint {} is of no use: {why}",
        grant.url
    );
    TokenError::new(TroubleKind::Configuration, message, CHECK_URL)
}
