//! Dead letters: what the dead-letter topic gets of an event that can't be delivered.
//!
//! Key, value and headers stay what they would have been, and so does what decides the partition:
//! one aggregate's dead letters are in order. Three headers more say why it is there, and where it
//! was meant to go. A value that is too large is left out; `walpost-position` and `id` say which
//! row has it.

use bytes::Bytes;

use crate::error::{Reason, Undeliverable};
use crate::event::{EventId, Header, Position, Topic};
use crate::mapping::Event;

const ERROR: Bytes = Bytes::from_static(b"walpost-error");
const DETAIL: Bytes = Bytes::from_static(b"walpost-error-detail");
const TOPIC: Bytes = Bytes::from_static(b"walpost-topic");
const LEFT_OUT: Bytes = Bytes::from_static(b"walpost-payload-bytes");

/// Rows may ask for any topic: so much of the name is kept, in bytes.
const TOPIC_LEN_MAX: usize = 1_024;

/// So much of the reason is told, in bytes.
const DETAIL_LEN_MAX: usize = 1_024;

/// Why a row is not delivered, and what there is of its record.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub id: EventId,
    pub position: Position,
    pub reason: Reason,
    pub letter: Letter,
}

/// What there is of a record. A part that could not be had is left out.
#[derive(Debug)]
pub(crate) struct Letter {
    pub key: Option<Bytes>,
    pub placement: Bytes,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
    /// The topic that it was meant for, as the row has it.
    pub meant_for: Option<Bytes>,
}

impl Refusal {
    /// An event that turns out not to be deliverable.
    pub(crate) fn of(event: Event, reason: Reason) -> Self {
        let Event {
            id,
            position,
            topic,
            key,
            placement,
            value,
            headers,
            ..
        } = event;
        Self {
            id,
            position,
            reason,
            letter: Letter {
                key,
                placement,
                value,
                headers,
                meant_for: Some(Bytes::copy_from_slice(topic.as_str().as_bytes())),
            },
        }
    }

    /// What to tell of it.
    pub(crate) fn undeliverable(&self) -> Undeliverable {
        Undeliverable {
            id: self.id.clone(),
            position: self.position,
            reason: self.reason.clone(),
        }
    }

    /// Its dead letter.
    pub(crate) fn into_dead_letter(self, topic: &Topic) -> Event {
        let Self {
            id,
            position,
            reason,
            letter,
        } = self;
        let mut headers = letter.headers;
        let mut tell = |name: Bytes, value: Bytes| {
            headers.push(Header {
                name,
                value: Some(value),
            });
        };
        tell(ERROR, Bytes::from_static(reason.code().as_bytes()));
        tell(DETAIL, Bytes::from(shortened(reason.to_string())));
        if let Some(meant_for) = letter.meant_for {
            let len = meant_for.len().min(TOPIC_LEN_MAX);
            tell(TOPIC, meant_for.slice(..len));
        }
        let mut event = Event {
            id,
            position,
            topic: topic.clone(),
            key: letter.key,
            placement: letter.placement,
            value: letter.value,
            headers,
            bytes: 0,
            cause: None,
        };
        if reason.is_too_large() {
            leave_value_out(&mut event);
        }
        event.measure();
        event.cause = Some(Box::new(reason));
        event
    }
}

/// Leaves the value of a dead letter out, if it has one.
pub(crate) fn leave_value_out(letter: &mut Event) -> bool {
    let Some(value) = letter.value.take() else {
        return false;
    };
    letter.headers.push(Header {
        name: LEFT_OUT,
        value: Some(Bytes::from(value.len().to_string())),
    });
    letter.measure();
    true
}

/// What Kafka or a row has to say can be of any length.
fn shortened(mut detail: String) -> String {
    if detail.len() > DETAIL_LEN_MAX {
        detail.truncate(detail.floor_char_boundary(DETAIL_LEN_MAX));
        detail.push('…');
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_whole_up_to_its_limit_and_cut_between_characters_above_it() {
        let most = "x".repeat(DETAIL_LEN_MAX);
        assert_eq!(shortened(most.clone()), most);
        assert_eq!(shortened(format!("{most}y")), format!("{most}…"));
        let umlaut = format!("{}äx", &most[1..]);
        assert_eq!(shortened(umlaut), format!("{}…", &most[1..]));
    }
}
