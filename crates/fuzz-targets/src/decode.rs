//! Bytes from a server, as the payload of `CopyData` and as a message of `pgoutput`.
//!
//! No input may panic. What is accepted must survive a round trip, and must not hold more elements
//! than its bytes can describe. Messages of newer versions of the protocol are refused by name.

use bytes::{Bytes, BytesMut};
use walpost_pgoutput::{
    Cell, CopyMessage, DecodeErrorKind, Message, OldTuple, StandbyStatus, Tuple,
};

/// Tags of messages that version 1 has not got: streamed transactions of version 2, prepared ones
/// of version 3.
const NEWER: &[u8] = b"SEcAbPKrp";

pub(crate) fn copy_message(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    if let Ok(frame) = CopyMessage::decode(input.clone()) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        assert_eq!(CopyMessage::decode(out.freeze()).as_ref(), Ok(&frame));
        if let CopyMessage::XLogData(data) = frame {
            check_message(data.data);
        }
    }
    if let Ok(status) = StandbyStatus::decode(input) {
        let encoded = Bytes::copy_from_slice(&status.encode());
        assert_eq!(StandbyStatus::decode(encoded), Ok(status));
    }
}

pub(crate) fn pgoutput(input: &[u8]) {
    check_message(Bytes::copy_from_slice(input));
    // The same bytes under a tag of a newer version.
    if let Some((first, rest)) = input.split_first() {
        let tag = NEWER[usize::from(*first) % NEWER.len()];
        let newer = Bytes::from([&[tag], rest].concat());
        let error = Message::decode(newer).expect_err("a message of a newer version");
        let kind = error.kind();
        assert_eq!(kind, &DecodeErrorKind::UnsupportedMessage { tag });
    }
}

fn check_message(data: Bytes) {
    let length = data.len();
    let message = match Message::decode(data) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.offset() <= length, "{error}");
            return;
        }
    };
    walk(&message, length);
    let mut out = BytesMut::new();
    message.encode(&mut out);
    assert_eq!(out.len(), length, "{message:?}");
    assert_eq!(Message::decode(out.freeze()).as_ref(), Ok(&message));
}

fn walk(message: &Message, length: usize) {
    match message {
        Message::Relation(relation) => assert!(relation.columns.len() <= length),
        Message::Truncate(truncate) => assert!(truncate.relations.len() <= length),
        Message::Insert(insert) => walk_tuple(&insert.new, length),
        Message::Update(update) => {
            update.old.iter().for_each(|old| walk_old(old, length));
            walk_tuple(&update.new, length);
        }
        Message::Delete(delete) => walk_old(&delete.old, length),
        Message::Begin(_)
        | Message::Commit(_)
        | Message::Origin(_)
        | Message::Type(_)
        | Message::Logical(_) => {}
    }
}

fn walk_old(old: &OldTuple, length: usize) {
    match old {
        OldTuple::Key(tuple) | OldTuple::Full(tuple) => walk_tuple(tuple, length),
    }
}

fn walk_tuple(tuple: &Tuple, length: usize) {
    assert!(tuple.len() <= length);
    let mut bytes = 0;
    for cell in tuple.cells() {
        if let Cell::Text(value) | Cell::Binary(value) = cell {
            assert_eq!(tuple.slice(value), value);
            bytes += value.len();
        }
    }
    assert!(bytes <= length);
    assert_eq!(&Tuple::from_cells(tuple.cells()), tuple);
}
