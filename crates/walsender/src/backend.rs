//! Messages of the server other than `CopyData`: bodies in, values out.
//!
//! `postgres-protocol` decodes most of them, but not `CopyBothResponse`, and its errors carry no
//! place. What is needed here is little: a reader that never panics, and a type for each body that
//! is read.

use bytes::{Buf, Bytes};

use crate::{
    error::{Cause, Notice, ServerError},
    frame::Frame,
};

/// Tags of the server's messages.
pub(crate) mod tag {
    pub(crate) const AUTHENTICATION: u8 = b'R';
    pub(crate) const BACKEND_KEY_DATA: u8 = b'K';
    pub(crate) const COMMAND_COMPLETE: u8 = b'C';
    pub(crate) const COPY_BOTH_RESPONSE: u8 = b'W';
    pub(crate) const COPY_DATA: u8 = b'd';
    pub(crate) const COPY_DONE: u8 = b'c';
    pub(crate) const DATA_ROW: u8 = b'D';
    pub(crate) const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub(crate) const ERROR_RESPONSE: u8 = b'E';
    pub(crate) const NOTICE_RESPONSE: u8 = b'N';
    pub(crate) const NOTIFICATION_RESPONSE: u8 = b'A';
    pub(crate) const PARAMETER_STATUS: u8 = b'S';
    pub(crate) const READY_FOR_QUERY: u8 = b'Z';
    pub(crate) const ROW_DESCRIPTION: u8 = b'T';

    /// Whether the protocol has a message of the server with this tag. A stream that is out of
    /// step, or a server of another kind, is told by the tag before its length is believed.
    pub(crate) fn is_known(tag: u8) -> bool {
        b"123ACDEGHIKNRSTVWZcdnstv".contains(&tag)
    }
}

/// Reads one message's body from its start to its end.
pub(crate) struct Reader {
    body: Bytes,
    tag: u8,
    offset: u64,
}

impl Reader {
    pub(crate) fn new(frame: Frame) -> Self {
        Self {
            body: frame.body,
            tag: frame.tag,
            offset: frame.offset,
        }
    }

    pub(crate) fn error(&self, what: &'static str) -> Cause {
        Cause::protocol(what, self.tag, self.offset)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Cause> {
        self.body
            .try_get_u8()
            .map_err(|_| self.error("message is cut short"))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Cause> {
        self.body
            .try_get_u16()
            .map_err(|_| self.error("message is cut short"))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Cause> {
        self.body
            .try_get_i32()
            .map_err(|_| self.error("message is cut short"))
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<Bytes, Cause> {
        if count > self.body.len() {
            return Err(self.error("message is cut short"));
        }
        Ok(self.body.split_to(count))
    }

    pub(crate) fn rest(self) -> Bytes {
        self.body
    }

    /// The bytes up to a zero byte, which is taken too.
    pub(crate) fn c_bytes(&mut self) -> Result<Bytes, Cause> {
        let Some(end) = self.body.iter().position(|byte| *byte == 0) else {
            return Err(self.error("string has no end"));
        };
        let text = self.body.split_to(end);
        self.body.advance(1);
        Ok(text)
    }

    /// A string for people: what is not UTF-8 in it is replaced.
    pub(crate) fn c_text(&mut self) -> Result<String, Cause> {
        Ok(String::from_utf8_lossy(&self.c_bytes()?).into_owned())
    }
}

/// Name and value of a `ParameterStatus`.
pub(crate) fn parameter_status(frame: Frame) -> Result<(String, String), Cause> {
    let mut reader = Reader::new(frame);
    Ok((reader.c_text()?, reader.c_text()?))
}

/// The process of a `BackendKeyData`. The key, which only cancels queries, is left aside.
pub(crate) fn backend_pid(frame: Frame) -> Result<i32, Cause> {
    Reader::new(frame).i32()
}

/// Names of the columns of a `RowDescription`.
pub(crate) fn row_description(frame: Frame) -> Result<Vec<String>, Cause> {
    const TYPE_BYTES: usize = 18;
    let mut reader = Reader::new(frame);
    let count = reader.u16()?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(reader.c_text()?);
        reader.bytes(TYPE_BYTES)?;
    }
    Ok(names)
}

/// The values of a `DataRow`.
pub(crate) fn data_row(frame: Frame) -> Result<Vec<Option<String>>, Cause> {
    let mut reader = Reader::new(frame);
    let count = reader.u16()?;
    let mut values = Vec::new();
    for _ in 0..count {
        let value = match usize::try_from(reader.i32()?) {
            Err(_) => None,
            Ok(length) => {
                let text = reader.bytes(length)?;
                let text = std::str::from_utf8(&text);
                Some(
                    text.map_err(|_| reader.error("value is not UTF-8"))?
                        .to_owned(),
                )
            }
        };
        values.push(value);
    }
    Ok(values)
}

/// The body of an `ErrorResponse`.
pub(crate) fn server_error(frame: Frame) -> Result<ServerError, Cause> {
    let fields = Fields::read(frame)?;
    Ok(ServerError {
        severity: fields.severity,
        code: fields.code,
        message: fields.message,
        detail: fields.detail,
        hint: fields.hint,
        routine: fields.routine,
    })
}

/// The body of a `NoticeResponse`.
pub(crate) fn notice(frame: Frame) -> Result<Notice, Cause> {
    let fields = Fields::read(frame)?;
    Ok(Notice {
        severity: fields.severity,
        sqlstate: fields.code,
        message: fields.message,
        detail: fields.detail,
        routine: fields.routine,
    })
}

/// The fields that errors and notices share.
#[derive(Default)]
struct Fields {
    severity: String,
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    routine: Option<String>,
}

impl Fields {
    fn read(frame: Frame) -> Result<Self, Cause> {
        let mut reader = Reader::new(frame);
        let mut fields = Self::default();
        let mut translated = String::new();
        loop {
            match reader.u8()? {
                0 => break,
                b'V' => fields.severity = reader.c_text()?,
                b'S' => translated = reader.c_text()?,
                b'C' => fields.code = reader.c_text()?,
                b'M' => fields.message = reader.c_text()?,
                b'D' => fields.detail = Some(reader.c_text()?),
                b'H' => fields.hint = Some(reader.c_text()?),
                b'R' => fields.routine = Some(reader.c_text()?),
                // File, line, position and whatever later versions add.
                _ => drop(reader.c_bytes()?),
            }
        }
        if fields.severity.is_empty() {
            fields.severity = translated;
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &'static [u8]) -> Frame {
        Frame {
            tag,
            body: Bytes::from_static(body),
            offset: 7,
        }
    }

    #[test]
    fn error_fields_are_read_and_unknown_ones_left_aside() {
        let body = b"SFEHLER\0VERROR\0C42704\0Mno slot\0Dsome\0Hdo\0Fslot.c\0L12\0?new\0\0";
        let error = server_error(frame(b'E', body)).unwrap();
        assert_eq!(
            error.to_string(),
            "ERROR 42704: no slot; detail: some; hint: do"
        );
    }

    #[test]
    fn translated_severity_serves_where_there_is_no_other() {
        let notice = notice(frame(b'N', b"SWARNUNG\0C01000\0Mhm\0\0")).unwrap();
        assert_eq!(notice.to_string(), "WARNUNG 01000: hm");
    }

    #[test]
    fn bodies_that_are_cut_anywhere_are_errors() {
        let error: &[u8] = b"SERROR\0C42704\0Mno slot\0\0";
        let row: &[u8] = b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff";
        let columns: &[u8] = b"\0\x01name\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        for cut in 0..error.len() {
            server_error(frame(b'E', &error[..cut])).unwrap_err();
        }
        for cut in 0..row.len() {
            data_row(frame(b'D', &row[..cut])).unwrap_err();
        }
        for cut in 0..columns.len() {
            row_description(frame(b'T', &columns[..cut])).unwrap_err();
        }
        assert_eq!(
            data_row(frame(b'D', row)).unwrap(),
            [Some("ab".to_owned()), None]
        );
        assert_eq!(row_description(frame(b'T', columns)).unwrap(), ["name"]);
    }

    #[test]
    fn lying_counts_and_lengths_are_errors() {
        data_row(frame(b'D', b"\xff\xff")).unwrap_err();
        data_row(frame(b'D', b"\0\x01\x7f\xff\xff\xffab")).unwrap_err();
        row_description(frame(b'T', b"\xff\xff")).unwrap_err();
    }

    #[test]
    fn value_that_is_not_utf8_is_an_error() {
        data_row(frame(b'D', b"\0\x01\0\0\0\x01\xff")).unwrap_err();
    }
}
