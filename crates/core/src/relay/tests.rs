//! Tests of the relay as its owner uses it.

mod bench;
mod checkpoint;
mod ending;
mod flow;
mod progress;
mod stream;
mod topics;
mod undeliverable;

use super::*;
