//! `walpost-witness`: has what was committed arrived? For a database and topics of anybody's.
//!
//! `begin` makes a slot that remembers every commit from then on. `judge`, at any time later,
//! compares it with the topics, after it has watched the relay for a while (`--watch`). `end` drops
//! the slot.

use std::{
    io::{self, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use walpost_witness::{History, Kind, Ledger, Rules, Sample, Sampler, Topics, Witness, judge};

/// Judges from outside whether what was committed to an outbox arrived in Kafka. It shares no code
/// with walpost: it reads another slot, with Postgres' own test_decoding, and the topics.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the witness slot: from now on it remembers every commit, and keeps the WAL of them
    Begin(Slot),
    /// Compares what the witness slot has seen with what the topics hold
    Judge(Judge),
    /// Drops the witness slot
    End(Slot),
}

#[derive(Args, Debug)]
struct Slot {
    /// The database: postgresql://… (no TLS: over loopback, a tunnel or a Unix socket)
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// The witness slot
    #[arg(long, value_name = "NAME", default_value = "walpost_witness")]
    witness: String,
}

#[derive(Args, Debug)]
struct Judge {
    #[command(flatten)]
    slot: Slot,
    /// Brokers to ask first: host:port,…
    #[arg(long, value_name = "LIST")]
    brokers: String,
    /// A topic that the outbox goes to; once for each. They have to be empty at `begin`
    #[arg(long = "topic", value_name = "NAME", required = true)]
    topics: Vec<String>,
    /// A further property of librdkafka: security.protocol=ssl
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// The outbox, as SQL quotes it
    #[arg(long, value_name = "TABLE", default_value = "public.outbox")]
    table: String,
    /// A table with a column `id uuid` that the writers fill in the same transactions. With the
    /// columns `aggregate text` and `version bigint`, counted under a lock of the aggregate's row,
    /// the order of each aggregate is judged by them too
    #[arg(long, value_name = "TABLE")]
    ledger: Option<String>,
    /// The relay's slot, to watch what it confirms
    #[arg(long, value_name = "NAME", default_value = "walpost")]
    relay: String,
    /// So long: watch every 50 ms what is confirmed beside where the topics end
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    watch: u64,
    /// So long: wait until everything has arrived. Nobody should write meanwhile
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    within: u64,
    /// The most repeats that are allowed
    #[arg(long, value_name = "COUNT")]
    duplicates: Option<usize>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Begin(slot) => slot.witness().begin().map_err(told).map(|()| true),
        Command::End(slot) => slot.witness().end().map_err(told).map(|()| true),
        Command::Judge(judge) => judge.run(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Without a stderr nobody is there to be told.
            writeln!(io::stderr(), "walpost-witness: {error}").ok();
            ExitCode::from(69)
        }
    }
}

impl Slot {
    fn witness(&self) -> Witness {
        Witness::new(&self.postgres, &self.witness)
    }
}

impl Judge {
    /// Whether nothing was found.
    fn run(&self) -> Result<bool, String> {
        let topics = Topics::new(&self.brokers, &self.topics, &self.properties);
        let url = &self.slot.postgres;
        let mut sampler = Sampler::new(url, &self.relay, topics.clone());
        let mut watched = Watched::default();
        watched.watch(&mut sampler, Duration::from_secs(self.watch));
        let until = Instant::now() + Duration::from_secs(self.within);
        loop {
            let ledger = self.ledger.as_ref().map(|table| Ledger::new(url, table));
            let ledger = ledger.map(|ledger| ledger.events()).transpose();
            watched.look(&mut sampler);
            let history = History {
                lines: vec![self.slot.witness().events(&self.table)?],
                ledger: ledger.map_err(told)?,
                records: topics.read(READ_DEADLINE)?,
                samples: watched.samples()?,
                caught_up: Some(true),
                rules: Rules {
                    duplicates_max: self.duplicates,
                    late_repeats: true,
                    ..Rules::default()
                },
                ..History::default()
            };
            let verdict = judge(&history);
            let may_pass = |kind| matches!(kind, Kind::Lost | Kind::NotConfirmed);
            let waits = verdict.anomalies.iter().all(|found| may_pass(found.kind));
            if verdict.is_clean() || !waits || Instant::now() >= until {
                let said = writeln!(io::stdout(), "{verdict}");
                said.map_err(|error| format!("write the verdict: {error}"))?;
                return Ok(verdict.is_clean());
            }
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// What was seen of the relay. Servers may go away in between.
#[derive(Default)]
struct Watched {
    samples: Vec<Sample>,
    fault: String,
}

impl Watched {
    fn look(&mut self, sampler: &mut Sampler) {
        match sampler.sample() {
            Ok(sample) => self.samples.push(sample),
            Err(fault) => self.fault = fault,
        }
    }

    fn watch(&mut self, sampler: &mut Sampler, duration: Duration) {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.look(sampler);
            thread::sleep(SAMPLE_INTERVAL);
        }
    }

    /// At least one, or nothing would be known of what the relay confirms.
    fn samples(&self) -> Result<Vec<Sample>, String> {
        if self.samples.is_empty() {
            return Err(format!("the relay can't be watched: {}", self.fault));
        }
        Ok(self.samples.clone())
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn told(error: postgres::Error) -> String {
    match error.as_db_error() {
        Some(reported) => format!("Postgres: {}", reported.message()),
        None => format!("Postgres: {error}"),
    }
}

/// For everything that the topics hold.
const READ_DEADLINE: Duration = Duration::from_secs(600);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
