//! What holds for all messages and for all bytes.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, option, prelude::*};
use walpost_pgoutput::{
    Begin, Cell, Column, Commit, CopyMessage, Delete, Insert, Keepalive, LogicalMessage, Lsn,
    Message, OldTuple, Origin, PgTimestamp, Relation, RelationId, StandbyStatus, Truncate, Tuple,
    Type, Update, XLogData,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn every_message_survives_a_round_trip(message in messages()) {
        let bytes = encoded(&message);
        prop_assert_eq!(Message::decode(bytes).unwrap(), message);
    }

    #[test]
    fn every_frame_survives_a_round_trip(frame in frames()) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        prop_assert_eq!(CopyMessage::decode(out.freeze()).unwrap(), frame);
    }

    #[test]
    fn every_status_survives_a_round_trip(status in statuses()) {
        let bytes = Bytes::copy_from_slice(&status.encode());
        prop_assert_eq!(StandbyStatus::decode(bytes).unwrap(), status);
    }

    #[test]
    fn every_tuple_gives_back_the_cells_it_was_made_of(cells in owned_cells()) {
        let tuple = Tuple::from_cells(cells.iter().map(OwnedCell::borrow));
        prop_assert_eq!(tuple.len(), cells.len());
        prop_assert!(tuple.cells().eq(cells.iter().map(OwnedCell::borrow)));
    }

    #[test]
    fn every_message_cut_short_is_an_error(
        message in messages(),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = encoded(&message);
        let length = at.index(bytes.len());
        let error = Message::decode(bytes.slice(..length)).unwrap_err();
        prop_assert!(error.offset() <= length);
    }

    #[test]
    fn every_message_with_bytes_behind_it_is_an_error(
        message in messages(),
        tail in vec(any::<u8>(), 1..9),
    ) {
        let bytes = encoded(&message);
        let error = Message::decode([&bytes[..], &tail].concat().into()).unwrap_err();
        prop_assert_eq!(error.offset(), bytes.len());
    }

    #[test]
    fn no_bytes_panic_or_hold_more_than_they_can_describe(
        tag in prop_oneof![prop::sample::select(b"BCORYIUDTM".to_vec()), any::<u8>()],
        mut body in hostile_bytes(),
    ) {
        body.insert(0, tag);
        let bytes = Bytes::from(body);
        if let Ok(message) = Message::decode(bytes.clone()) {
            assert_fits(&message, bytes.len());
            prop_assert_eq!(encoded(&message).len(), bytes.len());
        }
        let _ = CopyMessage::decode(bytes.clone());
        let _ = StandbyStatus::decode(bytes);
    }

    #[test]
    fn every_position_survives_its_text_form(position in any::<u64>()) {
        let lsn = Lsn::new(position);
        prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
    }

    #[test]
    fn no_text_panics_as_a_position(text in "\\PC{0,20}|[0-9A-Fa-f+/ -]{0,20}") {
        if let Ok(lsn) = text.parse::<Lsn>() {
            prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
    }
}

fn encoded(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.freeze()
}

/// Every element that a decoded message holds took its least number of bytes from the input.
fn assert_fits(message: &Message, input_bytes: usize) {
    let (elements, element_bytes_min) = match message {
        Message::Relation(relation) => (relation.columns.capacity() / 2, 10),
        Message::Truncate(truncate) => (truncate.relations.capacity() / 2, 4),
        Message::Insert(insert) => (insert.new.cells().count(), 1),
        Message::Update(update) => (update.new.cells().count(), 1),
        Message::Delete(delete) => match &delete.old {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => (tuple.cells().count(), 1),
        },
        Message::Begin(_)
        | Message::Commit(_)
        | Message::Origin(_)
        | Message::Type(_)
        | Message::Logical(_) => (0, 1),
    };
    // The smallest vector holds four elements.
    assert!(
        elements <= 2 || elements * element_bytes_min <= input_bytes,
        "{message:?}"
    );
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        (lsns(), times(), any::<u32>()).prop_map(|(final_lsn, commit_time, xid)| {
            Message::Begin(Begin {
                final_lsn,
                commit_time,
                xid,
            })
        }),
        (any::<u8>(), lsns(), lsns(), times()).prop_map(
            |(flags, commit_lsn, end_lsn, commit_time)| {
                Message::Commit(Commit {
                    flags,
                    commit_lsn,
                    end_lsn,
                    commit_time,
                })
            }
        ),
        (lsns(), names())
            .prop_map(|(commit_lsn, name)| Message::Origin(Origin { commit_lsn, name })),
        (any::<u32>(), names(), names()).prop_map(|(type_oid, namespace, name)| {
            Message::Type(Type {
                type_oid,
                namespace,
                name,
            })
        }),
        described_relations().prop_map(Message::Relation),
        (relations(), tuples())
            .prop_map(|(relation, new)| Message::Insert(Insert { relation, new })),
        (relations(), option::of(old_tuples()), tuples())
            .prop_map(|(relation, old, new)| Message::Update(Update { relation, old, new })),
        (relations(), old_tuples())
            .prop_map(|(relation, old)| Message::Delete(Delete { relation, old })),
        (any::<u8>(), vec(relations(), 0..9))
            .prop_map(|(options, relations)| Message::Truncate(Truncate { options, relations })),
        (any::<bool>(), lsns(), names(), contents()).prop_map(
            |(transactional, lsn, prefix, content)| {
                Message::Logical(LogicalMessage {
                    transactional,
                    lsn,
                    prefix,
                    content,
                })
            }
        ),
    ]
}

fn described_relations() -> impl Strategy<Value = Relation> {
    let columns = (any::<bool>(), names(), any::<u32>(), any::<i32>()).prop_map(
        |(is_key, name, type_oid, type_modifier)| Column {
            is_key,
            name,
            type_oid,
            type_modifier,
        },
    );
    (
        relations(),
        names(),
        names(),
        any::<u8>(),
        vec(columns, 0..9),
    )
        .prop_map(
            |(id, namespace, name, replica_identity, columns)| Relation {
                id,
                namespace,
                name,
                replica_identity,
                columns,
            },
        )
}

fn frames() -> impl Strategy<Value = CopyMessage> {
    prop_oneof![
        (lsns(), lsns(), times(), contents()).prop_map(
            |(wal_start, wal_end, server_time, data)| {
                CopyMessage::XLogData(XLogData {
                    wal_start,
                    wal_end,
                    server_time,
                    data,
                })
            }
        ),
        (lsns(), times(), any::<bool>()).prop_map(|(wal_end, server_time, reply_requested)| {
            CopyMessage::Keepalive(Keepalive {
                wal_end,
                server_time,
                reply_requested,
            })
        }),
    ]
}

fn statuses() -> impl Strategy<Value = StandbyStatus> {
    (lsns(), lsns(), lsns(), times(), any::<bool>()).prop_map(
        |(write, flush, apply, client_time, reply_requested)| StandbyStatus {
            write,
            flush,
            apply,
            client_time,
            reply_requested,
        },
    )
}

fn old_tuples() -> impl Strategy<Value = OldTuple> {
    prop_oneof![
        tuples().prop_map(OldTuple::Key),
        tuples().prop_map(OldTuple::Full)
    ]
}

fn tuples() -> impl Strategy<Value = Tuple> {
    owned_cells().prop_map(|cells| Tuple::from_cells(cells.iter().map(OwnedCell::borrow)))
}

fn owned_cells() -> impl Strategy<Value = Vec<OwnedCell>> {
    let cell = prop_oneof![
        Just(OwnedCell::Null),
        Just(OwnedCell::Unchanged),
        contents().prop_map(OwnedCell::Text),
        contents().prop_map(OwnedCell::Binary),
    ];
    vec(cell, 0..12)
}

/// A [`Cell`] that a strategy can produce.
#[derive(Clone, Debug)]
enum OwnedCell {
    Null,
    Unchanged,
    Text(Bytes),
    Binary(Bytes),
}

impl OwnedCell {
    fn borrow(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Unchanged => Cell::Unchanged,
            Self::Text(value) => Cell::Text(value),
            Self::Binary(value) => Cell::Binary(value),
        }
    }
}

fn lsns() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn::new)
}

fn times() -> impl Strategy<Value = PgTimestamp> {
    any::<i64>().prop_map(PgTimestamp::new)
}

fn relations() -> impl Strategy<Value = RelationId> {
    any::<u32>().prop_map(RelationId)
}

/// Bytes of any encoding, but for the one that ends a string.
fn names() -> impl Strategy<Value = Bytes> {
    vec(1_u8.., 0..20).prop_map(Bytes::from)
}

fn contents() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

/// Random bytes, and pieces that look like parts of messages, so that some get past the first
/// field.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    const ANY_LENGTH: Range<usize> = 0..60;
    let piece = prop_oneof![
        vec(any::<u8>(), 1..5),
        prop::sample::select(vec![
            b"\0".to_vec(),
            b"N\0\x01".to_vec(),
            b"N\0\x02".to_vec(),
            b"K\0\x01".to_vec(),
            b"O\0\x01".to_vec(),
            b"n".to_vec(),
            b"u".to_vec(),
            b"t\0\0\0\x01".to_vec(),
            b"b\0\0\0\x02".to_vec(),
            b"t\x7f\xff\xff\xff".to_vec(),
            b"t\xff\xff\xff\xff".to_vec(),
            b"\0\0\0\x01".to_vec(),
            b"\x7f\xff".to_vec(),
            b"\x80\x00".to_vec(),
        ]),
    ];
    prop_oneof![
        vec(any::<u8>(), ANY_LENGTH),
        vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
    ]
}
