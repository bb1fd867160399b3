//! What is altered under a running relay: told within seconds, with its code and the part of the
//! WAL that it may have left out.

use std::time::{Duration, Instant};

use walpost_tests::{Running, scaled, wait_until};

use crate::{
    SOON,
    stage::{STREAMER, Stage, ended_by_stop},
};

/// What is done, what is told, and what mends it. `@` is the publication.
const ALTERATIONS: [(&str, &[&str], &str); 6] = [
    (
        "alter publication @ drop table outbox",
        &["WP-PUB-TABLE"],
        "alter publication @ add table outbox",
    ),
    (
        "alter publication @ set table outbox where (id is null)",
        &["WP-PUB-FILTER"],
        "alter publication @ set table outbox",
    ),
    (
        "alter publication @ set (publish = 'update')",
        &["WP-PUB-INSERT"],
        "alter publication @ set (publish = 'insert')",
    ),
    (
        "alter publication @ set table outbox (id, payload)",
        &["WP-PUB-COLUMN"],
        "alter publication @ set table outbox",
    ),
    (
        "alter publication @_spare drop table outbox",
        &["WP-PUB-SPARE"],
        "alter publication @_spare add table outbox",
    ),
    (
        "alter role streamer noreplication",
        &["WP-PG-REPLICATION"],
        "alter role streamer replication",
    ),
];

#[test]
fn what_keeps_rows_out_of_the_stream_is_told_and_so_is_its_end() {
    let server = walpost_tests::Postgres::new();
    let database = server.database("altered");
    let stage = Stage::bare("altered");
    let brokers = stage.kafka.brokers();
    let configure = |url: &str| stage.walpost.configure(&stage.yaml_of(url, &brokers, ""));
    configure(&database.url());
    assert_eq!(stage.finish(&["init", "--apply"]).code, 0);
    database.execute(
        "create role streamer login replication; grant usage on schema walpost to streamer;
         grant select, insert, update on walpost.checkpoint to streamer",
    );
    configure(&database.url().replace("postgres@", &format!("{STREAMER}@")));
    let running = start(&stage);
    let mut slowest = Duration::ZERO;
    for (ends, (alter, codes, mend)) in (1..).zip(ALTERATIONS) {
        database.execute(&alter.replace('@', &stage.slot));
        let altered = Instant::now();
        for code in codes {
            told(&running, code);
        }
        slowest = slowest.max(altered.elapsed());
        database.execute(&mend.replace('@', &stage.slot));
        wait_until(SOON, "the end of it", || {
            let log = running.log();
            let told = log.matches("are whole again").count();
            (told == ends && is_ready(&log) == Some(true)).then_some(())
        });
    }
    assert_eq!(ended_by_stop(running).code, 0);
    println!("altered while streaming: told after at most {slowest:.1?}");
    let promised = scaled(SOON, Duration::from_secs(10));
    assert!(slowest <= promised, "told after {slowest:?}");
}

#[test]
fn a_table_that_is_made_anew_is_told() {
    let stage = Stage::ready("table_anew");
    let running = start(&stage);
    stage.database.execute(
        "begin; alter table outbox rename to old; create table outbox (like old including all);
         drop table old; commit",
    );
    told(&running, "WP-TABLE-ANEW");
    told(&running, "WP-PUB-TABLE");
    assert_eq!(ended_by_stop(running).code, 0);
}

#[test]
fn a_partition_whose_rows_would_not_be_sent_is_told() {
    let stage = Stage::bare("partition");
    stage.database.execute(
        "create table outbox (id uuid not null default gen_random_uuid(), destination text,
             aggregate_type text, aggregate_id text, event_type text, payload jsonb, headers jsonb,
             created_at timestamptz not null default now()) partition by range (created_at);
         create table p1 partition of outbox for values from ('2000-01-01') to ('2001-01-01');
         create table rest partition of outbox default",
    );
    stage.init();
    let running = start(&stage);
    stage.database.execute(
        "create unlogged table p2 partition of outbox
             for values from ('2001-01-01') to ('2002-01-01')",
    );
    told(&running, "WP-TABLE-LEAF");
    stage
        .database
        .execute("alter table outbox detach partition p1");
    told(&running, "WP-TABLE-DETACHED");
    assert_eq!(ended_by_stop(running).code, 0);
}

fn told(running: &Running, code: &str) {
    running.wait_for_log(&format!("altered while streaming: {code}"), SOON);
    let log = running.log();
    assert_eq!(is_ready(&log), Some(false), "{log}");
}

/// Whether the relay calls itself ready, as it said last.
fn is_ready(log: &str) -> Option<bool> {
    let (_, said) = log.rsplit_once("\"is_ready\":")?;
    Some(said.starts_with("true"))
}

fn start(stage: &Stage) -> Running {
    let running = stage.walpost.start(&["run", "--log-level", "debug"]);
    running.wait_for_log("\"streaming\"", SOON);
    running
}
