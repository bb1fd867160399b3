//! What the server sends that is no row of an outbox, or makes no sense.

use bytes::Bytes;
use walpost_pgoutput::{Delete, OldTuple, Origin, PgTimestamp, Truncate, Type, Update, XLogData};

use super::bench::*;
use super::*;

#[test]
fn rows_of_a_table_that_is_no_outbox_end_the_session() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, relation(FOREIGN, "orders", &["id"]), &[]);
    relay.at(2, begin(200), &[]);
    let error = "error: the publication carries inserts of public.orders, which is not listed in \
                 outbox.table: list it, or take it out of the publication (what is in the WAL \
                 already stays in the slot's stream)";
    relay.at(3, insert(FOREIGN, &[Some("1")]), &[error]);
    assert_eq!(relay.confirmed(), FLOOR);
}

#[test]
fn a_stream_that_makes_no_sense_ends_the_session() {
    let error = |inputs: &[Input]| {
        let mut relay = Bench::opened(events(2), 2);
        let mut last = Vec::new();
        for input in inputs {
            last = relay.input(1, input.clone());
        }
        assert_eq!(relay.confirmed(), 111);
        last.join("")
    };
    let unknown = insert(99, &[Some("1")]);
    assert!(error(&[begin(200), unknown]).contains("undescribed table with oid 99"));
    assert!(error(&[row("a", "x")]).contains("a row outside a transaction"));
    assert!(error(&[commit(200, 208)]).contains("a commit outside a transaction"));
    assert!(error(&[begin(200), begin(300)]).contains("inside transaction 0/C8"));
    assert!(error(&[begin(110)]).contains("0/6E after the one at 0/6E"));
    assert!(error(&[relation(OUTBOX, "outbox", &["id"])]).contains("no column 'payload'"));
    let short = insert(OUTBOX, &[Some("1")]);
    assert!(error(&[begin(200), short]).contains("another number of columns"));
    let garbage = Input::Wal(CopyMessage::XLogData(XLogData {
        wal_start: Lsn::ZERO,
        wal_end: Lsn::ZERO,
        server_time: PgTimestamp::new(0),
        data: Bytes::from_static(b"?"),
    }));
    assert_eq!(
        error(&[garbage]),
        "error: can't decode what the server sent"
    );
}

#[test]
fn what_is_no_insert_is_passed_over_and_counted() {
    let mut relay = Bench::opened(events(2), 2);
    let id = RelationId(OUTBOX);
    let new = tuple(&[Some("id"), Some("a"), None, Some("x"), None]);
    let old = OldTuple::Key(new.clone());
    let update = Message::Update(Update {
        relation: id,
        old: None,
        new,
    });
    let delete = Message::Delete(Delete { relation: id, old });
    let truncate = Message::Truncate(Truncate {
        options: 0,
        relations: vec![id],
    });
    let origin = Message::Origin(Origin {
        commit_lsn: Lsn::new(9),
        name: Bytes::from_static(b"elsewhere"),
    });
    relay.at(1, begin(200), &[]);
    for message in [&origin, &update, &delete, &truncate] {
        relay.at(2, data(0, message), &[]);
    }
    relay.at(3, row("a", "one"), &["record 1 to a/0: one"]);
    relay.at(4, commit(200, 208), &[]);
    let snapshot = relay.relay.snapshot();
    assert_eq!(snapshot.ignored, 3);
    assert_eq!(snapshot.oldest.unwrap().ordinal, 0);
}

#[test]
fn a_table_described_anew_is_read_by_its_new_columns() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    let moved = ["added", "payload", "destination", "id"];
    relay.at(3, relation(OUTBOX, "outbox", &moved), &[]);
    let cells = [None, Some("two"), Some("a"), Some("id")];
    relay.at(4, insert(OUTBOX, &cells), &["record 4 to a/0: two"]);
    let position = relay.relay.snapshot().oldest.unwrap();
    assert_eq!(position.ordinal, 0);
    relay.at(5, Acked(3), &[]);
    assert_eq!(relay.relay.snapshot().oldest.unwrap().ordinal, 1);
}

#[test]
fn types_that_are_described_are_known_to_the_table_that_follows() {
    let mut relay = Bench::new();
    let kind = Type {
        type_oid: 16_500,
        namespace: Bytes::new(),
        name: Bytes::from_static(b"jsonb"),
    };
    relay.at(0, data(0, &Message::Type(kind)), &["write 100 flush 100"]);
    assert_eq!(format!("{:?}", relay.relay.types.kind(16_500)), "Jsonb");
}

#[test]
#[should_panic(expected = "the stream was read although the relay did not want it")]
fn reading_the_stream_unasked_is_a_bug_of_the_owner() {
    let mut relay = Bench::opened(events(1), 1);
    relay.input(1, begin(200));
    relay.input(2, row("a", "one"));
    relay.input(3, commit(200, 208));
}
