//! The witness' own program, as its users run it.

use std::{env, path::PathBuf, time::Duration};

use walpost_tests::{Consumer, Finished, Kafka, Postgres, Walpost, Writer};

use crate::SOON;

#[test]
fn the_witness_finds_a_clean_run_clean_and_a_forgotten_event_lost() {
    let (postgres, kafka) = (Postgres::shared(), Kafka::shared());
    let database = postgres.database("witness");
    let topic = kafka.topic("witness", 3);
    let slot = database.slot_name();
    let relay = Walpost::minimal(&database.url(), &kafka.brokers(), &slot);
    relay.init();
    let witness = Walpost::new("").program(&program());
    let name = format!("{slot}_witness");
    let of_slot = ["--postgres", &database.url(), "--witness", &name].map(str::to_owned);
    let run = |command: &str, more: &[&str]| -> Finished {
        let args = [command]
            .into_iter()
            .chain(of_slot.iter().map(String::as_str));
        let args: Vec<&str> = args.chain(more.iter().copied()).collect();
        witness.start_plain(&args).finish(ARRIVES_WITHIN + SOON)
    };
    let brokers = kafka.brokers();
    let judge = |within: &str| {
        let of_relay = ["--brokers", &brokers, "--topic", &topic, "--relay", &slot];
        let further = ["--watch", "1", "--within", within, "--ledger", "ledger"];
        let args = [&of_relay[..], &further].concat();
        run("judge", &args)
    };
    database.execute("create table ledger (id uuid primary key, aggregate text, version bigint)");

    assert_eq!(run("begin", &[]).code, 0);
    let running = relay.start(&["run"]);
    let writer = Writer::new(&database, &topic)
        .rows_between(1, 4)
        .rollbacks(0.2)
        .savepoints(true)
        .headers(r#"{"zone": 3, "a": "b'c"}"#)
        .ledger("ledger")
        .transactions(50);
    let ledger = writer.run(SOON);
    let found = judge(&ARRIVES_WITHIN.as_secs().to_string());
    assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
    let events = format!("{} events", ledger.committed.len());
    assert!(found.stdout.starts_with(&events), "{}", found.stdout);
    assert!(found.stdout.contains("nothing lost"), "{}", found.stdout);

    // Nothing but the ledger knows that it should have been the other way round.
    let swap = "update ledger set version = 3 - version
                where version < 3 and aggregate = (
                    select aggregate from ledger where version = 2 limit 1)";
    database.execute(swap);
    let found = judge("0");
    assert_eq!(found.code, 1, "{}{}", found.stdout, found.stderr);
    let words = "out of order by the versions of an aggregate";
    assert!(found.stdout.contains(words), "{}", found.stdout);
    database.execute(swap);

    // An event whose relay is gone.
    assert_eq!(running.stop(SOON).code, 0);
    database.insert_event(&topic, "forgotten", "{}");
    database
        .execute("insert into ledger (id) select id from outbox where aggregate_id = 'forgotten'");
    let found = judge("0");
    assert_eq!(found.code, 1, "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains("1 × lost"), "{}", found.stdout);
    let arrived = Consumer::new(&brokers, &topic).read_to_end(SOON).len();
    assert_eq!(arrived, ledger.committed.len());

    // Whoever can't watch the relay has not judged it.
    database.execute("alter table walpost.checkpoint rename column lsn to other");
    let blind = judge("0");
    assert_eq!(blind.code, 69, "{}", blind.stdout);
    assert!(blind.stderr.contains("the relay can't be watched"));
    database.execute("alter table walpost.checkpoint rename column other to lsn");

    assert_eq!(run("end", &[]).code, 0);
    assert_eq!(database.slot(&name), None);
    let gone = judge("0");
    assert_eq!(gone.code, 69, "{}", gone.stderr);
    assert!(gone.stderr.contains("does not exist"), "{}", gone.stderr);
}

/// How long the witness waits for what was committed.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

/// A test lies in `target/PROFILE/deps`.
fn program() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let program = test.parent().and_then(|deps| deps.parent());
    let program = program.expect("a profile").join("walpost-witness");
    assert!(
        program.is_file(),
        "{} is missing: cargo build -p walpost-witness with the profile of the tests",
        program.display()
    );
    program
}
