//! The control connection: SQL beside the stream, on the same server, for as long as it streams.
//!
//! It writes the checkpoint, looks at the slot every two seconds and at tables and publication
//! every five, and hears first that the server stops. It is a replication session as well, because
//! an ordinary one would hold up a smart shutdown; and no table of the application is looked at on
//! the connection that decodes.
//!
//! Its loss alone does not end the stream: it connects again by itself, and what is written
//! meanwhile fails.

mod drift;

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tracing::{debug, warn};
use walpost_core::start::Identity;
use walpost_core::{TableName, slot};
use walpost_crashpoint as crash_point;
use walpost_pgoutput::Lsn;
use walpost_walsender::{ConnectOptions, Connection, Endpoint, Error, Mode};

use crate::catalog::{self, Slot, Table};
use crate::checkpoint;
use crate::config::{Config, Postgres};
use crate::connect::{ConnectError, connect_again};
use crate::error::chain;
use crate::finding::Finding;
use crate::gate;

/// How often the slot's row is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How often tables, publication and role are looked at.
const DRIFT_INTERVAL: Duration = Duration::from_secs(5);

/// How long after a failure the next connection is tried.
const RETRY: Duration = Duration::from_secs(1);

/// A statement that is not answered by then is given up, and the connection with it. The server
/// gives its side up before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// `synchronous_commit`: the row has to be on this server's disk; a standby that is away must not
/// hold it up. The limits end what waits for a lock. An application's defaults must not count.
const SETTINGS: &str = "set synchronous_commit = local; set default_transaction_read_only = off; \
                        set lock_timeout = '2s'; set statement_timeout = '5s'; \
                        set idle_session_timeout = 0; set search_path = pg_catalog";

/// How long what the server sets for slots is taken for what it still sets.
const LIMITS_HOLD: Duration = Duration::from_secs(5);

/// A share of `max_slot_wal_keep_size`: with less left, the slot is about to be lost.
const PRESSED_SHARE: u64 = 5;

/// What the control connection found out.
#[derive(Debug)]
pub(crate) enum News {
    /// The checkpoint was written, or why not.
    Recorded(Result<(), String>),
    /// The slot's row.
    Slot(SlotSeen),
    /// What is wrong with tables, publication and role now.
    SetUp(Vec<Finding>),
    /// The server is stopping.
    ServerStops,
    /// It is there again.
    ServerAnswers,
    /// Another server answers than the one that streams.
    OtherServer(String),
}

/// What matters of the slot while it is streamed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotSeen {
    /// Whose it is, and where it stands.
    pub row: slot::Seen,
    /// The server is about to give it up for the WAL that it keeps.
    pub is_pressed: bool,
    /// Its walsender decodes, and waits neither for WAL nor for us.
    pub is_working: bool,
    /// It is gone, or can't be read from any more.
    pub is_lost: bool,
    /// After so long without a walsender the server gives it up; zero: never.
    pub idle_timeout: Duration,
}

/// What the task needs to know of the session.
#[derive(Debug)]
pub(crate) struct Post {
    pub connection: Connection,
    /// Where the stream's server is.
    pub endpoint: Endpoint,
    pub identity: Identity,
    /// The outbox, as it was at the start.
    pub tables: Vec<Table>,
    /// The publication that is read.
    pub publication: String,
    /// There was a spare at the start.
    pub has_spare: bool,
}

enum Command {
    Record {
        lsn: Lsn,
        kafka_cluster: Option<String>,
    },
    Close,
}

/// The handle of the task. Dropping it ends the connection.
#[derive(Debug)]
pub(crate) struct Control {
    commands: UnboundedSender<Command>,
    task: JoinHandle<()>,
}

impl Control {
    /// Goes on with the gate's connection. News go to `tell`, until it says that nobody listens.
    pub(crate) fn start(
        side: &Handle,
        config: &Config,
        post: Post,
        tell: impl Fn(News) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (commands, received) = unbounded_channel();
        let task = Task {
            config: config.clone(),
            options: options(config),
            endpoint: post.endpoint,
            identity: post.identity,
            tables: post.tables,
            publication: post.publication,
            has_spare: post.has_spare,
            commands: received,
            listener: Box::new(tell),
            limits: None,
            has_stopped: false,
        };
        let task = side.spawn(task.run(post.connection));
        Self { commands, task }
    }

    /// Moves the checkpoint on. The outcome comes as [`News::Recorded`].
    pub(crate) fn record(&self, lsn: Lsn, kafka_cluster: Option<String>) {
        // A task that has ended has told why: the session ends too.
        let _ = self.commands.send(Command::Record { lsn, kafka_cluster });
    }

    /// Ends the connection in order.
    pub(crate) async fn close(mut self) {
        let _ = self.commands.send(Command::Close);
        let _ = timeout(CLOSE_TIMEOUT, &mut self.task).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How the session is called, and what it is for.
pub(crate) fn options(config: &Config) -> ConnectOptions {
    ConnectOptions {
        mode: Mode::Replication,
        application_name: format!("{} control", gate::application_name(config)),
        ..ConnectOptions::default()
    }
}

/// To be done once on each connection.
pub(crate) async fn prepare(connection: &mut Connection) -> Result<(), Error> {
    connection.query(SETTINGS).await.map(|_| ())
}

struct Task {
    config: Config,
    options: ConnectOptions,
    endpoint: Endpoint,
    identity: Identity,
    tables: Vec<Table>,
    publication: String,
    has_spare: bool,
    commands: UnboundedReceiver<Command>,
    /// False: nobody listens any more.
    listener: Box<dyn Fn(News) -> bool + Send + Sync>,
    /// What the server sets for slots, and when it was asked for.
    limits: Option<(Instant, (u64, Duration))>,
    /// The server said that it is stopping.
    has_stopped: bool,
}

/// Why the connection is not served any more.
enum Over {
    /// Nobody needs it.
    Closed,
    Lost(Error),
    Hung,
}

impl Task {
    async fn run(mut self, mut connection: Connection) {
        loop {
            match self.serve(&mut connection).await {
                Over::Closed => return connection.close().await,
                Over::Lost(error) => self.lost(&error),
                Over::Hung => debug!("the control connection does not answer"),
            }
            drop(connection);
            match self.reconnect().await {
                Some(again) => connection = again,
                None => return,
            }
        }
    }

    async fn serve(&mut self, connection: &mut Connection) -> Over {
        let mut looks = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The gate has just looked.
        let mut drifts = interval_at(Instant::now() + DRIFT_INTERVAL, DRIFT_INTERVAL);
        drifts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Before anything is put on record: the slot may have been moved before it was ours.
        if let Err(over) = self.look(connection).await {
            return over;
        }
        loop {
            let served = tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Record { lsn, kafka_cluster }) => {
                        self.record(connection, lsn, kafka_cluster).await
                    }
                    Some(Command::Close) | None => Err(Over::Closed),
                },
                _ = looks.tick() => self.look(connection).await,
                _ = drifts.tick() => self.look_at_set_up(connection).await,
                error = connection.end_of_session() => Err(Over::Lost(error)),
            };
            if let Err(over) = served {
                return over;
            }
        }
    }

    async fn record(
        &self,
        connection: &mut Connection,
        lsn: Lsn,
        kafka_cluster: Option<String>,
    ) -> Result<(), Over> {
        let Some(table) = self.table() else {
            return Ok(());
        };
        let (slot, cluster) = (&self.config.postgres.slot, kafka_cluster.as_deref());
        let advance = checkpoint::advance(connection, table, slot, self.identity, lsn, cluster);
        let advance = crash_point::waiting!("checkpoint-sent", timeout(ANSWER_TIMEOUT, advance));
        let (outcome, over) = match crash_point::around!("checkpoint-write", advance.await) {
            Ok(Ok(true)) => (Ok(()), None),
            Ok(Ok(false)) => {
                let why = "the row is gone, or another relay has moved it on".to_owned();
                (Err(why), None)
            }
            Ok(Err(error)) => {
                let why = chain(&error);
                let over = (!is_of_statement(&error)).then_some(Over::Lost(error));
                (Err(why), over)
            }
            Err(_) => (
                Err("the server does not answer".to_owned()),
                Some(Over::Hung),
            ),
        };
        self.tell(News::Recorded(outcome))?;
        over.map_or(Ok(()), Err)
    }

    /// The answer to a command without a connection.
    fn refuse(&self, command: Option<Command>) -> Result<(), Over> {
        match command {
            Some(Command::Record { .. }) => {
                let why = "there is no connection for it".to_owned();
                self.tell(News::Recorded(Err(why)))
            }
            Some(Command::Close) | None => Err(Over::Closed),
        }
    }

    fn tell(&self, news: News) -> Result<(), Over> {
        if (self.listener)(news) {
            Ok(())
        } else {
            Err(Over::Closed)
        }
    }

    fn table(&self) -> Option<&TableName> {
        let checkpoint = self.config.postgres.checkpoint.as_ref();
        checkpoint.map(|checkpoint| &checkpoint.table)
    }

    /// Looks at the slot.
    async fn look(&mut self, connection: &mut Connection) -> Result<(), Over> {
        match timeout(ANSWER_TIMEOUT, self.see(connection)).await {
            Ok(Ok(seen)) => self.tell(News::Slot(seen)),
            Ok(Err(error)) if is_of_statement(&error) => {
                debug!(error = %chain(&error), "the slot can't be looked at");
                Ok(())
            }
            Ok(Err(error)) => Err(Over::Lost(error)),
            Err(_) => Err(Over::Hung),
        }
    }

    /// Looks at what decides whether rows are sent.
    async fn look_at_set_up(&self, connection: &mut Connection) -> Result<(), Over> {
        let (config, publication) = (&self.config, &self.publication);
        let look = drift::look(
            connection,
            config,
            publication,
            self.has_spare,
            &self.tables,
        );
        match timeout(ANSWER_TIMEOUT, look).await {
            Ok(Ok(found)) => self.tell(News::SetUp(found)),
            Ok(Err(error)) if is_of_statement(&error) => {
                debug!(error = %chain(&error), "the set-up can't be looked at");
                Ok(())
            }
            Ok(Err(error)) => Err(Over::Lost(error)),
            Err(_) => Err(Over::Hung),
        }
    }

    /// How much WAL the server keeps for slots, in bytes, where that has an end, and how long it
    /// keeps one that nobody streams from. Both can be changed under a server that runs.
    async fn limits(&mut self, connection: &mut Connection) -> Result<(u64, Duration), Error> {
        let known = self.limits.filter(|(at, _)| at.elapsed() < LIMITS_HOLD);
        if let Some((_, limits)) = known {
            return Ok(limits);
        }
        let found = catalog::limits(connection).await?;
        let limits = (found.keep_bytes.unwrap_or(0), found.idle_slot_timeout);
        self.limits = Some((Instant::now(), limits));
        Ok(limits)
    }

    async fn see(&mut self, connection: &mut Connection) -> Result<SlotSeen, Error> {
        let (keep, idle_timeout) = self.limits(connection).await?;
        let slot = catalog::slot(connection, &self.config.postgres.slot).await?;
        let safe = slot.as_ref().and_then(|slot| slot.safe_wal_size);
        let safe = safe.map(|size| u64::try_from(size).unwrap_or(0));
        let is_lost = slot.as_ref().is_none_or(Slot::is_lost);
        let row = slot.map(|slot| slot.row);
        let row = slot::Seen {
            active_pid: row.as_ref().and_then(|row| row.active_pid),
            confirmed: row.as_ref().and_then(|row| row.confirmed_flush_lsn),
        };
        Ok(SlotSeen {
            row,
            is_lost,
            idle_timeout,
            is_working: match row.active_pid {
                Some(pid) => catalog::is_working(connection, pid).await?,
                None => false,
            },
            is_pressed: safe.is_some_and(|safe| safe < keep / PRESSED_SHARE),
        })
    }

    fn lost(&mut self, error: &Error) {
        debug!(error = %chain(error), "the control connection ended");
        if matches!(error.sqlstate(), Some("57P01" | "57P02" | "57P03")) {
            self.has_stopped = true;
            // Who does not listen any more drops the task.
            let _ = self.tell(News::ServerStops);
        }
    }

    /// Connects again, and again. Writes that are asked for meanwhile fail. None: nobody needs it.
    async fn reconnect(&mut self) -> Option<Connection> {
        loop {
            let (postgres, options) = (self.config.postgres.clone(), self.options.clone());
            let (endpoint, identity) = (self.endpoint.clone(), self.identity);
            let attempt = connect_and_compare(&postgres, &options, &endpoint, identity);
            match self.while_away(attempt).await? {
                Ok(connection) => {
                    if std::mem::take(&mut self.has_stopped) {
                        self.tell(News::ServerAnswers).ok()?;
                    }
                    return Some(connection);
                }
                Err(NotAgain::Other(what)) => {
                    self.tell(News::OtherServer(what)).ok()?;
                    return None;
                }
                Err(NotAgain::Lost(error)) => self.lost(&error),
                Err(NotAgain::Failed(error)) => debug!(%error, "no control connection"),
            }
            self.while_away(sleep(RETRY)).await?;
        }
    }

    /// Answers commands until `what` is done. None: nobody needs the connection.
    async fn while_away<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return Some(done),
                command = self.commands.recv() => self.refuse(command).ok()?,
            }
        }
    }
}

/// The session goes on after it.
fn is_of_statement(error: &Error) -> bool {
    let server = error.server();
    server.is_some_and(|server| server.severity == "ERROR")
}

enum NotAgain {
    Other(String),
    Lost(Error),
    Failed(String),
}

async fn connect_and_compare(
    postgres: &Postgres,
    options: &ConnectOptions,
    endpoint: &Endpoint,
    identity: Identity,
) -> Result<Connection, NotAgain> {
    let mut connection = match connect_again(postgres, options, endpoint).await {
        Ok(connection) => connection,
        Err(ConnectError::Postgres(error)) => return Err(NotAgain::Lost(error)),
        Err(ConnectError::Password(error)) => return Err(NotAgain::Failed(error.to_string())),
    };
    prepare(&mut connection).await.map_err(NotAgain::Lost)?;
    let seen = catalog::identity(&mut connection).await;
    match seen.map_err(NotAgain::Lost)? {
        Some(seen) if seen == identity => Ok(connection),
        seen => {
            warn!(
                ?seen,
                ?identity,
                "the control connection reached another server"
            );
            Err(NotAgain::Other(format!("{seen:?} instead of {identity:?}")))
        }
    }
}
