//! What single keys mean.

use super::*;

#[test]
fn words_of_tls_have_their_meaning() {
    for (text, expected) in [
        ("", "Prefer Postgres Default Allow"),
        ("sslmode=disable", "Disable Postgres Default Allow"),
        ("sslmode=allow", "Allow Postgres Default Allow"),
        ("sslmode=prefer", "Prefer Postgres Default Allow"),
        ("sslmode=require", "Require Postgres Default Allow"),
        ("sslmode=verify-ca", "VerifyCa Postgres Default Allow"),
        ("sslmode=verify-full", "VerifyFull Postgres Default Allow"),
        ("requiressl=1", "Require Postgres Default Allow"),
        ("requiressl=0", "Prefer Postgres Default Allow"),
        ("postgresql://h?ssl=true", "Require Postgres Default Allow"),
        (
            "sslmode=disable requiressl=1",
            "Require Postgres Default Allow",
        ),
        ("sslrootcert=/r", "Prefer Postgres File(\"/r\") Allow"),
        ("sslrootcert=~/r", "Prefer Postgres File(\"~/r\") Allow"),
        ("sslrootcert=''", "Prefer Postgres Default Allow"),
        ("sslrootcert=system", "VerifyFull Postgres System Allow"),
        (
            "sslrootcert=system sslmode=verify-full sslcertmode=require",
            "VerifyFull Postgres System Require",
        ),
        (
            "sslnegotiation=direct sslrootcert=system",
            "VerifyFull Direct System Allow",
        ),
        (
            "sslnegotiation=direct sslmode=require sslcertmode=disable",
            "Require Direct Default Disable",
        ),
        ("sslnegotiation=postgres", "Prefer Postgres Default Allow"),
        ("sslcompression=1", "Prefer Postgres Default Allow"),
    ] {
        let tls = parse(text, &[]).unwrap().tls;
        let found = format!(
            "{:?} {:?} {:?} {:?}",
            tls.mode, tls.negotiation, tls.root_cert, tls.cert_mode
        );
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn files_of_tls_are_taken_as_they_are() {
    let text = "sslcert=c sslkey=k sslcrl=~/l sslcrldir=d sslpassword='p w' sslsni=0";
    let tls = parse(text, &[("HOME", "/home/me")]).unwrap().tls;
    assert_eq!(tls.cert, Some("c".into()));
    assert_eq!(tls.key, Some("k".into()));
    assert_eq!(tls.crl, Some("~/l".into()));
    assert_eq!(tls.crl_dir, Some("d".into()));
    assert_eq!(tls.key_password.unwrap().expose_secret(), "p w");
    assert_eq!(tls.home, Some("/home/me".into()));
    assert!(!tls.sni);

    let tls = parse("sslcert='' sslkey=''", &[("HOME", "")]).unwrap().tls;
    assert_eq!((tls.cert, tls.key), (None, None));
    assert_eq!(tls.home, Some("/nonexistent".into()), "the login's");
    assert!(tls.sni);
}

#[test]
fn versions_of_tls_are_a_range() {
    use TlsVersion::{V1_0, V1_1, V1_2, V1_3};

    for (text, expected) in [
        ("", (Some(V1_2), None)),
        ("ssl_min_protocol_version=TLSv1", (Some(V1_0), None)),
        (
            "ssl_min_protocol_version=tlsV1.1 ssl_max_protocol_version=TLSv1.1",
            (Some(V1_1), Some(V1_1)),
        ),
        ("ssl_max_protocol_version=TLSv1.3", (Some(V1_2), Some(V1_3))),
        ("ssl_min_protocol_version=''", (None, None)),
        (
            "ssl_min_protocol_version='' ssl_max_protocol_version=TLSv1",
            (None, Some(V1_0)),
        ),
    ] {
        let tls = parse(text, &[]).unwrap().tls;
        assert_eq!((tls.min_protocol, tls.max_protocol), expected, "{text}");
    }
}

#[test]
fn words_about_the_session_have_their_meaning() {
    let conninfo = parse("", &[]).unwrap();
    assert_eq!(conninfo.target_session_attrs, TargetSessionAttrs::Any);
    assert_eq!(conninfo.channel_binding, ChannelBinding::Prefer);
    assert!(!conninfo.load_balance_hosts);
    for (word, expected) in [
        ("any", TargetSessionAttrs::Any),
        ("read-write", TargetSessionAttrs::ReadWrite),
        ("read-only", TargetSessionAttrs::ReadOnly),
        ("primary", TargetSessionAttrs::Primary),
        ("standby", TargetSessionAttrs::Standby),
        ("prefer-standby", TargetSessionAttrs::PreferStandby),
    ] {
        let conninfo = parse(&format!("target_session_attrs={word}"), &[]).unwrap();
        assert_eq!(conninfo.target_session_attrs, expected, "{word}");
    }
    for (word, expected) in [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ] {
        let conninfo = parse(&format!("channel_binding={word}"), &[]).unwrap();
        assert_eq!(conninfo.channel_binding, expected, "{word}");
    }
    let random = parse("load_balance_hosts=random", &[]).unwrap();
    assert!(random.load_balance_hosts);
    let disabled = parse("load_balance_hosts=disable", &[]).unwrap();
    assert!(!disabled.load_balance_hosts);
}

#[test]
fn methods_are_required_or_ruled_out() {
    for (text, expected) in [
        ("", "Any"),
        ("require_auth=''", "Any"),
        ("require_auth=scram-sha-256", "OneOf([ScramSha256])"),
        (
            "require_auth=none,md5,password",
            "OneOf([None, Md5, Password])",
        ),
        ("require_auth=gss,sspi,oauth", "OneOf([Gss, Sspi, OAuth])"),
        ("require_auth=!password,!none", "NoneOf([Password, None])"),
    ] {
        let found = format!("{:?}", parse(text, &[]).unwrap().require_auth);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn tcp_has_limits_of_its_own_unless_others_are_given() {
    let tcp = |text: &str| parse(text, &[]).unwrap().tcp;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let default = tcp("");
    assert_eq!(default, TcpSettings::default());
    assert_eq!(default.keepalives_idle, seconds(10));
    let given = tcp("keepalives=0 keepalives_idle=1 keepalives_interval=' 2 ' \
                     keepalives_count=4 tcp_user_timeout=1500");
    assert!(!given.keepalives);
    assert_eq!(given.keepalives_idle, seconds(1));
    assert_eq!(given.keepalives_interval, seconds(2));
    assert_eq!(given.keepalives_count, Some(4));
    assert_eq!(given.user_timeout, Some(Duration::from_millis(1500)));
    let system = tcp("keepalives=2 keepalives_idle=0 keepalives_interval=-1 \
                      keepalives_count=0 tcp_user_timeout=0");
    assert!(system.keepalives);
    assert_eq!(system.keepalives_idle, None);
    assert_eq!(system.keepalives_interval, None);
    assert_eq!(system.keepalives_count, None);
    assert_eq!(system.user_timeout, None);
}

#[test]
fn what_can_not_act_may_be_asked_for_where_that_asks_for_nothing() {
    for text in [
        "gssencmode=disable",
        "gssencmode=prefer",
        "client_encoding=UTF8",
        "client_encoding=utf-8",
        "client_encoding=Unicode",
        "client_encoding=auto",
        "min_protocol_version=3.0",
        "max_protocol_version=3.0",
        "max_protocol_version=3.2",
        "max_protocol_version=latest",
        "sslcompression=anything",
    ] {
        parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn name_of_the_application_falls_back() {
    let name = |text: &str, env: &[(&str, &str)]| parse(text, env).unwrap().application_name;
    let fallback = "fallback_application_name=f";
    assert_eq!(name(fallback, &[]).as_deref(), Some("f"));
    assert_eq!(name(fallback, &[("PGAPPNAME", "e")]).as_deref(), Some("e"));
    let both = "application_name=a fallback_application_name=f";
    assert_eq!(name(both, &[]).as_deref(), Some("a"));
}

#[test]
fn keys_that_can_not_act_are_refused_with_a_way_out() {
    for (text, expected) in [
        ("krbsrvname=hush", "key `krbsrvname` is about GSSAPI"),
        ("gsslib=hush", "key `gsslib` is about GSSAPI"),
        ("gssdelegation=1", "key `gssdelegation` is about GSSAPI"),
        (
            "requirepeer=hush",
            "key `requirepeer` is not supported; to be sure",
        ),
        (
            "replication=database",
            "key `replication` is chosen by the program",
        ),
        (
            "scram_client_key=hush",
            "key `scram_client_key` is not supported; give",
        ),
        (
            "scram_server_key=hush",
            "key `scram_server_key` is not supported; give",
        ),
        ("oauth_issuer=hush", "key `oauth_issuer` is about OAuth"),
        (
            "oauth_client_id=hush",
            "key `oauth_client_id` is about OAuth",
        ),
        (
            "oauth_client_secret=hush",
            "key `oauth_client_secret` is about OAuth",
        ),
        ("oauth_scope=hush", "key `oauth_scope` is about OAuth"),
        (
            "sslkeylogfile=/hush",
            "key `sslkeylogfile` is not supported: it would",
        ),
        ("password=hush replication=1", "key `replication` is chosen"),
        (
            "gssencmode=require",
            "`gssencmode` asks for GSSAPI encryption",
        ),
        ("client_encoding=LATIN1", "`client_encoding` is not UTF8"),
        (
            "min_protocol_version=3.2",
            "`min_protocol_version` asks for more",
        ),
        (
            "min_protocol_version=latest",
            "`min_protocol_version` asks for more",
        ),
    ] {
        assert_fault(text, expected);
    }
}

#[test]
fn words_that_are_none_are_refused_with_those_that_are() {
    let modes = "`sslmode` is none of disable, allow, prefer, require, verify-ca and verify-full";
    for text in ["hush", "''", "Require", "' require'"] {
        assert_fault(&format!("sslmode={text}"), modes);
    }
    for (key, words) in [
        ("sslnegotiation", "postgres and direct"),
        ("sslcertmode", "disable, allow and require"),
        ("sslsni", "0 and 1"),
        ("channel_binding", "disable, prefer and require"),
        (
            "target_session_attrs",
            "any, read-write, read-only, primary, standby and prefer-standby",
        ),
        ("load_balance_hosts", "disable and random"),
        ("gssencmode", "disable, prefer and require"),
        ("min_protocol_version", "3.0, 3.2 and latest"),
        ("max_protocol_version", "3.0, 3.2 and latest"),
        (
            "ssl_min_protocol_version",
            "TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3",
        ),
        (
            "ssl_max_protocol_version",
            "TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3",
        ),
    ] {
        let expected = format!("`{key}` is none of {words}");
        assert_fault(&format!("{key}=hush"), &expected);
    }
}

#[test]
fn lists_of_methods_that_make_no_sense_are_refused() {
    for (text, expected) in [
        (
            "hush",
            "names a method that is none of password, md5, gss, sspi, scram-sha-256",
        ),
        ("md5,", "names a method that is none of"),
        ("md5,!none", "mixes methods"),
        ("!md5,none", "mixes methods"),
        ("md5,md5", "names a method twice"),
        ("!md5,!md5", "names a method twice"),
    ] {
        let expected = format!("`require_auth` {expected}");
        assert_fault(&format!("require_auth={text}"), &expected);
    }
}

#[test]
fn numbers_out_of_their_range_are_refused() {
    for (text, expected) in [
        ("keepalives=hush", "`keepalives` is not a whole number"),
        (
            "keepalives_idle=''",
            "`keepalives_idle` is not a whole number",
        ),
        ("keepalives_idle=32768", "`keepalives_idle` is above 32767"),
        (
            "keepalives_interval=1.5",
            "`keepalives_interval` is not a whole number",
        ),
        ("keepalives_count=128", "`keepalives_count` is above 127"),
        (
            "tcp_user_timeout=2147483648",
            "`tcp_user_timeout` is not a whole number",
        ),
    ] {
        assert_fault(text, expected);
    }
}

#[test]
fn weak_combinations_are_refused() {
    for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let text = format!("sslrootcert=system sslmode={mode}");
        assert_fault(&text, "`sslmode` is weaker than verify-full");
    }
    for mode in ["disable", "allow", "prefer"] {
        let text = format!("sslnegotiation=direct sslmode={mode}");
        assert_fault(&text, "`sslnegotiation` is direct, which needs TLS");
    }
    assert_fault(
        "sslnegotiation=direct",
        "`sslnegotiation` is direct, which needs",
    );
    for text in [
        "ssl_max_protocol_version=TLSv1.1",
        "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
    ] {
        assert_fault(text, "`ssl_max_protocol_version` leaves no version of TLS");
    }
    let error = parse("sslmode=prefer", &[("PGSSLROOTCERT", "system")]);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("`sslmode` is weaker")
    );
    let error = parse("sslrootcert=system", &[("PGREQUIRESSL", "1")]);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("`PGREQUIRESSL` is weaker")
    );
}

#[test]
fn variables_are_those_of_their_keys() {
    let env = [
        ("PGSSLNEGOTIATION", "direct"),
        ("PGSSLMODE", "verify-ca"),
        ("PGREQUIRESSL", "1"),
        ("PGSSLCOMPRESSION", "1"),
        ("PGSSLCERT", "c"),
        ("PGSSLKEY", "k"),
        ("PGSSLCERTMODE", "disable"),
        ("PGSSLROOTCERT", "r"),
        ("PGSSLCRL", "l"),
        ("PGSSLCRLDIR", "d"),
        ("PGSSLSNI", "0"),
        ("PGSSLMINPROTOCOLVERSION", "TLSv1.3"),
        ("PGSSLMAXPROTOCOLVERSION", "TLSv1.3"),
        ("PGREQUIREAUTH", "md5"),
        ("PGCHANNELBINDING", "disable"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGLOADBALANCEHOSTS", "random"),
        ("PGGSSENCMODE", "disable"),
        ("PGCLIENTENCODING", "UTF8"),
        ("PGMINPROTOCOLVERSION", "3.0"),
        ("PGMAXPROTOCOLVERSION", "3.0"),
        ("PGHOST", "a,b"),
        ("PGHOSTADDR", "::1,::2"),
        ("PGPORT", "1,2"),
    ];
    let conninfo = parse("", &env).unwrap();
    assert_eq!(summary(&conninfo), "me - a,b 1,2 me");
    assert_eq!(conninfo.hosts[1].hostaddr, Some("::2".parse().unwrap()));
    let tls = &conninfo.tls;
    assert_eq!(
        (tls.mode, tls.negotiation),
        (SslMode::VerifyCa, SslNegotiation::Direct)
    );
    assert_eq!(tls.root_cert, RootCert::File("r".into()));
    assert_eq!(
        (&tls.cert, &tls.key),
        (&Some("c".into()), &Some("k".into()))
    );
    assert_eq!(
        (&tls.crl, &tls.crl_dir),
        (&Some("l".into()), &Some("d".into()))
    );
    assert_eq!((tls.cert_mode, tls.sni), (SslCertMode::Disable, false));
    let version = Some(TlsVersion::V1_3);
    assert_eq!((tls.min_protocol, tls.max_protocol), (version, version));
    assert_eq!(
        conninfo.require_auth,
        RequireAuth::OneOf(vec![AuthMethod::Md5])
    );
    assert_eq!(conninfo.channel_binding, ChannelBinding::Disable);
    assert_eq!(conninfo.target_session_attrs, TargetSessionAttrs::Standby);
    assert!(conninfo.load_balance_hosts);
    assert_eq!(conninfo.warnings().count(), 0);

    let mode = |env: &[(&str, &str)]| parse("", env).unwrap().tls.mode;
    assert_eq!(mode(&[("PGREQUIRESSL", "1")]), SslMode::Require);
    assert_eq!(mode(&[("PGREQUIRESSL", "0")]), SslMode::Prefer);
    for (name, value) in [("PGGSSENCMODE", "require"), ("PGCLIENTENCODING", "LATIN1")] {
        let error = parse("", &[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}` ")), "{error}");
    }
}

#[test]
fn variables_without_effect_are_warned_of() {
    for name in ["PGKRBSRVNAME", "PGGSSLIB", "PGGSSDELEGATION"] {
        let conninfo = parse("", &[(name, "1")]).unwrap();
        let warnings: Vec<_> = conninfo.warnings().collect();
        assert_eq!(
            warnings,
            [format!("{name} has no effect: GSSAPI is not spoken here")]
        );
        assert_eq!(parse("", &[(name, "")]).unwrap().warnings().count(), 0);
    }
}
