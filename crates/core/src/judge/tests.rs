use walpost_pgoutput::Lsn;

use super::*;
use crate::error::{Rejection, Undeliverable};
use crate::event::{EventId, Topic};
use crate::instants::{seconds_after, start};

const BATCH: usize = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn judge(has_letters: bool) -> Judge {
    let sizes = Sizes {
        record: 1 << 20,
        record_is_fixed: false,
        batch: BATCH,
        batch_is_fixed: false,
    };
    Judge::new(Rulings::default(), sizes, has_letters, PATIENCE)
}

fn at(lsn: u64) -> Position {
    Position {
        commit_lsn: Lsn::new(lsn),
        ordinal: 0,
    }
}

fn id() -> EventId {
    EventId::Other(b"a".as_slice().into())
}

fn halt(lsn: u64, reason: Reason, found: Found) -> Halt {
    let event = Undeliverable {
        id: id(),
        position: at(lsn),
        reason,
    };
    Halt {
        event,
        found,
        topic: None,
    }
}

fn rejected(code: i32) -> Reason {
    Reason::Rejected(Rejection {
        code,
        name: String::new(),
        detail: String::new(),
    })
}

/// `INVALID_RECORD`
fn invalid() -> Reason {
    rejected(87)
}

/// `MSG_SIZE_TOO_LARGE`
fn too_large() -> Reason {
    rejected(10)
}

fn among(positions: &[u64]) -> Found {
    Found::Among(positions.iter().copied().map(at).collect())
}

fn suspects(judge: &Judge, positions: &[u64]) -> Vec<bool> {
    let suspects = |lsn: &u64| judge.rulings.suspects(at(*lsn));
    positions.iter().map(suspects).collect()
}

/// One topic has events, and takes so much, or does not say.
fn answer(limit: Option<usize>) -> (Option<TopicSizes>, BTreeSet<String>) {
    let topic = || "a".to_owned();
    let answer = TopicSizes {
        asked: vec![topic()],
        limits: [(topic(), limit)].into(),
    };
    (Some(answer), [topic()].into())
}

fn server(timeline: u32) -> Identity {
    Identity {
        system_identifier: 7,
        timeline,
    }
}

#[test]
fn what_kafka_refuses_together_is_suspected_and_what_it_refuses_alone_is_condemned() {
    let mut judge = judge(true);
    let next = judge.after_halt(&halt(8, invalid(), among(&[8, 9])), start());
    assert_eq!(next, Next::Again(Finding::Together(2)));
    assert_eq!(suspects(&judge, &[7, 8, 9]), [false, true, true]);
    let next = judge.after_halt(&halt(9, invalid(), Found::Alone), start());
    assert_eq!(next, Next::Again(Finding::Condemned));
    assert_eq!(judge.rulings.verdict(at(9), &id()), Some(&invalid()));
    assert_eq!(judge.rulings.verdict(at(8), &id()), None);
}

#[test]
fn without_a_topic_for_them_the_line_stands_before_an_event_that_can_not_be_delivered() {
    let stands = Next::Stand {
        may_be_innocent: false,
    };
    for found in [Found::Alone, Found::BeforeSending] {
        let mut judge = judge(false);
        let next = judge.after_halt(&halt(8, invalid(), found), start());
        assert_eq!(next, stands);
        assert_eq!(judge.rulings.verdict(at(8), &id()), None);
    }
    // Nor is there one for a dead letter that can't be delivered.
    let letter = Reason::DeadLetter {
        topic: Topic::new("dead".into()).unwrap(),
        cause: Box::new(Reason::NullId),
        why: Box::new(invalid()),
    };
    let next = judge(true).after_halt(&halt(8, letter, Found::Alone), start());
    assert_eq!(next, stands);
}

#[test]
fn records_that_are_too_large_together_are_suspects_only_where_their_batch_is_not_at_fault() {
    let mut judge = judge(true);
    let refused = halt(8, too_large(), among(&[8, 9]));
    let next = judge.after_halt(&refused, start());
    assert_eq!(next, Next::Again(Finding::Together(2)));
    assert_eq!(suspects(&judge, &[8, 9]), [false, false]);
    assert!(judge.question(std::iter::empty()).is_some(), "in doubt");
    let (told, known) = answer(Some(BATCH / 2));
    assert!(judge.take_answer(told, &known, start()), "smaller batches");
    assert_eq!(judge.sizes().batch, BATCH / 2);
    assert_eq!(suspects(&judge, &[8, 9]), [false, false]);
    assert_eq!(judge.question(std::iter::empty()), None);

    judge.after_halt(&refused, start());
    let (told, known) = answer(Some(BATCH / 2));
    assert!(
        !judge.take_answer(told, &known, start()),
        "the same batches"
    );
    assert_eq!(suspects(&judge, &[8, 9]), [true, true]);
}

#[test]
fn a_record_that_the_client_refuses_is_condemned_only_when_every_topic_has_told_its_limit() {
    let refused = Halt {
        topic: Some(Topic::new("a".into()).unwrap()),
        ..halt(8, too_large(), Found::BeforeSending)
    };
    let mut judge = judge(true);
    let at_second = |judge: &mut Judge, second| {
        let now = seconds_after(start(), second);
        judge.after_halt(&refused, now)
    };
    assert_eq!(at_second(&mut judge, 0), Next::Again(Finding::AsksTopics));
    let (_, known) = answer(None);
    judge.take_answer(None, &known, start());
    assert_eq!(at_second(&mut judge, 1), Next::Later);
    let (told, known) = answer(None);
    judge.take_answer(told, &known, start());
    let stands = Next::Stand {
        may_be_innocent: true,
    };
    assert_eq!(at_second(&mut judge, 2), stands);
    // A minute later it is asked once more.
    assert_eq!(at_second(&mut judge, 90), Next::Again(Finding::AsksTopics));
    let (told, known) = answer(Some(BATCH));
    judge.take_answer(told, &known, seconds_after(start(), 90));
    assert_eq!(at_second(&mut judge, 91), Next::Again(Finding::Condemned));
    assert!(judge.size_is_final_until(start()).is_some());
}

#[test]
fn what_was_found_out_on_one_server_says_nothing_about_another() {
    let mut judge = judge(true);
    judge.session_begins(server(1), []);
    judge.after_halt(&halt(8, invalid(), among(&[8])), start());
    judge.after_halt(&halt(9, invalid(), Found::Alone), start());
    let same = judge.session_begins(server(1), []);
    assert!(same.suspects(at(8)) && same.verdict(at(9), &id()).is_some());
    let other = judge.session_begins(server(2), []);
    assert!(!other.suspects(at(8)) && other.verdict(at(9), &id()).is_none());
}

#[test]
fn a_session_is_told_what_may_pass_now_and_not_what_might_before() {
    let mut judge = judge(false);
    let skip = (at(8), "a".to_owned());
    assert!(judge.session_begins(server(1), [skip]).skips(at(8), &id()));
    assert!(!judge.session_begins(server(1), []).skips(at(8), &id()));
}

#[test]
fn what_is_on_record_does_not_come_again_and_is_forgotten() {
    let mut judge = judge(true);
    judge.after_halt(&halt(8, invalid(), among(&[8, 9])), start());
    let rulings = judge.session_begins(server(1), []);
    judge.session_ended(rulings, Lsn::new(9));
    assert_eq!(suspects(&judge, &[8, 9]), [false, true]);
}
