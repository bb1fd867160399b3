//! Passwords on a broker, as a request on the wire: the client library of the tests has none for
//! them.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use openssl::{hash::MessageDigest, pkcs5::pbkdf2_hmac};

use super::Kafka;

impl Kafka {
    /// A user who can log in by SCRAM-SHA-256 with this password, and with no other one from now
    /// on. Connections that stand go on.
    ///
    /// # Panics
    ///
    /// When the broker does not take it.
    #[track_caller]
    pub fn set_password(&self, user: &str, password: &str) {
        let mut stream = TcpStream::connect(self.brokers()).expect("the broker listens");
        let request = alter_credentials(user, password);
        let length = i32::try_from(request.len()).expect("a short request");
        stream.write_all(&length.to_be_bytes()).expect(SPEAKS);
        stream.write_all(&request).expect(SPEAKS);

        let mut length = [0; 4];
        stream.read_exact(&mut length).expect(SPEAKS);
        let length = usize::try_from(u32::from_be_bytes(length)).expect("a short answer");
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).expect(SPEAKS);
        // Correlation id, tags, throttling, count of one, the user's name; then a code.
        let code = 4 + 1 + 4 + 1 + 1 + user.len();
        assert_eq!(answer[code..code + 2], [0, 0], "{answer:?}");
    }
}

/// Version 0 of the request `AlterUserScramCredentials` (protocol guide, key 51), whose lengths are
/// one more than they say.
fn alter_credentials(user: &str, password: &str) -> Vec<u8> {
    const SHA_256: u8 = 1;
    const ITERATIONS: i32 = 4096;
    let salt = *b"the tests' salt";
    let mut salted = [0; 32];
    let digest = MessageDigest::sha256();
    pbkdf2_hmac(password.as_bytes(), &salt, 4096, digest, &mut salted).expect("OpenSSL hashes");
    let mut request = Vec::new();
    request.extend(51_i16.to_be_bytes());
    request.extend(0_i16.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    request.extend(5_i16.to_be_bytes());
    request.extend(b"users");
    let (no_tags, nothing_deleted, one) = (0, 1, 2);
    request.extend([no_tags, nothing_deleted, one]);
    put(&mut request, user.as_bytes());
    request.push(SHA_256);
    request.extend(ITERATIONS.to_be_bytes());
    put(&mut request, &salt);
    put(&mut request, &salted);
    request.extend([no_tags, no_tags]);
    request
}

fn put(request: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).expect("short").checked_add(1);
    request.push(length.filter(|length| *length < 128).expect("short"));
    request.extend(bytes);
}

const SPEAKS: &str = "the broker speaks its protocol";
