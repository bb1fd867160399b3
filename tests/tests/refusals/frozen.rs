//! A server that falls silent before the stream is open.

use walpost_tests::{Proxy, wait_until};

use crate::{
    SOON,
    stage::{Stage, ended, postgres},
};

/// The gate's question about the checkpoint waits for a lock; then the way to the server is frozen,
/// and what it answers never arrives.
#[test]
fn a_server_that_falls_silent_before_the_stream_opens_is_given_up() {
    let stages = ["frozen_run", "frozen_once"].map(Stage::ready);
    let proxy = Proxy::new(&format!("127.0.0.1:{}", postgres().port()));
    let mut locks = stages.each_ref().map(|stage| {
        let mut client = stage.database.client();
        let lock = "begin; lock table walpost.checkpoint in access exclusive mode";
        client.batch_execute(lock).expect("lock the checkpoint");
        let url = stage.database.url_through(proxy.port());
        stage
            .walpost
            .configure(&stage.yaml_of(&url, &stage.kafka.brokers(), ""));
        client
    });
    let running = stages[0].walpost.start(&["run"]);
    let once = stages[1].walpost.start(&["run", "--once"]);
    for stage in &stages {
        let name = format!("walpost {} control", stage.slot);
        let mut client = stage.database.client();
        wait_until(SOON, "the gate waits", || {
            let sql = "select from pg_stat_activity
                       where application_name = $1 and wait_event_type = 'Lock'";
            client.query_opt(sql, &[&name]).ok()?.map(drop)
        });
    }
    proxy.stall();
    let once = ended(once);
    assert_eq!(once.code, 69, "{}", once.stderr);
    running.wait_for_log(
        "the server does not answer: nothing was heard of it for",
        SOON,
    );
    for client in &mut locks {
        client
            .batch_execute("rollback")
            .expect("let go of the checkpoint");
    }
    proxy.resume();
    running.wait_for_log("\"streaming\"", SOON);
    let finished = running.stop(SOON);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}
