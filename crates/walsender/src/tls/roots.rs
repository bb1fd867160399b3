//! The roots that the operating system trusts: `sslrootcert=system`.
//!
//! OpenSSL looks for them where `SSL_CERT_FILE` and `SSL_CERT_DIR` say, or else where it was built
//! to look. The system's own OpenSSL finds them there, as libpq's does. One that is a part of the
//! binary was built on another machine: where its places are empty, distributions' are tried.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use openssl::ssl::SslContextBuilder;

use super::{TlsError, explain};

/// Where distributions keep all roots in one file.
const FILES: [&str; 5] = [
    // Debian, Ubuntu, Alpine, Arch
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    // Amazon Linux, and older ones of Red Hat
    "/etc/pki/tls/certs/ca-bundle.crt",
    // SUSE
    "/etc/ssl/ca-bundle.pem",
    // macOS
    "/etc/ssl/cert.pem",
];

/// Variables that OpenSSL knows.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Where the roots are.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Where OpenSSL looks.
    Default,
    File(PathBuf),
}

/// Has OpenSSL trust them.
pub(super) fn load(builder: &mut SslContextBuilder) -> Result<(), TlsError> {
    let is_named = VARIABLES.iter().any(|name| env::var_os(name).is_some());
    let loaded = match find(is_named, built_to_look(), &FILES) {
        Some(Place::Default) => builder.set_default_verify_paths(),
        Some(Place::File(path)) => builder.set_ca_file(path),
        None => {
            return Err(TlsError::settings(
                "sslrootcert=system, and no root certificates of the operating system are found",
            )
            .with_advice(
                "install them (ca-certificates), name their file by SSL_CERT_FILE, or give the \
                 certificate of the server's CA by sslrootcert=FILE",
            ));
        }
    };
    loaded.map_err(|error| explain::internal(&error))
}

fn find(is_named: bool, built_to_look: Option<&Path>, files: &[impl AsRef<Path>]) -> Option<Place> {
    if is_named || built_to_look.is_some_and(has_roots) {
        return Some(Place::Default);
    }
    let mut files = files.iter().map(AsRef::as_ref);
    let found = files.find(|path| path.is_file())?;
    Some(Place::File(found.to_owned()))
}

/// OpenSSL's own directory, out of a text such as `OPENSSLDIR: "/usr/lib/ssl"`.
fn built_to_look() -> Option<&'static Path> {
    let (_, quoted) = openssl::version::dir().split_once('"')?;
    quoted.strip_suffix('"').map(Path::new)
}

/// Whether the file or the directory that OpenSSL looks for below its own holds something.
fn has_roots(directory: &Path) -> bool {
    let certificates = fs::read_dir(directory.join("certs"));
    directory.join("cert.pem").is_file()
        || certificates.is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_those_of_openssl_or_else_those_of_the_distribution() {
        let home = tempfile::tempdir().unwrap();
        let (own, system) = (home.path().join("own"), home.path().join("system.crt"));
        let files = [home.path().join("missing"), system.clone()];
        assert_eq!(find(false, Some(&own), &files), None);
        assert_eq!(find(true, Some(&own), &files), Some(Place::Default));

        fs::write(&system, "").unwrap();
        let distribution = Some(Place::File(system));
        assert_eq!(find(false, Some(&own), &files), distribution);
        assert_eq!(find(false, None, &files), distribution);
        fs::create_dir_all(own.join("certs")).unwrap();
        assert_eq!(find(false, Some(&own), &files), distribution, "empty");

        fs::write(own.join("certs/0a775a30.0"), "").unwrap();
        assert_eq!(find(false, Some(&own), &files), Some(Place::Default));
        fs::remove_dir_all(own.join("certs")).unwrap();
        fs::write(own.join("cert.pem"), "").unwrap();
        assert_eq!(find(false, Some(&own), &files), Some(Place::Default));
    }

    #[test]
    fn openssl_tells_where_it_was_built_to_look() {
        assert!(built_to_look().is_some_and(Path::is_absolute));
    }
}
