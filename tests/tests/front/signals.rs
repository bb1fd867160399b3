//! Ctrl-C where a command waits for a server.

use std::net::TcpListener;

use walpost_tests::{Kafka, Postgres, Walpost};

use crate::SOON;

/// The exit code of a shell for a command that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

#[test]
fn a_report_that_waits_is_ended_by_one_interrupt() {
    // Takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let walpost = Walpost::minimal(&format!("postgresql://u@{address}/d"), "127.0.0.1:1", "s");
    for args in [&["check"][..], &["init", "--apply"]] {
        let running = walpost.start(args);
        let (_connection, _) = silent.accept().unwrap();
        running.interrupt();
        let finished = running.finish(SOON);
        assert_eq!(finished.code, INTERRUPTED, "{args:?} {}", finished.stderr);
    }
}

#[test]
fn an_init_that_waits_for_a_transaction_is_ended_by_one_interrupt() {
    // Its own: others would wait for the transaction as well.
    let server = Postgres::new();
    let database = server.database("blocked");
    let slot = database.slot_name();
    let walpost = Walpost::minimal(&database.url(), &Kafka::shared().brokers(), &slot);
    let mut client = database.client();
    let mut open = client.transaction().unwrap();
    open.batch_execute("select txid_current()").unwrap();
    let running = walpost.start(&["init", "--apply"]);
    running.wait_for_output("waiting", SOON);
    running.interrupt();
    assert_eq!(running.finish(SOON).code, INTERRUPTED);
    open.rollback().unwrap();
}

#[test]
fn a_run_once_that_is_stopped_does_not_end_as_if_everything_were_delivered() {
    let walpost = Walpost::minimal("postgresql://u@127.0.0.1:1/d", "127.0.0.1:1", "s");
    let running = walpost.start(&["run", "--once"]);
    running.wait_for_log("the session ended", SOON);
    running.terminate();
    let finished = running.finish(SOON);
    assert_eq!(finished.code, INTERRUPTED, "{}", finished.stderr);
    assert!(finished.stderr.contains("stopped before everything"));
}

#[test]
fn a_run_that_waits_for_a_server_ends_in_order() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    for url in [
        format!("postgresql://u@{address}/d"),
        "postgresql://u@127.0.0.1:1/d".to_owned(),
    ] {
        let walpost = Walpost::minimal(&url, "127.0.0.1:1", "s");
        let running = walpost.start(&["run"]);
        if url.contains(":1/") {
            running.wait_for_log("the session ended", SOON);
        } else {
            silent.accept().unwrap();
        }
        running.interrupt();
        let finished = running.finish(SOON);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    }
}
