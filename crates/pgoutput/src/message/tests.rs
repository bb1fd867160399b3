use bytes::{Bytes, BytesMut};

use super::*;
use crate::{
    error::{DecodeError, DecodeErrorKind},
    tuple::Cell,
};

fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    Message::decode(Bytes::copy_from_slice(bytes))
}

fn failure(bytes: &[u8]) -> (usize, DecodeErrorKind) {
    let error = decode(bytes).unwrap_err();
    (error.offset(), *error.kind())
}

#[test]
fn update_keeps_old_key_old_row_and_new_row_apart() {
    let row = |text| Tuple::from_cells([Cell::Text(text)]);
    let relation = RelationId(7);
    let head = b"U\x00\x00\x00\x07";
    let [old, new] = [b"\x00\x01t\x00\x00\x00\x01o", b"\x00\x01t\x00\x00\x00\x01n"];
    for (tag, expected) in [
        (None, None),
        (Some(b'K'), Some(OldTuple::Key(row(b"o")))),
        (Some(b'O'), Some(OldTuple::Full(row(b"o")))),
    ] {
        let mut bytes = head.to_vec();
        if let Some(tag) = tag {
            bytes.push(tag);
            bytes.extend_from_slice(old);
        }
        bytes.push(b'N');
        bytes.extend_from_slice(new);
        let update = Update {
            relation,
            old: expected,
            new: row(b"n"),
        };
        assert_eq!(decode(&bytes), Ok(Message::Update(update)));
    }
}

#[test]
fn row_with_the_wrong_tag_is_an_error_at_the_tag() {
    let unknown = |tag| DecodeErrorKind::UnknownTag { tag };
    assert_eq!(failure(b"I\x00\x00\x00\x07O\x00\x00"), (5, unknown(b'O')));
    assert_eq!(failure(b"U\x00\x00\x00\x07X\x00\x00"), (5, unknown(b'X')));
    assert_eq!(
        failure(b"U\x00\x00\x00\x07K\x00\x00K\x00\x00"),
        (8, unknown(b'K'))
    );
    assert_eq!(failure(b"D\x00\x00\x00\x07N\x00\x00"), (5, unknown(b'N')));
}

#[test]
fn later_versions_of_the_protocol_are_told_from_garbage() {
    for tag in *b"SEcAbPKrp" {
        assert_eq!(
            failure(&[tag, 0]),
            (0, DecodeErrorKind::UnsupportedMessage { tag })
        );
    }
    for tag in *b"\x00wkNz\xff" {
        assert_eq!(failure(&[tag, 0]), (0, DecodeErrorKind::UnknownTag { tag }));
    }
    assert_eq!(
        failure(b""),
        (0, DecodeErrorKind::Truncated { needed: 1, left: 0 })
    );
}

#[test]
fn counts_above_the_input_are_refused() {
    let kind = |count, left| DecodeErrorKind::CountAboveInput { count, left };
    // Two columns need 20 bytes, 19 are there.
    let relation = [&b"R\x00\x00\x00\x07s\0t\0d\x00\x02"[..], &[0; 19]].concat();
    assert_eq!(failure(&relation), (10, kind(2, 19)));
    // The options and one relation are there, and 2,130,706,433 are announced.
    let truncate = b"T\x7f\x00\x00\x01\x00\x00\x00\x00\x01";
    assert_eq!(failure(truncate), (1, kind(0x7F00_0001, 5)));
    assert_eq!(
        failure(b"I\x00\x00\x00\x07N\x7f\xffnn"),
        (6, kind(32_767, 2))
    );
}

#[test]
fn the_least_that_a_column_takes_is_enough() {
    let relation = [&b"R\x00\x00\x00\x07s\0t\0d\x00\x02"[..], &[0; 20]].concat();
    let Ok(Message::Relation(relation)) = decode(&relation) else {
        panic!("two columns without names need 20 bytes");
    };
    assert_eq!(relation.columns.len(), 2);
}

#[test]
fn byte_behind_the_last_field_is_an_error_at_that_byte() {
    let trailing = DecodeErrorKind::TrailingBytes { count: 1 };
    assert_eq!(failure(b"I\x00\x00\x00\x07N\x00\x01n!"), (9, trailing));
    assert_eq!(
        failure(b"T\x00\x00\x00\x01\x00\x00\x00\x00\x07!"),
        (10, trailing)
    );
}

#[test]
fn unknown_flag_bits_do_not_change_what_the_known_one_says() {
    let Ok(Message::Logical(message)) = decode(b"M\xfe\0\0\0\0\0\0\0\x01p\0\0\0\0\x01c") else {
        panic!("not a logical message");
    };
    assert!(!message.transactional);
    let Ok(Message::Relation(relation)) =
        decode(b"R\0\0\0\x07s\0t\0d\0\x01\x03c\0\0\0\0\x17\0\0\0\0")
    else {
        panic!("not a relation");
    };
    assert!(relation.columns[0].is_key);
}

#[test]
fn relation_does_not_share_the_buffer_it_came_in() {
    let bytes = Bytes::from(b"R\0\0\0\x07s\0t\0d\0\x01\x01c\0\0\0\0\x17\0\0\0\0".to_vec());
    let message = Message::decode(bytes.clone()).unwrap();
    let Message::Relation(relation) = &message else {
        panic!("not a relation: {message:?}")
    };
    let range = bytes.as_ptr_range();
    for name in [
        &relation.namespace,
        &relation.name,
        &relation.columns[0].name,
    ] {
        assert!(!range.contains(&name.as_ptr()));
    }
}

#[test]
fn content_of_a_logical_message_shares_the_buffer_it_came_in() {
    let bytes = Bytes::from(b"M\0\0\0\0\0\0\0\0\x01p\0\0\0\0\x01c".to_vec());
    let Ok(Message::Logical(message)) = Message::decode(bytes.clone()) else {
        panic!("not a logical message");
    };
    assert_eq!(message.content.as_ptr(), bytes[16..].as_ptr());
    assert_eq!(message.prefix.as_ptr(), bytes[10..].as_ptr());
}

#[test]
#[should_panic(expected = "zero byte")]
fn name_that_the_format_can_not_express_is_a_bug_of_the_encoder_s_caller() {
    let origin = Origin {
        commit_lsn: Lsn::ZERO,
        name: Bytes::from_static(b"a\0b"),
    };
    Message::Origin(origin).encode(&mut BytesMut::new());
}

#[test]
fn debug_form_shows_no_values_and_no_content() {
    let new = Tuple::from_cells([Cell::Text(b"secret")]);
    let insert = Message::Insert(Insert {
        relation: RelationId(7),
        new,
    });
    let logical = Message::Logical(LogicalMessage {
        transactional: true,
        lsn: Lsn::new(1),
        prefix: Bytes::from_static(b"audit"),
        content: Bytes::from_static(b"secret"),
    });
    for message in [insert, logical] {
        let text = format!("{message:?}");
        assert!(text.contains("6 bytes"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
