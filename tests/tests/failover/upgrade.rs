//! `pg_upgrade` under a relay, by the commands of docs/failover.md.
//!
//! It runs between two clusters of the installed version, which has the program.
//! `WALPOST_TEST_UPGRADE_PG_BINS` names the `bin` directories of two others, with a colon in
//! between.

use std::env;

use walpost_tests::{Binaries, Finished, Kafka, Postgres, Stop, Walpost, Writer, check, read_all};

use crate::SOON;

/// From this version on, slots go over to the new cluster.
const SLOTS_SURVIVE: u32 = 17;

#[test]
fn an_upgraded_server_is_gone_on_with_by_the_commands_of_the_manual() {
    let (old, new) = binaries();
    if !new.dir().join("pg_upgrade").is_file() {
        return;
    }
    let keeps_slots = old.version() >= SLOTS_SURVIVE;
    let old = Postgres::builder().binaries(old).start();
    let database = old.database("upgrade");
    let topic = Kafka::shared().topic("upgrade", 4);
    let slot = database.slot_name();
    let brokers = Kafka::shared().brokers();
    let walpost = Walpost::minimal(&database.url(), &brokers, &slot);
    walpost.init();
    let write = |server: &Postgres| {
        let database = server.database_named(database.name());
        Writer::new(&database, &topic).transactions(50).run(SOON)
    };

    // The writers are stopped, and so is the relay.
    let before = write(&old);
    succeeds(&walpost, "run --once");
    old.stop(Stop::Fast);
    if keeps_slots {
        // What the relay wrote to its own table lies behind what it has confirmed.
        let refusal = old.upgrade(new.clone());
        let refusal = refusal.expect_err("the slot has not caught up");
        assert!(refusal.contains("logical replication slots"), "{refusal}");
        old.start();
        succeeds(&walpost, "run --once --set postgres.checkpoint=none");
        old.stop(Stop::Fast);
    }
    let upgraded = old.upgrade(new);
    let upgraded = upgraded.unwrap_or_else(|refusal| panic!("{refusal}"));
    upgraded.start();

    let walpost = Walpost::minimal(&upgraded.url(database.name()), &brokers, &slot);
    let refused = walpost.finish(&["run"], SOON);
    assert_eq!(refused.code, 79, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("WP-PG-SYSTEM"),
        "{}",
        refused.stderr
    );
    let refused = if keeps_slots {
        refused
    } else {
        walpost.finish(&["init", "--apply"], SOON)
    };
    let command = named_command(&refused);
    if keeps_slots {
        assert!(command.starts_with("run --accept-system-identifier "));
        succeeds(&walpost, &format!("{command} --once"));
    } else {
        assert!(command.starts_with("init --apply --accept-gap "));
        succeeds(&walpost, &command);
    }
    let after = write(&upgraded);
    succeeds(&walpost, "run --once");
    let records = read_all(&brokers, &topic);
    let repeats = check(&[&before, &after], &records).assert_clean();
    assert_eq!(repeats, 0);
    println!(
        "upgraded from {} to {}: {} events before, {} after",
        old.binaries().version(),
        upgraded.binaries().version(),
        before.committed.len(),
        after.committed.len()
    );
}

/// From which version to which.
fn binaries() -> (Binaries, Binaries) {
    match env::var("WALPOST_TEST_UPGRADE_PG_BINS") {
        Ok(dirs) => {
            let (old, new) = dirs.split_once(':').expect("two directories");
            (Binaries::in_dir(old.into()), Binaries::in_dir(new.into()))
        }
        Err(_) => (Binaries::newest(), Binaries::newest()),
    }
}

fn succeeds(walpost: &Walpost, command: &str) {
    let args: Vec<_> = command.split(' ').collect();
    let finished = walpost.finish(&args, SOON);
    assert_eq!(finished.code, 0, "{command}: {}", finished.stderr);
}

/// The arguments of the last command that the fix names.
fn named_command(refused: &Finished) -> String {
    let text = refused.stderr.replace(['"', ';', ','], "\n");
    let command = text.lines().filter_map(|line| line.split_once("walpost "));
    let command = command.map(|(_, command)| command.trim());
    let mut command = command.filter(|command| command.contains("--accept-"));
    command.next_back().expect("a command").to_owned()
}
