//! What the tables can't show: time limits, what is told of a connection that someone meddled
//! with, and files that change.

use std::{
    error::Error as _,
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use walpost_walsender::{Conninfo, Error};

use crate::{
    certificates::Certificates,
    fake::{self, Admission, Answer, Manner},
    ours::{ask, whole_text},
};

/// Certificates without a server of Postgres.
fn certificates() -> (TempDir, Certificates) {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(directory.path());
    (directory, certificates)
}

async fn connect(port: u16, rest: &str) -> Result<String, Error> {
    ask(&conninfo(port, rest)).await
}

fn conninfo(port: u16, rest: &str) -> Conninfo {
    let text =
        format!("host=localhost hostaddr=127.0.0.1 port={port} dbname=d user=u sslsni=0 {rest}");
    Conninfo::parse(&text, &|_| None).unwrap()
}

/// The server is silent at some point; the one limit has to hold at each.
async fn assert_given_up(manner: Manner, rest: &str) {
    let (_directory, certificates) = certificates();
    let port = fake::start(manner, &certificates);
    let begin = Instant::now();
    let error = connect(port, &format!("connect_timeout=1 {rest}"))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{}", whole_text(&error));
    let elapsed = begin.elapsed();
    assert!(
        elapsed >= Duration::from_secs(1) && elapsed < Duration::from_secs(10),
        "{elapsed:?}"
    );
}

#[tokio::test]
async fn server_that_never_answers_the_question_for_tls_is_given_up_in_time() {
    assert_given_up(Manner::answering(Answer::Silence), "sslmode=require").await;
    assert_given_up(Manner::answering(Answer::Silence), "sslmode=prefer").await;
}

#[tokio::test]
async fn server_that_is_silent_in_the_handshake_is_given_up_in_time() {
    let silent = Manner::answering(Answer::SilentHandshake);
    assert_given_up(silent, "sslmode=require").await;
    assert_given_up(silent, "sslmode=prefer").await;
    assert_given_up(silent, "sslmode=require sslnegotiation=direct").await;
}

#[tokio::test]
async fn server_that_is_silent_at_authentication_is_given_up_in_time() {
    let silent = Manner::answering(Answer::Yes).admitting(Admission::Silence);
    assert_given_up(silent, "sslmode=require").await;
    assert_given_up(silent, "sslmode=disable").await;
    assert_given_up(silent, "sslmode=allow").await;
}

#[tokio::test]
async fn data_behind_the_answer_to_the_question_for_tls_is_refused() {
    let (_directory, certificates) = certificates();
    let port = fake::start(Manner::answering(Answer::Injected), &certificates);
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let root = certificates.path("root.crt");
        let error = connect(port, &format!("sslmode={mode} sslrootcert={root}"))
            .await
            .unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("more than one byte"), "{mode}: {cause}");
    }
}

#[tokio::test]
async fn root_certificates_are_read_anew_at_each_connect() {
    let (directory, certificates) = certificates();
    let port = fake::start(Manner::answering(Answer::Yes), &certificates);
    let root = directory.path().join("root.crt");
    let conninfo = conninfo(
        port,
        &format!("sslmode=verify-full sslrootcert={}", root.display()),
    );
    for (name, connects) in [
        ("root-other.crt", false),
        ("root.crt", true),
        ("root-garbage.crt", false),
        ("root-bundle.crt", true),
    ] {
        fs::copy(certificates.path(name), &root).unwrap();
        assert_eq!(ask(&conninfo).await.is_ok(), connects, "{name}");
    }
    fs::remove_file(&root).unwrap();
    ask(&conninfo).await.unwrap_err();
}

#[tokio::test]
async fn revocations_are_read_anew_at_each_connect() {
    let (directory, certificates) = certificates();
    let port = fake::start(Manner::answering(Answer::Yes), &certificates);
    let list = directory.path().join("root.crl");
    let conninfo = conninfo(
        port,
        &format!(
            "sslmode=verify-full sslrootcert={} sslcrl={}",
            certificates.path("root.crt"),
            list.display()
        ),
    );
    for (name, connects) in [
        ("old.crl", false),
        ("revoked.crl", true),
        ("other.crl", false),
    ] {
        fs::copy(certificates.path(name), &list).unwrap();
        assert_eq!(ask(&conninfo).await.is_ok(), connects, "{name}");
    }
}

#[tokio::test]
async fn client_certificates_are_read_anew_at_each_connect() {
    let (directory, certificates) = certificates();
    let port = fake::start(Manner::answering(Answer::Yes).demanding(), &certificates);
    let [certificate, key] = ["crt", "key"].map(|end| directory.path().join(end));
    let conninfo = conninfo(
        port,
        &format!(
            "sslmode=require sslcert={} sslkey={}",
            certificate.display(),
            key.display()
        ),
    );
    for (name, connects) in [
        ("client-other", false),
        ("client", true),
        ("client-expired", false),
        ("client-chain", true),
    ] {
        fs::copy(certificates.path(&format!("{name}.crt")), &certificate).unwrap();
        fs::copy(certificates.path(&format!("{name}.key")), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let result = ask(&conninfo).await;
        assert_eq!(result.is_ok(), connects, "{name}: {result:?}");
    }
}
