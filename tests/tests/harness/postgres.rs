//! Clusters: killed, frozen, configured.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use postgres::{Config, NoTls};
use walpost_tests::{Binaries, Postgres, Stop, try_wait_until, wait_until};

use crate::SOON;

#[test]
fn a_killed_cluster_keeps_what_was_committed_and_its_address() {
    let postgres = Postgres::new();
    let database = postgres.database("kept");
    database.execute("create table t (n int); insert into t values (7)");
    let url = database.url();
    postgres.kill();
    assert!(!postgres.is_running());
    postgres.start();
    assert_eq!(database.url(), url);
    let row = database.client().query_one("select n from t", &[]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    assert!(
        postgres.log().contains("was not properly shut down"),
        "SIGKILL was clean?"
    );

    postgres.restart(Stop::Fast);
    database.execute("insert into t values (8)");
}

#[test]
fn a_paused_walsender_stops_streaming_while_other_sessions_go_on() {
    let postgres = Postgres::builder().fsync(false).start();
    let database = postgres.database("paused");
    let slot = database.slot_name();
    database.execute(&format!(
        "select pg_create_logical_replication_slot('{slot}', 'test_decoding')"
    ));
    let mut session = database.client();
    let mut stream = Command::new(postgres.binaries().dir().join("pg_recvlogical"))
        .args([
            "--start",
            "--no-loop",
            "-f",
            "-",
            "-S",
            &slot,
            "-d",
            &database.url(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(SOON, "the stream is open", || {
        database.slot(&slot)?.active_pid
    });
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();

    postgres.pause();
    session
        .batch_execute("create table t (n int); insert into t values (1)")
        .unwrap();
    let refused = try_wait_until(Duration::from_millis(300), || {
        TcpStream::connect(("127.0.0.1", postgres.port())).err()
    });
    assert!(refused.is_none(), "the kernel still takes connections");
    let row = session
        .query_one(
            "select sent_lsn < pg_current_wal_lsn() from pg_stat_replication",
            &[],
        )
        .unwrap();
    assert!(row.get::<_, bool>(0), "a frozen walsender sent something");

    postgres.resume();
    assert!(lines.any(|line| line.unwrap().contains("INSERT: n[integer]:1")));
    stream.kill().unwrap();
    stream.wait().unwrap();
}

#[test]
fn a_slot_is_seen_and_waited_for() {
    let database = Postgres::shared().database("slot");
    let slot = database.slot_name();
    assert_eq!(database.slot(&slot), None);
    database.execute(&format!(
        "select pg_create_logical_replication_slot('{slot}', 'pgoutput');
         create table t (n int)"
    ));
    let lsn = database.current_lsn();
    let row = database.slot(&slot).expect("the slot was created");
    assert!(row.confirmed < Some(lsn));
    assert_eq!((row.name.as_str(), row.active_pid), (slot.as_str(), None));
    database.execute(&format!(
        "select pg_replication_slot_advance('{slot}', '{lsn}')"
    ));
    database.wait_until_confirmed(&slot, lsn, SOON);
    database.drop_slot(&slot);
    assert_eq!(database.slot(&slot), None);
}

#[test]
fn a_database_is_reached_through_its_socket_too() {
    let database = Postgres::shared().database("socket");
    let config: Config = database.socket_url().parse().unwrap();
    let mut client = config.connect(NoTls).unwrap();
    let row = client
        .query_one("select current_database(), inet_client_addr()", &[])
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), database.name());
    assert_eq!(row.get::<_, Option<IpAddr>>(1), None);
}

#[test]
fn settings_of_the_builder_and_of_a_running_server_hold() {
    let postgres = Postgres::builder()
        .fsync(false)
        .setting("wal_sender_timeout", "3s")
        .start();
    postgres.set("wal_keep_size", "1MB");
    let mut client = postgres.client();
    let mut show = |name: &str| {
        let row = client.query_one(&format!("show {name}"), &[]).unwrap();
        row.get::<_, String>(0)
    };
    assert_eq!(show("wal_level"), "logical");
    assert_eq!(show("fsync"), "off");
    assert_eq!(show("wal_sender_timeout"), "3s");
    wait_until(SOON, "the reload", || {
        (show("wal_keep_size") == "1MB").then_some(())
    });
}

#[test]
fn another_major_version_runs_where_its_binaries_are() {
    let newest = Binaries::newest().version();
    let Some(postgres) = (14..=19)
        .filter(|major| *major != newest)
        .find_map(Postgres::major)
    else {
        println!("skipped: no second major version; scripts/postgres-major.sh 18");
        return;
    };
    let mut client = postgres.client();
    let row = client.query_one("show server_version_num", &[]).unwrap();
    let number: u32 = row.get::<_, &str>(0).parse().unwrap();
    assert_eq!(number / 10_000, postgres.binaries().version());
    assert_ne!(number / 10_000, newest);
}
