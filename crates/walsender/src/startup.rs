//! From a fresh socket to a session: startup message and authentication.

use std::collections::BTreeMap;

use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::frontend,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    backend::{self, Reader, tag},
    connection::{ConnectOptions, Mode},
    conninfo::{AuthMethod, ChannelBinding, Conninfo, HostEntry, RequireAuth, SslCertMode},
    error::{Cause, ServerError},
    foreign,
    frame::Frame,
    tls::{ClientCertificate, TlsError, TlsFault, TlsStream},
    wire::Wire,
};

/// Before the server is known to be one, nothing it says needs more than this.
pub(crate) const STARTUP_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Settings of every session. Time limits that kill a connection at rest are off, names mean what
/// they say, values are printed the same way, and warnings come, whatever the server's, database's
/// or role's settings are: that a publication is skipped, and the rows with it, is only a warning.
const SETTINGS: &str = "-c statement_timeout=0 -c idle_session_timeout=0 -c search_path=pg_catalog \
                        -c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC \
                        -c extra_float_digits=3 -c bytea_output=hex -c client_min_messages=notice";

/// As many as the implementation does, which takes some tenths of a second; Postgres' default is
/// 4096.
const SCRAM_ITERATIONS_MAX: u64 = 100_000;

/// SQLSTATE of an error that comes without one.
const INSUFFICIENT_RESOURCES: &str = "53000";

/// What the server said of itself and of the session.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) backend_pid: i32,
}

/// Says who wants in, and does what the server asks for to believe it. The error is the server's
/// own ([`Cause::Server`]) when it refused.
pub(crate) async fn authenticate(
    wire: &mut Wire,
    entry: &HostEntry,
    conninfo: &Conninfo,
    options: &ConnectOptions,
) -> Result<(), Cause> {
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
    let rules = Rules {
        conninfo,
        client_certificate: wire.socket.tls().map(TlsStream::client_certificate),
    };
    answer(wire, &rules, entry.password.as_ref()).await
}

/// Waits until the server is ready for the first query.
pub(crate) async fn greet(wire: &mut Wire) -> Result<Greeting, Cause> {
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

const OK: i32 = 0;
const CLEARTEXT: i32 = 3;
const MD5: i32 = 5;
const SASL: i32 = 10;

/// What the user demands of an authentication, checked before anything is answered.
struct Rules<'a> {
    conninfo: &'a Conninfo,
    /// `None` without TLS.
    client_certificate: Option<ClientCertificate>,
}

/// How far an authentication has come when the server declares it done.
#[derive(Clone, Copy, Default)]
struct Done {
    /// We have shown who we are.
    finished: bool,
    /// Bound to the TLS connection.
    bound: bool,
}

impl Rules<'_> {
    /// Whether this may be answered: the answer can be a password.
    fn allow(&self, method: AuthMethod) -> Result<(), Cause> {
        let allowed = match &self.conninfo.require_auth {
            RequireAuth::Any => true,
            RequireAuth::OneOf(methods) => methods.contains(&method),
            RequireAuth::NoneOf(methods) => !methods.contains(&method),
        };
        if !allowed {
            return refused(
                format!(
                    "the server asks for authentication by {}, which require_auth does not allow",
                    method_name(method)
                ),
                "change require_auth, or the server's pg_hba.conf",
            );
        }
        let needs_binding = self.conninfo.channel_binding == ChannelBinding::Require;
        if needs_binding && method != AuthMethod::ScramSha256 {
            return refused(
                format!(
                    "the server asks for authentication by {}, and channel_binding=require demands \
                     SCRAM over TLS",
                    method_name(method)
                ),
                "set scram-sha-256 in the server's pg_hba.conf, or leave channel_binding out",
            );
        }
        Ok(())
    }

    /// Whether it is enough.
    fn accept(&self, done: Done) -> Result<(), Cause> {
        self.accept_certificate()?;
        let must_finish = match &self.conninfo.require_auth {
            RequireAuth::Any => false,
            RequireAuth::OneOf(methods) => !methods.contains(&AuthMethod::None),
            RequireAuth::NoneOf(methods) => methods.contains(&AuthMethod::None),
        };
        if must_finish && !done.finished {
            return refused(
                "the server let us in without asking for what require_auth demands: it did not \
                 complete an authentication",
                "change require_auth (none allows that), or the server's pg_hba.conf",
            );
        }
        if self.conninfo.channel_binding == ChannelBinding::Require && !done.bound {
            return refused(
                "the server let us in without binding the authentication to the TLS connection, \
                 which channel_binding=require demands",
                "set scram-sha-256 in the server's pg_hba.conf, or leave channel_binding out",
            );
        }
        Ok(())
    }

    fn accept_certificate(&self) -> Result<(), Cause> {
        if self.conninfo.tls.cert_mode != SslCertMode::Require {
            return Ok(());
        }
        let (problem, advice) = match self.client_certificate {
            Some(ClientCertificate::Sent) => return Ok(()),
            Some(ClientCertificate::NotSent) => (
                "sslcertmode=require demands that a client certificate is shown, and there is none",
                "give one by sslcert and sslkey",
            ),
            Some(ClientCertificate::NotRequested) | None => (
                "sslcertmode=require demands that the server asks for a client certificate, and \
                 it did not",
                "set ssl_ca_file on the server, or sslcertmode=allow here",
            ),
        };
        let error = TlsError::new(TlsFault::Settings, problem);
        Err(Cause::Tls(error.with_advice(advice)))
    }
}

fn refused<T>(problem: impl Into<String>, advice: &'static str) -> Result<T, Cause> {
    Err(Cause::Authentication {
        problem: problem.into(),
        advice: Some(advice),
    })
}

fn method_name(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::Password => "a password in the clear",
        AuthMethod::Md5 => "MD5",
        AuthMethod::ScramSha256 => "SCRAM-SHA-256",
        AuthMethod::Gss => "GSSAPI",
        AuthMethod::Sspi => "SSPI",
        AuthMethod::OAuth => "OAuth",
        AuthMethod::None => "nothing",
    }
}

async fn answer(
    wire: &mut Wire,
    rules: &Rules<'_>,
    password: Option<&SecretString>,
) -> Result<(), Cause> {
    let (kind, mut reader) = receive_authentication(wire).await?;
    let mut done = Done {
        finished: true,
        bound: false,
    };
    match kind {
        OK => return rules.accept(Done::default()),
        CLEARTEXT => {
            rules.allow(AuthMethod::Password)?;
            let password = expect(password)?.expose_secret();
            send_password(wire, password.as_bytes()).await?;
        }
        MD5 => {
            rules.allow(AuthMethod::Md5)?;
            let password = expect(password)?.expose_secret();
            let mut salt = [0; 4];
            salt.copy_from_slice(&reader.bytes(4)?);
            let user = rules.conninfo.user.as_bytes();
            let hash = md5_hash(user, password.as_bytes(), salt);
            send_password(wire, hash.as_bytes()).await?;
        }
        SASL => {
            rules.allow(AuthMethod::ScramSha256)?;
            let scram = scram(wire, rules.conninfo.channel_binding, &mut reader)?;
            done.bound = scram.mechanism == SCRAM_SHA_256_PLUS;
            authenticate_scram(wire, scram, expect(password)?).await?;
        }
        other => {
            let advice = "set scram-sha-256 for this role in the server's pg_hba.conf";
            return refused(unsupported_method(other), advice);
        }
    }
    match receive_authentication(wire).await? {
        (OK, _) => rules.accept(done),
        (_, reader) => Err(reader.error("authentication goes on after its end")),
    }
}

fn expect(password: Option<&SecretString>) -> Result<&SecretString, Cause> {
    password
        .ok_or_else(|| Cause::authentication("the server asks for a password, and none is given"))
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

/// A mechanism of SASL, and what it is bound to.
struct Scram {
    mechanism: &'static str,
    binding: sasl::ChannelBinding,
}

/// Chooses what is offered. A connection without TLS has no channel to bind to.
fn scram(wire: &Wire, wanted: ChannelBinding, offer: &mut Reader) -> Result<Scram, Cause> {
    let (mut plain, mut plus) = (false, false);
    loop {
        let mechanism = offer.c_text()?;
        match mechanism.as_str() {
            "" => break,
            SCRAM_SHA_256 => plain = true,
            SCRAM_SHA_256_PLUS => plus = true,
            _ => {}
        }
    }
    let tls = wire.socket.tls();
    match tls {
        None if wanted == ChannelBinding::Require => refused(
            "channel_binding=require demands TLS, and this connection has none",
            "set sslmode=require, or leave channel_binding out",
        ),
        None if plus => refused(
            "the server binds authentication to TLS (SCRAM-SHA-256-PLUS) and believes this \
             connection to have it, which it has not: something in between may have taken TLS \
             away",
            "set sslmode=require",
        ),
        Some(tls) if plus && wanted != ChannelBinding::Disable => Ok(Scram {
            mechanism: SCRAM_SHA_256_PLUS,
            binding: sasl::ChannelBinding::tls_server_end_point(tls.end_point().map_err(
                |problem| Cause::Authentication {
                    problem,
                    advice: Some(
                        "set channel_binding=disable, or give the server a certificate that is \
                         signed with RSA or ECDSA",
                    ),
                },
            )?),
        }),
        _ if plain && wanted == ChannelBinding::Require => refused(
            "channel_binding=require demands SCRAM-SHA-256-PLUS, and the server offers only \
             SCRAM-SHA-256; a proxy that ends TLS on the way does that",
            "connect to the server itself, or leave channel_binding out",
        ),
        // The server learns whether we could have bound: it notices an offer that was withheld.
        Some(_) if plain && wanted == ChannelBinding::Prefer => Ok(Scram {
            mechanism: SCRAM_SHA_256,
            binding: sasl::ChannelBinding::unrequested(),
        }),
        _ if plain => Ok(Scram {
            mechanism: SCRAM_SHA_256,
            binding: sasl::ChannelBinding::unsupported(),
        }),
        _ => refused(
            "the server offers no SASL mechanism that is supported (SCRAM-SHA-256, \
             SCRAM-SHA-256-PLUS)",
            "set scram-sha-256 for this role in the server's pg_hba.conf",
        ),
    }
}

/// Both sides prove that they know the password.
async fn authenticate_scram(
    wire: &mut Wire,
    Scram { mechanism, binding }: Scram,
    password: &SecretString,
) -> Result<(), Cause> {
    const CONTINUE: i32 = 11;
    const FINAL: i32 = 12;
    let password = password.expose_secret().as_bytes();
    let mut scram = ScramSha256::new(password, binding);
    frontend::sasl_initial_response(mechanism, scram.message(), &mut wire.output)
        .map_err(Cause::Io)?;
    wire.flush().await?;

    let (kind, reader) = receive_authentication(wire).await?;
    if kind != CONTINUE {
        return Err(reader.error("expected the server's part of SCRAM"));
    }
    let challenge = reader.rest();
    check_iterations(&challenge)?;
    scram
        .update(&challenge)
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

/// Each iteration costs us time, and a server that is not yet known to be ours says how many.
fn check_iterations(challenge: &[u8]) -> Result<(), Cause> {
    let iterations = challenge
        .split(|byte| *byte == b',')
        .find_map(|part| str::from_utf8(part.strip_prefix(b"i=")?).ok())
        .and_then(|count| count.parse::<u64>().ok());
    match iterations {
        Some(iterations) if iterations > SCRAM_ITERATIONS_MAX => refused(
            format!(
                "the server demands {iterations} iterations of SCRAM, more than the \
                 {SCRAM_ITERATIONS_MAX} that are done here"
            ),
            "lower scram_iterations on the server, and set the role's password again",
        ),
        _ => Ok(()),
    }
}

fn scram_failed(error: &std::io::Error) -> Cause {
    Cause::authentication(format!("the server failed at SCRAM-SHA-256: {error}"))
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
        return Err(match frame.offset {
            0 => foreign::cause(&[frame.tag]),
            offset => Cause::protocol("expected authentication", frame.tag, offset),
        });
    }
    let mut reader = Reader::new(frame);
    Ok((reader.i32()?, reader))
}

/// The next message that is neither a notice nor an error.
async fn receive(wire: &mut Wire) -> Result<Frame, Cause> {
    loop {
        let frame = match wire.receive().await {
            Err(Cause::TooLarge { tag, offset, .. }) => return Err(no_message(wire, tag, offset)),
            Err(Cause::Protocol { offset: 0, .. }) => {
                return Err(foreign::cause(wire.input.as_bytes()));
            }
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
    if tag != tag::ERROR_RESPONSE && offset == 0 {
        return foreign::cause(wire.input.as_bytes());
    }
    if tag != tag::ERROR_RESPONSE {
        return Cause::protocol("no message of a login", tag, offset);
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
        routine: None,
    })
}

#[cfg(test)]
mod tests;
