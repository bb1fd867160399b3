//! Every raw call to librdkafka: the only unsafe code of the project.
//!
//! Two things are missing from the `rdkafka` crate. The main event queue can be made to write to a
//! file descriptor when it stops being empty, which is how a producer wakes an event loop without
//! a polling thread. And a delivery report can carry the broker's own words about a rejection.

use std::ffi::{CStr, c_char};
use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings;
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::Producer as _;
use rdkafka::types::RDKafkaRespErr;

use crate::context::Client;

/// What librdkafka writes: only that something arrives matters.
const WAKE_BYTE: [u8; 1] = [1];

/// A reference to the queue on which librdkafka reports deliveries, errors and log lines.
///
/// While it lives, one byte goes to the socket each time that the queue stops being empty. It keeps
/// its client alive, because a queue must not outlive the client that it belongs to.
pub(crate) struct MainQueue {
    queue: NonNull<bindings::rd_kafka_queue_t>,
    // Dropped after `Drop::drop` has run: librdkafka must have forgotten the descriptor before it
    // is closed, and the queue must be gone before the client is.
    _waker: UnixStream,
    _client: Arc<Client>,
}

// SAFETY: librdkafka's queues are reference counted and locked internally and may be used from any
// thread; the pointer is owned by this value alone.
unsafe impl Send for MainQueue {}

impl MainQueue {
    /// Makes the client's main queue write to `waker`, which must be non-blocking: librdkafka
    /// writes while it holds the queue's lock.
    pub(crate) fn waking(client: Arc<Client>, waker: UnixStream) -> Self {
        let handle = client.client().native_ptr();
        // SAFETY: `handle` belongs to `client`, which is alive. The call adds a reference to the
        // main queue that `Drop` gives back.
        let queue = unsafe { bindings::rd_kafka_queue_get_main(handle) };
        let queue = NonNull::new(queue).expect("every client has a main queue");
        // SAFETY: the queue is alive (we hold a reference), the payload is copied by the call, and
        // the descriptor stays open until `Drop` has disabled the events.
        unsafe {
            bindings::rd_kafka_queue_io_event_enable(
                queue.as_ptr(),
                waker.as_raw_fd(),
                WAKE_BYTE.as_ptr().cast(),
                WAKE_BYTE.len(),
            );
        }
        Self {
            queue,
            _waker: waker,
            _client: client,
        }
    }

    /// How many events wait.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: we hold a reference to the queue.
        unsafe { bindings::rd_kafka_queue_length(self.queue.as_ptr()) }
    }
}

impl Drop for MainQueue {
    fn drop(&mut self) {
        // SAFETY: we hold a reference to the queue until the second call. The first one takes the
        // lock under which librdkafka writes to the descriptor, so that nothing is written to it
        // once it has returned. The client is alive: the field is dropped after this.
        unsafe {
            bindings::rd_kafka_queue_io_event_enable(self.queue.as_ptr(), -1, ptr::null(), 0);
            bindings::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

impl fmt::Debug for MainQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MainQueue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// What the broker said about a record that it rejected, if it said anything.
pub(crate) fn broker_explanation(message: &BorrowedMessage<'_>) -> Option<String> {
    // SAFETY: the pointer belongs to a message of a delivery report that `message` keeps alive;
    // the text belongs to the message and is copied before this returns.
    unsafe { copied(bindings::rd_kafka_message_produce_errstr(message.ptr())) }
}

/// The symbolic name of an error code, such as `MSG_SIZE_TOO_LARGE`; `None` where librdkafka does
/// not know the code.
pub(crate) fn code_name(code: i32) -> Option<String> {
    let code = RDKafkaRespErr::try_from(code).ok()?;
    // SAFETY: takes a plain value; the text is static or thread-local and copied at once.
    unsafe { copied(bindings::rd_kafka_err2name(code)) }
}

/// The description of an error code, such as `Broker: Message size too large`.
pub(crate) fn code_description(code: i32) -> Option<String> {
    let code = RDKafkaRespErr::try_from(code).ok()?;
    // SAFETY: takes a plain value; the text is static or thread-local and copied at once.
    unsafe { copied(bindings::rd_kafka_err2str(code)) }
}

/// Copies a C string.
///
/// # Safety
///
/// `text` is null or points to a terminated string that stays unchanged during the call.
unsafe fn copied(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}
