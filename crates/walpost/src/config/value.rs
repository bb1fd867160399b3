//! Texts into values: durations, sizes, numbers, names of tables.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use walpost_core::TableName;

use super::schema::IDENTIFIER_BYTES_MAX;

/// What a value has to be instead. Never quotes the value.
type Expected = String;

/// Longest of all durations: what is added to a clock must stay in its range.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// `100ms`, `5s`, `2m` or `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, Expected> {
    let expected = || "expected a number and a unit, as 100ms, 5s, 2m or 1h".to_owned();
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    let duration = number.checked_mul(milliseconds).map(Duration::from_millis);
    duration
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| "expected at most a year (8760h)".to_owned())
}

/// `65536`, `512KiB`, `64MiB`, `1GiB`, or decimal `64MB`. In bytes.
pub(super) fn size(text: &str) -> Result<usize, Expected> {
    let expected = || "expected a number of bytes, as 65536, 512KiB, 64MiB or 1GiB".to_owned();
    let (number, unit) = split_unit(text);
    let number: usize = number.parse().map_err(|_| expected())?;
    let bytes: usize = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(expected()),
    };
    number.checked_mul(bytes).ok_or_else(expected)
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

/// A whole number, both ends included.
pub(super) fn number<T>(text: &str, min: T, max: T) -> Result<T, Expected>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    let number = text.parse().ok();
    number
        .filter(|number| (&min..=&max).contains(&number))
        .ok_or_else(|| format!("expected a number from {min} to {max}"))
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, Expected> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Where one broker is: `host`, `host:port` or `[address]:port`.
pub(super) fn broker(text: &str) -> Result<String, Expected> {
    let broker = text.trim();
    if broker.is_empty() {
        return Err("one of them is empty: expected host:port, …".to_owned());
    }
    if broker.contains("://") {
        return Err(
            "expected host:port alone: how to connect is said by security.protocol under \
             kafka.properties"
                .to_owned(),
        );
    }
    let (host, after) = match broker.split_once(']') {
        Some((address, after)) if address.starts_with('[') => (&address[1..], after),
        _ => broker.split_at(broker.find(':').unwrap_or(broker.len())),
    };
    let of_host = |char: char| !char.is_whitespace() && !"/[]@".contains(char);
    let is_port = |port: &str| number(port, 1, u16::MAX).is_ok();
    let is_place = !host.is_empty()
        && host.chars().all(of_host)
        && (after.is_empty() || after.strip_prefix(':').is_some_and(is_port));
    if is_place {
        Ok(broker.to_owned())
    } else {
        Err("expected host:port, with a port from 1 to 65535".to_owned())
    }
}

/// A slot's name, by the server's rule.
pub(super) fn slot(text: &str) -> Result<String, Expected> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if text.is_empty() || text.len() > IDENTIFIER_BYTES_MAX || !text.bytes().all(allowed) {
        return Err("expected 1 to 63 characters out of a-z, 0-9 and '_'".to_owned());
    }
    Ok(text.to_owned())
}

/// A name that Postgres takes, unquoted, of at most so many bytes.
pub(super) fn identifier(text: &str, bytes_max: usize) -> Result<String, Expected> {
    if text.is_empty() || text.len() > bytes_max || text.contains('\0') {
        return Err(format!("expected a name of 1 to {bytes_max} bytes"));
    }
    Ok(text.to_owned())
}

/// `name` or `schema.name`, each part plain or in double quotes as in SQL.
pub(super) fn table(text: &str) -> Result<TableName, Expected> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = table_part(rest)?;
        parts.push(identifier(&part, IDENTIFIER_BYTES_MAX)?);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() => break,
            None => return Err(expected_table()),
        }
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => Ok(TableName {
            schema: "public".to_owned(),
            name,
        }),
        (Some(schema), Some(name), None) => Ok(TableName { schema, name }),
        _ => Err(expected_table()),
    }
}

/// A table as `outbox.table` takes it, with quotes only where they are needed.
pub(crate) fn table_text(name: &TableName) -> String {
    let plain = name.to_string();
    if table(&plain).as_ref() == Ok(name) {
        plain
    } else {
        crate::sql::qualified(name)
    }
}

fn table_part(text: &str) -> Result<(String, &str), Expected> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['.', '"']).unwrap_or(text.len());
        let (part, after) = text.split_at(end);
        if part.chars().any(char::is_uppercase) {
            return Err(
                "a name with capital letters needs double quotes inside the value, as \
                        '\"Outbox\"' (without them Postgres reads it in lower case)"
                    .to_owned(),
            );
        }
        let plain = |char: char| char.is_alphanumeric() || char == '_' || char == '$';
        return if part.chars().all(plain) {
            Ok((part.to_owned(), after))
        } else {
            Err(expected_table())
        };
    };
    let mut part = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"').ok_or_else(expected_table)?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Ok((part, after)),
        }
    }
}

fn expected_table() -> Expected {
    "expected schema.name, with double quotes around a part that has special characters".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2 m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for text in [
            "5",
            "",
            "s",
            "-1s",
            "1.5s",
            "5 parsecs",
            "99999999999h",
            "9000h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1 kB"), Ok(1000));
        assert_eq!(size("7"), Ok(7));
        for text in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "64M",
            "99999999999999999999",
            "99999999999GiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tables_are_named_as_in_sql() {
        let named = |text: &str| table(text).map(|TableName { schema, name }| (schema, name));
        let name = |schema: &str, name: &str| Ok((schema.to_owned(), name.to_owned()));
        assert_eq!(named("outbox"), name("public", "outbox"));
        assert_eq!(named("app.outbox"), name("app", "outbox"));
        assert_eq!(
            named("\"My.App\".\"a \"\"b\"\"\""),
            name("My.App", "a \"b\"")
        );
        assert_eq!(named("größe.x$1"), name("größe", "x$1"));
        for text in [
            "", ".", "a.", ".a", "a.b.c", "a b", "a;b", "\"a", "\"a\"b", "a\"b\"", "\"\"", "A",
        ] {
            assert!(named(text).is_err(), "{text}");
        }
        for text in ["app.outbox", "\"My.App\".\"a \"\"b\"\"\""] {
            assert_eq!(table_text(&table(text).unwrap()), text);
        }
        assert!(
            named("public.Outbox")
                .unwrap_err()
                .contains("double quotes")
        );
        assert!(named(&"x".repeat(64)).is_err());
    }

    #[test]
    fn brokers_are_hosts_with_or_without_a_port() {
        for text in [
            "kafka",
            "kafka-1.internal:9092",
            "10.0.0.1:1",
            "[::1]:9092",
            "[fe80::1]",
            " k:1 ",
        ] {
            assert_eq!(broker(text).as_deref(), Ok(text.trim()));
        }
        for text in [
            "",
            ":9092",
            "k:",
            "k:0",
            "k:65536",
            "k:abc",
            "k:1/topic",
            "::1",
            "[::1",
            "a b:1",
            "[]:1",
        ] {
            assert!(broker(text).is_err(), "{text}");
        }
        let problem = broker("SASL_SSL://k:9093").unwrap_err();
        assert!(problem.contains("security.protocol"), "{problem}");
    }

    #[test]
    fn slots_are_named_by_the_servers_rule() {
        assert!(slot("walpost_2").is_ok());
        for text in ["", "A", "a-b", "a b", &"x".repeat(64)] {
            assert!(slot(text).is_err(), "{text}");
        }
    }
}
