use proptest::prelude::*;

use super::*;

const MAX: usize = 64 << 20;

#[test]
fn one_byte_at_a_time_gives_the_same_messages_as_one_read() {
    let stream = [
        message(b'd', b"one"),
        message(b'N', b""),
        message(b'd', &[7; 900]),
    ]
    .concat();
    assert_eq!(frames(&stream, 1), frames(&stream, stream.len()));
    assert_eq!(frames(&stream, 1).len(), 3);
}

#[test]
fn offset_counts_the_bytes_before_a_message() {
    let stream = [message(b'd', b"one"), message(b'd', b"two"), vec![b'!']].concat();
    let mut input = FrameBuffer::new(MAX);
    fill(&mut input, &mut stream.as_slice(), MAX);
    assert_eq!(input.next_frame().unwrap().unwrap().offset, 0);
    assert_eq!(input.next_frame().unwrap().unwrap().offset, 8);
    let error = input.next_frame().err().unwrap().to_string();
    assert_eq!(
        error,
        "unknown message (message '!', byte 16 of the connection)"
    );
}

#[test]
fn lying_length_does_not_allocate_what_it_claims() {
    let mut input = FrameBuffer::new(1 << 30);
    let mut stream: &[u8] = &[&[b'd'][..], &(1_u32 << 29).to_be_bytes(), &[0; 300_000]].concat();
    while !stream.is_empty() {
        fill(&mut input, &mut stream, MAX);
    }
    assert!(input.next_frame().unwrap().is_none());
    // One more read is prepared, for bytes that never come.
    fill(&mut input, &mut stream, MAX);
    assert!(
        input.buffer.capacity() <= 4 * CHUNK_BYTES,
        "{}",
        input.buffer.capacity()
    );
}

#[test]
fn length_above_the_limit_is_an_error_before_the_bytes_come() {
    let mut input = FrameBuffer::new(1000);
    fill(&mut input, &mut &b"d\0\0\x03\xe7"[..], MAX);
    assert!(
        input.next_frame().unwrap().is_none(),
        "exactly at the limit"
    );

    let mut input = FrameBuffer::new(1000);
    fill(&mut input, &mut &b"d\0\0\x03\xe8"[..], MAX);
    let error = input.next_frame().err().unwrap();
    assert!(
        matches!(
            error,
            Cause::TooLarge {
                bytes: 1001,
                bytes_max: 1000,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        input.has_frame(),
        "the error must be found by who asks first"
    );
}

#[test]
fn lengths_below_their_own_size_are_errors() {
    for length in 0_u32..4 {
        let mut input = FrameBuffer::new(MAX);
        fill(
            &mut input,
            &mut [&[b'd'][..], &length.to_be_bytes()].concat().as_slice(),
            MAX,
        );
        let error = input.next_frame().err().unwrap().to_string();
        assert!(error.starts_with("impossible message length"), "{error}");
    }
}

#[test]
fn negative_length_is_above_any_limit() {
    let mut input = FrameBuffer::new(MAX);
    fill(&mut input, &mut &b"d\xff\xff\xff\xff"[..], MAX);
    assert!(matches!(input.next_frame(), Err(Cause::TooLarge { .. })));
}

#[test]
fn unknown_tag_is_an_error_at_its_first_byte() {
    let mut input = FrameBuffer::new(MAX);
    fill(&mut input, &mut &b"HTTP/1.1 400"[..], MAX);
    // 'H' is a tag of the protocol, and "TTP/" a length.
    assert!(matches!(
        input.next_frame(),
        Err(Cause::TooLarge { tag: b'H', .. })
    ));

    for byte in 0..=u8::MAX {
        let mut input = FrameBuffer::new(MAX);
        fill(&mut input, &mut &[byte][..], MAX);
        assert_eq!(input.next_frame().is_err(), !tag::is_known(byte), "{byte}");
    }
}

#[test]
fn large_message_leaves_no_large_buffer_behind() {
    let stream = [message(b'd', &vec![1; 5 << 20]), message(b'd', b"next")].concat();
    let mut input = FrameBuffer::new(MAX);
    let mut rest = stream.as_slice();
    let frame = loop {
        fill(&mut input, &mut rest, 100_000);
        if let Some(frame) = input.next_frame().unwrap() {
            break frame;
        }
    };
    assert_eq!(frame.body.len(), 5 << 20);
    assert_eq!(
        input.buffered(),
        0,
        "nothing beyond it was read into its buffer"
    );
    fill(&mut input, &mut rest, MAX);
    assert_eq!(input.next_frame().unwrap().unwrap().body, "next");
    assert!(input.buffer.capacity() <= CHUNK_BYTES);
}

#[test]
fn chunk_is_read_into_again_once_its_messages_are_dropped() {
    let message = message(b'd', &[3; 10_000]);
    let mut input = FrameBuffer::new(MAX);
    let mut addresses = Vec::new();
    for _ in 0..2000 {
        fill(&mut input, &mut message.as_slice(), MAX);
        let frame = input.next_frame().unwrap().unwrap();
        addresses.push(frame.body.as_ptr().addr());
    }
    let span = addresses.iter().max().unwrap() - addresses.iter().min().unwrap();
    assert!(
        span < CHUNK_BYTES,
        "20 MB went through more than one chunk: {span}"
    );
}

#[test]
fn kept_messages_keep_their_bytes() {
    let mut input = FrameBuffer::new(MAX);
    let mut kept = Vec::new();
    for index in 0..500_u32 {
        let message = message(b'd', &index.to_be_bytes().repeat(1000));
        fill(&mut input, &mut message.as_slice(), MAX);
        kept.push(input.next_frame().unwrap().unwrap().body);
    }
    for (index, body) in (0_u32..).zip(kept) {
        assert_eq!(body, index.to_be_bytes().repeat(1000));
    }
}

#[test]
fn reads_are_offered_space_and_told_when_they_fill_it() {
    let mut input = FrameBuffer::new(MAX);
    let stream = message(b'd', &vec![0; 200_000]);
    let filled = input.fill_with(|space| {
        assert!(space.remaining_mut() >= READ_BYTES_MIN);
        space.put_slice(&stream[..1000]);
        Ok(1000)
    });
    assert_eq!(
        filled.unwrap(),
        Filled {
            bytes: 1000,
            full: false
        }
    );
    let filled = input.fill_with(|space| {
        let bytes = space.chunk_mut().len();
        space.put_bytes(0, bytes);
        Ok(bytes)
    });
    assert!(filled.unwrap().full);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_of_the_stream_gives_the_same_messages(
        sizes in prop::collection::vec(prop_oneof![0..50_usize, 0..700_000_usize], 1..8),
        reads in prop::collection::vec(1..400_000_usize, 1..20),
        keep in any::<bool>(),
    ) {
        let bodies: Vec<Vec<u8>> =
            (0_u8..).zip(&sizes).map(|(byte, &size)| vec![byte; size]).collect();
        let stream: Vec<u8> = bodies.iter().flat_map(|body| message(b'd', body)).collect();
        let mut rest = stream.as_slice();
        let mut input = FrameBuffer::new(MAX);
        let mut reads = reads.iter().cycle();
        let mut taken = Vec::new();
        while taken.len() < bodies.len() {
            fill(&mut input, &mut rest, *reads.next().unwrap());
            while let Some(frame) = input.next_frame().unwrap() {
                taken.push(if keep { frame.body } else { Bytes::copy_from_slice(&frame.body) });
            }
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(input.buffered(), 0);
        prop_assert!(taken.iter().eq(bodies.iter()));
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// One read of at most `bytes_max` from `stream`.
fn fill(input: &mut FrameBuffer, stream: &mut &[u8], bytes_max: usize) {
    let filled = input.fill_with(|space| {
        let bytes = space.remaining_mut().min(bytes_max).min(stream.len());
        let (now, later) = stream.split_at(bytes);
        space.put_slice(now);
        *stream = later;
        Ok(bytes)
    });
    filled.unwrap();
}

fn frames(mut stream: &[u8], read_bytes: usize) -> Vec<(u8, Bytes, u64)> {
    let mut input = FrameBuffer::new(MAX);
    let mut frames = Vec::new();
    while !stream.is_empty() {
        fill(&mut input, &mut stream, read_bytes);
        while let Some(frame) = input.next_frame().unwrap() {
            frames.push((frame.tag, frame.body, frame.offset));
        }
    }
    frames
}
