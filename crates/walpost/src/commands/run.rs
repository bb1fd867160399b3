//! `walpost run`: two threads, the signals, and the supervisor's verdict.
//!
//! The relay has a thread of its own, whose runtime it owns alone: it really sleeps at times. The
//! main thread is the side: signals, and questions that block, in its runtime's blocking pool.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::warn;
use walpost_core::class::Exit;

use crate::config::Config;
use crate::error::Error;
use crate::shutdown::{self, ShutdownHandle, ShutdownSignal};
use crate::supervisor::Supervisor;

/// Questions that are still under way at the end are not waited for longer than this.
const SIDE_SHUTDOWN: Duration = Duration::from_millis(100);

/// Streams until stopped, or with `once` until everything that was committed before is delivered.
pub(crate) fn run(config: Config, once: bool) -> Result<(), Error> {
    for warning in config.postgres.conninfo.warnings() {
        warn!("{warning}");
    }
    let internal = |error: anyhow::Error| Error::new(Exit::Internal, format!("{error:#}"));
    let side = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("create the side runtime")
        .map_err(internal)?;
    let ended = side.block_on(async { supervise(config, once).await.map_err(internal) });
    side.shutdown_timeout(SIDE_SHUTDOWN);
    ended?
}

async fn supervise(config: Config, once: bool) -> anyhow::Result<Result<(), Error>> {
    let mut signals = Signals::new().context("listen for signals")?;
    let (shutdown, signal) = shutdown::channel();
    let mut ended = spawn_relay(config, once, signal)?;
    loop {
        tokio::select! {
            ended = &mut ended => return ended.context("the relay's thread is gone"),
            () = signals.next() => signals.received(&shutdown),
        }
    }
}

/// Starts the relay's thread. Its result comes through the channel.
pub(super) fn spawn_relay(
    config: Config,
    once: bool,
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
            let supervisor = Supervisor::new(&config, once, signal, side);
            let result = runtime.block_on(supervisor.run());
            // The receiver only goes away with the process.
            let _ = sender.send(result);
        })
        .context("start the relay's thread")?;
    Ok(receiver)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    received: u32,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            received: 0,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The first one drains, the second one ends the process where it stands.
    fn received(&mut self, shutdown: &ShutdownHandle) {
        self.received += 1;
        if self.received > 1 {
            warn!("stopped at once: what was in flight comes again at the next start");
            crate::telemetry::flush();
            std::process::exit(0);
        }
        shutdown.drain();
    }
}
