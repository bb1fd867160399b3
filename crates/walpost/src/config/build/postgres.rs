//! The keys under `postgres`.

use secrecy::SecretString;
use walpost_core::limits::CHECKPOINT_GRACE;
use walpost_walsender::Conninfo;

use super::{Builder, value};
use crate::config::layer::{Entry, Given};
use crate::config::references::Variables;
use crate::config::schema::{
    CHECKPOINT_DEFAULT, IDENTIFIER_BYTES_MAX, NAME_DEFAULT, NO_CHECKPOINT, SKIP_SUFFIX,
    SPARE_SUFFIX,
};
use crate::config::{Checkpoint, PasswordCommand, PasswordSource, Postgres, file, shown_url};

const URL: &str = "postgres.url";
const PASSWORD: &str = "postgres.password";
const FILE: &str = "postgres.password_file";
const COMMAND: &str = "postgres.password_command";

/// Variables of libpq that say where the server is: with one of them `postgres.url` can be left
/// out.
const PLACE_VARIABLES: [&str; 4] = ["PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"];

impl Builder {
    pub(super) fn postgres(&mut self, variables: &Variables) -> Option<Postgres> {
        let (password, source) = self.password();
        let conninfo = self.conninfo(password, variables);
        let shown_url = self.text(URL).map(|url| shown_url::shown(&url));
        let slot = self.parsed("postgres.slot", value::slot);
        let bytes_max = IDENTIFIER_BYTES_MAX - SPARE_SUFFIX.len();
        let identifier = |text: &str| value::identifier(text, bytes_max);
        let publication = self.parsed("postgres.publication", identifier);
        let checkpoint = self.checkpoint();
        let conninfo = conninfo?;
        Some(Postgres {
            shown_url: shown_url.unwrap_or_else(|| conninfo.to_string()),
            conninfo: match source {
                // Neither ~/.pgpass nor what is wrong with it has a part in it.
                PasswordSource::Command(_) => conninfo.without_password(),
                PasswordSource::Fixed | PasswordSource::File(_) => conninfo,
            },
            password: source,
            slot: slot.unwrap_or_else(|| NAME_DEFAULT.to_owned()),
            checkpoint,
            publication: publication.unwrap_or_else(|| NAME_DEFAULT.to_owned()),
        })
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        let grace = self.parsed("postgres.checkpoint_grace", value::duration);
        let table = self.text("postgres.checkpoint");
        if table.as_deref() == Some(NO_CHECKPOINT) {
            return None;
        }
        let table = self.parsed("postgres.checkpoint", |text| match value::table(text)? {
            table if table.name.len() + SKIP_SUFFIX.len() > IDENTIFIER_BYTES_MAX => Err(format!(
                "the name is too long for the table beside it, which has {SKIP_SUFFIX} at its end"
            )),
            table => Ok(table),
        });
        Some(Checkpoint {
            table: table.or_else(|| value::table(CHECKPOINT_DEFAULT).ok())?,
            grace: grace.unwrap_or(CHECKPOINT_GRACE),
        })
    }

    fn conninfo(
        &mut self,
        password: Option<SecretString>,
        variables: &Variables,
    ) -> Option<Conninfo> {
        let env = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        // An empty one says as little as none.
        let url = self.text(URL).filter(|url| !url.is_empty());
        if url.is_none() && PLACE_VARIABLES.iter().all(|name| env(name).is_none()) {
            self.missing(
                URL,
                "is missing: name the database, as postgresql://walpost@localhost:5432/shop \
                 (PGHOST, PGDATABASE and the other variables of libpq do too)",
            );
            return None;
        }
        let url = url.unwrap_or_default();
        if is_of_a_driver(&url) {
            self.wrong(
                URL,
                "is not a URL of libpq: that begins with postgresql://, and names no driver (as \
                 jdbc: or +psycopg2 do)",
            );
            return None;
        }
        match Conninfo::parse(&url, &env) {
            Ok(conninfo) => Some(match password {
                Some(password) => conninfo.with_password(password),
                None => conninfo,
            }),
            Err(error) => {
                self.wrong(URL, error.to_string());
                None
            }
        }
    }

    /// The password as far as it is known now, and where each connection finds it.
    fn password(&mut self) -> (Option<SecretString>, PasswordSource) {
        let given = [PASSWORD, FILE, COMMAND].map(|path| self.has(path).then_some(path));
        let mut given = given.into_iter().flatten();
        let first = given.next();
        for other in given {
            let text = format!(
                "{} is given too: keep one of them",
                first.unwrap_or_default()
            );
            self.wrong(other, text);
        }
        if let Some(command) = self.command() {
            return (None, PasswordSource::Command(command));
        }
        let Some(path) = self.text(FILE) else {
            let password = self.text(PASSWORD).map(SecretString::from);
            return (password, PasswordSource::Fixed);
        };
        match file::secret(&path) {
            Ok(secret) => (Some(secret.into()), PasswordSource::File(path)),
            Err(problem) => {
                self.wrong(FILE, problem);
                (None, PasswordSource::Fixed)
            }
        }
    }

    fn command(&mut self) -> Option<PasswordCommand> {
        let entry = self.entry(COMMAND)?;
        let command = match entry {
            Entry {
                value: Given::Text(text),
                ..
            } => (!text.trim().is_empty()).then(|| PasswordCommand::Shell(text.clone())),
            Entry {
                value: Given::List(items),
                ..
            } => {
                let mut words = items.iter().map(|item| item.text.clone());
                let program = words.next().filter(|program| !program.is_empty());
                program.map(|program| PasswordCommand::Program(program, words.collect()))
            }
        };
        match command {
            Some(command) if !command.has_nul() => return Some(command),
            Some(_) => self.wrong(COMMAND, "a NUL byte can't be a part of a command"),
            None => self.wrong(
                COMMAND,
                "names no program: expected one text for the shell, or a list of a program and \
                 its arguments",
            ),
        }
        None
    }
}

/// Whether it is a URL, and not one of libpq's: JDBC's and SQLAlchemy's look much alike.
fn is_of_a_driver(url: &str) -> bool {
    let Some((scheme, _)) = url.split_once("://") else {
        return false;
    };
    let of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:_".contains(&byte);
    !["postgresql", "postgres"].contains(&scheme) && scheme.bytes().all(of_scheme)
}
