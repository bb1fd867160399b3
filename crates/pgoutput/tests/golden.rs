//! Messages that a real server sent, and everything near them.
//!
//! `golden/capture.sh` wrote the bytes (`*.hex`); `golden/*.txt` says in words what they hold.

#![expect(
    clippy::unwrap_used,
    reason = "a capture that can't be read is a failed test"
)]

use std::{collections::BTreeMap, fmt::Write};

use bytes::{Bytes, BytesMut};
use walpost_pgoutput::{
    Cell, CopyMessage, DecodeErrorKind, Lsn, Message, OldTuple, PgTimestamp, Relation, RelationId,
    StandbyStatus, Tuple,
};

const TEXT: &str = include_str!("golden/text.hex");
const BINARY: &str = include_str!("golden/binary.hex");
const STREAM: &str = include_str!("golden/stream.hex");

#[test]
fn text_capture_says_what_the_workload_did() {
    assert_same_lines(&in_words(TEXT), include_str!("golden/text.txt"));
}

#[test]
fn binary_capture_says_what_the_workload_did() {
    assert_same_lines(&in_words(BINARY), include_str!("golden/binary.txt"));
}

#[test]
fn captures_hold_every_kind_of_message() {
    for capture in [TEXT, BINARY] {
        let mut counts = BTreeMap::<_, usize>::new();
        for captured in captured(capture) {
            *counts.entry(captured.decode().name()).or_default() += 1;
        }
        let kinds = [
            "Begin", "Commit", "Delete", "Insert", "Message", "Origin", "Relation", "Truncate",
            "Type", "Update",
        ];
        assert!(counts.keys().eq(&kinds), "{counts:?}");
    }
}

#[test]
fn positions_transactions_and_times_are_those_the_server_tells_in_sql() {
    for capture in [TEXT, BINARY] {
        let mut open = None;
        for captured in captured(capture) {
            let commit_time = PgTimestamp::from_unix_micros(captured.commit_unix_micros);
            let message = captured.decode();
            if let Message::Begin(begin) = &message {
                assert_eq!((begin.xid, begin.commit_time), (captured.xid, commit_time));
                open = Some(*begin);
            }
            if let Message::Commit(commit) = &message {
                let begin = open.take().expect("Begin comes before Commit");
                assert_eq!(commit.end_lsn, captured.lsn);
                assert_eq!(commit.commit_lsn, begin.final_lsn);
                assert!(commit.end_lsn > commit.commit_lsn);
                assert_eq!((commit.flags, commit.commit_time), (0, commit_time));
            }
            if let Message::Logical(logical) = &message {
                assert_eq!(logical.lsn, captured.lsn);
                assert_eq!(logical.transactional, open.is_some());
            }
        }
        assert_eq!(open, None);
    }
}

#[test]
fn encoding_a_captured_message_gives_its_bytes_back() {
    for captured in captured(TEXT).chain(captured(BINARY)) {
        let mut out = BytesMut::new();
        captured.decode().encode(&mut out);
        assert_eq!(out, captured.bytes);
    }
}

#[test]
fn stream_capture_holds_one_transaction_and_the_keepalives_around_it() {
    let mut names = Vec::new();
    let mut requests = Vec::new();
    let mut received = Lsn::ZERO;
    for payload in payloads('<') {
        let message = CopyMessage::decode(payload.clone()).unwrap();
        let mut out = BytesMut::new();
        message.encode(&mut out);
        assert_eq!(out, payload);
        match message {
            CopyMessage::Keepalive(keepalive) => {
                assert!(
                    keepalive.wal_end >= received,
                    "{keepalive:?} after {received}"
                );
                requests.push(keepalive.reply_requested);
            }
            CopyMessage::XLogData(data) => {
                assert_eq!(data.wal_start, data.wal_end);
                received = received.max(data.wal_end);
                let message = Message::decode(data.data.clone()).unwrap();
                if let Message::Commit(commit) = &message {
                    assert_eq!(data.wal_start, commit.end_lsn);
                }
                names.push(message.name());
            }
        }
    }
    assert_eq!(names, ["Begin", "Relation", "Insert", "Commit"]);
    // The server asks once for a reply, and answers the reply without asking again.
    assert_eq!(requests.iter().filter(|requested| **requested).count(), 1);
    assert!(requests.ends_with(&[true, false]));
}

#[test]
fn server_understood_the_status_as_it_is_encoded_here() {
    let line = STREAM
        .lines()
        .find_map(|line| line.strip_prefix("stat "))
        .unwrap();
    let seen: Vec<_> = line.split(' ').collect();
    let position = |index: usize| seen[index].parse::<Lsn>().unwrap();
    let status = StandbyStatus {
        write: position(0),
        flush: position(1),
        apply: position(2),
        client_time: PgTimestamp::from_unix_micros(seen[3].parse().unwrap()),
        reply_requested: true,
    };
    let sent = payloads('>').next().unwrap();
    assert_eq!(sent, status.encode()[..]);
    assert_eq!(StandbyStatus::decode(sent), Ok(status));
}

#[test]
fn message_cut_at_any_byte_is_an_error_that_names_it_and_points_into_it() {
    for captured in captured(TEXT).chain(captured(BINARY)) {
        let kind = captured.decode().name();
        for length in 0..captured.bytes.len() {
            let error = Message::decode(captured.bytes.slice(..length)).unwrap_err();
            let name = if length == 0 {
                "pgoutput message"
            } else {
                kind
            };
            assert!(
                error.to_string().starts_with(&format!("{name}: ")),
                "{error}"
            );
            assert!(error.offset() <= length, "{error}");
            let is_expected = matches!(
                error.kind(),
                DecodeErrorKind::Truncated { .. }
                    | DecodeErrorKind::Unterminated { .. }
                    | DecodeErrorKind::CountAboveInput { .. }
            );
            assert!(is_expected, "{error}");
        }
    }
}

#[test]
fn payload_cut_at_any_byte_is_an_error_of_the_frame_or_of_the_message() {
    for payload in payloads('<') {
        for length in 0..payload.len() {
            let cut = payload.slice(..length);
            let Ok(CopyMessage::XLogData(data)) = CopyMessage::decode(cut) else {
                continue;
            };
            Message::decode(data.data).unwrap_err();
        }
        let Ok(CopyMessage::Keepalive(_)) = CopyMessage::decode(payload.clone()) else {
            continue;
        };
        for length in 0..payload.len() {
            CopyMessage::decode(payload.slice(..length)).unwrap_err();
        }
    }
    let status = payloads('>').next().unwrap();
    for length in 0..StandbyStatus::LEN {
        StandbyStatus::decode(status.slice(..length)).unwrap_err();
    }
}

#[test]
fn one_byte_more_is_an_error_behind_every_message() {
    for captured in captured(TEXT).chain(captured(BINARY)) {
        let mut longer = BytesMut::from(&captured.bytes[..]);
        longer.extend_from_slice(b"\0");
        let error = Message::decode(longer.freeze()).unwrap_err();
        assert_eq!(error.offset(), captured.bytes.len());
        assert_eq!(error.kind(), &DecodeErrorKind::TrailingBytes { count: 1 });
    }
}

#[test]
fn no_change_of_a_single_byte_panics_or_makes_a_message_that_does_not_survive_a_round_trip() {
    for captured in captured(TEXT).chain(captured(BINARY)) {
        let mut bytes = captured.bytes.to_vec();
        for index in 0..bytes.len() {
            // Behind that there is only the inside of one long value.
            let step = if index < 500 { 1 } else { 51 };
            let kept = bytes[index];
            for value in (0..=u8::MAX).step_by(step) {
                bytes[index] = value;
                if let Ok(message) = Message::decode(Bytes::copy_from_slice(&bytes)) {
                    assert_round_trip(&message);
                }
            }
            bytes[index] = kept;
        }
    }
}

/// One line of a capture.
struct Captured {
    lsn: Lsn,
    xid: u32,
    commit_unix_micros: i64,
    bytes: Bytes,
}

impl Captured {
    fn decode(&self) -> Message {
        Message::decode(self.bytes.clone()).unwrap()
    }
}

fn captured(capture: &str) -> impl Iterator<Item = Captured> {
    capture
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            Captured {
                lsn: fields[0].parse().unwrap(),
                xid: fields[1].parse().unwrap(),
                commit_unix_micros: fields[2].parse().unwrap(),
                bytes: from_hex(fields[3]),
            }
        })
}

/// The payloads of the stream capture that went in one direction.
fn payloads(direction: char) -> impl Iterator<Item = Bytes> {
    STREAM
        .lines()
        .filter_map(move |line| Some(from_hex(line.strip_prefix(direction)?.trim())))
}

fn from_hex(digits: &str) -> Bytes {
    let byte = |index| u8::from_str_radix(&digits[index..index + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn assert_round_trip(message: &Message) {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    assert_eq!(Message::decode(out.freeze()).as_ref(), Ok(message));
}

fn assert_same_lines(found: &str, expected: &str) {
    for (index, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", index + 1);
    }
    assert_eq!(
        found.lines().count(),
        expected.lines().count(),
        "found:\n{found}"
    );
}

/// A capture in words, without what differs from run to run.
fn in_words(capture: &str) -> String {
    let mut words = Words::default();
    let mut text = String::new();
    for captured in captured(capture) {
        writeln!(text, "{}", words.message(&captured.decode())).unwrap();
    }
    text
}

/// What messages are told about ids by earlier messages.
#[derive(Default)]
struct Words {
    relations: BTreeMap<RelationId, String>,
    types: BTreeMap<u32, String>,
}

impl Words {
    fn message(&mut self, message: &Message) -> String {
        match message {
            Message::Begin(_) | Message::Commit(_) => message.name().to_owned(),
            Message::Origin(origin) => {
                format!("Origin {} {}", text(&origin.name), origin.commit_lsn)
            }
            Message::Type(named) => {
                let name = qualified(&named.namespace, &named.name);
                self.types.insert(named.type_oid, name.clone());
                format!("Type {name}")
            }
            Message::Relation(relation) => self.relation(relation),
            Message::Insert(insert) => {
                format!(
                    "Insert {} {}",
                    self.relations[&insert.relation],
                    row(&insert.new)
                )
            }
            Message::Update(update) => {
                let old = update.old.as_ref().map_or_else(String::new, old_row);
                let name = &self.relations[&update.relation];
                format!("Update {name} {old}new {}", row(&update.new))
            }
            Message::Delete(delete) => {
                let name = &self.relations[&delete.relation];
                format!("Delete {name} {}", old_row(&delete.old).trim_end())
            }
            Message::Truncate(truncate) => {
                let names: Vec<_> = truncate
                    .relations
                    .iter()
                    .map(|id| self.relations[id].as_str())
                    .collect();
                format!("Truncate {} options {}", names.join(", "), truncate.options)
            }
            Message::Logical(message) => format!(
                "Message transactional={} {:?} {}",
                message.transactional,
                text(&message.prefix),
                quoted(&message.content)
            ),
        }
    }

    fn relation(&mut self, relation: &Relation) -> String {
        let name = qualified(&relation.namespace, &relation.name);
        let identity = char::from(relation.replica_identity);
        let mut line = format!("Relation {name} identity {identity}:");
        for column in &relation.columns {
            let oid = column.type_oid.to_string();
            write!(
                line,
                " {}{}/{}/{}",
                if column.is_key { "*" } else { "" },
                text(&column.name),
                self.types.get(&column.type_oid).unwrap_or(&oid),
                column.type_modifier
            )
            .unwrap();
        }
        self.relations.insert(relation.id, name);
        line
    }
}

fn old_row(old: &OldTuple) -> String {
    match old {
        OldTuple::Key(tuple) => format!("key {} ", row(tuple)),
        OldTuple::Full(tuple) => format!("old {} ", row(tuple)),
    }
}

fn row(tuple: &Tuple) -> String {
    let cells: Vec<_> = tuple.cells().map(cell).collect();
    assert_eq!(cells.len(), tuple.len());
    format!("({})", cells.join(", "))
}

fn cell(cell: Cell<'_>) -> String {
    match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Unchanged => "unchanged".to_owned(),
        Cell::Text(value) if value.len() > 60 => format!("{} bytes of text", value.len()),
        Cell::Text(value) => quoted(value),
        Cell::Binary(value) if value.len() > 60 => format!("{} bytes", value.len()),
        Cell::Binary(value) => format!("0x{}", hex(value)),
    }
}

/// Text in quotes where the bytes are text, else hexadecimal.
fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => format!("'{text}'"),
        Ok(_) | Err(_) => format!("0x{}", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn qualified(namespace: &[u8], name: &[u8]) -> String {
    let namespace = if namespace.is_empty() {
        b"pg_catalog"
    } else {
        namespace
    };
    format!("{}.{}", text(namespace), text(name))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
