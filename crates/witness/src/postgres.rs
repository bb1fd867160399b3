//! The database: the witness slot, the ledger, and what is confirmed.

use std::collections::BTreeMap;

use postgres::{
    Client, Error, NoTls, Row, error::SqlState, fallible_iterator::FallibleIterator, types::PgLsn,
};
use uuid::Uuid;

use crate::{
    decoding::Reader,
    history::{Event, Lsn, Version},
};

/// A logical slot with `test_decoding` that is only ever peeked: it keeps what was committed since
/// it was made, and all the WAL of it. Drop it in the end.
#[derive(Clone, Debug)]
pub struct Witness {
    url: String,
    slot: String,
}

impl Witness {
    /// The slot of that name in a database (`postgresql://…`, without TLS).
    pub fn new(url: &str, slot: &str) -> Self {
        let (url, slot) = (url.to_owned(), slot.to_owned());
        Self { url, slot }
    }

    /// Makes it. What was committed before is not witnessed.
    ///
    /// # Errors
    ///
    /// When the database does not answer or refuses it.
    pub fn begin(&self) -> Result<(), Error> {
        let make =
            "select from pg_create_logical_replication_slot($1::text::name, 'test_decoding')";
        self.session()?.execute(make, &[&self.slot]).map(drop)
    }

    /// Drops it.
    ///
    /// # Errors
    ///
    /// When the database does not answer or refuses it.
    pub fn end(&self) -> Result<(), Error> {
        let drop_it = "select pg_drop_replication_slot($1::text::name)";
        self.session()?.execute(drop_it, &[&self.slot]).map(drop)
    }

    /// Everything that was inserted into the table (`schema.name` as SQL quotes it) and committed,
    /// in the order of the commits. It stays in the slot.
    ///
    /// # Errors
    ///
    /// In words.
    pub fn events(&self, table: &str) -> Result<Vec<Event>, String> {
        self.peek(table).map_err(|error| match error {
            Peek::Database(error) => format!("read the witness slot: {error:?}"),
            Peek::Line(what) => format!("understand the witness slot: {what}"),
        })
    }

    fn peek(&self, table: &str) -> Result<Vec<Event>, Peek> {
        let mut session = self.session()?;
        let mut reader = Reader::new(table);
        let mut rows = session.query_raw(PEEK, [&self.slot])?;
        while let Some(row) = rows.next()? {
            let (lsn, line): (PgLsn, String) = (row.get(0), row.get(1));
            reader.line(Lsn(lsn.into()), &line).map_err(Peek::Line)?;
        }
        Ok(reader.into_events())
    }

    fn session(&self) -> Result<Client, Error> {
        let mut session = connect(&self.url)?;
        session.batch_execute("set timezone = 'UTC'; set statement_timeout = 0")?;
        Ok(session)
    }
}

enum Peek {
    Database(Error),
    Line(String),
}

impl From<Error> for Peek {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// A table of ids that the writers fill in the same transactions as the outbox; with the versions
/// of the events where it has columns for them.
#[derive(Clone, Debug)]
pub struct Ledger {
    url: String,
    table: String,
}

impl Ledger {
    /// A table with a column `id uuid`, named as SQL quotes it. With `aggregate text` and `version
    /// bigint` the order of each aggregate is judged by them.
    pub fn new(url: &str, table: &str) -> Self {
        let (url, table) = (url.to_owned(), table.to_owned());
        Self { url, table }
    }

    /// The events that it holds.
    ///
    /// # Errors
    ///
    /// When the database does not answer or refuses it.
    pub fn events(&self) -> Result<BTreeMap<Uuid, Option<Version>>, Error> {
        // As JSON, because the columns of a version may not be there.
        let sql = format!(
            "select id, to_jsonb(ledger) ->> 'aggregate', (to_jsonb(ledger) ->> 'version')::bigint
             from {} as ledger",
            self.table
        );
        let rows = connect(&self.url)?.query(&sql, &[])?;
        let event = |row: &Row| (row.get(0), version(row.get(1), row.get(2)));
        Ok(rows.iter().map(event).collect())
    }
}

fn version(aggregate: Option<String>, number: Option<i64>) -> Option<Version> {
    let number = u64::try_from(number?).ok()?;
    let aggregate = aggregate?;
    Some(Version { aggregate, number })
}

/// The position that a slot or its row of the checkpoint has confirmed, whichever is ahead.
pub(crate) fn confirmed(session: &mut Client, slot: &str) -> Result<Lsn, Error> {
    let row = match session.query_one(CONFIRMED, &[&slot]) {
        // A relay without a checkpoint.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            session.query_one(SLOT_ALONE, &[&slot])?
        }
        other => other?,
    };
    let lsn: Option<PgLsn> = row.get(0);
    Ok(Lsn(lsn.map_or(0, u64::from)))
}

pub(crate) fn connect(url: &str) -> Result<Client, Error> {
    let mut config: postgres::Config = url.parse()?;
    config
        .connect_timeout(std::time::Duration::from_secs(5))
        .application_name("walpost-witness");
    config.connect(NoTls)
}

const PEEK: &str = "
    select lsn, data from pg_logical_slot_peek_changes($1::text::name, null, null,
        'include-xids', 'on', 'include-timestamp', 'on', 'skip-empty-xacts', 'on')";

/// The row is read in the same statement, so with the same snapshot.
const CONFIRMED: &str = "
    select greatest(
        (select confirmed_flush_lsn from pg_catalog.pg_replication_slots
            where slot_name = $1::text::name),
        (select lsn from walpost.checkpoint where slot = $1))";
const SLOT_ALONE: &str = "
    select max(confirmed_flush_lsn) from pg_catalog.pg_replication_slots
    where slot_name = $1::text::name";
