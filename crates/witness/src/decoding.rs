//! What Postgres' own `test_decoding` prints of a transaction.
//!
//! ```text
//! BEGIN 740
//! table public.outbox: INSERT: id[uuid]:'8a…' destination[text]:'orders' payload[jsonb]:'{}'
//! COMMIT 740 (at 2026-01-31 12:00:00.25+00)
//! ```

use uuid::Uuid;

use crate::{
    content::expected,
    history::{Commit, Event, Lsn},
};

/// An inserted row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    fields: Vec<Field>,
}

/// A column of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: String,
    kind: String,
    value: Option<String>,
}

impl Row {
    /// The column of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    /// As text; `None` for NULL.
    pub fn text(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// The bytes that it stands for: those of its text, or what a `bytea` holds.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let text = self.value.as_deref()?;
        if self.kind != "bytea" {
            return Some(text.as_bytes().to_owned());
        }
        let digits = text.strip_prefix(r"\x")?;
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    }
}

/// Makes events of what the slot gives, line by line, in the order of the commits.
#[derive(Debug)]
pub struct Reader {
    /// `schema.table`, as SQL quotes it.
    table: String,
    last_end: Lsn,
    open: Vec<Row>,
    events: Vec<Event>,
}

impl Reader {
    /// For the rows of one table, by its schema and name as SQL quotes them.
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            last_end: Lsn::default(),
            open: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The next line, and the position that the slot gives with it: of a commit its end.
    ///
    /// # Errors
    ///
    /// What can't be understood.
    pub fn line(&mut self, lsn: Lsn, line: &str) -> Result<(), String> {
        if line.starts_with("BEGIN") {
            self.open.clear();
        } else if let Some(rest) = line.strip_prefix("COMMIT ") {
            self.commit(lsn, rest)?;
        } else if let Some(row) = self.insert(line) {
            let row = row.ok_or_else(|| format!("a row that can't be read: {line}"))?;
            self.open.push(row);
        }
        Ok(())
    }

    /// The events until now.
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// The row of an insert into the table; the inner option is whether it can be read.
    fn insert(&self, line: &str) -> Option<Option<Row>> {
        let rest = line.strip_prefix("table ")?.strip_prefix(&self.table)?;
        Some(fields(rest.strip_prefix(": INSERT: ")?).map(|fields| Row { fields }))
    }

    fn commit(&mut self, end: Lsn, rest: &str) -> Result<(), String> {
        let time = rest
            .split_once("(at ")
            .and_then(|(_, time)| rfc3339(time.strip_suffix(')')?));
        for (row, ordinal) in self.open.drain(..).zip(0..) {
            let expected = expected(&row).ok_or("a row without id or destination")?;
            let text = |name: &str| row.field(name).and_then(Field::text);
            let id = text("id").and_then(|id| Uuid::parse_str(id).ok());
            self.events.push(Event {
                id: id.ok_or("a row whose id is no UUID")?,
                aggregate: text("aggregate_id").map(str::to_owned),
                version: None,
                commit: Some(Commit {
                    after: self.last_end,
                    end,
                    ordinal,
                    time: time.clone(),
                }),
                expected: Some(expected),
            });
        }
        self.last_end = end;
        Ok(())
    }
}

/// `name[type]:value`, separated by spaces.
fn fields(mut rest: &str) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_text(quoted, '"')?,
            None => rest
                .find('[')
                .map(|at| (rest[..at].to_owned(), &rest[at..]))?,
        };
        let (kind, after) = after.strip_prefix('[')?.split_once("]:")?;
        let (value, after) = match after.strip_prefix('\'') {
            Some(quoted) => {
                let (text, after) = quoted_text(quoted, '\'')?;
                (Some(text), after)
            }
            None => {
                let end = after.find(' ').unwrap_or(after.len());
                let (bare, after) = after.split_at(end);
                ((bare != "null").then(|| bare.to_owned()), after)
            }
        };
        let kind = kind.to_owned();
        fields.push(Field { name, kind, value });
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    Some(fields)
}

/// Up to the closing quote, doubled ones inside; and what is behind it.
fn quoted_text(mut rest: &str, quote: char) -> Option<(String, &str)> {
    let mut text = String::new();
    loop {
        let (before, after) = rest.split_once(quote)?;
        text.push_str(before);
        match after.strip_prefix(quote) {
            Some(further) => {
                text.push(quote);
                rest = further;
            }
            None => return Some((text, after)),
        }
    }
}

/// `2026-01-31 12:00:00.25+00` in another spelling; the session's zone is UTC.
fn rfc3339(time: &str) -> Option<String> {
    let (date, rest) = time.strip_suffix("+00")?.split_once(' ')?;
    let (seconds, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    Some(format!("{date}T{seconds}.{fraction:0<6}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_becomes_events_with_its_commit() {
        let mut reader = Reader::new("public.outbox");
        let id = "00000000-0000-0000-0000-000000000007";
        let lines = [
            (1, "BEGIN 5"),
            (2, "table public.other: INSERT: id[integer]:1"),
            (3, "COMMIT 5 (at 2026-01-31 12:00:00+00)"),
            (3, "BEGIN 6"),
            (
                4,
                "table public.outbox: INSERT: id[uuid]:'00000000-0000-0000-0000-000000000007' \
                 destination[text]:'o''rders' aggregate_id[text]:'a b' event_type[text]:null \
                 payload[jsonb]:'{\"version\": 3}' headers[jsonb]:'{\"zz\": 1, \"aaa\": \"]: x\"}' \
                 \"odd [name]\"[timestamp with time zone]:'2026-01-31 12:00:00+00' n[integer]:7",
            ),
            (
                5,
                "table public.outbox: DELETE: id[uuid]:'00000000-0000-0000-0000-000000000007'",
            ),
            (9, "COMMIT 6 (at 2026-01-31 12:00:00.25+00)"),
        ];
        for (lsn, line) in lines {
            reader.line(Lsn(lsn), line).unwrap();
        }
        let events = reader.into_events();
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!(event.id.to_string(), id);
        assert_eq!(event.aggregate.as_deref(), Some("a b"));
        assert_eq!(
            event.commit,
            Some(Commit {
                after: Lsn(3),
                end: Lsn(9),
                ordinal: 0,
                time: Some("2026-01-31T12:00:00.250000Z".to_owned()),
            })
        );
        let expected = event.expected.as_ref().unwrap();
        assert_eq!(expected.topic, "o'rders");
        assert_eq!(expected.value.as_deref(), Some(&br#"{"version": 3}"#[..]));
        let headers = [("id", id), ("zz", "1"), ("aaa", "]: x")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(expected.headers, headers);
    }

    #[test]
    fn a_bytea_is_its_bytes_and_an_array_keeps_its_type() {
        let fields = fields(r"a[bytea]:'\x00ff' b[text[]]:'{x}' c[boolean]:true").unwrap();
        assert_eq!(fields[0].bytes(), Some(vec![0, 255]));
        assert_eq!(
            (fields[1].kind.as_str(), fields[1].text()),
            ("text[]", Some("{x}"))
        );
        assert_eq!(fields[2].text(), Some("true"));
    }

    #[test]
    fn what_can_not_be_read_is_an_error() {
        let mut reader = Reader::new("public.outbox");
        let line = "table public.outbox: INSERT: id[uuid]:'0";
        assert!(reader.line(Lsn(1), line).is_err());
    }
}
