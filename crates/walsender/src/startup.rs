//! From a fresh socket to a session: startup message and authentication.

use std::collections::BTreeMap;

use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::frontend,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    backend::{self, Reader, tag},
    connection::{ConnectOptions, Mode},
    conninfo::{Conninfo, HostEntry},
    error::{Cause, ServerError},
    frame::Frame,
    wire::Wire,
};

/// Before the server is known to be one, nothing it says needs more than this.
pub(crate) const STARTUP_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Settings of every session. Time limits that kill a connection at rest are off, names mean what
/// they say, and values are printed the same way whatever the server's, database's or role's
/// settings are.
const SETTINGS: &str = "-c statement_timeout=0 -c idle_session_timeout=0 -c search_path=pg_catalog \
                        -c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC \
                        -c extra_float_digits=3 -c bytea_output=hex";

/// SQLSTATE of an error that comes without one.
const INSUFFICIENT_RESOURCES: &str = "53000";

/// What the server said of itself and of the session.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) backend_pid: i32,
}

/// Authenticates and waits until the server is ready for the first query.
pub(crate) async fn start(
    wire: &mut Wire,
    entry: &HostEntry,
    conninfo: &Conninfo,
    options: &ConnectOptions,
) -> Result<Greeting, Cause> {
    let settings = startup_options(conninfo.options.as_deref(), options);
    let mut parameters = vec![
        ("user", conninfo.user.as_str()),
        ("database", conninfo.database.as_str()),
        ("client_encoding", "UTF8"),
        ("options", settings.as_str()),
    ];
    if matches!(options.mode, Mode::Replication) {
        parameters.push(("replication", "database"));
    }
    if !options.application_name.is_empty() {
        parameters.push(("application_name", options.application_name.as_str()));
    }
    frontend::startup_message(parameters, &mut wire.output)
        .map_err(|_| Cause::Usage("user, database, name or options hold a zero byte"))?;
    wire.flush().await?;
    authenticate(wire, entry, &conninfo.user).await?;

    let mut greeting = Greeting::default();
    loop {
        let frame = receive(wire).await?;
        match frame.tag {
            tag::PARAMETER_STATUS => {
                let (name, value) = backend::parameter_status(frame)?;
                greeting.parameters.insert(name, value);
            }
            tag::BACKEND_KEY_DATA => greeting.backend_pid = backend::backend_pid(frame)?,
            tag::READY_FOR_QUERY => return Ok(greeting),
            tag => return Err(Cause::protocol("unexpected at startup", tag, frame.offset)),
        }
    }
}

/// The user's options first: of two values for one setting, the server keeps the later.
fn startup_options(user_options: Option<&str>, options: &ConnectOptions) -> String {
    let mut text = String::new();
    if let Some(user_options) = user_options {
        text.push_str(user_options);
        // A last backslash that stands alone would take the blank that keeps ours apart.
        let backslashes = text.len() - text.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            text.pop();
        }
        text.push(' ');
    }
    text.push_str(SETTINGS);
    if matches!(options.mode, Mode::Replication) {
        let timeout_ms = options.wal_sender_timeout.as_millis();
        text.push_str(&format!(" -c wal_sender_timeout={timeout_ms}"));
    }
    text
}

async fn authenticate(wire: &mut Wire, entry: &HostEntry, user: &str) -> Result<(), Cause> {
    const OK: i32 = 0;
    const CLEARTEXT: i32 = 3;
    const MD5: i32 = 5;
    const SASL: i32 = 10;
    let (kind, mut reader) = receive_authentication(wire).await?;
    match kind {
        OK => return Ok(()),
        CLEARTEXT => {
            let password = password(entry)?.expose_secret();
            send_password(wire, password.as_bytes()).await?;
        }
        MD5 => {
            let password = password(entry)?.expose_secret();
            let mut salt = [0; 4];
            salt.copy_from_slice(&reader.bytes(4)?);
            let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
            send_password(wire, hash.as_bytes()).await?;
        }
        SASL => {
            scram_is_offered(&mut reader)?;
            authenticate_scram(wire, password(entry)?).await?;
        }
        other => return Err(Cause::Authentication(unsupported_method(other))),
    }
    match receive_authentication(wire).await? {
        (OK, _) => Ok(()),
        (_, reader) => Err(reader.error("authentication goes on after its end")),
    }
}

fn password(entry: &HostEntry) -> Result<&SecretString, Cause> {
    entry.password.as_ref().ok_or_else(|| {
        Cause::Authentication("the server asks for a password, and none is given".to_owned())
    })
}

fn unsupported_method(kind: i32) -> String {
    let name = match kind {
        2 => "Kerberos V5",
        6 => "SCM credentials",
        7 => "GSSAPI",
        9 => "SSPI",
        _ => "an unknown method",
    };
    format!("the server asks for authentication by {name} ({kind}), which is not supported")
}

fn scram_is_offered(reader: &mut Reader) -> Result<(), Cause> {
    loop {
        let mechanism = reader.c_text()?;
        if mechanism == SCRAM_SHA_256 {
            return Ok(());
        }
        if mechanism.is_empty() {
            return Err(Cause::Authentication(
                "the server offers no SASL mechanism that is supported (SCRAM-SHA-256)".to_owned(),
            ));
        }
    }
}

/// Both sides prove that they know the password. Without TLS there is no channel to bind to.
async fn authenticate_scram(wire: &mut Wire, password: &SecretString) -> Result<(), Cause> {
    const CONTINUE: i32 = 11;
    const FINAL: i32 = 12;
    let password = password.expose_secret().as_bytes();
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut wire.output)
        .map_err(Cause::Io)?;
    wire.flush().await?;

    let (kind, reader) = receive_authentication(wire).await?;
    if kind != CONTINUE {
        return Err(reader.error("expected the server's part of SCRAM"));
    }
    scram
        .update(&reader.rest())
        .map_err(|error| scram_failed(&error))?;
    frontend::sasl_response(scram.message(), &mut wire.output).map_err(Cause::Io)?;
    wire.flush().await?;

    let (kind, reader) = receive_authentication(wire).await?;
    if kind != FINAL {
        return Err(reader.error("expected the server's proof of SCRAM"));
    }
    scram
        .finish(&reader.rest())
        .map_err(|error| scram_failed(&error))
}

fn scram_failed(error: &std::io::Error) -> Cause {
    Cause::Authentication(format!("the server failed at SCRAM-SHA-256: {error}"))
}

async fn send_password(wire: &mut Wire, password: &[u8]) -> Result<(), Cause> {
    frontend::password_message(password, &mut wire.output)
        .map_err(|_| Cause::Usage("the password holds a zero byte"))?;
    wire.flush().await
}

/// An authentication message: what it asks for, and a reader of what follows.
async fn receive_authentication(wire: &mut Wire) -> Result<(i32, Reader), Cause> {
    let frame = receive(wire).await?;
    if frame.tag != tag::AUTHENTICATION {
        return Err(Cause::protocol(
            "expected authentication",
            frame.tag,
            frame.offset,
        ));
    }
    let mut reader = Reader::new(frame);
    Ok((reader.i32()?, reader))
}

/// The next message that is neither a notice nor an error.
async fn receive(wire: &mut Wire) -> Result<Frame, Cause> {
    loop {
        let frame = match wire.receive().await {
            Err(Cause::TooLarge { tag, offset, .. }) => return Err(no_message(wire, tag, offset)),
            result => result?,
        };
        match frame.tag {
            tag::ERROR_RESPONSE => return Err(Cause::server(backend::server_error(frame)?)),
            tag::NOTICE_RESPONSE => {}
            _ => return Ok(frame),
        }
    }
}

/// What a length above all reason means this early: text, read as a message.
fn no_message(wire: &Wire, tag: u8, offset: u64) -> Cause {
    if tag != tag::ERROR_RESPONSE {
        return Cause::protocol("no message of a Postgres server", tag, offset);
    }
    // A server that can't start a process for us says so in the form of a protocol long gone: the
    // tag, then plain text.
    let text = String::from_utf8_lossy(wire.input.as_bytes());
    let text = text
        .trim_start_matches('E')
        .split(['\0', '\n'])
        .next()
        .unwrap_or_default();
    Cause::server(ServerError {
        severity: "FATAL".to_owned(),
        code: INSUFFICIENT_RESOURCES.to_owned(),
        message: text.to_owned(),
        detail: None,
        hint: None,
    })
}

#[cfg(test)]
mod tests;
