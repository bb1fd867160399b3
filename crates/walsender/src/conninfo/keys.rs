//! The keys of libpq (PostgreSQL 18's, and `servicefile` of 19): those that act here, and those
//! that can't.

/// A key that this build acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Host,
    Hostaddr,
    Port,
    Dbname,
    User,
    Password,
    Passfile,
    Service,
    Servicefile,
    ConnectTimeout,
    ClientEncoding,
    Options,
    ApplicationName,
    FallbackApplicationName,
    Keepalives,
    KeepalivesIdle,
    KeepalivesInterval,
    KeepalivesCount,
    TcpUserTimeout,
    Sslmode,
    Sslnegotiation,
    Sslcompression,
    Sslcert,
    Sslkey,
    Sslpassword,
    Sslcertmode,
    Sslrootcert,
    Sslcrl,
    Sslcrldir,
    Sslsni,
    SslMinProtocolVersion,
    SslMaxProtocolVersion,
    RequireAuth,
    ChannelBinding,
    TargetSessionAttrs,
    LoadBalanceHosts,
    MinProtocolVersion,
    MaxProtocolVersion,
    Gssencmode,
}

/// Key, its name in the text, its variable in the environment.
pub(super) const KEYS: [(Key, &str, Option<&str>); 39] = [
    (Key::Host, "host", Some("PGHOST")),
    (Key::Hostaddr, "hostaddr", Some("PGHOSTADDR")),
    (Key::Port, "port", Some("PGPORT")),
    (Key::Dbname, "dbname", Some("PGDATABASE")),
    (Key::User, "user", Some("PGUSER")),
    (Key::Password, "password", Some("PGPASSWORD")),
    (Key::Passfile, "passfile", Some("PGPASSFILE")),
    (Key::Service, "service", Some("PGSERVICE")),
    (Key::Servicefile, "servicefile", Some("PGSERVICEFILE")),
    (
        Key::ConnectTimeout,
        "connect_timeout",
        Some("PGCONNECT_TIMEOUT"),
    ),
    (
        Key::ClientEncoding,
        "client_encoding",
        Some("PGCLIENTENCODING"),
    ),
    (Key::Options, "options", Some("PGOPTIONS")),
    (Key::ApplicationName, "application_name", Some("PGAPPNAME")),
    (
        Key::FallbackApplicationName,
        "fallback_application_name",
        None,
    ),
    (Key::Keepalives, "keepalives", None),
    (Key::KeepalivesIdle, "keepalives_idle", None),
    (Key::KeepalivesInterval, "keepalives_interval", None),
    (Key::KeepalivesCount, "keepalives_count", None),
    (Key::TcpUserTimeout, "tcp_user_timeout", None),
    (Key::Sslmode, "sslmode", Some("PGSSLMODE")),
    (
        Key::Sslnegotiation,
        "sslnegotiation",
        Some("PGSSLNEGOTIATION"),
    ),
    (
        Key::Sslcompression,
        "sslcompression",
        Some("PGSSLCOMPRESSION"),
    ),
    (Key::Sslcert, "sslcert", Some("PGSSLCERT")),
    (Key::Sslkey, "sslkey", Some("PGSSLKEY")),
    (Key::Sslpassword, "sslpassword", None),
    (Key::Sslcertmode, "sslcertmode", Some("PGSSLCERTMODE")),
    (Key::Sslrootcert, "sslrootcert", Some("PGSSLROOTCERT")),
    (Key::Sslcrl, "sslcrl", Some("PGSSLCRL")),
    (Key::Sslcrldir, "sslcrldir", Some("PGSSLCRLDIR")),
    (Key::Sslsni, "sslsni", Some("PGSSLSNI")),
    (
        Key::SslMinProtocolVersion,
        "ssl_min_protocol_version",
        Some("PGSSLMINPROTOCOLVERSION"),
    ),
    (
        Key::SslMaxProtocolVersion,
        "ssl_max_protocol_version",
        Some("PGSSLMAXPROTOCOLVERSION"),
    ),
    (Key::RequireAuth, "require_auth", Some("PGREQUIREAUTH")),
    (
        Key::ChannelBinding,
        "channel_binding",
        Some("PGCHANNELBINDING"),
    ),
    (
        Key::TargetSessionAttrs,
        "target_session_attrs",
        Some("PGTARGETSESSIONATTRS"),
    ),
    (
        Key::LoadBalanceHosts,
        "load_balance_hosts",
        Some("PGLOADBALANCEHOSTS"),
    ),
    (
        Key::MinProtocolVersion,
        "min_protocol_version",
        Some("PGMINPROTOCOLVERSION"),
    ),
    (
        Key::MaxProtocolVersion,
        "max_protocol_version",
        Some("PGMAXPROTOCOLVERSION"),
    ),
    (Key::Gssencmode, "gssencmode", Some("PGGSSENCMODE")),
];

/// What a variable of a refused key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// There is none.
    None,
    /// As the key: it asks for a protection that there is not.
    Refused(&'static str),
    /// It says how to do what is never done here: a warning is enough.
    Idle(&'static str),
}

/// A key of libpq that can't act here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) name: &'static str,
    pub(super) variable: Variable,
    /// Why, and the way out.
    pub(super) reason: &'static str,
}

const NO_GSS: &str = "is about GSSAPI, which is not spoken here; leave it out, and let the server \
                      ask for a password (scram-sha-256) or a client certificate";
const NO_SCRAM_KEY: &str = "is not supported; give the password itself";
const NO_OAUTH: &str = "is about OAuth, which is not spoken here; let the server ask for a \
                        password (scram-sha-256) or a client certificate";

const fn refused(name: &'static str, variable: Variable, reason: &'static str) -> Refused {
    Refused {
        name,
        variable,
        reason,
    }
}

pub(super) const REFUSED: [Refused; 12] = [
    refused("krbsrvname", Variable::Idle("PGKRBSRVNAME"), NO_GSS),
    refused("gsslib", Variable::Idle("PGGSSLIB"), NO_GSS),
    refused("gssdelegation", Variable::Idle("PGGSSDELEGATION"), NO_GSS),
    refused(
        "requirepeer",
        Variable::Refused("PGREQUIREPEER"),
        "is not supported; to be sure of the server on a Unix socket, keep the socket in a \
         directory that only its owner can write to, or use TLS with sslmode=verify-full",
    ),
    refused(
        "replication",
        Variable::None,
        "is chosen by the program for each of its connections; leave it out",
    ),
    refused("scram_client_key", Variable::None, NO_SCRAM_KEY),
    refused("scram_server_key", Variable::None, NO_SCRAM_KEY),
    refused("oauth_issuer", Variable::None, NO_OAUTH),
    refused("oauth_client_id", Variable::None, NO_OAUTH),
    refused("oauth_client_secret", Variable::None, NO_OAUTH),
    refused("oauth_scope", Variable::None, NO_OAUTH),
    refused(
        "sslkeylogfile",
        Variable::None,
        "is not supported: it would write the keys of the connection to a file; leave it out",
    ),
];

/// The known key that was most likely meant, if one is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    // A third of the letters wrong is another word.
    let limit = (name.len() / 3).max(1);
    let names = KEYS.iter().map(|(_, known, _)| *known);
    names
        .chain(REFUSED.iter().map(|refused| refused.name))
        .map(|known| (distance(name.as_bytes(), known.as_bytes()), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be changed, added, dropped or swapped with their neighbour.
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut rows = vec![(0..=right.len()).collect::<Vec<_>>()];
    for (i, a) in left.iter().enumerate() {
        let above = &rows[i];
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (above[j] + usize::from(a != b))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_key_is_one_slip_or_two_away() {
        for (name, expected) in [
            ("hots", Some("host")),
            ("pasword", Some("password")),
            ("sslrootcrt", Some("sslrootcert")),
            ("ssl_mode", Some("sslmode")),
            ("database", None),
            ("target_session_attr", Some("target_session_attrs")),
            ("oauth_scop", Some("oauth_scope")),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name), expected, "{name}");
        }
    }

    #[test]
    fn every_key_is_listed_once() {
        let mut names: Vec<_> = KEYS.iter().map(|(_, name, _)| *name).collect();
        names.extend(REFUSED.iter().map(|refused| refused.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
