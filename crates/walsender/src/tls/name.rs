//! Whose certificate it is: libpq's rules, which are near to RFC 6125 and not quite it.
//!
//! The common name counts where the certificate has no alternative name of the host's own kind: an
//! address may match a common name beside names of hosts, but not beside addresses. A wildcard
//! stands for one whole label, the leftmost.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use openssl::{nid::Nid, x509::X509Ref};

use super::{TlsError, TlsFault};

/// Names that an error shows of a certificate that has many.
const SHOWN_MAX: usize = 5;

/// A name of a certificate.
enum Name {
    Dns(String),
    Address(Vec<u8>),
}

/// Compares a certificate with the name that was asked for.
pub(super) fn verify(certificate: &X509Ref, host: &str) -> Result<(), TlsError> {
    let names = alternative_names(certificate);
    let address = address(host);
    let mut seen = Vec::new();
    let mut common_name_counts = true;
    for name in &names {
        let right = match name {
            Name::Dns(name) => {
                common_name_counts &= address.is_some();
                matches(name, host)?
            }
            Name::Address(bytes) => {
                common_name_counts &= address.is_none();
                address.is_some_and(|address| is_same(address, bytes))
            }
        };
        if right {
            return Ok(());
        }
        seen.push(name.shown());
    }
    if common_name_counts && let Some(name) = common_name(certificate) {
        if matches(&name, host)? {
            return Ok(());
        }
        let name = Name::Dns(name).shown();
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    Err(mismatch(&seen, host))
}

fn mismatch(seen: &[String], host: &str) -> TlsError {
    let host = clean(host);
    let text = if seen.is_empty() {
        format!("the server's certificate names no host, and '{host}' was asked for")
    } else {
        let mut names = seen
            .iter()
            .take(SHOWN_MAX)
            .map(|name| format!("'{name}'"))
            .collect::<Vec<_>>()
            .join(", ");
        if let Some(more @ 1..) = seen.len().checked_sub(SHOWN_MAX) {
            // Writing to a string does not fail.
            let _ = write!(names, " and {more} more");
        }
        format!("the server's certificate is for {names}, not for '{host}'")
    };
    TlsError::new(TlsFault::Untrusted, text).with_advice(
        "connect by a name that it holds (host=NAME; hostaddr can say where that is), give the \
         server a certificate for this one, or check only its issuer by sslmode=verify-ca",
    )
}

impl Name {
    fn shown(&self) -> String {
        match self {
            Self::Dns(name) => clean(name),
            Self::Address(bytes) => match octets(bytes) {
                Some(address) => address.to_string(),
                None => "an address of odd length".to_owned(),
            },
        }
    }
}

/// What a certificate says is not to be trusted with control characters.
fn clean(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { '?' } else { char })
        .collect()
}

fn alternative_names(certificate: &X509Ref) -> Vec<Name> {
    let names = certificate.subject_alt_names().into_iter().flatten();
    names
        .filter_map(|name| {
            let dns = name.dnsname().map(|name| Name::Dns(name.to_owned()));
            let address = || {
                name.ipaddress()
                    .map(|bytes| Name::Address(bytes.to_owned()))
            };
            dns.or_else(address)
        })
        .collect()
}

/// The first common name of the subject.
fn common_name(certificate: &X509Ref) -> Option<String> {
    let entry = certificate
        .subject_name()
        .entries_by_nid(Nid::COMMONNAME)
        .next()?;
    Some(String::from_utf8_lossy(entry.data().as_slice()).into_owned())
}

fn matches(name: &str, host: &str) -> Result<bool, TlsError> {
    if name.contains('\0') {
        return Err(TlsError::new(
            TlsFault::Untrusted,
            "the server's certificate has a name with a zero byte in it, as a forged one would",
        )
        .with_advice("give the server another certificate"));
    }
    Ok(name.eq_ignore_ascii_case(host) || wildcard_matches(name, host))
}

/// `*.example.org` is for `db.example.org`, and neither for `example.org` nor for
/// `a.db.example.org`.
fn wildcard_matches(name: &str, host: &str) -> bool {
    let Some(parent) = name.strip_prefix('*').filter(|parent| parent.len() >= 2) else {
        return false;
    };
    if !parent.starts_with('.') {
        return false;
    }
    let Some(at) = host.len().checked_sub(parent.len()).filter(|at| *at > 0) else {
        return false;
    };
    let (label, rest) = (&host.as_bytes()[..at], &host.as_bytes()[at..]);
    rest.eq_ignore_ascii_case(parent.as_bytes()) && !label.contains(&b'.')
}

fn is_same(address: IpAddr, bytes: &[u8]) -> bool {
    octets(bytes) == Some(address)
}

fn octets(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// The host as an address, in all the forms that C's `inet_aton` takes.
fn address(host: &str) -> Option<IpAddr> {
    host.parse()
        .ok()
        .or_else(|| short_address(host).map(IpAddr::V4))
}

/// `127.1`, `0x7f000001`: one to four numbers, of which the last fills what is left.
fn short_address(host: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = host.split('.').map(c_number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let bits_left = 32 - 8 * first.len();
    if *last >= 1 << bits_left {
        return None;
    }
    let high = first
        .iter()
        .zip([24, 16, 8])
        .fold(0, |bits, (part, shift)| bits | (part << shift));
    u32::try_from(high | last).ok().map(Ipv4Addr::from)
}

/// A number as C writes it: decimal, octal after `0`, hexadecimal after `0x`.
fn c_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Whether the server may be told this name (RFC 6066: no addresses).
pub(super) fn is_for_sni(host: &str) -> bool {
    let is_number = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    !host.is_empty() && !is_number && !host.contains([':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_stands_for_one_leftmost_label() {
        for (name, host, expected) in [
            ("*.example.org", "db.example.org", true),
            ("*.EXAMPLE.org", "db.example.ORG", true),
            ("*.example.org", "a.db.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.example.org", ".example.org", false),
            ("d*.example.org", "db.example.org", false),
            ("*b.example.org", "db.example.org", false),
            ("db.*.org", "db.example.org", false),
            ("*", "db", false),
            ("*.", "db.", false),
            ("*.b", "a.b", true),
            ("*.example.org", "\u{e4}\u{f6}.example.org", true),
            ("db.example.org", "db.example.org", true),
            ("db.example.org", "DB.Example.Org", true),
            ("db.example.org", "xdb.example.org", false),
        ] {
            assert_eq!(matches(name, host).unwrap(), expected, "{name} {host}");
        }
        matches("db.example.org\0.evil.net", "db.example.org").unwrap_err();
    }

    #[test]
    fn addresses_are_taken_in_every_form_that_c_takes() {
        let four = |text: &str| address(text).map(|address| address.to_string());
        for text in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "0x7f.1",
            "0177.0.0.1",
            "2130706433",
        ] {
            assert_eq!(four(text).as_deref(), Some("127.0.0.1"), "{text}");
        }
        assert_eq!(four("::1").as_deref(), Some("::1"));
        for text in [
            "",
            "db",
            "256.1.1.1",
            "1.2.3.4.5",
            "1..2",
            "1.2.3.256",
            "+1",
            "0x",
        ] {
            assert_eq!(four(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_told_to_the_server_and_addresses_are_not() {
        assert!(is_for_sni("db.example.org"));
        for host in ["", "127.0.0.1", "::1", "12"] {
            assert!(!is_for_sni(host), "{host}");
        }
    }
}
