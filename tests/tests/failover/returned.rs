//! An old primary comes back beside the one that has taken over.

use std::collections::BTreeSet;

use walpost_tests::{Stop, wait_until};

use crate::{SOON, pair::Pair};

/// It stands first in the list, takes writes, and has the slot: only the timeline tells.
#[test]
fn an_old_primary_that_comes_back_is_passed_over() {
    let Some(pair) = Pair::synchronised("returned") else {
        return;
    };
    let running = pair.run();
    let mut consumer = pair.consumer();
    pair.old().insert_event(&pair.topic, "a", "\"old\"");
    consumer.wait_for(1, SOON);
    pair.wait_until_synchronised();
    pair.primary.kill();
    pair.standby.promote();
    let new = pair.new_one();
    new.insert_event(&pair.topic, "a", "\"new\"");
    consumer.wait_for_new_events(1, SOON);

    pair.primary.start();
    pair.old().insert_event(&pair.topic, "a", "\"split\"");
    let sessions = |log: &str| log.matches("\"streaming\"").count();
    let before = sessions(&running.log());
    new.execute("select pg_terminate_backend(active_pid) from pg_replication_slots where active");
    wait_until(SOON, "the next session", || {
        (sessions(&running.log()) > before).then_some(())
    });
    running.wait_for_log("was left behind by a promotion", SOON);
    new.insert_event(&pair.topic, "a", "\"new too\"");
    consumer.wait_for_new_events(1, SOON);

    // With the new one away, nobody is better than the old one.
    pair.standby.stop(Stop::Fast);
    wait_until(SOON, "a session that could not begin", || {
        let log = running.log();
        let mut ended = log
            .lines()
            .filter(|line| line.contains("\"the session ended\""));
        ended.any(|line| line.contains("left behind")).then_some(())
    });
    assert!(running.is_running());
    pair.standby.start();
    new.insert_event(&pair.topic, "a", "\"new again\"");
    consumer.wait_for_new_events(1, SOON);
    let values: BTreeSet<_> = consumer
        .read_to_end(SOON)
        .iter()
        .filter_map(|record| String::from_utf8(record.value.clone()?).ok())
        .collect();
    let wanted = ["\"old\"", "\"new\"", "\"new too\"", "\"new again\""];
    assert_eq!(values, wanted.map(str::to_owned).into());
    assert_eq!(running.stop(SOON).code, 0);
}
