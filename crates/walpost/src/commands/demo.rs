//! `walpost demo`: everything at once, on this machine, and nothing left of it.
//!
//! ```text
//! writer --> Postgres --> relay --> Kafka --> viewer
//! ```
//!
//! Postgres is a throwaway cluster of the installed binaries, Kafka is librdkafka's mock cluster
//! inside this process; either can be a real one instead. The relay is the one of `walpost run`.

mod binaries;
mod cluster;
mod guard;
mod introduction;
mod kafka;
mod shop;
mod stage;
mod view;
mod writer;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot::Receiver;
use walpost_core::class::Exit;

use self::cluster::Cluster;
use self::introduction::Introduction;
use self::kafka::{Broker, Viewer};
use self::stage::Stage;
use self::view::View;
use self::writer::Writer;
use super::run::{Orders, spawn_relay};
use crate::cli::DemoArgs;
use crate::config::{Config, Sources};
use crate::error::Error;
use crate::shutdown::{self, ShutdownHandle};

/// Questions that are still under way at the end are not waited for longer than this.
const SIDE_SHUTDOWN: Duration = Duration::from_millis(100);

/// A file without settings: what lies in the working directory is not meant for a demo.
const NO_FILE: &str = "/dev/null";

/// What a server says at its end comes a moment after its connections are lost.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs until it is interrupted, or has shown as many records as were asked for.
pub(crate) fn demo(args: &DemoArgs, sources: Sources) -> Result<(), Error> {
    let side = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal("create the demo's runtime", &error))?;
    let ended = side.block_on(Box::pin(rehearse(args, sources)));
    side.shutdown_timeout(SIDE_SHUTDOWN);
    match ended {
        Ok(()) | Err(Stop::Unread) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why the demo ends before it is wished to.
enum Stop {
    /// Nobody reads what it prints (`| head`).
    Unread,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// An error of printing.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Unread;
        }
        Self::Failed(internal("print", &error))
    }
}

/// Sets the servers up, lets the demo run, and takes down what was set up, however it ended.
async fn rehearse(args: &DemoArgs, sources: Sources) -> Result<(), Stop> {
    let mut signals = Signals::new().map_err(|error| internal("listen for signals", &error))?;
    let mut view = View::new();
    let broker = Broker::open(args.kafka.as_deref())?;
    let cluster = match &args.postgres {
        Some(_) => None,
        None => {
            view.note("starting a throwaway Postgres ...")?;
            tokio::select! {
                cluster = Cluster::start() => Some(cluster?),
                () = signals.next() => return Ok(()),
            }
        }
    };
    let mut scene = Scene::new(args, sources, broker, cluster)?;
    let played = Box::pin(scene.play(args, &mut view, &mut signals)).await;
    let removed = scene.stage.remove(&scene.config).await;
    played?;
    removed?;
    Ok(view.end()?)
}

/// Where the demo plays.
struct Scene {
    config: Config,
    stage: Stage,
    broker: Broker,
    /// `None`: a server of the user's.
    cluster: Option<Cluster>,
}

impl Scene {
    fn new(
        args: &DemoArgs,
        mut sources: Sources,
        broker: Broker,
        cluster: Option<Cluster>,
    ) -> Result<Self, Error> {
        let (stage, url) = match &cluster {
            Some(cluster) => (Stage::thrown_away(), cluster.url()),
            None => (Stage::kept(), exposed(args.postgres.as_ref())),
        };
        // Variables that configure a relay, or the client of a server that is not ours, are not
        // meant for the demo. Flags are, and come after ours.
        let is_foreign = |name: &str| {
            name.starts_with("WALPOST_") || (cluster.is_some() && name.starts_with("PG"))
        };
        sources.variables.retain(|(name, _)| !is_foreign(name));
        sources.file.get_or_insert_with(|| PathBuf::from(NO_FILE));
        let ours = [
            format!("postgres.url={url}"),
            format!("postgres.slot={}", stage.slot()),
            format!("postgres.publication={}", stage.slot()),
            format!("postgres.checkpoint={}", stage.checkpoint()),
            format!("outbox.table={}", stage.outbox()),
            format!("kafka.brokers={}", broker.bootstrap()),
        ];
        sources.set.splice(..0, ours);
        let config = Config::load(&sources)?;
        Ok(Self {
            config,
            stage,
            broker,
            cluster,
        })
    }

    async fn play(
        &mut self,
        args: &DemoArgs,
        view: &mut View,
        signals: &mut Signals,
    ) -> Result<(), Stop> {
        let viewer = tokio::select! {
            viewer = Viewer::open(&self.broker, &self.config.kafka.settings) => viewer?,
            () = signals.next() => return Ok(()),
        };
        tokio::select! {
            made = self.stage.set_up(&self.config) => made?,
            () = signals.next() => return Ok(()),
        }
        let introduction = Introduction {
            stage: &self.stage,
            broker: &self.broker,
            cluster: self.cluster.as_ref(),
            conninfo: &self.config.postgres.conninfo,
            partitions: viewer.partitions(),
            rate: args.rate,
        };
        view.print(&introduction.text())?;

        let mut relay = Relay::start(&self.config)?;
        let (notes, noted) = unbounded_channel();
        let writer = Writer {
            stage: &self.stage,
            config: &self.config,
            topic: self.broker.topic(),
            rate: args.rate,
            notes,
        };
        let watch = Watch {
            relay: &mut relay,
            writing: Box::pin(writer.run()),
            noted,
            cluster: self.cluster.as_mut(),
            viewer,
            events: args.events,
        };
        let watched = watch.run(view, signals).await;
        tokio::select! {
            stopped = relay.stop() => watched.and(stopped.map_err(Stop::from)),
            // A second signal: nobody wants to wait.
            () = signals.next() => watched,
        }
    }
}

fn exposed(url: Option<&SecretString>) -> String {
    url.map(|url| url.expose_secret().to_owned())
        .unwrap_or_default()
}

/// The relay, on its own thread.
struct Relay {
    shutdown: ShutdownHandle,
    /// `None` when it has ended.
    result: Option<Receiver<Result<(), Error>>>,
}

impl Relay {
    fn start(config: &Config) -> Result<Self, Error> {
        let (shutdown, signal) = shutdown::channel();
        let result = Some(spawn_relay(config.clone(), Orders::default(), signal)?);
        Ok(Self { shutdown, result })
    }

    /// Waits for its end. Can be dropped.
    async fn ended(&mut self) -> Result<(), Error> {
        let Some(result) = &mut self.result else {
            return Ok(());
        };
        let ended = result.await;
        self.result = None;
        ended.unwrap_or_else(|_| Err(Error::new(Exit::Internal, "the relay's thread is gone")))
    }

    /// Lets it deliver and confirm what it has read, and waits for its end.
    async fn stop(&mut self) -> Result<(), Error> {
        self.shutdown.drain();
        self.ended().await
    }
}

/// Everything that goes on while the demo runs.
struct Watch<'a> {
    relay: &'a mut Relay,
    writing: Pin<Box<dyn Future<Output = Result<Infallible, Error>> + 'a>>,
    noted: UnboundedReceiver<String>,
    cluster: Option<&'a mut Cluster>,
    viewer: Viewer,
    /// End after so many records.
    events: Option<u64>,
}

impl Watch<'_> {
    /// Prints records until there are enough, a signal comes or something fails.
    async fn run(mut self, view: &mut View, signals: &mut Signals) -> Result<(), Stop> {
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return Ok(()),
                ended = self.relay.ended() => return Err(relay_ended(ended).into()),
                why = cluster_ended(&mut self.cluster) => return Err(why.into()),
                Err(why) = &mut self.writing => return Err(self.cause(why).await.into()),
                Some(note) = self.noted.recv() => view.note(&note)?,
                seen = self.viewer.next() => {
                    view.record(&seen?)?;
                    if self.events.is_some_and(|events| view.records() >= events) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A writer that has failed, or the server that is gone.
    async fn cause(&mut self, why: Error) -> Error {
        let gone = cluster_ended(&mut self.cluster);
        tokio::time::timeout(LAST_WORDS, gone).await.unwrap_or(why)
    }
}

fn relay_ended(result: Result<(), Error>) -> Error {
    let unasked = || {
        Error::new(
            Exit::Internal,
            "the relay has stopped, and nobody asked it to",
        )
    };
    result.err().unwrap_or_else(unasked)
}

/// A server of the user's is the relay's to watch.
async fn cluster_ended(cluster: &mut Option<&mut Cluster>) -> Error {
    match cluster {
        Some(cluster) => cluster.ended().await,
        None => std::future::pending().await,
    }
}

/// What ends a demo: Ctrl-C, `kill`, a terminal that is closed.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one. Can be dropped.
    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn internal(action: &str, error: &io::Error) -> Error {
    Error::new(Exit::Internal, format!("can't {action}: {error}"))
}
