//! OpenSSL's codes in sentences: what is wrong, and what to do about it.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use openssl::{
    error::ErrorStack,
    nid::Nid,
    ssl::{Error as SslError, SslAlert, SslStream},
    x509::{X509NameRef, X509Ref, X509StoreContextRef},
};

use super::{ClientCertificate, TlsError, TlsFault, stream::Transport};
use crate::conninfo::{RootCert, SslNegotiation, TlsSettings, TlsVersion};

/// Reasons of OpenSSL's library of TLS (`openssl/sslerr.h`).
mod reason {
    pub(super) const LIBRARY: i32 = 20;
    pub(super) const CERTIFICATE_VERIFY_FAILED: i32 = 134;
    pub(super) const WRONG_VERSION_NUMBER: i32 = 267;
    /// Versions that do not meet: bad number, too high, none available, unknown protocol, unknown
    /// version, unsupported protocol, unsupported version, wrong version, too low.
    pub(super) const VERSIONS: [i32; 9] = [115, 166, 191, 252, 254, 258, 259, 266, 396];
    /// What is not TLS can also look like a record that is too long.
    pub(super) const NOT_TLS: [i32; 3] = [WRONG_VERSION_NUMBER, 198, 129];
}

/// What a certificate can be refused for (`openssl/x509_vfy.h`).
mod verify {
    pub(super) const UNKNOWN_ISSUERS: [i32; 6] = [2, 18, 19, 20, 21, 27];
    pub(super) const NO_CRL: i32 = 3;
    pub(super) const CRLS_OUT_OF_DATE: [i32; 2] = [11, 12];
    pub(super) const NOT_YET_VALID: i32 = 9;
    pub(super) const EXPIRED: i32 = 10;
    pub(super) const REVOKED: i32 = 23;
}

/// The certificate that was refused, and why.
pub(super) struct Rejected {
    code: i32,
    why: &'static str,
    depth: u32,
    subject: String,
    issuer: String,
    not_before: String,
    not_after: String,
}

impl Rejected {
    pub(super) fn of(context: &X509StoreContextRef) -> Self {
        let error = context.error();
        let certificate = context.current_cert();
        let text = |of: fn(&X509Ref) -> String| certificate.map(of).unwrap_or_default();
        Self {
            code: error.as_raw(),
            why: error.error_string(),
            depth: context.error_depth(),
            subject: text(|certificate| called(certificate.subject_name())),
            issuer: text(|certificate| called(certificate.issuer_name())),
            not_before: text(|certificate| certificate.not_before().to_string()),
            not_after: text(|certificate| certificate.not_after().to_string()),
        }
    }
}

/// What is known when a handshake fails.
pub(super) struct Handshake<'a> {
    pub(super) settings: &'a TlsSettings,
    pub(super) root: Option<PathBuf>,
    pub(super) rejected: Arc<Mutex<Option<Rejected>>>,
}

impl Handshake<'_> {
    pub(super) fn failed(&self, error: SslError, stream: &SslStream<Transport>) -> TlsError {
        let error = match error.into_io_error() {
            Ok(error) => return broken(&error),
            Err(error) => error,
        };
        if has_reason(&error, |code| code == reason::CERTIFICATE_VERIFY_FAILED) {
            return self.untrusted();
        }
        if let Some(alert) = alert_of(&error) {
            return match alert {
                SslAlert::PROTOCOL_VERSION => self.versions(),
                alert => refused(alert, None),
            };
        }
        if stream.get_ref().eof {
            return self.hung_up();
        }
        if has_reason(&error, |code| reason::NOT_TLS.contains(&code)) {
            return TlsError::settings("what answers there does not speak TLS")
                .with_advice("look at host and port: is it Postgres?");
        }
        if has_reason(&error, |code| reason::VERSIONS.contains(&code)) {
            return self.versions();
        }
        failed_later(&error)
    }

    fn hung_up(&self) -> TlsError {
        let closed = TlsError::new(
            TlsFault::Broken,
            "the server closed the connection in the TLS handshake",
        );
        match self.settings.negotiation {
            SslNegotiation::Direct => closed.with_advice(
                "PostgreSQL older than 17 does so at sslnegotiation=direct: leave it out there",
            ),
            SslNegotiation::Postgres => closed,
        }
    }

    fn versions(&self) -> TlsError {
        let shown = |version: Option<TlsVersion>, none: &'static str| match version {
            Some(TlsVersion::V1_0) => "TLSv1",
            Some(TlsVersion::V1_1) => "TLSv1.1",
            Some(TlsVersion::V1_2) => "TLSv1.2",
            Some(TlsVersion::V1_3) => "TLSv1.3",
            None => none,
        };
        let min = shown(self.settings.min_protocol, "the oldest");
        let max = shown(self.settings.max_protocol, "the newest");
        TlsError::settings(format!(
            "the server speaks no version of TLS from {min} to {max}"
        ))
        .with_advice(
            "change ssl_min_protocol_version and ssl_max_protocol_version here or on the server",
        )
    }

    /// Why the server's certificate was refused.
    fn untrusted(&self) -> TlsError {
        let untrusted = |problem: String| TlsError::new(TlsFault::Untrusted, problem);
        let rejected = self.rejected.lock().ok().and_then(|mut kept| kept.take());
        let Some(rejected) = rejected else {
            return untrusted("the server's certificate can't be verified".to_owned());
        };
        let Rejected {
            code,
            subject,
            issuer,
            ..
        } = &rejected;
        let which = match rejected.depth {
            0 => format!("the server's certificate ({subject})"),
            _ => format!("a CA certificate of the server's chain ({subject})"),
        };
        match *code {
            verify::EXPIRED => untrusted(format!("{which} expired on {}", rejected.not_after))
                .with_advice("give the server a new certificate"),
            verify::NOT_YET_VALID => untrusted(format!(
                "{which} is not valid before {}",
                rejected.not_before
            ))
            .with_advice("are the clocks right, here and where it was made?"),
            verify::REVOKED => untrusted(format!("{which} was revoked by its issuer ({issuer})"))
                .with_advice("give the server a new certificate"),
            verify::NO_CRL => untrusted(format!(
                "{which} can't be looked up: sslcrl and sslcrldir hold no list of its issuer \
                 ({issuer})"
            ))
            .with_advice("put the list of each CA of the server's chain there"),
            code if verify::CRLS_OUT_OF_DATE.contains(&code) => untrusted(format!(
                "{which} can't be looked up: the revocation list of its issuer ({issuer}) is out \
                 of date"
            ))
            .with_advice("put the current list there (sslcrl, sslcrldir)"),
            code if verify::UNKNOWN_ISSUERS.contains(&code) => {
                untrusted(self.unknown_issuer(&which, issuer, issuer == subject)).with_advice(
                    "give the certificate of the CA that signed it by sslrootcert=FILE",
                )
            }
            _ => untrusted(format!("{which} is not valid: {}", rejected.why))
                .with_advice("give the server another certificate"),
        }
    }

    fn unknown_issuer(&self, which: &str, issuer: &str, self_signed: bool) -> String {
        let issuer = if self_signed {
            "itself".to_owned()
        } else {
            format!("({issuer})")
        };
        let trusted = match (&self.settings.root_cert, &self.root) {
            (RootCert::System, _) => {
                "the operating system does not trust that (SSL_CERT_FILE and SSL_CERT_DIR say \
                 whom it trusts)"
                    .to_owned()
            }
            (_, Some(path)) => format!("'{}' does not hold that certificate", path.display()),
            (_, None) => "no certificate is trusted".to_owned(),
        };
        format!("{which} is signed by {issuer}, and {trusted}")
    }
}

/// The refusal that the server sent, if it is one. With TLS 1.3 it comes after the handshake: the
/// server looks at our certificate when we believe to be done.
pub(super) fn alert(error: &SslError, ours: ClientCertificate) -> Option<TlsError> {
    alert_of(error).map(|alert| refused(alert, Some(ours)))
}

fn refused(alert: SslAlert, ours: Option<ClientCertificate>) -> TlsError {
    let refused =
        |problem: &str, advice: &str| TlsError::new(TlsFault::Refused, problem).with_advice(advice);
    let wants_one = || {
        refused(
            "the server demands a client certificate, and none was shown",
            "give one by sslcert and sslkey",
        )
    };
    const ANOTHER: &str = "give another certificate and its key by sslcert and sslkey";
    match alert {
        SslAlert::CERTIFICATE_REQUIRED => wants_one(),
        SslAlert::HANDSHAKE_FAILURE if ours == Some(ClientCertificate::NotSent) => wants_one(),
        SslAlert::HANDSHAKE_FAILURE => refused(
            "the server refused the TLS handshake: it demands a client certificate, or there is \
             no cipher that both sides know",
            "give a client certificate by sslcert and sslkey, or look at the server's ssl_ciphers",
        ),
        SslAlert::UNKNOWN_CA => refused(
            "the server does not know the CA that signed our certificate (sslcert)",
            "use a certificate of a CA in the server's ssl_ca_file",
        ),
        SslAlert::CERTIFICATE_EXPIRED => refused(
            "the server refused our certificate (sslcert): it has expired, or is not valid yet by \
             the server's clock",
            ANOTHER,
        ),
        SslAlert::CERTIFICATE_REVOKED => refused(
            "the server refused our certificate (sslcert): it was revoked",
            ANOTHER,
        ),
        SslAlert::BAD_CERTIFICATE
        | SslAlert::UNSUPPORTED_CERTIFICATE
        | SslAlert::CERTIFICATE_UNKNOWN
        | SslAlert::ACCESS_DENIED
        | SslAlert::DECRYPT_ERROR => refused(
            &format!("the server refused our certificate (sslcert): {alert}"),
            ANOTHER,
        ),
        SslAlert::NO_APPLICATION_PROTOCOL => TlsError::settings(
            "the server does TLS but no Postgres behind it (ALPN 'postgresql' was refused)",
        )
        .with_advice("look at host and port"),
        SslAlert::UNRECOGNIZED_NAME => {
            TlsError::settings("the server knows no host of this name (SNI)")
                .with_advice("look at host, or set sslsni=0")
        }
        alert => TlsError::new(
            TlsFault::Broken,
            format!("the server ended the TLS connection: {alert}"),
        ),
    }
}

fn alert_of(error: &SslError) -> Option<SslAlert> {
    let errors = error.ssl_error()?.errors();
    errors
        .iter()
        .filter(|error| error.library_code() == reason::LIBRARY)
        .find_map(|error| SslAlert::from_reason_code(error.reason_code()))
}

fn has_reason(error: &SslError, wanted: impl Fn(i32) -> bool) -> bool {
    let errors = error
        .ssl_error()
        .map(ErrorStack::errors)
        .unwrap_or_default();
    errors
        .iter()
        .any(|error| error.library_code() == reason::LIBRARY && wanted(error.reason_code()))
}

/// TLS broke for a reason of its own.
pub(super) fn failed_later(error: &SslError) -> TlsError {
    let why = error.ssl_error().map_or_else(|| error.to_string(), reason);
    TlsError::new(TlsFault::Broken, format!("TLS failed: {why}"))
}

/// The server went away before it said a word, and it had asked for a certificate.
pub(super) fn hung_up_in_doubt() -> TlsError {
    TlsError::new(
        TlsFault::Broken,
        "the server closed the connection right after the TLS handshake",
    )
    .with_advice(
        "if it goes on, the server may not accept our certificate, or demand one (sslcert, sslkey)",
    )
}

pub(super) fn broken(error: &io::Error) -> TlsError {
    let text = format!("the connection broke in the TLS handshake: {error}");
    TlsError::new(TlsFault::Broken, text)
}

/// What OpenSSL should never refuse.
pub(super) fn internal(error: &ErrorStack) -> TlsError {
    TlsError::settings(format!("can't set up TLS: {}", reason(error)))
}

/// The last word of OpenSSL, without its code's innards.
pub(super) fn reason(error: &ErrorStack) -> String {
    let last = error.errors().iter().rev().find_map(|error| error.reason());
    last.unwrap_or("OpenSSL does not say why").to_owned()
}

/// A name of a certificate as people know it: its common name, or what there is.
fn called(name: &X509NameRef) -> String {
    let text = |entry: &openssl::x509::X509NameEntryRef| {
        let text = String::from_utf8_lossy(entry.data().as_slice()).into_owned();
        text.replace(char::is_control, "?")
    };
    let common = name.entries_by_nid(Nid::COMMONNAME).next();
    let any = || name.entries().last();
    common.or_else(any).map_or_else(
        || "without a name".to_owned(),
        |entry| format!("'{}'", text(entry)),
    )
}
