//! The server's side of SCRAM (RFC 5802, RFC 7677), which believes every client.

use std::io::{self, Read, Write};

use openssl::{
    base64::encode_block, hash::MessageDigest, pkcs5::pbkdf2_hmac, pkey::PKey, sha::sha256,
    sign::Signer,
};

use super::{authentication, body};
use crate::machine::PASSWORD;

const SALT: &[u8] = b"salt of the tests";
const ITERATIONS: usize = 4096;

/// Offers the mechanisms, and returns which one the client took, with what it says of binding: the
/// flag of its first message. Without a proof, what is sent in its place is wrong.
pub(super) fn authenticate(
    stream: &mut (impl Read + Write),
    mechanisms: &[&str],
    proves: bool,
) -> io::Result<String> {
    stream.write_all(&offer(mechanisms))?;
    let first = body(stream)?;
    let mut parts = first.splitn(2, |byte| *byte == 0);
    let mechanism = text(parts.next())?.to_owned();
    // After the name and a length.
    let first = text(parts.next().and_then(|rest| rest.get(4..)))?.to_owned();
    let mut fields = first.splitn(3, ',');
    let (flag, _) = (fields.next(), fields.next());
    let bare = fields.next().unwrap_or_default();
    let nonce = bare.split(",r=").nth(1).unwrap_or_default();
    let challenge = format!("r={nonce}server,s={},i={ITERATIONS}", encode_block(SALT));
    stream.write_all(&authentication(
        &[&[0, 0, 0, 11], challenge.as_bytes()].concat(),
    ))?;

    let last = body(stream)?;
    let last = text(Some(&last))?.to_owned();
    let without_proof = last.split(",p=").next().unwrap_or_default();
    let all = format!("{bare},{challenge},{without_proof}");
    let mut salted = [0; 32];
    let digest = MessageDigest::sha256();
    pbkdf2_hmac(PASSWORD.as_bytes(), SALT, ITERATIONS, digest, &mut salted)?;
    let key = hmac(&salted, b"Server Key")?;
    let mut proof = hmac(&key, all.as_bytes())?;
    if !proves {
        proof = sha256(&proof).to_vec();
    }
    let proof = format!("v={}", encode_block(&proof));
    stream.write_all(&authentication(
        &[&[0, 0, 0, 12], proof.as_bytes()].concat(),
    ))?;
    Ok(format!("{mechanism}, {}", flag.unwrap_or_default()))
}

/// The server's list of mechanisms.
pub(super) fn offer(mechanisms: &[&str]) -> Vec<u8> {
    let mut offer = vec![0, 0, 0, 10];
    for mechanism in mechanisms {
        offer.extend(mechanism.bytes());
        offer.push(0);
    }
    offer.push(0);
    authentication(&offer)
}

fn hmac(key: &[u8], data: &[u8]) -> io::Result<Vec<u8>> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    Ok(signer.sign_oneshot_to_vec(data)?)
}

fn text(bytes: Option<&[u8]>) -> io::Result<&str> {
    std::str::from_utf8(bytes.unwrap_or_default()).map_err(io::Error::other)
}
