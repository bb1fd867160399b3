//! The binary's error: what happened, what to do about it, and the exit code.

use std::fmt;

use walpost_core::class::{self, Class, Exit};
use walpost_walsender::{
    Conninfo, Host, HostEntry, SslMode, TargetSessionAttrs, TlsFault, quote_identifier,
};

use crate::exit::Status;

/// Why a command could not do its work. Printed once, by `main`.
#[derive(Debug)]
pub(crate) struct Error {
    exit: Status,
    message: String,
    fix: Option<String>,
}

impl Error {
    /// What happened, in a sentence without a full stop. It may have several lines.
    pub(crate) fn new(exit: impl Into<Status>, message: impl Into<String>) -> Self {
        Self {
            exit: exit.into(),
            message: message.into(),
            fix: None,
        }
    }

    /// What to do about it.
    pub(crate) fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// A failed connection or question to Postgres.
    pub(crate) fn postgres(error: &walpost_walsender::Error, conninfo: &Conninfo) -> Self {
        let failed = Self::new(postgres_exit(error), chain(error));
        match postgres_fix(error, conninfo) {
            Some(fix) => failed.with_fix(fix),
            None => failed,
        }
    }

    /// The same error of the connection that `--admin-url` names: what there is to change for it is
    /// not in the configuration.
    pub(crate) fn at_admin_url(self) -> Self {
        const PASSWORD: &str = "the password in --admin-url, PGPASSWORD or the password file";
        let changed = |fix: String| {
            fix.replace(PASSWORD_KEYS, PASSWORD)
                .replace("postgres.password", PASSWORD)
                .replace("postgres.url", "--admin-url")
        };
        Self {
            message: format!("--admin-url: {}", self.message),
            fix: self.fix.map(changed),
            ..self
        }
    }

    /// A failed statement; `action` is what it was for.
    pub(crate) fn statement(
        action: &str,
        error: &walpost_walsender::Error,
        conninfo: &Conninfo,
    ) -> Self {
        let failed = Self::postgres(error, conninfo);
        match error.server() {
            Some(server) => Self {
                message: format!("can't {action}: {server}"),
                ..failed
            },
            None => failed,
        }
    }

    pub(crate) fn exit(&self) -> Status {
        self.exit
    }

    pub(crate) fn fix(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// The exit code as a word, for machines that read reports.
    pub(crate) fn code(&self) -> &'static str {
        self.exit.word()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<anyhow::Error> for Error {
    /// What no one expected to fail.
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Internal, format!("{error:#}"))
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The exit code of an error that ends a command at once: nothing is tried again.
pub(crate) fn postgres_exit(error: &walpost_walsender::Error) -> Exit {
    if error.is_authentication() {
        return Exit::Permission;
    }
    if error.is_foreign() {
        return Exit::Configuration;
    }
    if error.is_protocol() {
        return Exit::Internal;
    }
    if let Some(fault) = error.tls() {
        return match tls_class(fault) {
            Class::Credentials(exit) | Class::Definite(exit) => exit,
            Class::Transient { .. } => Exit::Unavailable,
        };
    }
    let Some(sqlstate) = error.sqlstate() else {
        return Exit::Unavailable;
    };
    match class::sqlstate(sqlstate) {
        Class::Credentials(exit) | Class::Definite(exit) => exit,
        // The server understood the statement and can't do it: classes of syntax, names, states.
        Class::Transient { .. } if is_about_the_statement(sqlstate) => Exit::Configuration,
        Class::Transient { .. } => Exit::Unavailable,
    }
}

/// What trouble with TLS means. Certificates that one side refuses are credentials refused; what
/// can't work with our files and settings, or the server's, is configuration. Either may be a
/// rotation that is half done: while the relay runs, both are tried again for a while.
pub(crate) fn tls_class(fault: TlsFault) -> Class {
    match fault {
        TlsFault::Untrusted | TlsFault::Refused => Class::Credentials(Exit::Permission),
        TlsFault::Settings | TlsFault::Unsupported => Class::Credentials(Exit::Configuration),
        TlsFault::Broken => Class::Transient { alarm: false },
    }
}

/// Where the configuration has the password.
const PASSWORD_KEYS: &str = "postgres.password or postgres.password_file";

/// What to do about an error of a connection, or of a statement on it.
pub(crate) fn postgres_fix(
    error: &walpost_walsender::Error,
    conninfo: &Conninfo,
) -> Option<String> {
    if names_wal_senders(error) {
        let fix =
            "end streams that are not needed, or raise max_wal_senders and restart the server";
        return Some(fix.to_owned());
    }
    if let Some(sqlstate) = error.sqlstate() {
        return sqlstate_fix(sqlstate, conninfo);
    }
    if let Some(advice) = error.advice() {
        return Some(advice.to_owned());
    }
    if error.is_foreign() {
        let place = place(conninfo);
        return Some(format!(
            "correct host and port in postgres.url: Postgres does not answer at {place}"
        ));
    }
    if error.is_authentication() {
        let fix = format!(
            "set {PASSWORD_KEYS}, and look at the methods that the server's pg_hba.conf asks for"
        );
        // A password file that was not used is most likely the reason.
        return Some(match conninfo.warnings().next() {
            Some(warning) => format!("{warning}; or {fix}"),
            None => fix,
        });
    }
    if error.is_target() {
        return Some(standby_fix(conninfo).to_owned());
    }
    if error.is_io() || error.is_timeout() || error.is_closed() || error.tls().is_some() {
        return Some(format!(
            "is Postgres running at {}, and does it listen there? check postgres.url",
            place(conninfo)
        ));
    }
    None
}

/// What to do where a server answers that is not the one to stream from.
pub(crate) fn standby_fix(conninfo: &Conninfo) -> &'static str {
    let has_one_host = conninfo.hosts.len() == 1;
    match conninfo.target_session_attrs {
        TargetSessionAttrs::Any if has_one_host => {
            "name the primary in postgres.url; of both servers with \
             target_session_attrs=read-write the primary is found, also after a failover"
        }
        TargetSessionAttrs::Any => {
            "set target_session_attrs=read-write in postgres.url: without it the first server that \
             lets us in is taken"
        }
        TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => {
            "is the primary down, or a failover under way? name all servers that can be it in \
             postgres.url"
        }
        TargetSessionAttrs::ReadOnly
        | TargetSessionAttrs::Standby
        | TargetSessionAttrs::PreferStandby => {
            "set target_session_attrs=read-write in postgres.url: only a primary can be streamed \
             from"
        }
    }
}

fn sqlstate_fix(sqlstate: &str, conninfo: &Conninfo) -> Option<String> {
    let user = &conninfo.user;
    let fix = match sqlstate {
        "28P01" => match conninfo.password_file() {
            Some(file) => format!(
                "check the password of the role '{user}', which comes from {}",
                file.display()
            ),
            None => format!("check the password of the role '{user}' (postgres.password)"),
        },
        "28000" if conninfo.tls.mode == SslMode::Disable => format!(
            "set sslmode=require in postgres.url if the server wants TLS; if not, let the role \
             '{user}' log in: create it, and add a line for it to the server's pg_hba.conf"
        ),
        "28000" => format!(
            "let the role '{user}' log in: create it, and add a line for it to the server's \
             pg_hba.conf"
        ),
        "3D000" => "create the database, or name another one in postgres.url".to_owned(),
        "42501" => format!("grant the right to the role '{user}', or connect as another one"),
        "53300" => format!(
            "end sessions that are not needed, or raise the limit that was met: max_connections, \
             that of the role (alter role {} connection limit …) or that of the database; walpost \
             needs three connections at most",
            quote_identifier(user)
        ),
        "53400" => "drop slots that nobody uses, or raise max_replication_slots and restart the \
                    server"
            .to_owned(),
        "3F000" => "create the schema first, or name another one in outbox.table".to_owned(),
        _ => return None,
    };
    Some(fix)
}

/// Whether a replication connection is one too many: the message has the name of the setting in
/// every language.
pub(crate) fn names_wal_senders(error: &walpost_walsender::Error) -> bool {
    let server = error.server();
    server.is_some_and(|server| server.message.contains("max_wal_senders"))
}

/// Where the server is, as one would say it; all places where it may be.
pub(crate) fn place(conninfo: &Conninfo) -> String {
    let places: Vec<_> = conninfo.hosts.iter().map(host_place).collect();
    places.join(" or ")
}

fn host_place(entry: &HostEntry) -> String {
    match (&entry.host, entry.hostaddr) {
        (Host::Tcp(_) | Host::Unix(_), Some(address)) => format!("{address}, port {}", entry.port),
        (Host::Tcp(_), None) => entry.to_string(),
        (Host::Unix(_), None) => format!("the socket {entry}"),
    }
}

fn is_about_the_statement(sqlstate: &str) -> bool {
    // Feature, state, schema, syntax or access rule, limits of configuration.
    ["0A", "22", "2B", "3F", "42", "55"]
        .iter()
        .any(|class| sqlstate.starts_with(class))
        || sqlstate == "53400"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_port_or_a_socket() {
        let none = |_: &str| None;
        let place = |text: &str| place(&Conninfo::parse(text, &none).unwrap());
        assert_eq!(place("host=db user=u"), "db:5432");
        assert_eq!(place("postgresql://u@[::1]:5433/d"), "[::1]:5433");
        assert_eq!(
            place("host=/tmp user=u port=5433"),
            "the socket /tmp/.s.PGSQL.5433"
        );
        assert_eq!(place("postgresql://u@a,b:5433/d"), "a:5432 or b:5433");
    }

    #[test]
    fn what_to_change_for_the_admin_url_is_not_in_the_configuration() {
        let fixes = [
            format!("set {PASSWORD_KEYS}"),
            "check the password of the role 'u' (postgres.password)".to_owned(),
            "check postgres.url".to_owned(),
        ];
        for fix in fixes {
            let error = Error::new(Exit::Permission, "no")
                .with_fix(fix)
                .at_admin_url();
            assert_eq!(error.to_string(), "--admin-url: no");
            let fix = error.fix().unwrap();
            assert!(
                fix.contains("--admin-url") && !fix.contains("postgres."),
                "{fix}"
            );
        }
    }

    #[test]
    fn certificates_that_a_side_refuses_are_credentials_and_the_rest_is_configuration() {
        for (fault, class) in [
            (TlsFault::Untrusted, Class::Credentials(Exit::Permission)),
            (TlsFault::Refused, Class::Credentials(Exit::Permission)),
            (TlsFault::Settings, Class::Credentials(Exit::Configuration)),
            (
                TlsFault::Unsupported,
                Class::Credentials(Exit::Configuration),
            ),
            (TlsFault::Broken, Class::Transient { alarm: false }),
        ] {
            assert_eq!(tls_class(fault), class);
        }
    }

    #[test]
    fn a_statement_that_can_t_be_done_is_a_matter_of_configuration() {
        assert!(is_about_the_statement("42P07"));
        assert!(is_about_the_statement("3F000"));
        assert!(!is_about_the_statement("57P03"));
        assert!(!is_about_the_statement("53100"));
    }
}
