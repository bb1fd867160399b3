//! What a transaction leaves behind, and what becomes of it.

use walpost_tests::Record;

use crate::{
    expected::assert_stamps,
    stage::{Stage, in_order, values},
};

#[test]
fn what_was_rolled_back_is_absent_also_inside_a_transaction_that_was_not() {
    let stage = Stage::new("rolled_back");
    stage.database.create_outbox();
    stage.walpost.init();
    let topic = stage.kafka.topic("rolled_back", 1);
    destine(&stage, &topic);
    stage.database.execute(&format!(
        "begin; {INSERT} ('\"gone\"'); rollback;
         begin;
         {INSERT} ('1');
         savepoint a; {INSERT} ('\"gone\"');
         savepoint b; {INSERT} ('\"gone\"'); release b;
         rollback to a; {INSERT} ('2');
         savepoint c; {INSERT} ('3'); release c;
         {INSERT} ('4'), ('5');
         do $$ begin
             {INSERT} ('\"gone\"');
             perform 1 / 0;
         exception when division_by_zero then
             {INSERT} ('6');
         end $$;
         commit;
         begin; {INSERT} ('7'); commit and chain; {INSERT} ('\"gone\"'); rollback;"
    ));
    stage.once();
    let records = stage.read(&topic);
    assert_eq!(values(&records), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_stamps(&records);
    assert_eq!(ordinals(&records), [0, 1, 2, 3, 4, 5, 0]);
}

#[test]
fn a_row_that_is_gone_again_is_an_event_and_its_later_life_is_none() {
    let stage = Stage::new("later_life");
    stage.database.create_outbox();
    // By hand, with everything that a publication can carry: the relay has to pass it over.
    stage.database.execute(&format!(
        "alter table outbox replica identity full;
         create publication {} for table outbox;",
        stage.slot
    ));
    stage.walpost.init();
    let topic = stage.kafka.topic("later_life", 1);
    destine(&stage, &topic);
    stage.database.execute(&format!(
        "begin; {INSERT} ('1'); {INSERT} ('2'); delete from outbox; commit;
         begin; {INSERT} ('3'); update outbox set payload = '\"changed\"'; {INSERT} ('4'); commit;
         update outbox set event_type = 'changed', headers = '{{\"id\": 1}}';
         update outbox set id = gen_random_uuid();
         delete from outbox where payload = '4';
         begin; {INSERT} ('5'); commit;
         truncate outbox;
         begin; {INSERT} ('6'); truncate outbox; commit;
         begin;
         insert into outbox (id, destination, payload)
             values ('00000000-0000-0000-0000-000000000007', '{topic}', '7');
         insert into outbox (id, destination, payload)
             values ('00000000-0000-0000-0000-000000000007', '{topic}', '8')
             on conflict (id) do update set payload = '\"changed\"';
         commit;"
    ));
    stage.once();
    let records = stage.read(&topic);
    assert_eq!(values(&records), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_stamps(&records);
    assert_eq!(ordinals(&records), [0, 1, 0, 1, 0, 0, 0]);
}

#[test]
fn transactions_arrive_in_the_order_of_their_commits_not_of_their_inserts() {
    let stage = Stage::new("commit_order");
    stage.database.create_outbox();
    stage.walpost.init();
    let topic = stage.kafka.topic("commit_order", 1);
    destine(&stage, &topic);
    let mut sessions = [(); 4].map(|()| stage.database.client());
    for (number, session) in sessions.iter_mut().enumerate() {
        session
            .batch_execute(&format!("begin; {INSERT} ('\"{number} a\"')"))
            .unwrap();
    }
    for number in [2, 0, 3, 1] {
        sessions[number]
            .batch_execute(&format!("{INSERT} ('\"{number} b\"'); commit"))
            .unwrap();
    }
    stage.once();
    let records = stage.read(&topic);
    let expected = ["2 a", "2 b", "0 a", "0 b", "3 a", "3 b", "1 a", "1 b"];
    assert_eq!(
        values(&records),
        expected.map(|value| format!("\"{value}\""))
    );
    assert_stamps(&records);
    assert_eq!(
        in_order(records.clone()),
        records,
        "offsets follow positions"
    );
}

/// Lets rows go to the topic that do not say where to.
fn destine(stage: &Stage<'_>, topic: &str) {
    stage.database.execute(&format!(
        "alter table outbox alter destination set default '{topic}',
                            alter aggregate_id set default 'a'"
    ));
}

fn ordinals(records: &[Record]) -> Vec<u32> {
    let ordinal = |record: &Record| {
        let position = record
            .header("walpost-position")
            .expect("every record has one");
        let (_, ordinal) = position.split_once('/').expect("a slash in the position");
        u32::from_str_radix(ordinal, 16).expect("hex digits")
    };
    records.iter().map(ordinal).collect()
}

const INSERT: &str = "insert into outbox (payload) values";
