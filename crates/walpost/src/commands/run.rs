//! `walpost run`: two threads, the signals, and the supervisor's verdict.
//!
//! The relay has a thread of its own, whose runtime it owns alone: it really sleeps at times. The
//! main thread is the side: signals, and questions that block, in its runtime's blocking pool.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::warn;
use walpost_core::class::Exit;
use walpost_core::start::Accepted;

use crate::cli::RunArgs;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Status;
use crate::shutdown::{self, ShutdownSignal};
use crate::supervisor::Supervisor;

/// Questions that are still under way at the end are not waited for longer than this.
const SIDE_SHUTDOWN: Duration = Duration::from_millis(100);

/// Two signals within so short a time are one wish: `timeout`, and whoever else passes a signal on
/// that the whole process group has got already, sends it twice. Nobody presses a key as fast.
const ECHO: Duration = Duration::from_millis(200);

/// How the relay is run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    /// Until everything that was committed before is delivered.
    pub once: bool,
    /// What the start gate lets pass.
    pub accepted: Accepted,
    /// Ids of events that are passed over.
    pub skipped_ids: Vec<String>,
}

impl From<&RunArgs> for Orders {
    fn from(args: &RunArgs) -> Self {
        Self {
            once: args.once,
            accepted: args.accept.accepted(),
            skipped_ids: args.skip_id.clone(),
        }
    }
}

/// Streams until stopped, or once.
pub(crate) fn run(config: Config, orders: Orders) -> Result<(), Error> {
    if config.postgres.checkpoint.is_some() && !orders.skipped_ids.is_empty() {
        let message = "--skip-id is for postgres.checkpoint: none";
        let fix = "walpost skip POSITION ID --reason TEXT records what is let pass";
        return Err(Error::new(Status::Usage, message).with_fix(fix));
    }
    for warning in config.postgres.conninfo.warnings() {
        warn!("{warning}");
    }
    let internal = |error: anyhow::Error| Error::new(Exit::Internal, format!("{error:#}"));
    let side = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("create the side runtime")
        .map_err(internal)?;
    let ended = side.block_on(async { supervise(config, orders).await.map_err(internal) });
    side.shutdown_timeout(SIDE_SHUTDOWN);
    ended?
}

async fn supervise(config: Config, orders: Orders) -> anyhow::Result<Result<(), Error>> {
    let once = orders.once;
    let mut signals = Signals::new().context("listen for signals")?;
    let (shutdown, signal) = shutdown::channel();
    let mut ended = spawn_relay(config, orders, signal)?;
    loop {
        tokio::select! {
            ended = &mut ended => return ended.context("the relay's thread is gone"),
            () = signals.next() => match signals.wish(Instant::now()) {
                Wish::Drain => shutdown.drain(),
                Wish::Nothing => {}
                Wish::End => end_at_once(once),
            },
        }
    }
}

/// Starts the relay's thread. Its result comes through the channel.
pub(super) fn spawn_relay(
    config: Config,
    orders: Orders,
    signal: ShutdownSignal,
) -> anyhow::Result<oneshot::Receiver<Result<(), Error>>> {
    let side = Handle::current();
    let (sender, receiver) = oneshot::channel();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("create the relay's runtime")?;
    std::thread::Builder::new()
        .name("relay".to_owned())
        .spawn(move || {
            let supervisor = Supervisor::new(&config, orders, signal, side);
            let result = runtime.block_on(supervisor.run());
            // The receiver only goes away with the process.
            let _ = sender.send(result);
        })
        .context("start the relay's thread")?;
    Ok(receiver)
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Let what is in flight arrive, and end in order.
    Drain,
    /// What is done already.
    Nothing,
    /// End where it stands.
    End,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// When the first one came.
    first: Option<Instant>,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            first: None,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// What the signal that has come now asks for.
    fn wish(&mut self, now: Instant) -> Wish {
        match self.first {
            None => {
                self.first = Some(now);
                Wish::Drain
            }
            Some(first) if now.duration_since(first) < ECHO => Wish::Nothing,
            Some(_) => Wish::End,
        }
    }
}

fn end_at_once(once: bool) -> ! {
    warn!("stopped at once: what was in flight comes again at the next start");
    crate::telemetry::flush();
    let status = if once {
        Status::Interrupted
    } else {
        Status::Done
    };
    std::process::exit(status.code().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_signal_ends_it_unless_it_is_the_echo_of_the_first() {
        let mut signals = Signals::new().unwrap();
        let first = Instant::now();
        let mut wish = |after| signals.wish(first + Duration::from_millis(after));
        assert_eq!(wish(0), Wish::Drain);
        assert_eq!(wish(0), Wish::Nothing);
        assert_eq!(wish(199), Wish::Nothing);
        assert_eq!(wish(200), Wish::End);
    }
}
