//! The form `postgresql://user:password@host:port,host:port/database?key=value`.

use super::{ConninfoError, settings::Settings};

/// Reads what follows the scheme.
pub(super) fn read(text: &str, settings: &mut Settings) -> Result<(), ConninfoError> {
    let netloc = match text.find(['@', '/']) {
        Some(at) if text[at..].starts_with('@') => {
            read_user(&text[..at], settings)?;
            &text[at + 1..]
        }
        _ => text,
    };
    let (netloc, query) = match netloc.split_once('?') {
        Some((netloc, query)) => (netloc, Some(query)),
        None => (netloc, None),
    };
    if netloc.contains('@') {
        return Err(ConninfoError::new(
            "an '@' out of place; write '@' as %40 and '/' as %2F inside user, password and \
             database",
        ));
    }
    let (netloc, database) = match netloc.split_once('/') {
        Some((netloc, database)) => (netloc, database),
        None => (netloc, ""),
    };
    read_netloc(netloc, settings)?;
    set("dbname", database, settings)?;
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(());
    };
    // One '&' may stand at the end.
    let query = query.strip_suffix('&').unwrap_or(query);
    query
        .split('&')
        .try_for_each(|pair| read_parameter(pair, settings))
}

fn read_user(text: &str, settings: &mut Settings) -> Result<(), ConninfoError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    set("user", user, settings)?;
    set("password", password, settings)
}

/// `host:port,host:port`. The lists go on as such, so that an empty element is the default.
fn read_netloc(text: &str, settings: &mut Settings) -> Result<(), ConninfoError> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    let mut rest = text;
    loop {
        let (host, after) = read_host(rest)?;
        hosts.push_str(host);
        let (port, after) = match after.strip_prefix(':') {
            Some(after) => after.split_at(after.find(',').unwrap_or(after.len())),
            None => ("", after),
        };
        ports.push_str(port);
        let Some(after) = after.strip_prefix(',') else {
            break;
        };
        hosts.push(',');
        ports.push(',');
        rest = after;
    }
    set("host", &hosts, settings)?;
    set("port", &ports, settings)
}

/// The host at the start of `text`, and what follows it: nothing, a port or the next host.
fn read_host(text: &str) -> Result<(&str, &str), ConninfoError> {
    let Some(text) = text.strip_prefix('[') else {
        return Ok(text.split_at(text.find([':', ',']).unwrap_or(text.len())));
    };
    let Some((host, after)) = text.split_once(']') else {
        return Err(ConninfoError::new("an IPv6 address has no closing ']'"));
    };
    if host.is_empty() {
        return Err(ConninfoError::new(
            "the IPv6 address between '[' and ']' is empty",
        ));
    }
    if !after.is_empty() && !after.starts_with([':', ',']) {
        return Err(ConninfoError::new("text between ']' and the port"));
    }
    Ok((host, after))
}

fn read_parameter(pair: &str, settings: &mut Settings) -> Result<(), ConninfoError> {
    let Some((name, value)) = pair.split_once('=') else {
        return Err(ConninfoError::new("a parameter after '?' has no '='"));
    };
    if value.contains('=') {
        return Err(ConninfoError::new(
            "a parameter after '?' has more than one '='; write '=' as %3D inside a value",
        ));
    }
    let name = decode(name)?;
    let value = decode(value)?;
    match (name.as_str(), value.as_str()) {
        // What JDBC calls it; libpq takes it in a URL too.
        ("ssl", "true") => settings.set("sslmode", "require".to_owned()),
        _ => settings.set(&name, value),
    }
}

/// Sets a part of the URL; one that is empty says nothing.
fn set(name: &str, encoded: &str, settings: &mut Settings) -> Result<(), ConninfoError> {
    if encoded.is_empty() {
        return Ok(());
    }
    settings.set(name, decode(encoded)?)
}

/// Blanks around a part are none of it, and blanks in it an error, as in libpq since 18.
fn decode(encoded: &str) -> Result<String, ConninfoError> {
    let encoded = encoded.trim_matches(' ');
    if encoded.contains(' ') {
        return Err(ConninfoError::new(
            "a blank inside a part of the URL; write ' ' as %20",
        ));
    }
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next()).zip(digit(rest.next()));
        match value.map(|(high, low)| u8::try_from(high * 16 + low)) {
            Some(Ok(0)) => return Err(ConninfoError::new("%00 is not allowed")),
            Some(Ok(value)) => bytes.push(value),
            _ => {
                return Err(ConninfoError::new(
                    "a '%' is not followed by two hexadecimal digits; write '%' as %25",
                ));
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| ConninfoError::new("percent-encoded bytes are not UTF-8"))
}
