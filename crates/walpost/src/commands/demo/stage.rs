//! What the demo makes in the database, and removes from one that is not thrown away.
//!
//! On a server of the user's everything has the demo's own name: its schema, its publications, its
//! slot. Nothing that was there before is written to: an application's own outbox may be read by a
//! relay already, which would deliver the demo's orders in earnest.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use walpost_core::class::Exit;
use walpost_walsender::{Connection, Row, quote_identifier, quote_literal};

use super::cluster::sql_options;
use crate::config::Config;
use crate::connect::{self, ConnectError};
use crate::error::Error;
use crate::sql;

/// The one name on a server of the user's: of the schema, the slot and the publication.
pub(super) const NAME: &str = "walpost_demo";

/// The schema's comment: by it a later demo knows that it may remove it.
const MARK: &str = "made by walpost demo, which removes it at its end";

/// The walsender of a relay that has ended may hold the slot a moment longer.
const SLOT_RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// Pause between two attempts to drop the slot.
const SLOT_RELEASE_INTERVAL: Duration = Duration::from_millis(50);

/// SQLSTATE of an object that is in use.
const IN_USE: &str = "55006";

/// Where the rows are, and what streams them.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    schema: &'static str,
    slot: &'static str,
    is_thrown_away: bool,
    /// The server is a user's, and has things of ours now.
    is_to_be_removed: bool,
}

impl Stage {
    /// In a throwaway server: plain names.
    pub(super) fn thrown_away() -> Self {
        Self {
            schema: "public",
            slot: "walpost",
            is_thrown_away: true,
            is_to_be_removed: false,
        }
    }

    /// In a server of the user's.
    pub(super) fn kept() -> Self {
        Self {
            schema: NAME,
            slot: NAME,
            is_thrown_away: false,
            is_to_be_removed: false,
        }
    }

    /// The outbox's name, as in SQL.
    pub(super) fn outbox(&self) -> String {
        format!("{}.outbox", self.schema)
    }

    /// The name of the shop's own table, as in SQL.
    pub(super) fn orders(&self) -> String {
        format!("{}.orders", self.schema)
    }

    /// The table of the checkpoint, as in SQL.
    pub(super) fn checkpoint(&self) -> String {
        format!("{}.checkpoint", self.schema)
    }

    /// The slot's name, which is the publication's too.
    pub(super) fn slot(&self) -> &'static str {
        self.slot
    }

    /// Makes the tables, the publications and the slot.
    pub(super) async fn set_up(&mut self, config: &Config) -> Result<(), Error> {
        let mut connection = connect(config).await?;
        let result = self.make(&mut connection, config).await;
        connection.close().await;
        result
    }

    async fn make(&mut self, connection: &mut Connection, config: &Config) -> Result<(), Error> {
        if !self.is_thrown_away {
            self.make_schema(connection, config).await?;
        }
        let orders = format!(
            "create table {} (id text primary key, status text not null, total numeric not null)",
            self.orders()
        );
        run(connection, config, &orders).await?;
        let (spec, mapping) = (&config.mapping_spec, &config.mapping);
        for table in mapping.tables() {
            run(
                connection,
                config,
                &sql::outbox(table, spec.layout, mapping),
            )
            .await?;
        }
        let postgres = &config.postgres;
        for publication in [postgres.publication.clone(), postgres.spare_publication()] {
            let sql = sql::publication(&publication, mapping.tables());
            run(connection, config, &sql).await?;
        }
        if let Some(checkpoint) = &postgres.checkpoint {
            let sql = sql::checkpoint(&checkpoint.table, &postgres.conninfo.user);
            run(connection, config, &sql).await?;
        }
        let sql = sql::slot(&postgres.slot, &postgres.publication, false);
        run(connection, config, &sql).await?;
        Ok(())
    }

    /// Makes the schema, after what a killed demo may have left is removed.
    async fn make_schema(
        &mut self,
        connection: &mut Connection,
        config: &Config,
    ) -> Result<(), Error> {
        let sql = format!(
            "select obj_description(oid, 'pg_namespace') from pg_catalog.pg_namespace \
             where nspname = {}",
            quote_literal(self.schema)
        );
        let found = run(connection, config, &sql).await?;
        if found.first().is_some_and(|row| row.get(0) != Some(MARK)) {
            let message = format!(
                "the schema {} exists in that database, and the demo did not make it",
                self.schema
            );
            return Err(Error::new(Exit::Configuration, message)
                .with_fix("rename it, or name another database"));
        }
        if self
            .is_streaming(connection)
            .await
            .map_err(|error| failed(&error, config))?
        {
            let message = format!("the slot {} is in use: another demo runs there", self.slot);
            return Err(Error::new(Exit::Configuration, message)
                .with_fix("end the other one, or name another database server"));
        }
        self.is_to_be_removed = true;
        self.clear(connection, config).await?;
        let schema = quote_identifier(self.schema);
        let make = format!(
            "create schema {schema}; comment on schema {schema} is {}",
            quote_literal(MARK)
        );
        run(connection, config, &make).await?;
        Ok(())
    }

    /// Removes everything from a server that is not thrown away.
    pub(super) async fn remove(&self, config: &Config) -> Result<(), Error> {
        if !self.is_to_be_removed {
            return Ok(());
        }
        let mut connection = connect(config).await?;
        let result = self.clear(&mut connection, config).await;
        connection.close().await;
        result.map_err(|error| {
            let message = format!("the demo could not remove what it made: {error}");
            Error::new(error.exit(), message).with_fix(format!("run in psql: {}", self.by_hand()))
        })
    }

    async fn clear(&self, connection: &mut Connection, config: &Config) -> Result<(), Error> {
        let [slot, objects] = self.removal();
        let deadline = Instant::now() + SLOT_RELEASE_DEADLINE;
        loop {
            match connection.query(&slot).await {
                Ok(_) => break,
                Err(error) if error.sqlstate() == Some(IN_USE) && Instant::now() < deadline => {
                    sleep(SLOT_RELEASE_INTERVAL).await;
                }
                Err(error) => return Err(failed(&error, config)),
            }
        }
        run(connection, config, &objects).await?;
        Ok(())
    }

    /// What to type where the demo could not clean up.
    pub(super) fn by_hand(&self) -> String {
        self.removal().join("; ")
    }

    fn removal(&self) -> [String; 2] {
        let slot = quote_literal(self.slot);
        let name = quote_identifier(self.slot);
        let spare = quote_identifier(&format!("{}_spare", self.slot));
        let schema = quote_identifier(self.schema);
        [
            format!(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
                 where slot_name = {slot}"
            ),
            format!(
                "drop publication if exists {name}, {spare}; drop schema if exists {schema} \
                 cascade"
            ),
        ]
    }

    /// Whether somebody reads the slot.
    pub(super) async fn is_streaming(
        &self,
        connection: &mut Connection,
    ) -> Result<bool, walpost_walsender::Error> {
        let sql = format!(
            "select from pg_catalog.pg_replication_slots where slot_name = {} and active",
            quote_literal(self.slot)
        );
        Ok(!connection.query(&sql).await?.is_empty())
    }
}

/// Connects as the relay does, with the password of this moment.
pub(super) async fn connect(config: &Config) -> Result<Connection, Error> {
    connect::connect(&config.postgres, &sql_options())
        .await
        .map_err(|error| match error {
            ConnectError::Postgres(error) => failed(&error, config),
            ConnectError::Password(error) => error.into(),
        })
}

async fn run(connection: &mut Connection, config: &Config, sql: &str) -> Result<Vec<Row>, Error> {
    connection
        .query(sql)
        .await
        .map_err(|error| failed(&error, config))
}

fn failed(error: &walpost_walsender::Error, config: &Config) -> Error {
    Error::postgres(error, &config.postgres.conninfo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_the_users_is_removed() {
        for statement in Stage::kept().removal() {
            assert!(statement.contains("walpost_demo"), "{statement}");
            assert!(!statement.contains("public."), "{statement}");
        }
    }

    #[test]
    fn the_demo_has_a_schema_of_its_own_on_a_server_of_the_users() {
        assert_eq!(Stage::kept().outbox(), "walpost_demo.outbox");
        assert_eq!(Stage::thrown_away().outbox(), "public.outbox");
    }
}
