//! A relay on a bench: every test is a table of lines "input at t => outputs".

use bytes::{Bytes, BytesMut};
use walpost_pgoutput::{Begin, Cell, Column, Commit, PgTimestamp, Tuple, XLogData};

use super::*;
use crate::instants::start;
use crate::mapping::MappingSpec;

pub(super) const FLOOR: u64 = 100;
pub(super) const OUTBOX: u32 = 1;
pub(super) const FOREIGN: u32 = 2;
pub(super) const SECOND: u64 = 1_000;

/// So many outputs no input of a test has: what is polled until nothing comes has to end.
const OUTPUTS_MAX: usize = 1_000;

/// A relay, and the instant that its milliseconds count from.
pub(super) struct Bench {
    pub(super) relay: Relay,
    pub(super) start: Instant,
    halted: bool,
    /// The record that left last.
    pub(super) last: Option<Record>,
}

/// What is put in.
#[derive(Clone)]
pub(super) enum Input {
    Nothing,
    Wal(CopyMessage),
    Acked(u64),
    Failed(u64, i32),
    /// The client would not send the last record.
    Unsent(i32),
    Counted(&'static str, u32),
    Missing(&'static str),
    Unavailable(&'static str),
    /// Whether the checkpoint was written.
    Written(bool),
    Drain,
    Ping,
}
pub(super) use Input::{
    Acked, Counted, Drain, Failed, Missing, Nothing, Ping, Unavailable, Unsent, Written,
};

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(WindowLimits::default())
    }

    pub(super) fn with(window: WindowLimits) -> Self {
        Self::next_session(window, Topics::new(Duration::from_secs(60)))
    }

    /// A session that has told the floor and knows the table and the topic `a` with one partition;
    /// its window has opened for `open` records.
    pub(super) fn opened(window: WindowLimits, open: u64) -> Self {
        Self::ruled(window, open, Policy::Halt, Rulings::default())
    }

    /// The same, with a policy for events that can't be delivered, and what is known of some.
    pub(super) fn ruled(window: WindowLimits, open: u64, policy: Policy, rulings: Rulings) -> Self {
        let topics = Topics::new(Duration::from_secs(60));
        let mut bench = Self::session(window, topics, policy, rulings);
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

    pub(super) fn next_session(window: WindowLimits, topics: Topics) -> Self {
        Self::session(window, topics, Policy::Halt, Rulings::default())
    }

    /// A relay that keeps its checkpoint like that.
    pub(super) fn recorded(recording: Recording) -> Self {
        let topics = Topics::new(Duration::from_secs(60));
        let mut bench = Self::next_session(WindowLimits::default(), topics);
        bench.relay.recorder = Recorder::new(recording, Lsn::new(FLOOR));
        bench
    }

    fn session(window: WindowLimits, topics: Topics, policy: Policy, rulings: Rulings) -> Self {
        let spec = MappingSpec {
            tables: vec![TableName {
                schema: "public".to_owned(),
                name: "outbox".to_owned(),
            }],
            allow: vec!["/[a-z]/".to_owned(), "not here".replace(' ', "-")],
            ..MappingSpec::default()
        };
        let start = start();
        let session = Session {
            floor: Lsn::new(FLOOR),
            format: Format::Text,
            wal_sender_timeout: Duration::from_secs(60),
            window,
            textual: BTreeSet::new(),
            recording: Recording::Off,
            policy,
            size_is_final_until: Some(start + Duration::from_secs(1)),
        };
        Self {
            relay: Relay::new(Mapping::new(&spec).unwrap(), session, rulings, topics),
            start,
            halted: false,
            last: None,
        }
    }

    pub(super) fn last_status(&mut self) -> Status {
        self.relay.last_status(self.start)
    }

    /// One line of a table: this input, so many milliseconds after the start, has these outputs.
    #[track_caller]
    pub(super) fn at(&mut self, ms: u64, input: Input, outputs: &[&str]) {
        assert_eq!(self.input(ms, input), outputs, "at {ms} ms");
    }

    pub(super) fn input(&mut self, ms: u64, input: Input) -> Vec<String> {
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
            Unsent(code) => {
                let record = self.last.take().unwrap();
                relay.handle_refusal(now, record, rejection(code))
            }
            Counted(name, count) => answer(relay, now, &topic(name), Ok(count)),
            Missing(name) => answer(relay, now, &topic(name), Err(TopicFault::Missing)),
            Unavailable(name) => {
                let fault = TopicFault::Unavailable("brokers down".to_owned());
                answer(relay, now, &topic(name), Err(fault))
            }
            Written(is_written) => {
                relay.handle_checkpointed(is_written);
                Ok(())
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
        let mut push = |output| {
            assert!(outputs.len() < OUTPUTS_MAX, "there is no end of outputs");
            outputs.push(output);
        };
        while let Some(record) = self.relay.poll_record(now) {
            push(record_text(&record));
            self.last = Some(record);
        }
        while let Some(exception) = self.relay.poll_exception() {
            push(exception_text(&exception));
        }
        while let Some(topic) = self.relay.poll_topic(now) {
            push(format!("ask for {topic}"));
        }
        while let Some(lsn) = self.relay.poll_checkpoint(now) {
            push(format!("checkpoint {}", lsn.as_u64()));
        }
        while let Some(status) = self.relay.poll_status(now) {
            push(status_text(&status));
        }
        if let Some(halt) = self.relay.halted()
            && !std::mem::replace(&mut self.halted, true)
        {
            outputs.push(format!(
                "halted at {}: {}",
                place(halt.position),
                halt.reason
            ));
        }
        outputs
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.relay.confirmed().as_u64()
    }

    /// Milliseconds after the start.
    pub(super) fn timeout(&self) -> Option<u128> {
        let at = self.relay.poll_timeout()?;
        Some(at.saturating_duration_since(self.start).as_millis())
    }
}

fn record_text(record: &Record) -> String {
    let Record {
        ticket, partition, ..
    } = record;
    let topic = record.topic();
    let value = match record.value() {
        Some(value) => String::from_utf8(value.to_vec()).unwrap(),
        None => "NULL".to_owned(),
    };
    format!("record {} to {topic}/{partition}: {value}", ticket.0)
}

fn exception_text(exception: &Exception) -> String {
    match exception {
        Exception::Skipped { id, position } => format!("skipped {id} at {}", place(*position)),
        Exception::DeadLetter(event) => {
            format!(
                "dead letter of {}: {}",
                place(event.position),
                event.reason.code()
            )
        }
    }
}

fn place(position: Position) -> String {
    format!("{}/{}", position.commit_lsn.as_u64(), position.ordinal)
}

pub(super) fn answer(
    relay: &mut Relay,
    now: Instant,
    topic: &Topic,
    answer: Result<u32, TopicFault>,
) -> Result<(), RelayError> {
    relay.handle_topic(now, topic, answer);
    Ok(())
}

pub(super) fn status_text(status: &Status) -> String {
    let Status {
        write,
        flush,
        reply_requested,
    } = status;
    let ping = if *reply_requested { " and a ping" } else { "" };
    format!("write {} flush {}{ping}", write.as_u64(), flush.as_u64())
}

pub(super) fn rejection(code: i32) -> Rejection {
    Rejection {
        code,
        name: "NAME".to_owned(),
        detail: String::new(),
    }
}

pub(super) fn data(at: u64, message: &Message) -> Input {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    Input::Wal(CopyMessage::XLogData(XLogData {
        wal_start: Lsn::new(at),
        wal_end: Lsn::new(at),
        server_time: PgTimestamp::new(0),
        data: bytes.freeze(),
    }))
}

pub(super) fn keepalive(wal_end: u64) -> Input {
    Input::Wal(CopyMessage::Keepalive(Keepalive {
        wal_end: Lsn::new(wal_end),
        server_time: PgTimestamp::new(0),
        reply_requested: false,
    }))
}

pub(super) fn question(wal_end: u64) -> Input {
    Input::Wal(CopyMessage::Keepalive(Keepalive {
        wal_end: Lsn::new(wal_end),
        server_time: PgTimestamp::new(0),
        reply_requested: true,
    }))
}

pub(super) fn begin(commit_lsn: u64) -> Input {
    let begin = Begin {
        final_lsn: Lsn::new(commit_lsn),
        commit_time: PgTimestamp::new(0),
        xid: 7,
    };
    data(0, &Message::Begin(begin))
}

pub(super) fn commit(commit_lsn: u64, end_lsn: u64) -> Input {
    commit_at(end_lsn, commit_lsn, end_lsn)
}

/// A commit in a message of the stream that stands at `at`.
pub(super) fn commit_at(at: u64, commit_lsn: u64, end_lsn: u64) -> Input {
    let commit = Commit {
        flags: 0,
        commit_lsn: Lsn::new(commit_lsn),
        end_lsn: Lsn::new(end_lsn),
        commit_time: PgTimestamp::new(0),
    };
    data(at, &Message::Commit(commit))
}

/// The columns of the outbox table, in this order.
pub(super) const COLUMNS: [&str; 5] = ["id", "destination", "aggregate_id", "payload", "headers"];

pub(super) fn relation(id: u32, name: &'static str, columns: &[&'static str]) -> Input {
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

pub(super) fn outbox() -> Input {
    relation(OUTBOX, "outbox", &COLUMNS)
}

pub(super) fn tuple(cells: &[Option<&str>]) -> Tuple {
    Tuple::from_cells(cells.iter().map(|text| match text {
        Some(text) => Cell::Text(text.as_bytes()),
        None => Cell::Null,
    }))
}

pub(super) fn insert(relation: u32, cells: &[Option<&str>]) -> Input {
    insert_at(0, relation, cells)
}

fn insert_at(at: u64, relation: u32, cells: &[Option<&str>]) -> Input {
    let insert = Insert {
        relation: RelationId(relation),
        new: tuple(cells),
    };
    data(at, &Message::Insert(insert))
}

/// Bytes of a row whose payload has three: its id (2), the payload, and the headers id,
/// walpost-position and walpost-commit-time.
pub(super) const ROW_BYTES: usize = 2 + 3 + 4 + (16 + 25) + (19 + 27);

pub(super) fn row(topic: &str, payload: &str) -> Input {
    row_at(0, topic, payload)
}

/// A row in a message of the stream that stands at `at`.
pub(super) fn row_at(at: u64, topic: &str, payload: &str) -> Input {
    let cells = [Some("id"), Some(topic), Some("agg"), Some(payload), None];
    insert_at(at, OUTBOX, &cells)
}

/// Records of any size, so many at once.
pub(super) fn events(events: u32) -> WindowLimits {
    WindowLimits {
        events,
        bytes: 1 << 20,
    }
}
