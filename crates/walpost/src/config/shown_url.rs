//! A connection string as it may be shown.
//!
//! It was read without an error before it comes here, so this only has to find the secrets. In
//! doubt more is masked than has to be.

use super::MASK;

/// The string with its passwords masked.
pub(super) fn shown(text: &str) -> String {
    let schemes = ["postgresql://", "postgres://"];
    let url = schemes
        .iter()
        .find_map(|scheme| Some((*scheme, text.strip_prefix(scheme)?)));
    match url {
        Some((scheme, rest)) => format!("{scheme}{}", url_rest(rest)),
        None => pairs(text),
    }
}

fn url_rest(rest: &str) -> String {
    // No host has an '@' in its name, but a password may, and so may what comes later.
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let mut shown = String::new();
    if let Some(login) = login {
        match login.split_once(':') {
            Some((user, _)) => {
                shown.push_str(user);
                shown.push(':');
                shown.push_str(MASK);
            }
            None => shown.push_str(login),
        }
        shown.push('@');
    }
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    shown.push_str(place);
    for (number, parameter) in query.split('&').enumerate() {
        if parameter.is_empty() {
            continue;
        }
        shown.push(if number == 0 { '?' } else { '&' });
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        shown.push_str(key);
        shown.push('=');
        shown.push_str(if is_secret(key) { MASK } else { value });
    }
    shown
}

/// `key=value key='value'`, with blanks around the '=' and backslashes in the values.
fn pairs(text: &str) -> String {
    let mut shown = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (key, after) = (key.trim(), after.trim_start());
        let end = value_end(after);
        let value = if is_secret(key) { MASK } else { &after[..end] };
        shown.push(format!("{key}={value}"));
        rest = after[end..].trim_start();
    }
    shown.join(" ")
}

fn value_end(text: &str) -> usize {
    let is_quoted = text.starts_with('\'');
    let mut is_escaped = false;
    for (at, char) in text.char_indices().skip(usize::from(is_quoted)) {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' if is_quoted => return at + 1,
            char if !is_quoted && char.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

/// A key that is written in another way than libpq's can be any.
fn is_secret(key: &str) -> bool {
    let is_plain = key
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    !is_plain || key.contains("password") || key.contains("secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        for (text, expected) in [
            ("postgresql://u:S@h/d", "postgresql://u:****@h/d"),
            ("postgres://u@h:1,g:2/d", "postgres://u@h:1,g:2/d"),
            ("postgresql:///d?host=/tmp", "postgresql:///d?host=/tmp"),
            ("postgresql://u:S@S@h/d", "postgresql://u:****@h/d"),
            ("postgresql://u:S?S@h/d", "postgresql://u:****@h/d"),
            (
                "postgresql://u@h/d?sslmode=require&sslpassword=S&pass%77ord=S&password=S",
                "postgresql://u@h/d?sslmode=require&sslpassword=****&pass%77ord=****&password=****",
            ),
            (
                "host=h password = 'S \\' S' sslpassword=S\\ S  user=u",
                "host=h password=**** sslpassword=**** user=u",
            ),
            ("password=S", "password=****"),
            (
                "application_name='a b' password=S",
                "application_name='a b' password=****",
            ),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected);
        }
    }
}
