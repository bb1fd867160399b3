//! Postgres as a model: writers, the WAL, the slot, crashes and shutdowns. Its walsender is in
//! `walsender.rs`.

use bytes::Bytes;
use fastrand::Rng;
use walpost_core::start::{Checkpoint, Fingerprint, Identity, ServerState, SlotRow};
use walpost_pgoutput::{Lsn, StandbyStatus};

use crate::history::History;
use crate::plan::{Fault, LARGE, Plan, chance};
use crate::walsender::{Peer, View, Walsender};

/// The server.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) state: State,
    wal: Vec<WalRecord>,
    /// Records that are on disk.
    flushed: usize,
    /// Where the WAL begins, and where it ends.
    origin: u64,
    end: u64,
    open: Vec<Transaction>,
    commits: Vec<Transaction>,
    pub(crate) slot: Slot,
    /// The checkpoint row, which is on disk when the server says so.
    pub(crate) row: Option<Lsn>,
    /// The highest position that a relay told without the row.
    pub(crate) told_without_row: Option<Lsn>,
    /// Where the slot stood before somebody else moved it.
    pub(crate) moved_from: Option<u64>,
    /// Until then writes of it fail.
    pub(crate) unwritable_until: u64,
    pub(crate) sender: Option<Walsender>,
    /// Order of the table's columns: new rows are written in it.
    pub(crate) shape: u8,
    xids: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// A fast shutdown waits for the walsender.
    Stopping,
    Down {
        until: u64,
    },
}

/// The server's, and this process's.
pub(crate) const IDENTITY: Identity = Identity {
    system_identifier: 1,
    timeline: 1,
};

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

impl Postgres {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let origin = rng.u64(1..1 << 33) * 8;
        Self {
            state: State::Up,
            wal: Vec::new(),
            flushed: 0,
            origin,
            end: origin,
            open: Vec::new(),
            commits: Vec::new(),
            slot: Slot {
                confirmed: origin,
                durable: origin,
            },
            row: None,
            told_without_row: None,
            moved_from: None,
            unwritable_until: 0,
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
                self.slot.durable = self.slot.confirmed;
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
            let poison = plan.has(Fault::Poison) && chance(rng, 2);
            let topic = rng.usize(0..plan.topics);
            let aggregate = rng.u32(0..plan.aggregates);
            let event = history.write(topic, aggregate, payload, poison);
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
        self.end += 8 * rng.u64(1..60);
        let end = self.end;
        self.wal.push(WalRecord { start, end, commit });
        end
    }

    /// The WAL reaches the disk: what is committed in it is owed.
    pub(crate) fn flush(&mut self, history: &mut History) {
        for record in &self.wal[self.flushed..] {
            if let Some(commit) = record.commit {
                let rows = &self.commits[commit].rows;
                let events: Vec<usize> = rows.iter().map(|row| row.event).collect();
                history.commit(record.start, &events);
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
        self.slot.confirmed = self.slot.durable;
        self.sender = None;
        self.state = State::Down { until };
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
            self.slot.durable = self.slot.confirmed;
        }
        self.slot.confirmed = self.slot.durable;
        self.state = State::Down { until };
    }

    pub(crate) fn start(&mut self, rng: &mut Rng, history: &mut History) {
        self.state = State::Up;
        self.log(rng, None);
        self.flush(history);
    }

    /// End of what is on disk.
    pub(crate) fn flush_end(&self) -> u64 {
        let last = self.wal[..self.flushed].last();
        last.map_or(self.origin, |record| record.end)
    }

    pub(crate) fn slot_row(&self) -> SlotRow {
        SlotRow {
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            active_pid: self.sender.as_ref().map(|_| 4711),
            restart_lsn: Some(Lsn::new(self.slot.durable)),
            confirmed_flush_lsn: Some(Lsn::new(self.slot.confirmed)),
            wal_status: Some("reserved".to_owned()),
            two_phase: false,
        }
    }

    /// The row, as a session reads it.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        Some(Checkpoint {
            identity: IDENTITY,
            lsn: self.row?,
            kafka_cluster: None,
            config: Fingerprint::new(),
        })
    }

    /// Writes the row, unless it can't be written now. It never goes back.
    pub(crate) fn record(
        &mut self,
        lsn: Lsn,
        rng: &mut Rng,
        history: &mut History,
        now: u64,
    ) -> bool {
        if self.state != State::Up || now < self.unwritable_until {
            return false;
        }
        self.row = self.row.max(Some(lsn));
        self.log(rng, None);
        self.flush(history);
        true
    }

    pub(crate) fn server_state(&self) -> ServerState {
        ServerState {
            identity: IDENTITY,
            database: "shop".to_owned(),
            wal_level: "logical".to_owned(),
            flush_lsn: Lsn::new(self.flush_end()),
        }
    }

    /// START_REPLICATION: a position below the slot's is raised to it without a word. Decoding
    /// begins further back, where the oldest transaction began that was open then.
    pub(crate) fn start_replication(&mut self, at: Lsn, rng: &mut Rng, plan: &Plan, now: u64) {
        let start = at.as_u64().max(self.slot.confirmed);
        let first = self.wal.partition_point(|record| record.end <= start);
        let back = if plan.has(Fault::BehindFloor) { 12 } else { 1 };
        let next = first.saturating_sub(rng.usize(0..=back));
        self.sender = Some(Walsender::new(start, next, now));
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
        self.slot.confirmed = self.slot.confirmed.max(status.flush.as_u64());
        Some(status)
    }

    /// A walsender whose client is gone, and who has read its last words, ends too.
    pub(crate) fn notice_client(&mut self, now: u64) {
        self.sender = self.sender.take().filter(|sender| !sender.is_gone(now));
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
