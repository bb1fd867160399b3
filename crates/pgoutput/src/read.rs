//! A cursor over one message: the only place that indexes bytes.

use bytes::Bytes;

use crate::{
    error::{DecodeError, DecodeErrorKind},
    lsn::Lsn,
    time::PgTimestamp,
};

/// Reads one message from front to back.
///
/// `field` arguments name what is being read, for the error's text.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    source: &'a Bytes,
    position: usize,
    message: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader at the first byte; `message` is the name for errors until the tag says more.
    pub(crate) const fn new(source: &'a Bytes, message: &'static str) -> Self {
        Self {
            source,
            position: 0,
            message,
        }
    }

    /// The same place, in a message that is now known to be called `message`.
    pub(crate) const fn named(self, message: &'static str) -> Self {
        Self { message, ..self }
    }

    pub(crate) const fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn left(&self) -> usize {
        self.source.len() - self.position
    }

    /// An error about the field that starts at byte `offset`.
    pub(crate) const fn error_at(
        &self,
        offset: usize,
        field: &'static str,
        kind: DecodeErrorKind,
    ) -> DecodeError {
        DecodeError::new(self.message, field, offset, kind)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        self.array(field)
            .map(|bytes| Lsn::new(u64::from_be_bytes(bytes)))
    }

    pub(crate) fn timestamp(&mut self, field: &'static str) -> Result<PgTimestamp, DecodeError> {
        self.array(field)
            .map(|bytes| PgTimestamp::new(i64::from_be_bytes(bytes)))
    }

    /// A count of 16 bits, for elements of which each takes at least `element_bytes_min` bytes.
    pub(crate) fn count16(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
    ) -> Result<usize, DecodeError> {
        let offset = self.position;
        let count = i16::from_be_bytes(self.array(field)?);
        self.count(offset, field, i32::from(count), element_bytes_min)
    }

    /// A count of 32 bits, for elements of which each takes at least `element_bytes_min` bytes.
    pub(crate) fn count32(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
    ) -> Result<usize, DecodeError> {
        let offset = self.position;
        let count = self.i32(field)?;
        self.count(offset, field, count, element_bytes_min)
    }

    /// A length of 32 bits and as many bytes.
    pub(crate) fn sized(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let offset = self.position;
        let length = self.i32(field)?;
        let Ok(length) = usize::try_from(length) else {
            let kind = DecodeErrorKind::NegativeCount { count: length };
            return Err(self.error_at(offset, field, kind));
        };
        self.take(field, length)
    }

    /// A length of 32 bits and as many bytes, as a slice that shares the buffer.
    pub(crate) fn sized_shared(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.sized(field)?.len();
        Ok(self.since(self.position - length))
    }

    /// A string that ends with a zero byte, which is not part of the result.
    pub(crate) fn string(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let rest = &self.source[self.position..];
        let Some(length) = rest.iter().position(|&byte| byte == 0) else {
            let kind = DecodeErrorKind::Unterminated { left: rest.len() };
            return Err(self.error_at(self.position, field, kind));
        };
        let string = self.source.slice(self.position..self.position + length);
        self.position += length + 1;
        Ok(string)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = self.source.slice(self.position..);
        self.position = self.source.len();
        rest
    }

    /// Everything that was read since byte `start`, an earlier [`position`](Self::position).
    pub(crate) fn since(&self, start: usize) -> Bytes {
        self.source.slice(start..self.position)
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            count => {
                let kind = DecodeErrorKind::TrailingBytes { count };
                Err(self.error_at(self.position, "the end of the message", kind))
            }
        }
    }

    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], DecodeError> {
        let Some(taken) = self.source[self.position..].get(..length) else {
            return Err(self.truncated(field, length));
        };
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some(taken) = self.source[self.position..].first_chunk() else {
            return Err(self.truncated(field, N));
        };
        self.position += N;
        Ok(*taken)
    }

    fn truncated(&self, field: &'static str, needed: usize) -> DecodeError {
        let kind = DecodeErrorKind::Truncated {
            needed,
            left: self.left(),
        };
        self.error_at(self.position, field, kind)
    }

    fn count(
        &self,
        offset: usize,
        field: &'static str,
        count: i32,
        element_bytes_min: usize,
    ) -> Result<usize, DecodeError> {
        let Ok(elements) = usize::try_from(count) else {
            let kind = DecodeErrorKind::NegativeCount { count };
            return Err(self.error_at(offset, field, kind));
        };
        let left = self.left();
        if elements > left / element_bytes_min {
            let kind = DecodeErrorKind::CountAboveInput {
                count: elements,
                left,
            };
            return Err(self.error_at(offset, field, kind));
        }
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &Bytes) -> Reader<'_> {
        Reader::new(bytes, "Sample")
    }

    #[test]
    fn numbers_are_big_endian_and_signed_where_the_format_says_so() {
        let bytes = Bytes::from_static(b"\x01\x00\x00\x01\x02\xff\xff\xff\xfe\x00\x02\x00\x00");
        let mut reader = reader(&bytes);
        assert_eq!(reader.u8("a").unwrap(), 1);
        assert_eq!(reader.u32("b").unwrap(), 0x102);
        assert_eq!(reader.i32("c").unwrap(), -2);
        assert_eq!(reader.count16("d", 1).unwrap(), 2);
        assert_eq!((reader.position(), reader.left()), (11, 2));
    }

    #[test]
    fn field_that_is_cut_short_is_named_and_not_consumed() {
        let bytes = Bytes::from_static(b"\x01\x02\x03\x04\x05");
        let mut reader = reader(&bytes);
        reader.u8("a").unwrap();
        reader.u8("b").unwrap();
        let error = reader.u32("the fourth").unwrap_err();
        assert_eq!(error.offset(), 2);
        assert_eq!(
            error.kind(),
            &DecodeErrorKind::Truncated { needed: 4, left: 3 }
        );
        assert!(
            error
                .to_string()
                .starts_with("Sample: expected the fourth of 4 bytes")
        );
        assert_eq!(reader.position(), 2);
    }

    #[test]
    fn negative_length_or_count_is_an_error_at_the_number() {
        let bytes = Bytes::from_static(b"\x00\xff\xff\xff\xff");
        let kind = DecodeErrorKind::NegativeCount { count: -1 };
        let mut reader = reader(&bytes);
        reader.u8("a").unwrap();
        for error in [
            reader.clone().sized("b").unwrap_err(),
            reader.clone().count16("b", 1).unwrap_err(),
            reader.clone().count32("b", 1).unwrap_err(),
        ] {
            assert_eq!((error.offset(), error.kind()), (1, &kind));
        }
    }

    #[test]
    fn largest_length_and_count_are_refused_without_being_believed() {
        let bytes = Bytes::from_static(b"\x7f\xff\xff\xff12345678");
        let largest = i32::MAX.unsigned_abs() as usize;
        let error = reader(&bytes).sized("a").unwrap_err();
        assert_eq!(
            error.kind(),
            &DecodeErrorKind::Truncated {
                needed: largest,
                left: 8
            }
        );
        let error = reader(&bytes).count32("a", 4).unwrap_err();
        assert_eq!(
            error.kind(),
            &DecodeErrorKind::CountAboveInput {
                count: largest,
                left: 8
            }
        );
    }

    #[test]
    fn count_is_taken_when_its_elements_can_just_fit() {
        let bytes = Bytes::from_static(b"\x00\x00\x00\x0212345678");
        assert_eq!(reader(&bytes).count32("a", 4).unwrap(), 2);
        let error = reader(&bytes).count32("a", 5).unwrap_err();
        assert_eq!(
            error.kind(),
            &DecodeErrorKind::CountAboveInput { count: 2, left: 8 }
        );
    }

    #[test]
    fn string_ends_at_its_zero_byte_and_must_have_one() {
        let bytes = Bytes::from_static(b"ab\0\0cd");
        let mut reader = reader(&bytes);
        assert_eq!(reader.string("a").unwrap(), "ab");
        assert_eq!(reader.string("b").unwrap(), "");
        let error = reader.string("c").unwrap_err();
        assert_eq!(error.offset(), 4);
        assert_eq!(error.kind(), &DecodeErrorKind::Unterminated { left: 2 });
    }

    #[test]
    fn shared_slices_point_into_the_source() {
        let bytes = Bytes::from(b"\x00\x00\x00\x03abcrest".to_vec());
        let mut reader = reader(&bytes);
        assert_eq!(
            reader.sized_shared("a").unwrap().as_ptr(),
            bytes[4..].as_ptr()
        );
        assert_eq!(reader.since(5).as_ptr(), bytes[5..].as_ptr());
        assert_eq!(reader.rest().as_ptr(), bytes[7..].as_ptr());
        reader.end().unwrap();
    }
}
