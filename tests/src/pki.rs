//! A certificate authority for tests: certificates that are good, expired, or made out to others.

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkcs12::Pkcs12,
    pkey::{PKey, Private},
    stack::Stack,
    symm::Cipher,
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName},
    },
};

/// An authority that signs certificates.
#[derive(Debug)]
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate with its private key.
#[derive(Debug)]
pub struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    /// A new one, valid from yesterday on.
    ///
    /// # Panics
    ///
    /// When OpenSSL can't make keys.
    pub fn new(name: &str) -> Self {
        let key = new_key();
        let mut builder = builder(name, &key, &days_from_now(30));
        let constraints = BasicConstraints::new().critical().ca().build();
        let usage = KeyUsage::new()
            .critical()
            .key_cert_sign()
            .crl_sign()
            .build();
        for extension in [constraints, usage] {
            let extension = extension.expect(MAKES);
            builder.append_extension(extension).expect(MAKES);
        }
        let issuer = name_of(name);
        builder.set_issuer_name(&issuer).expect(MAKES);
        builder.sign(&key, MessageDigest::sha256()).expect(MAKES);
        Self {
            certificate: builder.build(),
            key,
        }
    }

    /// A certificate for these host names and addresses, good for servers and clients.
    ///
    /// # Panics
    ///
    /// When OpenSSL does not make it.
    pub fn issue(&self, common_name: &str, hosts: &[&str]) -> Identity {
        self.issue_until(common_name, hosts, &days_from_now(10))
    }

    /// As [`Authority::issue`], but out of date since yesterday.
    ///
    /// # Panics
    ///
    /// When OpenSSL does not make it.
    pub fn issue_expired(&self, common_name: &str, hosts: &[&str]) -> Identity {
        self.issue_until(common_name, hosts, &days_from_now(-1))
    }

    fn issue_until(&self, common_name: &str, hosts: &[&str], end: &Asn1TimeRef) -> Identity {
        let key = new_key();
        let mut builder = builder(common_name, &key, end);
        let mut usage = ExtendedKeyUsage::new();
        let usage = usage.server_auth().client_auth().build().expect(MAKES);
        builder.append_extension(usage).expect(MAKES);
        if !hosts.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for host in hosts {
                match host.parse::<std::net::IpAddr>() {
                    Ok(_) => names.ip(host),
                    Err(_) => names.dns(host),
                };
            }
            let context = builder.x509v3_context(Some(&self.certificate), None);
            let names = names.build(&context).expect(MAKES);
            builder.append_extension(names).expect(MAKES);
        }
        let issuer = self.certificate.subject_name();
        builder.set_issuer_name(issuer).expect(MAKES);
        builder
            .sign(&self.key, MessageDigest::sha256())
            .expect(MAKES);
        Identity {
            certificate: builder.build(),
            key,
        }
    }

    /// The authority's certificate, as PEM.
    pub fn pem(&self) -> String {
        text(self.certificate.to_pem())
    }
}

impl Identity {
    /// The certificate, as PEM.
    pub fn certificate_pem(&self) -> String {
        text(self.certificate.to_pem())
    }

    /// The private key, as PEM of PKCS #8.
    pub fn key_pem(&self) -> String {
        text(self.key.private_key_to_pem_pkcs8())
    }

    /// The private key, as PEM that a passphrase protects.
    pub fn encrypted_key_pem(&self, passphrase: &str) -> String {
        let cipher = Cipher::aes_256_cbc();
        text(
            self.key
                .private_key_to_pem_pkcs8_passphrase(cipher, passphrase.as_bytes()),
        )
    }

    /// Both in a PKCS #12 store, with the authority's certificate.
    ///
    /// # Panics
    ///
    /// When OpenSSL does not make it.
    pub fn pkcs12(&self, authority: &Authority, password: &str) -> Vec<u8> {
        let mut chain = Stack::new().expect(MAKES);
        chain.push(authority.certificate.clone()).expect(MAKES);
        let mut builder = Pkcs12::builder();
        builder
            .name("client")
            .pkey(&self.key)
            .cert(&self.certificate);
        let store = builder.ca(chain).build2(password).expect(MAKES);
        store.to_der().expect(MAKES)
    }

    pub(crate) fn native(&self) -> (&X509, &PKey<Private>) {
        (&self.certificate, &self.key)
    }
}

fn builder(common_name: &str, key: &PKey<Private>, end: &Asn1TimeRef) -> X509Builder {
    let mut builder = X509Builder::new().expect(MAKES);
    builder.set_version(2).expect(MAKES);
    let mut serial = BigNum::new().expect(MAKES);
    serial.rand(120, MsbOption::MAYBE_ZERO, false).expect(MAKES);
    let serial = serial.to_asn1_integer().expect(MAKES);
    builder.set_serial_number(&serial).expect(MAKES);
    builder
        .set_subject_name(&name_of(common_name))
        .expect(MAKES);
    builder.set_not_before(&days_from_now(-2)).expect(MAKES);
    builder.set_not_after(end).expect(MAKES);
    builder.set_pubkey(key).expect(MAKES);
    builder
}

fn name_of(common_name: &str) -> openssl::x509::X509Name {
    let mut name = X509NameBuilder::new().expect(MAKES);
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)
        .expect(MAKES);
    name.build()
}

fn days_from_now(days: i64) -> Asn1Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("it is later than 1970").as_secs();
    let now = i64::try_from(now).expect("seconds fit");
    Asn1Time::from_unix(now + days * 86_400).expect(MAKES)
}

pub(crate) fn new_key() -> PKey<Private> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect(MAKES);
    PKey::from_ec_key(EcKey::generate(&curve).expect(MAKES)).expect(MAKES)
}

fn text(pem: Result<Vec<u8>, openssl::error::ErrorStack>) -> String {
    String::from_utf8(pem.expect(MAKES)).expect("PEM is ASCII")
}

const MAKES: &str = "OpenSSL makes keys and certificates";
