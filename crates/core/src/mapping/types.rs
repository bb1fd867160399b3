//! Columns as text, whichever format the stream is in.
//!
//! A text stream brings every type as Postgres prints it. A binary stream is used when the payload
//! is `bytea`; there the types below are printed here, to the same bytes. Any other type is
//! refused, with the cast that helps: the start gate does it by the catalogue, and this module
//! again when the table's shape arrives, which may have changed since.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::Span;
use jiff::civil::Date;
use walpost_pgoutput::{Cell, Tuple, Type};

pub(crate) const BYTEA: u32 = 17;
pub(crate) const UUID: u32 = 2950;
const JSONB: u32 = 3802;

/// How a cell becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The bytes are the text, in both formats.
    Plain,
    Bool,
    Int2,
    Int4,
    Int8,
    Uuid,
    Jsonb,
    Timestamptz,
    Bytea,
    /// Only a text stream can carry it.
    TextOnly,
}

impl Kind {
    /// The kind of a built-in type.
    pub(crate) fn of(type_oid: u32) -> Self {
        match type_oid {
            16 => Self::Bool,
            BYTEA => Self::Bytea,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            // name, text, json, bpchar, varchar
            19 | 25 | 114 | 1042 | 1043 => Self::Plain,
            1184 => Self::Timestamptz,
            UUID => Self::Uuid,
            JSONB => Self::Jsonb,
            _ => Self::TextOnly,
        }
    }

    /// The kind of a domain, by the name of its base type as the stream's Type message gives it.
    pub(super) fn of_base_type(name: &[u8]) -> Self {
        match name {
            b"bool" => Self::Bool,
            b"bytea" => Self::Bytea,
            b"int8" => Self::Int8,
            b"int2" => Self::Int2,
            b"int4" => Self::Int4,
            b"name" | b"text" | b"json" | b"bpchar" | b"varchar" => Self::Plain,
            b"timestamptz" => Self::Timestamptz,
            b"uuid" => Self::Uuid,
            b"jsonb" => Self::Jsonb,
            _ => Self::TextOnly,
        }
    }
}

/// What is known of the types that are not built in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Types {
    described: BTreeMap<u32, Kind>,
    /// Those whose binary form is their text.
    textual: BTreeSet<u32>,
}

impl Types {
    pub(crate) fn new(textual: BTreeSet<u32>) -> Self {
        Self {
            described: BTreeMap::new(),
            textual,
        }
    }

    /// Takes a description from the stream. A domain comes under the name of its base type.
    /// Anybody's type may have the name of a built-in one, in another schema.
    pub(crate) fn learn(&mut self, described: &Type) {
        let kind = if described.namespace.is_empty() {
            Kind::of_base_type(&described.name)
        } else {
            Kind::TextOnly
        };
        self.described.insert(described.type_oid, kind);
    }

    /// How a column of this type becomes text.
    pub(crate) fn kind(&self, type_oid: u32) -> Kind {
        if self.textual.contains(&type_oid) {
            return Kind::Plain;
        }
        match self.described.get(&type_oid) {
            Some(kind) => *kind,
            None => Kind::of(type_oid),
        }
    }
}

/// A cell whose bytes are not what its type promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

/// The text of a cell as a column of a template, a key or a header. None for NULL.
pub(crate) fn text<'a>(kind: Kind, cell: Cell<'a>) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
    match cell {
        Cell::Null => Ok(None),
        Cell::Unchanged => Err(Malformed("an inserted row has an unchanged value")),
        Cell::Text(text) => Ok(Some(Cow::Borrowed(text))),
        Cell::Binary(binary) => binary_text(kind, binary).map(Some),
    }
}

/// The bytes of the payload: raw for `bytea`, otherwise its text. None for NULL.
pub(crate) fn payload(
    kind: Kind,
    cell: Cell<'_>,
    tuple: &Tuple,
) -> Result<Option<Bytes>, Malformed> {
    let bytes = match (kind, cell) {
        (Kind::Bytea, Cell::Text(hex)) => Some(Cow::Owned(unhex(hex)?)),
        (Kind::Bytea, Cell::Binary(raw)) => Some(Cow::Borrowed(raw)),
        (kind, cell) => text(kind, cell)?,
    };
    Ok(bytes.map(|bytes| share(bytes, tuple)))
}

/// Bytes of a row without a copy where they stand in it.
pub(crate) fn share(bytes: Cow<'_, [u8]>, tuple: &Tuple) -> Bytes {
    match bytes {
        Cow::Borrowed(slice) => tuple.slice(slice),
        Cow::Owned(bytes) => Bytes::from(bytes),
    }
}

fn binary_text(kind: Kind, bytes: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    let owned = match kind {
        Kind::Plain => return Ok(Cow::Borrowed(bytes)),
        Kind::Jsonb => match bytes {
            [1, text @ ..] => return Ok(Cow::Borrowed(text)),
            _ => return Err(Malformed("a jsonb value has an unknown version")),
        },
        Kind::Bool => match bytes {
            [0] => "f".to_owned(),
            [1] => "t".to_owned(),
            _ => return Err(Malformed("a boolean value is neither 0 nor 1")),
        },
        Kind::Int2 => i16::from_be_bytes(sized(bytes)?).to_string(),
        Kind::Int4 => i32::from_be_bytes(sized(bytes)?).to_string(),
        Kind::Int8 => i64::from_be_bytes(sized(bytes)?).to_string(),
        Kind::Uuid => uuid::Uuid::from_bytes(sized(bytes)?).to_string(),
        Kind::Timestamptz => timestamptz(i64::from_be_bytes(sized(bytes)?)),
        Kind::Bytea => hex(bytes),
        Kind::TextOnly => return Err(Malformed("its type has no text form in a binary stream")),
    };
    Ok(Cow::Owned(owned.into_bytes()))
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes
        .try_into()
        .map_err(|_| Malformed("a value has another length than its type"))
}

/// As Postgres prints it with `DateStyle = ISO` and `TimeZone = UTC`.
fn timestamptz(micros: i64) -> String {
    const DAY_MICROS: i64 = 86_400 * 1_000_000;
    match micros {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let (year, date) = date(micros.div_euclid(DAY_MICROS));
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let within = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (within / 1_000_000, within % 1_000_000);
    let mut text = format!(
        "{year:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        date.month(),
        date.day(),
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    );
    if fraction != 0 {
        let digits = format!(".{fraction:06}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text + "+00" + era
}

/// Year, and a date of the same month and day, so many days after 2000-01-01. Postgres' years go
/// beyond those of any calendar library; the calendar repeats itself every 400 years.
fn date(days: i64) -> (i64, Date) {
    const CYCLE_DAYS: i64 = 146_097;
    let date = Date::constant(2000, 1, 1)
        .checked_add(Span::new().days(days.rem_euclid(CYCLE_DAYS)))
        .expect("the years 2000 to 2399 are dates");
    (
        i64::from(date.year()) + 400 * days.div_euclid(CYCLE_DAYS),
        date,
    )
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0xF)]));
    }
    text
}

fn unhex(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    const WRONG: Malformed = Malformed("a bytea value is not in the hex format");
    let digits = text.strip_prefix(b"\\x").ok_or(WRONG)?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return Err(WRONG);
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(WRONG);
    let byte = |[high, low]: &[u8; 2]| -> Result<u8, Malformed> {
        u8::try_from(digit(*high)? << 4 | digit(*low)?).map_err(|_| WRONG)
    };
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(kind: Kind, bytes: &[u8]) -> String {
        String::from_utf8(binary_text(kind, bytes).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn binary_values_print_as_postgres_prints_them() {
        assert_eq!(printed(Kind::Bool, &[1]), "t");
        assert_eq!(printed(Kind::Int2, &(-7_i16).to_be_bytes()), "-7");
        assert_eq!(printed(Kind::Int4, &i32::MIN.to_be_bytes()), "-2147483648");
        assert_eq!(
            printed(Kind::Int8, &i64::MAX.to_be_bytes()),
            "9223372036854775807"
        );
        assert_eq!(printed(Kind::Jsonb, b"\x01{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(printed(Kind::Bytea, &[0, 0xAB]), "\\x00ab");
        let uuid = [0xA0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(
            printed(Kind::Uuid, &uuid),
            "a0010203-0405-0607-0809-0a0b0c0d0e0f"
        );
    }

    /// What PostgreSQL 15 sends and prints with `DateStyle = ISO` and `TimeZone = UTC`.
    #[test]
    fn timestamps_print_as_postgres_prints_them() {
        for (micros, text) in [
            (0, "2000-01-01 00:00:00+00"),
            (1_500_000, "2000-01-01 00:00:01.5+00"),
            (-1, "1999-12-31 23:59:59.999999+00"),
            (762_525_296_700_000, "2024-02-29 12:34:56.7+00"),
            (762_525_296_000_001, "2024-02-29 12:34:56.000001+00"),
            (-946_684_800_000_000, "1970-01-01 00:00:00+00"),
            (-59_978_948_094_880_000, "0099-05-05 05:05:05.12+00"),
            (-63_082_281_600_000_000, "0001-01-01 00:00:00+00"),
            (-63_082_281_600_500_000, "0001-12-31 23:59:59.5+00 BC"),
            (-64_464_465_600_000_000, "0044-03-15 12:00:00+00 BC"),
            (-64_476_259_200_000_000, "0045-10-30 00:00:00+00 BC"),
            (-211_781_865_600_000_000, "4713-11-24 00:00:00+00 BC"),
            (252_455_615_999_999_999, "9999-12-31 23:59:59.999999+00"),
            (252_455_616_000_000_000, "10000-01-01 00:00:00+00"),
            (
                9_223_371_331_200_000_000 - 1,
                "294276-12-31 23:59:59.999999+00",
            ),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(printed(Kind::Timestamptz, &micros.to_be_bytes()), text);
        }
    }

    #[test]
    fn a_bytea_payload_is_raw_in_both_formats() {
        let tuple = Tuple::from_cells([Cell::Text(b"\\x00ff"), Cell::Binary(&[0, 0xFF])]);
        for cell in tuple.cells() {
            let bytes = payload(Kind::Bytea, cell, &tuple).unwrap().unwrap();
            assert_eq!(&bytes[..], [0, 0xFF]);
        }
    }

    #[test]
    fn values_of_the_wrong_shape_are_errors() {
        for (kind, bytes) in [
            (Kind::Bool, &[2][..]),
            (Kind::Int4, &[1, 2, 3]),
            (Kind::Jsonb, b"{}"),
            (Kind::Uuid, &[]),
            (Kind::TextOnly, b"x"),
        ] {
            assert!(binary_text(kind, bytes).is_err(), "{kind:?}");
        }
        for text in [&b"00"[..], b"\\x0", b"\\x0g", b"\\000"] {
            assert!(unhex(text).is_err(), "{}", text.escape_ascii());
        }
    }
}
