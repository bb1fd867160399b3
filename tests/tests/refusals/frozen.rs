//! A server that falls silent before the stream is open.

use walpost_tests::{Proxy, wait_until};

use crate::{
    SOON,
    stage::{Lock, Stage, ended},
};

/// The gate's question about the checkpoint waits for a lock; then the way to the server is frozen,
/// and what it answers never arrives.
#[test]
fn a_server_that_falls_silent_before_the_stream_opens_is_given_up() {
    let first = Stage::alone("frozen_run");
    let second = Stage::beside(&first, "frozen_once");
    let port = first.database.postgres().port();
    let started = [(&first, &["run"][..]), (&second, &["run", "--once"])].map(|(stage, args)| {
        let lock = Lock::against_readers(stage);
        let proxy = Proxy::new(&format!("127.0.0.1:{port}"));
        let url = stage.database.url_through(proxy.port());
        let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
        stage.walpost.configure(&yaml);
        let running = stage.walpost.start(args);
        // The server ends the wait after 2 s, and the next one begins with a new connection.
        let name = format!("walpost {} control", stage.slot);
        let mut client = stage.database.client();
        wait_until(SOON, "the gate waits", || {
            let sql = "select from pg_stat_activity
                       where application_name = $1 and wait_event_type = 'Lock'
                         and query_start > clock_timestamp() - interval '1 second'";
            client.query_opt(sql, &[&name]).ok()?.map(drop)
        });
        proxy.stall();
        (running, lock, proxy)
    });
    let [(running, lock, proxy), (once, ..)] = started;
    let once = ended(once);
    assert_eq!(once.code, 69, "{}", once.stderr);
    running.wait_for_log(
        "the server does not answer: nothing was heard of it for",
        SOON,
    );
    drop(lock);
    proxy.resume();
    running.wait_for_log("\"streaming\"", SOON);
    let finished = running.stop(SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}
