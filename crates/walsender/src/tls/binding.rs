//! What binds an authentication to the TLS connection: `tls-server-end-point` of RFC 5929, a hash
//! of the server's certificate.

use openssl::{hash::MessageDigest, nid::Nid, x509::X509Ref};

/// DER tags.
const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;

/// The hash, by the function that the certificate's signature uses, but no weaker one than SHA-256.
/// The error is a sentence.
pub(super) fn end_point(certificate: &X509Ref) -> Result<Vec<u8>, String> {
    let nid = certificate.signature_algorithm().object().nid();
    let digest = if nid == Nid::RSASSAPSS {
        certificate.to_der().ok().and_then(|der| pss_digest(&der))
    } else {
        nid.signature_algorithms()
            .and_then(|algorithms| usable(algorithms.digest))
    };
    let hash = digest.and_then(|digest| certificate.digest(digest).ok());
    hash.map(|hash| hash.to_vec()).ok_or_else(|| {
        let name = nid.long_name().unwrap_or("an unknown algorithm");
        format!(
            "authentication can't be bound to the TLS connection: the signature of the server's \
             certificate ({name}) names no hash"
        )
    })
}

fn usable(digest: Nid) -> Option<MessageDigest> {
    match digest {
        Nid::MD5 | Nid::SHA1 => Some(MessageDigest::sha256()),
        digest => MessageDigest::from_nid(digest),
    }
}

/// The hash function in the parameters of an RSASSA-PSS signature (RFC 4055, 3.1), of a whole
/// certificate in DER.
fn pss_digest(der: &[u8]) -> Option<MessageDigest> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (_, after_body) = value(certificate, SEQUENCE)?;
    let (algorithm, _) = value(after_body, SEQUENCE)?;
    let (_, parameters) = value(algorithm, OBJECT)?;
    let (parameters, _) = value(parameters, SEQUENCE)?;
    // Without it SHA-1 is meant, which is too weak to be used here.
    let Some((hash, _)) = value(parameters, CONTEXT_0) else {
        return Some(MessageDigest::sha256());
    };
    let (hash, _) = value(hash, SEQUENCE)?;
    let (object, _) = value(hash, OBJECT)?;
    match object {
        // 1.3.14.3.2.26
        [0x2b, 0x0e, 0x03, 0x02, 0x1a] => Some(MessageDigest::sha256()),
        // 2.16.840.1.101.3.4.2.*
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, function] => match function {
            1 => Some(MessageDigest::sha256()),
            2 => Some(MessageDigest::sha384()),
            3 => Some(MessageDigest::sha512()),
            4 => Some(MessageDigest::sha224()),
            _ => None,
        },
        _ => None,
    }
}

/// The contents of the value at the start of `der`, if it has this tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| (length << 8) | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    (found == tag)
        .then(|| rest.split_at_checked(length))
        .flatten()
}
