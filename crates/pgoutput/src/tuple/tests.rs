use super::*;

fn decode(bytes: &[u8]) -> Result<Tuple, DecodeError> {
    let source = Bytes::copy_from_slice(bytes);
    Tuple::read(&mut Reader::new(&source, "Sample"))
}

#[test]
fn every_kind_of_cell_is_read_in_order() {
    let tuple =
        decode(b"\x00\x05nut\x00\x00\x00\x02hit\x00\x00\x00\x00b\x00\x00\x00\x01\xff").unwrap();
    assert_eq!(tuple.len(), 5);
    assert!(!tuple.is_empty());
    let expected = [
        Cell::Null,
        Cell::Unchanged,
        Cell::Text(b"hi"),
        Cell::Text(b""),
        Cell::Binary(b"\xff"),
    ];
    assert_eq!(tuple.cells().collect::<Vec<_>>(), expected);
    assert_eq!(Tuple::from_cells(expected), tuple);
}

#[test]
fn row_without_columns_is_a_tuple() {
    let tuple = decode(b"\x00\x00").unwrap();
    assert!(tuple.is_empty());
    assert_eq!(tuple.cells().next(), None);
}

#[test]
fn cells_count_down_and_stay_at_the_end() {
    let tuple = Tuple::from_cells([Cell::Null, Cell::Text(b"x")]);
    let mut cells = tuple.cells();
    assert_eq!(cells.len(), 2);
    cells.next();
    assert_eq!(cells.len(), 1);
    cells.next();
    assert_eq!((cells.len(), cells.next(), cells.next()), (0, None, None));
}

#[test]
fn unknown_kind_of_cell_is_an_error_at_its_byte() {
    let error = decode(b"\x00\x02nx").unwrap_err();
    assert_eq!(error.offset(), 3);
    assert_eq!(error.kind(), &DecodeErrorKind::UnknownTag { tag: b'x' });
}

#[test]
fn cell_longer_than_the_message_is_an_error_at_its_value() {
    let error = decode(b"\x00\x01t\x00\x00\x00\x05four").unwrap_err();
    assert_eq!(error.offset(), 7);
    assert_eq!(
        error.kind(),
        &DecodeErrorKind::Truncated { needed: 5, left: 4 }
    );
}

#[test]
fn more_columns_than_bytes_are_refused_before_any_is_read() {
    let error = decode(b"\x7f\xffnn").unwrap_err();
    assert_eq!(error.offset(), 0);
    assert_eq!(
        error.kind(),
        &DecodeErrorKind::CountAboveInput {
            count: 32_767,
            left: 2
        }
    );
}

#[test]
fn slice_shares_the_buffer_that_was_decoded() {
    let source = Bytes::from(b"\x00\x02nt\x00\x00\x00\x03abc".to_vec());
    let tuple = Tuple::read(&mut Reader::new(&source, "Sample")).unwrap();
    let Some(Cell::Text(value)) = tuple.cells().nth(1) else {
        panic!("the second cell is a text")
    };
    let slice = tuple.slice(value);
    assert_eq!(slice, "abc");
    assert_eq!(slice.as_ptr(), source[8..].as_ptr());
}

#[test]
#[should_panic(expected = "subset")]
fn slice_of_foreign_bytes_is_a_bug_of_the_caller() {
    let foreign = b"abc".to_vec();
    Tuple::from_cells([Cell::Text(b"abc")]).slice(&foreign);
}

#[test]
fn debug_form_shows_kinds_and_lengths_but_no_values() {
    let tuple = Tuple::from_cells([Cell::Text(b"secret"), Cell::Null, Cell::Binary(b"key")]);
    let expected = "[Text(6 bytes), Null, Binary(3 bytes)]";
    assert_eq!(format!("{tuple:?}"), format!("Tuple {expected}"));
    assert_eq!(format!("{:?}", tuple.cells()), expected);
    assert!(!format!("{tuple:#?}").contains("secret"));
}

#[test]
fn a_row_has_as_many_cells_as_its_count_can_say() {
    let most = usize::try_from(i16::MAX).unwrap();
    assert_eq!(Tuple::from_cells(vec![Cell::Null; most]).len(), most);
}

#[test]
#[should_panic(expected = "15 bits")]
fn a_row_of_more_cells_than_its_count_can_say_is_a_bug_of_who_makes_it() {
    let most = usize::try_from(i16::MAX).unwrap();
    Tuple::from_cells(vec![Cell::Null; most + 1]);
}
