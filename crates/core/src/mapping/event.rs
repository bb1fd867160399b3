//! A row becomes an event.

use std::borrow::Cow;

use bytes::Bytes;
use uuid::Uuid;
use walpost_pgoutput::{Cell, Tuple};

use super::bind::{Binding, Slot};
use super::template::{Own, Piece, Template};
use super::types::{Kind, Malformed, payload, share, text};
use super::{Mapping, NullPayload, headers};
use crate::dead_letter::{Letter, Refusal};
use crate::error::Reason;
use crate::event::{EventId, Header, Position, Topic};
use crate::limits::MAPPED_COLUMNS_MAX;
use crate::stream::Transaction;

const POSITION: Bytes = Bytes::from_static(b"walpost-position");
const COMMIT_TIME: Bytes = Bytes::from_static(b"walpost-commit-time");

/// An event that is ready to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub id: EventId,
    pub position: Position,
    pub topic: Topic,
    pub key: Option<Bytes>,
    /// Decides the partition; never missing, so that a repeat meets its first copy's partition.
    pub placement: Bytes,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
    /// Size of key, value and headers.
    pub bytes: usize,
    /// Why this is a dead letter, if it is one.
    pub cause: Option<Box<Reason>>,
}

impl Event {
    /// Sets the size.
    pub(crate) fn measure(&mut self) {
        let parts = size(self.key.as_ref()) + size(self.value.as_ref());
        self.bytes = parts + header_bytes(&self.headers);
    }
}

/// Why a row did not become an event.
#[derive(Debug)]
pub(crate) enum Unmapped {
    /// The row is at fault.
    Event(Box<Refusal>),
    /// The stream is at fault: the cells are not what the table's description promised.
    Stream(&'static str),
}

impl From<Malformed> for Unmapped {
    fn from(Malformed(problem): Malformed) -> Self {
        Self::Stream(problem)
    }
}

/// The gathered cells of one row.
struct Row<'a> {
    cells: [Cell<'a>; MAPPED_COLUMNS_MAX],
    kinds: &'a [Kind],
    tuple: &'a Tuple,
    transaction: &'a Transaction,
}

impl Binding {
    /// Maps one inserted row of the open transaction.
    pub(crate) fn event(
        &self,
        mapping: &Mapping,
        tuple: &Tuple,
        transaction: &Transaction,
    ) -> Result<Event, Unmapped> {
        let row = self.gather(tuple, transaction)?;
        let id_text = row.text(self.id)?;
        let id = event_id(self.kinds[self.id], id_text.as_deref());
        let refuse = |reason| self.refusal(&row, id.clone(), reason);
        let Some(id_text) = id_text else {
            return Err(refuse(Reason::NullId));
        };
        let value = payload(self.kinds[self.payload], row.cells[self.payload], tuple)?;
        if value.is_none() && self.null_payload == NullPayload::Refuse {
            return Err(refuse(Reason::NullPayload));
        }
        let Some(topic) = row.render(&self.topic)? else {
            return Err(refuse(Reason::NullTopic));
        };
        let topic = Topic::new(topic).map_err(|why| refuse(Reason::TopicIllegal(why)))?;
        if !mapping.allows(&topic) {
            return Err(refuse(Reason::TopicNotAllowed(topic)));
        }
        let own = self
            .row_headers(&row)?
            .map_err(|why| refuse(Reason::Headers(why)))?;
        let (key, placement) = self.key(&row)?;
        let headers = self.record_headers(&row, own)?;
        let mut event = Event {
            id,
            position: transaction.position(),
            topic,
            placement: placement.unwrap_or_else(|| share(id_text, tuple)),
            key,
            value,
            headers,
            bytes: 0,
            cause: None,
        };
        event.measure();
        Ok(event)
    }

    /// The key, and what decides the partition. The id does where there is neither.
    fn key(&self, row: &Row<'_>) -> Result<(Option<Bytes>, Option<Bytes>), Malformed> {
        let key = row.render(&self.key)?;
        let placed = match &self.placement {
            Some(template) => row.render(template)?,
            None => None,
        };
        let placement = placed.or_else(|| key.clone());
        Ok((key, placement))
    }

    /// A row that is no event, with all that can be had of its record.
    fn refusal(&self, row: &Row<'_>, id: EventId, reason: Reason) -> Unmapped {
        let letter = || -> Result<Letter, Malformed> {
            let (key, placement) = self.key(row)?;
            let own = self.row_headers(row)?.unwrap_or_default();
            Ok(Letter {
                key,
                placement: placement.unwrap_or_else(|| Bytes::from(id.to_string())),
                value: payload(self.kinds[self.payload], row.cells[self.payload], row.tuple)?,
                headers: self.record_headers(row, own)?,
                meant_for: row.render(&self.topic)?,
            })
        };
        match letter() {
            Ok(letter) => Unmapped::Event(Box::new(Refusal {
                id,
                position: row.transaction.position(),
                reason,
                letter,
            })),
            Err(malformed) => malformed.into(),
        }
    }

    fn gather<'a>(
        &'a self,
        tuple: &'a Tuple,
        transaction: &'a Transaction,
    ) -> Result<Row<'a>, Unmapped> {
        if tuple.len() != self.width {
            return Err(Unmapped::Stream(
                "a row has another number of columns than its table",
            ));
        }
        let mut cells = [Cell::Null; MAPPED_COLUMNS_MAX];
        for (cell, slot) in tuple.cells().zip(&self.slots) {
            if let Some(slot) = *slot {
                cells[slot] = cell;
            }
        }
        Ok(Row {
            cells,
            kinds: &self.kinds,
            tuple,
            transaction,
        })
    }

    /// The row's own headers. The outer error is the stream's, the inner one the row's.
    fn row_headers(&self, row: &Row<'_>) -> Result<Result<Vec<Header>, String>, Malformed> {
        let own = match self.row_headers {
            Some(slot) => row.text(slot)?,
            None => None,
        };
        let parsed = own.as_deref().map(headers::parse).transpose();
        Ok(parsed.map(Option::unwrap_or_default))
    }

    /// All headers of the record, the row's own among them.
    fn record_headers(&self, row: &Row<'_>, own: Vec<Header>) -> Result<Vec<Header>, Malformed> {
        let mut all = Vec::with_capacity(self.headers.len() + own.len() + 2);
        for (name, template) in &self.headers {
            if let Some(value) = row.render(template)? {
                all.push(Header {
                    name: name.clone(),
                    value: Some(value),
                });
            }
        }
        all.extend(own);
        let position = Bytes::copy_from_slice(&row.transaction.position().to_text());
        all.push(Header {
            name: POSITION,
            value: Some(position),
        });
        let commit_time = row.transaction.commit_time.clone();
        all.push(Header {
            name: COMMIT_TIME,
            value: Some(commit_time),
        });
        Ok(all)
    }
}

impl<'a> Row<'a> {
    fn text(&self, slot: Slot) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        text(self.kinds[slot], self.cells[slot])
    }

    /// None where a column in the template is NULL.
    fn render(&self, template: &Template<Slot>) -> Result<Option<Bytes>, Malformed> {
        if let [Piece::Column(slot)] = template.pieces() {
            return Ok(self.text(*slot)?.map(|text| share(text, self.tuple)));
        }
        let mut rendered = Vec::new();
        for piece in template.pieces() {
            match piece {
                Piece::Literal(text) => rendered.extend_from_slice(text.as_bytes()),
                Piece::Own(own) => self.render_own(*own, &mut rendered),
                Piece::Column(slot) => match self.text(*slot)? {
                    Some(text) => rendered.extend_from_slice(&text),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(Bytes::from(rendered)))
    }

    fn render_own(&self, own: Own, rendered: &mut Vec<u8>) {
        match own {
            Own::Position => rendered.extend_from_slice(&self.transaction.position().to_text()),
            Own::CommitTime => rendered.extend_from_slice(&self.transaction.commit_time),
            Own::Xid => rendered.extend_from_slice(self.transaction.xid.to_string().as_bytes()),
        }
    }
}

fn event_id(kind: Kind, text: Option<&[u8]>) -> EventId {
    let text = text.unwrap_or(b"NULL");
    match Uuid::try_parse_ascii(text) {
        Ok(uuid) if kind == Kind::Uuid => EventId::Uuid(uuid),
        _ => EventId::Other(Box::from(text)),
    }
}

fn size(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(0, Bytes::len)
}

fn header_bytes(headers: &[Header]) -> usize {
    headers
        .iter()
        .map(|header| header.name.len() + size(header.value.as_ref()))
        .sum()
}
