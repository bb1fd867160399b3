//! Postgres as a model: writers, the WAL, the slot, crashes and shutdowns. Its walsender is in
//! `walsender.rs`, what takes its place in `postgres/replacement.rs`.

mod replacement;

pub(crate) use self::replacement::Replacement;
use bytes::Bytes;
use fastrand::Rng;
use uuid::Uuid;
use walpost_core::Position;
use walpost_core::start::{Checkpoint, Fingerprint, Identity, ServerState, SlotRow};
use walpost_pgoutput::{Lsn, StandbyStatus};

use crate::history::History;
use crate::kafka::{INVALID, TOO_LARGE};
use crate::plan::{Fault, LARGE, Plan, chance, pick};
use crate::walsender::{Peer, View, Walsender};

/// The server.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) state: State,
    pub(crate) identity: Identity,
    /// It has taken the place of another one, and was not up yet.
    pub(crate) is_new: bool,
    /// Counts the servers that took the place of the one before.
    pub(crate) instance: u32,
    /// The timelines that this one came from, each with its end.
    timelines: Vec<(u32, u64)>,
    newest_timeline: u32,
    wal: Vec<WalRecord>,
    /// Records that are on disk.
    flushed: usize,
    /// Where the WAL begins, and where it ends.
    origin: u64,
    /// The longest record, in words. Where all are as long, another history has other events at the
    /// same positions.
    words_max: u64,
    end: u64,
    open: Vec<Transaction>,
    commits: Vec<Transaction>,
    pub(crate) slot: Option<Slot>,
    /// Where the slot stood, and where the WAL ended then.
    stood: Vec<(u64, u64)>,
    /// The checkpoint row as it was written, and where the WAL ended then. A write is on disk when
    /// the server says so.
    rows: Vec<(Checkpoint, u64)>,
    /// Events that an operator has passed over, each as it was typed and with the end of the WAL.
    skips: Vec<(Skip, u64)>,
    /// The highest position that a relay told without the row.
    pub(crate) told_without_row: Option<Lsn>,
    /// Where the slot stood before somebody else moved it.
    pub(crate) moved_from: Option<u64>,
    /// Somebody made the slot anew.
    pub(crate) remade: bool,
    /// How often its disk was put back as it was once.
    pub(crate) put_back: u32,
    /// Until then writes of it fail.
    pub(crate) unwritable_until: u64,
    /// Until then nobody can read or write it.
    pub(crate) locked_until: u64,
    /// Counts how often the server was started.
    pub(crate) starts: u32,
    /// Until then writes of it are not answered.
    pub(crate) hangs_until: u64,
    /// The publication that is there now was made here: rows before it can't be read by it.
    pub(crate) published_from: u64,
    pub(crate) sender: Option<Walsender>,
    /// Order of the table's columns: new rows are written in it.
    pub(crate) shape: u8,
    xids: u32,
}

/// An event that is passed over: its place, and its id as it was typed.
pub(crate) type Skip = (Position, Uuid);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// A fast shutdown waits for the walsender.
    Stopping,
    Down {
        until: u64,
    },
}

/// `confirmed_flush_lsn`, in memory and on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) confirmed: u64,
    pub(crate) durable: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WalRecord {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The transaction that it commits.
    pub(crate) commit: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) xid: u32,
    pub(crate) rows: Vec<Row>,
    /// End of its commit record.
    pub(crate) end: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) lsn: u64,
    pub(crate) event: usize,
    pub(crate) shape: u8,
}

impl Slot {
    pub(crate) fn at(lsn: u64) -> Self {
        Self {
            confirmed: lsn,
            durable: lsn,
        }
    }
}

impl Postgres {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let origin = rng.u64(1..1 << 33) * 8;
        Self {
            state: State::Up,
            identity: Identity {
                system_identifier: 1,
                timeline: 1,
            },
            is_new: false,
            instance: 0,
            timelines: Vec::new(),
            newest_timeline: 1,
            wal: Vec::new(),
            flushed: 0,
            origin,
            words_max: pick(rng, &[60, 60, 1]),
            end: origin,
            open: Vec::new(),
            commits: Vec::new(),
            slot: Some(Slot::at(origin)),
            stood: vec![(origin, origin)],
            rows: Vec::new(),
            skips: Vec::new(),
            told_without_row: None,
            moved_from: None,
            remade: false,
            put_back: 0,
            unwritable_until: 0,
            locked_until: 0,
            starts: 0,
            hangs_until: 0,
            published_from: 0,
            sender: None,
            shape: 0,
            xids: 700,
        }
    }

    /// One writer does one thing. Says what.
    pub(crate) fn write(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        history: &mut History,
    ) -> &'static str {
        let did = match rng.u32(0..100) {
            0..25 if self.open.len() < 4 => {
                self.begin();
                "began a transaction"
            }
            25..60 if !self.open.is_empty() => {
                self.insert(rng, plan, history);
                "inserted"
            }
            60..80 if !self.open.is_empty() => {
                self.commit(rng);
                "committed"
            }
            80..85 if !self.open.is_empty() => {
                let index = rng.usize(0..self.open.len());
                self.open.swap_remove(index);
                self.log(rng, None);
                "rolled back"
            }
            85..97 => {
                for _ in 0..rng.u32(1..=4) {
                    self.log(rng, None);
                }
                "wrote to another table"
            }
            97.. => {
                self.save_slot();
                self.log(rng, None);
                "checkpointed"
            }
            _ => {
                self.begin();
                self.insert(rng, plan, history);
                self.commit(rng);
                "committed one row"
            }
        };
        if !plan.has(Fault::AsyncCommit) || chance(rng, 30) {
            self.flush(history);
        }
        did
    }

    fn begin(&mut self) {
        self.xids += 1;
        self.open.push(Transaction {
            xid: self.xids,
            rows: Vec::new(),
            end: 0,
        });
    }

    /// One row, or a COPY whose rows share one LSN.
    fn insert(&mut self, rng: &mut Rng, plan: &Plan, history: &mut History) {
        let rows = if chance(rng, 20) { rng.usize(2..9) } else { 1 };
        let lsn = self.end;
        let at = rng.usize(0..self.open.len());
        for _ in 0..rows {
            let large = if chance(rng, 5) { LARGE } else { 1 };
            let size = rng.usize(0..plan.payload_max * large);
            let payload = Bytes::from(vec![rng.alphanumeric() as u8; size]);
            let is_null = plan.has(Fault::NullPayload) && chance(rng, 2);
            let payload = (!is_null).then_some(payload);
            let is_poison = plan.has(Fault::Poison) && chance(rng, 2);
            let poison = is_poison.then(|| pick(rng, &[TOO_LARGE, INVALID]));
            let topic = rng.usize(0..plan.topics);
            let aggregate = rng.u32(0..plan.aggregates);
            let is_bulky = poison.is_none() && plan.has_bulky() && chance(rng, 3);
            let event = history.write(topic, aggregate, payload, poison, is_bulky);
            let shape = self.shape;
            self.open[at].rows.push(Row { lsn, event, shape });
        }
        self.log(rng, None);
    }

    /// Nothing is written between two commits that follow each other: they are adjacent.
    fn commit(&mut self, rng: &mut Rng) {
        let index = rng.usize(0..self.open.len());
        let mut transaction = self.open.swap_remove(index);
        let commit = self.commits.len();
        transaction.end = self.log(rng, Some(commit));
        self.commits.push(transaction);
    }

    /// Appends a record. Returns its end.
    fn log(&mut self, rng: &mut Rng, commit: Option<usize>) -> u64 {
        let start = self.end;
        self.end += 8 * rng.u64(1..=self.words_max);
        let end = self.end;
        self.wal.push(WalRecord { start, end, commit });
        end
    }

    /// The WAL reaches the disk: what is committed in it is owed.
    pub(crate) fn flush(&mut self, history: &mut History) {
        for record in &self.wal[self.flushed..] {
            if let Some(commit) = record.commit {
                let transaction = &self.commits[commit];
                let events: Vec<usize> = transaction.rows.iter().map(|row| row.event).collect();
                history.commit(record.start, transaction.xid, &events);
            }
        }
        self.flushed = self.wal.len();
    }

    /// The application finishes what it began.
    pub(crate) fn finish(&mut self, rng: &mut Rng, history: &mut History) {
        while !self.open.is_empty() {
            self.commit(rng);
        }
        self.log(rng, None);
        self.flush(history);
    }

    /// Power off: what is not on disk never was.
    pub(crate) fn crash(&mut self, until: u64) {
        self.wal.truncate(self.flushed);
        self.end = self.flush_end();
        self.open.clear();
        self.forget_slot();
        self.sender = None;
        self.state = State::Down { until };
    }

    fn save_slot(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.durable = slot.confirmed;
        }
    }

    /// The slot is as it is on disk.
    fn forget_slot(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.confirmed = slot.durable;
        }
    }

    /// SIGINT to the postmaster: sessions are ended, then the walsender gets its time.
    pub(crate) fn begin_shutdown(&mut self, history: &mut History) {
        self.open.clear();
        self.flush(history);
        self.state = State::Stopping;
        if let Some(sender) = &mut self.sender {
            sender.stopping = true;
        }
    }

    /// The walsender is gone, so the shutdown ends.
    pub(crate) fn end_shutdown(&mut self, saves_slot: bool, until: u64) {
        assert!(
            self.sender.is_none(),
            "the server went before its walsender"
        );
        if saves_slot {
            self.save_slot();
        }
        self.forget_slot();
        self.state = State::Down { until };
    }

    pub(crate) fn start(&mut self, rng: &mut Rng, history: &mut History) {
        self.state = State::Up;
        self.starts += 1;
        self.log(rng, None);
        self.flush(history);
    }

    /// End of what is on disk.
    pub(crate) fn flush_end(&self) -> u64 {
        let last = self.wal[..self.flushed].last();
        last.map_or(self.origin, |record| record.end)
    }

    /// Where the slot stands, if there is one.
    pub(crate) fn confirmed(&self) -> Option<Lsn> {
        self.slot.map(|slot| Lsn::new(slot.confirmed))
    }

    pub(crate) fn slot_row(&self) -> Option<SlotRow> {
        let slot = self.slot?;
        Some(SlotRow {
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            active_pid: self.sender.as_ref().map(|_| 4711),
            restart_lsn: Some(Lsn::new(slot.durable)),
            confirmed_flush_lsn: Some(Lsn::new(slot.confirmed)),
            wal_status: Some("reserved".to_owned()),
            two_phase: false,
        })
    }

    /// The row.
    pub(crate) fn row(&self) -> Option<&Checkpoint> {
        self.rows.last().map(|(row, _)| row)
    }

    /// What the row holds.
    pub(crate) fn recorded(&self) -> Option<Lsn> {
        self.row().map(|row| row.lsn)
    }

    /// Whether the row can be written now.
    pub(crate) fn is_writable(&self, now: u64) -> bool {
        self.state == State::Up && now >= self.unwritable_until.max(self.locked_until)
    }

    /// Writes the whole row, unless it can't be written now.
    pub(crate) fn store(
        &mut self,
        lsn: Lsn,
        cluster: Option<&str>,
        rng: &mut Rng,
        history: &mut History,
        now: u64,
    ) -> bool {
        if !self.is_writable(now) {
            return false;
        }
        let row = Checkpoint {
            identity: self.identity,
            lsn,
            kafka_cluster: cluster.map(str::to_owned).or_else(|| self.cluster()),
            config: Fingerprint::new(),
        };
        let end = self.log(rng, None);
        self.rows.push((row, end));
        self.flush(history);
        true
    }

    /// Writes down that an event is passed over, unless that can't be written now.
    pub(crate) fn skip(
        &mut self,
        skip: Skip,
        rng: &mut Rng,
        history: &mut History,
        now: u64,
    ) -> bool {
        if !self.is_writable(now) {
            return false;
        }
        let end = self.log(rng, None);
        self.skips.push((skip, end));
        self.flush(history);
        true
    }

    /// The events that are passed over.
    pub(crate) fn skips(&self) -> Vec<Skip> {
        self.skips.iter().map(|(skip, _)| *skip).collect()
    }

    /// Moves the row on, for a session with the server of that number. It never goes back.
    pub(crate) fn advance(
        &mut self,
        lsn: Lsn,
        cluster: Option<&str>,
        instance: u32,
        rng: &mut Rng,
        history: &mut History,
        now: u64,
    ) -> bool {
        let is_ours = |row: &Checkpoint| row.identity == self.identity && row.lsn <= lsn;
        self.instance == instance
            && self.row().is_some_and(is_ours)
            && self.store(lsn, cluster, rng, history, now)
    }

    /// The Kafka cluster on record.
    fn cluster(&self) -> Option<String> {
        self.row()?.kafka_cluster.clone()
    }

    /// Whether it is on record which Kafka cluster has the events.
    pub(crate) fn knows_cluster(&self) -> bool {
        self.cluster().is_some()
    }

    pub(crate) fn server_state(&self) -> ServerState {
        ServerState {
            identity: self.identity,
            database: "shop".to_owned(),
            wal_level: "logical".to_owned(),
            flush_lsn: Lsn::new(self.flush_end()),
        }
    }

    /// Somebody drops the publication, and makes it again.
    pub(crate) fn remake_publication(&mut self, rng: &mut Rng, history: &mut History) {
        self.published_from = self.log(rng, None);
        self.flush(history);
    }

    /// START_REPLICATION: a position below the slot's is raised to it without a word. Decoding
    /// begins further back, where the oldest transaction began that was open then.
    pub(crate) fn start_replication(
        &mut self,
        (at, uses_spare): (Lsn, bool),
        rng: &mut Rng,
        plan: &Plan,
        now: u64,
    ) {
        let slot = self.slot.expect("a session starts from a slot");
        let start = at.as_u64().max(slot.confirmed);
        let first = self.wal.partition_point(|record| record.end <= start);
        let back = if plan.has(Fault::BehindFloor) { 12 } else { 1 };
        let next = first.saturating_sub(rng.usize(0..=back));
        self.sender = Some(Walsender::new(start, next, uses_spare, now));
    }

    /// The walsender does its next thing.
    pub(crate) fn step_sender(&mut self, rng: &mut Rng, plan: &Plan, history: &History, now: u64) {
        let end = self.flush_end();
        let Some(sender) = &mut self.sender else {
            return;
        };
        let world = View {
            wal: &self.wal[..self.flushed],
            commits: &self.commits,
            end,
            published_from: self.published_from,
            plan,
            history,
            now,
        };
        sender.step(&world, rng);
    }

    /// Whether the walsender could do something now.
    pub(crate) fn sender_is_ready(&self, plan: &Plan) -> bool {
        let Some(sender) = &self.sender else {
            return false;
        };
        sender.is_ready(self.flushed, plan)
    }

    /// The walsender reads the oldest status update that has arrived.
    pub(crate) fn take_status(&mut self, now: u64) -> Option<StandbyStatus> {
        let sender = self.sender.as_mut()?;
        let caught_up = sender.is_caught_up(self.flushed);
        let status = sender.take_status(caught_up, now)?;
        // Whatever the client says is believed; only backwards the slot does not go.
        let slot = self.slot.as_mut()?;
        if status.flush.as_u64() > slot.confirmed {
            slot.confirmed = status.flush.as_u64();
            self.stood.push((slot.confirmed, self.end));
        }
        Some(status)
    }

    /// A walsender whose client is gone, and who has read its last words, ends too.
    pub(crate) fn notice_client(&mut self, now: u64) {
        if self
            .sender
            .as_ref()
            .is_some_and(|sender| sender.is_gone(now))
        {
            self.sender = None;
        }
    }

    /// A shutdown asks a walsender that has nothing left to send to end.
    pub(crate) fn ask_to_stop(&mut self, now: u64) {
        if let Some(sender) = &mut self.sender {
            if sender.is_caught_up(self.flushed) {
                sender.caught_up(now);
            }
            if sender.has_ended() {
                self.sender = None;
            }
        }
    }

    /// The client's end of the stream, while it is connected.
    pub(crate) fn peer(&mut self) -> Option<Peer<'_>> {
        self.sender.as_mut().and_then(Walsender::peer)
    }
}
