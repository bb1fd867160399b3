//! Whether a cluster takes these settings, before they take the place of others that work.

use std::time::Duration;

use crate::context::Context;
use crate::producer::Producer;
use crate::properties::Settings;
use crate::trouble::{Trouble, TroubleKind};

/// Connects with these settings, logs in, and waits for an answer. Blocks, and logs nothing loudly:
/// what does not work is in the error.
///
/// # Errors
///
/// Why nothing can be done with them, or that nobody answered in time.
pub fn prove(settings: &Settings, timeout: Duration) -> Result<(), Trouble> {
    let made = Producer::with_context(settings, Context::quiet(settings));
    let mut producer = made.map_err(|error| {
        let fix = "it is looked at again and again: put it right";
        Trouble::new(TroubleKind::Configuration, error.to_string(), fix)
    })?;
    if producer.metadata().is_there(timeout) {
        return Ok(());
    }
    producer.poll(&mut Vec::new());
    Err(producer.trouble().unwrap_or_else(|| {
        let message = format!("no broker answered within {} s", timeout.as_secs());
        Trouble::new(TroubleKind::Unreachable, message, "is Kafka running?")
    }))
}
