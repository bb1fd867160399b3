//! Topics that come and grow while the relay runs.

use std::time::Duration;

use walpost_tests::{Consumer, unique};

use crate::{
    SOON,
    stage::{Stage, stop, values},
};

#[test]
fn a_topic_that_is_made_after_its_event_is_waited_for() {
    let stage = Stage::new("late_topic");
    stage.database.create_outbox();
    stage.walpost.init();
    let (known, late) = (stage.kafka.topic("known", 1), unique("late"));
    stage.database.execute(&format!(
        "insert into outbox (destination, payload) values ('{known}', '1');
         insert into outbox (destination, payload) values ('{late}', '2'), ('{known}', '3')"
    ));
    let running = stage.walpost.start(&["run"]);
    let mut consumer = Consumer::new(&stage.kafka.brokers(), &known);
    consumer.wait_for(1, SOON);
    let line = running.wait_for_log("waits for its topic", SOON);
    assert!(line.contains(&late), "{line}");
    // Time enough for a relay that would not wait.
    let read = values(consumer.read_for(Duration::from_secs(1)));
    assert_eq!(read, ["1"], "nothing overtakes the event that waits");

    stage.kafka.create_topic(&late, 3, &[]);
    consumer.wait_for(2, SOON);
    assert_eq!(values(consumer.records()), ["1", "3"]);
    let end = stage.database.current_lsn();
    stage.database.wait_until_confirmed(&stage.slot, end, SOON);
    stop(running);
    assert_eq!(values(&stage.read(&late)), ["2"]);
    assert_eq!(values(&stage.read(&known)), ["1", "3"]);
}

#[test]
fn one_transaction_goes_to_several_topics() {
    let stage = Stage::new("several_topics");
    stage.database.create_outbox();
    stage.walpost.init();
    let topics: Vec<_> = (0..5)
        .map(|n| stage.kafka.topic("several", n + 1))
        .collect();
    let rows: Vec<_> = (0..50)
        .map(|n| format!("('{}', 'a', '{n}')", topics[n % 5]))
        .collect();
    stage.database.execute(&format!(
        "insert into outbox (destination, aggregate_id, payload) values {}",
        rows.join(", ")
    ));
    stage.once();
    for (number, topic) in topics.iter().enumerate() {
        let expected: Vec<_> = (number..50).step_by(5).map(|n| n.to_string()).collect();
        assert_eq!(values(&stage.read(topic)), expected);
    }
}
