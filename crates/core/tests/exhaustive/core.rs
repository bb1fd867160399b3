//! The real core as a table: every state that it was met in has a number, and what an input does
//! to it is worked out once.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use walpost_core::limits::WindowLimits;
use walpost_core::{
    Delivery, Mapping, MappingSpec, Policy, Record, Recording, Rejection, Relay, Rulings, Session,
    TableName, Ticket, Topics,
};

use crate::wal::{self, Layout, Step};

/// How far a tick moves the clock. Every interval of the core that matters here is over by then:
/// status updates and checkpoints wait for 100 ms, a refused checkpoint for a second.
const TICK: Duration = Duration::from_secs(1);

/// Makes the status interval a quarter of it, which is less than a tick.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(2);

/// No path has so many ticks.
const NEVER: Duration = Duration::from_secs(86_400);

/// A code that is a fault of the cluster: the request timed out.
const TIMED_OUT: i32 = 7;

/// The number of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CoreId(u32);

/// What can be done to a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    Read(Step),
    Keepalive {
        wal_end: u16,
        reply: bool,
    },
    Report {
        ticket: u8,
        is_ok: bool,
    },
    /// A report that comes when the session is over: nothing is polled any more.
    LateReport {
        ticket: u8,
        is_ok: bool,
    },
    Written(bool),
    Tick,
    Drain,
    /// What is confirmed is to be written down, for the end.
    RecordAll,
    /// The outcome of a write at the end.
    LastWritten(bool),
    LastStatus,
}

/// What it says to an input.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) records: Vec<Record>,
    pub(crate) write: Option<u16>,
    /// `flush` of each status update.
    pub(crate) told: Vec<u16>,
    /// The session is over.
    pub(crate) has_failed: bool,
}

/// All states of one search.
#[derive(Debug)]
pub(crate) struct Cores {
    base: Instant,
    layout: Layout,
    events_in_flight: u32,
    has_checkpoint: bool,
    met: Vec<Met>,
    numbers: HashMap<String, CoreId>,
    starts: HashMap<(u16, u16), CoreId>,
    edges: HashMap<(CoreId, Input), (CoreId, Rc<Output>)>,
    key: String,
}

/// A state with the time that it was first met at.
#[derive(Debug)]
struct Met {
    relay: Relay,
    ticks: u32,
}

impl Cores {
    pub(crate) fn new(layout: Layout, events_in_flight: u32, has_checkpoint: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the base")]
        let base = Instant::now();
        Self {
            base,
            layout,
            events_in_flight,
            has_checkpoint,
            met: Vec::new(),
            numbers: HashMap::new(),
            starts: HashMap::new(),
            edges: HashMap::new(),
            key: String::new(),
        }
    }

    /// How many states the core was met in.
    pub(crate) fn count(&self) -> usize {
        self.met.len()
    }

    pub(crate) fn relay(&self, id: CoreId) -> &Relay {
        &self.met[id.0 as usize].relay
    }

    /// The core of a session that starts there.
    pub(crate) fn start(&mut self, floor: u16, recorded: u16) -> CoreId {
        if let Some(id) = self.starts.get(&(floor, recorded)) {
            return *id;
        }
        let relay = self.relay_at(floor, recorded);
        let id = self.number(relay, 0);
        self.starts.insert((floor, recorded), id);
        id
    }

    fn relay_at(&self, floor: u16, recorded: u16) -> Relay {
        let spec = MappingSpec {
            tables: vec![TableName {
                schema: "public".to_owned(),
                name: "outbox".to_owned(),
            }],
            ..MappingSpec::default()
        };
        let recording = Recording::On {
            recorded: wal::lsn(recorded),
            grace: NEVER,
        };
        let session = Session {
            floor: wal::lsn(floor),
            format: walpost_core::Format::Text,
            wal_sender_timeout: WAL_SENDER_TIMEOUT,
            window: WindowLimits {
                events: self.events_in_flight,
                ..WindowLimits::default()
            },
            recording: if self.has_checkpoint {
                recording
            } else {
                Recording::Off
            },
            textual: BTreeSet::new(),
            policy: Policy::Halt,
            size_is_final_until: None,
        };
        let mapping = Mapping::new(&spec).expect("the default layout is a mapping");
        Relay::new(mapping, session, Rulings::default(), Topics::new(NEVER))
    }

    /// What an input does.
    pub(crate) fn step(&mut self, from: CoreId, input: Input) -> (CoreId, Rc<Output>) {
        if let Some((to, output)) = self.edges.get(&(from, input)) {
            return (*to, Rc::clone(output));
        }
        let Met { relay, ticks } = &self.met[from.0 as usize];
        let (mut relay, ticks) = (relay.clone(), *ticks + u32::from(input == Input::Tick));
        let now = self.base + TICK * ticks;
        let output = Rc::new(apply(&mut relay, input, &self.layout, now));
        let to = self.number(relay, ticks);
        self.edges.insert((from, input), (to, Rc::clone(&output)));
        (to, output)
    }

    fn number(&mut self, relay: Relay, ticks: u32) -> CoreId {
        let now = self.base + TICK * ticks;
        self.key.clear();
        write_key(&mut self.key, &relay, now);
        if let Some(id) = self.numbers.get(&self.key) {
            return *id;
        }
        let id = CoreId(u32::try_from(self.met.len()).expect("few states"));
        self.numbers.insert(self.key.clone(), id);
        self.met.push(Met { relay, ticks });
        id
    }
}

/// Everything that the relay holds, with its instants as "now" or "before now".
fn write_key(key: &mut String, relay: &Relay, now: Instant) {
    let all = format!("{relay:?}");
    let now = format!("{now:?}");
    let mut rest = &all[..];
    while let Some(at) = rest.find("Instant { ") {
        let (before, instant) = rest.split_at(at);
        let end = instant.find('}').expect("an instant ends") + 1;
        let age = if instant[..end] == now {
            "now"
        } else {
            "before"
        };
        write!(key, "{before}{age}").expect("a string takes everything");
        rest = &instant[end..];
    }
    key.push_str(rest);
}

fn apply(relay: &mut Relay, input: Input, layout: &Layout, now: Instant) -> Output {
    let mut output = Output::default();
    match input {
        Input::Read(step) => read(relay, wal::message(step, layout)),
        Input::Keepalive { wal_end, reply } => read(relay, wal::keepalive(wal_end, reply)),
        Input::Report { ticket, is_ok } => {
            output.has_failed = relay.handle_delivery(delivery(ticket, is_ok)).is_err();
        }
        Input::LateReport { ticket, is_ok } => {
            output.has_failed = relay.handle_delivery(delivery(ticket, is_ok)).is_err();
            return output;
        }
        Input::Written(is_written) => relay.handle_checkpointed(is_written),
        Input::Tick => {}
        Input::Drain => relay.drain(),
        Input::RecordAll => {
            relay.record_all();
            output.write = relay.poll_checkpoint(now).map(wal::short);
            return output;
        }
        Input::LastWritten(is_written) => {
            relay.handle_checkpointed(is_written);
            output.write = relay.poll_checkpoint(now).map(wal::short);
            return output;
        }
        Input::LastStatus => {
            output.told.push(wal::short(relay.last_status(now).flush));
            return output;
        }
    }
    if !output.has_failed {
        poll(relay, &mut output, now);
    }
    output
}

fn read(relay: &mut Relay, message: walpost_pgoutput::CopyMessage) {
    if let Err(error) = relay.handle_wal(message) {
        panic!("the relay refused a good stream: {error}");
    }
}

fn delivery(ticket: u8, is_ok: bool) -> Delivery {
    let rejection = Rejection {
        code: TIMED_OUT,
        name: "REQUEST_TIMED_OUT".to_owned(),
        detail: String::new(),
    };
    Delivery {
        ticket: Ticket(u64::from(ticket)),
        result: if is_ok { Ok(()) } else { Err(rejection) },
    }
}

/// The outputs in the order that the contract of `Relay` asks for. Kafka answers at once how many
/// partitions the topic has.
fn poll(relay: &mut Relay, output: &mut Output, now: Instant) {
    loop {
        while let Some(record) = relay.poll_record(now) {
            output.records.push(record);
        }
        let Some(topic) = relay.poll_topic(now) else {
            break;
        };
        relay.handle_topic(now, &topic, Ok(2));
    }
    output.write = relay.poll_checkpoint(now).map(wal::short);
    while let Some(status) = relay.poll_status(now) {
        output.told.push(wal::short(status.flush));
    }
}
