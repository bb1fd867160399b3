//! Password files and service files.

use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;

#[test]
fn passwords_come_from_the_file_for_each_host() {
    let home = home_with(&[(
        ".pgpass",
        "a:1:d:u:one\n*:2:d:u:two\nlocalhost:*:*:*:three\n/x:*:*:*:four\n::1:*:*:*:no\n",
    )]);
    let home = home.path().to_str().unwrap();
    for (text, expected) in [
        ("host=a,b,c port=1,2,3 dbname=d user=u", "one two -"),
        ("postgresql://u@a:1,b:2/d", "one two"),
        ("postgresql://u@a:1/d?password=p", "p"),
        ("postgresql://u@a:1,b:2/other", "- -"),
        (
            "user=u dbname=d port=1,2 host=a,b hostaddr=::1,::2",
            "one two",
        ),
        ("hostaddr=127.0.0.1 host=localhost", "three"),
        ("host=/x", "four"),
        ("host=/x hostaddr=127.0.0.1", "four"),
        ("host=/y", "-"),
        ("password='' host=a port=1 user=u dbname=d", "one"),
    ] {
        assert_eq!(passwords(text, &[("HOME", home)]), expected, "{text}");
    }
    let env = [("HOME", home), ("PGPASSWORD", "e")];
    assert_eq!(passwords("postgresql://u@a:1/d", &env), "e");
    assert_eq!(passwords("postgresql://u@a:1/d?password=", &env), "one");
}

#[test]
fn password_file_can_be_read_again() {
    let home = home_with(&[(".pgpass", "*:*:*:*:old")]);
    let env = [("HOME", home.path().to_str().unwrap())];
    let path = home.path().join(".pgpass");
    let conninfo = parse("host=a", &env).unwrap();
    assert_eq!(exposed(&conninfo), "old");
    fs::write(&path, "*:*:*:*:new").unwrap();
    let conninfo = conninfo.refreshed();
    assert_eq!(exposed(&conninfo), "new");
    let given = conninfo.clone().with_password("p".to_owned().into());
    fs::remove_file(&path).unwrap();
    assert_eq!(exposed(&given.refreshed()), "p");
    assert_eq!(exposed(&conninfo.refreshed()), "-");
}

#[test]
fn pinned_to_one_server_its_name_still_finds_its_password() {
    let lines = "a:*:*:*:one\nb:*:*:*:two\n";
    let home = home_with(&[(".pgpass", lines)]);
    let env = [("HOME", home.path().to_str().unwrap())];
    let text = "host=a,b port=1,2 user=u dbname=d sslmode=verify-full load_balance_hosts=random \
                target_session_attrs=primary";
    let address = Some("127.0.0.1".parse().unwrap());
    let second = Endpoint { index: 1, address };
    let pinned = parse(text, &env).unwrap().pinned_to(&second);
    assert_eq!(summary(&pinned), "u two b 2 d");
    assert_eq!(pinned.hosts[0].hostaddr, address);
    assert!(pinned.hosts[0].is_named, "the certificate is to be for b");
    assert_eq!(pinned.tls.mode, SslMode::VerifyFull);
    assert_eq!(pinned.target_session_attrs, TargetSessionAttrs::Primary);

    fs::write(home.path().join(".pgpass"), lines.replace("two", "new")).unwrap();
    let again = pinned.refreshed();
    assert_eq!(summary(&again), "u new b 2 d");
    let same = Endpoint { index: 0, address };
    assert_eq!(summary(&again.pinned_to(&same)), "u new b 2 d");

    let socket = Endpoint {
        index: 0,
        address: None,
    };
    for text in ["host=/x,b", "hostaddr=127.0.0.2,::1"] {
        let conninfo = parse(text, &[]).unwrap();
        let first = conninfo.hosts[0].to_string();
        let pinned = conninfo.pinned_to(&socket);
        assert_eq!(pinned.hosts.len(), 1, "{text}");
        assert_eq!(pinned.hosts[0].to_string(), first, "{text}");
    }
}

#[test]
fn default_socket_is_localhost_to_the_password_file() {
    let home = home_with(&[(".pgpass", "localhost:5432:me:me:pw")]);
    let env = [("HOME", home.path().to_str().unwrap())];
    let login = Login {
        name: "me".to_owned(),
        home: "/nonexistent".into(),
    };
    let host = Host::Unix("/run/socket".into());
    for (text, expected) in [
        ("", "pw"),
        ("host=/run/socket", "pw"),
        ("host=/run/other", "-"),
        ("host=localhost", "pw"),
    ] {
        let env = |name: &str| find(&env, name);
        let conninfo = Conninfo::parse_with(text, &env, Some(login.clone()), &host).unwrap();
        assert_eq!(exposed(&conninfo), expected, "{text}");
    }
}

#[test]
fn password_file_is_the_one_that_is_named() {
    let home = home_with(&[(".pgpass", "*:*:*:*:home"), ("e", "*:*:*:*:env")]);
    let path = |name: &str| home.path().join(name).display().to_string();
    let named = home_with(&[("n", "*:*:*:*:named")]);
    let named = named.path().join("n");
    let (home, variable) = (path(""), path("e"));
    let env = [("HOME", home.as_str()), ("PGPASSFILE", variable.as_str())];
    let text = format!("passfile='{}'", named.display());
    assert_eq!(passwords(&text, &env), "named");
    assert_eq!(passwords("", &env), "env");
    assert_eq!(passwords("", &env[..1]), "home");
    assert_eq!(passwords("passfile=''", &env), "home");

    let conninfo = parse("", &env).unwrap();
    assert_eq!(conninfo.password_file(), Some(Path::new(&variable)));
    let given = conninfo.with_password("p".to_owned().into());
    assert_eq!(given.password_file(), None);
    for text in ["password=p", "host=a user=other passfile=/nonexistent"] {
        assert_eq!(parse(text, &env).unwrap().password_file(), None, "{text}");
    }
}

#[test]
fn password_file_that_is_not_used_is_warned_of_unless_none_is_needed() {
    let home = home_with(&[(".pgpass", "*:*:*:*:hush")]);
    let path = home.path().join(".pgpass");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let env = [("HOME", home.path().to_str().unwrap())];
    let conninfo = parse("", &env).unwrap();
    assert_eq!(exposed(&conninfo), "-");
    let warnings: Vec<_> = conninfo.warnings().collect();
    let path = path.display();
    let expected = format!(
        "the password file {path} is ignored: its group or others have access to it; \
         chmod 0600 {path}"
    );
    assert_eq!(warnings, [expected]);

    let conninfo = conninfo.with_password("p".to_owned().into());
    assert_eq!((exposed(&conninfo), conninfo.warnings().count()), ("p", 0));
    let none = parse("", &env).unwrap().without_password();
    assert_eq!((exposed(&none), none.warnings().count()), ("-", 0));
    let given = parse("password=p", &env).unwrap();
    assert_eq!(given.warnings().count(), 0);
    let missing = parse("passfile=/hush/none", &[]).unwrap();
    let warning = missing.warnings().next().unwrap();
    assert!(
        warning.contains("`passfile`") && !warning.contains("hush"),
        "{warning}"
    );
}

#[test]
fn text_goes_before_service_and_service_before_environment() {
    let service = "# services\n[other]\nhost=no\n\n[shop]\n  host=sh,si\nport=1,2\ndbname=sd \n\
                   password=s p\nsslmode=require\n[last]\nhost=no\n";
    let home = home_with(&[(".pg_service.conf", service)]);
    let env = [
        ("HOME", home.path().to_str().unwrap()),
        ("PGHOST", "eh"),
        ("PGDATABASE", "ed"),
        ("PGUSER", "eu"),
        ("PGPASSWORD", "ep"),
        ("PGSSLMODE", "disable"),
    ];
    let conninfo = parse("service=shop dbname=td", &env).unwrap();
    assert_eq!(summary(&conninfo), "eu s p sh,si 1,2 td");
    assert_eq!(conninfo.tls.mode, SslMode::Require);
    let conninfo = parse("postgresql:///?service=shop", &env).unwrap();
    assert_eq!(summary(&conninfo), "eu s p sh,si 1,2 sd");
    let conninfo = parse("dbname=''", &[env[0], ("PGSERVICE", "shop")]).unwrap();
    assert_eq!(
        summary(&conninfo),
        "me s p sh,si 1,2 me",
        "an empty value is given too"
    );
    let conninfo = parse("service=last", &[env[0], ("PGSERVICE", "shop")]).unwrap();
    assert_eq!(summary(&conninfo), "me - no 5432 me");
    let conninfo = parse("", &env).unwrap();
    assert_eq!(
        summary(&conninfo),
        "eu ep eh 5432 ed",
        "no service is named"
    );
}

#[test]
fn service_is_looked_for_in_one_file_after_the_other() {
    let home = home_with(&[
        (".pg_service.conf", "[a]\nhost=home"),
        ("pg_service.conf", "[a]\nhost=system\n[b]\nhost=system"),
        ("given", "[a]\nhost=given"),
        ("key", "[a]\nhost=key"),
    ]);
    let directory = home.path().to_str().unwrap();
    let given = format!("{directory}/given");
    let user = [("HOME", directory), ("PGSYSCONFDIR", directory)];
    let file = [("PGSERVICEFILE", given.as_str()), user[1]];
    let host = |text: &str, env: &[(&str, &str)]| {
        let conninfo = parse(text, env);
        conninfo.map(|conninfo| name(&conninfo.hosts[0].host))
    };
    assert_eq!(host("service=a", &user).unwrap(), "home");
    assert_eq!(host("service=b", &user).unwrap(), "system");
    assert_eq!(host("service=a", &file).unwrap(), "given");
    assert_eq!(host("service=b", &file).unwrap(), "system");
    let text = format!("service=a servicefile={directory}/key");
    assert_eq!(host(&text, &file).unwrap(), "key");

    let error = host("service=hush", &user).unwrap_err().to_string();
    let expected = format!(
        "connection string: `service` names a service that is not in \
         {directory}/.pg_service.conf nor in {directory}/pg_service.conf (a line [NAME] begins \
         one)"
    );
    assert_eq!(error, expected);
    let env = [("PGSERVICE", "hush"), ("PGSYSCONFDIR", "/hush")];
    let error = host("", &env).unwrap_err().to_string();
    assert!(
        error.contains("`PGSERVICE` names a service, and there is no"),
        "{error}"
    );
    let env = [("PGSERVICEFILE", "/hush/none"), user[1]];
    let error = host("service=a", &env).unwrap_err().to_string();
    let expected = "`PGSERVICEFILE` names a service file that does not exist";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn faults_of_service_files_name_the_line_and_no_value() {
    for (line, expected) in [
        ("hush", ": no '='; a service's lines are key=value"),
        ("service=hush", ": a service can't name another one"),
        ("servicefile=hush", ": a service can't name another one"),
        ("hots=hush", ": unknown key `hots`; did you mean `host`?"),
        ("host =hush", ": no blank may stand before the '='"),
        ("requiressl=1", ": unknown key `requiressl`"),
        ("requirepeer=hush", ": key `requirepeer` is not supported"),
        ("ldap://hush/x", ": services are not looked up by LDAP here"),
        ("port=hush", ") is not a number from 1 to 65535"),
        ("host=hush x", ") holds blanks"),
        ("host=hush\0", ") holds a zero byte"),
    ] {
        let text = format!("[x]\nhush=1\n\n[s]\n# hush\npassword=hush\n{line}\n");
        let home = home_with(&[(".pg_service.conf", &text)]);
        let directory = home.path().to_str().unwrap();
        let error = parse("service=s", &[("HOME", directory)]).unwrap_err();
        let error = error.to_string();
        let expected = format!("line 7 of {directory}/.pg_service.conf{expected}");
        assert!(error.contains(&expected), "{line}: {error}");
        assert!(!error.contains("hush"), "{line}: {error}");
    }
    let home = home_with(&[]);
    fs::write(home.path().join(".pg_service.conf"), b"[s]\nhost=\xff").unwrap();
    let error = parse("service=s", &[("HOME", home.path().to_str().unwrap())]);
    let error = error.unwrap_err().to_string();
    assert!(
        error.ends_with(".pg_service.conf can't be read: it is not UTF-8"),
        "{error}"
    );
}

fn passwords(text: &str, env: &[(&str, &str)]) -> String {
    let conninfo = parse(text, env).unwrap_or_else(|error| panic!("{text}: {error}"));
    let passwords: Vec<_> = conninfo.hosts.iter().map(password).collect();
    passwords.join(" ")
}

/// A directory with files that only their owner can read.
fn home_with(files: &[(&str, &str)]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    home
}
