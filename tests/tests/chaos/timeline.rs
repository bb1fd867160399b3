//! What happened when, from all sides, for people.

use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use walpost_witness::Sample;

use crate::repeats::time_of;

/// Notes of one run. Taken from several threads.
#[derive(Debug)]
pub(crate) struct Timeline {
    began: SystemTime,
    notes: Mutex<Vec<Note>>,
}

#[derive(Clone, Debug)]
struct Note {
    at: SystemTime,
    who: String,
    what: String,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self {
            began: SystemTime::now(),
            notes: Mutex::default(),
        }
    }

    pub(crate) fn note(&self, who: &str, what: impl Into<String>) {
        self.note_at(SystemTime::now(), who, what.into());
    }

    /// The lines of a relay's log, each with its own time.
    pub(crate) fn note_log(&self, who: &str, log: &str) {
        for line in log.lines() {
            let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
                self.note(who, format!("(not JSON) {line}"));
                continue;
            };
            let time = fields.remove("timestamp");
            let at = time.as_ref().and_then(Value::as_str).and_then(instant);
            let text = |value: Option<Value>| match value {
                Some(Value::String(text)) => text,
                other => other.map(|value| value.to_string()).unwrap_or_default(),
            };
            let level = text(fields.remove("level"));
            let message = text(fields.remove("message"));
            fields.remove("target");
            let rest = Value::Object(fields).to_string();
            let at = at.unwrap_or(self.began);
            self.note_at(at, who, format!("{level} {message} {rest}"));
        }
    }

    /// What a server's log says of trouble and of streams, each line with its own time.
    pub(crate) fn note_postgres(&self, log: &str) {
        let words = [
            "FATAL:",
            "PANIC:",
            "ERROR:",
            "WARNING:",
            "REPLICATION",
            "shut down",
            "ready to",
        ];
        let noise = [
            "starting up",
            "shutting down",
            "recovery mode",
            "not yet accepting",
            "STATEMENT:",
        ];
        for line in log.lines() {
            let at = time_of(line);
            if let Some(at) = at
                && words.iter().any(|word| line.contains(word))
                && !noise.iter().any(|word| line.contains(word))
            {
                let (_, what) = line.split_once("] ").unwrap_or(("", line));
                self.note_at(at, "postgres", what.to_owned());
            }
        }
    }

    /// What was sampled, about once a second.
    pub(crate) fn note_samples(&self, samples: &[Sample]) {
        let mut last = i64::MIN;
        for Sample {
            confirmed,
            ends,
            at_ms,
        } in samples
        {
            if *at_ms < last.saturating_add(1000) {
                continue;
            }
            last = *at_ms;
            let records: i64 = ends.values().sum();
            let since = Duration::from_millis(u64::try_from(*at_ms).unwrap_or_default());
            let what = format!("{confirmed} confirmed, {records} records in Kafka");
            self.note_at(SystemTime::UNIX_EPOCH + since, "sample", what);
        }
    }

    /// Everything in the order of time.
    pub(crate) fn text(&self) -> String {
        let mut notes = self.notes().clone();
        notes.sort_by_key(|note| note.at);
        let mut text = String::new();
        for Note { at, who, what } in notes {
            let since = at.duration_since(self.began).unwrap_or_default();
            let seconds = since.as_secs_f64();
            writeln!(text, "{seconds:>8.3} {who:<10} {what}").expect("a String takes everything");
        }
        text
    }

    fn note_at(&self, at: SystemTime, who: &str, what: String) {
        let who = who.to_owned();
        self.notes().push(Note { at, who, what });
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Vec<Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time of RFC 3339 in UTC.
pub(crate) fn instant(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let seconds = time
        .split(':')
        .try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i64>().ok()?))?;
    // Days since 1970, after Howard Hinnant's days_from_civil.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = u64::try_from(days * 86_400 + seconds).ok()?;
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}

#[test]
fn a_time_of_a_log_is_an_instant() {
    let at = instant("2026-11-27T04:19:13.25Z").unwrap();
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(since, Duration::from_millis(1_795_753_153_250));
}
