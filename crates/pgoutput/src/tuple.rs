//! Rows, checked once and then read lazily.

use std::{fmt, iter::FusedIterator};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    error::{DecodeError, DecodeErrorKind},
    read::Reader,
    write::{count16, put_sized},
};

const NULL: u8 = b'n';
const UNCHANGED: u8 = b'u';
const TEXT: u8 = b't';
const BINARY: u8 = b'b';

/// One row as a message carries it: a cell per column, in the order of the relation's columns.
///
/// It shares the buffer that was decoded. Every length in it was checked by the decoder, so reading
/// the cells can't fail. The format is `TupleData` in the manual's "Logical Replication Message
/// Formats".
///
/// Two tuples are equal when their bytes are. `Debug` shows kinds and lengths, never values.
#[derive(Clone, PartialEq, Eq)]
pub struct Tuple {
    count: usize,
    /// The cells without the count in front. Invariant: exactly `count` well-formed cells.
    raw: Bytes,
}

impl Tuple {
    /// A tuple of the given cells, for those who play the server.
    ///
    /// # Panics
    ///
    /// With more than 32,767 cells or a value of 2 GiB and more, which the format can't express.
    pub fn from_cells<'a>(cells: impl IntoIterator<Item = Cell<'a>>) -> Self {
        let mut raw = BytesMut::new();
        let mut count = 0;
        for cell in cells {
            cell.encode(&mut raw);
            count += 1;
        }
        count16(count);
        Self {
            count,
            raw: raw.freeze(),
        }
    }

    /// Number of cells.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether the row has no columns at all.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The cells in column order, read from the buffer as the iterator advances.
    pub fn cells(&self) -> Cells<'_> {
        Cells {
            left: self.count,
            reader: Reader::new(&self.raw, "Tuple"),
        }
    }

    /// The bytes of one of this tuple's cells as a shared slice of the buffer, without a copy.
    ///
    /// It keeps the whole buffer alive that the tuple was decoded from.
    ///
    /// # Panics
    ///
    /// When `cell_bytes` is not a part of this tuple.
    pub fn slice(&self, cell_bytes: &[u8]) -> Bytes {
        self.raw.slice_ref(cell_bytes)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // A cell is at least its kind.
        let count = reader.count16("the number of columns", 1)?;
        let start = reader.position();
        for _ in 0..count {
            Cell::read(reader)?;
        }
        Ok(Self {
            count,
            raw: reader.since(start),
        })
    }

    pub(crate) fn write(&self, out: &mut BytesMut) {
        out.put_i16(count16(self.count));
        out.put_slice(&self.raw);
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tuple ")?;
        formatter.debug_list().entries(self.cells()).finish()
    }
}

/// The value of one column in one row.
///
/// `Debug` shows the kind and the length, never the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// A value stored out of line (TOAST) that an UPDATE left as it was: it is not sent again.
    Unchanged,
    /// The value in the type's text format, in the client encoding.
    Text(&'a [u8]),
    /// The value in the type's binary format, on request of the option `binary`.
    Binary(&'a [u8]),
}

impl<'a> Cell<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        const KIND: &str = "a column's kind ('n', 'u', 't' or 'b')";
        const VALUE: &str = "a column's value";
        let offset = reader.position();
        match reader.u8(KIND)? {
            NULL => Ok(Self::Null),
            UNCHANGED => Ok(Self::Unchanged),
            TEXT => reader.sized(VALUE).map(Self::Text),
            BINARY => reader.sized(VALUE).map(Self::Binary),
            tag => Err(reader.error_at(offset, KIND, DecodeErrorKind::UnknownTag { tag })),
        }
    }

    fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Null => out.put_u8(NULL),
            Self::Unchanged => out.put_u8(UNCHANGED),
            Self::Text(value) => {
                out.put_u8(TEXT);
                put_sized(out, value);
            }
            Self::Binary(value) => {
                out.put_u8(BINARY);
                put_sized(out, value);
            }
        }
    }
}

impl fmt::Debug for Cell<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("Null"),
            Self::Unchanged => formatter.write_str("Unchanged"),
            Self::Text(value) => write!(formatter, "Text({} bytes)", value.len()),
            Self::Binary(value) => write!(formatter, "Binary({} bytes)", value.len()),
        }
    }
}

/// Iterator over the cells of a [`Tuple`].
#[derive(Clone)]
pub struct Cells<'a> {
    left: usize,
    reader: Reader<'a>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(Cell::read(&mut self.reader).expect("a tuple holds as many cells as it counts"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Cells<'_> {}

impl FusedIterator for Cells<'_> {}

impl fmt::Debug for Cells<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(test)]
mod tests;
