//! TLS to the server, as libpq does it: files into a context, a handshake, and the host's name.
//!
//! Every connection reads the files anew, so certificates are rotated without a restart. OpenSSL
//! does the cryptography over a transport of ours (`stream`), which keeps tokio's readiness rules
//! and reads the kernel in large pieces. What is libpq's own, and not OpenSSL's default, are the
//! rules about files and their permissions (`files`), and those about names (`name`). `explain`
//! turns OpenSSL's codes into sentences that say what to do.

use std::path::Path;

use openssl::ssl::Ssl;
use tokio::net::TcpStream;

use crate::conninfo::{RootCert, SslMode, SslNegotiation, TlsSettings};

mod binding;
mod explain;
mod files;
mod name;
mod roots;
mod stream;

pub(crate) use stream::{ClientCertificate, TlsStream};

/// The application protocol that Postgres registered, in the form of the TLS extension.
const ALPN: &[u8] = b"\x0apostgresql";

/// What is wrong with TLS, and so who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// Our own files or settings: a certificate that is missing, a key that can't be used, versions
    /// or rules that the server can't meet.
    Settings,
    /// The server does not speak TLS, and it was demanded.
    Unsupported,
    /// The server's certificate is not one to trust: its issuer, its dates, its name.
    Untrusted,
    /// The server did not accept our certificate, or wants one.
    Refused,
    /// The connection broke, or the server could not serve us then. It may pass.
    Broken,
}

/// TLS failed. `Display` is one line that says what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct TlsError {
    pub(crate) fault: TlsFault,
    problem: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
    /// `sslmode=prefer` does not go on without TLS after this one.
    pub(crate) is_final: bool,
}

impl TlsError {
    pub(crate) fn new(fault: TlsFault, problem: impl Into<String>) -> Self {
        Self {
            fault,
            problem: problem.into(),
            advice: None,
            is_final: false,
        }
    }

    pub(crate) fn with_advice(self, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { advice, ..self }
    }

    /// Problem and advice in one, as they are read.
    #[cfg(test)]
    fn told(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{self}; {advice}"),
            None => self.to_string(),
        }
    }

    fn finally(self) -> Self {
        let is_final = true;
        Self { is_final, ..self }
    }

    fn settings(problem: impl Into<String>) -> Self {
        Self::new(TlsFault::Settings, problem)
    }
}

impl TlsSettings {
    /// The mode, with what `sslrootcert=system` implies.
    pub(crate) fn effective_mode(&self) -> SslMode {
        match self.root_cert {
            RootCert::System => SslMode::VerifyFull,
            RootCert::Default | RootCert::File(_) => self.mode,
        }
    }
}

/// Does the handshake. `host` is the server's name as the connection string gives it.
pub(crate) async fn connect(
    socket: TcpStream,
    settings: &TlsSettings,
    host: Option<&str>,
) -> Result<TlsStream, TlsError> {
    let full = settings.effective_mode() == SslMode::VerifyFull;
    if full && host.is_none() {
        return Err(TlsError::settings(
            "sslmode=verify-full compares the server's certificate with a host name, and only \
             hostaddr is given",
        )
        .with_advice("add host=NAME"));
    }
    let prepared = files::prepare(settings)?;
    let mut ssl = Ssl::new(&prepared.context).map_err(|error| explain::internal(&error))?;
    if let Some(host) = host.filter(|host| settings.sni && name::is_for_sni(host)) {
        ssl.set_hostname(host)
            .map_err(|error| explain::internal(&error))?;
    }
    let explain = explain::Handshake {
        settings,
        root: prepared.root.as_deref().map(Path::to_owned),
        rejected: prepared.rejected,
    };
    let mut stream = TlsStream::new(ssl, socket).map_err(|error| explain::internal(&error))?;
    stream.handshake(&explain).await?;
    if settings.negotiation == SslNegotiation::Direct {
        check_protocol(&stream)?;
    }
    if let Some(host) = host.filter(|_| full) {
        let certificate = stream.peer_certificate()?;
        name::verify(&certificate, host)?;
    }
    Ok(stream)
}

/// Without a request in Postgres' own protocol, only this says that Postgres answers: it keeps a
/// connection from being led to a server of another protocol under the same certificate.
fn check_protocol(stream: &TlsStream) -> Result<(), TlsError> {
    match stream.protocol() {
        Some(protocol) if protocol == &ALPN[1..] => Ok(()),
        _ => Err(TlsError::settings(
            "the server does TLS but did not agree to the protocol 'postgresql' (ALPN), which \
             sslnegotiation=direct demands",
        )
        .with_advice(
            "leave sslnegotiation out, or look at the port: it may be another server's, or \
             PostgreSQL older than 17 behind a proxy",
        )),
    }
}

#[cfg(test)]
mod tests;
