//! One database of a cluster: sessions, slots, the outbox table.

use std::time::Duration;

use postgres::{Client, NoTls};

use super::{Lsn, Postgres};
use crate::{unique, wait_until};

/// A database that belongs to one test. It is not dropped: the whole cluster goes.
#[derive(Clone, Debug)]
pub struct Database<'a> {
    postgres: &'a Postgres,
    name: String,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// The slot's name, unique in the cluster.
    pub name: String,
    /// Everything before it has been confirmed; `None` for a physical slot.
    pub confirmed: Option<Lsn>,
    /// The oldest WAL that the slot still needs.
    pub restart: Option<Lsn>,
    /// The process id of the walsender that streams from it.
    pub active_pid: Option<i32>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
}

impl<'a> Database<'a> {
    pub(super) fn new(postgres: &'a Postgres, name: String) -> Self {
        Self { postgres, name }
    }

    /// Its cluster.
    pub fn postgres(&self) -> &'a Postgres {
        self.postgres
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL over TCP, as superuser.
    pub fn url(&self) -> String {
        self.postgres.url(&self.name)
    }

    /// Its URL through a proxy or another port in front of the same server.
    pub fn url_through(&self, port: u16) -> String {
        format!("postgresql://postgres@127.0.0.1:{port}/{}", self.name)
    }

    /// Its URL over the Unix socket, as superuser.
    pub fn socket_url(&self) -> String {
        let dir = self
            .postgres
            .socket_dir()
            .display()
            .to_string()
            .replace('/', "%2F");
        format!(
            "postgresql://postgres@{dir}:{}/{}",
            self.postgres.port(),
            self.name
        )
    }

    /// A slot name that no other test of this binary has: slots are per cluster.
    pub fn slot_name(&self) -> String {
        unique("slot")
    }

    /// A new session, as superuser.
    ///
    /// # Panics
    ///
    /// When the server does not take it.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(&self.url(), NoTls)
            .unwrap_or_else(|error| panic!("connect to the database {}: {error:?}", self.name))
    }

    /// Runs statements in a session of their own.
    ///
    /// # Panics
    ///
    /// When one fails.
    #[track_caller]
    pub fn execute(&self, statements: &str) {
        self.client()
            .batch_execute(statements)
            .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// Creates the default outbox table, where it is missing.
    #[track_caller]
    pub fn create_outbox(&self) {
        self.execute(OUTBOX);
    }

    /// Commits one event, in the columns that every outbox of the tests has.
    #[track_caller]
    pub fn insert_event(&self, topic: &str, aggregate: &str, payload: &str) {
        self.execute(&format!(
            "insert into outbox (destination, aggregate_id, payload)
             values ('{topic}', '{aggregate}', '{payload}')"
        ));
    }

    /// The slot of that name, if there is one.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    #[track_caller]
    pub fn slot(&self, name: &str) -> Option<SlotRow> {
        let row = self
            .client()
            .query_opt(SLOT, &[&name])
            .expect("read pg_replication_slots")?;
        Some(SlotRow {
            name: row.get(0),
            confirmed: row.get(1),
            restart: row.get(2),
            active_pid: row.get(3),
            wal_status: row.get(4),
        })
    }

    /// Waits until nobody streams from the slot. The server may be away meanwhile.
    ///
    /// # Panics
    ///
    /// When somebody still does at the deadline, or there is no such slot.
    #[track_caller]
    pub fn wait_until_free(&self, name: &str, deadline: Duration) {
        wait_until(deadline, &format!("nobody streams from {name}"), || {
            let row = Client::connect(&self.url(), NoTls)
                .and_then(|mut client| client.query_opt(SLOT, &[&name]));
            let row = row.ok()?.expect("there is that slot");
            row.get::<_, Option<i32>>(3).is_none().then_some(())
        });
    }

    /// The process ids of the sessions of that name, in any database.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    #[track_caller]
    pub fn sessions(&self, application_name: &str) -> Vec<i32> {
        let sql = "select pid from pg_stat_activity where application_name = $1";
        let rows = self.client().query(sql, &[&application_name]);
        let rows = rows.expect("read pg_stat_activity");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Drops a slot that nobody streams from.
    #[track_caller]
    pub fn drop_slot(&self, name: &str) {
        self.execute(&format!("select pg_drop_replication_slot('{name}')"));
    }

    /// Where the server writes its next WAL record.
    #[track_caller]
    pub fn current_lsn(&self) -> Lsn {
        let mut client = self.client();
        let row = client
            .query_one("select pg_current_wal_lsn()", &[])
            .expect("ask for the LSN");
        row.get(0)
    }

    /// Waits until the slot has confirmed everything before `lsn`. The server may be away
    /// meanwhile. The relay does not bother it for a mebibyte of WAL without events, so there is
    /// more of it here.
    ///
    /// # Panics
    ///
    /// When it has not by the deadline.
    #[track_caller]
    pub fn wait_until_confirmed(&self, slot: &str, lsn: Lsn, deadline: Duration) {
        let mut session = None;
        wait_until(deadline, &format!("slot {slot} confirms {lsn}"), || {
            let client = match session.take() {
                Some(client) => session.insert(client),
                None => {
                    let mut client = Client::connect(&self.url(), NoTls).ok()?;
                    client.batch_execute(FOREIGN_WAL).ok()?;
                    session.insert(client)
                }
            };
            match client.query_opt(SLOT, &[&slot]) {
                Ok(row) => row?
                    .get::<_, Option<Lsn>>(1)
                    .filter(|confirmed| *confirmed >= lsn)
                    .map(drop),
                Err(_) => {
                    session = None;
                    None
                }
            }
        });
    }
}

/// Two mebibytes of it.
const FOREIGN_WAL: &str =
    "select pg_logical_emit_message(false, 'foreign', repeat('x', 2 * 1024 * 1024))";

const SLOT: &str = "
    select slot_name::text, confirmed_flush_lsn, restart_lsn, active_pid, wal_status
    from pg_catalog.pg_replication_slots where slot_name = $1::text::name";

/// The table as the documentation gives it, apart from what `walpost init` creates: a test that
/// needs only rows should not depend on it.
const OUTBOX: &str = "
    create table if not exists public.outbox (
        id             uuid primary key default gen_random_uuid(),
        destination    text not null,
        aggregate_type text,
        aggregate_id   text,
        event_type     text,
        payload        jsonb not null,
        headers        jsonb,
        created_at     timestamptz not null default now()
    )";
