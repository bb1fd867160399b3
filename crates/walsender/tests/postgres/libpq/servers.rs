//! Which of several servers is chosen, and after which failures the next one is tried.

use super::*;

const TARGETS: [&str; 6] = [
    "any",
    "read-write",
    "read-only",
    "primary",
    "standby",
    "prefer-standby",
];

#[tokio::test]
async fn server_that_fits_is_the_one_that_libpq_chooses() {
    let servers = Servers::get();
    let mut sessions = 0;
    for letters in [
        "p", "s", "ps", "sp", "dps", "dsp", "tp", "ts", "pdt", "sd", "td",
    ] {
        for target in TARGETS {
            for user in ["postgres", "reader"] {
                let text = servers.text(letters);
                let text = format!("{text}user={user} target_session_attrs={target}");
                let outcome = assert_same(&text, &BTreeMap::new()).await;
                sessions += usize::from(matches!(outcome, Outcome::Session(_)));
            }
        }
    }
    // Not all alike.
    assert!(sessions > 60 && sessions < 120, "{sessions}");
}

#[tokio::test]
async fn server_that_fits_is_chosen_as_expected() {
    let servers = Servers::get();
    let (primary, standby) = (servers.primary.port(), servers.standby.port());
    for (letters, target, expected) in [
        ("sp", "any", standby),
        ("sp", "read-write", primary),
        ("ps", "read-only", standby),
        ("dtsp", "primary", primary),
        ("dtps", "standby", standby),
        ("ps", "prefer-standby", standby),
        ("dtp", "prefer-standby", primary),
    ] {
        let text = format!(
            "{}user=postgres target_session_attrs={target}",
            servers.text(letters)
        );
        let expected = Outcome::Session(format!("{expected} postgres postgres"));
        assert_eq!(
            connect(&text, &BTreeMap::new()).await,
            expected,
            "{letters} {target}"
        );
    }
    let text = format!(
        "{}user=postgres target_session_attrs=read-write",
        servers.text("ts")
    );
    let conninfo = conninfo(&text);
    let options = options(Mode::Sql);
    let error = Connection::connect(&conninfo, &options).await.unwrap_err();
    assert!(error.is_target());
    let cause = error.source().unwrap().to_string();
    let expected = format!(
        "127.0.0.1:{standby}: the session is read-only, and target_session_attrs asks for another"
    );
    assert!(
        cause.contains("FATAL 57P03: ") && cause.ends_with(&expected),
        "{cause}"
    );
}

#[tokio::test]
async fn refusal_ends_the_search_where_it_does_for_libpq() {
    let servers = Servers::get();
    let (primary, dead) = (servers.primary.port(), dead_port());
    for (letters, rest, expected) in [
        ("ps", "user=scram_user password=wrong", vec![primary]),
        ("dps", "user=scram_user password=wrong", vec![dead, primary]),
        ("ps", "user=scram_user", vec![primary]),
        ("ps", "user=nobody", vec![primary]),
        ("ps", "user=postgres dbname=nowhere", vec![primary]),
        (
            "tps",
            "user=postgres options='-c no_such=1'",
            vec![servers.starting.port(), primary],
        ),
        ("dd", "user=postgres", vec![dead]),
    ] {
        let text = format!("{}{rest}", servers.text(letters));
        let outcome = assert_same(&text, &BTreeMap::new()).await;
        assert_eq!(outcome, Outcome::Failed(expected), "{letters} {rest}");
    }
    for letters in ["ps", "tdp"] {
        let text = format!("{}user=scram_user password=right", servers.text(letters));
        let expected = format!("{primary} scram_user postgres");
        let outcome = assert_same(&text, &BTreeMap::new()).await;
        assert_eq!(outcome, Outcome::Session(expected));
    }
}

#[tokio::test]
async fn second_connection_reaches_the_server_of_the_first() {
    let servers = Servers::get();
    let (primary, standby) = (servers.primary.port(), servers.standby.port());
    let socket = servers.primary.socket_directory().display();
    let random = servers.text("sp") + "user=postgres load_balance_hosts=random";
    let targeted = servers.text("dps") + "user=postgres target_session_attrs=standby";
    let unix = format!("host={socket},127.0.0.1 port={primary},{standby} user=postgres");
    for (text, expected) in [
        (random.as_str(), None),
        (&targeted, Some(standby)),
        (&unix, Some(primary)),
    ] {
        let conninfo = conninfo(text);
        let mut first = connection(&conninfo).await;
        let port = port_of(&mut first).await;
        assert_eq!(port, expected.unwrap_or(port), "{text}");
        let pinned = conninfo.pinned_to(first.endpoint());
        // By chance alone: once in 2^16.
        for _ in 0..16 {
            let mut second = connection(&pinned).await;
            assert_eq!(port_of(&mut second).await, port, "{text}");
            second.close().await;
        }
        first.close().await;
    }
}

async fn connection(conninfo: &Conninfo) -> Connection {
    let options = options(Mode::Sql);
    Connection::connect(conninfo, &options).await.unwrap()
}

async fn port_of(connection: &mut Connection) -> u16 {
    let rows = connection.query("SHOW port").await.unwrap();
    rows[0].get(0).unwrap().parse().unwrap()
}

#[tokio::test]
async fn random_order_reaches_all_servers() {
    const TIMES: usize = 32;
    let servers = Servers::get();
    let text = format!(
        "{}user=postgres load_balance_hosts=random",
        servers.text("ps")
    );
    let mut ours = BTreeMap::<_, usize>::new();
    let mut theirs = BTreeMap::<_, usize>::new();
    let newer = Libpq::newer();
    for _ in 0..TIMES {
        let outcome = connect(&text, &BTreeMap::new()).await;
        *ours.entry(format!("{outcome:?}")).or_default() += 1;
        if let Some(libpq) = &newer {
            let outcome = libpq.connect(&text, &BTreeMap::new());
            *theirs.entry(format!("{outcome:?}")).or_default() += 1;
        }
    }
    // The same one each time: once in 2^31.
    assert_eq!(ours.len(), 2, "{ours:?}");
    if newer.is_some() {
        assert!(ours.keys().eq(theirs.keys()), "{ours:?} {theirs:?}");
    }
}
