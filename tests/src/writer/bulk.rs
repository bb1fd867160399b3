//! The fast way in: COPY.

use std::io::Write;

use postgres::{Client, NoTls};

use super::{
    Ledger, Writer,
    plan::{Plan, Planner},
};

/// Commits the transactions one after the other in one session.
#[track_caller]
pub(super) fn write(writer: &Writer, transactions: usize, rows: usize) -> Ledger {
    let mut client = Client::connect(&writer.url, NoTls)
        .unwrap_or_else(|error| panic!("connect for COPY: {error:?}"));
    let statement = format!(
        "copy {} (id, destination, aggregate_type, aggregate_id, event_type, payload, headers)
         from stdin",
        writer.table
    );
    let mut planner = Planner::new(writer);
    let mut ledger = Ledger::default();
    for _ in 0..transactions {
        let plan = planner.plain(rows);
        let copied = copy(&mut client, &statement, writer, &plan);
        copied.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        planner.keep(&plan);
        ledger.committed.extend(plan.kept().cloned());
        ledger.transactions += 1;
    }
    ledger
}

fn copy(
    client: &mut Client,
    statement: &str,
    writer: &Writer,
    plan: &Plan,
) -> Result<(), Box<dyn std::error::Error>> {
    let topic = copy_text(&writer.topic);
    let headers = writer
        .headers
        .as_deref()
        .map_or_else(|| r"\N".to_owned(), copy_text);
    let mut copy = client.copy_in(statement)?;
    for row in plan.pieces.iter().flat_map(|piece| &piece.rows) {
        let (event, payload) = (&row.event, copy_text(&row.payload()));
        let (id, aggregate) = (event.id, &event.aggregate);
        writeln!(
            copy,
            "{id}\t{topic}\tthing\t{aggregate}\tthing_changed\t{payload}\t{headers}"
        )?;
    }
    copy.finish()?;
    Ok(())
}

/// A value in the text format of COPY.
pub fn copy_text(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('\t', r"\t")
        .replace('\n', r"\n")
        .replace('\r', r"\r")
}
