//! What the crate says when it does not connect: what is wrong, where, and what to do.

use std::collections::BTreeMap;

use super::Section;
use crate::{
    cell::Verdict,
    run::{Address, Outcome},
};

/// Words that an error has to have, in lower case, by table, begin of the row, and column; an empty
/// row or column stands for all of them.
const WORDS: &[(&str, &str, &str, &[&str])] = &[
    // Certificates of servers.
    (
        SERVERS,
        "has no TLS / nothing",
        "require",
        &["does not speak tls", "sslmode"],
    ),
    (
        SERVERS,
        "has no TLS / its root",
        "verify-full",
        &["does not speak tls", "sslmode"],
    ),
    (
        SERVERS,
        "has no TLS / `system`",
        "prefer",
        &["sslrootcert", "system", "verify-full"],
    ),
    (
        SERVERS,
        "certificate of this host, by the root / nothing",
        "verify-ca",
        NO_ROOT,
    ),
    (
        SERVERS,
        "certificate of this host, by the root / nothing",
        "verify-full",
        NO_ROOT,
    ),
    (
        SERVERS,
        "certificate of this host, by the root / another root",
        "require",
        &["walpost test authority", "root-other.crt", "sslrootcert"],
    ),
    (
        SERVERS,
        "certificate of this host, by the root / a file that is missing",
        "verify-full",
        &["/nonexistent/root.crt", "sslrootcert"],
    ),
    (
        SERVERS,
        "certificate of this host, by the root / a file without a certificate",
        "require",
        &["root-garbage.crt", "sslrootcert", "no certificate", "pem"],
    ),
    (
        SERVERS,
        "certificate of this host, by the root / a directory",
        "require",
        &["sslrootcert", "directory"],
    ),
    (
        SERVERS,
        "certificate of this host, by the root / `system`, which has others",
        "verify-full",
        &["walpost test authority", "operating system", "sslrootcert"],
    ),
    (
        SERVERS,
        "certificate signed by itself / another root",
        "require",
        &["signed by itself", "sslrootcert"],
    ),
    (
        SERVERS,
        "certificate of another host / its root",
        "verify-full",
        &["other.example.test", "localhost", "host"],
    ),
    (
        SERVERS,
        "expired certificate / its root",
        "require",
        &["certificate", "expired on"],
    ),
    (
        SERVERS,
        "certificate of the future",
        "verify-ca",
        &["certificate"],
    ),
    (
        SERVERS,
        "certificate of the future / its root",
        "require",
        &["not valid before", "clock"],
    ),
    (
        SERVERS,
        "revoked certificate / revocations in a file",
        "verify-full",
        &["revo"],
    ),
    (
        SERVERS,
        "revoked certificate / revocations in a directory",
        "require",
        &["was revoked"],
    ),
    (
        SERVERS,
        "revoked certificate / revocations of another root",
        "require",
        &["sslcrl", "walpost test authority"],
    ),
    (
        SERVERS,
        "certificate that is not among the revoked / revocations that are out of date",
        "require",
        &["revocation list", "out of date"],
    ),
    // Servers that let in only some.
    (
        ADMISSION,
        "only with TLS",
        "disable",
        &["fatal 28000", "pg_hba.conf"],
    ),
    (
        ADMISSION,
        "only without TLS (`hostnossl`) / nothing",
        "require",
        &["fatal 28000", "pg_hba.conf"],
    ),
    (
        ADMISSION,
        "only with TLS (`hostssl`) / another root",
        "prefer",
        &["root-other.crt", "without tls", "pg_hba.conf"],
    ),
    (
        ADMISSION,
        "with TLS by password, without by trust; no password",
        "require",
        &["asks for a password", "none is given", "password"],
    ),
    (
        ADMISSION,
        "with TLS by password, without by trust; wrong password",
        "require",
        &["28p01"],
    ),
    // Names.
    (
        "Names of the host",
        "IP `127.0.0.1` and `::1`, CN `db` / none",
        "verify-full",
        &["host"],
    ),
    (
        "Names of the host",
        "DNS `localhost` / `127.0.0.1`",
        "verify-full",
        &["localhost", "127.0.0.1"],
    ),
    // Client certificates. Of a refusal after the handshake, the reason may be lost: the server
    // closes a connection on which it has not read everything.
    (CLIENTS, "nothing", "`cert`", &["client certificate"]),
    (CLIENTS, "by another root", "nothing", &["sslcert"]),
    (
        CLIENTS,
        "of another role",
        "`cert`",
        &["certificate authentication failed"],
    ),
    (CLIENTS, "expired", "nothing", &["sslcert"]),
    (
        CLIENTS,
        "certificate file without one",
        "nothing",
        &["sslcert", "pem", "client-garbage.crt"],
    ),
    (
        CLIENTS,
        "no key given",
        "nothing",
        &["postgresql.key", "sslkey"],
    ),
    (
        CLIENTS,
        "key file missing",
        "nothing",
        &["/nonexistent/client", "sslkey"],
    ),
    (
        CLIENTS,
        "key file without one",
        "nothing",
        &["client-garbage.key", "no private key"],
    ),
    (
        CLIENTS,
        "key of another certificate",
        "nothing",
        &["client-somebody.key", "client.crt"],
    ),
    (
        CLIENTS,
        "key is a directory",
        "nothing",
        &["not a regular file"],
    ),
    (
        CLIENTS,
        "key with mode 0644",
        "nothing",
        &["client-644.key", "0644", "chmod 600"],
    ),
    (
        CLIENTS,
        "key with mode 0660",
        "nothing",
        &["client-660.key", "0660", "chmod 600"],
    ),
    (
        CLIENTS,
        "encrypted key, wrong",
        "nothing",
        &["sslpassword", "client-encrypted.key"],
    ),
    (
        CLIENTS,
        "encrypted key, no",
        "nothing",
        &["encrypted", "sslpassword"],
    ),
    (
        CLIENTS,
        "traditional encrypted key, wrong",
        "nothing",
        &["sslpassword"],
    ),
    (
        CLIENTS,
        "traditional encrypted key, no",
        "nothing",
        &["encrypted", "sslpassword"],
    ),
    (
        "`sslcertmode`",
        "none / does not ask",
        "require",
        &["sslcertmode", "certificate"],
    ),
    (
        "`sslcertmode`",
        "none / asks",
        "require",
        &["sslcertmode", "certificate"],
    ),
    (
        "`sslcertmode`",
        "a certificate / does not ask",
        "require",
        &["sslcertmode"],
    ),
    // Methods.
    (BINDING, "trusted", "`require`, TLS", &["channel_binding"]),
    (BINDING, "password", "`require`, TLS", &["channel_binding"]),
    (
        BINDING,
        "md5",
        "`require`, TLS",
        &["channel_binding", "md5"],
    ),
    (BINDING, "scram", "`require`, clear", &["channel_binding"]),
    (
        BINDING,
        "scram, no password",
        "`disable`, TLS",
        &["password"],
    ),
    (
        "`channel_binding`, by how the server's certificate is signed",
        "Ed25519",
        "`prefer`, TLS",
        &["channel_binding", "certificate"],
    ),
    (
        "`require_auth`",
        "password",
        "`scram-sha-256`",
        &["require_auth", "password"],
    ),
    ("`require_auth`", "md5", "`!md5`", &["require_auth", "md5"]),
    (
        "`require_auth`",
        "trusted",
        "`scram-sha-256`",
        &["require_auth", "without"],
    ),
    (
        "`require_auth`",
        "",
        "`password,!md5`",
        &["require_auth", "!"],
    ),
    (
        "`require_auth`",
        "",
        "`md5,md5`",
        &["require_auth", "twice"],
    ),
    // Versions, and how TLS begins.
    (
        VERSIONS,
        "any / 1.3 at least, 1.2 at most",
        "`disable`",
        RANGE,
    ),
    (
        VERSIONS,
        "any / nonsense",
        "`require`",
        &["ssl_min_protocol_version", "tlsv1.2"],
    ),
    (VERSIONS, "only TLS 1.2 / 1.3 at least", "`require`", RANGE),
    (VERSIONS, "only TLS 1.3 / 1.2 at most", "`require`", RANGE),
    (
        "`sslnegotiation`",
        "PostgreSQL 17 or newer / `direct`",
        "prefer",
        DIRECT,
    ),
    (
        "`sslnegotiation`",
        "PostgreSQL 16 or older / `direct`",
        "require",
        &["sslnegotiation"],
    ),
    (
        "`sslnegotiation`",
        "PostgreSQL 17 or newer / `nonsense`",
        "",
        &["sslnegotiation", "direct"],
    ),
    (
        "`sslnegotiation`",
        "TLS without the protocol's name",
        "require",
        &["alpn"],
    ),
    // Values.
    (VALUES, "`sslmode=Require`", "", &["sslmode", "verify-full"]),
    (
        VALUES,
        "`sslcertmode=Require`",
        "",
        &["sslcertmode", "require"],
    ),
    (
        VALUES,
        "`channel_binding=Require`",
        "",
        &["channel_binding", "prefer"],
    ),
    (
        VALUES,
        "`require_auth=scram`",
        "",
        &["require_auth", "scram-sha-256"],
    ),
    (
        VALUES,
        "`ssl_min_protocol_version=1.2`",
        "",
        &["ssl_min_protocol_version", "tlsv1.2"],
    ),
];

const SERVERS: &str = "`sslmode`, by the server's certificate";
const ADMISSION: &str = "`sslmode`, by whom the server lets in";
const CLIENTS: &str = "Client certificates";
const BINDING: &str = "`channel_binding`";
const VERSIONS: &str = "`ssl_min_protocol_version`, `ssl_max_protocol_version`";
const VALUES: &str = "Values";

const NO_ROOT: &[&str] = &["root.crt", "sslrootcert", "sslmode"];
const RANGE: &[&str] = &["ssl_min_protocol_version", "ssl_max_protocol_version"];
const DIRECT: &[&str] = &["sslnegotiation", "direct", "sslmode", "require"];

/// Every error that says less than it has to, and every entry that no error is held against.
pub(super) fn complaints(
    sections: &[Section],
    outcomes: &BTreeMap<Address, Outcome>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (title, row, column, words) in WORDS {
        let mut tried = 0;
        for outcome in outcomes.values() {
            let Address(section, row_number, column_number) = outcome.address;
            let section = &sections[section];
            let labels = section.rows[row_number].labels.join(" / ");
            let head = &section.columns[column_number];
            let is_meant = section.title == *title
                && labels.starts_with(row)
                && (column.is_empty() || head == column);
            tried += usize::from(is_meant);
            if let (true, Verdict::Refused(text)) = (is_meant, &outcome.ours) {
                let lower = text.to_lowercase();
                let missing = words.iter().find(|word| !lower.contains(**word));
                if let Some(word) = missing {
                    complaints.push(format!(
                        "{title} / {labels} / {head}: no word of {word:?}:\n    ours: {text}"
                    ));
                }
            }
        }
        let is_known = sections.iter().any(|section| {
            section.title == *title
                && section
                    .rows
                    .iter()
                    .any(|candidate| candidate.labels.join(" / ").starts_with(row))
                && (column.is_empty() || section.columns.iter().any(|head| head == column))
        });
        if tried == 0 && !is_known {
            complaints.push(format!("no cell is meant by {title} / {row} / {column}"));
        }
    }
    complaints.extend(unreadable(sections, outcomes));
    complaints
}

/// Errors that are no one line that begins with what was tried.
fn unreadable(sections: &[Section], outcomes: &BTreeMap<Address, Outcome>) -> Vec<String> {
    let mut complaints = Vec::new();
    for outcome in outcomes.values() {
        let Verdict::Refused(text) = &outcome.ours else {
            continue;
        };
        let begins =
            text.starts_with("connect to postgresql://") || text.starts_with("connection string: ");
        if !begins || text.contains('\n') || text.contains("::") && text.contains("Error") {
            let row = &sections[outcome.address.0].rows[outcome.address.1];
            complaints.push(format!("{:?}: {text}", row.labels));
        }
    }
    complaints
}
