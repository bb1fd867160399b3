//! What the settings name on disk, made into an OpenSSL context.
//!
//! Files that a default names may be missing; so may one that `sslrootcert` or `sslcert` names, as
//! libpq has it, unless the mode is to verify. One that is there has to be right. A revocation
//! list that is named but can't be read is an error here, where libpq goes on without it: whoever
//! names one wants it to be looked at. In no mode does that lead to a connection without TLS, which
//! libpq would have encrypted.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use openssl::{
    pkey::{PKey, Private},
    ssl::{
        SslContext, SslContextBuilder, SslFiletype, SslMethod, SslMode as OpensslMode, SslOptions,
        SslVerifyMode, SslVersion,
    },
    x509::{
        X509,
        store::{X509Lookup, X509StoreBuilderRef},
        verify::X509VerifyFlags,
    },
};
use secrecy::ExposeSecret;

use super::{
    ALPN, TlsError,
    explain::{self, Rejected},
    roots,
};
use crate::conninfo::{RootCert, SslCertMode, SslMode, TlsSettings, TlsVersion};

/// A context, and what is needed to explain why a handshake under it failed.
pub(super) struct Prepared {
    pub(super) context: SslContext,
    /// The file of the certificates that are trusted.
    pub(super) root: Option<PathBuf>,
    /// The certificate that was refused, once one was.
    pub(super) rejected: Arc<Mutex<Option<Rejected>>>,
}

/// Reads all files and sets up a context for one connection.
pub(super) fn prepare(settings: &TlsSettings) -> Result<Prepared, TlsError> {
    let internal = |error| explain::internal(&error);
    let mut builder = SslContextBuilder::new(SslMethod::tls_client()).map_err(internal)?;
    builder.set_mode(
        OpensslMode::AUTO_RETRY
            | OpensslMode::ACCEPT_MOVING_WRITE_BUFFER
            | OpensslMode::ENABLE_PARTIAL_WRITE,
    );
    // A renegotiation would make a read wait for a write.
    builder.set_options(
        SslOptions::NO_SSLV2
            | SslOptions::NO_SSLV3
            | SslOptions::NO_COMPRESSION
            | SslOptions::NO_RENEGOTIATION,
    );
    builder.set_alpn_protos(ALPN).map_err(internal)?;
    set_versions(&mut builder, settings)?;
    let rejected = Arc::new(Mutex::new(None));
    let root = trust(&mut builder, settings)?;
    if let Some(trust) = &root {
        let rejected = Arc::clone(&rejected);
        builder.set_verify_callback(SslVerifyMode::PEER, move |right, context| {
            if !right && let Ok(mut rejected) = rejected.lock() {
                *rejected = Some(Rejected::of(context));
            }
            right
        });
        if let Trust::File(_) = trust {
            let default = settings.default_file("root.crl");
            revoke(builder.cert_store_mut(), settings, default)?;
        } else {
            revoke(builder.cert_store_mut(), settings, None)?;
        }
    }
    identify(&mut builder, settings)?;
    Ok(Prepared {
        context: builder.build(),
        root: root.and_then(Trust::into_file),
        rejected,
    })
}

fn set_versions(builder: &mut SslContextBuilder, settings: &TlsSettings) -> Result<(), TlsError> {
    let version = |version| match version {
        TlsVersion::V1_0 => SslVersion::TLS1,
        TlsVersion::V1_1 => SslVersion::TLS1_1,
        TlsVersion::V1_2 => SslVersion::TLS1_2,
        TlsVersion::V1_3 => SslVersion::TLS1_3,
    };
    builder
        .set_min_proto_version(settings.min_protocol.map(version))
        .and_then(|()| builder.set_max_proto_version(settings.max_protocol.map(version)))
        .map_err(|error| explain::internal(&error))
}

/// Where trust comes from.
enum Trust {
    System,
    File(PathBuf),
}

impl Trust {
    fn into_file(self) -> Option<PathBuf> {
        match self {
            Self::System => None,
            Self::File(path) => Some(path),
        }
    }
}

/// Loads the roots. `None` when there are none, and none are needed: nothing is verified then.
fn trust(
    builder: &mut SslContextBuilder,
    settings: &TlsSettings,
) -> Result<Option<Trust>, TlsError> {
    let path = match &settings.root_cert {
        RootCert::System => {
            roots::load(builder)?;
            return Ok(Some(Trust::System));
        }
        RootCert::File(path) => Some(path.clone()),
        RootCert::Default => settings.default_file("root.crt"),
    };
    if let Some(path) = path.as_ref().filter(|path| path.metadata().is_ok()) {
        for certificate in read_certificates("sslrootcert", path)? {
            builder
                .cert_store_mut()
                .add_cert(certificate)
                .map_err(|error| explain::internal(&error))?;
        }
        return Ok(Some(Trust::File(path.clone())));
    }
    if settings.effective_mode() < SslMode::VerifyCa {
        return Ok(None);
    }
    let what = match path {
        Some(path) => format!("root certificate file '{}' does not exist", path.display()),
        None => "there is no home directory to look for a root certificate in".to_owned(),
    };
    Err(TlsError::settings(what).with_advice(
        "put the certificate of the server's CA there, name another file by sslrootcert, use the \
         operating system's roots by sslrootcert=system, or change sslmode so that the server's \
         certificate is not verified",
    ))
}

/// Loads the revocation lists. Where there is one, every certificate of the chain is looked up.
fn revoke(
    store: &mut X509StoreBuilderRef,
    settings: &TlsSettings,
    default: Option<PathBuf>,
) -> Result<(), TlsError> {
    let named = settings.crl.is_some() || settings.crl_dir.is_some();
    let file = match &settings.crl {
        Some(file) => Some(file.clone()),
        None => default.filter(|path| !named && path.metadata().is_ok()),
    };
    if let Some(path) = &file {
        let key = if named { "sslcrl" } else { "the default" };
        let unusable = |why: &str| {
            TlsError::settings(format!(
                "can't use the revocation list '{}' ({key}): {why}",
                path.display()
            ))
            .with_advice(
                "put lists in PEM format there, one for each CA of the server's chain, or name \
                 another file by sslcrl",
            )
            .finally()
        };
        fs::File::open(path).map_err(|error| unusable(&error.to_string()))?;
        let name = plain(path).ok_or_else(|| unusable("its name can't be passed on"))?;
        store
            .add_lookup(X509Lookup::file())
            .and_then(|lookup| lookup.load_crl_file(name, SslFiletype::PEM))
            .map_err(|error| unusable(&explain::reason(&error)))?;
    }
    if let Some(path) = &settings.crl_dir {
        let unusable = |why: &str| {
            TlsError::settings(format!("can't use sslcrldir '{}': {why}", path.display()))
                .with_advice("name a directory by sslcrldir that the relay's user can read")
        };
        fs::read_dir(path).map_err(|error| unusable(&error.to_string()))?;
        let name = plain(path).ok_or_else(|| unusable("its name can't be passed on"))?;
        store
            .add_lookup(X509Lookup::hash_dir())
            .and_then(|lookup| lookup.add_dir(name, SslFiletype::PEM))
            .map_err(|error| unusable(&explain::reason(&error)))?;
    }
    if file.is_none() && settings.crl_dir.is_none() {
        return Ok(());
    }
    store
        .set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
        .map_err(|error| explain::internal(&error))
}

/// A path as OpenSSL takes it.
fn plain(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| !path.contains('\0'))
}

/// Loads the client certificate and its key, where there is one and it may be shown.
fn identify(builder: &mut SslContextBuilder, settings: &TlsSettings) -> Result<(), TlsError> {
    if settings.cert_mode == SslCertMode::Disable {
        return Ok(());
    }
    let default = || settings.default_file("postgresql.crt");
    let Some(path) = settings.cert.clone().or_else(default) else {
        return Ok(());
    };
    match path.metadata() {
        Ok(_) => {}
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(unreadable("sslcert", &path, &error)),
    }
    let mut chain = read_certificates("sslcert", &path)?.into_iter();
    let Some(certificate) = chain.next() else {
        return Ok(());
    };
    let unusable = |error| {
        TlsError::settings(format!(
            "can't use the client certificate '{}': {}",
            path.display(),
            explain::reason(&error)
        ))
        .with_advice("name another certificate and its key by sslcert and sslkey")
    };
    builder.set_certificate(&certificate).map_err(unusable)?;
    for issuer in chain {
        builder.add_extra_chain_cert(issuer).map_err(unusable)?;
    }
    let default = || settings.default_file("postgresql.key");
    let Some(key_path) = settings.key.clone().or_else(default) else {
        return Err(TlsError::settings(format!(
            "there is a client certificate '{}' but no key",
            path.display()
        ))
        .with_advice("name the file of its key by sslkey"));
    };
    let key = read_key(&key_path, settings)?;
    let matches = certificate
        .public_key()
        .is_ok_and(|public| public.public_eq(&key));
    if !matches {
        return Err(TlsError::settings(format!(
            "the key '{}' does not belong to the certificate '{}'",
            key_path.display(),
            path.display()
        ))
        .with_advice("name the two that were made together (sslkey, sslcert)"));
    }
    builder.set_private_key(&key).map_err(unusable)
}

fn read_certificates(key: &str, path: &Path) -> Result<Vec<X509>, TlsError> {
    let pem = fs::read(path).map_err(|error| unreadable(key, path, &error))?;
    let certificates = X509::stack_from_pem(&pem).map_err(|error| {
        TlsError::settings(format!(
            "{key} '{}' holds a broken certificate: {}",
            path.display(),
            explain::reason(&error)
        ))
        .with_advice(format!(
            "put a whole certificate there, or name another file by {key}"
        ))
    })?;
    if certificates.is_empty() {
        return Err(
            TlsError::settings(format!("{key} '{}' holds no certificate", path.display()))
                .with_advice("put one in PEM format there (-----BEGIN CERTIFICATE-----)"),
        );
    }
    Ok(certificates)
}

fn read_key(path: &Path, settings: &TlsSettings) -> Result<PKey<Private>, TlsError> {
    let shown = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if is_missing(&error) => {
            return Err(TlsError::settings(format!(
                "there is a client certificate, but its key '{shown}' does not exist"
            ))
            .with_advice(
                "name the file by sslkey, or show no certificate by sslcertmode=disable",
            ));
        }
        Err(error) => return Err(unreadable("sslkey", path, &error)),
    };
    if !metadata.is_file() {
        return Err(
            TlsError::settings(format!("the key '{shown}' is not a regular file"))
                .with_advice("name the file of the key by sslkey"),
        );
    }
    let mode = metadata.mode() & 0o7777;
    // A system-wide key of root's may be readable for a group.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if mode & forbidden != 0 {
        return Err(TlsError::settings(format!(
            "the key '{shown}' is open to others (mode {mode:04o})"
        ))
        .with_advice(format!(
            "chmod 600 '{shown}' (a file of root's may have 0640)"
        )));
    }
    let bytes = fs::read(path).map_err(|error| unreadable("sslkey", path, &error))?;
    parse_key(&bytes, path, settings)
}

fn parse_key(bytes: &[u8], path: &Path, settings: &TlsSettings) -> Result<PKey<Private>, TlsError> {
    let shown = path.display();
    let password = settings
        .key_password
        .as_ref()
        .map_or("", |password| password.expose_secret());
    if password.contains('\0') {
        return Err(
            TlsError::settings("sslpassword holds a zero byte").with_advice("correct sslpassword")
        );
    }
    // With a password, also an empty one, OpenSSL never asks for one on the terminal.
    let error = match PKey::private_key_from_pem_passphrase(bytes, password.as_bytes()) {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    if let Ok(key) = PKey::private_key_from_der(bytes) {
        return Ok(key);
    }
    let encrypted = bytes.windows(9).any(|word| word == b"ENCRYPTED");
    Err(match (encrypted, password) {
        (true, "") => TlsError::settings(format!("the key '{shown}' is encrypted"))
            .with_advice("give its password by sslpassword"),
        (true, _) => TlsError::settings(format!(
            "sslpassword does not open the encrypted key '{shown}'"
        ))
        .with_advice("correct sslpassword"),
        (false, _) => TlsError::settings(format!(
            "'{shown}' (sslkey) holds no private key that can be used: {}",
            explain::reason(&error)
        ))
        .with_advice("name the file of the key by sslkey, in PEM or DER format"),
    })
}

fn unreadable(key: &str, path: &Path, error: &io::Error) -> TlsError {
    TlsError::settings(format!(
        "can't read the file '{}' ({key}): {error}",
        path.display()
    ))
    .with_advice(format!(
        "make it readable for the relay's user, or name another file by {key}"
    ))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

impl TlsSettings {
    fn default_file(&self, name: &str) -> Option<PathBuf> {
        let home = self.home.as_ref()?;
        Some(home.join(".postgresql").join(name))
    }
}
