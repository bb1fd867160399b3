//! What a record holds.

use walpost_core::{Position, Record};

use super::Event;
use crate::kafka::{INVALID, TOO_LARGE};
use crate::walsender::{self, topic_name};

/// Why a record is a dead letter, if it is one.
pub(crate) fn cause(record: &Record) -> Option<&[u8]> {
    header(record, "walpost-error")
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    let found = record.headers().iter().find(|header| header.name() == name);
    found.and_then(|header| header.value.as_deref())
}

/// A promise: a record is what was written; so is a dead letter, but for a value that was too
/// large, and says why it is one. Only an event that is at fault has one. `may_shorten`: its topic
/// may have refused the value.
pub(super) fn check(
    event: &Event,
    (position, xid): (Position, u32),
    record: &Record,
    may_shorten: bool,
) {
    let id = event.id.to_string();
    assert_eq!(
        record.position(),
        position,
        "identity: {id} stands elsewhere"
    );
    let header = |name| header(record, name);
    let text = position.to_text();
    assert_eq!(
        header("walpost-position"),
        Some(&text[..]),
        "identity: {id}"
    );
    assert_eq!(header("id"), Some(id.as_bytes()), "content: {id}");
    assert_eq!(header("type"), Some(&b"Happened"[..]), "content: {id}");
    let time = walsender::commit_time(xid);
    assert_eq!(
        header("walpost-commit-time"),
        Some(time.as_bytes()),
        "content: {id} has another time"
    );
    let error = cause(record);
    let left_out = header("walpost-payload-bytes");
    if error.is_none() {
        assert_eq!(left_out, None, "content: {id} is no dead letter");
        assert_eq!(record.headers().len(), 4, "content: {id} has more headers");
        assert_eq!(
            record.value(),
            event.payload.as_ref(),
            "content: {id} has another value"
        );
        return;
    }
    let expected: &[u8] = match (event.poison, &event.payload) {
        _ if error == Some(b"topic-missing") => b"topic-missing",
        (_, None) if error == Some(b"null-payload") => b"null-payload",
        (Some(TOO_LARGE), _) => b"too-large",
        (Some(INVALID), _) => b"rejected",
        _ => panic!("dead letter: {id} is not at fault, and has one: {error:?}"),
    };
    assert_eq!(error, Some(expected), "dead letter: {id}");
    let topic = topic_name(event.topic);
    assert_eq!(
        header("walpost-topic"),
        Some(topic.as_bytes()),
        "content: {id}"
    );
    let Some(left_out) = left_out else {
        assert_eq!(
            record.value(),
            event.payload.as_ref(),
            "content: {id} has another value"
        );
        return;
    };
    let is_too_large = may_shorten || error == Some(b"too-large");
    assert!(
        is_too_large,
        "dead letter: {id} lacks a value that is not too large"
    );
    let size = event
        .payload
        .as_ref()
        .map(|payload| payload.len().to_string());
    assert_eq!(Some(left_out), size.as_ref().map(|size| size.as_bytes()));
    assert_eq!(
        record.value(),
        None,
        "content: {id} has a value that is left out"
    );
}
