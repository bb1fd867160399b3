//! The order of the protocol: Begin, changes, Commit; nothing of a transaction outside it.
//!
//! Protocol version 1 (or higher without streaming) sends whole committed transactions one after
//! the other, in commit order, so one state with the open transaction is all there is to keep.

use bytes::Bytes;
use jiff::Timestamp;
use walpost_pgoutput::{Begin, Commit, Insert, Lsn, Message, PgTimestamp, Relation, Type};

use crate::event::Position;

/// Where the stream is.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    state: State,
    /// Commit LSN of the last transaction that ended here.
    last_commit: Lsn,
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    InTransaction(Transaction),
}

/// The open transaction.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// `Begin.final_lsn`: start of the commit record.
    pub commit_lsn: Lsn,
    /// Commit time as RFC 3339 in UTC with microseconds: printed once for all its rows.
    pub commit_time: Bytes,
    /// Transaction id.
    pub xid: u32,
    /// Outbox inserts seen so far.
    ordinal: u32,
}

impl Transaction {
    /// Position of the next outbox insert.
    pub(crate) fn position(&self) -> Position {
        Position {
            commit_lsn: self.commit_lsn,
            ordinal: self.ordinal,
        }
    }
}

/// What a message means for the relay.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing, or a kind of message that an outbox has no use for.
    Nothing,
    /// A table's shape, before its first row and after each change of it.
    Relation(Relation),
    /// A type that isn't built in, under the name of its base type.
    Type(Type),
    /// A row, in the open transaction.
    Insert(Insert),
    /// An update, a delete or a truncate of some table: an outbox is insert-only.
    Ignored,
    /// A transaction ended: everything in it lies before this LSN.
    Boundary(Lsn),
}

/// The server broke the order of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A transaction began inside another one.
    #[error("the server began transaction {began} inside transaction {open}")]
    NestedBegin {
        /// Commit LSN of the transaction that is open.
        open: Lsn,
        /// Commit LSN of the one that began.
        began: Lsn,
    },
    /// A message that belongs into a transaction came outside one.
    #[error("the server sent {what} outside a transaction")]
    OutsideTransaction {
        /// Kind of message.
        what: &'static str,
    },
    /// The commit does not belong to the open transaction.
    #[error("the server committed at {committed} a transaction that was to commit at {announced}")]
    OtherCommit {
        /// What its Begin said.
        announced: Lsn,
        /// What its Commit said.
        committed: Lsn,
    },
    /// A commit's end is not behind its start.
    #[error("the server sent a commit at {commit} that ends at {end}")]
    CommitEnd {
        /// Start of the commit record.
        commit: Lsn,
        /// Its end.
        end: Lsn,
    },
    /// Transactions came out of commit order.
    #[error("the server sent the transaction committed at {commit} after the one at {last}")]
    CommitOrder {
        /// Commit LSN of the later arrival.
        commit: Lsn,
        /// Commit LSN of the transaction before it.
        last: Lsn,
    },
    /// A row of a table that was never described.
    #[error("the server sent a row of the undescribed table with oid {oid}")]
    UnknownRelation {
        /// The table's oid.
        oid: u32,
    },
}

impl Stream {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Idle,
            last_commit: Lsn::ZERO,
        }
    }

    /// Takes the next message.
    pub(crate) fn advance(&mut self, message: Message) -> Result<Step, ProtocolError> {
        match message {
            Message::Begin(begin) => self.begin(&begin),
            Message::Commit(commit) => self.commit(&commit),
            Message::Insert(insert) => self.inside("a row").map(|_| Step::Insert(insert)),
            Message::Update(_) => self.inside("an update").map(|_| Step::Ignored),
            Message::Delete(_) => self.inside("a delete").map(|_| Step::Ignored),
            Message::Truncate(_) => self.inside("a truncate").map(|_| Step::Ignored),
            Message::Relation(relation) => Ok(Step::Relation(relation)),
            Message::Type(kind) => Ok(Step::Type(kind)),
            Message::Origin(_) | Message::Logical(_) => Ok(Step::Nothing),
        }
    }

    /// The open transaction, if there is one.
    pub(crate) fn transaction(&self) -> Option<&Transaction> {
        match &self.state {
            State::Idle => None,
            State::InTransaction(transaction) => Some(transaction),
        }
    }

    /// Counts one outbox insert of the open transaction.
    pub(crate) fn count_insert(&mut self) {
        match &mut self.state {
            State::Idle => unreachable!("rows are refused outside a transaction"),
            State::InTransaction(transaction) => transaction.ordinal += 1,
        }
    }

    fn inside(&mut self, what: &'static str) -> Result<&mut Transaction, ProtocolError> {
        match &mut self.state {
            State::Idle => Err(ProtocolError::OutsideTransaction { what }),
            State::InTransaction(transaction) => Ok(transaction),
        }
    }

    fn begin(&mut self, begin: &Begin) -> Result<Step, ProtocolError> {
        let commit = begin.final_lsn;
        if let State::InTransaction(open) = &self.state {
            return Err(ProtocolError::NestedBegin {
                open: open.commit_lsn,
                began: commit,
            });
        }
        if commit <= self.last_commit {
            return Err(ProtocolError::CommitOrder {
                commit,
                last: self.last_commit,
            });
        }
        self.state = State::InTransaction(Transaction {
            commit_lsn: commit,
            commit_time: rfc3339(begin.commit_time),
            xid: begin.xid,
            ordinal: 0,
        });
        Ok(Step::Nothing)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Step, ProtocolError> {
        let announced = self.inside("a commit")?.commit_lsn;
        if commit.commit_lsn != announced {
            let committed = commit.commit_lsn;
            return Err(ProtocolError::OtherCommit {
                announced,
                committed,
            });
        }
        if commit.end_lsn <= commit.commit_lsn {
            return Err(ProtocolError::CommitEnd {
                commit: announced,
                end: commit.end_lsn,
            });
        }
        self.state = State::Idle;
        self.last_commit = commit.commit_lsn;
        Ok(Step::Boundary(commit.end_lsn))
    }
}

/// RFC 3339 in UTC with microseconds. A clock outside the years -9999 to 9999 prints as its raw
/// count.
fn rfc3339(time: PgTimestamp) -> Bytes {
    let text = match Timestamp::from_microsecond(time.unix_micros()) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => format!("{}us", time.as_micros()),
    };
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use walpost_pgoutput::{RelationId, Tuple};

    use super::*;

    fn begin(lsn: u64) -> Message {
        let commit_time = PgTimestamp::from_unix_micros(1_700_000_000_000_001);
        Message::Begin(Begin {
            final_lsn: Lsn::new(lsn),
            commit_time,
            xid: 7,
        })
    }

    fn commit(lsn: u64, end: u64) -> Message {
        Message::Commit(Commit {
            flags: 0,
            commit_lsn: Lsn::new(lsn),
            end_lsn: Lsn::new(end),
            commit_time: PgTimestamp::new(0),
        })
    }

    fn insert() -> Message {
        Message::Insert(Insert {
            relation: RelationId(1),
            new: Tuple::from_cells([]),
        })
    }

    fn after(messages: impl IntoIterator<Item = Message>) -> Result<Step, ProtocolError> {
        let mut stream = Stream::new();
        let mut last = Ok(Step::Nothing);
        for message in messages {
            last = Ok(stream.advance(message)?);
        }
        last
    }

    #[test]
    fn a_commit_ends_its_transaction_at_the_end_of_its_record() {
        let step = after([begin(10), insert(), commit(10, 18)]).unwrap();
        assert!(matches!(step, Step::Boundary(end) if end == Lsn::new(18)));
    }

    #[test]
    fn the_next_commit_may_start_where_the_last_one_ended() {
        assert!(after([begin(10), commit(10, 18), begin(18)]).is_ok());
    }

    #[test]
    fn what_breaks_the_order_of_the_protocol_is_named() {
        let error = |messages: Vec<Message>| after(messages).unwrap_err().to_string();
        assert!(error(vec![begin(10), begin(20)]).contains("inside transaction 0/A"));
        assert!(error(vec![insert()]).contains("a row outside a transaction"));
        assert!(error(vec![commit(1, 2)]).contains("a commit outside a transaction"));
        assert!(error(vec![begin(10), commit(11, 18)]).contains("was to commit at 0/A"));
        assert!(error(vec![begin(10), commit(10, 10)]).contains("ends at 0/A"));
        let swapped = vec![begin(20), commit(20, 28), begin(10)];
        assert!(error(swapped).contains("after the one at 0/14"));
    }

    #[test]
    fn the_commit_time_prints_as_rfc_3339_with_microseconds() {
        let mut stream = Stream::new();
        stream.advance(begin(10)).unwrap();
        let time = &stream.transaction().unwrap().commit_time;
        assert_eq!(&time[..], b"2023-11-14T22:13:20.000001Z");
    }

    #[test]
    fn a_whole_second_keeps_its_six_digits() {
        let text = rfc3339(PgTimestamp::from_unix_micros(1_700_000_000_000_000));
        assert_eq!(&text[..], b"2023-11-14T22:13:20.000000Z");
    }
}
