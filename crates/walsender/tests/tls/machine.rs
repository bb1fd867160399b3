//! A server whose certificate and settings change between the cells.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    certificates::{CERTIFIED_ROLE, Certificates},
    server::{Server, Setup},
};

/// Of all roles that have one. No error may show it.
pub(crate) const PASSWORD: &str = "planted-password-0815";

/// A role's way in, by its name. What a client certificate is needed for is a database's matter:
/// the certificate names the role.
const HBA: &str = "
local all locked scram-sha-256
local all all trust
hostssl with_authority all all trust clientcert=verify-ca
hostssl with_name all all trust clientcert=verify-full
hostssl with_both all all scram-sha-256 clientcert=verify-full
hostssl with_certificate all all cert
hostssl all tls_only all trust
hostnossl all clear_only all trust
hostssl all tls_password all scram-sha-256
hostnossl all tls_password all trust
hostssl all clear_password all trust
hostnossl all clear_password all scram-sha-256
host all password all password
host all md5 all md5
host all scram all scram-sha-256
host all trusted all trust
host all certified all trust
";

/// What the server is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Phase {
    /// The name of its certificate; None: no TLS.
    pub(crate) certificate: Option<&'static str>,
    /// Whether it asks clients for a certificate, and takes those of the test authority.
    pub(crate) asks: bool,
    /// More lines of its configuration.
    pub(crate) settings: &'static str,
}

/// With the certificate that is right for `localhost`.
pub(crate) const RIGHT: Phase = Phase::certificate("server-right");

/// Without TLS.
pub(crate) const NO_TLS: Phase = Phase {
    certificate: None,
    asks: false,
    settings: "",
};

impl Phase {
    pub(crate) const fn certificate(name: &'static str) -> Self {
        Self {
            certificate: Some(name),
            asks: false,
            settings: "",
        }
    }

    pub(crate) const fn asking(self) -> Self {
        Self { asks: true, ..self }
    }

    pub(crate) const fn settings(self, settings: &'static str) -> Self {
        Self { settings, ..self }
    }
}

pub(crate) struct Machine {
    server: Server,
}

impl Machine {
    pub(crate) fn start(programs: &Path) -> Self {
        let config = "include_if_exists = '../phase.conf'\nmax_connections = 100";
        let server = Server::start(Setup {
            programs,
            config,
            hba: HBA,
            primary: "",
        });
        server.psql(
            "postgres",
            &format!(
                "create role trusted login; create role tls_only login; \
                 create role clear_only login; create role {CERTIFIED_ROLE} login; \
                 set password_encryption = 'scram-sha-256'; \
                 create role password login password '{PASSWORD}'; \
                 create role scram login password '{PASSWORD}'; \
                 create role locked login password '{PASSWORD}'; \
                 create role tls_password login password '{PASSWORD}'; \
                 create role clear_password login password '{PASSWORD}'; \
                 alter role {CERTIFIED_ROLE} password '{PASSWORD}'; \
                 set password_encryption = 'md5'; \
                 create role md5 login password '{PASSWORD}'"
            ),
        );
        for database in [
            "with_authority",
            "with_name",
            "with_both",
            "with_certificate",
        ] {
            server.psql("postgres", &format!("create database {database}"));
        }
        Self { server }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.server.directory()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory().join("data/log")).unwrap_or_default()
    }

    /// Changes the server to what the phase says, and waits until new sessions meet it so.
    pub(crate) fn enter(&self, phase: Phase, certificates: &Certificates) {
        static ENTERED: AtomicUsize = AtomicUsize::new(0);
        let tag = ENTERED.fetch_add(1, Ordering::Relaxed);
        let mut text = format!("walpost.phase = '{tag}'\n{}\n", phase.settings);
        if let Some(name) = phase.certificate {
            let certificate = certificates.path(&format!("{name}.crt"));
            let key = certificates.path(&format!("{name}.key"));
            text += &format!("ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\n");
        }
        if phase.asks {
            text += &format!("ssl_ca_file = '{}'\n", certificates.path("root.crt"));
        }
        let path = self.directory().join("phase.conf");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self.server.signal("HUP");
        let deadline = Instant::now() + Duration::from_secs(30);
        let query = "select current_setting('walpost.phase', true), current_setting('ssl')";
        let ssl = if phase.certificate.is_some() {
            "on"
        } else {
            "off"
        };
        while self.server.psql("postgres", query) != format!("{tag}|{ssl}") {
            assert!(
                Instant::now() < deadline,
                "the server does not take {phase:?}:\n{}",
                self.log()
            );
        }
        // It goes on with what it had, where it can't read the new files.
        let log = self.log();
        assert!(!log.contains("not reloaded"), "{phase:?}:\n{log}");
    }
}

/// The major version of the server among these programs.
pub(crate) fn major(programs: &Path) -> u32 {
    let output = Command::new(programs.join("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    let text = String::from_utf8(output.stdout).unwrap();
    let number = text.split_whitespace().nth(2).unwrap();
    let digits = number.split(|char: char| !char.is_ascii_digit()).next();
    digits.unwrap().parse().unwrap()
}
