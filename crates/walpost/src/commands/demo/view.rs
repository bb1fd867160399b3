//! What the demo prints: one block for each record, as a consumer sees it.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use walpost_kafka::ConsumedRecord;

use crate::output;

/// Columns of a line of headers: of a terminal that is a little wider than the usual 80.
const COLUMNS: usize = 100;

/// Columns of the labels in front.
const LABEL: usize = 11;

/// Characters of a key, a header or a value that are shown.
const SHOWN_MAX: usize = 2_000;

/// Latencies up to this are what one expects on one machine.
const FAST: Duration = Duration::from_millis(20);

/// Latencies up to this are still nothing that a person notices.
const FAIR: Duration = Duration::from_millis(200);

/// A record and when it was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub record: ConsumedRecord,
    pub at: SystemTime,
}

/// Prints, and keeps the count and the latencies.
pub(super) struct View {
    colour: bool,
    terminal: bool,
    records: u64,
    latencies_us: Vec<i64>,
}

impl View {
    /// Colours on a terminal that wants them.
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        Self {
            colour: output::color(&stdout),
            terminal: stdout.is_terminal(),
            records: 0,
            latencies_us: Vec::new(),
        }
    }

    /// Prints text that is no record. Markup: a line that ends with a colon is a heading.
    pub(super) fn print(&self, text: &str) -> io::Result<()> {
        let mut out = String::new();
        for line in text.lines() {
            let style = if line.ends_with(':') {
                Style::Bold
            } else {
                Style::Plain
            };
            let _ = writeln!(out, "{}", self.painted(style, line));
        }
        write_out(&out)
    }

    /// Prints a remark in between.
    pub(super) fn note(&self, text: &str) -> io::Result<()> {
        write_out(&format!("{}\n", self.painted(Style::Dim, text)))
    }

    /// Prints and counts one record.
    pub(super) fn record(&mut self, seen: &Seen) -> io::Result<()> {
        let latency_us = latency_us(seen);
        self.records += 1;
        self.latencies_us.extend(latency_us);
        write_out(&self.block(&seen.record, latency_us))
    }

    /// How many records were printed.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Prints one line about all of it.
    pub(super) fn end(&mut self) -> io::Result<()> {
        // The terminal has put ^C at the beginning of the line.
        let start = if self.terminal { "\n" } else { "" };
        let summary = self.summary();
        write_out(start)?;
        self.note(&summary)
    }

    fn summary(&mut self) -> String {
        let records = match self.records {
            0 => return "no records seen".to_owned(),
            1 => "1 record seen".to_owned(),
            count => format!("{count} records seen"),
        };
        match median(&mut self.latencies_us) {
            Some(median) => format!("{records}, median latency {} ms", milliseconds(median)),
            None => records,
        }
    }

    fn block(&self, record: &ConsumedRecord, latency_us: Option<i64>) -> String {
        let mut out = String::new();
        let place = format!(
            "{}[{}]@{}",
            shown(record.topic.as_bytes()),
            record.partition,
            record.offset
        );
        let after = match latency_us {
            Some(latency) => {
                let text = format!("{} ms after its commit", milliseconds(latency));
                self.painted(Style::of_latency(latency), &text)
            }
            None => self.painted(Style::Dim, "not by walpost: no walpost-commit-time"),
        };
        let _ = writeln!(out, "{}  {after}", self.painted(Style::Bold, &place));
        let _ = writeln!(out, "{}{}", self.label("key"), bytes(record.key.as_deref()));
        let mut label = "headers";
        for line in
            wrapped(record.headers.iter().map(|(name, value)| {
                format!("{}={}", shown(name.as_bytes()), bytes(value.as_deref()))
            }))
        {
            let _ = writeln!(out, "{}{line}", self.label(label));
            label = "";
        }
        let _ = writeln!(
            out,
            "{}{}\n",
            self.label("value"),
            bytes(record.value.as_deref())
        );
        out
    }

    fn label(&self, name: &str) -> String {
        self.painted(Style::Dim, &format!("{:LABEL$}", format!("  {name}")))
    }

    fn painted(&self, style: Style, text: &str) -> String {
        match style.code() {
            Some(code) if self.colour && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

impl Style {
    fn of_latency(latency_us: i64) -> Self {
        let latency = Duration::from_micros(latency_us.unsigned_abs());
        if latency <= FAST {
            Self::Green
        } else if latency <= FAIR {
            Self::Yellow
        } else {
            Self::Red
        }
    }

    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Green => Some("32"),
            Self::Yellow => Some("33"),
            Self::Red => Some("31"),
        }
    }
}

/// From the commit to the consumer, by two clocks that are one where Postgres is on this machine.
/// Negative where its clock is ahead.
fn latency_us(seen: &Seen) -> Option<i64> {
    let (_, value) = seen
        .record
        .headers
        .iter()
        .find(|(name, _)| name == "walpost-commit-time")?;
    let text = std::str::from_utf8(value.as_deref()?).ok()?;
    let committed: Timestamp = text.parse().ok()?;
    let now = i64::try_from(seen.at.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
    now.checked_sub(committed.as_microsecond())
}

fn median(values: &mut [i64]) -> Option<i64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}

/// Two digits that matter are enough: `0.87`, `4.2`, `130`.
fn milliseconds(latency_us: i64) -> String {
    let tenths = latency_us.unsigned_abs() / 100;
    let sign = if latency_us < 0 { "-" } else { "" };
    if tenths < 100 {
        format!("{sign}{}.{}", tenths / 10, tenths % 10)
    } else {
        format!("{sign}{}", tenths / 10)
    }
}

fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(bytes) => shown(bytes),
    }
}

/// As text on one line, without anything that a terminal would obey: a topic holds what others have
/// put into it.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for (index, char) in text.chars().enumerate() {
        if index == SHOWN_MAX {
            let _ = write!(out, "... ({} bytes in all)", bytes.len());
            break;
        }
        if char.is_control() || is_invisible(char) {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// Marks that change the direction or join of other characters.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// Joins items to lines that are as long as they may be.
fn wrapped(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        let width = |text: &str| text.chars().count();
        match lines.last_mut() {
            Some(line) if LABEL + width(line) + 2 + width(&item) <= COLUMNS => {
                line.push_str("  ");
                line.push_str(&item);
            }
            _ => lines.push(item),
        }
    }
    lines
}

fn write_out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ConsumedRecord {
        let header = |name: &str, value: &[u8]| (name.to_owned(), Some(value.to_owned()));
        ConsumedRecord {
            topic: "orders".to_owned(),
            partition: 2,
            offset: 14,
            timestamp_ms: Some(0),
            key: Some(b"11111111-2222-3333-4444-555555555555".to_vec()),
            headers: vec![
                header("id", b"11111111-2222-3333-4444-555555555555"),
                header("type", b"OrderPaid"),
                ("none".to_owned(), None),
                header("walpost-position", b"00000000016B3748/0000000C"),
                header("walpost-commit-time", b"2026-01-02T03:04:05.000000Z"),
            ],
            value: Some(br#"{"total": 1}"#.to_vec()),
        }
    }

    fn seen(record: ConsumedRecord, after: Duration) -> Seen {
        // 2026-01-02T03:04:05Z
        let at = UNIX_EPOCH + Duration::from_secs(1_767_323_045) + after;
        Seen { record, at }
    }

    fn plain() -> View {
        View {
            colour: false,
            terminal: false,
            records: 0,
            latencies_us: Vec::new(),
        }
    }

    #[test]
    fn a_record_is_one_block() {
        let seen = seen(record(), Duration::from_micros(2_345));
        let block = plain().block(&seen.record, latency_us(&seen));
        let expected = "\
orders[2]@14  2.3 ms after its commit
  key      11111111-2222-3333-4444-555555555555
  headers  id=11111111-2222-3333-4444-555555555555  type=OrderPaid  none=null
           walpost-position=00000000016B3748/0000000C
           walpost-commit-time=2026-01-02T03:04:05.000000Z
  value    {\"total\": 1}

";
        assert_eq!(block, expected);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let mut record = record();
        record.value = Some(b"a\x1b[2Jb\nc\xff".to_vec());
        record.key = Some("x\u{202e}y".into());
        let block = plain().block(&record, None);
        assert!(
            block.contains("  value    a\\u{1b}[2Jb\\nc\u{fffd}\n"),
            "{block}"
        );
        assert!(block.contains("  key      x\\u{202e}y\n"), "{block}");
    }

    #[test]
    fn a_long_value_is_cut_and_its_size_told() {
        let shown = shown(&[b'x'; 5_000]);
        assert!(shown.ends_with("x... (5000 bytes in all)"));
        assert!(shown.len() < 2_100);
    }

    #[test]
    fn a_record_of_somebody_else_has_no_latency() {
        let mut foreign = record();
        foreign.headers.clear();
        foreign.key = None;
        let seen = seen(foreign, Duration::ZERO);
        assert_eq!(latency_us(&seen), None);
        let block = plain().block(&seen.record, None);
        assert!(block.contains("  key      null\n"), "{block}");
        assert!(block.contains("not by walpost"), "{block}");
    }

    #[test]
    fn colours_are_only_added() {
        let colourful = View {
            colour: true,
            ..plain()
        };
        let block = colourful.block(&record(), Some(1_000));
        assert!(
            block.starts_with("\x1b[1morders[2]@14\x1b[0m  \x1b[32m1.0 ms"),
            "{block}"
        );
    }

    #[test]
    fn latencies_have_two_digits_that_matter() {
        for (us, expected) in [
            (0, "0.0"),
            (870, "0.8"),
            (4_290, "4.2"),
            (130_999, "130"),
            (-1_500, "-1.5"),
        ] {
            assert_eq!(milliseconds(us), expected);
        }
    }

    #[test]
    fn the_summary_has_the_median() {
        let mut view = plain();
        assert_eq!(view.summary(), "no records seen");
        for us in [9_000, 1_000, 2_500] {
            view.records += 1;
            view.latencies_us.push(us);
        }
        assert_eq!(view.summary(), "3 records seen, median latency 2.5 ms");
    }
}
