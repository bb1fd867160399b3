//! Session after session: the one way back from any error.
//!
//! Whatever goes wrong at run time ends the session. The session settles what is in flight; here
//! the error is classified, and either the process stops with a code and the fix, or the next
//! session starts from what the server holds, after a backoff.

mod hold;
mod park;
mod poison;
mod producer;
mod sizes;
mod undeliverable;
mod visit;

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::{debug, error, info, warn};
use walpost_core::backoff::Backoff;
use walpost_core::class::{Class, Exit};
use walpost_core::ending::Over;
use walpost_core::judge::Judge;
use walpost_core::park::Circuit;
use walpost_core::start::{Accepted, Identity};
use walpost_core::{Rulings, Topics, Undeliverable};
use walpost_kafka::{Producer, Settings, Trouble};
use walpost_pgoutput::Lsn;

use self::poison::Poison;
use crate::commands::Orders;
use crate::config::Config;
use crate::error::{Error, chain};
use crate::exit::Status;
use crate::gate::{self, Memory, Opening};
use crate::rotation::Rotation;
use crate::session::{
    self, CREDENTIALS_PATIENCE, KafkaSeen, ONCE_PATIENCE, Parked, Progress, SessionContext,
    SessionError,
};
use crate::shutdown::{Shutdown, ShutdownSignal};
use crate::state::{Activity, StateCell};

/// `--once` waits so long for a topic that was never seen, unless the configuration says otherwise.
const ONCE_UNKNOWN_TOPIC_AFTER: Duration = Duration::from_secs(10);

/// How soon a slot that is in use is looked at again, at most: who waits for it stands by.
const STANDBY_PAUSE: Duration = Duration::from_secs(1);

/// So long an attempt of `--once` may take in any case.
const ONCE_ATTEMPT: Duration = Duration::from_secs(1);

/// Keeps the relay going.
pub(crate) struct Supervisor<'a> {
    config: &'a Config,
    once: bool,
    accepted: Accepted,
    memory: Memory,
    /// The checkpoint holds all that the last session delivered.
    is_recorded: bool,
    shutdown: ShutdownSignal,
    side: Handle,
    backoff: Backoff,
    progress: Progress,
    kafka: KafkaSeen,
    circuit: Circuit,
    state: StateCell,
    /// What the last session left to go on while there is no stream.
    parked: Option<Box<Parked>>,
    /// What producers are made with.
    settings: Settings,
    rotation: Rotation,
    producer: Option<Producer>,
    topics: Option<Topics>,
    /// What is known of single events.
    judge: Judge,
    /// The event that the line was held for last.
    held: Option<Undeliverable>,
    poison: Poison,
    /// The stream was open when the last session ended.
    has_streamed: bool,
    /// After so long without a stream the server gives the slot up; zero is never.
    idle_slot_timeout: Duration,
    /// Where the last session was, and up to where it delivered.
    last: Option<(Identity, Lsn)>,
    /// A session has begun since the process started.
    begun: bool,
    credentials_refused_at: Option<Instant>,
    /// A type that a session did not know. The next one has asked anew.
    unread_type: Option<u32>,
    /// The cause that was logged last: each is loud once.
    last_cause: String,
    /// The last session ended with an error when it was to stop.
    is_broken_off: bool,
}

/// What comes after a session.
enum Next {
    Stop(Result<(), Error>),
    Again { delay: Duration },
}

const AT_ONCE: Next = Next::Again {
    delay: Duration::ZERO,
};

impl<'a> Supervisor<'a> {
    pub(crate) fn new(
        config: &'a Config,
        orders: Orders,
        shutdown: ShutdownSignal,
        side: Handle,
    ) -> Self {
        let Orders {
            once,
            accepted,
            skipped_ids,
        } = orders;
        let mut rulings = Rulings::default();
        for id in skipped_ids {
            rulings.skip_id(id);
        }
        let after = match (once, config.delivery.unknown_topic_after_set) {
            (true, false) => ONCE_UNKNOWN_TOPIC_AFTER,
            _ => config.delivery.unknown_topic_after,
        };
        let rotation = Rotation::watch(&side, &config.kafka);
        Self {
            config,
            once,
            accepted,
            memory: Memory::default(),
            is_recorded: true,
            shutdown,
            side,
            backoff: Backoff::new(),
            progress: Progress::new(Instant::now()),
            kafka: KafkaSeen::default(),
            circuit: Circuit::default(),
            state: StateCell::new(),
            parked: None,
            settings: config.kafka.settings.clone(),
            rotation,
            producer: None,
            topics: Some(Topics::new(after)),
            judge: undeliverable::new_judge(config, once, rulings),
            held: None,
            poison: Poison::default(),
            has_streamed: false,
            idle_slot_timeout: Duration::ZERO,
            last: None,
            begun: false,
            credentials_refused_at: None,
            unread_type: None,
            last_cause: String::new(),
            is_broken_off: false,
        }
    }

    /// Runs sessions until one ends for good.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        while self.shutdown.requested() == Shutdown::None {
            self.renew();
            // Before the slot is ours: a producer's first record waits while it is young.
            self.prepare_producer().await?;
            self.fit_producer().await?;
            if self.producer.is_none() {
                break;
            }
            let ended = self.session().await;
            self.retire_producer();
            let parked = self.parked.take();
            match self.next(ended, parked).await? {
                Next::Stop(result) => return result,
                Next::Again { delay } => {
                    self.prepare_producer().await?;
                    tokio::select! {
                        () = self.shutdown.stopped() => {}
                        () = tokio::time::sleep(delay) => {}
                        () = producer::serve(&mut self.producer) => {}
                    }
                }
            }
        }
        if self.is_broken_off {
            warn!(
                "stopped: the session ended with an error meanwhile; what was in flight then comes \
                 again at the next start"
            );
        } else {
            info!("stopped while no session was open");
        }
        self.stopped()
    }

    /// Opens the stream. None: the process is asked to stop.
    async fn open(&mut self) -> Result<Option<Opening>, SessionError> {
        let open = gate::open(self.config, self.once, &self.accepted, &mut self.memory);
        let age = self.progress.age(Instant::now());
        let left = ONCE_PATIENCE.saturating_sub(age).max(ONCE_ATTEMPT);
        tokio::select! {
            opening = open => opening.map(Some),
            () = self.shutdown.stopped() => Ok(None),
            () = tokio::time::sleep(left), if self.once => Err(SessionError::NoAnswer(age + left)),
        }
    }

    /// None: the process is asked to stop, and no stream was open.
    async fn session(&mut self) -> Result<Option<Over>, SessionError> {
        self.has_streamed = false;
        let Some(opening) = self.open().await? else {
            return Ok(None);
        };
        self.begun = true;
        self.accepted.begun();
        self.credentials_refused_at = None;
        self.last_cause.clear();
        self.tell_streaming(&opening);
        let identity = opening.post.identity;
        self.idle_slot_timeout = opening.idle_slot_timeout;
        let skips = opening.skips.iter();
        let skips = skips.map(|skip| (skip.position, skip.id.clone()));
        let rulings = self.judge.session_begins(identity, skips);
        let begun = Instant::now();
        let context = SessionContext {
            config: self.config,
            once: self.once,
            shutdown: self.shutdown.clone(),
            side: self.side.clone(),
            progress: &mut self.progress,
            kafka: &mut self.kafka,
            rotation: &mut self.rotation,
            circuit: &mut self.circuit,
            state: &self.state,
            accepted: &self.accepted,
            rulings,
            sent_before: self.memory.sent_to(),
            size_is_final_until: self.judge.size_is_final_until(begun),
            settings: sizes::apply(self.judge.sizes(), &self.settings),
        };
        let topics = self
            .topics
            .take()
            .expect("every session hands the topics back");
        let producer = self
            .producer
            .as_mut()
            .expect("it was made before the session");
        self.has_streamed = true;
        let outcome = session::run(context, opening, producer, topics, begun).await;
        self.state.set_activity(Activity::Connecting);
        self.topics = Some(outcome.topics);
        self.parked = outcome.parked;
        let (recorded, unrecorded) = (outcome.recorded, outcome.unrecorded);
        self.memory
            .session_ended(identity, recorded, unrecorded, outcome.sent);
        self.last = Some((identity, outcome.confirmed));
        self.judge.session_ended(outcome.rulings, recorded);
        self.backoff.session_ended(begun.elapsed());
        self.is_recorded = outcome.is_recorded;
        match outcome.ended {
            Err(error) if error.is_of_publication() && !self.memory.uses_spare => {
                self.memory.uses_spare = true;
                Err(SessionError::PublicationGone(chain(&error)))
            }
            ended => ended.map(Some),
        }
    }

    /// A stream is open. While Kafka is only tried this is whispered: what matters then is whether
    /// something arrives.
    fn tell_streaming(&self, opening: &Opening) {
        let (slot, start_lsn) = (&self.config.postgres.slot, opening.floor);
        let publication = &opening.publication;
        match self.circuit {
            Circuit::Closed => {
                self.state.set_activity(Activity::Streaming);
                info!(slot, publication, %start_lsn, "streaming");
            }
            Circuit::Parked { .. } | Circuit::Trying { .. } => {
                self.state.set_activity(Activity::Trying);
                debug!(slot, publication, %start_lsn, "streaming, to try Kafka");
            }
        }
    }

    /// `cut`: in the middle of a transaction.
    fn log_drained(&self, cut: bool) {
        if self.memory.unrecorded.is_some() {
            info!("stopped: everything that was in flight has arrived");
        } else if !self.is_recorded {
            warn!(
                "stopped: everything that was in flight has arrived, and comes again at the next \
                 start: the checkpoint could not be written"
            );
        } else if cut {
            warn!(
                "stopped in the middle of a transaction: everything that was in flight has \
                 arrived; what is of that transaction comes again at the next start"
            );
        } else {
            info!("stopped: everything that was in flight has arrived and is confirmed");
        }
    }

    async fn next(
        &mut self,
        ended: Result<Option<Over>, SessionError>,
        parked: Option<Box<Parked>>,
    ) -> Result<Next, Error> {
        Ok(match ended {
            // For a producer with other certificates or passwords.
            Ok(Some(Over::MadeRoom)) => AT_ONCE,
            Ok(None) => {
                info!("stopped while no session was open");
                Next::Stop(self.stopped())
            }
            Ok(Some(Over::Drained { cut })) => {
                self.log_drained(cut);
                Next::Stop(self.stopped())
            }
            Ok(Some(Over::DrainDeadline { in_flight })) => {
                warn!(
                    in_flight,
                    "stopped before everything arrived: these records come again at the next start"
                );
                Next::Stop(self.stopped())
            }
            Ok(Some(Over::CaughtUp {
                confirmed,
                in_flight,
            })) => {
                info!(%confirmed, "everything that was committed before the start is delivered");
                if in_flight > 0 {
                    warn!(
                        in_flight,
                        "not everything behind that arrived: these records come again at the next \
                         start"
                    );
                }
                Next::Stop(Ok(()))
            }
            Ok(Some(Over::Halted(halt))) => {
                let mut parked = parked.expect("a halted session leaves its control connection");
                let next = self.after_halt(*halt, &mut parked).await;
                self.unpark(*parked).await;
                next
            }
            Err(error) => match parked {
                Some(parked) => self.park(&error, *parked).await?,
                None => {
                    let stops = self.shutdown.requested() != Shutdown::None;
                    self.is_broken_off = self.has_streamed && stops;
                    self.after_error(error)
                }
            },
        })
    }

    /// What comes of a stop that was asked for: `--once` had promised more.
    fn stopped(&self) -> Result<(), Error> {
        if let Some(told) = self.memory.unrecorded {
            warn!(
                lsn = %told.lsn,
                "positions were confirmed that the checkpoint could not hold: start again with \
                 --accept-slot-position and the slot's position"
            );
        }
        if !self.once {
            return Ok(());
        }
        let message = "stopped before everything that was committed is delivered";
        let error = Error::new(Status::Interrupted, message);
        Err(error.with_fix("run it again: it goes on from what is confirmed"))
    }

    fn after_error(&mut self, error: SessionError) -> Next {
        let now = Instant::now();
        // Later it is the service behind the command that is away, for a while.
        if !self.begun && matches!(error, SessionError::Password(_)) {
            return self.stop(Exit::Permission, &error);
        }
        let alarm = match error.class() {
            // One that was made while the stream was open is known to the next session.
            Class::Definite(_) if self.is_new(error.unread_type()) => false,
            Class::Definite(exit) => return self.stop(exit, &error),
            Class::Credentials(exit) => {
                let since = *self.credentials_refused_at.get_or_insert(now);
                if !self.begun || now.duration_since(since) >= CREDENTIALS_PATIENCE {
                    return self.stop(exit, &error);
                }
                true
            }
            Class::Transient { alarm } => alarm,
        };
        if self.once && error.is_denied() {
            return self.stop(Exit::Permission, &error);
        }
        if self.once && self.progress.age(now) >= ONCE_PATIENCE {
            return self.stop(Exit::Unavailable, &error);
        }
        let mut delay = self.backoff.next_delay(fastrand::u32(..));
        let confirmed = self.last.map_or(Lsn::ZERO, |(_, confirmed)| confirmed);
        let of_stream = error.stream_sqlstate().filter(|_| self.has_streamed);
        if self.poison.see(of_stream, confirmed) {
            delay = poison::RETRY;
            let fix = poison::fix(&self.config.postgres.slot, confirmed);
            let cause = chain(&error);
            error!(
                cause,
                fix, "the server can't decode what is next: it is tried once a minute"
            );
        }
        if matches!(error, SessionError::SlotActive { .. }) {
            delay = delay.min(STANDBY_PAUSE);
        }
        if self.once {
            delay = delay.min(ONCE_PATIENCE.saturating_sub(self.progress.age(now)));
        }
        self.log_cause(&error, alarm, delay);
        Next::Again { delay }
    }

    /// Whether a type of the database, if it is one, was not known for the first time.
    fn is_new(&mut self, unread: Option<u32>) -> bool {
        unread.is_some() && std::mem::replace(&mut self.unread_type, unread) != unread
    }

    fn stop(&self, exit: Exit, error: &SessionError) -> Next {
        let settings = &self.settings;
        if let SessionError::Kafka(trouble) = error {
            // Nothing runs any more: a moment for the cause is well spent.
            let Trouble { message, fix, .. } = trouble.clone().investigated(settings);
            return Next::Stop(Err(Error::new(exit, message).with_fix(fix)));
        }
        let stopped = Error::new(exit, chain(error));
        Next::Stop(Err(match error.fix(&self.config.postgres.conninfo) {
            Some(fix) => stopped.with_fix(fix),
            None => stopped,
        }))
    }

    /// A cause is loud when it is new, and whispered while it lasts.
    fn log_cause(&mut self, error: &SessionError, alarm: bool, delay: Duration) {
        let cause = chain(error);
        let fix = error.fix(&self.config.postgres.conninfo);
        let fix = fix.as_deref();
        let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        if cause == self.last_cause {
            debug!(cause, retry_in_ms, "the session ended again");
        } else if alarm {
            error!(cause, fix, retry_in_ms, "the session ended");
        } else {
            warn!(cause, fix, retry_in_ms, "the session ended");
        }
        self.last_cause = cause;
    }
}
