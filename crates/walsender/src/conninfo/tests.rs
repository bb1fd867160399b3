use proptest::{collection::vec, prelude::*, sample::select};
use secrecy::ExposeSecret;

use super::*;

mod files;
mod values;

#[test]
fn forms_of_strings_are_read_as_libpq_reads_them() {
    // Text, then user, password, host, port, database as they must come out.
    for (text, expected) in [
        ("postgresql://u:p@h:1/d", "u p h 1 d"),
        ("postgres://u:p@h:1/d", "u p h 1 d"),
        ("postgresql://u@h", "u - h 5432 u"),
        ("postgresql://", "me - local 5432 me"),
        ("", "me - local 5432 me"),
        ("  ", "me - local 5432 me"),
        ("postgresql:///d", "me - local 5432 d"),
        ("postgresql://h/", "me - h 5432 me"),
        ("postgresql://:5433", "me - local 5433 me"),
        ("postgresql://u:@h", "u - h 5432 u"),
        ("postgresql://:p@h", "me p h 5432 me"),
        ("postgresql://u:p:q@h", "u p:q h 5432 u"),
        ("postgresql://u:p?q#r@h/d", "u p?q#r h 5432 d"),
        (
            "postgresql://u%40x:p%2F%25%3a@h/a%20b",
            "u@x p/%: h 5432 a b",
        ),
        ("postgresql://[::1]:1/d", "me - ::1 1 d"),
        ("postgresql://[::1]?user=u", "u - ::1 5432 u"),
        ("postgresql://%2Ftmp%2Fpg:1/d", "me - unix:/tmp/pg 1 d"),
        (
            "postgresql:///d?host=/tmp/pg&port=1",
            "me - unix:/tmp/pg 1 d",
        ),
        ("postgresql://h/d?user=u&password=p%26q", "u p&q h 5432 d"),
        ("postgresql://h/d?", "me - h 5432 d"),
        ("postgresql://h?dbname=d", "me - h 5432 d"),
        ("postgresql://h?dbname=d&", "me - h 5432 d"),
        ("postgresql://h/a/b", "me - h 5432 a/b"),
        ("host=h port=1 dbname=d user=u password=p", "u p h 1 d"),
        ("host = h  port\t=\n1", "me - h 1 me"),
        ("user=u password='a b' host=h", "u a b h 5432 u"),
        ("user=u password='a\\'b\\\\c' host=h", "u a'b\\c h 5432 u"),
        ("user=u password=a\\ b\\'c host=h", "u a b'c h 5432 u"),
        ("user=u password=a'b host=h", "u a'b h 5432 u"),
        ("user='u'host=h", "u - h 5432 u"),
        ("user=u password= host=h", "u host=h local 5432 u"),
        ("user=u password='' host=h", "u - h 5432 u"),
        ("user=a user=b host=h", "b - h 5432 b"),
        ("user=\u{e9} host=h", "\u{e9} - h 5432 \u{e9}"),
        ("host=/run/x user=u\\", "u - unix:/run/x 5432 u"),
        ("hostaddr=127.0.0.1", "me - 127.0.0.1 5432 me"),
        ("hostaddr=::1 host=name", "me - name 5432 me"),
        ("hostaddr=::1 host=/run/x", "me - ::1 5432 me"),
        ("port=' 1 '", "me - local 1 me"),
    ] {
        let conninfo = parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(summary(&conninfo), expected, "{text}");
    }
}

#[test]
fn lists_of_hosts_are_read_as_libpq_reads_them() {
    for (text, expected) in [
        ("postgresql://u@a:1,b:2/d", "u - a,b 1,2 d"),
        ("postgresql://u@a,b:2/d", "u - a,b 5432,2 d"),
        ("postgresql://u@a,b/d?port=3", "u - a,b 3,3 d"),
        ("postgresql://u@a,,:3/d", "u - a,local,local 5432,5432,3 d"),
        ("postgresql://,", "me - local,local 5432,5432 me"),
        (
            "postgresql://[::1]:1,[::2],c",
            "me - ::1,::2,c 1,5432,5432 me",
        ),
        ("postgresql://a%2Cb", "me - a,b 5432,5432 me"),
        (
            "postgresql:///d?host=a,/x&port=,2",
            "me - a,unix:/x 5432,2 d",
        ),
        ("postgresql:// u : p @ h : 1 / d ", "u p h 1 d"),
        ("postgresql://h?requiressl=1", "me - h 5432 me"),
        ("postgresql://h/a%2Fb%3Fc", "me - h 5432 a/b?c"),
        (
            "postgresql://h?dbname=postgresql://x",
            "me - h 5432 postgresql://x",
        ),
        ("dbname='host=x'", "me - local 5432 host=x"),
        ("host=a,b port=1", "me - a,b 1,1 me"),
        ("host=a,b port=1,", "me - a,b 1,5432 me"),
        ("host=a,b hostaddr=::1,::2", "me - a,b 5432,5432 me"),
        ("host=a, hostaddr=::1,::2", "me - a,::2 5432,5432 me"),
        ("hostaddr=::1,", "me - ::1,local 5432,5432 me"),
    ] {
        let conninfo = parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(summary(&conninfo), expected, "{text}");
    }
}

#[test]
fn environment_gives_what_the_text_leaves_open() {
    let env = [
        ("PGHOST", "eh"),
        ("PGPORT", "7"),
        ("PGDATABASE", "ed"),
        ("PGUSER", "eu"),
        ("PGPASSWORD", "ep"),
        ("PGAPPNAME", "ea"),
        ("PGCONNECT_TIMEOUT", "3"),
        ("PGSSLMODE", "disable"),
        ("PGOPTIONS", "-c a=b"),
    ];
    let conninfo = parse("", &env).unwrap();
    assert_eq!(summary(&conninfo), "eu ep eh 7 ed");
    assert_eq!(conninfo.application_name.as_deref(), Some("ea"));
    assert_eq!(conninfo.options.as_deref(), Some("-c a=b"));
    assert_eq!(conninfo.connect_timeout, Duration::from_secs(3));

    let text = "host=h port=1 dbname=d user=u password=p application_name=a options='-c x=y'";
    let conninfo = parse(text, &env).unwrap();
    assert_eq!(summary(&conninfo), "u p h 1 d");
    assert_eq!(conninfo.application_name.as_deref(), Some("a"));
    assert_eq!(conninfo.options.as_deref(), Some("-c x=y"));

    let conninfo = parse("dbname='' user=u", &env).unwrap();
    assert_eq!(
        conninfo.database, "u",
        "an empty value is the default, not the environment's"
    );

    let conninfo = parse("host=h", &[("PGHOSTADDR", "10.0.0.1")]).unwrap();
    assert_eq!(
        conninfo.hosts[0].hostaddr,
        Some("10.0.0.1".parse().unwrap())
    );
}

#[test]
fn user_comes_from_the_login_at_last() {
    let user = |env: &[(&str, &str)], login: Option<&str>| {
        let login = login.map(|name| Login {
            name: name.to_owned(),
            home: "/nonexistent".into(),
        });
        let host = Host::Tcp("h".to_owned());
        Conninfo::parse_with("", &|name| find(env, name), login, &host)
            .map(|conninfo| conninfo.user)
    };
    let both = [("USER", "a"), ("LOGNAME", "b")];
    assert_eq!(user(&both, Some("me")).unwrap(), "me");
    assert_eq!(user(&both, None).unwrap(), "a");
    assert_eq!(user(&[("USER", ""), ("LOGNAME", "b")], None).unwrap(), "b");
    assert_eq!(user(&[("PGUSER", "u")], Some("me")).unwrap(), "u");
    let error = user(&[], None).unwrap_err().to_string();
    assert_eq!(
        error,
        "connection string: no user is given; add user=NAME or set PGUSER"
    );
}

#[test]
fn timeout_is_in_seconds_and_none_when_not_positive() {
    for (text, expected) in [
        ("", CONNECT_TIMEOUT_DEFAULT),
        ("connect_timeout=3", Duration::from_secs(3)),
        ("connect_timeout=' +4 '", Duration::from_secs(4)),
        ("connect_timeout=0", Duration::MAX),
        ("connect_timeout=-1", Duration::MAX),
    ] {
        assert_eq!(
            parse(text, &[]).unwrap().connect_timeout,
            expected,
            "{text}"
        );
    }
}

#[test]
fn faults_are_named_without_any_value() {
    for (text, expected) in [
        ("host", "no '=' after the word at byte 0"),
        ("password=hush hush2", "no '=' after the word at byte 14"),
        (
            "password=hush hush2=x",
            "an unknown key follows the password",
        ),
        ("hots=hush", "unknown key `hots`; did you mean `host`?"),
        ("database=hush", "unknown key `database`"),
        ("Host=hush", "a word before a '=' is not a key"),
        ("=hush", "a word before a '=' is not a key"),
        ("password='hush", "a quoted value has no closing quote"),
        ("password='hush\\'", "a quoted value has no closing quote"),
        ("port=hush", "`port` is not a number from 1 to 65535"),
        ("port=0", "`port` is not a number from 1 to 65535"),
        ("port=65536", "`port` is not a number from 1 to 65535"),
        ("port=1,2", "`port` lists 2, for 1 host:"),
        (
            "port=1,hush host=a,b",
            "`port` is not a number from 1 to 65535",
        ),
        ("host=a,b,c port=1,2", "`port` lists 2, for 3 hosts"),
        ("host=a,b hostaddr=::1", "`host` lists 2, and `hostaddr` 1"),
        ("host=a,hush@b", "`host` holds an '@'"),
        ("host='hush x'", "`host` holds blanks"),
        ("hostaddr=hush", "`hostaddr` is not a numeric"),
        ("hostaddr=::1,hush", "`hostaddr` is not a numeric"),
        (
            "connect_timeout=hush",
            "`connect_timeout` is not a number of seconds",
        ),
        ("connect_timeout=''", "`connect_timeout` is not a number"),
        (
            "user=a password=hush sslpassword=hush2 hush3=x",
            "an unknown key follows the",
        ),
        ("user=a\0hush", "`user` holds a zero byte"),
        ("postgresql://h?ssl=hush", "unknown key `ssl`"),
        ("mysql://u:hush@h/d", "no '=' after the word at byte 0"),
        ("postgresql:/h", "no '=' after the word at byte 0"),
    ] {
        assert_fault(text, expected);
    }
    let error = parse("", &[("PGPORT", "hush")]).unwrap_err().to_string();
    assert!(
        error.starts_with("connection string: `PGPORT` is not a number"),
        "{error}"
    );
    let error = parse("", &[("PGREQUIREPEER", "hush")])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("connection string: `PGREQUIREPEER` is not supported"),
        "{error}"
    );
}

#[test]
fn faults_of_urls_are_named_without_any_value() {
    for (text, expected) in [
        ("postgresql://u:hush@hush2@h/d", "an '@' out of place"),
        ("postgresql://u:hush/hush2@h/d", "an '@' out of place"),
        ("postgresql://u:1/hush2@h/d", "an '@' out of place"),
        ("postgresql://u:hush/hush2", "`port` is not a number"),
        ("postgresql://u:hush%zz@h", "a '%' is not followed by two"),
        ("postgresql://u:hush%4@h", "a '%' is not followed by two"),
        ("postgresql://u:hush%+4@h", "a '%' is not followed by two"),
        ("postgresql://u:hush%00@h", "%00 is not allowed"),
        (
            "postgresql://u:hush%ff@h",
            "percent-encoded bytes are not UTF-8",
        ),
        ("postgresql://[::1", "an IPv6 address has no closing ']'"),
        (
            "postgresql://[]",
            "the IPv6 address between '[' and ']' is empty",
        ),
        ("postgresql://[::1]x", "text between ']' and the port"),
        ("postgresql://a,[::1]x,b", "text between ']' and the port"),
        (
            "postgresql://u:hush hush2@h",
            "a blank inside a part of the URL",
        ),
        (
            "postgresql://a:1,b:2,c:3/d?port=4,5",
            "`port` lists 2, for 3 hosts",
        ),
        (
            "postgresql://h?password=hush&hush2=x",
            "an unknown key follows the password",
        ),
        (
            "postgresql://h?password=hush=x",
            "a parameter after '?' has more than one '='",
        ),
        ("postgresql://h?hush", "a parameter after '?' has no '='"),
        ("postgresql://h?a=1&", "unknown key `a`"),
        ("postgresql://h?&", "a parameter after '?' has no '='"),
        (
            "postgresql://h?user=u&&",
            "a parameter after '?' has no '='",
        ),
        ("postgresql://u@h?host=hush%40x", "`host` holds an '@'"),
    ] {
        assert_fault(text, expected);
    }
}

#[test]
fn supported_keys_have_no_value_that_is_ignored() {
    for (key, variable) in settings::supported() {
        assert!(parse(&format!("{key}=\0"), &[]).is_err(), "{key}");
        if let Some(variable) = variable {
            assert!(
                parse("service=s", &[(variable, "\0")]).is_err(),
                "{variable}"
            );
        }
    }
}

#[test]
fn display_and_debug_show_a_url_without_secrets() {
    for (text, expected) in [
        ("postgresql://u:hush@h:1/d", "postgresql://u@h:1/d"),
        (
            "host=/run/x user='a b' dbname='d\n' password=hush",
            "postgresql://a%20b@%2Frun%2Fx:5432/d%0A",
        ),
        ("postgresql://u:hush@[::1]", "postgresql://u@[::1]:5432/u"),
        (
            "postgresql://u:hush@a:1,[::1],%2Fx:2/d?sslpassword=hush",
            "postgresql://u@a:1,[::1]:5432,%2Fx:2/d",
        ),
        (
            "host=h user=u options='-c hush=1'",
            "postgresql://u@h:5432/u",
        ),
    ] {
        let conninfo = parse(text, &[]).unwrap();
        assert_eq!(conninfo.to_string(), expected);
        assert_eq!(format!("{conninfo:?}"), format!("Conninfo({expected})"));
    }
}

proptest! {
    #[test]
    fn any_text_gives_a_result_and_errors_hold_no_password(
        text in "[a-z=' \\\\@:/?&%,\\[\\]0-9\u{e9}\0]{0,30}",
        scheme in any::<bool>(),
    ) {
        let text = if scheme { format!("postgresql://{text}") } else { text };
        drop(parse(&text, &[]));
        let error = parse(&format!("{text} password=hush "), &[]).err();
        let error = format!("{error:?}");
        prop_assert!(!error.contains("hush"), "{}", error);
    }

    #[test]
    fn known_keys_with_any_value_give_a_result_and_errors_hold_no_value(
        pairs in vec((select(known_keys()), "[-a-z0-9/,!.=% \u{e9}]{0,12}"), 0..6),
        password in 0_usize..6,
        env in any::<bool>(),
    ) {
        let mut pairs = pairs;
        let secret = "hush-4711".to_owned();
        pairs.insert(password.min(pairs.len()), ("password", secret.clone()));
        pairs.push(("port", format!("x{secret}")));
        let text: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}='{value}'")).collect();
        let url: Vec<_> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={}", Encoded(value)))
            .collect();
        let env: &[_] = if env { &[("PGTARGETSESSIONATTRS", "hush-4711")] } else { &[] };
        for text in [text.join(" "), format!("postgresql://h?{}", url.join("&"))] {
            let error = parse(&text, env).unwrap_err().to_string();
            prop_assert!(!error.contains("hush"), "{}: {}", text, error);
        }
    }

    #[test]
    fn quoted_values_and_encoded_ones_read_back(
        password in "[^\0]{1,20}",
        user in "[^\0]{1,20}",
    ) {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let text = format!("user='{}' password='{}'", quote(&user), quote(&password));
        let conninfo = parse(&text, &[]).unwrap();
        prop_assert_eq!(&conninfo.user, &user);
        prop_assert_eq!(exposed(&conninfo), password.as_str());

        let text = format!("postgresql://{}:{}@h/d", Encoded(&user), Encoded(&password));
        let conninfo = parse(&text, &[]).unwrap();
        prop_assert_eq!(&conninfo.user, &user);
        prop_assert_eq!(exposed(&conninfo), password.as_str());
    }
}

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Conninfo, ConninfoError> {
    let login = Login {
        name: "me".to_owned(),
        home: "/nonexistent".into(),
    };
    let host = Host::Tcp("local".to_owned());
    Conninfo::parse_with(text, &|name| find(env, name), Some(login), &host)
}

fn known_keys() -> Vec<&'static str> {
    settings::supported().map(|(key, _)| key).collect()
}

fn find(env: &[(&str, &str)], name: &str) -> Option<String> {
    let found = env.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| (*value).to_owned())
}

/// Every text holds its secrets as `hush...`; the error must not.
fn assert_fault(text: &str, expected: &str) {
    let Err(error) = parse(text, &[]) else {
        panic!("{text}: no error");
    };
    let error = error.to_string();
    let error = error.strip_prefix("connection string: ").unwrap();
    assert!(error.starts_with(expected), "{text}: {error}");
    assert!(
        !error.contains("hush") && !error.contains('\n'),
        "{text}: {error}"
    );
}

/// User, password of the first host, hosts, ports, database.
fn summary(conninfo: &Conninfo) -> String {
    let Conninfo {
        hosts,
        user,
        database,
        ..
    } = conninfo;
    let names: Vec<_> = hosts.iter().map(|entry| name(&entry.host)).collect();
    let ports: Vec<_> = hosts.iter().map(|entry| entry.port.to_string()).collect();
    let password = exposed(conninfo);
    let (names, ports) = (names.join(","), ports.join(","));
    format!("{user} {password} {names} {ports} {database}")
}

fn name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(directory) => format!("unix:{}", directory.display()),
    }
}

fn exposed(conninfo: &Conninfo) -> &str {
    password(&conninfo.hosts[0])
}

fn password(entry: &HostEntry) -> &str {
    entry
        .password
        .as_ref()
        .map_or("-", |password| password.expose_secret())
}
