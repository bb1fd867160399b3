//! Files, and handshakes with a TLS server in a thread.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::LazyLock,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    ssl::{
        AlpnError, ErrorCode, SslAcceptor, SslAcceptorBuilder, SslMethod, SslOptions, SslStream,
        SslVerifyMode, SslVersion, select_next_proto,
    },
    symm::Cipher,
    x509::{
        X509, X509CrlBuilder, X509Name, X509NameBuilder, X509Ref, X509RevokedBuilder,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, CrlNumber, SubjectAlternativeName,
            SubjectKeyIdentifier,
        },
    },
};
use tempfile::TempDir;
use tokio::{io::Interest, time::timeout};

use super::*;
use crate::{
    conninfo::{Conninfo, SslCertMode},
    socket::Socket,
};

mod handshakes;
mod records;
mod settings;

const DEADLINE: Duration = Duration::from_secs(20);

/// Who signs, or is signed.
struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

struct Certificates {
    authority: Identity,
    server: Identity,
    client: Identity,
}

static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
    let authority = identity("Test CA", &[], None, 1);
    let server = identity(
        "common.example",
        &["db.example", "10.0.0.7"],
        Some(&authority),
        1,
    );
    let client = identity("walpost", &[], Some(&authority), 1);
    Certificates {
        authority,
        server,
        client,
    }
});

fn name(common: &str) -> X509Name {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", common).unwrap();
    name.build()
}

/// A certificate that ends in so many days from now; without an issuer, one that may issue.
fn identity(common: &str, names: &[&str], issuer: Option<&Identity>, days: i64) -> Identity {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let subject = name(common);
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let from = Asn1Time::from_unix(now - 10 * 86_400).unwrap();
    let until = Asn1Time::from_unix(now + days * 86_400).unwrap();
    builder.set_not_before(&from).unwrap();
    builder.set_not_after(&until).unwrap();
    builder.set_pubkey(&key).unwrap();
    let (issuer_name, issuer_key) = match issuer {
        Some(issuer) => (issuer.certificate.subject_name(), &issuer.key),
        None => (&*subject, &key),
    };
    builder.set_issuer_name(issuer_name).unwrap();
    if issuer.is_none() {
        let extension = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(extension).unwrap();
        let extension = SubjectKeyIdentifier::new()
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(extension).unwrap();
    }
    if !names.is_empty() {
        let mut extension = SubjectAlternativeName::new();
        for name in names {
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => extension.ip(name),
                Err(_) => extension.dns(name),
            };
        }
        let extension = extension
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(extension).unwrap();
    }
    builder.sign(issuer_key, MessageDigest::sha256()).unwrap();
    Identity {
        certificate: builder.build(),
        key,
    }
}

/// A home directory with the files that a test puts there.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".postgresql")).unwrap();
        Self(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(".postgresql").join(name)
    }

    fn put(&self, name: &str, contents: &[u8], mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn put_certificate(&self, name: &str, certificate: &X509Ref) -> PathBuf {
        self.put(name, &certificate.to_pem().unwrap(), 0o644)
    }

    fn with_client() -> Self {
        let home = Self::new();
        let Identity { certificate, key } = &CERTIFICATES.client;
        home.put_certificate("postgresql.crt", certificate);
        home.put(
            "postgresql.key",
            &key.private_key_to_pem_pkcs8().unwrap(),
            0o600,
        );
        home
    }

    fn settings(&self, text: &str) -> TlsSettings {
        let home = self.0.path().to_str().unwrap().to_owned();
        let env = |name: &str| (name == "HOME").then(|| home.clone());
        Conninfo::parse(&format!("host=h user=u {text}"), &env)
            .unwrap()
            .tls
    }

    fn failure(&self, text: &str) -> String {
        match files::prepare(&self.settings(text)) {
            Ok(_) => panic!("no error: {text}"),
            Err(error) => {
                assert_eq!(error.fault, TlsFault::Settings, "{error}");
                error.told()
            }
        }
    }
}

/// A server for one connection. `serve` gets it after the handshake, if that succeeds.
fn server(
    configure: impl FnOnce(&mut SslAcceptorBuilder),
    serve: impl FnOnce(&mut SslStream<std::net::TcpStream>) + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor
        .set_certificate(&CERTIFICATES.server.certificate)
        .unwrap();
    acceptor.set_private_key(&CERTIFICATES.server.key).unwrap();
    acceptor.set_alpn_select_callback(|_, offered| {
        select_next_proto(ALPN, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    configure(&mut acceptor);
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        if let Ok(mut stream) = acceptor.accept(socket) {
            serve(&mut stream);
        }
    });
    (address, thread)
}

async fn connect_to(
    address: SocketAddr,
    settings: &TlsSettings,
    host: &str,
) -> Result<TlsStream, TlsError> {
    let socket = TcpStream::connect(address).await.unwrap();
    timeout(DEADLINE, connect(socket, settings, Some(host)))
        .await
        .unwrap()
}

/// Connects, and gives up the connection.
async fn verdict(
    configure: impl FnOnce(&mut SslAcceptorBuilder),
    settings: &TlsSettings,
    host: &str,
) -> Result<ClientCertificate, TlsError> {
    let (address, server) = server(configure, |_| {});
    let result = connect_to(address, settings, host).await;
    let result = result.map(|stream| stream.client_certificate());
    server.join().unwrap();
    result
}

async fn read(socket: &mut Socket) -> std::io::Result<BytesMut> {
    let mut buffer = BytesMut::with_capacity(1 << 20);
    loop {
        timeout(DEADLINE, socket.ready(Interest::READABLE))
            .await
            .unwrap()?;
        match socket.try_read(&mut (&mut buffer).limit(1 << 20)) {
            Ok(_) => return Ok(buffer),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
