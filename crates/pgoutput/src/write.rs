//! What the encoders share.

use bytes::{BufMut, BytesMut};

/// Appends a string and the zero byte that ends it.
pub(crate) fn put_string(out: &mut BytesMut, string: &[u8]) {
    assert!(
        !string.contains(&0),
        "a zero byte inside a string would end it"
    );
    out.put_slice(string);
    out.put_u8(0);
}

/// Appends a length of 32 bits and as many bytes.
pub(crate) fn put_sized(out: &mut BytesMut, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).expect("the protocol's lengths have 31 bits");
    out.put_i32(length);
    out.put_slice(bytes);
}

/// The count as the protocol's 16 bits.
pub(crate) fn count16(count: usize) -> i16 {
    i16::try_from(count).expect("the protocol's column counts have 15 bits")
}
