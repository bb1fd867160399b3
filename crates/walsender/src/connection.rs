//! A session with the server until it streams: connecting and SQL.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use postgres_protocol::message::frontend;
use tokio::time::timeout;

use crate::{
    backend::{self, tag},
    command::StartReplication,
    conninfo::{Conninfo, Endpoint},
    error::{Cause, Error, Notice, ServerError},
    hosts,
    row::Row,
    startup::Greeting,
    stream::WalStream,
    wire::Wire,
};

/// How long `close` tries to say good-bye.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// Notices that are kept until someone asks for them.
const NOTICES_MAX: usize = 64;

/// What the session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// SQL only.
    Sql,
    /// Replication commands beside SQL (`replication=database`). The role needs the attribute
    /// REPLICATION.
    Replication,
}

/// How to connect, apart from where.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// What the session is for.
    pub mode: Mode,
    /// The session's name in `pg_stat_activity`; left to the server where empty.
    pub application_name: String,
    /// `wal_sender_timeout` that a replication session asks for; zero: none. A pooler may drop it:
    /// what the server made of it is to be read back by `SHOW wal_sender_timeout`.
    pub wal_sender_timeout: Duration,
    /// Places of the connection string that are not tried: an earlier connection was there, and
    /// what it found will not do.
    pub passed_over: Vec<Endpoint>,
    /// Limit for one message of the server, in bytes. One above it is an error that ends the
    /// connection.
    pub message_bytes_max: usize,
}

impl Default for ConnectOptions {
    /// A replication session with a timeout of 60 s; messages up to the largest that a server can
    /// send.
    fn default() -> Self {
        Self {
            mode: Mode::Replication,
            application_name: String::new(),
            wal_sender_timeout: Duration::from_secs(60),
            passed_over: Vec::new(),
            message_bytes_max: (1 << 30) + (64 << 10),
        }
    }
}

/// A session that is ready for queries.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    endpoint: Endpoint,
    parameters: BTreeMap<String, String>,
    backend_pid: i32,
    notices: Vec<Notice>,
    /// An answer has not been read to its end: by an error, or because its reader was cancelled.
    out_of_step: bool,
}

impl Connection {
    /// Connects, with TLS as the settings want it, and authenticates: trust, password in the clear,
    /// MD5, SCRAM-SHA-256 (bound to TLS where both sides can) or client certificate, as the server
    /// asks.
    ///
    /// The servers of `conninfo`, and all addresses of each, are tried in turn until one lets us in
    /// and is of the kind that `target_session_attrs` asks for. An address that can't be reached,
    /// or not in time, a server that can't take sessions now, and one of another kind are passed
    /// over; any other refusal ends the search. `conninfo.connect_timeout` covers all that is done
    /// at one address.
    ///
    /// # Errors
    ///
    /// What happened at the last address that was tried, and in the source all that happened:
    /// [`is_io`](Error::is_io) when it could not be reached, [`is_timeout`](Error::is_timeout),
    /// [`server`](Error::server) when the server refuses, [`is_target`](Error::is_target) when it
    /// is of another kind, [`tls`](Error::tls), [`is_authentication`](Error::is_authentication),
    /// [`is_protocol`](Error::is_protocol) when the other side is no Postgres.
    pub async fn connect(conninfo: &Conninfo, options: &ConnectOptions) -> Result<Self, Error> {
        hosts::connect(conninfo, options)
            .await
            .map_err(|cause| Error::new(format!("connect to {conninfo}"), cause))
    }

    pub(crate) fn new(wire: Wire, endpoint: Endpoint, greeting: Greeting) -> Self {
        Self {
            wire,
            endpoint,
            parameters: greeting.parameters,
            backend_pid: greeting.backend_pid,
            notices: Vec::new(),
            out_of_step: false,
        }
    }

    /// Where the server was found, to connect to the same one again.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The server's version as a number, such as 150018 for 15.18; `None` when it did not say.
    pub fn server_version(&self) -> Option<u32> {
        version_number(self.parameter("server_version")?)
    }

    /// A parameter that the server reports, such as `server_version` or `TimeZone`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The server's process for this session, as it told at the start. A pooler makes one up:
    /// `pg_backend_pid()` knows.
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Notices that came with queries since the last call; of very many only the first are kept.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Runs SQL by the simple query protocol. Of several statements in one text, all rows are
    /// returned.
    ///
    /// Not cancel-safe: a connection whose query was given up refuses the next one.
    ///
    /// # Errors
    ///
    /// [`server`](Error::server) for a SQL error; unless its severity is `FATAL`, the connection
    /// stays usable. After any other error it is not.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        self.run(sql)
            .await
            .map_err(|cause| Error::new("run a query", cause))
    }

    /// The only value of the answer.
    pub(crate) async fn ask(&mut self, sql: &str) -> Result<String, Cause> {
        let rows = self.run(sql).await?;
        match rows.as_slice() {
            [row] => row.get(0).map(str::to_owned),
            _ => None,
        }
        .ok_or(Cause::Usage("a question has no answer"))
    }

    async fn run(&mut self, sql: &str) -> Result<Vec<Row>, Cause> {
        self.send_query(sql).await?;
        let mut failure = None;
        match self.receive_result(&mut failure).await {
            Ok(rows) => match failure {
                None => Ok(rows),
                Some(error) => Err(Cause::server(error)),
            },
            // The server says why it closes before it does.
            Err(cause) => Err(failure.map_or(cause, Cause::server)),
        }
    }

    async fn send_query(&mut self, sql: &str) -> Result<(), Cause> {
        if self.out_of_step {
            return Err(Cause::Usage(
                "an earlier query on this connection was not finished",
            ));
        }
        frontend::query(sql, &mut self.wire.output).map_err(|_| {
            self.wire.output.clear();
            Cause::Usage("the query holds a zero byte")
        })?;
        self.out_of_step = true;
        self.wire.flush().await
    }

    /// Reads up to `ReadyForQuery`. The last error of the server goes to `failure`.
    async fn receive_result(
        &mut self,
        failure: &mut Option<ServerError>,
    ) -> Result<Vec<Row>, Cause> {
        let mut rows = Vec::new();
        let mut columns: Arc<[String]> = Arc::new([]);
        loop {
            let frame = self.wire.receive().await?;
            let (tag, offset) = (frame.tag, frame.offset);
            match tag {
                tag::ROW_DESCRIPTION => columns = backend::row_description(frame)?.into(),
                tag::DATA_ROW => {
                    let values = backend::data_row(frame)?;
                    if values.len() != columns.len() {
                        return Err(Cause::protocol("row with other columns", tag, offset));
                    }
                    rows.push(Row::new(Arc::clone(&columns), values));
                }
                tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE => {}
                tag::NOTIFICATION_RESPONSE => {}
                tag::NOTICE_RESPONSE => self.note(backend::notice(frame)?),
                tag::PARAMETER_STATUS => {
                    let (name, value) = backend::parameter_status(frame)?;
                    self.parameters.insert(name, value);
                }
                tag::ERROR_RESPONSE => *failure = Some(backend::server_error(frame)?),
                tag::READY_FOR_QUERY => {
                    self.out_of_step = false;
                    return Ok(rows);
                }
                _ => return Err(Cause::protocol("unexpected after a query", tag, offset)),
            }
        }
    }

    fn note(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    /// Waits for the end of an idle session: what the server says unasked is a notice, which is
    /// kept, or why it ends the session. Can be dropped and called again.
    ///
    /// # Errors
    ///
    /// The end, which is all that there is to wait for: [`server`](Error::server) where the server
    /// says why, such as 57P01 when it stops.
    pub async fn end_of_session(&mut self) -> Error {
        Error::new("wait on an idle session", self.idle().await)
    }

    async fn idle(&mut self) -> Cause {
        loop {
            let frame = match self.wire.receive().await {
                Ok(frame) => frame,
                Err(cause) => return cause,
            };
            let (tag, offset) = (frame.tag, frame.offset);
            let read = match tag {
                tag::NOTICE_RESPONSE => backend::notice(frame).map(|notice| self.note(notice)),
                tag::PARAMETER_STATUS => backend::parameter_status(frame).map(|(name, value)| {
                    self.parameters.insert(name, value);
                }),
                tag::NOTIFICATION_RESPONSE => Ok(()),
                tag::ERROR_RESPONSE => match backend::server_error(frame) {
                    Ok(error) => return Cause::server(error),
                    Err(cause) => Err(cause),
                },
                _ => Err(Cause::protocol(
                    "unexpected in an idle session",
                    tag,
                    offset,
                )),
            };
            if let Err(cause) = read {
                return cause;
            }
        }
    }

    /// Starts to stream. The session is then a stream until its end.
    ///
    /// # Errors
    ///
    /// [`server`](Error::server) when the server refuses, for instance 42704 for a slot that does
    /// not exist and 55006 for one that is in use. The connection is closed by then.
    pub async fn start_replication(
        mut self,
        start: &StartReplication<'_>,
    ) -> Result<WalStream, Error> {
        match self.enter_copy_both(&start.to_command()).await {
            Ok(()) => Ok(WalStream::new(self.wire)),
            Err(cause) => Err(Error::new("start replication", cause)),
        }
    }

    async fn enter_copy_both(&mut self, command: &str) -> Result<(), Cause> {
        self.send_query(command).await?;
        loop {
            let frame = self.wire.receive().await?;
            match frame.tag {
                tag::COPY_BOTH_RESPONSE => return Ok(()),
                tag::ERROR_RESPONSE => return Err(Cause::server(backend::server_error(frame)?)),
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE => {}
                tag => {
                    let what = "unexpected before the stream";
                    return Err(Cause::protocol(what, tag, frame.offset));
                }
            }
        }
    }

    /// Ends the session. Dropping a connection ends it too, but the server logs a lost client.
    pub async fn close(mut self) {
        frontend::terminate(&mut self.wire.output);
        // Whether it is heard makes no difference: the socket is closed either way.
        drop(timeout(CLOSE_TIMEOUT, self.wire.flush()).await);
    }
}

/// The number that `server_version_num` would show for the text of `server_version`.
fn version_number(text: &str) -> Option<u32> {
    let mut parts = text
        .split(|char: char| !char.is_ascii_digit() && char != '.')
        .next()?
        .split('.')
        .map(|part| part.parse::<u32>().ok());
    let major = parts.next()??;
    let minor = parts.next().flatten().unwrap_or(0);
    let number = major.checked_mul(10_000)?;
    if major >= 10 {
        number.checked_add(minor)
    } else {
        // Before 10, two numbers made a major version.
        let patch = parts.next().flatten().unwrap_or(0);
        number
            .checked_add(minor.checked_mul(100)?)?
            .checked_add(patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_as_the_server_counts_them() {
        for (text, number) in [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(150_018)),
            ("18.4", Some(180_004)),
            ("19beta1", Some(190_000)),
            ("19devel", Some(190_000)),
            ("9.6.24", Some(90_624)),
            ("", None),
            ("x", None),
            ("99999999999", None),
            ("4294967295.4294967295", None),
        ] {
            assert_eq!(version_number(text), number, "{text}");
        }
    }
}
