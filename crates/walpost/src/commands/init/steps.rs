//! Tables and publications: made where they are missing, judged where they are there.

use walpost_core::TableName;
use walpost_core::class::Exit;
use walpost_walsender::{Conninfo, quote_identifier};

use super::{INSUFFICIENT_PRIVILEGE, Init, Progress};
use crate::catalog::{self, Table};
use crate::checkpoint;
use crate::error::Error;
use crate::finding::Finding;
use crate::{skip, sql};

impl Init<'_> {
    pub(super) async fn make_tables(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let config = self.config;
        let mut found = Vec::new();
        for name in config.mapping.tables() {
            let text = name.to_string();
            if let Some(table) = self.table(name).await? {
                progress.step("exists", "table", &text, String::new())?;
                found.push(table);
                continue;
            }
            let (connection, conninfo) = self.maker();
            let make = sql::outbox(name, config.mapping_spec.layout, &config.mapping);
            if let Err(error) = connection.query(&make).await {
                let action = format!("create the table {name}");
                let right = format!(
                    "grant create on schema {} to {}; or name the role that owns it with \
                     --admin-url",
                    quote_identifier(&name.schema),
                    quote_identifier(&conninfo.user)
                );
                return Err(failed(&action, &error, conninfo, &right));
            }
            progress.step("created", "table", &text, String::new())?;
        }
        // New ones fit every stream.
        let format = catalog::stream_format(&found, config);
        progress.found(found.iter().flat_map(|table| table.errors(config, format)));
        Ok(())
    }

    pub(super) async fn make_publications(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let (postgres, names) = (&self.config.postgres, self.config.mapping.tables());
        let needed = self.config.read_columns();
        let mut tables = Vec::new();
        for name in names {
            tables.extend(self.table(name).await?);
        }
        let (first, spare) = (&postgres.publication, postgres.spare_publication());
        for name in [first, &spare] {
            let (connection, conninfo) = self.maker();
            let found = catalog::publication(connection, name).await;
            let found = found.map_err(|error| Error::postgres(&error, conninfo))?;
            if let Some(found) = found {
                progress.step("exists", "publication", name, String::new())?;
                if name == first {
                    progress.found(found.problems(&tables, &needed));
                    for table in &tables {
                        progress.found(table.warnings(self.config, Some(&found)));
                    }
                } else {
                    let problem = catalog::spare_problem(name, Some(&found), &tables, &needed);
                    progress.found(problem);
                }
                continue;
            }
            // It would carry nothing, or fail with less to say.
            if progress.has_errors() {
                continue;
            }
            if let Err(error) = connection.query(&sql::publication(name, names)).await {
                let action = format!("create the publication '{name}'");
                let right = format!(
                    "grant create on database {} to {}; where that role owns the outbox tables, \
                     as it has to; or name one that has both with --admin-url",
                    quote_identifier(&conninfo.database),
                    quote_identifier(&conninfo.user)
                );
                return Err(failed(&action, &error, conninfo, &right));
            }
            progress.step("created", "publication", name, String::new())?;
        }
        Ok(())
    }

    /// The table of the checkpoint, and the one of events that may be passed over. The checkpoint's
    /// row comes after the slot.
    pub(super) async fn make_checkpoint(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let config = self.config;
        let Some(kept) = &config.postgres.checkpoint else {
            return Ok(());
        };
        let role = &config.postgres.conninfo.user;
        let name = &kept.table;
        let (sql, what) = (sql::checkpoint(name, role), "for the checkpoint");
        self.make_own(progress, name, &sql, what).await?;
        // Before the slot, which keeps WAL from its beginning on.
        let problem = checkpoint::right_problem(&mut self.relay, name).await;
        self.refuse_right(problem)?;
        let name = &kept.skip_table();
        let (sql, what) = (sql::skip(name, role), "for events that may be passed over");
        self.make_own(progress, name, &sql, what).await?;
        let problem = skip::problem(&mut self.relay, name).await;
        self.refuse_right(problem)
    }

    fn refuse_right(
        &self,
        problem: Result<Option<Finding>, walpost_walsender::Error>,
    ) -> Result<(), Error> {
        let conninfo = &self.config.postgres.conninfo;
        match problem.map_err(|error| Error::postgres(&error, conninfo))? {
            Some(problem) => Err(Error::new(Exit::Permission, problem.line())
                .with_fix(problem.fix.unwrap_or_default())),
            None => Ok(()),
        }
    }

    /// A table of the relay's own.
    async fn make_own(
        &mut self,
        progress: &mut Progress,
        name: &TableName,
        sql: &str,
        what: &str,
    ) -> Result<(), Error> {
        let is_there = self.table(name).await?.is_some();
        let (connection, conninfo) = self.maker();
        // Also where it is there: the role may be another one by now.
        if let Err(error) = connection.query(sql).await
            && (!is_there || error.sqlstate() != Some(INSUFFICIENT_PRIVILEGE))
        {
            let action = format!("create the table {name} {what}");
            let right = format!(
                "grant create on database {database} to {user} (where the schema is there: grant \
                 create on schema {schema} to {user}); or name the role that may with --admin-url; \
                 or set postgres.checkpoint: none",
                database = quote_identifier(&conninfo.database),
                user = quote_identifier(&conninfo.user),
                schema = quote_identifier(&name.schema)
            );
            return Err(failed(&action, &error, conninfo, &right));
        }
        let done = if is_there { "exists" } else { "created" };
        progress.step(done, "table", &name.to_string(), String::new())
    }

    async fn table(&mut self, name: &TableName) -> Result<Option<Table>, Error> {
        let (connection, conninfo) = self.maker();
        let table = catalog::table(connection, name).await;
        table.map_err(|error| Error::postgres(&error, conninfo))
    }
}

/// A failed statement. `right` says what to do where the role may not.
fn failed(
    action: &str,
    error: &walpost_walsender::Error,
    conninfo: &Conninfo,
    right: &str,
) -> Error {
    let failed = Error::statement(action, error, conninfo);
    match error.sqlstate() {
        Some(INSUFFICIENT_PRIVILEGE) => failed.with_fix(right),
        _ => failed,
    }
}
