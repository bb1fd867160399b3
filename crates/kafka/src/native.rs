//! Every raw call to librdkafka: the only unsafe code of the project.
//!
//! Some things are missing from the `rdkafka` crate. The main event queue can be made to write to a
//! file descriptor when it stops being empty, which is how a producer wakes an event loop without
//! a polling thread. A delivery report, and an answer about a new topic, can carry the broker's own
//! words. A token can be set from any thread, with extensions. And what is asked of the cluster is
//! asked on the client that delivers, over its connections.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings;
use rdkafka::bindings::rd_kafka_admin_op_t as AdminOp;
use rdkafka::producer::Producer as _;
use rdkafka::types::RDKafkaRespErr;

use crate::configs::TopicConfig;
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
    Err(why.unwrap_or_else(not_taken))
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

/// Why an administrative request failed, or a part of it: the code, and the broker's words.
pub(crate) type AdminError = (ErrorCode, String);

/// An answer to an administrative request.
pub(crate) type Told<T> = Result<T, AdminError>;

/// Asks the cluster to create a topic, or only whether it would. Negative numbers leave the choice
/// to the broker. Blocks for about `timeout` at most.
pub(crate) fn create_topic<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    name: &str,
    (partitions, replication): (i32, i32),
    config: &BTreeMap<String, String>,
    validate_only: bool,
    timeout: Duration,
) -> Told<()> {
    let invalid = |why: String| (ErrorCode::INVALID_ARG, why);
    let topic = NewTopic::new(name, partitions, replication, config).map_err(invalid)?;
    let options = Options::new(client, AdminOp::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout);
    // SAFETY: the options are alive, and no text is asked for.
    unsafe {
        bindings::rd_kafka_AdminOptions_set_validate_only(
            options.0.as_ptr(),
            i32::from(validate_only),
            ptr::null_mut(),
            0,
        );
    }
    let mut topics = [topic.0.as_ptr()];
    let answer = ask(client, timeout, |handle, queue| {
        // SAFETY: everything is alive, and the array is as long as it says. The call copies what it
        // needs.
        unsafe {
            bindings::rd_kafka_CreateTopics(
                handle,
                topics.as_mut_ptr(),
                topics.len(),
                options.0.as_ptr(),
                queue,
            );
        }
    })?;
    // SAFETY: the event is alive as long as `answer` is, and with it the result, its list and its
    // texts. The list has as many entries as it says.
    unsafe {
        let result = bindings::rd_kafka_event_CreateTopics_result(answer.0.as_ptr());
        let mut count = 0;
        let topics = match result.is_null() {
            true => ptr::null_mut(),
            false => bindings::rd_kafka_CreateTopics_result_topics(result, &raw mut count),
        };
        let topic = *listed(topics, count).first().ok_or_else(no_answer)?;
        let code = bindings::rd_kafka_topic_result_error(topic);
        checked(
            code,
            copied(bindings::rd_kafka_topic_result_error_string(topic)),
        )
    }
}

/// The configurations of topics: names and values, or why one is not shown. Blocks for about
/// `timeout` at most.
pub(crate) fn topic_configs<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Told<Vec<(String, Told<TopicConfig>)>> {
    let resources: Result<Vec<_>, _> = topics.iter().map(|name| Resource::topic(name)).collect();
    let resources = resources.map_err(|why| (ErrorCode::INVALID_ARG, why))?;
    let options = Options::new(client, AdminOp::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
    let mut pointers: Vec<_> = resources.iter().map(|one| one.0.as_ptr()).collect();
    let answer = ask(client, timeout, |handle, queue| {
        // SAFETY: everything is alive, and the array is as long as it says. The call copies what it
        // needs.
        unsafe {
            bindings::rd_kafka_DescribeConfigs(
                handle,
                pointers.as_mut_ptr(),
                pointers.len(),
                options.0.as_ptr(),
                queue,
            );
        }
    })?;
    // SAFETY: the event is alive as long as `answer` is, and with it the result, its lists and its
    // texts. Each list has as many entries as it says.
    unsafe {
        let result = bindings::rd_kafka_event_DescribeConfigs_result(answer.0.as_ptr());
        let mut count = 0;
        let found = match result.is_null() {
            true => ptr::null_mut(),
            false => bindings::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count),
        };
        let config = |one| {
            let name = copied(bindings::rd_kafka_ConfigResource_name(one)).unwrap_or_default();
            let code = bindings::rd_kafka_ConfigResource_error(one);
            let said = copied(bindings::rd_kafka_ConfigResource_error_string(one));
            let mut count = 0;
            let entries = bindings::rd_kafka_ConfigResource_configs(one, &raw mut count);
            let entry = |entry: &*const _| {
                let name = copied(bindings::rd_kafka_ConfigEntry_name(*entry))?;
                Some((name, copied(bindings::rd_kafka_ConfigEntry_value(*entry))?))
            };
            let entries = listed(entries, count).iter().filter_map(entry).collect();
            (name, checked(code, said).map(|()| entries))
        };
        Ok(listed(found, count)
            .iter()
            .map(|one| config(*one))
            .collect())
    }
}

/// Whether the topic may be written to, as the cluster tells whoever asks; `None` where it does not
/// tell. Blocks for about `timeout` at most.
pub(crate) fn may_write<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    topic: &str,
    timeout: Duration,
) -> Told<Option<bool>> {
    let topics = Topics::one(topic).map_err(|why| (ErrorCode::INVALID_ARG, why))?;
    let options = Options::new(client, AdminOp::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
    // SAFETY: the options are alive. The error, if there is one, is ours to destroy; null is fine.
    unsafe {
        let options = options.0.as_ptr();
        let error = bindings::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        bindings::rd_kafka_error_destroy(error);
    }
    let answer = ask(client, timeout, |handle, queue| {
        // SAFETY: everything is alive. The call copies what it needs.
        unsafe {
            bindings::rd_kafka_DescribeTopics(handle, topics.0.as_ptr(), options.0.as_ptr(), queue);
        }
    })?;
    // SAFETY: the event is alive as long as `answer` is, and with it the result, its lists and its
    // error. Each list has as many entries as it says.
    unsafe {
        let result = bindings::rd_kafka_event_DescribeTopics_result(answer.0.as_ptr());
        let mut count = 0;
        let found = match result.is_null() {
            true => ptr::null_mut(),
            false => bindings::rd_kafka_DescribeTopics_result_topics(result, &raw mut count),
        };
        let topic = *listed(found, count).first().ok_or_else(no_answer)?;
        let error = bindings::rd_kafka_TopicDescription_error(topic);
        let code = bindings::rd_kafka_error_code(error);
        checked(code, copied(bindings::rd_kafka_error_string(error)))?;
        let mut count = 0;
        let operations =
            bindings::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        // As numbers: librdkafka could name one that the bindings don't know.
        let operations: *const u32 = operations.cast();
        let write = bindings::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE as u32;
        Ok((!operations.is_null()).then(|| listed(operations, count).contains(&write)))
    }
}

/// Sends a request and waits for the answer, or for why there is none.
fn ask<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    timeout: Duration,
    send: impl FnOnce(*mut bindings::rd_kafka_t, *mut bindings::rd_kafka_queue_t),
) -> Told<Event> {
    let handle = client.native_ptr();
    let wait_ms = millis(timeout.saturating_add(ADMIN_SLACK));
    // SAFETY: the client is alive. The queue is made here, used by this thread alone, and destroyed
    // once. An answer that comes after that is librdkafka's to drop.
    let event = unsafe {
        let queue = bindings::rd_kafka_queue_new(handle);
        send(handle, queue);
        let event = bindings::rd_kafka_queue_poll(queue, wait_ms);
        bindings::rd_kafka_queue_destroy(queue);
        event
    };
    let Some(event) = NonNull::new(event).map(Event) else {
        checked(RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT, None)?;
        return Err(no_answer());
    };
    // SAFETY: the event is alive, and with it the text, which is copied.
    unsafe {
        let code = bindings::rd_kafka_event_error(event.0.as_ptr());
        checked(
            code,
            copied(bindings::rd_kafka_event_error_string(event.0.as_ptr())),
        )?;
    }
    Ok(event)
}

/// An error where the code is one, with the description of the code where the broker said nothing.
fn checked(code: RDKafkaRespErr, said: Option<String>) -> Told<()> {
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let code = ErrorCode(code as i32);
    Err((code, said.unwrap_or_else(|| code.description())))
}

fn no_answer() -> AdminError {
    (ErrorCode::FAIL, "the answer has nothing in it".to_owned())
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// An array of librdkafka's.
///
/// # Safety
///
/// `first` is null, or points to so many values that stay unchanged for as long as the result is
/// used.
unsafe fn listed<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// An answer. What is read from it lives as long as it does.
struct Event(NonNull<bindings::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, owned by this value alone.
        unsafe { bindings::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// The options of an administrative request.
struct Options(NonNull<bindings::rd_kafka_AdminOptions_t>);

impl Options {
    fn new<C: ClientContext>(
        client: &rdkafka::client::Client<C>,
        operation: AdminOp,
        timeout: Duration,
    ) -> Self {
        // SAFETY: the client is alive; null, the answer to an unknown operation, is looked at.
        let made = unsafe { bindings::rd_kafka_AdminOptions_new(client.native_ptr(), operation) };
        let options = Self(NonNull::new(made).expect("librdkafka knows its own operations"));
        // SAFETY: the options are alive, and no text is asked for.
        unsafe {
            bindings::rd_kafka_AdminOptions_set_request_timeout(
                options.0.as_ptr(),
                millis(timeout),
                ptr::null_mut(),
                0,
            );
            // Not every operation has it: a refusal changes nothing.
            bindings::rd_kafka_AdminOptions_set_operation_timeout(
                options.0.as_ptr(),
                millis(timeout),
                ptr::null_mut(),
                0,
            );
        }
        options
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, owned by this value alone.
        unsafe { bindings::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

/// Something whose configuration is asked for.
struct Resource(NonNull<bindings::rd_kafka_ConfigResource_t>);

impl Resource {
    fn topic(name: &str) -> Result<Self, String> {
        let name = c_string(name)?;
        let kind = bindings::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: the name is terminated and copied by the call.
        let made = unsafe { bindings::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
        NonNull::new(made).map(Self).ok_or_else(not_taken)
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, owned by this value alone.
        unsafe { bindings::rd_kafka_ConfigResource_destroy(self.0.as_ptr()) }
    }
}

/// Topics to be described.
struct Topics(NonNull<bindings::rd_kafka_TopicCollection_t>);

impl Topics {
    fn one(name: &str) -> Result<Self, String> {
        let name = c_string(name)?;
        let mut names = [name.as_ptr()];
        // SAFETY: the array is as long as it says; the name is terminated and copied by the call.
        let made = unsafe {
            bindings::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len())
        };
        NonNull::new(made).map(Self).ok_or_else(not_taken)
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, owned by this value alone.
        unsafe { bindings::rd_kafka_TopicCollection_destroy(self.0.as_ptr()) }
    }
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "it has a NUL in it".to_owned())
}

fn not_taken() -> String {
    "librdkafka does not take it".to_owned()
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
            return Err(why.unwrap_or_else(not_taken));
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
