//! Files: the configuration's text, and secrets.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::raw::{Position, SyntaxError};

/// No configuration is that large: a larger file is another file.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A secret is a line or a certificate, not a file of data.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Names standard input in the place of a file.
pub(super) const STDIN: &str = "-";

/// The bytes of a configuration file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = if path == Path::new(STDIN) {
        read_at_most(io::stdin().lock(), TEXT_BYTES_MAX)?
    } else {
        read_at_most(File::open(path)?, TEXT_BYTES_MAX)?
    };
    bytes.ok_or_else(|| io::Error::other("it is larger than 1 MiB"))
}

/// The text of a file that holds a secret, without the line's end. The error names the file.
pub(crate) fn secret(path: &str) -> Result<String, String> {
    let read = File::open(path).and_then(|file| read_at_most(file, SECRET_BYTES_MAX));
    let bytes = match read {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let size = "it is larger than 64 KiB, which no secret is";
            return Err(format!("can't use the file {path}: {size}"));
        }
        Err(error) => return Err(format!("can't read the file {path}: {error}")),
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(format!("can't use the file {path}: it is not UTF-8 text"));
    };
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text {
        "" => Err(format!("can't use the file {path}: it is empty")),
        text if text.contains('\0') => Err(format!(
            "can't use the file {path}: it has a NUL byte in it, which no secret can have"
        )),
        text => Ok(text.to_owned()),
    }
}

/// None if there is more. A device that never ends is not read to its end.
fn read_at_most(file: impl Read, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut file = file.take(bytes_max + 1);
    file.read_to_end(&mut bytes)?;
    Ok((file.limit() > 0).then_some(bytes))
}

/// Bytes as the text of a configuration, without a byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, SyntaxError> {
    let starts = |mark: &[u8]| bytes.starts_with(mark);
    let is_wide = starts(&[0xff, 0xfe]) || starts(&[0xfe, 0xff]) || starts(&[0, 0, 0xfe, 0xff]);
    if is_wide || looks_wide(bytes) {
        return Err(SyntaxError {
            problem: "the file is UTF-16 or UTF-32: save it as UTF-8".to_owned(),
            at: Some(Position { line: 1, column: 1 }),
        });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (text, problem) = match std::str::from_utf8(bytes) {
        Ok(text) => match text.split_once('\0') {
            None => return Ok(text),
            Some((before, _)) => (before, "a NUL byte can't stand in a configuration"),
        },
        Err(error) => (
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
            "a byte that is not UTF-8: save the file as UTF-8",
        ),
    };
    Err(SyntaxError {
        problem: problem.to_owned(),
        at: Some(end_of(text)),
    })
}

/// Without a mark, every other byte of a wide encoding is NUL.
fn looks_wide(bytes: &[u8]) -> bool {
    matches!(bytes, [0, first, ..] | [first, 0, ..] if *first != 0)
}

fn end_of(text: &str) -> Position {
    let last = text.rsplit('\n').next().unwrap_or_default();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Position {
        line: number(text.matches('\n').count()) + 1,
        column: number(last.chars().count()) + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> (String, Position) {
        let SyntaxError { problem, at } = decode(bytes).unwrap_err();
        (problem, at.unwrap())
    }

    #[test]
    fn a_text_is_utf_8_with_or_without_its_mark() {
        assert_eq!(decode(b"\xef\xbb\xbfa: 1").unwrap(), "a: 1");
        assert_eq!(decode("größe".as_bytes()).unwrap(), "größe");
        assert_eq!(decode(b"").unwrap(), "");
    }

    #[test]
    fn another_encoding_is_told_with_the_place_that_shows_it() {
        let place = |line, column| Position { line, column };
        for bytes in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a", b"a\0:\0", b"\0a\0:"] {
            let (problem, at) = refused(bytes);
            assert!(problem.contains("UTF-16"), "{problem}");
            assert_eq!(at, place(1, 1));
        }
        let (problem, at) = refused(b"a: 1\nb: \xe4\n");
        assert!(problem.contains("not UTF-8"), "{problem}");
        assert_eq!(at, place(2, 4));
        let (problem, at) = refused(b"ab: 1\0");
        assert!(problem.contains("NUL"), "{problem}");
        assert_eq!(at, place(1, 6));
    }

    #[test]
    fn a_secret_is_a_short_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let path = path.to_str().unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(path, bytes).unwrap();
            secret(path)
        };
        assert_eq!(read(b" s3cret \r\n").unwrap(), " s3cret ");
        assert_eq!(read(b"a\nb\n\n").unwrap(), "a\nb\n");
        assert!(read(b"").unwrap_err().contains("it is empty"));
        assert!(read(b"\n").unwrap_err().contains("it is empty"));
        assert!(read(b"\xff").unwrap_err().contains("not UTF-8"));
        assert!(read(b"a\0b").unwrap_err().contains("NUL"));
        assert!(read(&[b'a'; 70_000]).unwrap_err().contains("64 KiB"));
        assert!(secret("/dev/zero").unwrap_err().contains("64 KiB"));
        assert!(secret("/no/such").unwrap_err().contains("/no/such: "));
    }
}
