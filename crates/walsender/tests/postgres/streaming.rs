//! Replication streams of a real server.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    thread,
    time::Duration,
};

use tokio::time::timeout;
use walpost_pgoutput::{Cell, CopyMessage, Lsn, Message, PgTimestamp, StandbyStatus};
use walpost_walsender::{
    Connection, Conninfo, Error, Mode, StartReplication, StreamMessage, WalStream,
};

use crate::cluster::{Cluster, Database, conninfo, options, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn committed_insert_arrives_over_tcp_and_unix() {
    let database = Cluster::shared().create_database("inserts");
    let slot = database.create_slot("p");
    for (id, conninfo) in [(1, database.tcp()), (2, database.unix())] {
        let mut stream = stream(&conninfo, slot, &["p"]).await;
        database.psql(&format!("INSERT INTO items VALUES ({id}, 'body')"));
        loop {
            let (begin, id_seen, commit) = transaction(&mut stream).await;
            assert!(begin < commit, "the commit record ends after its start");
            if id_seen == id.to_string() {
                break;
            }
        }
        stream.finish(DEADLINE).await.unwrap();
    }
}

#[tokio::test]
async fn binary_values_and_logical_messages_come_when_asked_for() {
    let database = Cluster::shared().create_database("binary_values");
    let slot = database.create_slot("p");
    let connection = database.connect().await.unwrap();
    let start = StartReplication {
        binary: true,
        messages: true,
        ..start(slot, &["p"])
    };
    let mut stream = connection.start_replication(&start).await.unwrap();
    database.psql("INSERT INTO items VALUES (258, 'body')");
    let (mut cell, mut prefix) = (None, None);
    database.psql("SELECT pg_logical_emit_message(true, 'my prefix', 'content')");
    while cell.is_none() || prefix.is_none() {
        let message = logical(&mut stream).await.unwrap();
        if let Message::Insert(insert) = &message {
            let Some(Cell::Binary(bytes)) = insert.new.cells().next() else {
                panic!("not binary");
            };
            cell = Some(bytes.to_vec());
        }
        if let Message::Logical(message) = message {
            prefix = Some(message.prefix);
        }
    }
    assert_eq!(cell.unwrap(), [0, 0, 1, 2]);
    assert_eq!(prefix.unwrap(), "my prefix");
}

#[tokio::test]
async fn status_moves_the_slot() {
    let database = Cluster::shared().create_database("status_moves");
    let slot = database.create_slot("p");
    let mut stream = stream(&database.unix(), slot, &["p"]).await;
    database.psql("INSERT INTO items VALUES (1, 'body')");
    let (_, _, end) = transaction(&mut stream).await;
    stream.queue_status(&status(end));
    assert!(stream.try_flush().unwrap());
    wait_until("the slot has moved", || {
        confirmed(&database) == end.to_string()
    });
}

#[tokio::test]
async fn finish_is_clean_and_carries_the_last_status() {
    let database = Cluster::shared().create_database("finishes");
    let slot = database.create_slot("p");
    let mut stream = stream(&database.tcp(), slot, &["p"]).await;
    database.psql("INSERT INTO items VALUES (1, 'body')");
    let (_, _, end) = transaction(&mut stream).await;
    // More than the sockets hold is on its way when the end is asked for.
    database.psql("INSERT INTO items SELECT i, repeat('x', 1000) FROM generate_series(2, 20000) i");
    stream.queue_status(&status(end));
    stream.finish(DEADLINE).await.unwrap();
    let row = database.psql(
        "SELECT active, confirmed_flush_lsn FROM pg_replication_slots \
                             WHERE database = current_database()",
    );
    assert_eq!(row, format!("f|{end}"));
}

#[tokio::test]
async fn names_of_publications_may_hold_anything() {
    let database = Cluster::shared().create_database("hostile_names");
    let slot = database.create_slot("\"we\"\"ird, pu'b\"");
    database.psql("CREATE PUBLICATION \"back\\slash\\\"");
    let names = ["we\"ird, pu'b", "back\\slash\\"];
    let mut stream = stream(&database.unix(), slot, &names).await;
    database.psql("INSERT INTO items VALUES (1, 'body')");
    assert_eq!(transaction(&mut stream).await.1, "1");
}

#[tokio::test]
async fn hostile_name_of_a_slot_is_only_a_name() {
    let database = Cluster::shared().create_database("hostile_slot");
    database.create_slot("p");
    for name in [
        "hostile_slot\" LOGICAL 0/0 --",
        "a b",
        "'; DROP TABLE items; --",
        "\\",
    ] {
        let connection = database.connect().await.unwrap();
        let error = connection
            .start_replication(&start(name, &["p"]))
            .await
            .unwrap_err();
        assert!(
            matches!(error.sqlstate(), Some("42601" | "42704" | "42602")),
            "{error:?}"
        );
    }
    let connection = database.connect().await.unwrap();
    let error = connection
        .start_replication(&start("a\0b", &["p"]))
        .await
        .unwrap_err();
    assert!(error.sqlstate().is_none(), "it was never sent: {error:?}");
}

#[tokio::test]
async fn missing_slot_and_slot_in_use_are_refused() {
    let database = Cluster::shared().create_database("refused");
    let slot = database.create_slot("p");
    let connection = database.connect().await.unwrap();
    let error = connection
        .start_replication(&start("no_such_slot", &["p"]))
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), Some("42704"));
    assert_eq!(error.to_string(), "start replication");

    let first = stream(&database.unix(), slot, &["p"]).await;
    let connection = database.connect().await.unwrap();
    let error = connection
        .start_replication(&start(slot, &["p"]))
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), Some("55006"));
    drop(first);
}

#[tokio::test]
async fn missing_publication_is_told_at_the_first_change() {
    let database = Cluster::shared().create_database("no_publication");
    let slot = database.create_slot("p");
    let mut stream = stream(&database.unix(), slot, &["no_such_publication"]).await;
    database.psql("INSERT INTO items VALUES (1, 'body')");
    loop {
        match receive(&mut stream).await {
            // PostgreSQL 18 goes on without the rows.
            Ok(StreamMessage::Notice(notice)) => {
                assert_eq!(
                    (notice.severity.as_str(), notice.sqlstate.as_str()),
                    ("WARNING", "55000")
                );
                break;
            }
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.sqlstate(), Some("42704"));
                assert!(!error.is_closed(), "the server keeps the connection open");
                break;
            }
        }
    }
}

#[tokio::test]
async fn terminated_stream_says_so() {
    let database = Cluster::shared().create_database("stream_terminated");
    let slot = database.create_slot("p");
    let connection = database.connect().await.unwrap();
    let pid = connection.backend_pid();
    let mut stream = connection
        .start_replication(&start(slot, &["p"]))
        .await
        .unwrap();
    database.psql(&format!("SELECT pg_terminate_backend({pid}, 10000)"));
    let error = loop {
        if let Err(error) = receive(&mut stream).await {
            break error;
        }
    };
    assert_eq!(error.sqlstate(), Some("57P01"));
}

#[tokio::test]
async fn notices_come_up_in_the_stream() {
    let database = Cluster::shared().create_database("stream_notices");
    let slot = database.create_slot("p");
    let mut connection = database.connect().await.unwrap();
    let talkative = "SET client_min_messages = debug1";
    connection.query(talkative).await.unwrap();
    let mut stream = connection
        .start_replication(&start(slot, &["p"]))
        .await
        .unwrap();
    loop {
        if let StreamMessage::Notice(notice) = receive(&mut stream).await.unwrap() {
            assert!(!notice.message.is_empty());
            assert_eq!(notice.sqlstate, "00000");
            break;
        }
    }
}

#[tokio::test]
async fn large_rows_arrive_whole_through_tiny_reads() {
    const ROWS: u8 = 4;
    const ROW_BYTES: usize = 50_000_000;
    let database = Cluster::shared().create_database("large_rows");
    let slot = database.create_slot("p");
    for row in 0..ROWS {
        let letter = char::from(b'a' + row);
        database.psql(&format!(
            "INSERT INTO items VALUES ({row}, repeat('{letter}', {ROW_BYTES}))"
        ));
    }
    let port = slow_proxy(Cluster::shared());
    let conninfo = conninfo(&format!(
        "postgresql://postgres@127.0.0.1:{port}/{}",
        database.name
    ));
    let mut stream = stream(&conninfo, slot, &["p"]).await;
    for row in 0..ROWS {
        let insert = loop {
            if let Message::Insert(insert) = logical(&mut stream).await.unwrap() {
                break insert;
            }
        };
        let Some(Cell::Text(body)) = insert.new.cells().nth(1) else {
            panic!("no text");
        };
        assert_eq!(body.len(), ROW_BYTES);
        assert!(body.iter().all(|byte| *byte == b'a' + row));
    }
    let peak = memory_peak_kib();
    assert!(peak < 250 * 1024, "a row of 50 MB took {peak} KiB");
}

#[tokio::test]
async fn message_above_the_limit_is_refused_clearly() {
    let database = Cluster::shared().create_database("above_limit");
    let slot = database.create_slot("p");
    let mut options = options(Mode::Replication);
    options.message_bytes_max = 1 << 20;
    let connection = Connection::connect(&database.unix(), &options)
        .await
        .unwrap();
    let mut stream = connection
        .start_replication(&start(slot, &["p"]))
        .await
        .unwrap();
    database.psql("INSERT INTO items VALUES (1, 'small'), (2, repeat('x', 2000000))");
    let error = loop {
        if let Err(error) = receive(&mut stream).await {
            break error;
        }
    };
    assert!(error.is_too_large() && !error.is_closed());
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("above the limit of 1048576 bytes"),
        "{cause}"
    );
}

fn start<'a>(slot: &'a str, publications: &'a [&'a str]) -> StartReplication<'a> {
    StartReplication {
        slot,
        start: Lsn::new(0),
        publications,
        binary: false,
        messages: false,
    }
}

async fn stream(conninfo: &Conninfo, slot: &str, publications: &[&str]) -> WalStream {
    let connection = Connection::connect(conninfo, &options(Mode::Replication))
        .await
        .unwrap();
    connection
        .start_replication(&start(slot, publications))
        .await
        .unwrap()
}

/// The next message, with a limit to the wait.
async fn receive(stream: &mut WalStream) -> Result<StreamMessage, Error> {
    loop {
        if let Some(message) = stream.next()? {
            return Ok(message);
        }
        timeout(DEADLINE, stream.readable())
            .await
            .expect("something comes in time")?;
        stream.try_fill()?;
    }
}

/// The next message of the decoder.
async fn logical(stream: &mut WalStream) -> Result<Message, Error> {
    loop {
        if let StreamMessage::Copy(CopyMessage::XLogData(data)) = receive(stream).await? {
            return Ok(Message::decode(data.data).unwrap());
        }
    }
}

/// A transaction of one insert: start of the commit record, first column, end of the commit record.
async fn transaction(stream: &mut WalStream) -> (Lsn, String, Lsn) {
    let Message::Begin(begin) = logical(stream).await.unwrap() else {
        panic!("no Begin")
    };
    let mut message = logical(stream).await.unwrap();
    if let Message::Relation(relation) = &message {
        assert_eq!(&relation.name[..], b"items");
        message = logical(stream).await.unwrap();
    }
    let Message::Insert(insert) = message else {
        panic!("no Insert")
    };
    let Some(Cell::Text(id)) = insert.new.cells().next() else {
        panic!("no text")
    };
    let id = String::from_utf8(id.to_vec()).unwrap();
    let Message::Commit(commit) = logical(stream).await.unwrap() else {
        panic!("no Commit")
    };
    (begin.final_lsn, id, commit.end_lsn)
}

fn status(position: Lsn) -> StandbyStatus {
    StandbyStatus {
        write: position,
        flush: position,
        apply: position,
        client_time: PgTimestamp::new(0),
        reply_requested: false,
    }
}

fn confirmed(database: &Database) -> String {
    database.psql(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()",
    )
}

/// Serves one connection to the server, and hands over what comes from it in small pieces of many
/// sizes.
fn slow_proxy(cluster: &'static Cluster) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let path: PathBuf = cluster
        .socket_directory()
        .join(format!(".s.PGSQL.{}", cluster.port()));
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = UnixStream::connect(path).unwrap();
        client.set_nodelay(true).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let upwards = thread::spawn(move || std::io::copy(&mut from, &mut to));
        hand_over(server, &client);
        drop(client);
        drop(upwards.join());
    });
    port
}

fn hand_over(mut server: UnixStream, mut client: &TcpStream) {
    let mut bytes = [0; 64 * 1024];
    let mut size = 1;
    while let Ok(count @ 1..) = server.read(&mut bytes) {
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            // A sequence that does not fall into step with the messages.
            size = (size * 31 + 7) % 9973 + 1;
            let (piece, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            if client.write_all(piece).is_err() {
                return;
            }
        }
    }
}

fn memory_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
