//! One session: the only loop of the program.
//!
//! It owns a replication stream, the producer and a [`Relay`], and does what the relay says. It
//! waits in one place only; each wake then serves every source in a fixed order, with bounds:
//! delivery reports before new rows, so that the window empties before it is filled.
//!
//! # The nap
//!
//! The walsender sends one packet a message. A reader that is woken for each costs both sides about
//! as much as the message itself. So while the stream is busy (the last reads were small and close
//! together) the thread really sleeps for a moment, outside of epoll, and the next read finds
//! dozens of messages. A quiet stream never naps, nor does one whose window is full, whose timer is
//! due, that is draining, or whose last read filled the buffer.

mod cluster;
mod convert;
mod ending;
mod error;
mod inputs;
mod kafka;
mod park;
mod progress;
mod record;
mod sending;
mod topics;

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{info, warn};
use walpost_core as core;
use walpost_core::cluster::Said;
use walpost_core::ending::{Ending, Over};
use walpost_core::park::Circuit;
use walpost_core::silence::{Silence, Verdict};
use walpost_core::start::Accepted;
use walpost_core::{Record, Recording, Relay, Rulings, Topic, TopicFault};
use walpost_crashpoint as crash_point;
use walpost_kafka::{Delivery, Producer, Settings};
use walpost_pgoutput::Lsn;
use walpost_walsender::{Fill, Notice, StreamMessage, WalStream};

use self::convert::{NoCount, standby_status};
pub(crate) use self::error::SessionError;
pub(crate) use self::kafka::KafkaSeen;
use self::park::Breaker;
pub(crate) use self::park::Parked;
pub(crate) use self::progress::Progress;
use self::record::Record as CheckpointRecord;
use crate::config::Config;
use crate::control::{Control, News};
use crate::gate::Opening;
use crate::rotation::Rotation;
use crate::shutdown::{Shutdown, ShutdownSignal};
use crate::state::StateCell;

/// WAL messages that one wake serves before it looks at the other sources.
const WAL_BATCH_MAX: usize = 256;

/// How long a nap is. Longer ones let small segments fill the socket's buffer.
const NAP: Duration = Duration::from_micros(150);

/// Reads that are further apart than this belong to a quiet stream.
const NAP_READ_GAP_MAX: Duration = Duration::from_micros(500);

/// A read of this size or more found enough: the stream is faster than the nap.
const NAP_READ_BYTES_MAX: usize = 32 << 10;

/// How often `--once` asks the server how far it has come, and looks whether anything moved.
const ONCE_INTERVAL: Duration = Duration::from_millis(200);

/// `--once` gives up after so long without progress.
pub(crate) const ONCE_PATIENCE: Duration = Duration::from_secs(30);

/// How long refused credentials are tried again once they had worked: a rotation reaches the server
/// and us at different moments.
pub(crate) const CREDENTIALS_PATIENCE: Duration = Duration::from_secs(600);

/// How long what is in flight is waited for when the producer is replaced.
const ROTATION_DRAIN: Duration = Duration::from_secs(2);

/// What a session is run with.
pub(crate) struct SessionContext<'a> {
    pub config: &'a Config,
    pub once: bool,
    pub shutdown: ShutdownSignal,
    /// Where questions that block are asked.
    pub side: Handle,
    /// When something was last delivered or confirmed.
    pub progress: &'a mut Progress,
    /// What Kafka said to us so far.
    pub kafka: &'a mut KafkaSeen,
    /// Whether Kafka takes anything.
    pub circuit: &'a mut Circuit,
    /// Other certificates and passwords for Kafka.
    pub rotation: &'a mut Rotation,
    /// Where it is said what the relay is doing.
    pub state: &'a StateCell,
    /// What an operator has accepted.
    pub accepted: &'a Accepted,
    /// What is known of single events.
    pub rulings: Rulings,
    /// The highest position that sessions before handed to Kafka.
    pub sent_before: Option<core::Position>,
    /// Until when a record that the client refuses for its size is refused for good.
    pub size_is_final_until: Option<Instant>,
    /// What another producer is made with.
    pub settings: Settings,
}

/// A running session.
struct Session<'a> {
    context: SessionContext<'a>,
    /// There until the end.
    stream: Option<WalStream>,
    relay: Relay,
    producer: &'a mut Producer,
    /// A record that the producer had no room for: it goes first. The stream is read on meanwhile.
    unsent: Option<Record>,
    deliveries: Vec<Delivery>,
    answers: UnboundedReceiver<Answer>,
    /// An answer that ended a wait.
    heard: Option<Answer>,
    asker: UnboundedSender<Answer>,
    /// The topic that the line stands for, and why, as it was logged.
    standing: Option<(Topic, TopicFault)>,
    /// The topic that a policy of the cluster does not want, as it was logged.
    unwanted: Option<String>,
    pinged_at: Instant,
    reads: Reads,
    ending: Ending,
    control: Control,
    record: CheckpointRecord,
    silence: Silence,
    breaker: Breaker,
    /// What the server said last without being asked.
    notice: String,
    /// The server's process that streams to us.
    stream_pid: Option<i32>,
}

/// What others found out for the session.
enum Answer {
    Topic {
        topic: Topic,
        count: Result<u32, NoCount>,
        /// `cluster.id`, where it could be asked for.
        cluster: Option<String>,
    },
    /// What the control connection found out.
    Control(News),
    /// What a broker said of the cluster's id.
    Cluster { question: u64, said: Said },
}

/// What the last reads of the socket were like.
#[derive(Debug, Default)]
struct Reads {
    last: Option<Instant>,
    /// The next read should find more if it waits a moment.
    busy: bool,
}

/// What a session leaves behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub ended: Result<Over, SessionError>,
    /// Up to where everything is delivered.
    pub confirmed: Lsn,
    /// What is known of single events by now.
    pub rulings: Rulings,
    /// What was handed to Kafka last.
    pub sent: core::Recent,
    /// What was learnt of the topics.
    pub topics: core::Topics,
    /// What the checkpoint holds.
    pub recorded: Lsn,
    /// What the server was told beyond it.
    pub unrecorded: Option<Lsn>,
    /// It holds all that was delivered in order.
    pub is_recorded: bool,
    /// What goes on although the session has ended: Kafka takes nothing, or the relay was halted.
    pub parked: Option<Box<Parked>>,
}

/// Runs a session to its end. The producer is left with nothing in flight, or else is not to be
/// used again.
pub(crate) async fn run(
    mut context: SessionContext<'_>,
    opening: Opening,
    producer: &mut Producer,
    topics: core::Topics,
    now: Instant,
) -> Outcome {
    let checkpoint = context.config.postgres.checkpoint.as_ref();
    let session = core::Session {
        floor: opening.floor,
        format: opening.format,
        wal_sender_timeout: opening.wal_sender_timeout,
        window: context.config.delivery.window,
        recording: checkpoint.map_or(Recording::Off, |checkpoint| Recording::On {
            recorded: opening.recorded,
            grace: checkpoint.grace,
        }),
        textual: opening.textual,
        policy: context.config.delivery.policy(),
        size_is_final_until: context.size_is_final_until,
    };
    let mapping = context.config.mapping.clone();
    let rulings = std::mem::take(&mut context.rulings);
    let mut relay = Relay::new(mapping, session, rulings, topics);
    relay.count_from(context.sent_before);
    context.kafka.cluster.session_begins(opening.kafka_cluster);
    context.progress.session_begins();
    let (asker, answers) = unbounded_channel();
    let target = context.once.then_some(opening.current);
    let ending = Ending::new(target, context.config.drain);
    let teller = asker.clone();
    let tell = move |news| teller.send(Answer::Control(news)).is_ok();
    let state = context.state.clone();
    let control = Control::start(&context.side, context.config, opening.post, tell);
    let mut session = Session {
        context,
        stream: Some(opening.stream),
        relay,
        producer,
        unsent: None,
        deliveries: Vec::new(),
        answers,
        heard: None,
        asker,
        standing: None,
        unwanted: None,
        pinged_at: now,
        reads: Reads::default(),
        ending,
        control,
        record: CheckpointRecord::new(opening.floor, opening.idle_slot_timeout, state),
        silence: Silence::new(now, opening.wal_sender_timeout),
        breaker: Breaker::new(opening.current),
        notice: String::new(),
        stream_pid: opening.stream_pid,
    };
    let ended = session.serve().await;
    session.end(ended).await
}

/// A session without one has ended.
const HAS_STREAM: &str = "the session goes on";

impl Session<'_> {
    fn stream(&mut self) -> &mut WalStream {
        self.stream.as_mut().expect(HAS_STREAM)
    }

    async fn serve(&mut self) -> Result<Over, SessionError> {
        loop {
            let now = Instant::now();
            self.hear_shutdown(now);
            self.hear_rotation(now);
            self.take_answers(now)?;
            self.take_deliveries(now)?;
            self.send_records(now)?;
            let more = self.read_wal(now)?;
            self.tell_exceptions();
            self.judge_silence(now)?;
            self.judge_stall(now)?;
            self.leave_stopping_server()?;
            self.ask_for_topics(now);
            self.tell_standing();
            self.write_checkpoint(now);
            self.tell_status(now)?;
            if let Some(over) = self.ended(now)? {
                return Ok(over);
            }
            if more {
                self.nap(now);
                // The runtime looks at its other sockets and timers.
                tokio::task::yield_now().await;
            } else {
                self.wait(now).await?;
            }
        }
    }

    fn hear_shutdown(&mut self, now: Instant) {
        let is_wished = self.context.shutdown.requested() == Shutdown::Drain;
        if is_wished && self.ending.stop(now + self.context.config.drain) {
            info!(
                in_flight = self.producer.in_flight(),
                "stopping: waiting for what is in flight"
            );
        }
    }

    /// Other certificates and passwords for Kafka are ready: the session ends in order for a
    /// producer that has them.
    fn hear_rotation(&mut self, now: Instant) {
        if self.context.rotation.is_due() {
            self.ending.make_room(now + ROTATION_DRAIN);
        }
    }

    /// Reads once and relays a bounded number of messages. True when there may be more at once.
    fn read_wal(&mut self, now: Instant) -> Result<bool, SessionError> {
        let mut has_read = false;
        for _ in 0..WAL_BATCH_MAX {
            if !self.relay.wants_wal() {
                return Ok(false);
            }
            match self.stream().next()? {
                Some(message) => self.take_message(message, now)?,
                None if has_read => return Ok(true),
                None if self.fill(now)? => has_read = true,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn take_message(&mut self, message: StreamMessage, now: Instant) -> Result<(), SessionError> {
        match message {
            StreamMessage::Copy(message) => {
                self.relay_message(message)?;
                self.send_records(now)
            }
            StreamMessage::Notice(notice) => {
                if skips_publication(&notice) {
                    return Err(SessionError::PublicationSkipped(notice.message));
                }
                // One that waits for a standby says so again and again.
                if self.notice != notice.message {
                    warn!(
                        sqlstate = %notice.sqlstate, message = %notice.message,
                        detail = notice.detail, "the server says"
                    );
                    self.notice = notice.message;
                }
                Ok(())
            }
            StreamMessage::Ended => Err(SessionError::ServerEnded),
        }
    }

    /// One read of the socket, without waiting. False when there was nothing.
    fn fill(&mut self, now: Instant) -> Result<bool, SessionError> {
        let filled = crash_point::tried!("first-byte", self.stream().try_fill()?, |filled| {
            matches!(filled, Fill::Read { .. })
        });
        match filled {
            Fill::WouldBlock => {
                self.reads.busy = false;
                Ok(false)
            }
            Fill::Read { bytes, full } => {
                self.silence.heard(now);
                let close = self
                    .reads
                    .last
                    .is_some_and(|last| now - last <= NAP_READ_GAP_MAX);
                self.reads.busy = close && !full && bytes < NAP_READ_BYTES_MAX;
                self.reads.last = Some(now);
                Ok(true)
            }
            // What is left in the buffer tells why.
            Fill::Eof => Ok(true),
        }
    }

    /// A stream that says nothing for too long has lost its way.
    fn judge_silence(&mut self, now: Instant) -> Result<(), SessionError> {
        if !self.relay.wants_wal() {
            self.silence.heard(now);
        }
        match self.silence.judge(now) {
            Verdict::Alive => {}
            Verdict::Ask => self.relay.ping(),
            Verdict::Dead(silent) => return Err(SessionError::Silent(silent)),
        }
        Ok(())
    }

    /// Lets the server write while the stream is busy. What was read is served by now.
    fn nap(&mut self, now: Instant) {
        let due = self.relay.poll_timeout().is_none_or(|due| due <= now + NAP);
        if self.reads.busy && !due && self.ending.is_open() {
            std::thread::sleep(NAP);
        }
    }

    fn tell_status(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.ending.has_target() && now.duration_since(self.pinged_at) >= ONCE_INTERVAL {
            self.pinged_at = now;
            self.relay.ping();
        }
        while let Some(status) = self.relay.poll_status(now) {
            let stream = self.stream();
            crash_point::around!("status", {
                stream.queue_status(&standby_status(status));
                stream.try_flush()?;
            });
        }
        self.stream().try_flush()?;
        Ok(())
    }

    fn look_at_end(&mut self, now: Instant) -> Option<Over> {
        let in_flight = self.producer.in_flight() + self.deliveries.len();
        let (ending, relay) = (&mut self.ending, &mut self.relay);
        if ending.may_send() {
            return ending.look(relay, in_flight, now);
        }
        crash_point::tried!(
            "drained",
            ending.look(relay, in_flight, now),
            Option::is_some
        )
    }

    fn ended(&mut self, now: Instant) -> Result<Option<Over>, SessionError> {
        let snapshot = self.relay.snapshot();
        self.context
            .progress
            .see(now, snapshot.confirmed, snapshot.delivered);
        let over = self.look_at_end(now);
        let waits = over.is_none() && self.ending.has_target() && self.ending.is_open();
        if waits && self.context.progress.age(now) >= ONCE_PATIENCE {
            let waits_for_topic = self.relay.waits_for_topic();
            return Err(SessionError::Stalled {
                in_flight: snapshot.in_flight,
                waits_for_topic,
                trouble: self.producer.trouble(),
                checkpoint: self.record.failure().map(str::to_owned),
            });
        }
        Ok(over)
    }

    /// The one place that waits. Every branch only waits and can be dropped; what woke it is found
    /// out by serving all sources.
    async fn wait(&mut self, now: Instant) -> Result<(), SessionError> {
        let mut until = self.relay.poll_timeout().unwrap_or(now);
        if let Some(deadline) = self.ending.deadline() {
            until = until.min(deadline);
        }
        for deadline in [self.silence.deadline(), self.breaker.deadline()] {
            until = until.min(deadline.unwrap_or(until));
        }
        if self.ending.has_target() {
            until = until.min(now + ONCE_INTERVAL);
        }
        let reads = self.relay.wants_wal();
        let stream = self.stream.as_mut().expect(HAS_STREAM);
        let wants_write = stream.wants_write();
        tokio::select! {
            // 1. Stop.
            () = self.context.shutdown.changed() => {}
            () = self.context.rotation.due(), if self.ending.is_open() => {}
            // 2. Reports.
            () = self.producer.ready() => {}
            // 3. Timers: status updates, topics, deadlines.
            () = tokio::time::sleep_until(until.into()) => {}
            // 4. Answers about topics. The session holds a sender: the channel never ends.
            answer = self.answers.recv() => self.heard = answer,
            // 5. The stream, in both directions.
            readable = stream.ready(reads, wants_write) => readable?,
        }
        Ok(())
    }
}

/// Whether the server skips a publication that it can't load, and the rows with it. It says by the
/// same SQLSTATE that it holds the stream back until a standby has what it would send.
fn skips_publication(notice: &Notice) -> bool {
    notice.sqlstate == "55000" && !error::waits_for_standby(notice.routine.as_deref())
}
