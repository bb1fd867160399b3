//! The wish to stop, from the signals to the relay's thread.

use tokio::sync::watch;

/// What is wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Go on.
    None,
    /// Read no more, let what is in flight arrive, end in order.
    Drain,
}

/// The side that wishes.
#[derive(Debug)]
pub(crate) struct ShutdownHandle(watch::Sender<Shutdown>);

/// The side that looks.
#[derive(Clone, Debug)]
pub(crate) struct ShutdownSignal(watch::Receiver<Shutdown>);

/// Both sides.
pub(crate) fn channel() -> (ShutdownHandle, ShutdownSignal) {
    let (sender, receiver) = watch::channel(Shutdown::None);
    (ShutdownHandle(sender), ShutdownSignal(receiver))
}

impl ShutdownHandle {
    /// Asks for a drain.
    pub(crate) fn drain(&self) {
        self.0.send_replace(Shutdown::Drain);
    }
}

impl ShutdownSignal {
    /// What is wished now.
    pub(crate) fn requested(&self) -> Shutdown {
        *self.0.borrow()
    }

    /// Waits until a stop is wished; at once where it was before. Can be dropped.
    pub(crate) async fn stopped(&mut self) {
        if self
            .0
            .wait_for(|wish| *wish == Shutdown::Drain)
            .await
            .is_err()
        {
            // The other side is gone: nothing will be wished any more.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a wish is uttered that `changed` did not report yet. Can be dropped.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The other side is gone: nothing will be wished any more.
            std::future::pending::<()>().await;
        }
    }
}
