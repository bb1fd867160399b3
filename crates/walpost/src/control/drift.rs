//! What is altered under a running relay: rows that are left out leave no trace in the stream, so
//! the catalogue is looked at again and again.

use walpost_walsender::{Connection, Error};

use crate::catalog::{self, Table};
use crate::checks;
use crate::config::Config;
use crate::finding::Finding;

/// Everything by which rows would not be sent, given the tables as they were at the session's
/// start.
pub(super) async fn look(
    connection: &mut Connection,
    config: &Config,
    publication: &str,
    has_spare: bool,
    before: &[Table],
) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    let mut tables = Vec::new();
    for name in config.mapping.tables() {
        match catalog::table(connection, name).await? {
            Some(table) => tables.push(table),
            None => found.push(catalog::table_missing(name, &[])),
        }
    }
    let format = catalog::stream_format(&tables, config);
    for table in &tables {
        found.extend(table.errors(config, format));
        let old = before.iter().find(|old| old.name == table.name);
        let Some(old) = old else { continue };
        found.extend(table.anew_problem(old));
        for leaf in table.leaves_gone(old) {
            // One that was dropped as well takes no rows any more.
            if catalog::table(connection, &leaf).await?.is_some() {
                let seen = format!(
                    "the partition {leaf} was detached from {}: rows that are written to it are \
                     not \
                     sent",
                    table.name
                );
                let fix = "drop it when nobody writes to it, or attach it again";
                found.push(checks::TABLE_DETACHED.found(leaf.to_string(), seen, fix));
            }
        }
    }
    match catalog::publication(connection, publication).await? {
        Some(found_one) => found.extend(found_one.problems(&tables, &config.read_columns())),
        None => found.push(catalog::publication_missing(publication)),
    }
    let spare = config.postgres.spare_publication();
    if has_spare && spare != publication {
        let other = catalog::publication(connection, &spare).await?;
        let needed = config.read_columns();
        found.extend(catalog::spare_problem(
            &spare,
            other.as_ref(),
            &tables,
            &needed,
        ));
    }
    if !catalog::server(connection).await?.can_replicate {
        found.push(catalog::replication_problem(&config.postgres.conninfo));
    }
    let also = [checks::TABLE_DETACHED.code, checks::PUB_SPARE.code];
    let is_worth = |finding: &Finding| {
        finding.is_error() || finding.code.is_some_and(|code| also.contains(&code))
    };
    found.retain(is_worth);
    Ok(found)
}
