//! What a row has to become, and the comparison with its records.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    decoding::{Field, Row},
    history::{Commit, Expected, Lsn},
    order::{Arrival, Facts},
    record::Record,
    verdict::{Kind, Verdict},
};

/// The record of a row of the default layout, as the README describes it; `None` where the row has
/// no id or no destination.
pub fn expected(row: &Row) -> Option<Expected> {
    let text = |name: &str| row.field(name).and_then(Field::text);
    let id = text("id")?;
    let mut headers = vec![("id".to_owned(), id.to_owned())];
    headers.extend(text("event_type").map(|kind| ("type".to_owned(), kind.to_owned())));
    if let Some(own) = text("headers") {
        headers.extend(flat(own)?);
    }
    Some(Expected {
        topic: text("destination")?.to_owned(),
        key: id.as_bytes().to_owned(),
        value: row.field("payload").and_then(Field::bytes),
        headers,
    })
}

/// A flat JSON object as headers, in its order: strings plainly, anything else as JSON.
fn flat(json: &str) -> Option<Vec<(String, String)>> {
    let Pairs(pairs) = serde_json::from_str(json).ok()?;
    let headers = pairs.into_iter().map(|(name, value)| {
        let text = value.as_str().map(str::to_owned);
        (name, text.unwrap_or_else(|| value.to_string()))
    });
    Some(headers.collect())
}

/// The members of a JSON object in their order, which a map would lose.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

pub(crate) fn judge(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut positions: BTreeMap<Uuid, &str> = BTreeMap::new();
    for Arrival { record, fact } in &facts.arrivals {
        let event = fact.event;
        if let Some(expected) = &event.expected {
            compare(event.id, expected, record, verdict);
        }
        if let Some(commit) = &event.commit {
            let position = record.header(POSITION).unwrap_or_default();
            let first = *positions.entry(event.id).or_insert(position);
            let wrong = wrong_stamp(commit, record)
                .or_else(|| (position != first).then(|| format!("{position} and {first}")));
            if let Some(wrong) = wrong {
                let what = format!("{}, {}: {wrong}", event.id, record.place());
                verdict.add(Kind::Stamp, what);
            }
        }
    }
}

fn compare(id: Uuid, expected: &Expected, record: &Record, verdict: &mut Verdict) {
    let mut add = |kind| verdict.add(kind, format!("{id}, {}", record.place()));
    if record.topic != expected.topic {
        add(Kind::Topic);
    }
    if record.key.as_ref() != Some(&expected.key) {
        add(Kind::Key);
    }
    if record.value != expected.value {
        add(Kind::Value);
    }
    let own = record
        .headers
        .iter()
        .filter(|(name, _)| name != POSITION && name != TIME);
    let as_expected = expected
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), Some(value.as_bytes())));
    if !own
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .eq(as_expected)
    {
        add(Kind::Headers);
    }
}

/// The position names the start of the commit's record: behind the commit before, and before its
/// own end.
fn wrong_stamp(commit: &Commit, record: &Record) -> Option<String> {
    let text = record.header(POSITION).unwrap_or_default();
    let parsed = text.split_once('/').and_then(|(lsn, ordinal)| {
        let lsn = u64::from_str_radix(lsn, 16).ok()?;
        Some((Lsn(lsn), u32::from_str_radix(ordinal, 16).ok()?))
    });
    let Some((start, ordinal)) = parsed else {
        return Some(format!("{text:?} is no position"));
    };
    if !(commit.after <= start && start < commit.end) || ordinal != commit.ordinal {
        let Commit {
            after,
            end,
            ordinal,
            ..
        } = commit;
        return Some(format!(
            "{text} is not event {ordinal} of a commit between {after} and {end}"
        ));
    }
    let told = record.header(TIME);
    if commit.time.is_some() && told != commit.time.as_deref() {
        return Some(format!("committed at {told:?} and at {:?}", commit.time));
    }
    None
}

const POSITION: &str = "walpost-position";
const TIME: &str = "walpost-commit-time";
