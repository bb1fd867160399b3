//! A handshake of our own, for one question: what is wrong with a broker's certificate?
//!
//! librdkafka only says that the verification failed. OpenSSL knows whether the authority, the
//! dates or the name were the reason.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Ref, X509VerifyResult};

use crate::properties::Settings;
use crate::trouble::{Trouble, TroubleKind};

/// For connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(3);

/// `X509_V_ERR_CERT_HAS_EXPIRED`, `X509_V_ERR_CERT_NOT_YET_VALID`,
/// `X509_V_ERR_HOSTNAME_MISMATCH` and `X509_V_ERR_IP_ADDRESS_MISMATCH` of OpenSSL's `x509_vfy.h`.
const EXPIRED: i32 = 10;
const NOT_YET_VALID: i32 = 9;
const OTHER_HOST: i32 = 62;
const OTHER_ADDRESS: i32 = 64;

/// What the verification found, at the first certificate that it did not like.
struct Found {
    result: X509VerifyResult,
    subject: String,
    issuer: String,
    end: String,
    names: Vec<String>,
}

/// Why the certificate of `host:port` is refused; `None` where nothing more can be told.
pub(crate) fn verdict(address: &str, settings: &Settings) -> Option<Trouble> {
    let (host, _port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = look(address, host, settings)?;
    let Found {
        subject,
        issuer,
        end,
        names,
        ..
    } = &found;
    let code = found.result.as_raw();
    let (message, fix) = match code {
        EXPIRED => (
            format!("the certificate of the broker {address} ({subject}) expired on {end}"),
            "renew the broker's certificate; if it is new, look at this machine's clock".to_owned(),
        ),
        NOT_YET_VALID => (
            format!("the certificate of the broker {address} ({subject}) is not valid yet"),
            "look at this machine's clock".to_owned(),
        ),
        OTHER_HOST | OTHER_ADDRESS => (
            format!(
                "the certificate of the broker {address} is made out to {}, and not to {host}",
                names.join(", ")
            ),
            "name the broker in kafka.brokers as its certificate does, or have the name added to \
             the certificate; ssl.endpoint.identification.algorithm=none would let anybody with a \
             certificate of that authority answer"
                .to_owned(),
        ),
        _ => (
            format!(
                "the certificate of the broker {address} was issued by {issuer}, which is not \
                 trusted here: {}",
                found.result.error_string()
            ),
            trust_fix(settings),
        ),
    };
    Some(Trouble::new(TroubleKind::Configuration, message, fix))
}

fn trust_fix(settings: &Settings) -> String {
    let set = ["ssl.ca.location", "ssl.ca.pem"]
        .into_iter()
        .find(|name| settings.get(name).is_some());
    match set {
        Some(name) => format!("put the authority's certificate into {name}"),
        None => "set ssl.ca.location to a PEM file with that authority's certificate".to_owned(),
    }
}

fn look(address: &str, host: &str, settings: &Settings) -> Option<Found> {
    let target = address.to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&target, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    let found: Arc<Mutex<Option<Found>>> = Arc::default();
    let mut connector =
        connector(settings.get("ssl.ca.location"), settings.get("ssl.ca.pem")).ok()?;
    let seen = Arc::clone(&found);
    connector.set_verify_callback(SslVerifyMode::PEER, move |is_good, context| {
        if !is_good && let Some(certificate) = context.current_cert() {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get_or_insert_with(|| describe(certificate, context.error()));
        }
        is_good
    });
    let mut connect = connector.build().configure().ok()?;
    let is_checked = settings
        .get("ssl.endpoint.identification.algorithm")
        .is_none_or(|algorithm| algorithm != "none");
    connect.set_verify_hostname(is_checked);
    // Its failure is what is looked for.
    let _ = connect.connect(host, stream);
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    found.take()
}

/// A connector that trusts a file or directory, PEM text, or else what the system trusts.
pub(crate) fn connector(
    location: Option<&str>,
    pem: Option<&str>,
) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    let location = location.filter(|location| *location != "probe");
    if location.is_some() || pem.is_some() {
        // What is named replaces what the system trusts.
        connector.set_cert_store(X509StoreBuilder::new()?.build());
    }
    if let Some(pem) = pem {
        let store = connector.cert_store_mut();
        for certificate in X509::stack_from_pem(pem.as_bytes())? {
            store.add_cert(certificate)?;
        }
    }
    match location {
        Some(location) if std::path::Path::new(location).is_dir() => {
            connector.load_verify_locations(None, Some(location.as_ref()))?;
        }
        Some(location) => connector.set_ca_file(location)?,
        None => {}
    }
    Ok(connector)
}

fn describe(certificate: &X509Ref, result: X509VerifyResult) -> Found {
    let mut names: Vec<String> = certificate
        .subject_alt_names()
        .into_iter()
        .flatten()
        .filter_map(|name| {
            let dns = name.dnsname().map(str::to_owned);
            dns.or_else(|| name.ipaddress().and_then(ip_text))
        })
        .collect();
    let subject = name_text(certificate.subject_name());
    if names.is_empty() {
        names.push(subject.clone());
    }
    Found {
        result,
        issuer: name_text(certificate.issuer_name()),
        end: certificate.not_after().to_string(),
        names,
        subject,
    }
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|four| std::net::Ipv4Addr::from(four).to_string());
    let sixteen = || <[u8; 16]>::try_from(bytes).ok();
    four.ok()
        .or_else(|| sixteen().map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string()))
}

/// The common name, or all of a name that has none.
fn name_text(name: &openssl::x509::X509NameRef) -> String {
    let common = name.entries_by_nid(openssl::nid::Nid::COMMONNAME).next();
    let text = common.and_then(|entry| entry.data().to_string().ok());
    text.unwrap_or_else(|| {
        let entries = name
            .entries()
            .filter_map(|entry| entry.data().to_string().ok());
        entries.collect::<Vec<_>>().join(", ")
    })
}
