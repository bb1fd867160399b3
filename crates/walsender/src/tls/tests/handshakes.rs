//! Whom to trust, and whom the server trusts.

use super::*;

#[tokio::test]
async fn certificate_is_compared_with_the_host_where_that_is_wanted() {
    let home = Home::new();
    home.put_certificate("root.crt", &CERTIFICATES.authority.certificate);
    let full = home.settings("sslmode=verify-full");
    for host in ["db.example", "DB.example", "10.0.0.7"] {
        verdict(|_| {}, &full, host).await.unwrap();
    }
    for host in ["other.example", "10.0.0.8", "common.example"] {
        let error = verdict(|_| {}, &full, host).await.unwrap_err();
        assert_eq!(error.fault, TlsFault::Untrusted);
        let expected =
            format!("the server's certificate is for 'db.example', '10.0.0.7', not for '{host}'; ");
        assert!(error.told().starts_with(&expected), "{error}");
    }
    for mode in ["verify-ca", "require", "prefer"] {
        let settings = home.settings(&format!("sslmode={mode}"));
        verdict(|_| {}, &settings, "other.example").await.unwrap();
    }
}

#[tokio::test]
async fn unknown_issuer_is_refused_wherever_a_root_is_known() {
    let home = Home::new();
    verdict(|_| {}, &home.settings("sslmode=require"), "h")
        .await
        .unwrap();
    let stranger = identity("Stranger", &[], None, 1);
    let root = home.put_certificate("root.crt", &stranger.certificate);
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let settings = home.settings(&format!("sslmode={mode}"));
        let error = verdict(|_| {}, &settings, "db.example").await.unwrap_err();
        assert_eq!(error.fault, TlsFault::Untrusted);
        let expected = format!(
            "the server's certificate ('common.example') is signed by ('Test CA'), and '{}' does \
             not hold that certificate; give",
            root.display()
        );
        assert!(error.told().starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn expired_certificate_is_refused_with_its_date() {
    let home = Home::new();
    home.put_certificate("root.crt", &CERTIFICATES.authority.certificate);
    let old = identity("old.example", &[], Some(&CERTIFICATES.authority), -2);
    let date = old.certificate.not_after().to_string();
    let configure = |acceptor: &mut SslAcceptorBuilder| {
        acceptor.set_certificate(&old.certificate).unwrap();
        acceptor.set_private_key(&old.key).unwrap();
    };
    let settings = home.settings("sslmode=verify-ca");
    let error = verdict(configure, &settings, "h").await.unwrap_err();
    let expected = format!("the server's certificate ('old.example') expired on {date}; ");
    assert!(error.told().starts_with(&expected), "{error}");
}

/// The authority's revocation list.
fn list(revoked: &[&X509Ref], days: u32) -> Vec<u8> {
    let mut builder = X509CrlBuilder::new().unwrap();
    let authority = &CERTIFICATES.authority;
    builder
        .set_issuer_name(authority.certificate.subject_name())
        .unwrap();
    builder
        .set_last_update(&Asn1Time::from_unix(1).unwrap())
        .unwrap();
    let until = match days {
        0 => Asn1Time::from_unix(2).unwrap(),
        days => Asn1Time::days_from_now(days).unwrap(),
    };
    builder.set_next_update(&until).unwrap();
    let throwaway = X509::builder().unwrap();
    let context = throwaway.x509v3_context(Some(&authority.certificate), None);
    let identifier = AuthorityKeyIdentifier::new().keyid(true).build(&context);
    builder.append_extension(identifier.unwrap()).unwrap();
    let number = CrlNumber::new(BigNum::from_u32(1).unwrap()).unwrap();
    builder.append_extension(number.build().unwrap()).unwrap();
    for certificate in revoked {
        let mut entry = X509RevokedBuilder::new().unwrap();
        entry
            .set_serial_number(certificate.serial_number())
            .unwrap();
        entry
            .set_revocation_date(&Asn1Time::from_unix(1).unwrap())
            .unwrap();
        builder.add_revoked(entry.build()).unwrap();
    }
    builder
        .sign(&authority.key, MessageDigest::sha256())
        .unwrap();
    builder.build().unwrap().to_pem().unwrap()
}

#[tokio::test]
async fn revoked_certificate_is_refused_by_file_and_by_directory() {
    let home = Home::new();
    home.put_certificate("root.crt", &CERTIFICATES.authority.certificate);
    let none = list(&[], 1);
    let revoked = list(&[&CERTIFICATES.server.certificate], 1);
    let hash = CERTIFICATES.authority.certificate.subject_name_hash();
    fs::create_dir(home.path("lists")).unwrap();
    let in_directory = format!("lists/{hash:08x}.r0");
    for (name, key) in [
        ("root.crl", String::new()),
        (
            "other.crl",
            format!("sslcrl={}", home.path("other.crl").display()),
        ),
        (
            &*in_directory,
            format!("sslcrldir={}", home.path("lists").display()),
        ),
    ] {
        let settings = home.settings(&format!("sslmode=verify-ca {key}"));
        home.put(name, &none, 0o644);
        verdict(|_| {}, &settings, "h").await.unwrap();
        home.put(name, &revoked, 0o644);
        let error = verdict(|_| {}, &settings, "h").await.unwrap_err();
        assert_eq!(error.fault, TlsFault::Untrusted);
        let expected = "the server's certificate ('common.example') was revoked by its issuer";
        assert!(error.to_string().starts_with(expected), "{name}: {error}");
        home.put(name, &list(&[], 0), 0o644);
        let error = verdict(|_| {}, &settings, "h").await.unwrap_err();
        assert!(
            error.to_string().contains("is out of date"),
            "{name}: {error}"
        );
        fs::remove_file(home.path(name)).unwrap();
    }
    let settings = format!(
        "sslmode=verify-ca sslcrldir={}",
        home.path("lists").display()
    );
    let error = verdict(|_| {}, &home.settings(&settings), "h")
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("hold no list of its issuer ('Test CA')"),
        "{error}"
    );
}

#[tokio::test]
async fn whether_the_server_saw_a_certificate_is_known() {
    let asks = |max: SslVersion| {
        move |acceptor: &mut SslAcceptorBuilder| {
            acceptor.set_max_proto_version(Some(max)).unwrap();
            acceptor.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        }
    };
    let with = Home::with_client();
    let without = Home::new();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for (home, text, expected) in [
            (&with, "", ClientCertificate::Sent),
            (&without, "", ClientCertificate::NotSent),
            (&with, "sslcertmode=disable", ClientCertificate::NotSent),
        ] {
            let settings = home.settings(text);
            let seen = verdict(asks(version), &settings, "h").await.unwrap();
            assert_eq!(seen, expected, "{version:?}");
        }
        let configure = |acceptor: &mut SslAcceptorBuilder| {
            acceptor.set_max_proto_version(Some(version)).unwrap();
        };
        let seen = verdict(configure, &with.settings(""), "h").await.unwrap();
        assert_eq!(seen, ClientCertificate::NotRequested, "{version:?}");
    }
    assert_eq!(with.settings("").cert_mode, SslCertMode::Allow);
}

#[tokio::test]
async fn refusal_of_a_certificate_comes_with_the_first_read() {
    let demand = |acceptor: &mut SslAcceptorBuilder| {
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    };
    for (home, expected) in [
        (Home::new(), "demands a client certificate"),
        (
            Home::with_client(),
            "does not know the CA that signed our certificate",
        ),
    ] {
        let (address, server) = server(demand, |_| {});
        let stream = connect_to(address, &home.settings(""), "h").await.unwrap();
        let mut socket = Socket::Tls(Box::new(stream));
        let error = read(&mut socket).await.unwrap_err();
        let error = error.downcast::<TlsError>().unwrap();
        assert_eq!(error.fault, TlsFault::Refused);
        assert!(error.to_string().contains(expected), "{error}");
        server.join().unwrap();
    }
}

#[tokio::test]
async fn versions_that_do_not_meet_are_named() {
    let home = Home::new();
    let old = |acceptor: &mut SslAcceptorBuilder| {
        acceptor
            .set_max_proto_version(Some(SslVersion::TLS1_2))
            .unwrap();
    };
    let settings = home.settings("ssl_min_protocol_version=TLSv1.3");
    let error = verdict(old, &settings, "h").await.unwrap_err();
    assert_eq!(error.fault, TlsFault::Settings);
    let expected = "no version of TLS from TLSv1.3 to the newest";
    assert!(error.to_string().contains(expected), "{error}");
}

#[tokio::test]
async fn direct_negotiation_needs_the_protocols_name() {
    let home = Home::new();
    let direct = home.settings("sslmode=require sslnegotiation=direct");
    verdict(|_| {}, &direct, "h").await.unwrap();
    let silent = |acceptor: &mut SslAcceptorBuilder| {
        acceptor.set_alpn_select_callback(|_, _| Err(AlpnError::NOACK));
    };
    let error = verdict(silent, &direct, "h").await.unwrap_err();
    assert!(
        error.to_string().contains("did not agree to the protocol"),
        "{error}"
    );
    let other = |acceptor: &mut SslAcceptorBuilder| {
        acceptor.set_alpn_select_callback(|_, _| Err(AlpnError::ALERT_FATAL));
    };
    let error = verdict(other, &direct, "h").await.unwrap_err();
    assert!(
        error.to_string().contains("no Postgres behind it"),
        "{error}"
    );
    verdict(silent, &home.settings("sslmode=require"), "h")
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_no_tls_is_told() {
    let settings = Home::new().settings("sslmode=require");
    for (bytes, expected) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "does not speak TLS",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak TLS"),
        (b"", "closed the connection in the TLS handshake"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            // Only what has been read does not reset the connection at its end.
            let _ = socket.read(&mut [0; 4096]).unwrap();
            socket.write_all(bytes).unwrap();
        });
        let error = connect_to(address, &settings, "h").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        server.join().unwrap();
    }
}
