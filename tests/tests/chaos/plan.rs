//! What a seed draws.

use std::{collections::HashSet, fmt, mem, time::Duration};

use walpost_tests::Direction;

/// One run, before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How long the writers write.
    pub(crate) lasts: Duration,
    /// The major version, where its binaries are there.
    pub(crate) postgres: u32,
    /// 1, or 3 with as many replicas.
    pub(crate) brokers: usize,
    pub(crate) partitions: i32,
    /// `delivery.in_flight_events`.
    pub(crate) window: usize,
    /// Address space of the relay, in KiB.
    pub(crate) memory: Option<u64>,
    pub(crate) blows: Vec<Blow>,
}

/// One fault.
#[derive(Clone, Debug)]
pub(crate) struct Blow {
    /// After the start of the load.
    pub(crate) at: Duration,
    /// Until it is healed.
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; another one is started.
    RelayKilled,
    /// SIGTERM; another one is started.
    RelayStopped,
    RelayFrozen,
    /// A standby on the same slot, for a while. It takes over when the other one loses the slot.
    SecondRelay,
    /// SIGKILL: the server restarts all of its processes.
    WalsenderKilled,
    WalsenderEnded,
    WalsenderFrozen,
    /// SIGKILL for all processes.
    PostgresKilled,
    PostgresStoppedFast,
    PostgresStoppedAtOnce,
    PostgresFrozen,
    BrokerKilled(usize),
    BrokerStopped(usize),
    BrokerFrozen(usize),
    Way(Way, Trouble),
    TopicGrown,
    ColumnAdded,
    /// The spare publication has to take its place.
    PublicationRemade,
    /// Holds back the slot's `restart_lsn`.
    LongTransaction,
    LargeTransaction(usize),
    /// Committed in two phases.
    PreparedTransaction,
    /// Nobody can write it.
    CheckpointLocked,
}

/// A connection that goes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Postgres,
    Broker(usize),
    Writers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Cut,
    Reset,
    Refused,
    Down,
    Stalled,
    BlackHole(Direction),
    Delayed(Duration),
    Trickling(usize),
    Split(usize),
}

/// What can have one fault at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Relay,
    Postgres,
    Broker(usize),
    Way(Way),
    Topic,
    Table,
    Publication,
    LongTransaction,
    LargeTransaction,
    PreparedTransaction,
    SecondRelay,
    Checkpoint,
}

impl Plan {
    pub(crate) fn draw(seed: u64, lasts: Duration) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let brokers = if random.u8(..10) < 3 { 3 } else { 1 };
        let mut plan = Self {
            seed,
            lasts,
            postgres: if random.u8(..10) < 4 { 18 } else { 15 },
            brokers,
            partitions: random.i32(1..=8),
            window: *random.choice(&[20, 500, 5000]).expect("there are some"),
            memory: (random.u8(..3) == 0).then_some(MEMORY),
            blows: Vec::new(),
        };
        // Each run has some kinds of faults and not others: what is drowned out by one shows
        // without it.
        let kinds: Vec<u8> = (0..KINDS).filter(|_| random.u8(..10) < 6).collect();
        let count = random.usize(8..=14);
        while plan.blows.len() < count {
            let kind = random.u8(..KINDS);
            if kinds.contains(&kind) || kinds.len() < 4 {
                plan.blows
                    .push(draw_blow(kind, brokers, lasts, &mut random));
            }
        }
        plan.blows.sort_by_key(|blow| blow.at);
        plan
    }

    pub(crate) fn largest_transaction(&self) -> usize {
        let mut largest = 0;
        for blow in &self.blows {
            if let Fault::LargeTransaction(rows) = blow.fault {
                largest = largest.max(rows);
            }
        }
        largest.max(PREPARED_ROWS)
    }
}

fn draw_blow(kind: u8, brokers: usize, run: Duration, random: &mut fastrand::Rng) -> Blow {
    let broker = random.usize(..brokers);
    let (fault, shortest, longest) = match kind {
        0 | 1 => (Fault::RelayKilled, 0, 3000),
        2 => (Fault::RelayStopped, 0, 1000),
        3 => (Fault::RelayFrozen, 500, 18_000),
        4 => (Fault::WalsenderKilled, 0, 0),
        5 => (Fault::WalsenderEnded, 0, 0),
        6 => (Fault::WalsenderFrozen, 500, 8000),
        7 | 8 => (Fault::PostgresKilled, 0, 3000),
        9 => (Fault::PostgresStoppedFast, 0, 2000),
        10 => (Fault::PostgresStoppedAtOnce, 0, 2000),
        11 => (Fault::PostgresFrozen, 500, 8000),
        12 | 13 => (Fault::BrokerKilled(broker), 0, 5000),
        14 => (Fault::BrokerStopped(broker), 0, 3000),
        15 => (Fault::BrokerFrozen(broker), 500, 15_000),
        // Long enough for the relay to park.
        16 => (Fault::BrokerFrozen(broker), 22_000, 26_000),
        17 => (Fault::TopicGrown, 0, 0),
        18 => (Fault::ColumnAdded, 0, 0),
        19 => (Fault::LongTransaction, 5000, 30_000),
        20 => {
            let rows = random.usize(1000..=8000);
            (Fault::LargeTransaction(rows), 0, 0)
        }
        21 => (Fault::CheckpointLocked, 500, 6000),
        22 => (Fault::PublicationRemade, 500, 4000),
        23 => (Fault::PreparedTransaction, 0, 6000),
        24 => (Fault::SecondRelay, 5000, 40_000),
        _ => {
            let way = match random.u8(..10) {
                0..=4 => Way::Postgres,
                5..=8 => Way::Broker(broker),
                _ => Way::Writers,
            };
            (Fault::Way(way, draw_trouble(way, random)), 300, 9000)
        }
    };
    let longest = longest.min(millis(run) / 2);
    let lasts = random.u64(shortest.min(longest)..=longest);
    let last = (millis(run) * 9 / 10).saturating_sub(lasts).max(1000);
    Blow {
        at: Duration::from_millis(random.u64(500..=last)),
        lasts: Duration::from_millis(lasts),
        fault,
    }
}

fn draw_trouble(way: Way, random: &mut fastrand::Rng) -> Trouble {
    if way == Way::Writers {
        // What a writer waits for, it waits for: only the answer to a commit is of interest.
        return Trouble::Cut;
    }
    match random.u8(..10) {
        0 => Trouble::Cut,
        1 => Trouble::Reset,
        2 => Trouble::Refused,
        3 => Trouble::Down,
        4 => Trouble::Stalled,
        5 => Trouble::BlackHole(Direction::ToServer),
        6 => Trouble::BlackHole(Direction::ToClient),
        7 => Trouble::Delayed(Duration::from_millis(random.u64(5..=1500))),
        8 => Trouble::Trickling(random.usize(2000..=60_000)),
        _ => Trouble::Split(random.usize(1..=7)),
    }
}

impl Fault {
    /// Whether nothing may be put on record meanwhile: what is delivered comes again.
    pub(crate) fn hinders_records(self) -> bool {
        let target = self.target();
        [
            Target::Postgres,
            Target::Checkpoint,
            Target::Way(Way::Postgres),
        ]
        .contains(&target)
    }

    pub(crate) fn target(self) -> Target {
        match self {
            Self::RelayKilled | Self::RelayStopped | Self::RelayFrozen => Target::Relay,
            Self::WalsenderKilled
            | Self::WalsenderEnded
            | Self::WalsenderFrozen
            | Self::PostgresKilled
            | Self::PostgresStoppedFast
            | Self::PostgresStoppedAtOnce
            | Self::PostgresFrozen => Target::Postgres,
            Self::BrokerKilled(one) | Self::BrokerStopped(one) | Self::BrokerFrozen(one) => {
                Target::Broker(one)
            }
            Self::Way(way, _) => Target::Way(way),
            Self::TopicGrown => Target::Topic,
            Self::ColumnAdded => Target::Table,
            Self::PublicationRemade => Target::Publication,
            Self::LongTransaction => Target::LongTransaction,
            Self::LargeTransaction(_) => Target::LargeTransaction,
            Self::PreparedTransaction => Target::PreparedTransaction,
            Self::SecondRelay => Target::SecondRelay,
            Self::CheckpointLocked => Target::Checkpoint,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            lasts,
            postgres,
            brokers,
            partitions,
            window,
            memory,
            blows,
        } = self;
        writeln!(
            f,
            "seed {seed}: {lasts:?}, Postgres {postgres}, {brokers} brokers, \
             {partitions} partitions, a window of {window}, memory {memory:?} KiB, {} faults",
            blows.len()
        )?;
        for Blow { at, lasts, fault } in blows {
            writeln!(f, "  after {at:>9.3?} for {lasts:>9.3?}: {fault:?}")?;
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("no run lasts for ages")
}

/// Rows of a transaction that is prepared.
pub(crate) const PREPARED_ROWS: usize = 50;
/// What [`draw_blow`] knows, with the ways counted four times.
const KINDS: u8 = 29;
/// 1 GiB: what it has mapped, not what it uses.
const MEMORY: u64 = 1 << 20;

#[test]
fn a_seed_draws_the_same_plan_each_time_and_at_least_eight_faults() {
    let minute = Duration::from_secs(60);
    for seed in 0..50 {
        let plan = Plan::draw(seed, minute);
        assert_eq!(plan.to_string(), Plan::draw(seed, minute).to_string());
        assert!(plan.blows.len() >= 8, "{plan}");
        let ends = plan.blows.iter().map(|blow| blow.at + blow.lasts);
        assert!(ends.max() <= Some(minute), "{plan}");
    }
}

#[test]
fn every_kind_of_fault_is_drawn() {
    let plans = (0..200).map(|seed| Plan::draw(seed, Duration::from_secs(60)));
    let blows = plans.flat_map(|plan| plan.blows);
    let mut faults = HashSet::new();
    let mut troubles = HashSet::new();
    for blow in blows {
        faults.insert(mem::discriminant(&blow.fault));
        if let Fault::Way(_, trouble) = blow.fault {
            troubles.insert(mem::discriminant(&trouble));
        }
    }
    assert_eq!((faults.len(), troubles.len()), (22, 9));
}
