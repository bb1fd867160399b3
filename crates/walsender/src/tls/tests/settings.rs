//! What the settings name on disk.

use super::*;

#[test]
fn missing_root_is_an_error_only_where_it_is_needed() {
    let home = Home::new();
    for mode in ["allow", "prefer", "require"] {
        for more in ["", "sslrootcert=/nonexistent/ca.crt"] {
            let settings = home.settings(&format!("sslmode={mode} {more}"));
            assert!(files::prepare(&settings).unwrap().root.is_none());
        }
    }
    for mode in ["verify-ca", "verify-full"] {
        let failure = home.failure(&format!("sslmode={mode}"));
        let path = home.path("root.crt");
        let expected = format!(
            "root certificate file '{}' does not exist; ",
            path.display()
        );
        assert!(failure.starts_with(&expected), "{failure}");
        assert!(failure.contains("sslrootcert=system"), "{failure}");
    }
    let root = home.put_certificate("root.crt", &CERTIFICATES.authority.certificate);
    for mode in ["prefer", "require", "verify-full"] {
        let settings = home.settings(&format!("sslmode={mode}"));
        assert_eq!(files::prepare(&settings).unwrap().root, Some(root.clone()));
    }
    let settings = home.settings("sslrootcert=system");
    assert!(files::prepare(&settings).unwrap().root.is_none());
}

#[test]
fn files_that_are_there_have_to_be_right() {
    let home = Home::new();
    let junk = home.put("junk", b"junk", 0o600);
    let junk = junk.display();
    let half = home.put("half", b"-----BEGIN CERTIFICATE-----\nAAAA\n", 0o600);
    for (text, expected) in [
        (
            format!("sslrootcert={junk}"),
            "holds no certificate; put one in PEM format there",
        ),
        (
            format!("sslrootcert={}", half.display()),
            "holds a broken certificate",
        ),
        (format!("sslcert={junk}"), "holds no certificate"),
    ] {
        let failure = home.failure(&text);
        assert!(failure.contains(expected), "{failure}");
    }
    home.put_certificate("root.crt", &CERTIFICATES.authority.certificate);
    for (text, expected) in [
        (format!("sslcrl={junk}"), "can't use the revocation list"),
        ("sslcrl=/nonexistent".to_owned(), "No such file"),
        (
            "sslcrldir=/nonexistent".to_owned(),
            "can't use sslcrldir '/nonexistent'",
        ),
    ] {
        let failure = home.failure(&text);
        assert!(failure.contains(expected), "{failure}");
    }
}

#[test]
fn key_has_to_be_there_closed_to_others_and_the_certificates_own() {
    let home = Home::with_client();
    files::prepare(&home.settings("")).unwrap();
    let key = home.path("postgresql.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let failure = home.failure("");
    let fix = format!("(mode 0644); chmod 600 '{}'", key.display());
    assert!(failure.contains(&fix), "{failure}");

    let other = identity("other", &[], None, 1).key;
    home.put(
        "postgresql.key",
        &other.private_key_to_pem_pkcs8().unwrap(),
        0o600,
    );
    assert!(
        home.failure("")
            .contains("does not belong to the certificate")
    );

    fs::remove_file(&key).unwrap();
    assert!(
        home.failure("")
            .contains("does not exist; name the file by sslkey")
    );
    fs::create_dir(&key).unwrap();
    assert!(home.failure("").contains("is not a regular file"));
    files::prepare(&home.settings("sslcertmode=disable")).unwrap();

    let junk = home.put("junk", b"junk", 0o600);
    let failure = home.failure(&format!("sslkey={}", junk.display()));
    assert!(
        failure.contains("holds no private key that can be used"),
        "{failure}"
    );
    let der = CERTIFICATES.client.key.private_key_to_der().unwrap();
    let der = home.put("der", &der, 0o600);
    files::prepare(&home.settings(&format!("sslkey={}", der.display()))).unwrap();
}

#[test]
fn encrypted_key_is_opened_by_its_password_and_none_is_asked_for() {
    let home = Home::with_client();
    let key = &CERTIFICATES.client.key;
    let modern = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"hush");
    let rsa = key.rsa().unwrap();
    let old = rsa.private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"hush");
    for pem in [modern.unwrap(), old.unwrap()] {
        home.put("postgresql.key", &pem, 0o600);
        files::prepare(&home.settings("sslpassword=hush")).unwrap();
        let failure = home.failure("");
        assert!(
            failure.contains("is encrypted; give its password by sslpassword"),
            "{failure}"
        );
        let failure = home.failure("sslpassword=wrong");
        assert!(failure.contains("sslpassword does not open"), "{failure}");
        assert!(!failure.contains("wrong"), "{failure}");
    }
}

#[test]
fn hash_of_a_certificate_is_that_of_its_signature_but_never_a_weak_one() {
    let pem = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tls/certificates");
        X509::from_pem(&fs::read(path.join(name)).unwrap()).unwrap()
    };
    for (name, digest) in [
        ("rsa-sha1.crt", Some(MessageDigest::sha256())),
        ("rsa-sha384.crt", Some(MessageDigest::sha384())),
        ("pss-sha512.crt", Some(MessageDigest::sha512())),
        ("ed25519.crt", None),
    ] {
        let certificate = pem(name);
        match (binding::end_point(&certificate), digest) {
            (Ok(hash), Some(digest)) => {
                assert_eq!(hash[..], *certificate.digest(digest).unwrap(), "{name}");
            }
            (Err(why), None) => assert!(why.contains("names no hash"), "{why}"),
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}
