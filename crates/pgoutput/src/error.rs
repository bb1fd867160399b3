//! Why bytes could not be decoded, and where.

use std::fmt;

/// The bytes are not a message of this protocol.
///
/// On a replication connection this is definite: the server speaks something else, or the bytes in
/// front of it were framed wrongly. Reading the same position again gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    message: &'static str,
    field: &'static str,
    offset: usize,
    kind: DecodeErrorKind,
}

impl DecodeError {
    pub(crate) const fn new(
        message: &'static str,
        field: &'static str,
        offset: usize,
        kind: DecodeErrorKind,
    ) -> Self {
        Self {
            message,
            field,
            offset,
            kind,
        }
    }

    /// Byte of the message at which the faulty field starts; 0 is the message's tag.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong there.
    pub const fn kind(&self) -> &DecodeErrorKind {
        &self.kind
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            message,
            field,
            offset,
            kind,
        } = self;
        match kind {
            DecodeErrorKind::Truncated { needed, left } => write!(
                formatter,
                "{message}: expected {field} of {needed} bytes at byte {offset}, \
                 but only {left} are left"
            ),
            DecodeErrorKind::Unterminated { left } => write!(
                formatter,
                "{message}: expected {field} at byte {offset}, \
                 but none of the {left} bytes left ends it"
            ),
            DecodeErrorKind::UnknownTag { tag } => write!(
                formatter,
                "{message}: expected {field} at byte {offset}, found {}",
                Tag(*tag)
            ),
            DecodeErrorKind::UnsupportedMessage { tag } => write!(
                formatter,
                "{message}: {} at byte {offset} belongs to a streamed or prepared transaction; \
                 start the stream with proto_version '1', without streaming and two_phase",
                Tag(*tag)
            ),
            DecodeErrorKind::NegativeCount { count } => write!(
                formatter,
                "{message}: expected {field} at byte {offset}, found the negative number {count}"
            ),
            DecodeErrorKind::CountAboveInput { count, left } => write!(
                formatter,
                "{message}: {field} at byte {offset} is {count}, \
                 more than the {left} bytes left can hold"
            ),
            DecodeErrorKind::TrailingBytes { count } => write!(
                formatter,
                "{message}: expected {field} at byte {offset}, found {count} more bytes"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What is wrong with the bytes at [`DecodeError::offset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The message ends inside a field.
    Truncated {
        /// Length of the field in bytes.
        needed: usize,
        /// Bytes that are left of the message.
        left: usize,
    },
    /// A string has no zero byte to end it.
    Unterminated {
        /// Bytes that are left of the message.
        left: usize,
    },
    /// A byte that says what follows has a value that version 1 of the protocol does not know.
    UnknownTag {
        /// The byte.
        tag: u8,
    },
    /// The message belongs to a later version of the protocol, which nobody asked for.
    UnsupportedMessage {
        /// The message's tag.
        tag: u8,
    },
    /// A length or a count is below zero.
    NegativeCount {
        /// The length or count as it was sent.
        count: i32,
    },
    /// A count promises more elements than the rest of the message can hold.
    CountAboveInput {
        /// The count as it was sent.
        count: usize,
        /// Bytes that are left of the message.
        left: usize,
    },
    /// Bytes are left over after the message's last field.
    TrailingBytes {
        /// Number of bytes left over.
        count: usize,
    },
}

/// A tag byte, as the letter that the manual calls it by where it is one.
struct Tag(u8);

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(formatter, "'{}'", char::from(self.0))
        } else {
            write!(formatter, "0x{:02x}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_message_field_and_byte() {
        let text = |field, kind| DecodeError::new("Insert", field, 7, kind).to_string();
        for (found, expected) in [
            (
                text(
                    "a value",
                    DecodeErrorKind::Truncated {
                        needed: 12,
                        left: 3,
                    },
                ),
                "Insert: expected a value of 12 bytes at byte 7, but only 3 are left",
            ),
            (
                text("a name", DecodeErrorKind::Unterminated { left: 9 }),
                "Insert: expected a name at byte 7, but none of the 9 bytes left ends it",
            ),
            (
                text("the tag 'N'", DecodeErrorKind::UnknownTag { tag: b'X' }),
                "Insert: expected the tag 'N' at byte 7, found 'X'",
            ),
            (
                text("the tag 'N'", DecodeErrorKind::UnknownTag { tag: 0 }),
                "Insert: expected the tag 'N' at byte 7, found 0x00",
            ),
            (
                text("a length", DecodeErrorKind::NegativeCount { count: -1 }),
                "Insert: expected a length at byte 7, found the negative number -1",
            ),
            (
                text(
                    "the count",
                    DecodeErrorKind::CountAboveInput {
                        count: 900,
                        left: 3,
                    },
                ),
                "Insert: the count at byte 7 is 900, more than the 3 bytes left can hold",
            ),
            (
                text("the end", DecodeErrorKind::TrailingBytes { count: 2 }),
                "Insert: expected the end at byte 7, found 2 more bytes",
            ),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn message_of_a_later_version_names_the_options_to_change() {
        let kind = DecodeErrorKind::UnsupportedMessage { tag: b'S' };
        let text = DecodeError::new("pgoutput message", "its tag", 0, kind).to_string();
        assert!(text.contains("'S' at byte 0"), "{text}");
        assert!(text.contains("proto_version '1'"), "{text}");
    }
}
