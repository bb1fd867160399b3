//! Service files: named sets of keys, as libpq reads them.
//!
//! ```text
//! [shop]
//! host=db.example
//! dbname=shop
//! ```

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ConninfoError, Env,
    keys::Key,
    passfile::is_missing,
    settings::{Line, Settings, Value},
};

/// Where Debian keeps the file of the whole machine; libpq has it compiled in.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// A larger file is none of services.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Adds the keys of the service that the text or `PGSERVICE` names, if one does.
///
/// Looked for in `servicefile`, `PGSERVICEFILE` or `~/.pg_service.conf`, the first of them that is
/// given, and then in `pg_service.conf` of `PGSYSCONFDIR`.
pub(super) fn add(
    settings: &mut Settings,
    env: Env<'_>,
    home: Option<&Path>,
) -> Result<(), ConninfoError> {
    let service = match settings.take(Key::Service) {
        Some(service) => Some(service),
        None => Settings::variable(env, "PGSERVICE")?.filter(|value| !value.text.is_empty()),
    };
    let file = match settings.take(Key::Servicefile) {
        Some(file) => Some(file),
        None => Settings::variable(env, "PGSERVICEFILE")?,
    };
    let Some(service) = service else {
        return Ok(());
    };
    let users = match &file {
        Some(file) => Some(PathBuf::from(&file.text)),
        None => home.map(|home| home.join(".pg_service.conf")),
    };
    let system = env("PGSYSCONFDIR").unwrap_or_else(|| SYSTEM_DIRECTORY.to_owned());
    let system = Path::new(&system).join("pg_service.conf");

    let mut searched = Vec::new();
    for (path, given) in [(users, file.as_ref()), (Some(system), None)] {
        let Some(path) = path else { continue };
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if is_missing(&error) => match given {
                // The path is not quoted: what names no file can be anything.
                Some(file) => return Err(file.error("names a service file that does not exist")),
                None => continue,
            },
            Err(error) => {
                return Err(ConninfoError::new(format!(
                    "the service file {} can't be read: {error}",
                    path.display()
                )));
            }
        };
        if add_section(settings, &service.text, &text, &path)? {
            return Ok(());
        }
        searched.push(path.display().to_string());
    }
    Err(not_found(&service, &searched))
}

fn not_found(service: &Value, searched: &[String]) -> ConninfoError {
    service.error(&if searched.is_empty() {
        "names a service, and there is no service file: neither ~/.pg_service.conf nor \
         pg_service.conf in PGSYSCONFDIR; PGSERVICEFILE can name another"
            .to_owned()
    } else {
        let searched = searched.join(" nor in ");
        format!("names a service that is not in {searched} (a line [NAME] begins one)")
    })
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(BYTES_MAX)
        .read_to_end(&mut bytes)?;
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
    String::from_utf8(bytes).map_err(not_text)
}

/// Sets the keys of the service's section. Whether there is one.
fn add_section(
    settings: &mut Settings,
    service: &str,
    text: &str,
    path: &Path,
) -> Result<bool, ConninfoError> {
    let path: Arc<Path> = path.into();
    let mut found = false;
    for (index, line) in text.lines().enumerate() {
        let at = Line {
            path: Arc::clone(&path),
            number: index + 1,
        };
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if found {
                return Ok(true);
            }
            found = header
                .strip_prefix(service)
                .is_some_and(|rest| rest.starts_with(']'));
        } else if found {
            set(settings, line, &at)?;
        }
    }
    Ok(found)
}

fn set(settings: &mut Settings, line: &str, at: &Line) -> Result<(), ConninfoError> {
    let fault = |what: &str| Err(ConninfoError::new(format!("{at}: {what}")));
    if line.starts_with("ldap") {
        return fault("services are not looked up by LDAP here; write the keys into the file");
    }
    match line.split_once('=') {
        None => fault("no '='; a service's lines are key=value"),
        Some(("service" | "servicefile", _)) => {
            fault("a service can't name another one; write its keys here")
        }
        Some((name, _)) if name.ends_with(|char: char| char.is_ascii_whitespace()) => {
            fault("no blank may stand before the '='")
        }
        Some((name, value)) => settings.set_by_service(name, value.to_owned(), at),
    }
}
