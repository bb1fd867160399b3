//! The history that every path tells: three transactions of two events each, with what stands
//! between them in the WAL.
//!
//! ```text
//! 100   110        120  130       140        150        160  170        180
//!  | other | rows   | T1  | T2     | other    | rows     | T3  | other    |
//! ```
//!
//! The first two commit records are adjacent: one begins where the other ends.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;
use walpost_core::Position;
use walpost_pgoutput::{
    Begin, Cell, Column, Commit, CopyMessage, Insert, Keepalive, Lsn, Message, PgTimestamp,
    Relation, RelationId, Tuple, XLogData,
};

/// Where the slot was made.
pub(crate) const ORIGIN: u16 = 100;
/// The end of the WAL.
pub(crate) const END: u16 = 180;
/// Every position that a record ends at.
pub(crate) const POSITIONS: [u16; 7] = [ORIGIN, 110, 130, 140, 150, 170, END];

pub(crate) const TRANSACTIONS: u8 = 3;
pub(crate) const EVENTS: u8 = 6;
pub(crate) const PARTITIONS: usize = 2;
pub(crate) const TOPIC: &str = "orders";

const COMMITS: [(u16, u16); TRANSACTIONS as usize] = [(120, 130), (130, 140), (160, 170)];
const TABLE: RelationId = RelationId(16_385);
/// Aggregates that murmur2 puts into the first and the second of two partitions.
const AGGREGATES: [&str; PARTITIONS] = ["a", "d"];

/// One step of the stream. A session's first transaction is the only one that describes the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Begin(u8),
    Describe(u8),
    Row(u8),
    Commit(u8),
    /// Everything is sent: the server says how far it is.
    CaughtUp,
}

impl Step {
    /// The first step of a stream that is asked to start there.
    pub(crate) fn first(start: u16) -> Self {
        let next = (0..TRANSACTIONS).find(|number| commit_lsn(*number) >= start);
        next.map_or(Self::CaughtUp, Self::Begin)
    }

    /// The one behind it.
    pub(crate) fn next(self, is_described: bool) -> Option<Self> {
        Some(match self {
            Self::Begin(transaction) if is_described => Self::Row(2 * transaction),
            Self::Begin(transaction) => Self::Describe(transaction),
            Self::Describe(transaction) => Self::Row(2 * transaction),
            Self::Row(event) if event % 2 == 0 => Self::Row(event + 1),
            Self::Row(event) => Self::Commit(event / 2),
            Self::Commit(transaction) if transaction + 1 < TRANSACTIONS => {
                Self::Begin(transaction + 1)
            }
            Self::Commit(_) => Self::CaughtUp,
            Self::CaughtUp => return None,
        })
    }

    /// What a keepalive before this step may report: outside a transaction what was decoded by
    /// then, with or without what is not ours; inside one, also the end of the WAL, as the manual
    /// describes the field.
    pub(crate) fn keepalives(self) -> &'static [u16] {
        match self {
            Self::Begin(0) => &[ORIGIN, 110],
            Self::Begin(1) => &[130],
            Self::Begin(_) => &[140, 150],
            Self::CaughtUp => &[170],
            Self::Describe(_) | Self::Row(_) | Self::Commit(_) => &[END],
        }
    }
}

pub(crate) fn commit_lsn(transaction: u8) -> u16 {
    COMMITS[usize::from(transaction)].0
}

/// Start of the commit record of an event.
pub(crate) fn commit_of(event: u8) -> u16 {
    commit_lsn(event / 2)
}

/// Its place in the stream.
pub(crate) fn position(event: u8) -> Position {
    Position {
        commit_lsn: lsn(commit_of(event)),
        ordinal: u32::from(event % 2),
    }
}

pub(crate) fn id(event: u8) -> Uuid {
    Uuid::from_u128(0xA000_0000_0000_4000_8000_0000_0000_0000 + u128::from(event))
}

pub(crate) fn payload(event: u8) -> String {
    format!("{{\"event\": {event}}}")
}

pub(crate) fn lsn(lsn: u16) -> Lsn {
    Lsn::new(u64::from(lsn))
}

/// A position of this history.
pub(crate) fn short(lsn: Lsn) -> u16 {
    u16::try_from(lsn.as_u64()).expect("the core invents no position")
}

/// Which partition each event belongs to.
pub(crate) type Layout = [u8; EVENTS as usize];

/// The message of a step.
pub(crate) fn message(step: Step, layout: &Layout) -> CopyMessage {
    let commit_time = PgTimestamp::new(1);
    let (at, message) = match step {
        Step::Begin(transaction) => {
            let begin = Begin {
                final_lsn: lsn(commit_lsn(transaction)),
                commit_time,
                xid: 700 + u32::from(transaction),
            };
            (commit_lsn(transaction), Message::Begin(begin))
        }
        Step::Describe(_) => (0, Message::Relation(relation())),
        Step::Row(event) => (commit_of(event), Message::Insert(insert(event, layout))),
        Step::Commit(transaction) => {
            let (start, end) = COMMITS[usize::from(transaction)];
            let commit = Commit {
                flags: 0,
                commit_lsn: lsn(start),
                end_lsn: lsn(end),
                commit_time,
            };
            (end, Message::Commit(commit))
        }
        Step::CaughtUp => return keepalive(END, false),
    };
    let mut data = BytesMut::new();
    message.encode(&mut data);
    CopyMessage::XLogData(XLogData {
        wal_start: lsn(at),
        wal_end: lsn(at),
        server_time: commit_time,
        data: data.freeze(),
    })
}

pub(crate) fn keepalive(wal_end: u16, reply_requested: bool) -> CopyMessage {
    CopyMessage::Keepalive(Keepalive {
        wal_end: lsn(wal_end),
        server_time: PgTimestamp::new(1),
        reply_requested,
    })
}

fn relation() -> Relation {
    let columns = ["id", "destination", "aggregate_id", "event_type", "payload"];
    let types = [2_950, 25, 25, 25, 3_802];
    let columns = columns.iter().zip(types).map(|(name, type_oid)| Column {
        is_key: *name == "id",
        name: Bytes::from_static(name.as_bytes()),
        type_oid,
        type_modifier: -1,
    });
    Relation {
        id: TABLE,
        namespace: Bytes::from_static(b"public"),
        name: Bytes::from_static(b"outbox"),
        replica_identity: b'd',
        columns: columns.collect(),
    }
}

fn insert(event: u8, layout: &Layout) -> Insert {
    let id = id(event).to_string();
    let payload = payload(event);
    let aggregate = AGGREGATES[usize::from(layout[usize::from(event)])];
    let cells = [&id, TOPIC, aggregate, "Happened", &payload];
    Insert {
        relation: TABLE,
        new: Tuple::from_cells(cells.iter().map(|text| Cell::Text(text.as_bytes()))),
    }
}
