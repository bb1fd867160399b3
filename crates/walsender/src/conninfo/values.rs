//! What the keys' values mean, by libpq's rules.
//!
//! Words are exact: libpq knows neither blanks around them nor capitals, but for versions of TLS.
//! Where it takes any other text for "no", here it is an error.

use std::{path::PathBuf, time::Duration};

use super::{
    AuthMethod, ChannelBinding, ConninfoError, RequireAuth, RootCert, SslCertMode, SslMode,
    SslNegotiation, TargetSessionAttrs, TcpSettings, TlsSettings, TlsVersion,
    keys::Key,
    settings::{Settings, Value},
};

/// The kernel's own limits; libpq would fail at each connect.
const KEEPALIVE_SECONDS_MAX: i32 = 32_767;
const KEEPALIVE_PROBES_MAX: i32 = 127;

const SSL_MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

const TLS_VERSIONS: [(&str, TlsVersion); 4] = [
    ("tlsv1", TlsVersion::V1_0),
    ("tlsv1.1", TlsVersion::V1_1),
    ("tlsv1.2", TlsVersion::V1_2),
    ("tlsv1.3", TlsVersion::V1_3),
];

const AUTH_METHODS: [(&str, AuthMethod); 7] = [
    ("password", AuthMethod::Password),
    ("md5", AuthMethod::Md5),
    ("gss", AuthMethod::Gss),
    ("sspi", AuthMethod::Sspi),
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("oauth", AuthMethod::OAuth),
    ("none", AuthMethod::None),
];

/// A whole number, with blanks around it as `strtol` takes them.
pub(super) fn integer(text: &str) -> Option<i32> {
    let is_blank = |char: char| matches!(char, ' ' | '\t'..='\r');
    text.trim_matches(is_blank).parse().ok()
}

/// One of the words; `None` where the key is not given.
pub(super) fn word<T: Copy>(
    value: Option<&Value>,
    words: &[(&str, T)],
) -> Result<Option<T>, ConninfoError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let found = words.iter().find(|(word, _)| *word == value.text);
    found
        .map(|(_, meaning)| Some(*meaning))
        .ok_or_else(|| value.error(&format!("is none of {}", listed(words))))
}

fn listed<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    match words.as_slice() {
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
        [] => String::new(),
    }
}

/// `connect_timeout`: seconds, and none where they are not positive.
pub(super) fn connect_timeout(value: &Value) -> Result<Duration, ConninfoError> {
    let seconds = integer(&value.text).ok_or_else(|| value.error("is not a number of seconds"))?;
    Ok(match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => Duration::MAX,
    })
}

/// Only what is sent anyway may be asked for.
pub(super) fn check_client_encoding(value: Option<Value>) -> Result<(), ConninfoError> {
    let Some(value) = value else {
        return Ok(());
    };
    // Postgres compares names of encodings by their letters and digits alone.
    let letters = value.text.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|char| char.to_ascii_lowercase()).collect();
    match name.as_str() {
        "utf8" | "unicode" | "auto" => Ok(()),
        _ => Err(value.error(
            "is not UTF8; every session speaks UTF-8, into which the server converts: leave it out",
        )),
    }
}

/// Protocol 3.0 is spoken, which every server does.
pub(super) fn check_protocol_versions(settings: &mut Settings) -> Result<(), ConninfoError> {
    const VERSIONS: [(&str, bool); 3] = [("3.0", true), ("3.2", false), ("latest", false)];
    let min = settings.take_even_empty(Key::MinProtocolVersion);
    if let (Some(false), Some(min)) = (word(min.as_ref(), &VERSIONS)?, &min) {
        return Err(min.error("asks for more than protocol 3.0, which is spoken here; use 3.0"));
    }
    let max = settings.take_even_empty(Key::MaxProtocolVersion);
    word(max.as_ref(), &VERSIONS).map(drop)
}

/// There is no GSSAPI, so that it can be preferred but not required.
pub(super) fn check_gssencmode(value: Option<&Value>) -> Result<(), ConninfoError> {
    let modes = [("disable", true), ("prefer", true), ("require", false)];
    match (word(value, &modes)?, value) {
        (Some(false), Some(value)) => Err(value.error(
            "asks for GSSAPI encryption, which is not spoken here; \
             use disable, and sslmode=require or higher for an encrypted connection",
        )),
        _ => Ok(()),
    }
}

/// `target_session_attrs`.
pub(super) fn target(value: Option<&Value>) -> Result<TargetSessionAttrs, ConninfoError> {
    let words = [
        ("any", TargetSessionAttrs::Any),
        ("read-write", TargetSessionAttrs::ReadWrite),
        ("read-only", TargetSessionAttrs::ReadOnly),
        ("primary", TargetSessionAttrs::Primary),
        ("standby", TargetSessionAttrs::Standby),
        ("prefer-standby", TargetSessionAttrs::PreferStandby),
    ];
    word(value, &words).map(Option::unwrap_or_default)
}

/// `load_balance_hosts`: whether hosts and addresses are tried in random order.
pub(super) fn load_balance(value: Option<&Value>) -> Result<bool, ConninfoError> {
    let words = [("disable", false), ("random", true)];
    word(value, &words).map(Option::unwrap_or_default)
}

/// `channel_binding`.
pub(super) fn channel_binding(value: Option<&Value>) -> Result<ChannelBinding, ConninfoError> {
    let words = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    word(value, &words).map(Option::unwrap_or_default)
}

/// `require_auth`: methods, or with a `!` before each of them, all others.
pub(super) fn require_auth(value: Option<Value>) -> Result<RequireAuth, ConninfoError> {
    let Some(value) = value else {
        return Ok(RequireAuth::Any);
    };
    let negated = value.text.starts_with('!');
    let mut methods = Vec::new();
    for name in value.text.split(',') {
        let name = match (name.strip_prefix('!'), negated) {
            (Some(name), true) => name,
            (None, false) => name,
            _ => return Err(value.error("mixes methods with and without a '!'")),
        };
        let known = AUTH_METHODS.iter().find(|(known, _)| *known == name);
        let Some((_, method)) = known else {
            let known = listed(&AUTH_METHODS);
            return Err(value.error(&format!("names a method that is none of {known}")));
        };
        if methods.contains(method) {
            return Err(value.error("names a method twice"));
        }
        methods.push(*method);
    }
    Ok(if negated {
        RequireAuth::NoneOf(methods)
    } else {
        RequireAuth::OneOf(methods)
    })
}

/// The keys about TLS.
pub(super) fn tls(
    settings: &mut Settings,
    home: Option<PathBuf>,
) -> Result<TlsSettings, ConninfoError> {
    let mut path = |key| settings.take(key).map(|value| PathBuf::from(value.text));
    let (cert, key) = (path(Key::Sslcert), path(Key::Sslkey));
    let (crl, crl_dir) = (path(Key::Sslcrl), path(Key::Sslcrldir));
    let root_cert = match settings.take(Key::Sslrootcert) {
        None => RootCert::Default,
        Some(value) if value.text == "system" => RootCert::System,
        Some(value) => RootCert::File(value.text.into()),
    };
    let mode = ssl_mode(settings, &root_cert)?;
    let negotiation = negotiation(settings, mode)?;
    let (min_protocol, max_protocol) = tls_versions(settings)?;
    let cert_modes = [
        ("disable", SslCertMode::Disable),
        ("allow", SslCertMode::Allow),
        ("require", SslCertMode::Require),
    ];
    let cert_mode = settings.take_even_empty(Key::Sslcertmode);
    let sni = settings.take_even_empty(Key::Sslsni);
    // Compression leaks what it compresses; libpq has read the key and done nothing since 14.
    drop(settings.take(Key::Sslcompression));
    Ok(TlsSettings {
        mode,
        negotiation,
        root_cert,
        cert,
        key,
        key_password: settings
            .take(Key::Sslpassword)
            .map(|value| value.text.into()),
        cert_mode: word(cert_mode.as_ref(), &cert_modes)?.unwrap_or_default(),
        crl,
        crl_dir,
        sni: word(sni.as_ref(), &[("0", false), ("1", true)])?.unwrap_or(true),
        min_protocol,
        max_protocol,
        home,
    })
}

fn ssl_mode(settings: &mut Settings, root_cert: &RootCert) -> Result<SslMode, ConninfoError> {
    let value = settings.take_even_empty(Key::Sslmode);
    let mode = word(value.as_ref(), &SSL_MODES)?;
    match (root_cert, mode, &value) {
        (RootCert::System, None, _) => Ok(SslMode::VerifyFull),
        (RootCert::System, Some(mode), Some(value)) if mode != SslMode::VerifyFull => Err(value
            .error(
                "is weaker than verify-full, which sslrootcert=system needs: anybody can have a \
                 certificate of a public root for a host of theirs; use verify-full",
            )),
        _ => Ok(mode.unwrap_or_default()),
    }
}

fn negotiation(settings: &mut Settings, mode: SslMode) -> Result<SslNegotiation, ConninfoError> {
    let words = [
        ("postgres", SslNegotiation::Postgres),
        ("direct", SslNegotiation::Direct),
    ];
    let value = settings.take_even_empty(Key::Sslnegotiation);
    match (word(value.as_ref(), &words)?, value) {
        (Some(SslNegotiation::Direct), Some(value)) if mode < SslMode::Require => Err(value.error(
            "is direct, which needs TLS for certain: use sslmode require, verify-ca or verify-full",
        )),
        (negotiation, _) => Ok(negotiation.unwrap_or_default()),
    }
}

/// Lowest and highest version. An empty value is none, not the default.
fn tls_versions(
    settings: &mut Settings,
) -> Result<(Option<TlsVersion>, Option<TlsVersion>), ConninfoError> {
    let min = settings.take_even_empty(Key::SslMinProtocolVersion);
    let max = settings.take_even_empty(Key::SslMaxProtocolVersion);
    let version = |value: &Option<Value>, default| match value {
        None => Ok(default),
        Some(value) if value.text.is_empty() => Ok(None),
        Some(value) => {
            let name = value.text.to_ascii_lowercase();
            let found = TLS_VERSIONS.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, version)| Some(*version))
                .ok_or_else(|| value.error("is none of TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3"))
        }
    };
    let lowest = version(&min, Some(TlsVersion::V1_2))?;
    let highest = version(&max, None)?;
    match (lowest, highest, max.or(min)) {
        (Some(lowest), Some(highest), Some(value)) if lowest > highest => Err(value.error(
            "leaves no version of TLS: ssl_min_protocol_version (default TLSv1.2) is above \
             ssl_max_protocol_version",
        )),
        _ => Ok((lowest, highest)),
    }
}

/// The keys about the TCP socket.
pub(super) fn tcp(settings: &mut Settings) -> Result<TcpSettings, ConninfoError> {
    let default = TcpSettings::default();
    let mut number = |key, max: i32| {
        let Some(value) = settings.take_even_empty(key) else {
            return Ok(None);
        };
        match integer(&value.text) {
            Some(number) if number <= max => Ok(Some(u32::try_from(number).unwrap_or(0))),
            Some(_) => Err(value.error(&format!("is above {max}"))),
            None => Err(value.error("is not a whole number")),
        }
    };
    let positive = |number: u32| (number > 0).then_some(number);
    let seconds = |number| positive(number).map(|number| Duration::from_secs(number.into()));
    let millis = |number| positive(number).map(|number| Duration::from_millis(number.into()));
    let enabled = number(Key::Keepalives, i32::MAX)?;
    let idle = number(Key::KeepalivesIdle, KEEPALIVE_SECONDS_MAX)?;
    let interval = number(Key::KeepalivesInterval, KEEPALIVE_SECONDS_MAX)?;
    let count = number(Key::KeepalivesCount, KEEPALIVE_PROBES_MAX)?;
    let user_timeout = number(Key::TcpUserTimeout, i32::MAX)?;
    Ok(TcpSettings {
        keepalives: enabled.map_or(default.keepalives, |number| number != 0),
        keepalives_idle: idle.map_or(default.keepalives_idle, seconds),
        keepalives_interval: interval.map_or(default.keepalives_interval, seconds),
        keepalives_count: count.map_or(default.keepalives_count, positive),
        user_timeout: user_timeout.map_or(default.user_timeout, millis),
    })
}
