//! The way to the server, and what a role that may only replicate sees of it.

use std::{
    io::{Read, Write, copy},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    thread,
};

use walpost_tests::Walpost;

use super::{Stage, any_topic, at, check, fixed_route};
use crate::stage::{STREAMER, postgres, psql};

/// Something on the way that changes what the client says, whenever it says it.
fn in_between(from: &'static str, to: &'static str) -> u16 {
    assert_eq!(from.len(), to.len(), "a message tells its length");
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("a listener has one").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", postgres().port())).expect("connect");
            let clone = |stream: &TcpStream| stream.try_clone().expect("duplicate a socket");
            let (mut answers, mut answered) = (clone(&server), clone(&client));
            thread::spawn(move || {
                copy(&mut answers, &mut answered).ok();
                answered.shutdown(Shutdown::Both).ok();
            });
            thread::spawn(move || changed(client, server, from, to));
        }
    });
    port
}

fn changed(mut client: TcpStream, mut server: TcpStream, from: &str, to: &str) {
    let mut bytes = [0; 64 << 10];
    while let Ok(read @ 1..) = client.read(&mut bytes) {
        let said = &mut bytes[..read];
        let found = said.windows(from.len()).position(|w| w == from.as_bytes());
        if let Some(start) = found {
            said[start..start + to.len()].copy_from_slice(to.as_bytes());
        }
        if server.write_all(said).is_err() {
            break;
        }
    }
    server.shutdown(Shutdown::Both).ok();
}

#[test]
fn a_time_limit_that_is_lost_on_the_way_is_found() {
    let stage = Stage::ready("sender_timeout");
    fixed_route(&stage);
    check(&stage).assert_not("WP-PG-SENDER-TIMEOUT");
    let port = in_between("wal_sender_timeout=15000", "wal_sender_timeout=00000");
    at(&stage, &stage.database.url_through(port));
    let found = check(&stage);
    assert_eq!(
        (found.code, found.codes()),
        (0, vec!["WP-PG-SENDER-TIMEOUT", "WP-TABLE-NULL"]),
        "{found:#?}"
    );
    let timeout = found.the("WP-PG-SENDER-TIMEOUT");
    assert!(
        timeout.seen.contains("although it asks for 15 s"),
        "{timeout:?}"
    );
    assert!(
        timeout.fix.contains("set wal_sender_timeout = '15s';"),
        "{timeout:?}"
    );
}

#[test]
fn a_replication_connection_that_does_not_get_through_is_found() {
    let stage = Stage::ready("session");
    let port = in_between("replication\0database", "replication\0somewhat");
    at(&stage, &stage.database.url_through(port));
    let found = check(&stage);
    assert_eq!(
        (found.code, found.errors()),
        (1, vec!["WP-PG-SESSION"]),
        "{found:#?}"
    );
    let session = found.the("WP-PG-SESSION");
    assert!(
        session.seen.contains("invalid value for parameter"),
        "{session:?}"
    );
    assert!(
        session.fix.contains("without a proxy in between"),
        "{session:?}"
    );
    stage.refused(78, &["invalid value for parameter \"replication\""]);
}

#[test]
fn tls_that_fails_and_a_password_file_that_is_not_used_are_found() {
    let mut stage = Stage::ready("tls_and_file");
    let url = stage.database.url();
    at(&stage, &format!("{url}?sslmode=require"));
    let found = check(&stage);
    assert_eq!(
        (found.code, found.errors()),
        (1, vec!["WP-PG-TLS"]),
        "{found:#?}"
    );
    let tls = found.the("WP-PG-TLS");
    assert!(tls.fix.contains("ssl=on"), "{tls:?}");

    // It is looked into where there is no password, and an empty one is none.
    stage.walpost = Walpost::new("").env("PGPASSWORD", "");
    let file = stage.walpost.dir().join("passfile");
    std::fs::write(&file, "*:*:*:*:hunter-passfile").expect("write a password file");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&file, open).expect("let everybody read it");
    at(&stage, &format!("{url}?passfile={}", file.display()));
    let found = check(&stage);
    assert_eq!((found.code, found.errors()), (0, vec![]), "{found:#?}");
    let conninfo = found.the("WP-PG-CONNINFO");
    assert_eq!(conninfo.severity, "warning");
    assert!(conninfo.seen.contains("passfile"), "{conninfo:?}");
    assert!(conninfo.fix.contains("chmod 0600"), "{conninfo:?}");
}

/// A catalogue that somebody hardened.
#[test]
fn a_question_that_is_refused_is_quoted_and_told_by_the_exit_code() {
    let stage = Stage::ready("query");
    let right = "select on pg_catalog.pg_publication_tables";
    stage
        .database
        .execute(&format!("revoke {right} from public"));
    at(&stage, &stage.url_as(STREAMER, "any"));
    let found = check(&stage);
    assert_eq!(
        (found.code, found.errors()),
        (77, vec!["WP-PG-QUERY"]),
        "{found:#?}"
    );
    let query = found.the("WP-PG-QUERY");
    assert!(query.seen.contains("pg_publication_tables"), "{query:?}");
    stage.database.execute(&format!("grant {right} to public"));
    assert_eq!(check(&stage).codes(), ["WP-TABLE-NULL"]);
}

/// It reads no table, and can't even name those of a schema that it may not use.
#[test]
fn a_role_that_may_only_replicate_sees_a_whole_set_up_whole() {
    let stage = Stage::bare("streamer");
    let sections = format!(
        "outbox:\n  table: shop.outbox\nroute:\n  topic: {}\n",
        any_topic()
    );
    let url = |role: &str| stage.url_as(role, "any");
    let configure = |role: &str| {
        let yaml = stage.yaml_of(&url(role), &stage.kafka.brokers(), &sections);
        stage.walpost.configure(&yaml);
    };
    stage.database.execute(
        "create schema shop;
         create table shop.outbox (id uuid not null default gen_random_uuid(), destination text,
             aggregate_id text, payload jsonb not null, created_at date default now())
             partition by range (created_at);
         create table shop.p1 partition of shop.outbox for values from ('2020-01-01')
             to ('2020-02-01')",
    );
    configure("postgres");
    stage.init();
    configure(STREAMER);
    let found = check(&stage);
    assert_eq!(
        (found.code, found.codes()),
        (0, vec!["WP-TABLE-FUTURE"]),
        "{found:#?}"
    );
    psql(&url("postgres"), &found.the("WP-TABLE-FUTURE").fix);
    assert_eq!(check(&stage).codes(), [""; 0]);
    stage.database.execute(&format!(
        "insert into shop.outbox (destination, payload) values ('{}', '1')",
        any_topic()
    ));
    stage.once();
}
