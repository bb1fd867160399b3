//! What can happen around the core, and what must never.
//!
//! A [`State`] is a core by its number and what the world holds: the stream's next step, what Kafka
//! has, the checkpoint row and the slot. [`Model::successors`] does each thing that can happen
//! next; a broken promise is an error.

use std::fmt;

use walpost_core::start::{
    Accepted, Checkpoint, Evidence, Fingerprint, Identity, Recorded, ServerState, SlotRow, start_at,
};
use walpost_core::{Record, Ticket};

use crate::core::{CoreId, Cores, Input, Output};
use crate::planted::Planted;
use crate::wal::{self, END, EVENTS, Layout, ORIGIN, PARTITIONS, POSITIONS, Step};

/// One run of the search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Which partition each event belongs to.
    pub(crate) layout: Layout,
    pub(crate) events_in_flight: u32,
    pub(crate) has_checkpoint: bool,
    /// What may go wrong, each once.
    pub(crate) faults: &'static [Fault],
    pub(crate) planted: Planted,
}

/// Something that goes wrong, or is asked for, at most once on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// The relay is killed.
    Kill,
    /// Postgres crashes, and the slot goes back.
    Rewind,
    /// Kafka does not take a record, or does not say that it did.
    Refuse,
    /// The checkpoint can't be written.
    Unwritable,
    /// The relay is asked to stop, and started again.
    Stop,
}

/// Where a session is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Streaming,
    /// Nothing more leaves; what is in flight is waited for.
    Draining,
    /// A record failed: reports are heard, and nothing else.
    Settling,
    /// Nothing is in flight: the position is put on record.
    Ending,
}

/// One state of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    core: CoreId,
    /// What the stream says next; none: everything was said.
    step: Option<Step>,
    /// The first event of the session.
    first: u8,
    /// How many of its events left.
    sent: u8,
    /// How many of those are reported, by partition.
    reported: [u8; PARTITIONS],
    /// The partition whose records fail.
    failing: Option<u8>,
    phase: Phase,
    /// An orderly stop under way that leaves nothing to be sent again.
    is_clean: bool,
    /// How many events Kafka has, by partition: a prefix, or the order is broken.
    kafka: [u8; PARTITIONS],
    row: u16,
    writing: Option<u16>,
    /// Where the slot stood when the session began, and what it was told since.
    slot: u16,
    told: u16,
    /// Bits of the faults that have happened.
    spent: u8,
}

/// What happened, for a person.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Read(Step),
    Keepalive(u16, bool),
    Report(u8, bool),
    Written(bool),
    Tick,
    Drain,
    EndWait([u8; PARTITIONS]),
    Crash(Fault, [u8; PARTITIONS], u16, u16),
    Restart(u16, u16),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(step) => write!(f, "the stream says {step:?}"),
            Self::Keepalive(end, reply) => write!(f, "a keepalive of {end}, question: {reply}"),
            Self::Report(partition, ok) => write!(f, "partition {partition} reports, ok: {ok}"),
            Self::Written(ok) => write!(f, "the checkpoint's write ends, ok: {ok}"),
            Self::Tick => write!(f, "time passes"),
            Self::Drain => write!(f, "the relay is asked to stop"),
            Self::EndWait(more) => write!(f, "what is in flight is given up, {more:?} arrived"),
            Self::Crash(fault, more, row, slot) => write!(
                f,
                "{fault:?}: {more:?} arrived without a report, row {row}, slot {slot}"
            ),
            Self::Restart(row, slot) => write!(f, "the next session: row {row}, slot {slot}"),
        }
    }
}

/// What comes next, and whether it is something that has to happen in the end.
pub(crate) type Next = (Action, bool, Result<State, String>);

/// The world around the cores.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) cores: Cores,
    setting: Setting,
}

impl Model {
    pub(crate) fn new(setting: Setting) -> Self {
        let Setting {
            layout,
            events_in_flight,
            has_checkpoint,
            ..
        } = setting;
        Self {
            cores: Cores::new(layout, events_in_flight, has_checkpoint),
            setting,
        }
    }

    /// Before anything happened: slot and row stand where the slot was made.
    pub(crate) fn initial(&mut self) -> State {
        let start = self.begin([0; PARTITIONS], ORIGIN, ORIGIN, 0);
        start.expect("nothing is wrong yet")
    }

    /// A session begins, by the core's own judgement of where.
    fn begin(
        &mut self,
        kafka: [u8; PARTITIONS],
        row: u16,
        slot: u16,
        spent: u8,
    ) -> Result<State, String> {
        let is_misled = self.setting.planted == Planted::StartsAtTheEnd && spent > 0;
        let floor = if is_misled {
            END
        } else {
            self.start(row, slot)?
        };
        let missing = self.first_missing(kafka);
        if missing.is_some_and(|event| wal::commit_of(event) < floor) {
            return Err(format!("a session starts at {floor}, past {missing:?}"));
        }
        let step = Step::first(floor);
        let mut state = State {
            core: self.cores.start(floor, row),
            step: Some(step),
            first: match step {
                Step::Begin(transaction) => 2 * transaction,
                Step::Describe(_) | Step::Row(_) | Step::Commit(_) | Step::CaughtUp => EVENTS,
            },
            sent: 0,
            reported: [0; PARTITIONS],
            failing: None,
            phase: Phase::Streaming,
            is_clean: false,
            kafka,
            row,
            writing: None,
            // With a row, where the slot stands behind it makes no difference.
            slot: if self.setting.has_checkpoint {
                row
            } else {
                slot
            },
            told: floor,
            spent,
        };
        // The first status is due at once.
        self.feed(&mut state, Input::Tick)?;
        Ok(state)
    }

    fn start(&self, row: u16, slot: u16) -> Result<u16, String> {
        let identity = Identity {
            system_identifier: 1,
            timeline: 1,
        };
        let server = ServerState {
            identity,
            database: "shop".to_owned(),
            wal_level: "logical".to_owned(),
            flush_lsn: wal::lsn(END),
        };
        let slot = SlotRow {
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            active_pid: None,
            restart_lsn: Some(wal::lsn(ORIGIN)),
            confirmed_flush_lsn: Some(wal::lsn(slot)),
            wal_status: Some("reserved".to_owned()),
            two_phase: false,
        };
        let row = Checkpoint {
            identity,
            lsn: wal::lsn(row),
            kafka_cluster: None,
            config: Fingerprint::new(),
        };
        let evidence = Evidence {
            server: &server,
            slot: Some(&slot),
            recorded: if self.setting.has_checkpoint {
                Recorded::Row(&row)
            } else {
                Recorded::Off
            },
            switched_at: None,
            unrecorded: None,
            config: &Fingerprint::new(),
            accepted: &Accepted::default(),
        };
        match start_at(&evidence) {
            Ok(start) => Ok(wal::short(start.lsn)),
            Err(refusal) => Err(format!("a start was refused: {refusal:?}")),
        }
    }

    /// Everything that can happen next.
    pub(crate) fn successors(&mut self, state: &State) -> Vec<Next> {
        let mut next = Vec::new();
        self.stream(state, &mut next);
        self.reports(state, &mut next);
        self.write(state, &mut next);
        self.time(state, &mut next);
        self.stop(state, &mut next);
        self.end(state, &mut next);
        for fault in [Fault::Kill, Fault::Rewind] {
            if self.may(state, fault) {
                self.crash(state, fault, &mut next);
            }
        }
        next
    }

    fn may(&self, state: &State, fault: Fault) -> bool {
        self.setting.faults.contains(&fault) && state.spent & bit(fault) == 0
    }

    /// The stream is read, or a keepalive stands in it.
    fn stream(&mut self, state: &State, next: &mut Vec<Next>) {
        let Some(step) = state.step else { return };
        let relay = self.cores.relay(state.core);
        if state.phase != Phase::Streaming || !relay.wants_wal() {
            return;
        }
        for wal_end in step.keepalives() {
            for reply in [false, true] {
                let wal_end = *wal_end;
                let mut to = *state;
                let done = self.feed(&mut to, Input::Keepalive { wal_end, reply });
                let action = Action::Keepalive(wal_end, reply);
                next.push((action, false, done.map(|()| to)));
            }
        }
        let mut to = *state;
        to.step = step.next(matches!(step, Step::Begin(number) if 2 * number > state.first));
        let done = self.feed(&mut to, Input::Read(step));
        next.push((Action::Read(step), true, done.map(|()| to)));
    }

    /// Kafka says what became of the oldest record of a partition.
    fn reports(&mut self, state: &State, next: &mut Vec<Next>) {
        for partition in 0..PARTITIONS {
            let number = u8::try_from(partition).expect("two partitions");
            let Some(event) = self.oldest(state, partition) else {
                continue;
            };
            let ticket = event - state.first;
            let is_failing = state.failing == Some(number);
            if !is_failing {
                let mut to = *state;
                let done = self
                    .arrive(&mut to, partition, event)
                    .and_then(|()| self.report(&mut to, partition, ticket, true));
                next.push((Action::Report(number, true), true, done.map(|()| to)));
            }
            let may_fail = self.may(state, Fault::Refuse) && state.failing.is_none();
            if is_failing || may_fail {
                let mut to = *state;
                to.spent |= bit(Fault::Refuse);
                to.failing = Some(number);
                to.is_clean = false;
                let planted = self.setting.planted == Planted::TakesErrorsForAcknowledgements;
                let mut timed_out = to;
                let done = self.report(&mut to, partition, ticket, planted);
                next.push((Action::Report(number, false), is_failing, done.map(|()| to)));
                if !is_failing {
                    // Nobody knows whether it arrived, and it did.
                    let done = self
                        .arrive(&mut timed_out, partition, event)
                        .and_then(|()| self.report(&mut timed_out, partition, ticket, planted));
                    let action = Action::Report(number, false);
                    next.push((action, false, done.map(|()| timed_out)));
                }
            }
        }
    }

    fn report(
        &mut self,
        state: &mut State,
        partition: usize,
        ticket: u8,
        is_ok: bool,
    ) -> Result<(), String> {
        state.reported[partition] += 1;
        if self.setting.planted == Planted::AcknowledgesEarly {
            return Ok(());
        }
        let input = match state.phase {
            Phase::Settling => Input::LateReport { ticket, is_ok },
            Phase::Streaming | Phase::Draining | Phase::Ending => Input::Report { ticket, is_ok },
        };
        self.feed(state, input)
    }

    /// The checkpoint's write ends.
    fn write(&mut self, state: &State, next: &mut Vec<Next>) {
        let Some(lsn) = state.writing else { return };
        if state.phase == Phase::Settling {
            return;
        }
        for is_written in [true, false] {
            if !is_written && !self.may(state, Fault::Unwritable) {
                continue;
            }
            let mut to = *state;
            to.writing = None;
            if is_written {
                to.row = lsn;
            } else {
                to.spent |= bit(Fault::Unwritable);
                to.is_clean = false;
            }
            let done = if self.setting.planted == Planted::TellsBeforeItIsWritten {
                // The core has heard it before.
                Ok(())
            } else if state.phase == Phase::Ending {
                self.feed(&mut to, Input::LastWritten(is_written))
            } else {
                self.feed(&mut to, Input::Written(is_written))
            };
            next.push((Action::Written(is_written), is_written, done.map(|()| to)));
        }
    }

    fn time(&mut self, state: &State, next: &mut Vec<Next>) {
        if matches!(state.phase, Phase::Streaming | Phase::Draining) {
            let mut to = *state;
            let done = self.feed(&mut to, Input::Tick);
            next.push((Action::Tick, true, done.map(|()| to)));
        }
    }

    /// It is asked to stop. In the middle of a transaction the owner goes on to its end, unless the
    /// deadline passes.
    fn stop(&mut self, state: &State, next: &mut Vec<Next>) {
        if state.phase == Phase::Streaming && self.may(state, Fault::Stop) {
            let mut to = *state;
            to.spent |= bit(Fault::Stop);
            to.phase = Phase::Draining;
            to.is_clean = !self.cores.relay(state.core).splits_transaction();
            let done = self.feed(&mut to, Input::Drain);
            next.push((Action::Drain, false, done.map(|()| to)));
        }
    }

    /// A session that is to end goes on to its end.
    fn end(&mut self, state: &State, next: &mut Vec<Next>) {
        match state.phase {
            Phase::Streaming => {}
            Phase::Draining | Phase::Settling => {
                for more in self.unreported(state) {
                    let mut to = *state;
                    to.is_clean &= self.cores.relay(state.core).is_drained();
                    let done = self.arrive_unreported(&mut to, more).and_then(|()| {
                        to.phase = Phase::Ending;
                        self.feed(&mut to, Input::RecordAll)
                    });
                    next.push((Action::EndWait(more), true, done.map(|()| to)));
                }
            }
            Phase::Ending => {
                let mut last = *state;
                let told = self.feed(&mut last, Input::LastStatus);
                last.is_clean &= self.cores.relay(last.core).is_recorded();
                for (row, slot) in self.left_behind(&last, last.slot) {
                    let action = Action::Restart(row, slot);
                    let done = told
                        .clone()
                        .and_then(|()| self.begin(last.kafka, row, slot, last.spent))
                        .and_then(|begun| self.check_stop(&last, &begun).map(|()| begun));
                    next.push((action, true, done));
                }
            }
        }
    }

    /// A promise: an orderly stop leaves nothing to be sent again.
    fn check_stop(&self, last: &State, begun: &State) -> Result<(), String> {
        let is_again = begun.first < last.first + last.sent;
        if last.is_clean && self.setting.has_checkpoint && is_again {
            return Err(format!("event {} comes again after a stop", begun.first));
        }
        Ok(())
    }

    /// The relay or the server is gone in an instant: what was in flight may have arrived, a write
    /// may have been done, and the server may have heard of any position that it was told.
    fn crash(&mut self, state: &State, fault: Fault, next: &mut Vec<Next>) {
        let low = if fault == Fault::Rewind {
            ORIGIN
        } else {
            state.slot
        };
        for more in self.unreported(state) {
            let mut gone = *state;
            gone.spent |= bit(fault);
            let arrived = self.arrive_unreported(&mut gone, more);
            for (row, slot) in self.left_behind(&gone, low) {
                let action = Action::Crash(fault, more, row, slot);
                let done = arrived
                    .clone()
                    .and_then(|()| self.begin(gone.kafka, row, slot, gone.spent));
                next.push((action, false, done));
            }
        }
    }

    /// What row and slot may be found to hold: a write that was under way is done or not.
    fn left_behind(&self, state: &State, low: u16) -> Vec<(u16, u16)> {
        let rows = [Some(state.row), state.writing.filter(|_| self.has_row())];
        let may_stand = |slot: &u16| match self.has_row() {
            // Behind the row it makes no difference where.
            true => *slot == ORIGIN || *slot == state.told,
            false => (low..=state.told).contains(slot),
        };
        let slots: Vec<_> = POSITIONS.into_iter().filter(may_stand).collect();
        let rows = rows.into_iter().flatten();
        rows.flat_map(|row| slots.iter().map(move |slot| (row, *slot)))
            .collect()
    }

    fn has_row(&self) -> bool {
        self.setting.has_checkpoint
    }

    /// How many records of each partition may have arrived without a report.
    fn unreported(&self, state: &State) -> Vec<[u8; PARTITIONS]> {
        let waiting = |partition: u8| {
            if state.failing == Some(partition) {
                return 0;
            }
            let sent = self.sent_to(state, partition).count();
            let reported = usize::from(state.reported[usize::from(partition)]);
            count(sent - reported)
        };
        let (first, second) = (waiting(0), waiting(1));
        (0..=first)
            .flat_map(|more| (0..=second).map(move |other| [more, other]))
            .collect()
    }

    fn arrive_unreported(&self, state: &mut State, more: [u8; PARTITIONS]) -> Result<(), String> {
        for (partition, more) in more.into_iter().enumerate() {
            for _ in 0..more {
                let event = self.oldest(state, partition).expect("it was counted");
                self.arrive(state, partition, event)?;
                state.reported[partition] += 1;
            }
        }
        Ok(())
    }

    fn sent_to(&self, state: &State, partition: u8) -> impl Iterator<Item = u8> {
        let layout = self.setting.layout;
        let (first, end) = (state.first, state.first + state.sent);
        (first..end).filter(move |event| layout[usize::from(*event)] == partition)
    }

    /// The first record of a partition that has no report.
    fn oldest(&self, state: &State, partition: usize) -> Option<u8> {
        let number = u8::try_from(partition).expect("two partitions");
        let reported = usize::from(state.reported[partition]);
        self.sent_to(state, number).nth(reported)
    }

    /// Kafka appends a record. A promise: what is new comes behind everything that is there, and
    /// leaves out nothing.
    fn arrive(&self, state: &mut State, partition: usize, event: u8) -> Result<(), String> {
        let is_here =
            |other: &u8| usize::from(self.setting.layout[usize::from(*other)]) == partition;
        let place = (0..event).filter(is_here).count();
        let place = count(place);
        let has = &mut state.kafka[partition];
        if place > *has {
            return Err(format!("partition {partition} has event {event} too early"));
        }
        *has = (*has).max(place + 1);
        Ok(())
    }

    /// The first event that Kafka has not got.
    fn first_missing(&self, kafka: [u8; PARTITIONS]) -> Option<u8> {
        let mut seen = [0; PARTITIONS];
        (0..EVENTS).find(|event| {
            let partition = usize::from(self.setting.layout[usize::from(*event)]);
            seen[partition] += 1;
            seen[partition] > kafka[partition]
        })
    }

    /// Gives the core an input and does what it says.
    fn feed(&mut self, state: &mut State, input: Input) -> Result<(), String> {
        let is_keepalive = matches!(input, Input::Keepalive { .. } | Input::Read(Step::CaughtUp));
        if is_keepalive && self.setting.planted == Planted::DropsKeepalives {
            return Ok(());
        }
        let (core, output) = self.cores.step(state.core, input);
        state.core = core;
        self.take(state, &output)
    }

    fn take(&mut self, state: &mut State, output: &Output) -> Result<(), String> {
        let Output {
            records,
            write,
            told,
            has_failed,
        } = output;
        if *has_failed {
            state.phase = Phase::Settling;
        }
        for record in records {
            self.check_record(state, record)?;
            state.sent += 1;
        }
        if let Some(lsn) = *write {
            self.check_delivered(state, lsn, "put on record")?;
            state.writing = Some(lsn);
        }
        for flush in told {
            self.tell(state, *flush)?;
        }
        let planted = self.setting.planted;
        if planted == Planted::AcknowledgesEarly {
            for record in records {
                let ticket = short(record.ticket);
                self.feed(
                    state,
                    Input::Report {
                        ticket,
                        is_ok: true,
                    },
                )?;
            }
        }
        if planted == Planted::TellsBeforeItIsWritten && write.is_some() {
            self.feed(state, Input::Written(true))?;
        }
        Ok(())
    }

    /// Promises: events leave in commit order, each as it was written, to its own partition.
    fn check_record(&self, state: &State, record: &Record) -> Result<(), String> {
        let event = state.first + state.sent;
        let is_right = event < EVENTS
            && record.ticket == Ticket(u64::from(state.sent))
            && record.position() == wal::position(event)
            && record.topic().as_str() == wal::TOPIC
            && record.partition == i32::from(self.setting.layout[usize::from(event)])
            && record.key().map(|key| &key[..]) == Some(wal::id(event).to_string().as_bytes())
            && record.value().map(|value| &value[..]) == Some(wal::payload(event).as_bytes());
        if is_right {
            Ok(())
        } else {
            Err(format!(
                "the record of event {event} is another one: {record:?}"
            ))
        }
    }

    /// Promises: nothing is told that Kafka has not got, or that is not on record.
    fn tell(&self, state: &mut State, flush: u16) -> Result<(), String> {
        if flush == 0 {
            return Ok(());
        }
        if flush < state.told {
            return Err(format!("{flush} is told after {}", state.told));
        }
        self.check_delivered(state, flush, "told")?;
        if self.has_row() && flush > state.row {
            return Err(format!("{flush} is told, and {} on record", state.row));
        }
        state.told = flush;
        Ok(())
    }

    fn check_delivered(&self, state: &State, lsn: u16, what: &str) -> Result<(), String> {
        match self.first_missing(state.kafka) {
            Some(event) if wal::commit_of(event) < lsn => Err(format!(
                "{lsn} is {what}, and event {event} is not in Kafka"
            )),
            _ => Ok(()),
        }
    }

    /// Nothing more happens by itself. A promise: then everything is delivered and told.
    pub(crate) fn check_rest(&self, state: &State) -> Result<(), String> {
        if let Some(event) = self.first_missing(state.kafka) {
            return Err(format!("it rests, and event {event} is not in Kafka"));
        }
        // Less than a mebibyte of other WAL is not put on record at once.
        let owed = if self.has_row() { 170 } else { END };
        if state.told < owed {
            return Err(format!("it rests, and only {} is told", state.told));
        }
        Ok(())
    }
}

fn bit(fault: Fault) -> u8 {
    1 << fault as u8
}

fn count(events: usize) -> u8 {
    u8::try_from(events).expect("few events")
}

fn short(ticket: Ticket) -> u8 {
    u8::try_from(ticket.0).expect("few events")
}
