//! Strings, files and variables: what they mean, and what is wrong with them.

use super::*;

#[tokio::test]
async fn password_file_opens_the_same_doors() {
    let servers = Servers::get();
    let (primary, standby) = (servers.primary.port(), servers.standby.port());
    let lines = [
        format!("127.0.0.1:{primary}:*:scram_user:right"),
        format!("127.0.0.1:{primary}:postgres:scram_user:wrong\n*:*:*:*:right"),
        format!("#x\n\n127.0.0.1:{standby}:*:*:right\r\n*:{primary}:*:*:wrong"),
        "127.0.0.1:\\*:*:*:wrong\n127\\.0.0.1:*:post\\gres:*:ri\\ght:rest".to_owned(),
        "*:*:*:scram_user:".to_owned(),
        "*:*:*:scram_user:\n*:*:*:*:right".to_owned(),
        "127.0.0.1 :*:*:*:right".to_owned(),
        "**:*:*:*:right".to_owned(),
        "*:*:*:*:right ".to_owned(),
    ];
    for line in &lines {
        for mode in [0o600, 0o640] {
            let home = home_with(".pgpass", line, mode);
            let path = home.path().join(".pgpass").display().to_string();
            let by_home = BTreeMap::from([("HOME", home.path().display().to_string())]);
            let by_name = BTreeMap::from([("PGPASSFILE", path)]);
            for letters in ["ps", "sp"] {
                let text = format!("{}user=scram_user", servers.text(letters));
                assert_same(&text, &by_home).await;
                assert_same(&text, &by_name).await;
            }
        }
    }
}

#[tokio::test]
async fn service_and_environment_give_way_in_the_same_order() {
    let servers = Servers::get();
    let (primary, standby) = (servers.primary.port(), servers.standby.port());
    let service = format!(
        "[full]\nhost=127.0.0.1\nport={standby}\nuser=reader\nsslmode=disable\n\
         [part]\n# none\n  user=reader \n[bad]\nhots=x\n[nested]\nservice=part\n[none]\n x"
    );
    let home = home_with(".pg_service.conf", &service, 0o644);
    let home = home.path().display().to_string();
    let mut env = BTreeMap::from([
        ("HOME", home.clone()),
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGPORT", primary.to_string()),
        ("PGUSER", "postgres".to_owned()),
        ("PGDATABASE", "template1".to_owned()),
    ]);
    let texts = [
        "service=full".to_owned(),
        "service=part".to_owned(),
        "service=bad".to_owned(),
        "service=nested".to_owned(),
        "service=none".to_owned(),
        "service=missing".to_owned(),
        "service=full user=postgres dbname=postgres".to_owned(),
        format!("postgresql://:{primary}/?service=full"),
        "postgresql:///postgres?service=part".to_owned(),
        "dbname='' service=full".to_owned(),
        String::new(),
    ];
    for text in &texts {
        assert_same(text, &env).await;
    }
    env.insert("PGSERVICE", "part".to_owned());
    assert_same("", &env).await;
    assert_same("service=full", &env).await;
    env.insert("PGSERVICEFILE", format!("{home}/missing"));
    assert_same("service=full", &env).await;
    env.insert("PGSERVICEFILE", format!("{home}/.pg_service.conf"));
    env.insert("HOME", "/nonexistent".to_owned());
    let outcome = assert_same("service=full", &env).await;
    assert_eq!(
        outcome,
        Outcome::Session(format!("{standby} reader template1"))
    );
}

#[tokio::test]
async fn strings_of_keys_are_refused_by_both_or_by_none() {
    let (primary, dead) = (Servers::get().primary.port(), dead_port());
    let base = "user=postgres dbname=postgres sslmode=disable connect_timeout=5 host=127.0.0.1";
    let mut found = Vec::new();
    for rest in [
        "port=P",
        "port=' P '",
        "port=D",
        "port=0",
        "port=65536",
        "port=x",
        "port=P,P",
        "port=P,P,P host=127.0.0.1,127.0.0.1",
        "port=D, host=127.0.0.1,127.0.0.1",
        "port=P hostaddr=127.0.0.1",
        "port=P host=nowhere.invalid hostaddr=127.0.0.1",
        "port=D,P host=,127.0.0.1 hostaddr=127.0.0.1,",
        "port=P hostaddr=127.0.0.1,127.0.0.1",
        "port=P sslmode=''",
        "port=P sslmode=x",
        "port=P requiressl=0",
        "port=P sslrootcert=''",
        "port=P channel_binding=x",
        "port=P connect_timeout=x",
        "port=P connect_timeout=''",
        "port=P connect_timeout=-1",
        "port=P keepalives=0",
        "port=P keepalives=x",
        "port=P keepalives_idle=7 keepalives_count=2",
        "port=P user=''",
        "port=P gssencmode=prefer",
        "port=P gssencmode=x",
        "port=P sslcompression=1",
        "port=P ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        "port=P ssl_min_protocol_version=tlsv1.3",
        "port=P ssl_max_protocol_version=SSLv3",
        "port=P ssl_max_protocol_version=TLSv1.1",
        "port=P target_session_attrs=''",
        "port=P target_session_attrs=Any",
        "port=P tcp_user_timeout=1000",
        "port=P Host=x",
        "port=P password",
        "port=P password='x",
        "port=P password=a\\ b",
        "port=P fallback=x",
        "port=P fallback_application_name=x",
        "port=P client_encoding=UTF8",
        "port = P",
    ] {
        let text = format!("{base} {rest}")
            .replace('P', &primary.to_string())
            .replace("=D", &format!("={dead}"));
        found.extend(differences(&text, &BTreeMap::new()).await);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn urls_are_refused_by_both_or_by_none() {
    let (primary, dead) = (Servers::get().primary.port(), dead_port());
    let mut found = Vec::new();
    for url in [
        "postgresql://postgres@127.0.0.1:P/postgres",
        "postgres://postgres@127.0.0.1:D,127.0.0.1:P/postgres",
        "postgresql://postgres@127.0.0.1,127.0.0.1:P/postgres?port=D,P",
        "postgresql://127.0.0.1:P?user=postgres&dbname=template1",
        "postgresql://%70ostgres@127.0.0.1:P/%70ostgres",
        "postgresql://postgres@127.0.0.1:P/postgres?sslmode=x",
        "postgresql://postgres@127.0.0.1:P/postgres?x=1",
        "postgresql://postgres@127.0.0.1:P/postgres?ssl=false",
        "postgresql://postgres@127.0.0.1:P/postgres?sslmode=disable&",
        "postgresql://postgres@127.0.0.1:P/postgres?sslmode",
        "postgresql://postgres@127.0.0.1:P/postgres?sslmode=a=b",
        "postgresql://postgres@[::1:P/postgres",
        "postgresql://postgres@[]:P/postgres",
        "postgresql://postgres@127.0.0.1:P/post%gres",
        "postgresql://postgres@127.0.0.1:P/a%2Fb",
    ] {
        let text = url
            .replace('P', &primary.to_string())
            .replace(":D", &format!(":{dead}"));
        let text = text.replace("=D", &format!("={dead}"));
        let env = BTreeMap::from([("PGSSLMODE", "disable".to_owned())]);
        found.extend(differences(&text, &env).await);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn younger_keys_are_refused_by_both_or_by_none() {
    let Some(libpq) = Libpq::newer() else {
        return;
    };
    let primary = Servers::get().primary.port();
    let base = format!("host=127.0.0.1 port={primary} user=postgres dbname=postgres ");
    for (rest, is_refused) in [
        ("sslmode=disable load_balance_hosts=disable", false),
        ("sslmode=disable load_balance_hosts=x", true),
        ("sslmode=disable load_balance_hosts=''", true),
        ("sslmode=disable sslcertmode=allow", false),
        ("sslmode=disable sslcertmode=x", true),
        ("sslmode=disable sslcertmode=''", true),
        ("sslmode=disable require_auth=''", false),
        ("sslmode=disable require_auth=x", true),
        ("sslmode=disable require_auth=md5,md5", true),
        ("sslmode=disable require_auth=md5,!none", true),
        ("sslmode=disable require_auth=!md5,none", true),
        ("sslmode=disable require_auth=md5,", true),
        ("sslmode=disable sslnegotiation=postgres", false),
        ("sslmode=disable sslnegotiation=direct", true),
        ("sslmode=prefer sslnegotiation=direct", true),
        ("sslmode=disable sslnegotiation=x", true),
        ("sslmode=require sslrootcert=system", true),
        ("sslmode=disable min_protocol_version=3.0", false),
        ("sslmode=disable min_protocol_version=3.1", true),
        ("sslmode=disable max_protocol_version=3.2", false),
        ("sslmode=disable max_protocol_version=4", true),
    ] {
        let text = format!("{base}{rest}");
        let ours = connect(&text, &BTreeMap::new()).await;
        let theirs = libpq.connect(&text, &BTreeMap::new());
        assert_eq!(ours, theirs, "{rest}: ours is left");
        assert_eq!(ours == Outcome::Refused, is_refused, "{rest}");
    }
}

fn home_with(name: &str, text: &str, mode: u32) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let path: &Path = &home.path().join(name);
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    home
}
