//! The row's own headers: a flat JSON object in a column.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::Header;
use crate::limits::{ROW_HEADER_BYTES_MAX, ROW_HEADERS_MAX};

/// Reads the object: strings plainly, other scalars as their JSON text, in the order of the text.
/// The error says what can't be a header. JSON's `null` is none, like NULL: it is what many mappers
/// write for a value that is absent.
pub(crate) fn parse(json: &[u8]) -> Result<Vec<Header>, String> {
    let text = std::str::from_utf8(json).map_err(|_| "the headers are not UTF-8".to_owned())?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    if text.trim_ascii() == "null" {
        return Ok(Vec::new());
    }
    let headers = deserializer
        .deserialize_map(Flat)
        .and_then(|headers| deserializer.end().map(|()| headers))
        .map_err(|error| {
            format!(
                "the headers are not a flat JSON object: {}",
                told(text, &error)
            )
        })?;
    let bytes = headers
        .iter()
        .map(|header| header.name.len() + value_len(header))
        .sum::<usize>();
    if bytes > ROW_HEADER_BYTES_MAX {
        return Err(format!(
            "the headers have {bytes} bytes and may have {ROW_HEADER_BYTES_MAX}"
        ));
    }
    Ok(headers)
}

/// What is wrong, without what is in the row: the parser would tell a text that it did not expect.
fn told(json: &str, error: &serde_json::Error) -> String {
    let what = match json.trim_ascii_start().bytes().next() {
        Some(b'{') => return error.to_string(),
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "no JSON",
    };
    format!("they are {what}")
}

/// A name of a header in a message.
fn shown(name: &str) -> String {
    const SHOWN: usize = 100;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Whether walpost sets a header of this name itself.
pub(crate) fn is_reserved(name: &str) -> bool {
    matches!(name, "id" | "type") || name.starts_with("walpost-")
}

fn value_len(header: &Header) -> usize {
    header.value.as_ref().map_or(0, Bytes::len)
}

struct Flat;

impl<'de> Visitor<'de> for Flat {
    type Value = Vec<Header>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of names and scalars")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut headers = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if headers.len() == ROW_HEADERS_MAX {
                return Err(serde::de::Error::custom(format_args!(
                    "there are more than {ROW_HEADERS_MAX}"
                )));
            }
            headers.push(header(name, value.get()).map_err(serde::de::Error::custom)?);
        }
        Ok(headers)
    }
}

fn header(name: String, json: &str) -> Result<Header, String> {
    if name.is_empty() || name.contains('\0') {
        return Err("a header's name is empty or has a NUL".to_owned());
    }
    if is_reserved(&name) {
        return Err(format!("the name '{}' is walpost's own", shown(&name)));
    }
    let value = match json.as_bytes()[0] {
        b'{' | b'[' => return Err(format!("the value of '{}' is nested", shown(&name))),
        b'"' => {
            let text: String = serde_json::from_str(json)
                .map_err(|_| format!("the value of '{}' is no Unicode string", shown(&name)))?;
            Bytes::from(text)
        }
        _ => Bytes::copy_from_slice(json.as_bytes()),
    };
    Ok(Header {
        name: Bytes::from(name),
        value: Some(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = parse(json.as_bytes()).unwrap();
        headers
            .iter()
            .map(|h| (text(&h.name), text(h.value.as_ref().unwrap())))
            .collect()
    }

    #[test]
    fn what_is_no_object_is_refused_without_what_it_says() {
        for (json, what) in [
            (r#""{\"token\": \"secret\"}""#, "they are a string"),
            (r#"["secret"]"#, "they are an array"),
            ("12", "they are a number"),
            ("true", "they are a boolean"),
            ("secret", "they are no JSON"),
            ("", "they are no JSON"),
        ] {
            let problem = parse(json.as_bytes()).unwrap_err();
            assert!(problem.ends_with(what), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
        let long = format!(r#"{{"{}": []}}"#, "n".repeat(5_000));
        assert!(parse(long.as_bytes()).unwrap_err().len() < 300);
    }

    #[test]
    fn strings_are_plain_and_other_scalars_keep_their_json_text() {
        let json = r#"{"trace": "ä\n\"x\"", "n": 1.10, "big": 123456789012345678901,
                       "yes": true, "none": null, "": 0}"#;
        assert!(
            parse(json.as_bytes())
                .unwrap_err()
                .contains("name is empty")
        );
        let json = json.replace(r#", "": 0"#, "");
        let expected = [
            ("trace", "ä\n\"x\""),
            ("n", "1.10"),
            ("big", "123456789012345678901"),
            ("yes", "true"),
            ("none", "null"),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        assert_eq!(parsed(&json), expected);
        for none in ["{}", "null", " null\n"] {
            assert_eq!(parsed(none), [], "{none}");
        }
    }

    #[test]
    fn what_is_no_flat_object_is_refused_with_the_reason() {
        let error = |json: &str| parse(json.as_bytes()).unwrap_err();
        assert!(error("[1]").contains("flat JSON object"));
        assert!(error("\"x\"").contains("flat JSON object"));
        assert!(error("false").contains("flat JSON object"));
        assert!(error("").contains("flat JSON object"));
        assert!(error("{} {}").contains("flat JSON object"));
        assert!(error(r#"{"a": {"b": 1}}"#).contains("the value of 'a' is nested"));
        assert!(error(r#"{"a": [1]}"#).contains("the value of 'a' is nested"));
        assert!(error(r#"{"a\u0000": 1}"#).contains("NUL"));
        assert!(error(r#"{"a": "\ud800"}"#).contains("'a' is no Unicode string"));
        for name in ["id", "type", "walpost-position", "walpost-x"] {
            let json = format!(r#"{{"{name}": 1}}"#);
            assert!(error(&json).contains("walpost's own"), "{name}");
        }
        assert!(
            parse(b"{\"a\": \"\xFF\"}")
                .unwrap_err()
                .contains("not UTF-8")
        );
    }

    #[test]
    fn number_and_size_of_headers_are_bounded() {
        let many = |count: usize| {
            let entries: Vec<_> = (0..count).map(|n| format!(r#""h{n}": 1"#)).collect();
            format!("{{{}}}", entries.join(", "))
        };
        assert_eq!(parsed(&many(64)).len(), 64);
        assert!(
            parse(many(65).as_bytes())
                .unwrap_err()
                .contains("more than 64")
        );
        let large = format!(r#"{{"a": "{}"}}"#, "x".repeat(ROW_HEADER_BYTES_MAX));
        assert!(parse(large.as_bytes()).unwrap_err().contains("65537 bytes"));
    }

    #[test]
    fn headers_of_exactly_the_bytes_that_a_row_may_bring_are_taken() {
        let sized = |value: usize| format!("{{\"name\": \"{}\"}}", "v".repeat(value));
        let most = ROW_HEADER_BYTES_MAX - "name".len();
        assert_eq!(parsed(&sized(most)).len(), 1);
        let problem = parse(sized(most + 1).as_bytes()).unwrap_err();
        assert!(problem.contains("have 65537 bytes and may have 65536"));
    }
}
