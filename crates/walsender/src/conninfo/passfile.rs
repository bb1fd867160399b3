//! The password file: `~/.pgpass`, `passfile`, `PGPASSFILE`.
//!
//! Lines of `host:port:database:user:password`. The first whose four fields match gives the
//! password: a field matches its own text, and `*` matches all; `\` takes a `:` or `\` as it is.
//! As with libpq, a file that others can read is not used.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use secrecy::{
    SecretString,
    zeroize::{Zeroize, Zeroizing},
};

/// A larger file is none of passwords.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

const OTHERS: u32 = 0o077;

/// A file that was read, or why it was not.
pub(super) struct Passfile {
    text: Zeroizing<Vec<u8>>,
    /// What the user has to know: one sentence.
    pub(super) warning: Option<String>,
}

/// What a line has to match.
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

impl Passfile {
    /// Reads the file. Where nobody asked for it, it may be missing.
    pub(super) fn read(path: &Path, asked_for_by: Option<&str>) -> Self {
        match (read(path), asked_for_by) {
            (Ok(text), _) => Self {
                text,
                warning: None,
            },
            (Err(Unusable::Missing), None) => Self {
                text: Zeroizing::default(),
                warning: None,
            },
            // The path is not quoted: what names no file can be anything.
            (Err(Unusable::Missing), Some(name)) => Self::unused(format!(
                "the password file that `{name}` names does not exist: no password is taken from \
                 it"
            )),
            (Err(Unusable::Io(error)), _) => Self::unused(format!(
                "the password file {} can't be read, and is ignored: {error}",
                path.display()
            )),
            (Err(Unusable::NotPlain), _) => Self::unused(format!(
                "the password file {} is not a plain file, and is ignored",
                path.display()
            )),
            (Err(Unusable::Open), _) => Self::unused(format!(
                "the password file {0} is ignored: its group or others have access to it; \
                 chmod 0600 {0}",
                path.display()
            )),
        }
    }

    fn unused(warning: String) -> Self {
        Self {
            text: Zeroizing::default(),
            warning: Some(warning),
        }
    }

    /// The password of the first line that matches; an empty one is none. A password that is not
    /// UTF-8 is none either: it could not be told from another.
    pub(super) fn password(&self, wanted: &Wanted<'_>) -> Option<SecretString> {
        let port = wanted.port.to_string();
        let fields = [wanted.host, &port, wanted.database, wanted.user];
        let rest = self.text.split(|byte| *byte == b'\n').find_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.starts_with(b"#") {
                return None;
            }
            fields
                .iter()
                .try_fold(line, |rest, field| after(rest, field.as_bytes()))
        })?;
        let mut password = unescaped(rest);
        let text = str::from_utf8(&password).unwrap_or_default();
        let found = (!text.is_empty()).then(|| SecretString::from(text));
        password.zeroize();
        found
    }
}

/// Whether the error says that there is no such file.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

enum Unusable {
    Missing,
    NotPlain,
    /// To others.
    Open,
    Io(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        if is_missing(&error) {
            Self::Missing
        } else {
            Self::Io(error)
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    // Looked at before it is opened: to open a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(Unusable::NotPlain);
    }
    let file = fs::File::open(path)?;
    if file.metadata()?.permissions().mode() & OTHERS != 0 {
        return Err(Unusable::Open);
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// What follows the first field of `line`, if that matches.
fn after<'a>(line: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut wanted = wanted.iter();
    let mut rest = line;
    loop {
        let (byte, after) = match rest {
            [b':', after @ ..] => return wanted.next().is_none().then_some(after),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => (byte, after),
            [] => return None,
        };
        if wanted.next() != Some(byte) {
            return None;
        }
        rest = after;
    }
}

/// The last field, up to an end or a `:` that is its own.
fn unescaped(field: &[u8]) -> Vec<u8> {
    // Never larger: a copy that grew would leave pieces of the password behind.
    let mut password = Vec::with_capacity(field.len());
    let mut rest = field;
    loop {
        rest = match rest {
            [] | [b':', ..] => return password,
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                password.push(*byte);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn first_line_that_matches_gives_the_password() {
        for (line, expected) in [
            ("db:5432:shop:me:pw", Some("pw")),
            ("*:*:*:*:pw", Some("pw")),
            ("db:*:shop:*:pw", Some("pw")),
            ("db:5433:shop:me:pw", None),
            ("DB:5432:shop:me:pw", None),
            ("d:5432:shop:me:pw", None),
            ("dbx:5432:shop:me:pw", None),
            ("**:5432:shop:me:pw", None),
            ("d*:5432:shop:me:pw", None),
            ("\\d\\b:5432:shop:me:pw", Some("pw")),
            ("\\*:5432:shop:me:pw", None),
            ("db:5432:shop:me:p\\:w\\\\x", Some("p:w\\x")),
            ("db:5432:shop:me:pw:rest", Some("pw")),
            ("db:5432:shop:me: p#w ", Some(" p#w ")),
            ("db:5432:shop:me:pw\\", Some("pw\\")),
            ("db:5432:shop:me:pw\r", Some("pw")),
            ("db:5432:shop:me:", None),
            ("db:5432:shop:me", None),
            (" db:5432:shop:me:pw", None),
            ("#db:5432:shop:me:pw", None),
            ("", None),
            ("db:5432:shop:me:\n*:*:*:*:other", None),
            (
                "x:*:*:*:other\n\n# :\n*:5432:*:me:pw\n*:*:*:*:last",
                Some("pw"),
            ),
        ] {
            assert_eq!(
                password(line.as_bytes(), "db").as_deref(),
                expected,
                "{line}"
            );
        }
        assert_eq!(password(b"*:*:*:*:\xff", "db"), None);
        assert_eq!(
            password(b"\xff:*:*:*:x\n\\:\\:1:*:*:*:pw", "::1").as_deref(),
            Some("pw")
        );
    }

    fn password(text: &[u8], host: &str) -> Option<String> {
        let passfile = Passfile {
            text: Zeroizing::new(text.to_vec()),
            warning: None,
        };
        let wanted = Wanted {
            host,
            port: 5432,
            database: "shop",
            user: "me",
        };
        let password = passfile.password(&wanted)?;
        Some(password.expose_secret().to_owned())
    }

    #[test]
    fn file_that_others_can_read_is_ignored_with_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        fs::write(&path, "*:*:*:*:pw").unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let passfile = Passfile::read(&path, None);
            assert_eq!(passfile.warning.is_none(), usable, "{mode:o}");
            assert_eq!(!passfile.text.is_empty(), usable, "{mode:o}");
        }
        let warning = Passfile::read(&path, None).warning.unwrap();
        let advice = format!("chmod 0600 {}", path.display());
        assert!(warning.ends_with(&advice), "{warning}");
    }

    #[test]
    fn only_a_file_that_was_asked_for_is_missed() {
        let directory = tempfile::tempdir().unwrap();
        let warning = |path: PathBuf, name| Passfile::read(&path, name).warning;
        let missing = directory.path().join("none");
        assert_eq!(warning(missing.clone(), None), None);
        let text = warning(missing, Some("PGPASSFILE")).unwrap();
        assert!(
            text.contains("`PGPASSFILE`") && !text.contains("none:"),
            "{text}"
        );
        let text = warning(directory.path().to_owned(), None).unwrap();
        assert!(text.contains("is not a plain file"), "{text}");
    }
}
