//! `walpost demo`, as somebody meets it who has just built it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use walpost_tests::{Binaries, Consumer, Database, Kafka, Postgres, Running, Walpost, wait_until};

#[test]
fn a_demo_shows_records_and_ends_by_itself() {
    let demo = start(&["--events", "5"]);
    let pid = demo.pid();
    let finished = demo.finish(STARTED);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let shown = finished.stdout.matches(LATENCY).count();
    assert_eq!(shown, 5, "{}", finished.stdout);
    let summary = "5 records seen, median latency ";
    assert!(finished.stdout.contains(summary), "{}", finished.stdout);
    assert_eq!(left_behind(pid), [""; 0]);
}

#[test]
fn an_interrupt_ends_the_demo_in_order() {
    let demo = start(&[]);
    let pid = demo.pid();
    demo.wait_for_output(LATENCY, STARTED);
    demo.interrupt();
    let finished = demo.finish(ENDED);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("seen"), "{}", finished.stdout);
    assert_eq!(left_behind(pid), [""; 0]);
}

#[test]
fn an_interrupt_before_anything_is_there_ends_the_demo_in_order() {
    let demo = start(&[]);
    let pid = demo.pid();
    demo.wait_for_output("starting", STARTED);
    demo.interrupt();
    assert_eq!(demo.wait_exit(ENDED), 0);
    assert_eq!(left_behind(pid), [""; 0]);
}

#[test]
fn nothing_is_left_of_a_demo_that_was_killed() {
    let demo = start(&[]);
    demo.wait_for_output(LATENCY, STARTED);
    assert!(!left_behind(demo.pid()).is_empty(), "the test sees nothing");
    kill_and_look(&demo);
}

#[test]
fn nothing_is_left_of_a_demo_that_was_killed_while_it_started() {
    // Before, in and after initdb, on machines of any speed.
    for after_ms in [0, 5, 20, 100, 300, 600, 1_000, 1_500] {
        let demo = start(&[]);
        thread::sleep(Duration::from_millis(after_ms));
        kill_and_look(&demo);
    }
}

#[test]
fn a_row_of_ones_own_is_shown_and_can_be_read_from_outside() {
    let demo = start(&["--rate", "0"]);
    demo.wait_for_output("Ctrl-C", STARTED);
    let psql = line_after(&demo.output(), "Insert a row of your own:");
    run(&psql);
    demo.wait_for_output(r#"value    {"total": 42}"#, STARTED);

    let kcat = line_after(&demo.output(), "Read the topic from outside:");
    let words: Vec<&str> = kcat.split_whitespace().collect();
    assert_eq!(
        [words[0], words[1], words[3], words[4]],
        ["kcat", "-b", "-C", "-t"]
    );
    let mut consumer = Consumer::new(words[2], words[5]);
    let records = consumer.wait_for(1, STARTED);
    assert_eq!(records[0].header("type"), Some("OrderPlaced"));
    if Command::new("kcat").arg("-V").output().is_ok() {
        assert!(run(&format!("{kcat} -e")).contains(r#"{"total": 42}"#));
    }
    assert_eq!(demo.stop(ENDED).code, 0);
}

#[test]
fn a_server_and_a_cluster_of_ones_own_are_left_as_they_were() {
    let postgres = Postgres::shared();
    let database = postgres.database("demo");
    database.create_outbox();
    let before = inventory(&database);
    let kafka = Kafka::shared();
    let brokers = kafka.brokers();
    let args = [
        "--postgres",
        &database.url(),
        "--kafka",
        &brokers,
        "--events",
        "3",
    ];

    let refused = start(&args).finish(STARTED);
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--create --topic walpost-demo"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        kafka.partitions("walpost-demo"),
        Some(0),
        "the demo creates no topic"
    );
    assert_eq!(inventory(&database), before);

    kafka.create_topic("walpost-demo", 2, &[]);
    let finished = start(&args).finish(STARTED);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(
        finished.stdout.matches(LATENCY).count(),
        3,
        "{}",
        finished.stdout
    );
    assert_eq!(inventory(&database), before);

    // What a killed demo leaves on such a server, the next one takes away.
    let killed = start(&args[..4]);
    killed.wait_for_output(LATENCY, STARTED);
    killed.kill();
    assert_ne!(inventory(&database), before);
    wait_until(ENDED, "the server sees that the relay is gone", || {
        let slot = database.slot("walpost_demo");
        slot.is_none_or(|slot| slot.active_pid.is_none())
            .then_some(())
    });
    let finished = start(&args).finish(STARTED);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(inventory(&database), before);
}

#[test]
fn a_schema_that_is_not_the_demos_is_not_touched() {
    let postgres = Postgres::new();
    let database = postgres.database("demo");
    database.execute("create schema walpost_demo; create table walpost_demo.precious (id int)");
    let before = inventory(&database);
    let refused = start(&["--postgres", &database.url()]).finish(STARTED);
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("did not make it"),
        "{}",
        refused.stderr
    );
    assert_eq!(inventory(&database), before);
}

#[test]
fn a_demo_on_a_server_of_ones_own_asks_for_the_password_as_the_relay_does() {
    let postgres = Postgres::builder()
        .hba("host all locked 127.0.0.1/32 scram-sha-256")
        .start();
    let database = postgres.database("demo");
    database.execute("create role locked login superuser password 'demo-hunter-41c9'");
    let (port, name) = (postgres.port(), database.name());
    let url = format!("postgresql://locked@127.0.0.1:{port}/{name}");
    let set = "postgres.password_command=echo demo-hunter-41c9";
    let args = ["--postgres", &url, "--events", "1", "--set", set];
    let finished = start(&args).finish(STARTED);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(finished.stdout.matches(LATENCY).count(), 1);
    for text in [&finished.stdout, &finished.stderr] {
        assert!(!text.contains("demo-hunter"), "{text}");
    }
    database.execute("drop role locked");
}

/// From nothing to the first record takes a second on an idle machine.
const STARTED: Duration = Duration::from_secs(120);
const ENDED: Duration = Duration::from_secs(30);

/// Is printed once for each record.
const LATENCY: &str = "ms after its commit";

/// With the binaries of Postgres that the other tests run.
fn start(args: &[&str]) -> Running {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", Binaries::newest().dir().display());
    Walpost::new("")
        .env("PATH", &path)
        .start_plain(&[&["demo"], args].concat())
}

fn kill_and_look(demo: &Running) {
    demo.kill();
    wait_until(ENDED, "everything of the demo is gone", || {
        left_behind(demo.pid()).is_empty().then_some(())
    });
}

/// Directories and processes of the demo with that process id, itself left out. All its directories
/// have its process id in their names, and all its processes a directory in their arguments or as
/// their working directory.
fn left_behind(pid: u32) -> Vec<String> {
    let mark = format!("walpost-demo-{pid}-");
    let mut found = Vec::new();
    for dir in [PathBuf::from("/tmp"), std::env::temp_dir()] {
        found.extend(names(&dir).filter(|name| name.starts_with(&mark)));
    }
    for process in names(Path::new("/proc")).filter(|name| name.parse::<u32>().is_ok()) {
        let proc = Path::new("/proc").join(&process);
        let arguments = fs::read(proc.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let working = fs::read_link(proc.join("cwd")).unwrap_or_default();
        if arguments.contains(&mark) || working.to_string_lossy().contains(&mark) {
            found.push(format!("{process}: {arguments}"));
        }
    }
    found
}

fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[track_caller]
fn line_after(text: &str, heading: &str) -> String {
    let mut lines = text.lines().skip_while(|line| *line != heading);
    let line = lines.nth(1);
    let line = line.unwrap_or_else(|| panic!("no {heading:?} in {text}"));
    line.trim().to_owned()
}

/// Runs a line of shell, as if it were pasted.
#[track_caller]
fn run(line: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", line])
        .output()
        .expect("run sh");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything that could have been made or written in the database.
fn inventory(database: &Database<'_>) -> Vec<String> {
    let sql = "select format('%s %s', n.nspname, c.relname) from pg_class c \
               join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname !~ '^pg_|^information_schema$' \
               union all select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_' \
               union all select 'publication ' || pubname from pg_publication \
               union all select 'slot ' || slot_name from pg_replication_slots \
               where database = current_database() \
               order by 1";
    let rows = database
        .client()
        .query(sql, &[])
        .expect("read the catalogue");
    rows.iter().map(|row| row.get(0)).collect()
}
