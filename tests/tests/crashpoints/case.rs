//! Which deaths there are.

use walpost_crashpoint::Side;
use walpost_tests::scaled;

/// One death.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// The crash point.
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    pub(crate) situation: Situation,
    pub(crate) way: Way,
    /// How often the point is passed, the death counted.
    pub(crate) nth: u64,
}

/// What goes on when the relay dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Situation {
    /// One event, and quiet before and after it.
    Idle,
    /// Some hundred events a second.
    Loaded,
    /// One large transaction is under way.
    Large,
}

impl Situation {
    pub(crate) const ALL: [Self; 3] = [Self::Idle, Self::Loaded, Self::Large];
}

/// How a relay is brought to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It starts, with what is committed before it.
    Opening,
    /// Events are committed while it streams.
    Reading,
    Sending,
    Telling,
    /// It is asked to stop.
    Stopping,
    /// The server ends its stream.
    Settling,
    /// A row is no event.
    DeadLetter,
    /// The server ends streams while Kafka takes nothing.
    Rebuilding,
    /// Kafka refuses a record for itself.
    Replacing,
    /// Kafka takes nothing for long, and then something.
    Parking,
}

impl Way {
    pub(crate) const ALL: [Self; 10] = [
        Self::Opening,
        Self::Reading,
        Self::Sending,
        Self::Telling,
        Self::Stopping,
        Self::Settling,
        Self::DeadLetter,
        Self::Rebuilding,
        Self::Replacing,
        Self::Parking,
    ];

    /// The way to a point.
    pub(crate) fn to(point: &str) -> Self {
        match point {
            "producer" | "connect" | "auth" | "identify" | "control" | "checkpoint-read"
            | "gate" | "start" => Self::Opening,
            "first-byte" | "keepalive" | "barrier" | "begin" | "relation" | "row" | "commit" => {
                Self::Reading
            }
            "topic" | "produce" | "report" | "advance" => Self::Sending,
            "checkpoint-write" | "checkpoint-sent" | "checkpoint-told" | "status" => Self::Telling,
            "drain" | "drained" | "last-record" | "finish" => Self::Stopping,
            "settle" => Self::Settling,
            "dead-letter" => Self::DeadLetter,
            "rebuild" => Self::Rebuilding,
            "replace" => Self::Replacing,
            "park" | "unpark" | "recover" => Self::Parking,
            other => panic!("there is no way to the point {other}"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Reading => "reading",
            Self::Sending => "sending",
            Self::Telling => "telling",
            Self::Stopping => "stopping",
            Self::Settling => "settling",
            Self::DeadLetter => "letters",
            Self::Rebuilding => "rebuilding",
            Self::Replacing => "replacing",
            Self::Parking => "parking",
        }
    }
}

/// Rows of the large transaction.
pub(crate) fn large() -> usize {
    scaled(3_000, 20_000)
}

/// At which of the times that a point is passed the relay dies: it is passed once for each row, or
/// a few times, or once in a session.
pub(crate) fn times(point: &str, situation: Situation) -> Vec<u64> {
    let rows = large() as u64;
    let of_rows = matches!(point, "row" | "produce" | "report");
    match situation {
        Situation::Large if of_rows => scaled(vec![rows / 2], vec![1, rows / 2, rows]),
        Situation::Loaded if of_rows => vec![50],
        Situation::Loaded if matches!(point, "begin" | "commit" | "advance" | "status") => vec![5],
        Situation::Loaded if point.starts_with("checkpoint-") && point != "checkpoint-read" => {
            vec![2]
        }
        Situation::Idle | Situation::Loaded | Situation::Large => vec![1],
    }
}
