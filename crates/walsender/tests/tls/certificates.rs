//! Certificates, keys and revocation lists of the tests, made anew by each run: none can expire in
//! the repository, and no private key lies there.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use openssl::{
    asn1::{Asn1Integer, Asn1Time},
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    symm::Cipher,
    x509::{
        X509, X509Builder, X509Crl, X509CrlBuilder, X509Name, X509RevokedBuilder,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, CrlNumber, ExtendedKeyUsage,
            SubjectAlternativeName, SubjectKeyIdentifier,
        },
    },
};

/// Opens the encrypted keys; no error may show it.
pub(crate) const PASSPHRASE: &str = "planted-passphrase-4711";

const DAY: i64 = 24 * 3600;

/// The role that client certificates are for.
pub(crate) const CERTIFIED_ROLE: &str = "certified";

/// What a certificate says, apart from its issuer.
#[derive(Clone, Copy)]
struct Subject<'a> {
    common_name: &'a str,
    dns: &'a [&'a str],
    ip: &'a [&'a str],
    /// Days from now of its begin and its end.
    valid: (i64, i64),
    is_authority: bool,
    /// Good for clients, and so for no server.
    is_client: bool,
}

impl<'a> Subject<'a> {
    fn named(common_name: &'a str) -> Self {
        Self {
            common_name,
            dns: &[],
            ip: &[],
            valid: (-1, 2),
            is_authority: false,
            is_client: false,
        }
    }

    fn dns(self, dns: &'a [&'a str]) -> Self {
        Self { dns, ..self }
    }

    fn ip(self, ip: &'a [&'a str]) -> Self {
        Self { ip, ..self }
    }

    fn valid(self, begin_days: i64, end_days: i64) -> Self {
        let valid = (begin_days, end_days);
        Self { valid, ..self }
    }

    fn for_clients(self) -> Self {
        let is_client = true;
        Self { is_client, ..self }
    }

    fn authority(self) -> Self {
        let is_authority = true;
        Self {
            is_authority,
            ..self
        }
    }
}

/// A certificate with its key.
struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

impl Identity {
    fn authority(name: &str, issuer: Option<&Self>) -> Self {
        Self::new(ec_key(), Subject::named(name).authority(), issuer)
    }

    fn issue(&self, subject: Subject<'_>) -> Self {
        Self::new(ec_key(), subject, Some(self))
    }

    /// Without an issuer it is signed by itself.
    fn new(key: PKey<Private>, subject: Subject<'_>, issuer: Option<&Self>) -> Self {
        let digest = MessageDigest::sha256();
        Self::with_digest(key, subject, issuer, digest)
    }

    fn with_digest(
        key: PKey<Private>,
        subject: Subject<'_>,
        issuer: Option<&Self>,
        digest: MessageDigest,
    ) -> Self {
        let name = name(subject.common_name);
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&serial()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder
            .set_issuer_name(issuer.map_or(&*name, |issuer| issuer.certificate.subject_name()))
            .unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&days(subject.valid.0)).unwrap();
        builder.set_not_after(&days(subject.valid.1)).unwrap();
        if subject.is_authority {
            let constraints = BasicConstraints::new().critical().ca().build().unwrap();
            builder.append_extension(constraints).unwrap();
        }
        if subject.is_client {
            let usage = ExtendedKeyUsage::new().client_auth().build().unwrap();
            builder.append_extension(usage).unwrap();
        }
        let context = builder.x509v3_context(None, None);
        let identifier = SubjectKeyIdentifier::new().build(&context).unwrap();
        builder.append_extension(identifier).unwrap();
        if !subject.dns.is_empty() || !subject.ip.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for dns in subject.dns {
                names.dns(dns);
            }
            for ip in subject.ip {
                names.ip(ip);
            }
            let names = names.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        }
        let signer = issuer.map_or(&key, |issuer| &issuer.key);
        builder.sign(signer, digest).unwrap();
        let certificate = builder.build();
        Self { certificate, key }
    }

    fn certificate_pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }

    /// A list of what this authority revoked.
    fn revocations(&self, revoked: &[&X509], end_days: i64) -> X509Crl {
        let mut builder = X509CrlBuilder::new().unwrap();
        let issuer = self.certificate.subject_name();
        builder.set_issuer_name(issuer).unwrap();
        builder.set_last_update(&days(-3)).unwrap();
        builder.set_next_update(&days(end_days)).unwrap();
        for certificate in revoked {
            let mut entry = X509RevokedBuilder::new().unwrap();
            entry
                .set_serial_number(certificate.serial_number())
                .unwrap();
            entry.set_revocation_date(&days(-3)).unwrap();
            builder.add_revoked(entry.build()).unwrap();
        }
        let certificates = X509Builder::new().unwrap();
        let context = certificates.x509v3_context(Some(&self.certificate), None);
        let authority = AuthorityKeyIdentifier::new()
            .keyid(true)
            .build(&context)
            .unwrap();
        builder.append_extension(authority).unwrap();
        let number = CrlNumber::new(BigNum::from_u32(1).unwrap()).unwrap();
        builder.append_extension(number.build().unwrap()).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        builder.build().unwrap()
    }
}

/// All the files, in the directory of a server, which removes them with its own.
pub(crate) struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes them in `directory/tls`. Server keys belong to whoever owns `directory/data`, where
    /// there is a server.
    pub(crate) fn make(directory: &Path) -> Self {
        let files = Self {
            directory: directory.join("tls"),
        };
        fs::create_dir(&files.directory).unwrap();
        fs::set_permissions(&files.directory, fs::Permissions::from_mode(0o755)).unwrap();
        let authority = Identity::authority("walpost test authority", None);
        let other = Identity::authority("another authority", None);
        let intermediate = Identity::authority("walpost test intermediate", Some(&authority));
        files.write_servers(&authority, &intermediate);
        files.write_roots(&authority, &other, &intermediate);
        files.write_clients(&authority, &other, &intermediate);
        if let Ok(owner) = fs::metadata(directory.join("data")) {
            files.give_server_keys_to(&owner);
        }
        files
    }

    fn give_server_keys_to(&self, owner: &fs::Metadata) {
        for entry in fs::read_dir(&self.directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("server-") && name.ends_with(".key") {
                chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            }
        }
    }

    /// The path of a file.
    ///
    /// # Panics
    ///
    /// When it was not made: a test that means a missing file writes its path itself.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.directory.join(name);
        assert!(path.exists(), "there is no {name}");
        path.to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.directory.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn write_identity(&self, name: &str, identity: &Identity) {
        self.write_chain(name, identity, &[]);
    }

    /// The certificate file holds the certificates of `chain` too.
    fn write_chain(&self, name: &str, identity: &Identity, chain: &[&Identity]) {
        let mut certificates = identity.certificate_pem();
        for link in chain {
            certificates.extend(link.certificate_pem());
        }
        self.write(&format!("{name}.crt"), certificates, 0o644);
        self.write(&format!("{name}.key"), identity.key_pem(), 0o600);
    }

    fn write_servers(&self, authority: &Identity, intermediate: &Identity) {
        let localhost = Subject::named("localhost").dns(&["localhost"]);
        for (name, subject) in [
            ("server-right", localhost),
            (
                "server-address",
                Subject::named("db").ip(&["127.0.0.1", "::1"]),
            ),
            ("server-common-name", Subject::named("localhost")),
            ("server-common-address", Subject::named("127.0.0.1")),
            (
                "server-address-as-name",
                Subject::named("db").dns(&["127.0.0.1", "*.0.0.2"]),
            ),
            (
                "server-name-beside-address",
                Subject::named("localhost").ip(&["127.0.0.1"]),
            ),
            (
                "server-address-beside-name",
                Subject::named("127.0.0.1").dns(&["localhost"]),
            ),
            (
                "server-wildcard",
                Subject::named("db").dns(&["*.example.test", "*", "d*.part.test", "*.top"]),
            ),
            ("server-common-wildcard", Subject::named("*.example.test")),
            (
                "server-wrong",
                Subject::named("localhost").dns(&["other.example.test"]),
            ),
            ("server-expired", localhost.valid(-9, -1)),
            ("server-early", localhost.valid(1, 9)),
            ("server-for-clients", localhost.for_clients()),
        ] {
            self.write_identity(name, &authority.issue(subject));
        }
        let by_intermediate = intermediate.issue(localhost);
        self.write_chain("server-chain", &by_intermediate, &[intermediate]);
        self.write_identity("server-without-chain", &by_intermediate);
        let own = Identity::new(ec_key(), localhost.authority(), None);
        self.write_identity("server-self-signed", &own);
        self.write("root-self-signed.crt", own.certificate_pem(), 0o644);
        let old = Subject::named("old authority").authority().valid(-9, -1);
        let old = Identity::new(ec_key(), old, None);
        self.write_identity("server-old-root", &old.issue(localhost));
        self.write("root-old.crt", old.certificate_pem(), 0o644);
        let revoked = authority.issue(localhost);
        self.write_identity("server-revoked", &revoked);
        self.write_revocations(authority, intermediate, &revoked);
        self.write_signed_otherwise(authority, localhost);
    }

    /// Certificates that differ in how they are signed.
    fn write_signed_otherwise(&self, authority: &Identity, subject: Subject<'_>) {
        for (name, digest) in [
            ("server-sha384", MessageDigest::sha384()),
            ("server-sha512", MessageDigest::sha512()),
        ] {
            let identity = Identity::with_digest(ec_key(), subject, Some(authority), digest);
            self.write_identity(name, &identity);
        }
        let rsa = Identity::new(rsa_key(), subject, None);
        self.write_identity("server-rsa", &rsa);
        let key = PKey::generate_ed25519().unwrap();
        let edwards = Identity::with_digest(key, subject, None, MessageDigest::null());
        self.write_identity("server-ed25519", &edwards);
        // The crate can't sign this way.
        self.write("server-rsa-pss.key", rsa.key_pem(), 0o600);
        let output = Command::new("openssl")
            .args(["req", "-x509", "-new", "-sha256", "-days", "2"])
            .args(["-sigopt", "rsa_padding_mode:pss", "-subj", "/CN=localhost"])
            .arg("-key")
            .arg(self.path("server-rsa-pss.key"))
            .arg("-out")
            .arg(self.directory.join("server-rsa-pss.crt"))
            .output()
            .expect("openssl is installed");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
    }

    fn write_roots(&self, authority: &Identity, other: &Identity, intermediate: &Identity) {
        let [authority, other, intermediate] =
            [authority, other, intermediate].map(Identity::certificate_pem);
        self.write("root.crt", &authority, 0o644);
        self.write("root-other.crt", &other, 0o644);
        self.write("root-intermediate.crt", &intermediate, 0o644);
        let bundle = [&*other, &*intermediate, &*authority].concat();
        self.write("root-bundle.crt", bundle, 0o644);
        let words = [b"some words\n", &*authority, b"and more\n"].concat();
        self.write("root-words.crt", words, 0o644);
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        self.write("root-broken.crt", [&*authority, broken].concat(), 0o644);
        self.write("root-garbage.crt", "no certificate", 0o644);
        self.write("root-empty.crt", "", 0o644);
    }

    fn write_revocations(&self, authority: &Identity, intermediate: &Identity, revoked: &Identity) {
        let stranger = Identity::authority("another authority", None);
        let list = authority.revocations(&[&revoked.certificate], 2);
        let of_intermediate = intermediate.revocations(&[&revoked.certificate], 2);
        let pem = list.to_pem().unwrap();
        self.write("revoked.crl", &pem, 0o644);
        let of_intermediate = of_intermediate.to_pem().unwrap();
        let chain = [&*pem, &*of_intermediate].concat();
        self.write("revoked-intermediate.crl", of_intermediate, 0o644);
        self.write("revoked-chain.crl", chain, 0o644);
        let old = authority.revocations(&[], -1);
        self.write("old.crl", old.to_pem().unwrap(), 0o644);
        let other = stranger.revocations(&[], 2);
        self.write("other.crl", other.to_pem().unwrap(), 0o644);
        self.write("garbage.crl", "no list", 0o644);
        // OpenSSL finds lists in a directory by the hash of their issuer's name.
        let hash = authority.certificate.subject_name_hash();
        fs::create_dir(self.directory.join("revoked")).unwrap();
        self.write(&format!("revoked/{hash:08x}.r0"), &pem, 0o644);
        fs::create_dir(self.directory.join("revoked-nothing")).unwrap();
    }

    fn write_clients(&self, authority: &Identity, other: &Identity, intermediate: &Identity) {
        let subject = Subject::named(CERTIFIED_ROLE);
        let right = authority.issue(subject);
        self.write_identity("client", &right);
        self.write_identity("client-other", &other.issue(subject));
        self.write_identity(
            "client-somebody",
            &authority.issue(Subject::named("somebody")),
        );
        self.write_identity("client-expired", &authority.issue(subject.valid(-9, -1)));
        let by_intermediate = intermediate.issue(subject);
        self.write_chain("client-chain", &by_intermediate, &[intermediate]);
        self.write_identity("client-without-chain", &by_intermediate);
        self.write("client-garbage.crt", "no certificate", 0o644);

        let pem = right.key_pem();
        for mode in [0o400, 0o640, 0o644, 0o660] {
            self.write(&format!("client-{mode:03o}.key"), &pem, mode);
        }
        self.write("client-garbage.key", "no key", 0o600);
        let both = [right.certificate_pem(), pem].concat();
        self.write("client-both.pem", both, 0o600);
        let elliptic = right.key.ec_key().unwrap();
        let parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC \
                           PARAMETERS-----\n";
        let elliptic = elliptic.private_key_to_pem().unwrap();
        self.write(
            "client-parameters.key",
            [parameters, &*elliptic].concat(),
            0o600,
        );
        let der = right.certificate.to_der().unwrap();
        self.write("client-der.crt", der, 0o644);
        let der = right.key.private_key_to_der().unwrap();
        self.write("client-der.key", der, 0o600);
        let (cipher, passphrase) = (Cipher::aes_256_cbc(), PASSPHRASE.as_bytes());
        let encrypted = right
            .key
            .private_key_to_pem_pkcs8_passphrase(cipher, passphrase);
        self.write("client-encrypted.key", encrypted.unwrap(), 0o600);
        let traditional = right.key.ec_key().unwrap();
        let traditional = traditional.private_key_to_pem_passphrase(cipher, passphrase);
        self.write("client-traditional.key", traditional.unwrap(), 0o600);
    }
}

fn name(common_name: &str) -> X509Name {
    let mut builder = X509Name::builder().unwrap();
    builder
        .append_entry_by_nid(Nid::COMMONNAME, common_name)
        .unwrap();
    builder.build()
}

fn serial() -> Asn1Integer {
    let mut number = BigNum::new().unwrap();
    let any = openssl::bn::MsbOption::MAYBE_ZERO;
    number.rand(120, any, false).unwrap();
    number.to_asn1_integer().unwrap()
}

fn days(from_now: i64) -> Asn1Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    Asn1Time::from_unix(now + from_now * DAY).unwrap()
}

fn ec_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// One for the whole run: it takes long to find.
fn rsa_key() -> PKey<Private> {
    static KEY: OnceLock<PKey<Private>> = OnceLock::new();
    KEY.get_or_init(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap())
        .clone()
}
