//! Logs: their form, and a reader of them that stands still.

use std::io::{Read, Write};

use walpost_tests::{Consumer, Kafka, Postgres, Process, Walpost};

use crate::{SOON, offline};

/// What a pipe of Linux holds.
const PIPE_BYTES: usize = 64 << 10;

#[test]
fn a_log_is_json_unless_it_is_asked_to_be_pretty() {
    for (more, is_json) in [
        (&[][..], true),
        (&["--log-format", "json"], true),
        (&["--log-format", "pretty"], false),
    ] {
        let walpost = offline();
        let running = walpost.start(&[&["run"], more].concat());
        running.wait_for_log("the session ended", SOON);
        let log = running.stop(SOON).stderr;
        for line in log.lines() {
            let json = serde_json::from_str::<serde_json::Value>(line);
            assert_eq!(json.is_ok(), is_json, "{line}");
            assert!(!line.contains('\u{1b}'), "{line}");
        }
    }
}

#[test]
fn a_level_chooses_the_lines() {
    let walpost = offline();
    let running = walpost.start(&["run", "--log-level", "off"]);
    // Nothing is logged that one could wait for: the next command's log shows that it was time.
    let traced = walpost.start(&["run", "--log-level", "trace"]);
    traced.wait_for_log("\"DEBUG\"", SOON);
    traced.stop(SOON);
    assert_eq!(running.stop(SOON).stderr, "");
}

/// Nobody reads, and the pipe of stderr is full before the first line.
#[test]
fn a_reader_of_the_log_that_stands_still_holds_nothing_up() {
    const EVENTS: usize = 2_000;
    let (database, kafka) = (Postgres::shared().database("unread"), Kafka::shared());
    let slot = database.slot_name();
    let walpost = Walpost::minimal(&database.url(), &kafka.brokers(), &slot);
    database.create_outbox();
    walpost.init();
    let topic = kafka.topic("unread", 3);
    let config = walpost.dir().join("walpost.yaml");
    let args = [
        "run",
        "--log-level",
        "trace",
        "-c",
        config.to_str().unwrap(),
    ];
    let (mut unread, mut stderr) = std::io::pipe().unwrap();
    stderr.write_all(&[b'.'; PIPE_BYTES]).unwrap();
    let mut command = walpost.command(&args);
    command.stderr(stderr);
    let process = Process::spawn(&mut command).unwrap();
    drop(command);
    let mut consumer = Consumer::new(&kafka.brokers(), &topic);
    // One transaction an event, as each of them has lines of its own.
    database.execute(&format!(
        "do $$ begin for n in 1..{EVENTS} loop
             insert into outbox (destination, payload) values ('{topic}', to_jsonb(n)); commit;
         end loop; end $$"
    ));
    consumer.wait_for(EVENTS, SOON);
    process.signal("TERM");
    let status = process.wait_exit(SOON).expect("it ends");
    assert_eq!(status.code(), Some(0));
    let mut log = Vec::new();
    unread.read_to_end(&mut log).unwrap();
    assert_eq!(log.len(), PIPE_BYTES, "not a byte of the log found room");
}
