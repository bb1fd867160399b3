use super::*;

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze()
}

fn keepalive() -> Keepalive {
    Keepalive {
        wal_end: Lsn::new(0x1_0000_0002),
        server_time: PgTimestamp::new(-3),
        reply_requested: true,
    }
}

#[test]
fn keepalive_has_the_layout_of_the_manual() {
    let payload = encoded(|out| keepalive().encode(out));
    let expected = b"k\x00\x00\x00\x01\x00\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xfd\x01";
    assert_eq!(payload, expected[..]);
    assert_eq!(
        CopyMessage::decode(payload),
        Ok(CopyMessage::Keepalive(keepalive()))
    );
}

#[test]
fn xlog_data_takes_everything_behind_its_header_as_data() {
    let mut payload = b"w\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02".to_vec();
    payload.extend_from_slice(b"\x00\x00\x00\x00\x00\x00\x00\x03data");
    let payload = Bytes::from(payload);
    let message = CopyMessage::decode(payload.clone()).unwrap();
    let CopyMessage::XLogData(data) = &message else {
        panic!("not XLogData: {message:?}")
    };
    assert_eq!((data.wal_start, data.wal_end), (Lsn::new(1), Lsn::new(2)));
    assert_eq!(data.server_time, PgTimestamp::new(3));
    assert_eq!(data.data, "data");
    assert_eq!(data.data.as_ptr(), payload[25..].as_ptr());
    assert_eq!(encoded(|out| message.encode(out)), payload);
}

#[test]
fn payload_that_is_empty_or_of_another_kind_is_an_error() {
    let error = CopyMessage::decode(Bytes::new()).unwrap_err();
    assert_eq!(
        error.kind(),
        &DecodeErrorKind::Truncated { needed: 1, left: 0 }
    );
    let error = CopyMessage::decode(Bytes::from_static(b"zzz")).unwrap_err();
    assert_eq!(error.kind(), &DecodeErrorKind::UnknownTag { tag: b'z' });
    assert_eq!(error.offset(), 0);
}

#[test]
fn keepalive_and_status_refuse_trailing_bytes() {
    let payload = encoded(|out| {
        keepalive().encode(out);
        out.put_u8(0);
    });
    let error = CopyMessage::decode(payload).unwrap_err();
    assert_eq!(
        (error.offset(), error.kind()),
        (18, &DecodeErrorKind::TrailingBytes { count: 1 })
    );

    let mut payload = [0; StandbyStatus::LEN + 2];
    payload[0] = b'r';
    let error = StandbyStatus::decode(Bytes::copy_from_slice(&payload)).unwrap_err();
    assert_eq!(
        (error.offset(), error.kind()),
        (34, &DecodeErrorKind::TrailingBytes { count: 2 })
    );
}

#[test]
fn status_keeps_its_three_positions_apart() {
    let status = StandbyStatus {
        write: Lsn::new(0x11),
        flush: Lsn::new(0x22),
        apply: Lsn::new(0x33),
        client_time: PgTimestamp::new(0x44),
        reply_requested: false,
    };
    let payload = status.encode();
    assert_eq!(payload[0], b'r');
    assert_eq!(
        [payload[8], payload[16], payload[24], payload[32]],
        [0x11, 0x22, 0x33, 0x44]
    );
    assert_eq!(payload[33], 0);
    assert_eq!(
        StandbyStatus::decode(Bytes::copy_from_slice(&payload)),
        Ok(status)
    );
    let error = StandbyStatus::decode(Bytes::from_static(b"hrest")).unwrap_err();
    assert_eq!(
        (error.offset(), error.kind()),
        (0, &DecodeErrorKind::UnknownTag { tag: b'h' })
    );
}

#[test]
fn debug_form_of_xlog_data_shows_no_payload() {
    let data = XLogData {
        wal_start: Lsn::new(0x10),
        wal_end: Lsn::new(0x20),
        server_time: PgTimestamp::new(0),
        data: Bytes::from_static(b"secret"),
    };
    let text = format!("{:?}", CopyMessage::XLogData(data));
    assert!(text.contains("wal_start: Lsn(0/10)"), "{text}");
    assert!(text.contains("data: 6 bytes"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
