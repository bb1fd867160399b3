//! What the relay is told, and the places around it at which a test build can be made to die.

use walpost_core::RelayError;
use walpost_crashpoint as crash_point;
use walpost_kafka::Delivery;
use walpost_pgoutput::CopyMessage;

use super::Session;
use super::convert::core_delivery;

impl Session<'_> {
    /// A message of the stream.
    pub(super) fn relay_message(&mut self, message: CopyMessage) -> Result<(), RelayError> {
        let relay = &mut self.relay;
        crash_point::moved!("barrier", relay.confirmed(), {
            crash_point::around!(point(&message), relay.handle_wal(message)?);
        });
        Ok(())
    }

    /// A delivery report.
    pub(super) fn relay_delivery(&mut self, delivery: Delivery) -> Result<(), RelayError> {
        let relay = &mut self.relay;
        crash_point::moved!("advance", relay.confirmed(), {
            crash_point::around!("report", relay.handle_delivery(core_delivery(delivery)))
        })
    }
}

/// The crash point of a message.
#[cfg(debug_assertions)]
fn point(message: &CopyMessage) -> &'static str {
    match message {
        CopyMessage::Keepalive(_) => "keepalive",
        CopyMessage::XLogData(data) => match data.data.first() {
            Some(b'B') => "begin",
            Some(b'R') => "relation",
            Some(b'I') => "row",
            Some(b'C') => "commit",
            _ => "other",
        },
    }
}
