//! A standby that knows nothing of the relay's slot takes over: the relay stops and says so.

use std::collections::BTreeSet;

use uuid::Uuid;
use walpost_tests::{Binaries, Lsn, wait_until};

use crate::{
    SOON,
    pair::{Pair, check_all, phantoms},
};

#[test]
fn without_the_slot_the_relay_stops_on_the_new_primary_until_the_gap_is_accepted() {
    stops_until_accepted(Pair::unsynchronised("gap", Binaries::newest()));
}

#[test]
fn without_the_slot_the_relay_stops_on_the_new_primary_on_18_too() {
    if let Some(binaries) = Binaries::major(18) {
        stops_until_accepted(Pair::unsynchronised("gap_18", binaries));
    }
}

fn stops_until_accepted(pair: Pair) {
    let running = pair.run();
    let writer = pair.writer_of(&pair.primary).start();
    let mut consumer = pair.consumer();
    consumer.wait_for_new_events(100, SOON);
    let before = writer.stop();
    consumer.wait_for_events(&before, SOON);
    wait_until_replayed(&pair);
    pair.way.down();
    let unseen = pair.writer_of(&pair.primary).transactions(20).run(SOON);
    consumer.wait_for_events(&unseen, SOON);
    pair.primary.kill();
    // A standby that is not promoted yet is waited for.
    let line = running.wait_for_log("the session is read-only", SOON);
    assert!(line.contains("\"the session ended\""), "{line}");
    assert!(running.is_running());

    pair.standby.promote();
    let finished = running.finish(SOON);
    assert_eq!(finished.code, 79, "{}", finished.stderr);
    let says = |text: &str| {
        assert!(
            finished.stderr.contains(text),
            "{text}: {}",
            finished.stderr
        );
    };
    says("WP-SLOT-GONE");
    says("a standby that was promoted without it");
    // Nobody else will know, once the process has ended.
    let unseen: BTreeSet<Uuid> = unseen.committed.iter().map(|event| event.id).collect();
    assert_eq!(phantoms(&finished.stderr), unseen);
    let command = accept_gap(&finished.stderr);
    // Not at the next start either, nor does init hide it.
    let between = pair.writer_of(&pair.standby).transactions(20).run(SOON);
    for args in [&["run"][..], &["run", "--once"], &["init", "--apply"]] {
        let refused = pair.walpost.finish(args, SOON);
        assert_eq!(refused.code, 79, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(&command), "{}", refused.stderr);
    }
    consumer.read_to_end(SOON);
    assert_eq!(consumer.events(), before.committed.len() + unseen.len());

    let args: Vec<_> = command.split(' ').skip(1).collect();
    let accepted = pair.walpost.finish(&args, SOON);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    let running = pair.run();
    let after = pair.writer_of(&pair.standby).transactions(50).run(SOON);
    let all = pair.end(running, &[&after]);
    // What lies in the gap is nowhere: it would be a phantom here.
    let repeats = check_all(&[&before, &after], &unseen, &all, Lsn::from(0));
    assert_eq!(repeats, 0);
    println!(
        "unsynchronised: {} events, {} in the gap, {} after it",
        before.committed.len(),
        between.committed.len(),
        after.committed.len()
    );
}

/// Waits until the standby has everything: what it has not got is the business of other tests.
fn wait_until_replayed(pair: &Pair) {
    let end = pair.old().current_lsn();
    let mut client = pair.standby.client();
    wait_until(SOON, "the standby to replay everything", || {
        let row = client.query_one("select pg_last_wal_replay_lsn() >= $1", &[&end]);
        row.expect("ask the standby")
            .get::<_, bool>(0)
            .then_some(())
    });
}

/// The command that the log names.
fn accept_gap(log: &str) -> String {
    let start = log
        .rfind("walpost init --apply --accept-gap")
        .expect("the command");
    let end = log[start..].find('"').expect("a string ends");
    log[start..start + end].to_owned()
}

/// A relay that was pointed at the standby alone.
#[test]
fn a_standby_that_is_not_promoted_is_waited_for() {
    let pair = Pair::unsynchronised("waits", Binaries::newest());
    let alone = pair.walpost_of(&pair.standby);
    let running = alone.start(&["run"]);
    running.wait_for_log(
        "the server is a standby: waiting until it is promoted",
        SOON,
    );
    pair.primary.kill();
    pair.standby.promote();
    let finished = running.finish(SOON);
    assert_eq!(finished.code, 79, "{}", finished.stderr);
}
