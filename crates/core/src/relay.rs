//! The relay: the parts of the core put together, and its contract.

mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use walpost_pgoutput::{CopyMessage, Insert, Keepalive, Lsn, Message, Relation, RelationId};

use self::line::Line;
use crate::error::{Rejection, RelayError, Undeliverable};
use crate::event::{Position, Record, Ticket, Topic};
use crate::feedback::{Feedback, Status};
use crate::limits::WindowLimits;
use crate::mapping::{Binding, Format, Mapping, TableName, Types, Unmapped, table_name};
use crate::recent::Recent;
use crate::recorder::{Confirmed, Recorder, Recording};
use crate::rulings::{Exception, Halt, Policy, Rulings};
use crate::stream::{ProtocolError, Step, Stream, Transaction};
use crate::topics::{TopicFault, TopicNews, Topics};
use crate::window::Window;

/// One session's state machine: WAL in, records out, LSN confirmed.
///
/// It has no socket, no clock and no thread. Its owner feeds it and carries out what it says:
///
/// * **inputs** `handle_wal`, `handle_delivery`, `handle_refusal`, `handle_topic`,
///   `handle_checkpointed`, `handle_slot`, `drain` and `record_all`;
/// * **outputs** `poll_record`, `poll_exception`, `poll_topic`, `poll_checkpoint`, `poll_status`,
///   `poll_timeout`: after every input, poll all of them in this order, until nothing comes;
/// * **questions** `wants_wal`, `splits_transaction`, `is_drained`, `is_recorded`, `halted`,
///   `halt`, `confirmed`, `unrecorded`, `snapshot`.
///
/// Time is a parameter and must not go back. Records must be handed to Kafka in the order in which
/// they are polled, by one sender, and every ticket gets exactly one delivery report or refusal.
/// `handle_wal` may only be called while `wants_wal` is true: an owner that does not read lets TCP
/// hold Postgres back. After an error the value is thrown away and the next session starts from
/// what the server holds.
#[derive(Clone, Debug)]
pub struct Relay {
    mapping: Mapping,
    format: Format,
    stream: Stream,
    tables: BTreeMap<RelationId, Table>,
    types: Types,
    line: Line,
    recorder: Recorder,
    feedback: Feedback,
    draining: bool,
    /// Updates, deletes and truncates.
    ignored: u64,
}

/// Where a session starts and how it reads.
#[derive(Clone, Debug)]
pub struct Session {
    /// The position that the stream was asked for: nothing below it is ever confirmed.
    pub floor: Lsn,
    /// Format of the stream.
    pub format: Format,
    /// The server's `wal_sender_timeout` on this connection; zero is off.
    pub wal_sender_timeout: Duration,
    /// How much may be in flight.
    pub window: WindowLimits,
    /// How the checkpoint is kept.
    pub recording: Recording,
    /// Types, by oid, whose binary form is their text: enums, and extensions' such as `citext`. The
    /// stream describes them by name only, so they come from the catalogue.
    pub textual: BTreeSet<u32>,
    /// What is done with an event that can't be delivered.
    pub policy: Policy,
    /// Until when a record that the client refuses for its size is refused for good. Otherwise the
    /// relay halts at it under every policy: a producer with larger limits may take it.
    pub size_is_final_until: Option<Instant>,
}

/// What Kafka said of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The record's ticket.
    pub ticket: Ticket,
    /// Acknowledged, or why not.
    pub result: Result<(), Rejection>,
}

/// Numbers of a session, for logs and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Highest position received.
    pub received: Lsn,
    /// The confirmed LSN.
    pub confirmed: Lsn,
    /// Records acknowledged in this session.
    pub delivered: u64,
    /// Updates, deletes and truncates that were passed over: an outbox is insert-only.
    pub ignored: u64,
    /// Events that an operator had passed over.
    pub skipped: u64,
    /// Events that went, or are to go, to the dead-letter topic.
    pub dead_letters: u64,
    /// Records between the oldest unacknowledged one and the newest.
    pub in_flight: usize,
    /// Records that were read and wait for their turn to leave.
    pub queued: usize,
    /// Bytes of both that are not acknowledged.
    pub undelivered_bytes: usize,
    /// Positions that wait for records before them.
    pub boundaries: usize,
    /// How many records may be in flight now.
    pub window: u32,
    /// The oldest record that is not acknowledged.
    pub oldest: Option<Position>,
}

#[derive(Clone, Debug)]
enum Table {
    Outbox(Box<Binding>),
    Foreign(TableName),
}

impl Relay {
    /// A session's relay. `topics` comes from the session before, if there was one.
    pub fn new(mapping: Mapping, session: Session, rulings: Rulings, mut topics: Topics) -> Self {
        topics.restart();
        Self {
            line: Line::new(&session, rulings, topics),
            mapping,
            format: session.format,
            stream: Stream::new(),
            tables: BTreeMap::new(),
            types: Types::new(session.textual),
            recorder: Recorder::new(session.recording, session.floor),
            feedback: Feedback::new(session.wal_sender_timeout),
            draining: false,
            ignored: 0,
        }
    }

    /// Sessions before have handed events up to this position to Kafka: what is sent again is
    /// counted.
    pub fn count_from(&mut self, sent_before: Option<Position>) {
        self.line.window.count_from(sent_before);
    }

    /// The session is over: the last events that it handed to Kafka.
    pub fn take_recent(&mut self) -> Recent {
        self.line.window.take_recent()
    }

    /// The session is over: what was learnt of the topics goes on.
    pub fn into_topics(self) -> Topics {
        self.line.topics
    }

    /// What is known of single events by now.
    pub fn rulings(&self) -> &Rulings {
        self.line.rulings()
    }

    /// The next message of the stream.
    pub fn handle_wal(&mut self, message: CopyMessage) -> Result<(), RelayError> {
        assert!(
            self.wants_wal(),
            "the stream was read although the relay did not want it"
        );
        match message {
            CopyMessage::Keepalive(keepalive) => {
                self.handle_keepalive(&keepalive);
                Ok(())
            }
            CopyMessage::XLogData(data) => {
                self.feedback.received(data.wal_end);
                self.handle_message(Message::decode(data.data)?)
            }
        }
    }

    /// A keepalive outside a transaction is the boundary of an empty one: everything that lies
    /// before its `walEnd` has been sent. Inside a transaction it promises nothing.
    fn handle_keepalive(&mut self, keepalive: &Keepalive) {
        self.feedback.received(keepalive.wal_end);
        if self.stream.transaction().is_none() {
            self.line.window.seal(keepalive.wal_end);
        }
        if keepalive.reply_requested {
            self.feedback.asked(keepalive.wal_end);
        }
    }

    fn handle_message(&mut self, message: Message) -> Result<(), RelayError> {
        match self.stream.advance(message)? {
            Step::Nothing => {}
            Step::Ignored => self.ignored += 1,
            Step::Type(described) => self.types.learn(&described),
            Step::Relation(relation) => self.handle_relation(&relation)?,
            Step::Insert(insert) => self.handle_insert(&insert)?,
            Step::Boundary(end) => {
                self.feedback.received(end);
                self.line.window.seal(end);
            }
        }
        Ok(())
    }

    fn handle_relation(&mut self, relation: &Relation) -> Result<(), RelayError> {
        let table = if self.mapping.is_outbox(relation) {
            let binding = self.mapping.bind(relation, &self.types, self.format)?;
            Table::Outbox(Box::new(binding))
        } else {
            Table::Foreign(table_name(relation))
        };
        self.tables.insert(relation.id, table);
        Ok(())
    }

    fn handle_insert(&mut self, insert: &Insert) -> Result<(), RelayError> {
        let unknown = ProtocolError::UnknownRelation {
            oid: insert.relation.0,
        };
        let binding = match self.tables.get(&insert.relation).ok_or(unknown)? {
            Table::Outbox(binding) => binding,
            Table::Foreign(table) => return Err(RelayError::ForeignTable(table.clone())),
        };
        let transaction = self
            .stream
            .transaction()
            .expect("rows outside one are refused");
        let row = match binding.event(&self.mapping, &insert.new, transaction) {
            Ok(event) => Ok(event),
            Err(Unmapped::Event(refusal)) => Err(*refusal),
            Err(Unmapped::Stream(problem)) => {
                return Err(RelayError::Row {
                    table: binding.table().clone(),
                    problem,
                });
            }
        };
        self.line.take(row);
        self.stream.count_insert();
        Ok(())
    }

    /// Kafka's report for one record.
    ///
    /// An error means that the session is over. A fault of the event itself is none: the relay is
    /// halted, and goes on taking reports of what left before it; or the event's dead letter takes
    /// its place.
    pub fn handle_delivery(&mut self, delivery: Delivery) -> Result<(), RelayError> {
        self.line.report(delivery)
    }

    /// Kafka's client would not send that record, which was polled last. There is no report for it.
    ///
    /// Errors as for `handle_delivery`.
    pub fn handle_refusal(
        &mut self,
        now: Instant,
        record: Record,
        rejection: Rejection,
    ) -> Result<(), RelayError> {
        self.line.take_back(now, record, rejection)
    }

    /// The answer to a question of `poll_topic`.
    pub fn handle_topic(
        &mut self,
        now: Instant,
        topic: &Topic,
        answer: Result<u32, TopicFault>,
    ) -> TopicNews {
        let news = self.line.topics.answer(now, topic, answer);
        if matches!(news, TopicNews::Recounted { .. }) {
            self.line.recount();
        }
        news
    }

    /// Takes no more of the stream and lets what is in flight arrive. What did not leave yet is
    /// dropped: it lies behind the confirmed LSN and comes again.
    pub fn drain(&mut self) {
        self.draining = true;
        self.line.drop_unsent();
    }

    /// Asks the server for a keepalive with the next status.
    pub fn ping(&mut self) {
        self.feedback.ping();
    }

    /// The next record for Kafka.
    pub fn poll_record(&mut self, now: Instant) -> Option<Record> {
        self.line.poll(now)
    }

    /// The next event that is not sent as it is, for the log.
    pub fn poll_exception(&mut self) -> Option<Exception> {
        self.line.poll_exception()
    }

    /// Whether Kafka has had this topic before, as far as is remembered: then one that is missing
    /// was deleted.
    pub fn knows_topic(&self, topic: &Topic) -> bool {
        self.line.topics.is_known(topic)
    }

    /// The topic whose partition count is to be asked for. The answer goes to `handle_topic`.
    pub fn poll_topic(&mut self, now: Instant) -> Option<Topic> {
        self.line.topics.poll(now)
    }

    /// The position that the checkpoint is to hold: written before a status update carries it. The
    /// outcome goes to `handle_checkpointed`; until then there is no other.
    pub fn poll_checkpoint(&mut self, now: Instant) -> Option<Lsn> {
        self.recorder.poll(now, confirmed(&self.line.window))
    }

    /// The outcome of the write that `poll_checkpoint` asked for.
    pub fn handle_checkpointed(&mut self, is_written: bool) {
        self.recorder.written(is_written);
    }

    /// Whether the server is about to give the slot up for the WAL that it keeps: then a checkpoint
    /// that can't be written holds nothing back.
    pub fn handle_slot(&mut self, is_pressed: bool) {
        self.recorder.press(is_pressed);
    }

    /// From now on the checkpoint is written for whatever is confirmed: the end is near.
    pub fn record_all(&mut self) {
        self.recorder.end();
    }

    /// Whether the checkpoint holds everything that is confirmed. Always where there is none.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded_to(self.line.window.confirmed())
    }

    /// Whether the checkpoint holds `lsn`. Always where there is none.
    pub fn is_recorded_to(&self, lsn: Lsn) -> bool {
        self.recorder.is_complete(lsn)
    }

    /// The highest position that the server was told. The slot can't rightly stand ahead of it.
    pub fn told(&self) -> Lsn {
        self.recorder.told()
    }

    /// What the checkpoint is known to hold. The floor, where there is none.
    pub fn recorded(&self) -> Lsn {
        self.recorder.recorded()
    }

    /// How far the server may have been told more than the checkpoint holds, past the grace.
    pub fn unrecorded(&self) -> Option<Lsn> {
        self.recorder.unrecorded()
    }

    /// The status update that is due.
    pub fn poll_status(&mut self, now: Instant) -> Option<Status> {
        self.recorder.look(now, confirmed(&self.line.window));
        let status = self.feedback.poll(now, self.recorder.allowed())?;
        if status.flush == self.recorder.allowed() {
            self.recorder.tell();
        }
        assert!(
            status.flush <= self.line.window.confirmed(),
            "a status promised too much"
        );
        Some(status)
    }

    /// The status that ends the session, due or not.
    pub fn last_status(&mut self, now: Instant) -> Status {
        self.recorder.look(now, confirmed(&self.line.window));
        let flush = self.recorder.tell();
        Status {
            write: self.feedback.highest().max(flush),
            flush,
            reply_requested: false,
        }
    }

    /// When to poll again if nothing comes in. None: now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let status = self.feedback.deadline(self.recorder.allowed())?;
        let checkpoint = self.recorder.deadline(confirmed(&self.line.window));
        let others = [checkpoint, self.line.topics.deadline()];
        Some(others.into_iter().flatten().fold(status, Instant::min))
    }

    /// Whether the next message of the stream may be read.
    pub fn wants_wal(&self) -> bool {
        !self.draining && self.line.has_room()
    }

    /// Whether everything that left has been acknowledged. A record that the broker refused never
    /// is, unless its dead letter takes its place: what the owner of a halted relay waits for is
    /// the last report.
    pub fn is_drained(&self) -> bool {
        self.line.window.is_settled()
    }

    /// Whether records of a transaction have left whose others have not. A drain now would have the
    /// first ones sent again: the transaction's end is behind what did not leave.
    pub fn splits_transaction(&self) -> bool {
        let in_stream = || self.stream.transaction().map(Transaction::position);
        let next = self.line.next_unsent().or_else(in_stream);
        next.is_some_and(|position| position.ordinal > 0)
    }

    /// A topic that was there at any time, if there is one.
    pub fn a_topic(&self) -> Option<&Topic> {
        self.line.topics.known().first().copied()
    }

    /// Another client sends from here on: the topics' counts are fetched again before they are
    /// used.
    pub fn distrust_topics(&mut self) {
        self.line.topics.distrust();
    }

    /// The event that can't leave, and halts the relay once everything before it has arrived.
    pub fn refused(&self) -> Option<&Undeliverable> {
        self.line.refused()
    }

    /// The event that stands in the way.
    pub fn halted(&self) -> Option<&Undeliverable> {
        self.line.halted()
    }

    /// The event that stands in the way, and how it was found out.
    pub fn halt(&self) -> Option<Halt> {
        self.line.halt()
    }

    /// Whether the line stands for a topic that is not known yet.
    pub fn waits_for_topic(&self) -> bool {
        self.line.waits_for_topic()
    }

    /// The LSN up to which everything is delivered.
    pub fn confirmed(&self) -> Lsn {
        self.line.window.confirmed()
    }

    /// Numbers for logs and metrics.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            received: self.feedback.highest(),
            confirmed: self.line.window.confirmed(),
            delivered: self.line.counts.delivered,
            ignored: self.ignored,
            skipped: self.line.counts.skipped,
            dead_letters: self.line.counts.dead_letters,
            in_flight: self.line.window.in_flight(),
            queued: self.line.window.queued(),
            undelivered_bytes: self.line.window.bytes(),
            boundaries: self.line.window.boundaries(),
            window: self.line.window.open(),
            oldest: self.line.window.oldest(),
        }
    }
}

fn confirmed(window: &Window) -> Confirmed {
    Confirmed {
        lsn: window.confirmed(),
        events: window.confirmed_records(),
    }
}

#[cfg(test)]
mod tests;
