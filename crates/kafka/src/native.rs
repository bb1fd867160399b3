//! Every raw call to librdkafka: the only unsafe code of the project.
//!
//! Some things are missing from the `rdkafka` crate. The main event queue can be made to write to a
//! file descriptor when it stops being empty, which is how a producer wakes an event loop without
//! a polling thread. A delivery report, and an answer about a new topic, can carry the broker's own
//! words. And a token can be set from any thread, with extensions.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, NulError, c_char};
use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings;
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::Producer as _;
use rdkafka::types::RDKafkaRespErr;

use crate::context::Client;
use crate::error::ErrorCode;
use crate::oauth::Token;

/// Room for librdkafka's words.
const TEXT_BYTES: usize = 512;

/// An answer to an administrative request is waited for so much longer than librdkafka itself does.
const ADMIN_SLACK: Duration = Duration::from_secs(1);

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

/// Gives a client the token that it logs in with from now on. Wakes the connections that wait for
/// one.
pub(crate) fn set_token<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    token: &Token,
) -> Result<(), String> {
    let c_string = |text: &str| CString::new(text).map_err(|_| "it has a NUL in it".to_owned());
    let (value, principal) = (c_string(&token.value)?, c_string(&token.principal)?);
    let mut extensions = Vec::new();
    for (name, value) in &token.extensions {
        extensions.push(c_string(name)?);
        extensions.push(c_string(value)?);
    }
    let mut pointers: Vec<_> = extensions.iter().map(|text| text.as_ptr()).collect();
    let mut why = [0; TEXT_BYTES];
    // SAFETY: the client is alive; every string is terminated and outlives the call, which copies
    // them; the sizes are those of the two arrays.
    let result = unsafe {
        bindings::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.expires_ms(),
            principal.as_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            why.as_mut_ptr(),
            why.len(),
        )
    };
    if result == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: librdkafka terminates what it writes, and the array began as zeros.
    let why = unsafe { copied(why.as_ptr()) };
    Err(why.unwrap_or_else(|| "librdkafka does not take it".to_owned()))
}

/// Tells a client that there is no token. An error event with these words follows.
pub(crate) fn set_token_failure<C: ClientContext>(client: &rdkafka::client::Client<C>, why: &str) {
    // A NUL can't be told.
    let Ok(why) = CString::new(why) else { return };
    // SAFETY: the client is alive; the text is terminated and copied by the call.
    unsafe {
        bindings::rd_kafka_oauthbearer_set_token_failure(client.native_ptr(), why.as_ptr());
    }
}

/// Why a topic was not created: the code, and the broker's words.
pub(crate) type TopicError = (ErrorCode, String);

/// Asks the cluster to create a topic. Negative numbers leave the choice to the broker. Blocks for
/// about `timeout` at most.
pub(crate) fn create_topic<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    name: &str,
    partitions: i32,
    replication: i32,
    config: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<(), TopicError> {
    let invalid = |why: String| (ErrorCode::INVALID_ARG, why);
    let topic = NewTopic::new(name, partitions, replication, config).map_err(invalid)?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let wait_ms = i32::try_from((timeout + ADMIN_SLACK).as_millis()).unwrap_or(i32::MAX);
    let handle = client.native_ptr();
    let mut why = [0; TEXT_BYTES];
    // SAFETY: the client is alive. Options, queue and event are made here, used by this thread
    // alone, checked where they can be null, and destroyed exactly once, after their last use; the
    // topic outlives the call that copies it. An answer that comes after the queue was destroyed is
    // librdkafka's to drop. Texts of a result belong to its event and are copied before its end.
    unsafe {
        let options = bindings::rd_kafka_AdminOptions_new(
            handle,
            bindings::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS,
        );
        for set in [
            bindings::rd_kafka_AdminOptions_set_request_timeout,
            bindings::rd_kafka_AdminOptions_set_operation_timeout,
        ] {
            set(options, timeout_ms, why.as_mut_ptr(), why.len());
        }
        let queue = bindings::rd_kafka_queue_new(handle);
        let mut topics = [topic.0.as_ptr()];
        bindings::rd_kafka_CreateTopics(handle, topics.as_mut_ptr(), 1, options, queue);
        let event = bindings::rd_kafka_queue_poll(queue, wait_ms);
        let answer = answer_about_topic(event);
        if !event.is_null() {
            bindings::rd_kafka_event_destroy(event);
        }
        bindings::rd_kafka_queue_destroy(queue);
        bindings::rd_kafka_AdminOptions_destroy(options);
        answer
    }
}

/// Reads the answer to a request for one topic.
///
/// # Safety
///
/// `event` is null or an event that stays alive during the call.
unsafe fn answer_about_topic(event: *mut bindings::rd_kafka_event_t) -> Result<(), TopicError> {
    let error = |code: RDKafkaRespErr, text: Option<String>| {
        let code = ErrorCode(code as i32);
        (code, text.unwrap_or_else(|| code.description()))
    };
    if event.is_null() {
        return Err(error(RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT, None));
    }
    const NONE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    // SAFETY: the event is alive, and with it the result, the list and the texts. The list has as
    // many entries as it says.
    unsafe {
        let code = bindings::rd_kafka_event_error(event);
        if code != NONE {
            return Err(error(
                code,
                copied(bindings::rd_kafka_event_error_string(event)),
            ));
        }
        let result = bindings::rd_kafka_event_CreateTopics_result(event);
        if result.is_null() {
            return Err(error(RDKafkaRespErr::RD_KAFKA_RESP_ERR__FAIL, None));
        }
        let mut count = 0;
        let topics = bindings::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Err(error(RDKafkaRespErr::RD_KAFKA_RESP_ERR__FAIL, None));
        }
        let topic = *topics;
        let code = bindings::rd_kafka_topic_result_error(topic);
        if code == NONE {
            return Ok(());
        }
        Err(error(
            code,
            copied(bindings::rd_kafka_topic_result_error_string(topic)),
        ))
    }
}

/// The description of a topic that does not exist yet.
struct NewTopic(NonNull<bindings::rd_kafka_NewTopic_t>);

impl NewTopic {
    fn new(
        name: &str,
        partitions: i32,
        replication: i32,
        config: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let c_string = |text: &str| CString::new(text).map_err(|error: NulError| error.to_string());
        let name = c_string(name)?;
        let mut why = [0; TEXT_BYTES];
        // SAFETY: the name is terminated and copied by the call; the size is that of the array.
        let topic = unsafe {
            bindings::rd_kafka_NewTopic_new(
                name.as_ptr(),
                partitions,
                replication,
                why.as_mut_ptr(),
                why.len(),
            )
        };
        let Some(topic) = NonNull::new(topic) else {
            // SAFETY: librdkafka terminates what it writes, and the array began as zeros.
            let why = unsafe { copied(why.as_ptr()) };
            return Err(why.unwrap_or_else(|| "librdkafka does not take it".to_owned()));
        };
        let topic = Self(topic);
        for (key, value) in config {
            let (key, value) = (c_string(key)?, c_string(value)?);
            // SAFETY: the topic is alive, and both texts are terminated and copied by the call.
            unsafe {
                bindings::rd_kafka_NewTopic_set_config(
                    topic.0.as_ptr(),
                    key.as_ptr(),
                    value.as_ptr(),
                );
            }
        }
        Ok(topic)
    }
}

impl Drop for NewTopic {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, owned by this value alone.
        unsafe { bindings::rd_kafka_NewTopic_destroy(self.0.as_ptr()) }
    }
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
