//! The walsender: decodes the WAL from behind the start position, sends whole transactions in
//! commit order as real bytes, and listens to status updates, as `walsender.c` does.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use walpost_core::Format;
use walpost_pgoutput::{
    Begin, Cell, Column, Commit, CopyMessage, Delete, Insert, Keepalive, Lsn, Message, OldTuple,
    Origin, PgTimestamp, Relation, RelationId, StandbyStatus, Truncate, Tuple, Type, Update,
    XLogData,
};

use crate::history::History;
use crate::plan::{Fault, Plan, chance};
use crate::postgres::{Row, Transaction, WalRecord};

const TABLE: RelationId = RelationId(16_385);
const OTHER_TABLE: RelationId = RelationId(16_999);

/// Most messages are smaller.
const MESSAGE_BYTES: usize = 320;

/// What the server says instead of a message of the stream: that it leaves rows out, and that it
/// can't go on, for the want of the publication.
pub(crate) const NOTICE: &[u8] = b"N";
pub(crate) const ERROR: &[u8] = b"E";

/// One walsender process and the two directions of its socket.
#[derive(Debug)]
pub(crate) struct Walsender {
    /// Transactions committed before it are skipped.
    start: u64,
    /// The next WAL record to decode.
    next: usize,
    /// How far it has decoded and sent.
    sent: u64,
    sending: Option<Sending>,
    /// The column order that the client knows.
    described: Option<u8>,
    to_client: VecDeque<Bytes>,
    to_server: VecDeque<[u8; StandbyStatus::LEN]>,
    client_open: bool,
    /// It notices the end of its client no sooner.
    lingers_until: u64,
    server_open: bool,
    write: u64,
    flush: u64,
    waits_for_reply: bool,
    /// The client was told of a position beyond what was sent.
    hinted: bool,
    pub(crate) stopping: bool,
    last_reply: u64,
    /// It reads by the spare publication, which was there all the time.
    uses_spare: bool,
    /// It has failed for the publication, or has said that it leaves rows out.
    has_complained: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    commit: usize,
    commit_lsn: u64,
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Begin,
    Row(usize),
}

/// What the walsender sees.
pub(crate) struct View<'a> {
    pub(crate) wal: &'a [WalRecord],
    pub(crate) commits: &'a [Transaction],
    pub(crate) end: u64,
    pub(crate) published_from: u64,
    pub(crate) plan: &'a Plan,
    pub(crate) history: &'a History,
    pub(crate) now: u64,
}

/// The client's end of the connection.
pub(crate) struct Peer<'a>(&'a mut Walsender);

impl Peer<'_> {
    pub(crate) fn has_data(&self) -> bool {
        !self.0.to_client.is_empty()
    }

    pub(crate) fn read(&mut self) -> Option<Bytes> {
        self.0.to_client.pop_front()
    }

    /// The server has sent its last.
    pub(crate) fn is_finished(&self) -> bool {
        !self.0.server_open && self.0.to_client.is_empty()
    }

    pub(crate) fn send(&mut self, status: &StandbyStatus) {
        self.0.to_server.push_back(status.encode());
    }

    /// Closes the socket: what was sent still arrives, unless the network lost it.
    /// The server notices at `noticed_at`.
    pub(crate) fn close(&mut self, arrives: usize, noticed_at: u64) {
        self.0.client_open = false;
        self.0.lingers_until = noticed_at;
        self.0.to_server.truncate(arrives);
        self.0.to_client.clear();
    }
}

impl Walsender {
    pub(crate) fn new(start: u64, next: usize, uses_spare: bool, now: u64) -> Self {
        Self {
            start,
            next,
            sent: start,
            sending: None,
            described: None,
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            client_open: true,
            lingers_until: 0,
            server_open: true,
            write: 0,
            flush: 0,
            waits_for_reply: false,
            hinted: false,
            stopping: false,
            last_reply: now,
            uses_spare,
            has_complained: false,
        }
    }

    pub(crate) fn peer(&mut self) -> Option<Peer<'_>> {
        self.client_open.then_some(Peer(self))
    }

    /// Its client went away, and it has noticed.
    pub(crate) fn is_gone(&self, now: u64) -> bool {
        let has_read = self.to_server.is_empty() || !self.server_open;
        !self.client_open && has_read && self.lingers_until <= now
    }

    /// Whether it has sent everything that is on disk.
    pub(crate) fn is_caught_up(&self, flushed: usize) -> bool {
        self.sending.is_none() && self.next >= flushed
    }

    pub(crate) fn has_status(&self) -> bool {
        self.server_open && !self.to_server.is_empty()
    }

    /// How far it has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn is_ready(&self, flushed: usize, plan: &Plan) -> bool {
        let room = self.to_client.len() < plan.socket;
        self.client_open && self.server_open && room && !self.is_caught_up(flushed)
    }

    /// When it will ask for a sign of life, or give up.
    pub(crate) fn deadline(&self, plan: &Plan) -> Option<u64> {
        if !self.client_open {
            return Some(self.lingers_until);
        }
        let timeout = plan.wal_sender_timeout_ms;
        if timeout == 0 || !self.server_open {
            return None;
        }
        let half = !self.waits_for_reply;
        Some(self.last_reply + if half { timeout / 2 } else { timeout })
    }

    /// Its timers. A client whose process is stopped, or was a moment ago, may be late.
    pub(crate) fn tick(&mut self, plan: &Plan, now: u64, may_be_late: bool) {
        let is_due = self.deadline(plan).is_some_and(|deadline| deadline <= now);
        if !self.client_open || !is_due {
            return;
        }
        if now >= self.last_reply + plan.wal_sender_timeout_ms {
            assert!(
                may_be_late,
                "status: the server took a living relay for dead"
            );
            self.server_open = false;
            return;
        }
        self.keepalive(self.sent, true, now);
    }

    pub(crate) fn step(&mut self, world: &View<'_>, rng: &mut Rng) {
        if !self.is_ready(world.wal.len(), world.plan) {
            return;
        }
        if self.sending.is_some() {
            self.send_next(world, rng);
        } else if let Some(record) = world.wal.get(self.next) {
            self.decode(*record, world, rng);
        }
        if self.is_caught_up(world.wal.len()) {
            self.caught_up(world.now);
        }
    }

    /// Decodes one WAL record: only a commit that is not before the start sends anything.
    fn decode(&mut self, record: WalRecord, world: &View<'_>, rng: &mut Rng) {
        self.next += 1;
        if let Some(commit) = record.commit
            && record.start >= self.start
            && (world.plan.sends_empty || !world.commits[commit].rows.is_empty())
        {
            self.sending = Some(Sending {
                commit,
                commit_lsn: record.start,
                next: Next::Begin,
            });
            return;
        }
        self.sent = record.end;
        let behind = self.sent < self.start;
        if chance(rng, if behind { 40 } else { 15 }) {
            let reply = world.plan.has(Fault::Question) && chance(rng, 30);
            self.keepalive(self.sent, reply, world.now);
        }
    }

    /// The next row was written before the publication was made. Says whether it is not sent.
    fn leaves_out(&mut self, world: &View<'_>) -> bool {
        let Some(sending) = &mut self.sending else {
            return false;
        };
        let Next::Row(index) = sending.next else {
            return false;
        };
        let rows = &world.commits[sending.commit].rows;
        let is_older = |row: &&Row| row.lsn < world.published_from;
        if self.uses_spare || rows.get(index).filter(is_older).is_none() {
            return false;
        }
        sending.next = Next::Row(index + 1);
        let has_complained = std::mem::replace(&mut self.has_complained, true);
        if world.plan.skips_publication {
            if !has_complained {
                self.to_client.push_back(Bytes::from_static(NOTICE));
            }
            return true;
        }
        self.to_client.push_back(Bytes::from_static(ERROR));
        self.server_open = false;
        true
    }

    fn send_next(&mut self, world: &View<'_>, rng: &mut Rng) {
        if self.leaves_out(world) {
            return;
        }
        let cluttered = world.plan.has(Fault::Clutter) && chance(rng, 15);
        let sending = self.sending.as_mut().expect("a transaction is under way");
        let transaction = &world.commits[sending.commit];
        let commit_lsn = Lsn::new(sending.commit_lsn);
        let commit_time = PgTimestamp::new(i64::from(transaction.xid) * 1_000_000);
        let (at, message) = match sending.next {
            Next::Begin => {
                sending.next = Next::Row(0);
                let first = transaction.rows.first().map_or(0, |row| row.lsn);
                let begin = Begin {
                    final_lsn: commit_lsn,
                    commit_time,
                    xid: transaction.xid,
                };
                (first, Message::Begin(begin))
            }
            Next::Row(index) => match transaction.rows.get(index) {
                Some(row) if self.described != Some(row.shape) => {
                    self.described = Some(row.shape);
                    (0, Message::Relation(relation(row.shape, world.plan.format)))
                }
                Some(row) if cluttered => (row.lsn, clutter(row, world, rng)),
                Some(row) => {
                    sending.next = Next::Row(index + 1);
                    (row.lsn, Message::Insert(insert(row, world)))
                }
                None => {
                    self.sending = None;
                    self.sent = transaction.end;
                    let end_lsn = Lsn::new(transaction.end);
                    let commit = Commit {
                        flags: 0,
                        commit_lsn,
                        end_lsn,
                        commit_time,
                    };
                    (transaction.end, Message::Commit(commit))
                }
            },
        };
        self.send(at, &message, world.now);
        self.interrupt(world, rng);
    }

    /// A keepalive between two messages of a transaction. By the source it reports what was sent,
    /// so nothing of this transaction; by the manual it reports the end of the WAL.
    fn interrupt(&mut self, world: &View<'_>, rng: &mut Rng) {
        let plan = world.plan;
        if self.sending.is_none() || !plan.has(Fault::KeepaliveInside) || !chance(rng, 20) {
            return;
        }
        let hint = plan.has(Fault::KeepaliveHint) && rng.bool();
        self.hinted |= hint;
        let at = if hint { world.end } else { self.sent };
        let reply = plan.has(Fault::Question) && chance(rng, 30);
        self.keepalive(at, reply, world.now);
    }

    fn send(&mut self, at: u64, message: &Message, now: u64) {
        let mut data = BytesMut::with_capacity(MESSAGE_BYTES);
        message.encode(&mut data);
        let lsn = Lsn::new(at);
        let copy = CopyMessage::XLogData(XLogData {
            wal_start: lsn,
            wal_end: lsn,
            server_time: server_time(now),
            data: data.freeze(),
        });
        self.push(&copy);
    }

    fn keepalive(&mut self, at: u64, reply_requested: bool, now: u64) {
        self.waits_for_reply |= reply_requested;
        self.push(&CopyMessage::Keepalive(Keepalive {
            wal_end: Lsn::new(at),
            server_time: server_time(now),
            reply_requested,
        }));
    }

    fn push(&mut self, message: &CopyMessage) {
        if self.client_open {
            let mut out = BytesMut::with_capacity(MESSAGE_BYTES);
            message.encode(&mut out);
            self.to_client.push_back(out.freeze());
        }
    }

    pub(crate) fn take_status(&mut self, caught_up: bool, now: u64) -> Option<StandbyStatus> {
        let bytes = self.to_server.pop_front()?;
        let status = StandbyStatus::decode(Bytes::copy_from_slice(&bytes));
        let status = status.expect("the client encodes what the server decodes");
        self.write = status.write.as_u64();
        self.flush = status.flush.as_u64();
        self.waits_for_reply = false;
        self.last_reply = now;
        if status.reply_requested {
            self.keepalive(self.sent, false, now);
        }
        if caught_up {
            self.caught_up(now);
        }
        Some(status)
    }

    /// Everything on disk is sent. In service it says so unless the client knows. In a shutdown it
    /// waits until `flush`, or `write` where `flush` is 0, is *exactly* there, and asks until it
    /// is.
    pub(crate) fn caught_up(&mut self, now: u64) {
        if !self.server_open {
            return;
        }
        if self.stopping {
            let replicated = if self.flush == 0 {
                self.write
            } else {
                self.flush
            };
            if replicated == self.sent {
                self.server_open = false;
            } else if !self.waits_for_reply {
                self.keepalive(self.sent, true, now);
            }
        } else if self.flush < self.sent && (self.write < self.sent || self.hinted) {
            self.hinted = false;
            self.keepalive(self.sent, false, now);
        }
    }

    /// The shutdown is over for this walsender, whether or not its client has read the rest.
    pub(crate) fn has_ended(&self) -> bool {
        !self.server_open
    }
}

fn server_time(now: u64) -> PgTimestamp {
    PgTimestamp::new(i64::try_from(now).expect("small") * 1_000)
}

/// The table's columns, in the order of a shape: name, type in a text stream, type in a binary one.
fn columns(shape: u8) -> Vec<(&'static str, u32)> {
    let mut columns = vec![
        ("id", 2_950),
        ("destination", 25),
        ("aggregate_type", 25),
        ("aggregate_id", 25),
        ("event_type", 25),
        ("payload", 17),
    ];
    columns.rotate_left(usize::from(shape) % 6);
    columns
}

fn relation(shape: u8, format: Format) -> Relation {
    let column = |(name, oid): (&'static str, u32)| Column {
        is_key: name == "id",
        name: Bytes::from_static(name.as_bytes()),
        type_oid: if oid == 17 && format == Format::Text {
            25
        } else {
            oid
        },
        type_modifier: -1,
    };
    Relation {
        id: TABLE,
        namespace: Bytes::from_static(b"public"),
        name: Bytes::from_static(b"outbox"),
        replica_identity: b'd',
        columns: columns(shape).into_iter().map(column).collect(),
    }
}

fn insert(row: &Row, world: &View<'_>) -> Insert {
    let event = world.history.event(row.event);
    let binary = world.plan.format == Format::Binary;
    let id = if binary {
        event.id.as_bytes().to_vec()
    } else {
        event.id.to_string().into_bytes()
    };
    let topic = topic_name(event.topic);
    let aggregate = format!("aggregate-{}", event.aggregate);
    let columns = columns(row.shape);
    let values = columns.iter().map(|(name, _)| match *name {
        "id" => Some(&id[..]),
        "destination" => Some(topic.as_bytes()),
        "aggregate_type" => Some(&b"Order"[..]),
        "aggregate_id" => Some(aggregate.as_bytes()),
        "event_type" => Some(&b"Happened"[..]),
        _ => event.payload.as_deref(),
    });
    let cell = |value| match value {
        None => Cell::Null,
        Some(value) if binary => Cell::Binary(value),
        Some(value) => Cell::Text(value),
    };
    Insert {
        relation: TABLE,
        new: Tuple::from_cells(values.map(cell)),
    }
}

/// A change that the publication carries beside inserts, or what a server says of other tables.
fn clutter(row: &Row, world: &View<'_>, rng: &mut Rng) -> Message {
    let new = insert(row, world).new;
    match rng.u32(0..6) {
        0 => Message::Update(Update {
            relation: TABLE,
            old: None,
            new,
        }),
        1 => Message::Delete(Delete {
            relation: TABLE,
            old: OldTuple::Full(new),
        }),
        2 => Message::Truncate(Truncate {
            options: 0,
            relations: vec![TABLE, OTHER_TABLE],
        }),
        3 => Message::Relation(Relation {
            id: OTHER_TABLE,
            name: Bytes::from_static(b"orders"),
            ..relation(row.shape, world.plan.format)
        }),
        4 => Message::Type(Type {
            type_oid: 16_700,
            namespace: Bytes::from_static(b"public"),
            name: Bytes::from_static(b"mood"),
        }),
        _ => Message::Origin(Origin {
            commit_lsn: Lsn::new(row.lsn),
            name: Bytes::from_static(b"elsewhere"),
        }),
    }
}

/// When a transaction is committed, as a record says it: so many seconds after Postgres' epoch.
pub(crate) fn commit_time(xid: u32) -> String {
    let (minutes, seconds) = (xid / 60, xid % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let (day, hours) = (hours / 24 + 1, hours % 24);
    assert!(day <= 31, "no run has so many transactions");
    format!("2000-01-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.000000Z")
}

/// Name of the topic with that number.
pub(crate) fn topic_name(topic: usize) -> String {
    format!("topic-{topic}")
}
