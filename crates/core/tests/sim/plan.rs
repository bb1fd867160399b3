//! What a seed draws before it starts: sizes, speeds, and which kinds of faults it may meet. A run
//! with few kinds of faults gets further into each of them than one with all.

use std::time::Duration;

use fastrand::Rng;
use walpost_core::Format;
use walpost_core::limits::WindowLimits;

/// Some payloads are so many times larger than the others.
pub(crate) const LARGE: usize = 8;

/// What a record counts for where sizes are compared, in bytes; one that is bulky counts for more,
/// and is too large for the producer until the topics have told what they take.
pub(crate) const RECORD_BYTES: usize = 1_000;
pub(crate) const BULKY_BYTES: usize = 8 * RECORD_BYTES;
/// The producer's limit for a record, as it is configured.
pub(crate) const RECORD_BYTES_MAX: usize = 5 * RECORD_BYTES;

/// The headers that a dead letter has more, in bytes.
pub(crate) const LETTER_BYTES_MAX: usize = 500;

/// A kind of fault, or of unusual behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Postgres crashes: the slot goes back to what it had on disk.
    Crash,
    /// `pg_ctl stop -m fast`.
    FastShutdown,
    /// The replication connection breaks.
    LinkCut,
    /// The network loses the replication connection, and says nothing.
    BlackHole,
    /// The stream ends with an error in the middle of what is read at once.
    StreamError,
    /// Commits reach the disk later; a crash takes those back that did not.
    AsyncCommit,
    /// Keepalives inside transactions.
    KeepaliveInside,
    /// Those report the end of the WAL, as the manual describes the field.
    KeepaliveHint,
    /// Keepalives that want a reply although nothing is wrong.
    Question,
    /// Decoding starts far behind the position that was asked for.
    BehindFloor,
    /// The columns of the table change their order.
    Ddl,
    /// Between the rows stands what is no event: deletes and updates of old ones, other tables.
    Clutter,
    /// Kafka is away.
    Outage,
    /// Kafka does not take a batch; not the events' fault.
    Reject,
    /// Kafka does not take an event, and its neighbours in the batch with it.
    Poison,
    /// For a while Kafka's address leads to another cluster, which takes everything.
    OtherCluster,
    /// The producer begins a new epoch: what has no report yet is sent again.
    EpochBump,
    /// The producer itself refuses such an event, before it is sent; and others that their topic
    /// would take.
    Refuse,
    /// Rows without a payload, which the relay refuses until it is told what they mean.
    NullPayload,
    /// The dead-letter topic takes nothing.
    LettersRefused,
    /// Topics are created after their first event.
    TopicLate,
    /// Topics get more partitions.
    TopicGrow,
    /// Topics are deleted and created again, mostly with another number of partitions.
    TopicAgain,
    /// Metadata requests fail.
    Metadata,
    /// The process is killed.
    Kill,
    /// Requests of a producer that is gone are carried out late.
    Late,
    /// The process gets SIGTERM.
    Terminate,
    /// The process is stopped for a while, and goes on.
    Suspend,
    /// The relay gets another producer, for other certificates or passwords.
    Rotation,
    /// Nothing is written for a long time.
    Quiet,
    /// The relay's owner asks the server for a sign of life.
    Ping,
    /// The checkpoint can't be written for a while.
    Unwritable,
    /// The checkpoint's writes are not answered for a while.
    Hang,
    /// The checkpoint's table is locked: it can't be read or written.
    Locked,
    /// The outcome of a write is not known to the relay.
    Uncertain,
    /// The server is about to give the slot up for the WAL that it keeps, or is not any more.
    Pressed,
    /// The publication is dropped and made again: older rows can't be read by it any more.
    Publication,
    /// Somebody else reads from the slot while the relay is away.
    SlotMoved,
    /// A standby is promoted that was behind.
    Failover,
    /// A backup is restored, or a snapshot of the disk.
    Restore,
    /// Somebody makes a slot anew that was lost.
    SlotRemade,
}

impl Fault {
    pub(crate) const ALL: [Self; 41] = [
        Self::Crash,
        Self::FastShutdown,
        Self::LinkCut,
        Self::BlackHole,
        Self::StreamError,
        Self::AsyncCommit,
        Self::KeepaliveInside,
        Self::KeepaliveHint,
        Self::Question,
        Self::BehindFloor,
        Self::Ddl,
        Self::Clutter,
        Self::Outage,
        Self::Reject,
        Self::Poison,
        Self::EpochBump,
        Self::Refuse,
        Self::NullPayload,
        Self::LettersRefused,
        Self::TopicLate,
        Self::TopicGrow,
        Self::TopicAgain,
        Self::Metadata,
        Self::Kill,
        Self::Late,
        Self::Terminate,
        Self::Suspend,
        Self::Quiet,
        Self::Ping,
        Self::Unwritable,
        Self::Hang,
        Self::Locked,
        Self::Uncertain,
        Self::Pressed,
        Self::Publication,
        Self::SlotMoved,
        Self::Failover,
        Self::Restore,
        Self::SlotRemade,
        Self::OtherCluster,
        Self::Rotation,
    ];

    /// Whether it happens at a moment. The others change how something else goes.
    pub(crate) fn strikes(self) -> bool {
        !matches!(
            self,
            Self::SlotRemade
                | Self::Uncertain
                | Self::StreamError
                | Self::AsyncCommit
                | Self::KeepaliveInside
                | Self::KeepaliveHint
                | Self::Question
                | Self::BehindFloor
                | Self::Clutter
                | Self::Late
                | Self::Poison
                | Self::Refuse
                | Self::NullPayload
                | Self::LettersRefused
                | Self::TopicLate
                | Self::Metadata
        )
    }
}

/// How often each of the actions is taken that are possible at a moment, in relation to each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speeds {
    pub(crate) walsender: u32,
    pub(crate) status: u32,
    pub(crate) read: u32,
    pub(crate) deliveries: u32,
    pub(crate) append: u32,
    pub(crate) record: u32,
    pub(crate) report: u32,
    pub(crate) answer: u32,
}

/// Who says how large a record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limits {
    /// The operator chose the client's limit.
    Fixed,
    /// The topics are asked, and tell their limits.
    Told,
    /// The first topic does not tell, until somebody grants the right to ask it.
    Untold,
}

/// Sizes, speeds and faults of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) limits: WindowLimits,
    pub(crate) format: Format,
    pub(crate) wal_sender_timeout_ms: u64,
    pub(crate) unknown_topic_after_ms: u64,
    /// `postgres.checkpoint_grace`; none: without a checkpoint.
    pub(crate) grace: Option<Duration>,
    pub(crate) topics: usize,
    pub(crate) aggregates: u32,
    pub(crate) payload_max: usize,
    /// Messages that the socket holds.
    pub(crate) socket: usize,
    /// Messages that are read before anything but records is looked at.
    pub(crate) reads: usize,
    /// Records that the producer has room for.
    pub(crate) queue: usize,
    /// Records in the largest batch, as it is configured, and whether an operator chose it.
    pub(crate) batch: (usize, bool),
    /// As many records as these are the largest batch that the topics take.
    pub(crate) topic_limit: usize,
    /// An event that can't be delivered goes to a dead-letter topic. Otherwise the relay halts.
    pub(crate) letters: bool,
    /// Where it would halt, it holds the line and stays.
    pub(crate) holds: bool,
    /// What the producer's limit on the size of a record is worth.
    pub(crate) record_limit: Limits,
    /// Some sessions end as soon as all is delivered that was committed before them.
    pub(crate) once: bool,
    /// Empty transactions are sent, as before Postgres 15.
    pub(crate) sends_empty: bool,
    /// Rows that a publication can't be read for are left out, with a notice, as since Postgres 18.
    pub(crate) skips_publication: bool,
    /// A clean shutdown saves the slot, as since Postgres 17.
    pub(crate) shutdown_saves_slot: bool,
    /// A session that ended with an error still tells what was confirmed.
    pub(crate) last_words: bool,
    /// Percent of the steps that write something.
    pub(crate) writes: u32,
    /// Faults in 1,000 steps.
    pub(crate) fault_rate: u32,
    pub(crate) speeds: Speeds,
    faults: Vec<Fault>,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut speed = || *rng.choice(&[1, 2, 5, 20]).expect("not empty");
        let speeds = Speeds {
            walsender: speed(),
            status: speed(),
            read: speed(),
            deliveries: speed(),
            append: speed(),
            record: speed(),
            report: speed(),
            answer: speed(),
        };
        let (letters, holds) = pick(rng, &[(true, false), (false, false), (false, true)]);
        let density = rng.u32(1..=3);
        let faults = Fault::ALL
            .into_iter()
            .filter(|_| rng.u32(0..4) < density)
            .collect();
        Self {
            limits: WindowLimits {
                events: rng.u32(1..=40),
                bytes: rng.usize(300..20_000),
            },
            format: if rng.bool() {
                Format::Text
            } else {
                Format::Binary
            },
            wal_sender_timeout_ms: pick(rng, &[0, 2_000, 8_000, 15_000, 60_000]),
            unknown_topic_after_ms: pick(rng, &[0, 1_000, 10_000, 60_000]),
            grace: (rng.u32(0..4) > 0)
                .then(|| Duration::from_millis(pick(rng, &[0, 2_000, 300_000]))),
            topics: rng.usize(1..=3),
            aggregates: rng.u32(1..=12),
            payload_max: pick(rng, &[20, 200, 3_000]),
            socket: pick(rng, &[2, 8, 64]),
            reads: pick(rng, &[1, 4, 64]),
            queue: pick(rng, &[1, 5, 1_000]),
            batch: (pick(rng, &[1, 3, 10]), rng.bool()),
            topic_limit: pick(rng, &[1_000, 20, 20, 1, 2]),
            letters,
            holds,
            record_limit: pick(
                rng,
                &[Limits::Fixed, Limits::Told, Limits::Told, Limits::Untold],
            ),
            once: rng.bool(),
            sends_empty: rng.bool(),
            skips_publication: rng.bool(),
            shutdown_saves_slot: rng.bool(),
            last_words: rng.bool(),
            writes: pick(rng, &[3, 10, 30]),
            fault_rate: pick(rng, &[2, 8, 25]),
            speeds,
            faults,
        }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// The kinds of faults that may be met.
    pub(crate) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// From now on that kind of fault is not met.
    pub(crate) fn leave_out(&mut self, fault: Fault) {
        self.faults.retain(|kept| *kept != fault);
    }

    /// `max.message.bytes` of every topic: no batch is larger.
    pub(crate) fn topic_bytes_max(&self) -> usize {
        self.topic_limit * RECORD_BYTES
    }

    /// Whether some events are larger than what the producer is configured for, and no larger than
    /// what the topics take.
    pub(crate) fn has_bulky(&self) -> bool {
        let is_learnt = self.record_limit != Limits::Fixed;
        self.has(Fault::Refuse) && is_learnt && BULKY_BYTES < self.topic_bytes_max()
    }

    /// No record is larger.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.payload_max * LARGE + 400 + LETTER_BYTES_MAX
    }

    /// How long a server that has a timeout is silent before it is asked, in milliseconds.
    pub(crate) fn ask_interval_ms(&self) -> Option<u64> {
        let timeout = self.wal_sender_timeout_ms;
        (timeout > 0).then_some((timeout + 1_000) / 2)
    }

    /// The longest time between two status updates, in milliseconds.
    pub(crate) fn status_interval_ms(&self) -> u64 {
        match self.wal_sender_timeout_ms {
            0 => 5_000,
            timeout => 5_000.min(timeout / 4),
        }
    }
}

/// True in `percent` of the cases.
pub(crate) fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(0..100) < percent
}

pub(crate) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())]
}
