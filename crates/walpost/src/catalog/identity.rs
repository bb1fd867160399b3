//! Which history of a database a server holds.

use walpost_core::History;
use walpost_core::start::Identity;
use walpost_pgoutput::Lsn;
use walpost_walsender::{Connection, Error};

/// System identifier and timeline of a server that is no standby; `None` where it does not tell.
pub(crate) async fn identity(connection: &mut Connection) -> Result<Option<Identity>, Error> {
    // The name of a WAL file begins with its timeline: pg_control_checkpoint() is behind for a
    // while after a promotion.
    const SQL: &str = "select system_identifier, \
         ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int \
         from pg_control_system()";
    let rows = connection.query(SQL).await?;
    let text = |index: usize| rows.first()?.get(index);
    Ok((|| {
        Some(Identity {
            // A number without a sign, which SQL has not got.
            system_identifier: text(0)?.parse::<i64>().ok()?.cast_unsigned(),
            timeline: text(1)?.parse().ok()?,
        })
    })())
}

/// Where a timeline ended that the server's own came from; `None` when it did not come from it.
/// Only on a replication connection.
pub(crate) async fn end_of_timeline(
    connection: &mut Connection,
    identity: Identity,
    timeline: u32,
) -> Result<Option<Lsn>, Error> {
    if timeline >= identity.timeline {
        return Ok(None);
    }
    Ok(history(connection, identity).await?.end_of(timeline))
}

/// Which way the server has come. Only on a replication connection.
pub(crate) async fn history(
    connection: &mut Connection,
    identity: Identity,
) -> Result<History, Error> {
    let timeline = identity.timeline;
    // The first one has no file.
    if timeline <= 1 {
        return Ok(History::new(timeline));
    }
    let rows = connection
        .query(&format!("TIMELINE_HISTORY {timeline}"))
        .await?;
    let file = rows.first().and_then(|row| row.get(1));
    Ok(History::parse(timeline, file.unwrap_or_default()))
}
