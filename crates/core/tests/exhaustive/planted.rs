//! Mistakes that are made on purpose, at the model's boundary: the search has to find each.

/// A mistake of the owner of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    /// Records are acknowledged when they leave, and not when they arrive.
    AcknowledgesEarly,
    /// A failed record is reported as one that arrived.
    TakesErrorsForAcknowledgements,
    /// The checkpoint is said to be written before it is.
    TellsBeforeItIsWritten,
    /// A session starts where the server's WAL ends.
    StartsAtTheEnd,
    /// Keepalives are not passed on.
    DropsKeepalives,
}
