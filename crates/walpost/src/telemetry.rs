//! Logs to stderr that never hold anybody up.
//!
//! A line goes into a bounded buffer, and a thread writes the buffer out. A reader of stderr that
//! stands still fills the buffer: from there on lines are dropped and counted, and the count is
//! logged when there is room again. At the end, [`flush`] waits for the buffer, but only for a
//! while.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing::{error, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::output;

/// Lines that wait to be written. A burst of some thousand lines fits.
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// How long the end of the process waits for a reader of stderr.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

static BUFFER: Buffer = Buffer::new();

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Whether lines are JSON.
    pub(crate) fn is_json(self) -> bool {
        match self {
            Self::Auto => !io::stderr().is_terminal(),
            Self::Pretty => false,
            Self::Json => true,
        }
    }
}

/// Which lines there are: a level, or levels by target, as `info,walpost_kafka=debug`.
#[derive(Clone, Debug)]
pub(crate) struct LogLevel(Targets);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected off, error, warn, info, debug or trace, or target=level";
        let level = |text: &str| match text.parse::<LevelFilter>() {
            Ok(level) if !text.is_empty() => Ok(level),
            _ => Err(expected.to_owned()),
        };
        let mut targets = Targets::new();
        for directive in text.split(',') {
            targets = match directive.split_once('=') {
                Some((target, text)) => targets.with_target(target, level(text)?),
                None => targets.with_default(level(directive)?),
            };
        }
        Ok(Self(targets))
    }
}

impl From<LevelFilter> for LogLevel {
    fn from(level: LevelFilter) -> Self {
        Self(Targets::new().with_default(level))
    }
}

/// Begins to log, for the life of the process.
pub(crate) fn start(format: LogFormat, level: LogLevel) -> io::Result<()> {
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(|| BUFFER.write_out(&mut io::stderr()))?;
    let registry = tracing_subscriber::registry().with(level.0);
    let lines = tracing_subscriber::fmt::layer().with_writer(Stderr);
    if format.is_json() {
        let json = lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        registry.with(json).init();
    } else {
        let color = output::color(&io::stderr());
        registry
            .with(lines.with_target(false).with_ansi(color))
            .init();
    }
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// Puts a plain line among the log's lines.
pub(crate) fn print(line: &str) {
    BUFFER.push(format!("{line}\n").as_bytes());
}

/// Waits until everything is written, or the reader of stderr has stood still for a second.
pub(crate) fn flush() {
    BUFFER.flush(FLUSH_DEADLINE);
}

/// Logs first: the process aborts after it.
fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    error!(
        location = info.location().map(ToString::to_string),
        thread = std::thread::current().name(),
        backtrace = is_captured.then(|| backtrace.to_string()),
        "a bug: {}",
        info.payload_as_str().unwrap_or("panicked")
    );
    flush();
}

/// Where the log's lines go.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

/// Takes a whole line at a time.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BUFFER.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Buffer {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    bytes: Vec<u8>,
    /// Lines that found no room since the last report.
    dropped: u64,
    /// The thread has taken bytes that are not written yet.
    writing: bool,
}

impl Buffer {
    const fn new() -> Self {
        let state = State {
            bytes: Vec::new(),
            dropped: 0,
            writing: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes.len() + line.len() > BUFFER_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        state.bytes.extend_from_slice(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Writes lines out, for ever. What can't be written has no reader.
    fn write_out(&self, out: &mut impl Write) {
        let mut bytes = Vec::new();
        loop {
            let dropped = self.take(&mut bytes);
            // No one is there to be told that no one is there.
            let _ = out.write_all(&bytes).and_then(|()| out.flush());
            bytes.clear();
            self.lock().writing = false;
            self.changed.notify_all();
            if dropped > 0 {
                warn!(
                    dropped,
                    "log lines were dropped: stderr was not read fast enough"
                );
            }
        }
    }

    /// Waits for lines and swaps them in.
    fn take(&self, bytes: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        while state.bytes.is_empty() {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        std::mem::swap(&mut state.bytes, bytes);
        std::mem::take(&mut state.dropped)
    }

    fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while state.writing || !state.bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_level_or_levels_by_target_are_taken_and_misspellings_are_not() {
        for text in ["info", "off", "warn,walpost_kafka=debug"] {
            assert!(text.parse::<LogLevel>().is_ok(), "{text}");
        }
        for text in ["inof", "", "walpost_kafka=loud", "info,"] {
            assert!(text.parse::<LogLevel>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_costs_lines() {
        static BUFFER: Buffer = Buffer::new();
        let (sender, written) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        std::thread::spawn(move || BUFFER.write_out(&mut Gated { gate, sender }));
        let line = [b'x'; 1024];
        let lines = 2 * BUFFER_BYTES_MAX / line.len() + 2;
        for _ in 0..lines {
            BUFFER.push(&line);
        }
        let dropped = BUFFER.lock().dropped;
        assert!(dropped > 0 && dropped < lines as u64, "{dropped}");
        let begun = Instant::now();
        BUFFER.flush(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(5));
        drop(open);
        BUFFER.flush(Duration::from_secs(10));
        let bytes: usize = written.try_iter().sum();
        assert_eq!(
            bytes,
            (lines - usize::try_from(dropped).unwrap()) * line.len()
        );
    }

    /// Writes nothing until the gate's other end is dropped.
    struct Gated {
        gate: mpsc::Receiver<()>,
        sender: mpsc::Sender<usize>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.gate.recv().expect_err("nothing is ever sent");
            let sent = self.sender.send(bytes.len());
            sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
