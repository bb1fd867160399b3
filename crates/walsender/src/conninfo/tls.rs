//! What a connection string says of TLS and of authentication, before any file is read.

use std::path::PathBuf;

use secrecy::SecretString;

/// Whether to use TLS, and what of the server's certificate has to be right: libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// First without; with TLS when the server refuses that.
    Allow,
    /// First with TLS; without when the server has none, or refuses that.
    #[default]
    Prefer,
    /// TLS. The certificate is checked only where a root certificate is given or found.
    Require,
    /// TLS, and the certificate is signed by a root that is trusted.
    VerifyCa,
    /// As `VerifyCa`, and it is this host's.
    VerifyFull,
}

/// How TLS begins: `sslnegotiation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslNegotiation {
    /// The server is asked for TLS in its own protocol.
    #[default]
    Postgres,
    /// With the handshake at once (PostgreSQL 17 and later). Needs `sslmode` `require` or higher.
    Direct,
}

/// Whom to trust: `sslrootcert`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RootCert {
    /// `~/.postgresql/root.crt`, if it is there.
    #[default]
    Default,
    /// The certificates in this file.
    File(PathBuf),
    /// The roots of the operating system. Implies [`SslMode::VerifyFull`].
    System,
}

/// Whether to show a client certificate: `sslcertmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslCertMode {
    /// Never, even where there is one.
    Disable,
    /// When the server asks and there is one.
    #[default]
    Allow,
    /// The server has to ask for one.
    Require,
}

/// Whether SCRAM has to be bound to the TLS connection: `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both sides can.
    #[default]
    Prefer,
    /// Or no connection.
    Require,
}

/// A version of TLS: `ssl_min_protocol_version`, `ssl_max_protocol_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.0
    V1_0,
    /// TLS 1.1
    V1_1,
    /// TLS 1.2
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// A way to authenticate: the words of `require_auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// The password in the clear.
    Password,
    /// MD5.
    Md5,
    /// Kerberos; never used here.
    Gss,
    /// Windows; never used here.
    Sspi,
    /// SCRAM, bound to the channel or not.
    ScramSha256,
    /// A token; never used here.
    OAuth,
    /// The server asks for nothing.
    None,
}

/// Which methods the server may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RequireAuth {
    /// Any.
    #[default]
    Any,
    /// One of these.
    OneOf(Vec<AuthMethod>),
    /// Any but these.
    NoneOf(Vec<AuthMethod>),
}

/// All of a connection string that concerns TLS. Paths are not opened here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsSettings {
    /// `sslmode`
    pub mode: SslMode,
    /// `sslnegotiation`
    pub negotiation: SslNegotiation,
    /// `sslrootcert`
    pub root_cert: RootCert,
    /// `sslcert`; None: `~/.postgresql/postgresql.crt`, if it is there.
    pub cert: Option<PathBuf>,
    /// `sslkey`; None: `~/.postgresql/postgresql.key`.
    pub key: Option<PathBuf>,
    /// `sslpassword`: opens an encrypted key.
    pub key_password: Option<SecretString>,
    /// `sslcertmode`
    pub cert_mode: SslCertMode,
    /// `sslcrl`; None: `~/.postgresql/root.crl`, if it is there.
    pub crl: Option<PathBuf>,
    /// `sslcrldir`
    pub crl_dir: Option<PathBuf>,
    /// `sslsni`: the host's name is told to the server, if it is one.
    pub sni: bool,
    /// `ssl_min_protocol_version`
    pub min_protocol: Option<TlsVersion>,
    /// `ssl_max_protocol_version`
    pub max_protocol: Option<TlsVersion>,
    /// The home directory: the defaults lie in `.postgresql/` below it. None where there is none.
    pub home: Option<PathBuf>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            mode: SslMode::default(),
            negotiation: SslNegotiation::default(),
            root_cert: RootCert::default(),
            cert: None,
            key: None,
            key_password: None,
            cert_mode: SslCertMode::default(),
            crl: None,
            crl_dir: None,
            sni: true,
            min_protocol: Some(TlsVersion::V1_2),
            max_protocol: None,
            home: None,
        }
    }
}
