//! Tokens for SASL OAUTHBEARER, fetched from an endpoint with the client credentials grant
//! (RFC 6749, section 4.4), as Java's client and librdkafka with curl do it.
//!
//! librdkafka is told a token before it needs one, and then again and again: nobody waits for the
//! endpoint but a thread that has nothing else to do. Clients of one configuration share a source,
//! so that a producer that is replaced starts with the token of the one before.

mod connect;
mod endpoint;
mod refresh;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use self::refresh::Refresher;
use crate::LOG_TARGET;
use crate::trouble::{Trouble, TroubleKind};

/// After this part of its lifetime a token is replaced, as librdkafka asks for it.
const REFRESH_PART: f64 = 0.8;

/// Pause after a refresh that failed while the token still serves.
const RETRY: Duration = Duration::from_secs(5);

/// The properties that are ours and not librdkafka's while tokens are fetched.
pub(crate) const PROPERTIES: &[&str] = &[
    METHOD,
    URL,
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPE,
    EXTENSIONS,
    URL_ENCODE,
    CA_LOCATION,
    CA_PEM,
];

pub(crate) const METHOD: &str = "sasl.oauthbearer.method";
pub(crate) const URL: &str = "sasl.oauthbearer.token.endpoint.url";
pub(crate) const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
pub(crate) const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
pub(crate) const SCOPE: &str = "sasl.oauthbearer.scope";
pub(crate) const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
pub(crate) const URL_ENCODE: &str = "sasl.oauthbearer.header.urlencode";
pub(crate) const CA_LOCATION: &str = "https.ca.location";
pub(crate) const CA_PEM: &str = "https.ca.pem";

/// What it takes to fetch a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    url: String,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    /// SASL extensions, which go to the broker beside the token.
    extensions: Vec<(String, String)>,
    /// Percent-encode id and secret in the header, as RFC 6749 has it and few servers do.
    url_encode: bool,
    ca_location: Option<String>,
    ca_pem: Option<String>,
}

impl Grant {
    /// The grant of a configuration that has passed its checks; `None` where no tokens are fetched.
    pub(crate) fn of(properties: &BTreeMap<String, String>) -> Option<Self> {
        let value = |name: &str| properties.get(name).cloned();
        let mechanism = value("sasl.mechanism")?;
        if !mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
            return None;
        }
        let extensions = value(EXTENSIONS).unwrap_or_default();
        Some(Self {
            url: value(URL)?,
            client_id: value(CLIENT_ID)?,
            client_secret: value(CLIENT_SECRET)?,
            scope: value(SCOPE).filter(|scope| !scope.trim().is_empty()),
            extensions: extension_pairs(&extensions).unwrap_or_default(),
            url_encode: value(URL_ENCODE).is_some_and(|value| value.eq_ignore_ascii_case("true")),
            ca_location: value(CA_LOCATION),
            ca_pem: value(CA_PEM),
        })
    }
}

/// Reads `name=value,name=value`, as librdkafka takes extensions.
pub(crate) fn extension_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').map(str::trim);
    let pair = |part: &str| {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| "expected name=value, separated by commas".to_owned())?;
        // RFC 7628, section 3.1.
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_word || name == "auth" {
            return Err("the name of an extension has letters only, and is not 'auth'".to_owned());
        }
        Ok((name.to_owned(), value.to_owned()))
    };
    parts.filter(|part| !part.is_empty()).map(pair).collect()
}

/// A token and what has to be known of it. Its `Debug` shows no part of it.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) principal: String,
    pub(crate) extensions: Vec<(String, String)>,
    pub(crate) expires_at: SystemTime,
    refresh_at: Instant,
}

impl Token {
    fn new(value: String, principal: String, lifetime: Duration, grant: &Grant) -> Self {
        Self {
            value,
            principal,
            extensions: grant.extensions.clone(),
            expires_at: SystemTime::now() + lifetime,
            refresh_at: Instant::now() + lifetime.mul_f64(REFRESH_PART),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn expires_ms(&self) -> i64 {
        let since = self
            .expires_at
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn refresh_in(&self) -> Duration {
        self.refresh_at.saturating_duration_since(Instant::now())
    }

    fn lasts(&self) -> bool {
        self.expires_at > SystemTime::now()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenError {
    kind: TroubleKind,
    message: String,
    fix: String,
}

impl TokenError {
    fn new(kind: TroubleKind, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<TokenError> for Trouble {
    fn from(error: TokenError) -> Self {
        Self::new(error.kind, error.message, error.fix)
    }
}

/// Where tokens come from. Keeps the last one.
pub(crate) struct TokenSource {
    grant: Grant,
    kept: Mutex<Option<Token>>,
}

impl TokenSource {
    pub(crate) fn new(grant: Grant) -> Self {
        Self {
            grant,
            kept: Mutex::new(None),
        }
    }

    /// A token that is not due for a refresh, if there can be one. Blocks while it is fetched, and
    /// while somebody else fetches one.
    pub(crate) fn token(&self) -> Result<Token, TokenError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = kept.as_ref().filter(|token| !token.refresh_in().is_zero()) {
            return Ok(token.clone());
        }
        let fetched = endpoint::fetch(&self.grant);
        if let (Err(error), Some(old)) = (&fetched, kept.as_mut())
            && old.lasts()
        {
            tracing::warn!(
                target: LOG_TARGET,
                error = %error.message,
                fix = %error.fix,
                "the token could not be replaced; the old one still serves"
            );
            old.refresh_at = Instant::now() + RETRY;
            return Ok(old.clone());
        }
        let token = fetched?;
        tracing::debug!(target: LOG_TARGET, ?token, "fetched a token");
        *kept = Some(token.clone());
        Ok(token)
    }
}

impl PartialEq for TokenSource {
    /// Sources of one grant are the same, whatever they keep.
    fn eq(&self, other: &Self) -> bool {
        self.grant == other.grant
    }
}

impl Eq for TokenSource {}

#[cfg(test)]
mod tests;
