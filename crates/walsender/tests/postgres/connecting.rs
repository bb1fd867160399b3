//! Sessions with a real server: ways in, ways to be refused, SQL.

use std::{
    error::Error as _,
    net::TcpListener,
    time::{Duration, Instant},
};

use walpost_walsender::{Connection, Conninfo, Error, Mode, quote_literal};

use crate::cluster::{Cluster, conninfo, dead_port, options};

#[tokio::test]
async fn trusted_user_connects_over_tcp_and_unix() {
    let database = Cluster::shared().create_database("trust");
    for conninfo in [database.tcp(), database.unix()] {
        for mode in [Mode::Sql, Mode::Replication] {
            let mut connection = Connection::connect(&conninfo, &options(mode))
                .await
                .unwrap();
            let rows = connection
                .query(
                    "SELECT pg_backend_pid(), current_database(), application_name \
                        FROM pg_stat_activity WHERE pid = pg_backend_pid()",
                )
                .await
                .unwrap();
            let pid = connection.backend_pid().to_string();
            assert_eq!(rows[0].get("pg_backend_pid"), Some(pid.as_str()));
            assert_eq!(rows[0].get(1), Some("trust"));
            assert_eq!(rows[0].get("application_name"), Some("walsender test"));
            let reported = connection.server_version().unwrap().to_string();
            let rows = connection.query("SHOW server_version_num").await.unwrap();
            assert_eq!(rows[0].get(0), Some(reported.as_str()));
            connection.close().await;
        }
    }
}

#[tokio::test]
async fn session_has_its_own_settings_whatever_user_and_database_say() {
    let database = Cluster::shared().create_database("settings");
    database.psql(
        "ALTER DATABASE settings SET statement_timeout = '1h'; \
         ALTER DATABASE settings SET idle_session_timeout = '1h'; \
         ALTER DATABASE settings SET datestyle = 'German'; \
         ALTER DATABASE settings SET search_path = 'public'; \
         ALTER DATABASE settings SET client_min_messages = 'error'",
    );
    let conninfo = with(
        &database.unix(),
        "options='-c statement_timeout=77 -c work_mem=5MB\\\\'",
    );
    let mut options = options(Mode::Replication);
    options.wal_sender_timeout = Duration::from_millis(12_345);
    let mut connection = Connection::connect(&conninfo, &options).await.unwrap();
    for (name, expected) in [
        ("statement_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("wal_sender_timeout", "12345ms"),
        ("search_path", "pg_catalog"),
        ("client_encoding", "UTF8"),
        ("datestyle", "ISO, MDY"),
        ("intervalstyle", "postgres"),
        ("timezone", "UTC"),
        ("bytea_output", "hex"),
        ("client_min_messages", "notice"),
        ("work_mem", "5MB"),
    ] {
        let rows = connection.query(&format!("SHOW {name}")).await.unwrap();
        assert_eq!(rows[0].get(0), Some(expected), "{name}");
    }
    assert_eq!(connection.parameter("TimeZone"), Some("UTC"));
}

#[tokio::test]
async fn passwords_are_given_in_the_way_that_the_server_asks_for() {
    let port = Cluster::shared().port();
    for (user, password) in [
        ("scram_user", "p\u{e4}ss word"),
        ("md5_user", "digest"),
        ("cleartext_user", "clear"),
    ] {
        let text = format!("host=127.0.0.1 port={port} user={user} dbname=postgres");
        let right = conninfo(&format!("{text} password='{password}'"));
        let mut connection = connect(&right).await.unwrap();
        let rows = connection.query("SELECT session_user").await.unwrap();
        assert_eq!(rows[0].get(0), Some(user));

        let error = connect(&conninfo(&format!("{text} password=wrong")))
            .await
            .unwrap_err();
        assert_eq!(error.sqlstate(), Some("28P01"), "{user}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
        assert_eq!(error.server().unwrap().severity, "FATAL");

        let error = connect(&conninfo(&text)).await.unwrap_err();
        assert!(
            error.is_authentication() && error.sqlstate().is_none(),
            "{user}: {error:?}"
        );
    }
}

#[tokio::test]
async fn server_says_why_it_refuses_a_session() {
    let cluster = Cluster::shared();
    let directory = cluster.socket_directory().display();
    let text = format!("host={directory} port={} ", cluster.port());
    for (rest, sqlstate) in [
        ("user=postgres dbname=nowhere", "3D000"),
        ("user=nobody dbname=postgres", "28000"),
        ("user=plain dbname=postgres", "42501"),
        (
            "user=postgres dbname=postgres options='-c no_such_setting=1'",
            "42704",
        ),
    ] {
        let error = connect(&conninfo(&format!("{text}{rest}")))
            .await
            .unwrap_err();
        assert_eq!(error.sqlstate(), Some(sqlstate), "{rest}");
        assert!(!error.is_closed() && !error.is_io() && !error.is_timeout());
    }
    let plain = conninfo(&format!("{text}user=plain dbname=postgres"));
    Connection::connect(&plain, &options(Mode::Sql))
        .await
        .unwrap();
}

#[tokio::test]
async fn refused_connection_names_what_was_tried() {
    let port = dead_port();
    let error = connect(&conninfo(&format!(
        "postgresql://u:hush@127.0.0.1:{port}/d"
    )))
    .await;
    let error = error.unwrap_err();
    assert!(error.is_io() && !error.is_closed() && !error.is_timeout());
    assert_eq!(
        error.to_string(),
        format!("connect to postgresql://u@127.0.0.1:{port}/d")
    );
    let cause = error.source().unwrap();
    assert_eq!(cause.to_string(), format!("can't reach 127.0.0.1:{port}"));
    assert!(cause.source().unwrap().to_string().contains("refused"));

    let error = connect(&conninfo("host=/nonexistent user=u"))
        .await
        .unwrap_err();
    assert!(error.is_io());
    let cause = error.source().unwrap().to_string();
    assert_eq!(cause, "can't reach /nonexistent/.s.PGSQL.5432");
}

#[tokio::test]
async fn name_of_the_server_is_resolved() {
    // The server listens on 127.0.0.1 only; where `localhost` means ::1 too, that is refused.
    let port = Cluster::shared().port();
    connect(&conninfo(&format!(
        "postgresql://postgres@localhost:{port}/postgres"
    )))
    .await
    .unwrap();
}

#[tokio::test]
async fn unknown_host_is_an_io_error() {
    let error = connect(&conninfo("postgresql://u@no-such-host.invalid/d"))
        .await
        .unwrap_err();
    assert!(error.is_io());
    assert_eq!(
        error.source().unwrap().to_string(),
        "the host name has no address"
    );
}

#[tokio::test]
async fn server_that_never_answers_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!("postgresql://u@127.0.0.1:{port}/d?connect_timeout=1");
    let begin = Instant::now();
    let error = connect(&conninfo(&text)).await.unwrap_err();
    assert!(error.is_timeout() && !error.is_io());
    let elapsed = begin.elapsed();
    assert!(
        elapsed >= Duration::from_secs(1) && elapsed < Duration::from_secs(10),
        "{elapsed:?}"
    );
}

#[tokio::test]
async fn sql_error_leaves_the_connection_usable() {
    let database = Cluster::shared().create_database("sql_error");
    let mut connection = database.connect().await.unwrap();
    let error = connection.query("SELECT * FROM nothing").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"));
    let sql = "DO $$ BEGIN RAISE EXCEPTION 'm' USING DETAIL = 'd', HINT = 'h', ERRCODE = '22012'; \
               END $$";
    let error = connection.query(sql).await.unwrap_err();
    let server = error.server().unwrap();
    assert_eq!(server.to_string(), "ERROR 22012: m; detail: d; hint: h");
    assert_eq!(
        connection.query("SELECT 1").await.unwrap()[0].get(0),
        Some("1")
    );
}

#[tokio::test]
async fn rows_of_all_statements_are_returned() {
    let database = Cluster::shared().create_database("rows");
    let mut connection = database.connect().await.unwrap();
    let rows = connection
        .query("SELECT 1 AS a, NULL AS b; SELECT 'x' AS c, ''")
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].get("a"), rows[0].get("b"), rows[0].get("c")),
        (Some("1"), None, None)
    );
    assert_eq!((rows[1].get("c"), rows[1].get(1)), (Some("x"), Some("")));
    assert_eq!(rows[1].columns()[0], "c");
    assert!(connection.query("").await.unwrap().is_empty());
    connection.query("SELECT '\0'").await.unwrap_err();
    assert_eq!(
        connection.query("SELECT 2").await.unwrap()[0].get(0),
        Some("2")
    );
}

#[tokio::test]
async fn quoted_literals_are_the_same_text_under_either_setting() {
    let database = Cluster::shared().create_database("literals");
    let mut connection = database.connect().await.unwrap();
    let text = "a'b\\c\\'d\"e\u{e9} \n";
    for setting in ["on", "off"] {
        let set = format!("SET standard_conforming_strings = {setting}");
        connection.query(&set).await.unwrap();
        let rows = connection
            .query(&format!("SELECT {}", quote_literal(text)))
            .await
            .unwrap();
        assert_eq!(rows[0].get(0), Some(text), "{setting}");
    }
}

#[tokio::test]
async fn notices_of_queries_are_kept_and_bounded() {
    let database = Cluster::shared().create_database("notices");
    let mut connection = database.connect().await.unwrap();
    let sql = "DO $$ BEGIN FOR i IN 1..1000 LOOP RAISE NOTICE 'n%', i; END LOOP; END $$";
    connection.query(sql).await.unwrap();
    let notices = connection.take_notices();
    assert_eq!(notices[0].to_string(), "NOTICE 00000: n1");
    assert!(notices.len() < 1000);
    assert!(connection.take_notices().is_empty());
}

#[tokio::test]
async fn connection_whose_query_was_given_up_refuses_the_next() {
    let database = Cluster::shared().create_database("given_up");
    let mut connection = database.connect().await.unwrap();
    let slow = connection.query("SELECT pg_sleep(1), 'old'");
    tokio::time::timeout(Duration::from_millis(50), slow)
        .await
        .unwrap_err();
    let error = connection.query("SELECT 'new'").await.unwrap_err();
    let cause = error.source().unwrap().to_string();
    assert_eq!(
        cause,
        "an earlier query on this connection was not finished"
    );
}

#[tokio::test]
async fn terminated_session_says_so_at_its_next_query() {
    let database = Cluster::shared().create_database("terminated");
    let mut connection = database.connect().await.unwrap();
    let pid = connection.backend_pid();
    database.psql(&format!("SELECT pg_terminate_backend({pid}, 10000)"));
    let error = connection.query("SELECT 1").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57P01"));
    assert!(
        !connection.query("SELECT 1").await.unwrap_err().is_closed(),
        "out of step"
    );
}

#[tokio::test]
async fn session_that_is_terminated_in_a_query_says_so() {
    let database = Cluster::shared().create_database("in_query");
    let mut connection = database.connect().await.unwrap();
    let sql = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)";
    assert_eq!(
        connection.query(sql).await.unwrap_err().sqlstate(),
        Some("57P01")
    );
}

async fn connect(conninfo: &Conninfo) -> Result<Connection, Error> {
    Connection::connect(conninfo, &options(Mode::Replication)).await
}

/// The same server, database and user with something more.
fn with(base: &Conninfo, more: &str) -> Conninfo {
    let Conninfo {
        hosts,
        user,
        database,
        ..
    } = base;
    let host = match &hosts[0].host {
        walpost_walsender::Host::Tcp(name) => name.clone(),
        walpost_walsender::Host::Unix(directory) => directory.display().to_string(),
    };
    let port = hosts[0].port;
    conninfo(&format!(
        "host={host} port={port} user={user} dbname={database} {more}"
    ))
}
