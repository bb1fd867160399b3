use bytes::{Bytes, BytesMut};
use walpost_pgoutput::{
    Begin, Cell, Column, Commit, Delete, OldTuple, Origin, PgTimestamp, Truncate, Tuple, Type,
    Update, XLogData,
};

use super::*;
use crate::mapping::MappingSpec;

const FLOOR: u64 = 100;
const OUTBOX: u32 = 1;
const FOREIGN: u32 = 2;
const SECOND: u64 = 1_000;

/// A relay, and the instant that its milliseconds count from. Every test is a table of lines
/// "input at t => outputs".
struct Bench {
    relay: Relay,
    start: Instant,
    halted: bool,
}

/// What is put in.
#[derive(Clone)]
enum Input {
    Nothing,
    Wal(CopyMessage),
    Acked(u64),
    Failed(u64, i32),
    Counted(&'static str, u32),
    Missing(&'static str),
    Unavailable(&'static str),
    Drain,
    Ping,
}
use Input::{Acked, Counted, Drain, Failed, Missing, Nothing, Ping, Unavailable};

impl Bench {
    fn new() -> Self {
        Self::with(WindowLimits::default())
    }

    fn with(window: WindowLimits) -> Self {
        Self::next_session(window, Topics::new(Duration::from_secs(60)))
    }

    /// A session that has told the floor and knows the table and the topic `a` with one partition;
    /// its window has opened for `open` records.
    fn opened(window: WindowLimits, open: u64) -> Self {
        let mut bench = Self::next_session(window, Topics::new(Duration::from_secs(60)));
        bench.input(0, Counted("a", 1));
        bench.input(0, Nothing);
        bench.input(0, outbox());
        for ticket in 0..open - 1 {
            bench.input(0, begin(110 + 2 * ticket));
            bench.input(0, row("a", "warm-up"));
            bench.input(0, Acked(ticket));
            bench.input(0, commit(110 + 2 * ticket, 111 + 2 * ticket));
        }
        assert!(u64::from(bench.relay.snapshot().window) >= open);
        bench
    }

    fn next_session(window: WindowLimits, topics: Topics) -> Self {
        let spec = MappingSpec {
            tables: vec![TableName {
                schema: "public".to_owned(),
                name: "outbox".to_owned(),
            }],
            allow: vec!["/[a-z]/".to_owned(), "not here".replace(' ', "-")],
            ..MappingSpec::default()
        };
        let session = Session {
            floor: Lsn::new(FLOOR),
            format: Format::Text,
            wal_sender_timeout: Duration::from_secs(60),
            window,
            textual: BTreeSet::new(),
        };
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        Self {
            relay: Relay::new(Mapping::new(&spec).unwrap(), session, topics),
            start,
            halted: false,
        }
    }

    /// One line of a table: this input, so many milliseconds after the start, has these outputs.
    #[track_caller]
    fn at(&mut self, ms: u64, input: Input, outputs: &[&str]) {
        assert_eq!(self.input(ms, input), outputs, "at {ms} ms");
    }

    fn input(&mut self, ms: u64, input: Input) -> Vec<String> {
        let now = self.start + Duration::from_millis(ms);
        let topic = |name: &str| Topic::new(Bytes::copy_from_slice(name.as_bytes())).unwrap();
        let relay = &mut self.relay;
        let result = match input {
            Nothing => Ok(()),
            Input::Wal(message) => relay.handle_wal(message),
            Acked(ticket) => relay.handle_delivery(Delivery {
                ticket: Ticket(ticket),
                result: Ok(()),
            }),
            Failed(ticket, code) => relay.handle_delivery(Delivery {
                ticket: Ticket(ticket),
                result: Err(rejection(code)),
            }),
            Counted(name, count) => answer(relay, now, &topic(name), Ok(count)),
            Missing(name) => answer(relay, now, &topic(name), Err(TopicFault::Missing)),
            Unavailable(name) => {
                let fault = TopicFault::Unavailable("brokers down".to_owned());
                answer(relay, now, &topic(name), Err(fault))
            }
            Drain => {
                relay.drain();
                Ok(())
            }
            Ping => {
                relay.ping();
                Ok(())
            }
        };
        match result {
            Ok(()) => self.outputs(now),
            Err(error) => vec![format!("error: {error}")],
        }
    }

    fn outputs(&mut self, now: Instant) -> Vec<String> {
        let mut outputs = Vec::new();
        while let Some(record) = self.relay.poll_record(now) {
            let Record {
                ticket,
                topic,
                partition,
                value,
                ..
            } = record;
            let value = String::from_utf8(value.unwrap().to_vec()).unwrap();
            outputs.push(format!(
                "record {} to {topic}/{partition}: {value}",
                ticket.0
            ));
        }
        while let Some(topic) = self.relay.poll_topic(now) {
            outputs.push(format!("ask for {topic}"));
        }
        while let Some(status) = self.relay.poll_status(now) {
            outputs.push(status_text(&status));
        }
        if let Some(halt) = self.relay.halted()
            && !std::mem::replace(&mut self.halted, true)
        {
            let Position {
                commit_lsn,
                ordinal,
            } = halt.position;
            outputs.push(format!(
                "halted at {}/{ordinal}: {}",
                commit_lsn.as_u64(),
                halt.reason
            ));
        }
        outputs
    }

    fn confirmed(&self) -> u64 {
        self.relay.confirmed().as_u64()
    }

    /// Milliseconds after the start.
    fn timeout(&self) -> Option<u128> {
        let at = self.relay.poll_timeout()?;
        Some(at.saturating_duration_since(self.start).as_millis())
    }
}

fn answer(
    relay: &mut Relay,
    now: Instant,
    topic: &Topic,
    answer: Result<u32, TopicFault>,
) -> Result<(), RelayError> {
    relay.handle_topic(now, topic, answer);
    Ok(())
}

fn status_text(status: &Status) -> String {
    let Status {
        write,
        flush,
        reply_requested,
    } = status;
    let ping = if *reply_requested { " and a ping" } else { "" };
    format!("write {} flush {}{ping}", write.as_u64(), flush.as_u64())
}

fn rejection(code: i32) -> Rejection {
    Rejection {
        code,
        name: "NAME".to_owned(),
        detail: String::new(),
    }
}

fn data(at: u64, message: &Message) -> Input {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    Input::Wal(CopyMessage::XLogData(XLogData {
        wal_start: Lsn::new(at),
        wal_end: Lsn::new(at),
        server_time: PgTimestamp::new(0),
        data: bytes.freeze(),
    }))
}

fn keepalive(wal_end: u64) -> Input {
    Input::Wal(CopyMessage::Keepalive(Keepalive {
        wal_end: Lsn::new(wal_end),
        server_time: PgTimestamp::new(0),
        reply_requested: false,
    }))
}

fn question(wal_end: u64) -> Input {
    Input::Wal(CopyMessage::Keepalive(Keepalive {
        wal_end: Lsn::new(wal_end),
        server_time: PgTimestamp::new(0),
        reply_requested: true,
    }))
}

fn begin(commit_lsn: u64) -> Input {
    let begin = Begin {
        final_lsn: Lsn::new(commit_lsn),
        commit_time: PgTimestamp::new(0),
        xid: 7,
    };
    data(0, &Message::Begin(begin))
}

fn commit(commit_lsn: u64, end_lsn: u64) -> Input {
    let commit = Commit {
        flags: 0,
        commit_lsn: Lsn::new(commit_lsn),
        end_lsn: Lsn::new(end_lsn),
        commit_time: PgTimestamp::new(0),
    };
    data(end_lsn, &Message::Commit(commit))
}

/// The columns of the outbox table, in this order.
const COLUMNS: [&str; 5] = ["id", "destination", "aggregate_id", "payload", "headers"];

fn relation(id: u32, name: &'static str, columns: &[&'static str]) -> Input {
    let column = |name: &&'static str| Column {
        is_key: false,
        name: Bytes::from_static(name.as_bytes()),
        type_oid: 25,
        type_modifier: -1,
    };
    let relation = Relation {
        id: RelationId(id),
        namespace: Bytes::from_static(b"public"),
        name: Bytes::from_static(name.as_bytes()),
        replica_identity: b'd',
        columns: columns.iter().map(column).collect(),
    };
    data(0, &Message::Relation(relation))
}

fn outbox() -> Input {
    relation(OUTBOX, "outbox", &COLUMNS)
}

fn tuple(cells: &[Option<&str>]) -> Tuple {
    Tuple::from_cells(cells.iter().map(|text| match text {
        Some(text) => Cell::Text(text.as_bytes()),
        None => Cell::Null,
    }))
}

fn insert(relation: u32, cells: &[Option<&str>]) -> Input {
    let insert = Insert {
        relation: RelationId(relation),
        new: tuple(cells),
    };
    data(0, &Message::Insert(insert))
}

fn row(topic: &str, payload: &str) -> Input {
    let cells = [Some("id"), Some(topic), Some("agg"), Some(payload), None];
    insert(OUTBOX, &cells)
}

/// Records of any size, so many at once.
fn events(events: u32) -> WindowLimits {
    WindowLimits {
        events,
        bytes: 1 << 20,
    }
}

#[test]
fn a_commit_is_confirmed_with_the_report_of_its_last_record() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", "two"), &["record 4 to a/0: two"]);
    relay.at(4, commit(200, 208), &[]);
    relay.at(5, Acked(4), &[]);
    assert_eq!(relay.confirmed(), 115);
    relay.at(6, Acked(3), &[]);
    assert_eq!(relay.confirmed(), 208);
    relay.at(100, Nothing, &["write 208 flush 208"]);
}

#[test]
fn a_commit_that_arrives_after_its_reports_is_confirmed_at_once() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, Acked(0), &[]);
    assert_eq!(relay.confirmed(), FLOOR);
    relay.at(4, commit(200, 208), &[]);
    assert_eq!(relay.confirmed(), 208);
}

#[test]
fn the_first_status_carries_the_floor_and_goes_out_before_anything_is_received() {
    let mut relay = Bench::new();
    assert_eq!(relay.timeout(), None);
    relay.at(0, Nothing, &["write 100 flush 100"]);
    assert_eq!(relay.timeout(), Some(5 * u128::from(SECOND)));
}

#[test]
fn a_keepalive_waits_for_what_is_in_flight_before_it() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 1 to a/0: one"]);
    relay.at(3, commit(200, 208), &[]);
    relay.at(4, keepalive(300), &[]);
    relay.at(5, begin(300), &[]);
    relay.at(6, row("a", "two"), &["record 2 to a/0: two"]);
    assert_eq!(relay.confirmed(), 111);
    relay.at(7, Acked(1), &[]);
    assert_eq!(relay.confirmed(), 300);
}

#[test]
fn a_keepalive_inside_a_transaction_promises_nothing() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, begin(200), &[]);
    relay.at(2, keepalive(900), &[]);
    assert_eq!(relay.confirmed(), 111);
    relay.at(3, row("a", "one"), &["record 1 to a/0: one"]);
    relay.at(4, keepalive(900), &[]);
    relay.at(5, Acked(1), &[]);
    relay.at(6, commit(200, 208), &[]);
    assert_eq!(relay.confirmed(), 208);
    relay.at(100, Nothing, &["write 900 flush 208"]);
}

#[test]
fn positions_behind_the_floor_change_nothing_and_their_rows_leave() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, keepalive(40), &[]);
    relay.at(2, begin(50), &[]);
    relay.at(3, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(4, Acked(0), &[]);
    relay.at(5, commit(50, 60), &[]);
    assert_eq!(relay.confirmed(), FLOOR);
    relay.at(5 * SECOND, Nothing, &["write 100 flush 100"]);
}

#[test]
fn plain_keepalives_are_not_answered_and_their_progress_is_told_every_100_ms() {
    let mut relay = Bench::opened(events(1), 1);
    for ms in 1..100 {
        relay.at(ms, keepalive(200 + ms), &[]);
    }
    relay.at(100, keepalive(300), &["write 300 flush 300"]);
    relay.at(199, keepalive(301), &[]);
    assert_eq!(relay.timeout(), Some(200));
    relay.at(200, Nothing, &["write 301 flush 301"]);
    relay.at(201, keepalive(301), &[]);
    assert_eq!(relay.timeout(), Some(200 + 5 * u128::from(SECOND)));
    relay.at(5_199, Nothing, &[]);
    relay.at(5_200, Nothing, &["write 301 flush 301"]);
}

#[test]
fn a_question_that_can_be_confirmed_is_answered_with_its_position() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, question(300), &["write 300 flush 300"]);
    relay.at(2, question(300), &["write 300 flush 300"]);
}

#[test]
fn a_question_above_what_is_delivered_is_told_the_truth_and_then_flush_zero() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(100, Nothing, &["write 115 flush 115"]);
    relay.at(101, begin(200), &[]);
    relay.at(102, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(103, commit(200, 208), &[]);
    relay.at(104, begin(208), &[]);
    relay.at(105, row("a", "two"), &["record 4 to a/0: two"]);
    relay.at(106, commit(208, 220), &[]);
    relay.at(107, question(230), &["write 230 flush 0"]);
    relay.at(108, question(230), &["write 230 flush 0"]);
    relay.at(109, Acked(3), &[]);
    let both = ["write 230 flush 208", "write 230 flush 0"];
    relay.at(110, question(230), &both);
    relay.at(111, Acked(4), &[]);
    relay.at(112, question(230), &["write 230 flush 230"]);
}

#[test]
fn a_question_inside_a_transaction_is_answered_too() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, question(150), &["write 150 flush 0"]);
    assert_eq!(relay.confirmed(), FLOOR);
}

#[test]
fn a_ping_goes_out_at_once_and_asks_for_an_answer() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, Ping, &["write 100 flush 100 and a ping"]);
    relay.at(2, Nothing, &[]);
}

#[test]
fn the_last_status_says_what_is_confirmed_although_none_is_due() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, keepalive(200), &[]);
    relay.at(2, begin(200), &[]);
    relay.at(3, row("a", "one"), &["record 1 to a/0: one"]);
    relay.at(4, commit(200, 208), &[]);
    assert_eq!(
        status_text(&relay.relay.last_status()),
        "write 208 flush 200"
    );
}

#[test]
fn an_undeliverable_row_stops_exactly_there_and_all_before_it_is_confirmed() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, commit(200, 208), &[]);
    relay.at(4, begin(300), &[]);
    relay.at(5, row("a", "two"), &["record 4 to a/0: two"]);
    let null_payload = insert(OUTBOX, &[Some("id"), Some("a"), None, None, None]);
    let halted = "halted at 300/1: its payload is NULL \
                  (outbox.null_payload: tombstone sends a null value instead)";
    relay.at(6, null_payload, &[halted]);
    assert!(!relay.relay.wants_wal());
    relay.at(7, Acked(3), &[]);
    assert!(!relay.relay.is_drained());
    relay.at(8, Acked(4), &[]);
    assert!(relay.relay.is_drained());
    assert_eq!(relay.confirmed(), 208);
    relay.at(100, Nothing, &["write 208 flush 208"]);
}

#[test]
fn an_undeliverable_row_halts_only_when_the_records_before_it_have_left() {
    let mut relay = Bench::opened(events(8), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    relay.at(4, commit(200, 208), &[]);
    relay.at(5, begin(300), &[]);
    let null_topic = insert(OUTBOX, &[Some("id"), None, None, Some("x"), None]);
    relay.at(6, null_topic, &[]);
    assert!(!relay.relay.wants_wal());
    let outputs = [
        "record 1 to a/0: two",
        "halted at 300/0: a column of route.topic is NULL",
    ];
    relay.at(7, Acked(0), &outputs);
    relay.at(8, Acked(1), &[]);
    assert_eq!(relay.confirmed(), 208);
}

#[test]
fn a_drain_forgets_a_row_that_would_have_halted_later() {
    let mut relay = Bench::opened(events(8), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    let null_topic = insert(OUTBOX, &[Some("id"), None, None, Some("x"), None]);
    relay.at(4, null_topic, &[]);
    relay.at(5, Drain, &[]);
    relay.at(6, Acked(0), &[]);
    assert!(relay.relay.is_drained());
    assert!(relay.relay.halted().is_none());
}

#[test]
fn what_is_wrong_with_a_row_is_named_with_its_id() {
    let topic_missing = Some("id");
    for (cells, reason) in [
        ([None, Some("a"), None, Some("x"), None], "its id is NULL"),
        (
            [topic_missing, None, None, Some("x"), None],
            "a column of route.topic is NULL",
        ),
        (
            [Some("id"), Some("no topic"), None, Some("x"), None],
            "the topic name has ' ' at byte 2",
        ),
        (
            [Some("id"), Some("elsewhere"), None, Some("x"), None],
            "route.allow does not list its topic 'elsewhere'",
        ),
        (
            [Some("id"), Some("a"), None, Some("x"), Some("[]")],
            "the headers are not a flat JSON object",
        ),
    ] {
        let mut relay = Bench::opened(events(1), 1);
        relay.at(1, begin(200), &[]);
        let outputs = relay.input(2, insert(OUTBOX, &cells));
        assert!(
            outputs[0].contains(&format!("200/0: {reason}")),
            "{outputs:?}"
        );
        let id = if cells[0].is_some() { "id" } else { "NULL" };
        assert_eq!(relay.relay.halted().unwrap().id.to_string(), id);
        assert!(!relay.relay.wants_wal());
    }
}

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
fn a_first_seen_topic_stops_the_line_until_its_count_is_known() {
    let mut relay = Bench::new();
    relay.input(0, outbox());
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["ask for a"]);
    assert!(relay.relay.waits_for_topic());
    relay.at(3, Nothing, &[]);
    relay.at(4, Counted("a", 1), &["record 0 to a/0: one"]);
    assert!(!relay.relay.waits_for_topic());
    relay.at(5, Acked(0), &[]);
    relay.at(6, row("a", "two"), &["record 1 to a/0: two"]);
}

#[test]
fn a_topic_that_never_was_there_halts_the_line_after_its_time() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(100, Nothing, &["write 115 flush 115"]);
    relay.at(101, begin(200), &[]);
    relay.at(102, row("b", "one"), &["ask for b"]);
    relay.at(103, Unavailable("b"), &[]);
    relay.at(353, Nothing, &["ask for b"]);
    relay.at(400, Missing("b"), &[]);
    assert_eq!(relay.timeout(), Some(650));
    relay.at(60_399, Nothing, &["ask for b", "write 115 flush 115"]);
    relay.at(60_399, Missing("b"), &[]);
    relay.at(60_649, Nothing, &["ask for b"]);
    let halted = "halted at 200/0: its topic 'b' does not exist, also not after 60 s";
    relay.at(60_700, Missing("b"), &[halted]);
    assert!(relay.relay.is_drained());
}

#[test]
fn an_answer_for_another_topic_does_not_start_the_wait_anew() {
    let mut relay = Bench::opened(events(4), 4);
    relay.input(1, begin(200));
    relay.at(2, row("b", "one"), &["ask for b"]);
    relay.at(3, Missing("b"), &[]);
    relay.at(4, Counted("a", 1), &[]);
    relay.at(5, Counted("c", 1), &[]);
    relay.input(60_003, Nothing);
    let halted = "halted at 200/0: its topic 'b' does not exist, also not after 60 s";
    relay.at(60_003, Missing("b"), &[halted]);
}

#[test]
fn a_topic_that_was_there_before_is_waited_for_without_end() {
    let mut relay = Bench::opened(events(2), 2);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 1 to a/0: one"]);
    let error = "error: Kafka did not take the event at \
                 00000000000000C8/00000000: NAME (3)";
    relay.at(3, Failed(1, 3), &[error]);

    let topics = relay.relay.into_topics();
    let mut relay = Bench::next_session(events(2), topics);
    relay.input(0, outbox());
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["ask for a"]);
    for hour in 1..5 {
        relay.input(hour * 3_600 * SECOND, Missing("a"));
        assert!(relay.relay.halted().is_none());
        assert!(relay.relay.waits_for_topic());
    }
    let outputs = relay.input(4 * 3_600 * SECOND, Counted("a", 1));
    assert_eq!(outputs, ["record 0 to a/0: one"]);
}

#[test]
fn a_question_without_an_answer_is_asked_again_by_the_next_session() {
    let mut relay = Bench::opened(events(2), 2);
    relay.input(300 * SECOND, begin(200));
    let outputs = relay.input(300 * SECOND, row("a", "one"));
    assert_eq!(outputs, ["record 1 to a/0: one", "ask for a"]);

    let start = relay.start;
    let topics = relay.relay.into_topics();
    let mut relay = Bench::next_session(events(2), topics);
    relay.start = start;
    relay.input(301 * SECOND, outbox());
    relay.at(301 * SECOND, begin(200), &[]);
    let outputs = ["record 0 to a/0: one", "ask for a"];
    relay.at(301 * SECOND, row("a", "one"), &outputs);
}

#[test]
fn a_new_count_is_used_when_what_was_placed_by_the_old_one_has_arrived() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, Counted("a", 7), &[]);
    relay.at(4, row("a", "two"), &[]);
    relay.at(5, Acked(3), &["record 4 to a/3: two"]);
    relay.at(6, row("a", "three"), &["record 5 to a/3: three"]);
    relay.at(7, Counted("a", 7), &[]);
    relay.at(8, row("a", "four"), &["record 6 to a/3: four"]);
}

#[test]
fn the_window_opens_as_reports_come_and_is_read_behind_up_to_its_limit() {
    let mut relay = Bench::opened(events(3), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    assert!(relay.relay.wants_wal());
    assert!(!relay.relay.waits_for_topic());
    relay.at(4, row("a", "three"), &[]);
    assert!(!relay.relay.wants_wal());
    assert_eq!(relay.relay.snapshot().queued, 2);
    let outputs = ["record 1 to a/0: two", "record 2 to a/0: three"];
    relay.at(5, Acked(0), &outputs);
    assert!(relay.relay.wants_wal());
    assert_eq!(relay.relay.snapshot().window, 2);
}

#[test]
fn a_stopping_server_gets_its_answer_behind_records_that_wait_for_their_turn() {
    let mut relay = Bench::opened(events(8), 1);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 0 to a/0: one"]);
    relay.at(3, row("a", "two"), &[]);
    relay.at(4, commit(200, 215), &[]);
    relay.at(5, question(300), &["write 300 flush 0"]);
}

#[test]
fn an_event_larger_than_the_window_leaves_alone() {
    let limits = WindowLimits {
        events: 8,
        bytes: 300,
    };
    let mut relay = Bench::opened(limits, 4);
    let large = "x".repeat(1_000);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", &large), &[]);
    assert!(!relay.relay.wants_wal());
    relay.at(4, Acked(3), &[&format!("record 4 to a/0: {large}")]);
    assert!(!relay.relay.wants_wal());
    assert!(relay.relay.snapshot().undelivered_bytes > 1_000);
    relay.at(5, Acked(4), &[]);
    relay.at(6, row("a", "three"), &["record 5 to a/0: three"]);
}

#[test]
fn a_drain_drops_the_record_that_waits_and_lets_the_others_arrive() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, commit(200, 208), &[]);
    relay.at(4, begin(300), &[]);
    relay.at(5, row("b", "two"), &["ask for b"]);
    relay.at(6, Drain, &[]);
    assert!(!relay.relay.wants_wal());
    assert!(!relay.relay.is_drained());
    relay.at(7, Counted("b", 1), &[]);
    relay.at(8, Acked(3), &[]);
    assert!(relay.relay.is_drained());
    assert_eq!(relay.confirmed(), 208);
    assert_eq!(
        status_text(&relay.relay.last_status()),
        "write 208 flush 208"
    );
}

#[test]
fn a_drain_drops_a_record_that_the_window_has_no_room_for() {
    let limits = WindowLimits {
        events: 8,
        bytes: 300,
    };
    let mut relay = Bench::opened(limits, 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", &"x".repeat(1_000)), &[]);
    assert!(!relay.relay.waits_for_topic());
    relay.at(4, Drain, &[]);
    relay.at(5, Acked(3), &[]);
    assert!(relay.relay.is_drained());
}

#[test]
fn a_transaction_is_split_from_its_first_record_that_left_to_its_end() {
    let mut relay = Bench::opened(events(8), 2);
    assert!(!relay.relay.splits_transaction());
    relay.at(1, begin(200), &[]);
    assert!(!relay.relay.splits_transaction());
    relay.at(2, row("a", "one"), &["record 1 to a/0: one"]);
    assert!(relay.relay.splits_transaction());
    relay.at(3, row("a", "two"), &["record 2 to a/0: two"]);
    relay.at(4, row("a", "three"), &[]);
    relay.at(5, commit(200, 208), &[]);
    assert!(relay.relay.splits_transaction());
    relay.at(6, begin(300), &[]);
    relay.at(7, row("a", "four"), &[]);
    assert!(relay.relay.splits_transaction());
    relay.at(8, Acked(1), &["record 3 to a/0: three"]);
    assert!(!relay.relay.splits_transaction());
    relay.at(9, Drain, &[]);
    relay.at(10, Acked(2), &[]);
    relay.at(11, Acked(3), &[]);
    assert!(relay.relay.is_drained());
    assert_eq!(relay.confirmed(), 208);
}

#[test]
fn a_drain_with_nothing_in_flight_is_done_at_once() {
    let mut relay = Bench::opened(events(1), 1);
    relay.at(1, Drain, &[]);
    assert!(relay.relay.is_drained());
    assert!(!relay.relay.wants_wal());
}

#[test]
fn an_event_that_kafka_refuses_halts_and_earlier_reports_still_count() {
    for code in [10, 17, 87] {
        let mut relay = Bench::opened(events(4), 4);
        relay.at(1, begin(200), &[]);
        relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
        relay.at(3, commit(200, 208), &[]);
        relay.at(4, begin(300), &[]);
        relay.at(5, row("a", "two"), &["record 4 to a/0: two"]);
        let halted = format!("halted at 300/0: Kafka refused it: NAME ({code})");
        relay.at(6, Failed(4, code), &[&halted]);
        assert!(!relay.relay.wants_wal());
        relay.at(7, Acked(3), &[]);
        assert_eq!(relay.confirmed(), 208);
        assert_eq!(
            relay.relay.snapshot().oldest.unwrap().commit_lsn.as_u64(),
            300
        );
        assert!(!relay.relay.is_drained());
    }
}

#[test]
fn the_earliest_of_the_refused_events_is_the_one_in_the_way() {
    for order in [[3, 4, 5], [5, 4, 3], [4, 5, 3]] {
        let mut relay = Bench::opened(events(4), 4);
        relay.at(1, begin(200), &[]);
        for _ in 0..3 {
            relay.input(2, row("a", "x"));
        }
        for ticket in order {
            relay.input(3, Failed(ticket, 10));
        }
        let position = relay.relay.halted().unwrap().position;
        assert_eq!(position.ordinal, 0, "{order:?}");
    }
}

#[test]
fn a_refusal_that_is_not_the_events_fault_ends_the_session_and_confirms_nothing() {
    for code in [3, 5, 19, 29, 35, -150, -152, -187, -188, -190, 9_999] {
        let mut relay = Bench::opened(events(4), 4);
        relay.at(1, begin(200), &[]);
        relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
        relay.at(3, commit(200, 208), &[]);
        relay.at(4, keepalive(300), &[]);
        let error = format!(
            "error: Kafka did not take the event at \
             00000000000000C8/00000000: NAME ({code})"
        );
        relay.at(5, Failed(3, code), &[&error]);
        assert_eq!(relay.confirmed(), 115);
        assert!(relay.relay.halted().is_none());
    }
}

#[test]
fn a_refused_partition_makes_the_next_session_ask_for_the_count() {
    for (code, asks) in [
        (3, true),
        (-188, true),
        (-190, true),
        (19, false),
        (-187, false),
    ] {
        let mut relay = Bench::opened(events(2), 2);
        relay.input(1, begin(200));
        relay.input(2, row("a", "one"));
        relay.input(3, Failed(1, code));
        let topics = relay.relay.into_topics();
        let mut relay = Bench::next_session(events(2), topics);
        relay.input(4, outbox());
        relay.input(5, begin(200));
        let first = if asks {
            "ask for a"
        } else {
            "record 0 to a/0: one"
        };
        relay.at(6, row("a", "one"), &[first]);
    }
}

#[test]
fn a_snapshot_counts_what_is_in_flight_and_what_arrived() {
    let mut relay = Bench::opened(events(4), 4);
    relay.at(1, begin(200), &[]);
    relay.at(2, row("a", "one"), &["record 3 to a/0: one"]);
    relay.at(3, row("a", "two"), &["record 4 to a/0: two"]);
    relay.at(4, commit(200, 208), &[]);
    relay.at(5, Acked(4), &[]);
    let snapshot = relay.relay.snapshot();
    assert_eq!(snapshot.received, Lsn::new(208));
    assert_eq!(snapshot.confirmed, Lsn::new(115));
    assert_eq!(snapshot.delivered, 4);
    assert_eq!(snapshot.in_flight, 2);
    assert_eq!(snapshot.window, 4);
    assert_eq!(
        snapshot.oldest,
        Some(Position {
            commit_lsn: Lsn::new(200),
            ordinal: 0
        })
    );
    // id (2), value (3), and the headers id, walpost-position and walpost-commit-time.
    assert_eq!(
        snapshot.undelivered_bytes,
        2 + 3 + 4 + (16 + 25) + (19 + 27)
    );
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
