//! Payloads of every type and size, with everything in them that can be mistaken for syntax.

use std::iter;

/// The type of the payload column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Jsonb,
    Json,
    Text,
    Bytea,
}

impl Kind {
    /// As SQL names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jsonb => "jsonb",
            Self::Json => "json",
            Self::Text => "text",
            Self::Bytea => "bytea",
        }
    }

    /// A payload's text as an SQL value. That of a `bytea` is hex.
    pub(crate) fn value_of(self, text: &str) -> String {
        match self {
            Self::Jsonb => format!("{text}::text::jsonb"),
            Self::Json => format!("{text}::text::json"),
            Self::Text => format!("{text}::text"),
            Self::Bytea => format!("decode({text}, 'hex')"),
        }
    }

    /// The payload's bytes as Postgres has them, as an SQL value of type `bytea`.
    pub(crate) fn bytes(self) -> &'static str {
        match self {
            Self::Jsonb | Self::Json | Self::Text => "convert_to(payload::text, 'UTF8')",
            Self::Bytea => "payload",
        }
    }

    /// The `index`th payload: mostly of 500 bytes, some of 1, 100 kB and 900 kB, and the hostile
    /// ones in between.
    pub(crate) fn payload(self, index: usize, hostile: &[String]) -> String {
        match index {
            _ if index % 2_000 == 1_999 => self.of_size(900_000),
            _ if index % 100 == 99 => self.of_size(100_000),
            _ if index.is_multiple_of(5) => hostile[index / 5 % hostile.len()].clone(),
            _ if index % 10 == 1 => self.of_size(1),
            _ => self.of_size(500),
        }
    }

    /// A payload of exactly so many bytes that does not compress well.
    fn of_size(self, bytes: usize) -> String {
        let filler = |count| iter::repeat_with(fastrand::alphanumeric).take(count);
        match self {
            Self::Jsonb | Self::Json if bytes < 2 => "7".to_owned(),
            Self::Jsonb | Self::Json => {
                format!("\"{}\"", filler(bytes - 2).collect::<String>())
            }
            Self::Text => filler(bytes).collect(),
            Self::Bytea => hex(iter::repeat_with(|| fastrand::u8(..)).take(bytes)),
        }
    }

    /// Payloads that break what quotes, escapes, parses or converts.
    pub(crate) fn hostile(self) -> Vec<String> {
        match self {
            Self::Jsonb => json(),
            Self::Json => json_only().into_iter().chain(json()).collect(),
            Self::Text => plain().into_iter().chain(json()).collect(),
            Self::Bytea => {
                let texts = plain().into_iter().map(String::into_bytes);
                let raw = [vec![0], (0..=255).collect(), vec![0xff, 0xfe, 0xc0, 0x80]];
                raw.into_iter().chain(texts).map(hex).collect()
            }
        }
    }
}

/// Two hex digits for each byte.
pub(crate) fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digits = |byte: u8| [byte >> 4, byte & 15].map(|nibble| DIGITS[usize::from(nibble)]);
    bytes.into_iter().flat_map(digits).collect()
}

fn json() -> Vec<String> {
    let long_key = "k".repeat(30_000);
    [
        r#"{"quotes": "\" ' ` $$ $1 ${id}", "slashes": "\\ \/ \\x00 \\N", "lines": "a\r\n\tb"}"#,
        "{\"emoji\": \"😀👩\u{200d}👩\u{200d}👧\", \"rtl\": \"\u{202e}שלום مرحبا\",
          \"last\": \"\u{ffff}\u{fffe}\u{10ffff}\"}",
        r#"{"escaped": "\ud83d\ude00 \u00e4 \uffff", "ä": "ö"}"#,
        r#"{"a": 1, "b": 2, "a": 3, "": 4}"#,
        "[1e400, -0, -0.0, 0.10, 1E-2, 123456789012345678901234567890.00000000000000000001]",
        "  [ 1 ,\n\t2 ] ",
        "null",
        "\"\"",
        "{}",
        &format!("{{\"{long_key}\": \"{}\"}}", "ü".repeat(3_000)),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// `json` keeps the text and checks only its syntax.
fn json_only() -> Vec<String> {
    [
        r#""nul: \u0000, half a pair: \ud800""#,
        "{\"a\" : 1e400000, \"a\":1e400, \"a\"\n:\t-1e-400000}",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn plain() -> Vec<String> {
    [
        "",
        " ",
        "\\x00ff",
        "\\N",
        "\\.",
        "'; drop table outbox; --",
        "\" \\\" \\\\",
        "line\r\nline\ttab\u{b}\u{1}\u{7f}",
        "\u{feff}bom",
        "\u{ffff} \u{202e}שלום 😀",
        "{not json",
    ]
    .map(str::to_owned)
    .to_vec()
}
