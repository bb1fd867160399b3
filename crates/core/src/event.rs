//! What an event is called and where it stands: [`EventId`], [`Position`], [`Ticket`], and the
//! [`Record`] that leaves for Kafka.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use uuid::Uuid;
use walpost_pgoutput::Lsn;

use crate::mapping::Event;

/// The `id` column of an outbox row.
///
/// It names the event in errors and logs for as long as the event is in flight, so it owns its
/// bytes: a slice would keep the whole read buffer alive. A `uuid` costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventId {
    /// A column of type `uuid`.
    Uuid(Uuid),
    /// A column of any other type, as its text.
    Other(Box<[u8]>),
}

impl EventId {
    /// Whether it is the id that somebody typed: as it is printed, or a UUID in another spelling.
    pub fn is(&self, typed: &str) -> bool {
        match self {
            Self::Uuid(uuid) => Uuid::try_parse(typed).is_ok_and(|typed| typed == *uuid),
            Self::Other(_) => self.to_string() == typed,
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Other(bytes) => bytes.escape_ascii().fmt(f),
        }
    }
}

/// Where an event stands in its slot's stream: the LSN of its transaction's commit record
/// (`Begin.final_lsn`) and its ordinal among the outbox inserts of that transaction, from 0.
///
/// Positions grow in commit order. They are comparable within one system identifier, timeline and
/// slot. An event is confirmed if and only if `commit_lsn < confirmed_flush_lsn`, strictly: the
/// next commit record may start where this one ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Start of the transaction's commit record.
    pub commit_lsn: Lsn,
    /// Number of outbox inserts before this one in its transaction.
    pub ordinal: u32,
}

impl Position {
    /// Length of the printed form in bytes.
    pub const TEXT_LEN: usize = 25;

    /// The printed form, which sorts as bytes in the order of the positions.
    pub fn to_text(self) -> [u8; Self::TEXT_LEN] {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut text = [b'/'; Self::TEXT_LEN];
        let mut lsn = self.commit_lsn.as_u64();
        for digit in text[..16].iter_mut().rev() {
            *digit = DIGITS[(lsn & 0xF) as usize];
            lsn >>= 4;
        }
        let mut ordinal = self.ordinal;
        for digit in text[17..].iter_mut().rev() {
            *digit = DIGITS[(ordinal & 0xF) as usize];
            ordinal >>= 4;
        }
        text
    }
}

impl FromStr for Position {
    type Err = String;

    /// Reads the printed form.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(lsn, ordinal)| {
            let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if lsn.len() != 16 || ordinal.len() != 8 || !is_hex(lsn) || !is_hex(ordinal) {
                return None;
            }
            let lsn = u64::from_str_radix(lsn, 16).ok()?;
            let ordinal = u32::from_str_radix(ordinal, 16).ok()?;
            Some((lsn, ordinal))
        });
        let Some((lsn, ordinal)) = numbers else {
            return Err("expected a position, as 00000000016B3748/0000000C".to_owned());
        };
        Ok(Self {
            commit_lsn: Lsn::new(lsn),
            ordinal,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}/{:08X}", self.commit_lsn.as_u64(), self.ordinal)
    }
}

/// The number under which one record is in flight. Consecutive within a session, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// One Kafka header. A missing value is Kafka's null, which differs from an empty one.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Name: UTF-8 without NUL.
    pub name: Bytes,
    /// Value: any bytes.
    pub value: Option<Bytes>,
}

impl Header {
    /// The name as text.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.name).expect("header names are checked when the event is built")
    }
}

impl fmt::Debug for Header {
    /// Values can hold business data: only their length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.value.as_ref().map(Bytes::len);
        f.debug_struct("Header")
            .field("name", &self.name)
            .field("value_len", &length)
            .finish()
    }
}

/// A topic name that Kafka takes: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`, and not one
/// of Kafka's own (`__…`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Bytes);

impl Topic {
    /// Longest name that Kafka takes, in bytes.
    pub const LEN_MAX: usize = 249;

    /// Checks a name. The error says what is wrong with it.
    pub fn new(name: Bytes) -> Result<Self, String> {
        if name.is_empty() {
            return Err("the topic name is empty".to_owned());
        }
        if name.len() > Self::LEN_MAX {
            return Err(format!(
                "the topic name has {} bytes and Kafka takes {}",
                name.len(),
                Self::LEN_MAX
            ));
        }
        let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if let Some(at) = name.iter().position(|byte| !legal(byte)) {
            return Err(format!(
                "the topic name has '{}' at byte {at}: Kafka takes letters, digits, '.', '_' \
                 and '-'",
                name[at].escape_ascii()
            ));
        }
        if matches!(&name[..], b"." | b"..") {
            return Err("a topic can't be called '.' or '..'".to_owned());
        }
        if name.starts_with(b"__") {
            return Err("topics that start with '__' belong to Kafka itself".to_owned());
        }
        Ok(Self(name))
    }

    /// The same name in bytes of its own, for keeping: a slice keeps its whole read buffer alive.
    pub(crate) fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a topic name is ASCII")
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::new(Bytes::copy_from_slice(name.as_bytes()))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One record on its way to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Comes back with the delivery report.
    pub ticket: Ticket,
    /// Partition: always explicit.
    pub partition: i32,
    /// What it carries.
    pub(crate) event: Event,
}

impl Record {
    /// Where to.
    pub fn topic(&self) -> &Topic {
        &self.event.topic
    }

    /// Key, or Kafka's null.
    pub fn key(&self) -> Option<&Bytes> {
        self.event.key.as_ref()
    }

    /// Value; none is a tombstone.
    pub fn value(&self) -> Option<&Bytes> {
        self.event.value.as_ref()
    }

    /// Headers in their order.
    pub fn headers(&self) -> &[Header] {
        &self.event.headers
    }

    /// Where the event stands.
    pub fn position(&self) -> Position {
        self.event.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_prints_as_sixteen_and_eight_upper_case_hex_digits() {
        let position = Position {
            commit_lsn: Lsn::new(0x16B_3748),
            ordinal: 12,
        };
        assert_eq!(position.to_string(), "00000000016B3748/0000000C");
        assert_eq!(&position.to_text(), b"00000000016B3748/0000000C");
        assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn an_id_is_known_as_it_is_printed_and_a_uuid_in_any_spelling() {
        let uuid = EventId::Uuid(Uuid::from_u128(0xAB));
        assert!(uuid.is(&uuid.to_string()));
        assert!(uuid.is(&uuid.to_string().to_uppercase()));
        assert!(!uuid.is("ab"));
        let text = EventId::Other(b"a\xFF'".as_slice().into());
        assert!(text.is(&text.to_string()));
        assert!(!text.is("A\\xff\\'"));
    }

    #[test]
    fn what_is_no_printed_position_is_refused() {
        for text in [
            "",
            "/",
            "16B3748/C",
            "16B3748/0000000C",
            "00000000016B3748/C",
            "00000000016B3748",
            "00000000016B3748/0000000C/0",
            "00000000016B3748/0000000G",
            "+0000000016B3748/0000000C",
            "0/16B3748",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_header_says_is_not_shown_in_debug_output() {
        let mut header = Header {
            name: Bytes::from_static(b"token"),
            value: Some(Bytes::from_static(b"secret")),
        };
        let shown = format!("{header:?}");
        assert_eq!(shown, "Header { name: b\"token\", value_len: Some(6) }");
        header.value = None;
        let shown = format!("{header:?}");
        assert_eq!(shown, "Header { name: b\"token\", value_len: None }");
    }

    #[test]
    fn printed_positions_sort_as_the_positions_do() {
        let at = |lsn, ordinal| Position {
            commit_lsn: Lsn::new(lsn),
            ordinal,
        };
        let sorted = [
            at(0, 9),
            at(9, 0),
            at(0x10, 2),
            at(0x10, 0x10),
            at(u64::MAX, u32::MAX),
        ];
        assert!(sorted.is_sorted_by_key(|position| position.to_text()));
        assert!(sorted.is_sorted());
    }

    #[test]
    fn topics_that_kafka_refuses_are_refused_with_the_reason() {
        let refusal = |name: &[u8]| Topic::new(Bytes::copy_from_slice(name)).unwrap_err();
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(&[b'a'; 250]).contains("250 bytes"));
        assert!(refusal(b"or der").contains("' ' at byte 2"));
        assert!(refusal("größe".as_bytes()).contains("at byte 2"));
        assert!(refusal(b"a\0b").contains("\\x00"));
        assert!(refusal(b".").contains("can't be called"));
        assert!(refusal(b"..").contains("can't be called"));
        assert!(refusal(b"__consumer_offsets").contains("belong to Kafka"));
        assert_eq!(
            Topic::new(Bytes::from_static(b"a.B_c-9")).unwrap().as_str(),
            "a.B_c-9"
        );
    }
}
