//! Sessions and streams through TLS with a real server.

use std::{
    error::Error as _, fs, io::Write, os::unix::fs::PermissionsExt, path::Path, process::Command,
    sync::OnceLock, time::Duration,
};

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use tokio::time::timeout;
use walpost_pgoutput::{CopyMessage, Lsn, Message};
use walpost_walsender::{
    Connection, Conninfo, Error, Fill, Mode, StartReplication, StreamMessage, TlsFault,
};

use crate::cluster::{Cluster, conninfo, options};

const DEADLINE: Duration = Duration::from_secs(60);

const HBA: &str = "
local all postgres trust
hostssl all scram_user 127.0.0.1/32 scram-sha-256
hostssl all cert_user 127.0.0.1/32 cert
hostnossl all plain_user 127.0.0.1/32 trust
hostssl all demanded_user 127.0.0.1/32 trust clientcert=verify-full
host all md5_user 127.0.0.1/32 md5
host all cleartext_user 127.0.0.1/32 password
hostssl all postgres 127.0.0.1/32 trust
";

/// A server with TLS, and the files of its clients.
struct TlsServer {
    cluster: &'static Cluster,
    files: &'static Path,
}

impl TlsServer {
    fn shared() -> &'static Self {
        static SERVER: OnceLock<TlsServer> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let cluster = Cluster::own();
        let files = cluster.socket_directory();
        let authority = signed("Test CA", None);
        let server = signed("db.example", Some(&authority));
        let client = signed("cert_user", Some(&authority));
        put(files, "ca.crt", &authority.0.to_pem().unwrap());
        put(files, "server.crt", &server.0.to_pem().unwrap());
        put(
            files,
            "server.key",
            &server.1.private_key_to_pem_pkcs8().unwrap(),
        );
        put(files, "client.crt", &client.0.to_pem().unwrap());
        put(
            files,
            "client.key",
            &client.1.private_key_to_pem_pkcs8().unwrap(),
        );
        // The server's own user must own its key.
        let status = Command::new("chown")
            .arg(format!(
                "--reference={}",
                files.join("data/PG_VERSION").display()
            ))
            .args([
                files.join("server.key"),
                files.join("server.crt"),
                files.join("ca.crt"),
            ])
            .status()
            .unwrap();
        assert!(status.success());
        fs::write(files.join("data/pg_hba.conf"), HBA).unwrap();
        cluster.psql(
            "postgres",
            "CREATE ROLE cert_user LOGIN REPLICATION; \
             CREATE ROLE plain_user LOGIN REPLICATION; \
             CREATE ROLE demanded_user LOGIN REPLICATION; \
             SET password_encryption = 'scram-sha-256'; \
             CREATE ROLE scram_user LOGIN REPLICATION PASSWORD 'bound'; \
             CREATE ROLE cleartext_user LOGIN REPLICATION PASSWORD 'clear'; \
             SET password_encryption = 'md5'; \
             CREATE ROLE md5_user LOGIN REPLICATION PASSWORD 'digest'",
        );
        for (name, file) in [
            ("ssl_ca_file", "ca.crt"),
            ("ssl_cert_file", "server.crt"),
            ("ssl_key_file", "server.key"),
        ] {
            let path = files.join(file);
            let sql = format!("ALTER SYSTEM SET {name} = '{}'", path.display());
            cluster.psql("postgres", &sql);
        }
        cluster.psql("postgres", "ALTER SYSTEM SET ssl = on");
        cluster.psql("postgres", "SELECT pg_reload_conf()");
        let server = Self { cluster, files };
        crate::cluster::wait_until("the server speaks TLS", || {
            cluster.psql("postgres", "SHOW ssl") == "on"
        });
        server
    }

    fn conninfo(&self, more: &str) -> Conninfo {
        let (port, ca) = (self.cluster.port(), self.files.join("ca.crt"));
        conninfo(&format!(
            "host=db.example hostaddr=127.0.0.1 port={port} dbname=postgres sslrootcert={} {more}",
            ca.display()
        ))
    }

    fn client(&self) -> String {
        let file = |name: &str| self.files.join(name).display().to_string();
        format!(
            "sslcert={} sslkey={}",
            file("client.crt"),
            file("client.key")
        )
    }
}

fn put(files: &Path, name: &str, contents: &[u8]) {
    let path = files.join(name);
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A certificate for a name, with its key; without an issuer, one that may issue others.
fn signed(name: &str, issuer: Option<&(X509, PKey<Private>)>) -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let from = Asn1Time::days_from_now(0).unwrap();
    builder.set_not_before(&from).unwrap();
    let until = Asn1Time::days_from_now(2).unwrap();
    builder.set_not_after(&until).unwrap();
    builder.set_pubkey(&key).unwrap();
    let signer = if let Some((issuer, signer)) = issuer {
        builder.set_issuer_name(issuer.subject_name()).unwrap();
        let mut names = SubjectAlternativeName::new();
        let names = names.dns(name).build(&builder.x509v3_context(None, None));
        builder.append_extension(names.unwrap()).unwrap();
        signer
    } else {
        builder.set_issuer_name(&subject).unwrap();
        let constraints = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(constraints).unwrap();
        &key
    };
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

async fn connect(conninfo: &Conninfo) -> Result<Connection, Error> {
    Connection::connect(conninfo, &options(Mode::Replication)).await
}

/// Whether the session has TLS, by the server's word.
async fn has_tls(connection: &mut Connection) -> bool {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    connection.query(sql).await.unwrap()[0].get(0) == Some("t")
}

fn cause(error: &Error) -> String {
    error.source().unwrap().to_string()
}

#[tokio::test]
async fn modes_lead_to_tls_or_not_as_the_server_allows() {
    let server = TlsServer::shared();
    for (mode, user, expected) in [
        ("disable", "plain_user", Some(false)),
        ("allow", "plain_user", Some(false)),
        ("prefer", "plain_user", Some(false)),
        ("require", "plain_user", None),
        ("disable", "postgres", None),
        ("allow", "postgres", Some(true)),
        ("prefer", "postgres", Some(true)),
        ("require", "postgres", Some(true)),
        ("verify-ca", "postgres", Some(true)),
        ("verify-full", "postgres", Some(true)),
    ] {
        let conninfo = server.conninfo(&format!("user={user} sslmode={mode}"));
        match (connect(&conninfo).await, expected) {
            (Ok(mut connection), Some(expected)) => {
                assert_eq!(has_tls(&mut connection).await, expected, "{mode} {user}");
                connection.close().await;
            }
            (Err(error), None) => assert_eq!(error.sqlstate(), Some("28000"), "{mode} {user}"),
            (Ok(_), None) => panic!("{mode} {user}: no error"),
            (Err(error), Some(_)) => panic!("{mode} {user}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn server_without_tls_is_used_or_refused() {
    let port = Cluster::shared().port();
    let text = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    for mode in ["allow", "prefer"] {
        let mut connection = connect(&conninfo(&format!("{text} sslmode={mode}")))
            .await
            .unwrap();
        assert!(!has_tls(&mut connection).await);
    }
    let error = connect(&conninfo(&format!("{text} sslmode=require")))
        .await
        .unwrap_err();
    assert_eq!(error.tls(), Some(TlsFault::Unsupported));
    assert!(error.advice().unwrap().contains("set ssl=on"), "{error:?}");
    let direct = format!("{text} sslmode=require sslnegotiation=direct");
    let error = connect(&conninfo(&direct)).await.unwrap_err();
    assert!(error.tls().is_some(), "{error:?}");
}

#[tokio::test]
async fn direct_negotiation_is_for_servers_that_know_it() {
    let server = TlsServer::shared();
    let text = "user=postgres sslmode=verify-full";
    let plain = connect(&server.conninfo(text)).await.unwrap();
    let direct = connect(&server.conninfo(&format!("{text} sslnegotiation=direct"))).await;
    if plain.server_version() >= Some(170_000) {
        assert!(has_tls(&mut direct.unwrap()).await);
    } else {
        let error = direct.unwrap_err();
        assert_eq!(error.tls(), Some(TlsFault::Broken), "{error:?}");
        assert!(
            error.advice().unwrap().contains("PostgreSQL older than 17"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn socket_in_the_file_system_never_has_tls() {
    let server = TlsServer::shared();
    let (files, port) = (server.files.display(), server.cluster.port());
    let text =
        format!("host={files} port={port} user=postgres dbname=postgres sslmode=verify-full");
    connect(&conninfo(&text)).await.unwrap();
}

#[tokio::test]
async fn certificate_for_another_host_is_refused() {
    let server = TlsServer::shared();
    let port = server.cluster.port();
    let ca = server.files.join("ca.crt");
    let text = |host: &str| {
        let ca = ca.display();
        conninfo(&format!(
            "{host} port={port} user=postgres dbname=postgres sslmode=verify-full sslrootcert={ca}"
        ))
    };
    let error = connect(&text("host=127.0.0.1")).await.unwrap_err();
    assert_eq!(error.tls(), Some(TlsFault::Untrusted));
    assert!(
        cause(&error).contains("is for 'db.example', not for '127.0.0.1'"),
        "{error:?}"
    );
    let error = connect(&text("hostaddr=127.0.0.1")).await.unwrap_err();
    assert_eq!(error.tls(), Some(TlsFault::Settings));
    assert!(
        error.advice().unwrap().contains("add host=NAME"),
        "{error:?}"
    );
}

#[tokio::test]
async fn authentication_is_bound_to_the_connection_where_it_can_be() {
    let server = TlsServer::shared();
    let user = "user=scram_user password=bound";
    for more in [
        "sslmode=require channel_binding=require",
        "sslmode=require channel_binding=prefer require_auth=scram-sha-256",
        "sslmode=require channel_binding=disable",
        "sslmode=require require_auth=!md5,!password,!none",
        "channel_binding=require ssl_max_protocol_version=TLSv1.2",
    ] {
        let mut connection = connect(&server.conninfo(&format!("{user} {more}")))
            .await
            .unwrap();
        assert!(has_tls(&mut connection).await, "{more}");
    }
    for (text, expected) in [
        (
            "user=cleartext_user password=clear channel_binding=require",
            "a password in the clear, and channel_binding=require demands",
        ),
        ("user=postgres channel_binding=require", "without binding"),
        (
            "user=md5_user password=digest require_auth=scram-sha-256",
            "by MD5, which require_auth",
        ),
        (
            "user=md5_user password=digest require_auth=!md5",
            "by MD5, which require_auth",
        ),
        (
            "user=postgres require_auth=scram-sha-256",
            "without asking for what require_auth",
        ),
        (
            "user=postgres require_auth=!none",
            "without asking for what require_auth",
        ),
        (
            "user=md5_user password=digest require_auth=none",
            "by MD5, which require_auth",
        ),
    ] {
        let error = connect(&server.conninfo(text)).await.unwrap_err();
        assert!(error.is_authentication(), "{text}: {error:?}");
        assert!(cause(&error).contains(expected), "{text}: {error:?}");
    }
    for text in [
        "user=postgres require_auth=none",
        "user=md5_user password=digest require_auth=md5,password",
        "user=cleartext_user password=clear require_auth=password sslmode=disable",
    ] {
        connect(&server.conninfo(text)).await.unwrap();
    }
}

#[tokio::test]
async fn client_certificate_lets_in_and_its_lack_is_told() {
    let server = TlsServer::shared();
    let client = server.client();
    for version in ["TLSv1.2", "TLSv1.3"] {
        let version = format!("ssl_max_protocol_version={version}");
        for more in ["", "sslcertmode=require", "require_auth=none"] {
            let text = format!("user=cert_user sslmode=verify-full {client} {version} {more}");
            connect(&server.conninfo(&text)).await.unwrap();
        }
        let text = format!("user=cert_user sslmode=verify-full {version}");
        let error = connect(&server.conninfo(&text)).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("28000"), "{error:?}");
        assert!(
            cause(&error).contains("valid client certificate"),
            "{error:?}"
        );
        let text = format!("user=demanded_user sslmode=require {client} {version}");
        let error = connect(&server.conninfo(&text)).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("28000"), "{error:?}");

        let text = format!("user=postgres sslmode=require sslcertmode=require {version}");
        let error = connect(&server.conninfo(&text)).await.unwrap_err();
        assert_eq!(error.tls(), Some(TlsFault::Settings));
        assert!(
            error.advice().unwrap().contains("give one by sslcert"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn certificate_that_the_server_does_not_know_is_refused_readably() {
    let server = TlsServer::shared();
    let stranger = signed("cert_user", None);
    put(server.files, "stranger.crt", &stranger.0.to_pem().unwrap());
    let key = stranger.1.private_key_to_pem_pkcs8().unwrap();
    put(server.files, "stranger.key", &key);
    let file = |name: &str| server.files.join(name).display().to_string();
    let (certificate, key) = (file("stranger.crt"), file("stranger.key"));
    for version in ["TLSv1.2", "TLSv1.3"] {
        let error = connect(&server.conninfo(&format!(
            "user=postgres sslmode=require sslcert={certificate} sslkey={key} \
             ssl_max_protocol_version={version}"
        )))
        .await
        .unwrap_err();
        assert_eq!(error.tls(), Some(TlsFault::Refused), "{version}: {error:?}");
        assert!(
            cause(&error).contains("does not know the CA"),
            "{version}: {error:?}"
        );
    }
}

#[tokio::test]
async fn wrong_password_is_told_as_it_is_although_the_other_way_fails_too() {
    let server = TlsServer::shared();
    for mode in ["allow", "prefer", "require"] {
        let text = format!("user=scram_user password=wrong sslmode={mode}");
        let error = connect(&server.conninfo(&text)).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("28P01"), "{mode}: {error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
}

#[tokio::test]
async fn rotated_root_is_read_at_the_next_connection() {
    let server = TlsServer::shared();
    let other = signed("Other CA", None);
    put(server.files, "rotated.crt", &other.0.to_pem().unwrap());
    let path = server.files.join("rotated.crt");
    let (port, shown) = (server.cluster.port(), path.display());
    let conninfo = conninfo(&format!(
        "host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=verify-ca \
         sslrootcert={shown}"
    ));
    let error = connect(&conninfo).await.unwrap_err();
    assert_eq!(error.tls(), Some(TlsFault::Untrusted), "{error:?}");
    let ca = fs::read(server.files.join("ca.crt")).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&ca).unwrap();
    connect(&conninfo).await.unwrap();
}

#[tokio::test]
async fn stream_brings_every_byte_through_tls() {
    const ROWS: usize = 100_000;
    let server = TlsServer::shared();
    let cluster = server.cluster;
    cluster.psql("postgres", "CREATE DATABASE bulk");
    cluster.psql("bulk", "CREATE TABLE items (id int PRIMARY KEY, body text)");
    cluster.psql("bulk", "CREATE PUBLICATION p FOR TABLE items");
    cluster.psql(
        "bulk",
        "SELECT pg_create_logical_replication_slot('bulk', 'pgoutput')",
    );
    let conninfo = {
        let (port, ca) = (cluster.port(), server.files.join("ca.crt"));
        conninfo(&format!(
            "host=db.example hostaddr=127.0.0.1 port={port} user=postgres dbname=bulk \
             sslmode=verify-full sslrootcert={}",
            ca.display()
        ))
    };
    let start = StartReplication {
        slot: "bulk",
        start: Lsn::new(0),
        publications: &["p"],
        binary: false,
        messages: false,
    };
    let connection = connect(&conninfo).await.unwrap();
    let mut stream = connection.start_replication(&start).await.unwrap();
    // Small rows, and now and then one of up to a megabyte.
    let body = "repeat(chr(97 + i % 26), CASE WHEN i % 5000 = 0 THEN i * 10 ELSE i % 400 END)";
    cluster.psql(
        "bulk",
        &format!("INSERT INTO items SELECT i, {body} FROM generate_series(1, {ROWS}) i"),
    );
    let mut seen = 0;
    while seen < ROWS {
        match stream.next().unwrap() {
            Some(StreamMessage::Copy(CopyMessage::XLogData(data))) => {
                if let Message::Insert(insert) = Message::decode(data.data).unwrap() {
                    seen += 1;
                    check_row(seen, &insert);
                }
            }
            Some(_) => {}
            None => {
                timeout(DEADLINE, stream.readable()).await.unwrap().unwrap();
                // As the relay does, read again without waiting as long as something comes.
                while let Fill::Read { full: true, .. } = stream.try_fill().unwrap() {}
            }
        }
    }
    stream.finish(DEADLINE).await.unwrap();
    let log = fs::read_to_string(server.files.join("data/log")).unwrap();
    assert!(!log.contains("SSL error"), "{log}");
}

fn check_row(number: usize, insert: &walpost_pgoutput::Insert) {
    let mut cells = insert.new.cells();
    let mut text = || match cells.next() {
        Some(walpost_pgoutput::Cell::Text(bytes)) => bytes.to_vec(),
        _ => panic!("no text"),
    };
    assert_eq!(text(), number.to_string().into_bytes());
    let body = text();
    let length = if number.is_multiple_of(5000) {
        number * 10
    } else {
        number % 400
    };
    assert_eq!(body.len(), length, "{number}");
    let letter = b'a' + u8::try_from(number % 26).unwrap();
    assert!(body.iter().all(|byte| *byte == letter), "{number}");
}

#[tokio::test]
async fn failed_write_gives_the_reason_that_the_server_had_sent() {
    let server = TlsServer::shared();
    let mut connection = connect(&server.conninfo("user=postgres sslmode=require"))
        .await
        .unwrap();
    let pid = connection.backend_pid();
    server.cluster.psql(
        "postgres",
        &format!("SELECT pg_terminate_backend({pid}, 10000)"),
    );
    let error = connection.query("SELECT 1").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57P01"), "{error:?}");
}
