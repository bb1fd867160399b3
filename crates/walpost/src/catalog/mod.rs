//! What the server's catalogue says of the set-up, and what is wrong with it.
//!
//! Each module asks one question and judges the answer: `run` refuses by the same judgement that
//! `check` reports and `init` stops at. Every statement works on its own and changes no setting of
//! the session, because a pooler may hand each of them to another server process.

mod identity;
mod pooler;
mod provider;
mod publication;
mod server;
mod slot;
mod table;

pub(crate) use self::identity::{end_of_timeline, history, identity};
pub(crate) use self::pooler::{Pooler, Way, way};
pub(crate) use self::provider::{Provider, provider};
pub(crate) use self::publication::{
    Publication, is_publication_younger, publication, publication_missing,
    publication_not_there_yet, spare_problem,
};
pub(crate) use self::server::{
    Limits, Server, Transaction, backend_pid, flush_lsn, is_working, limits, open_transactions,
    replication_problem, server, written_lsn,
};
pub(crate) use self::slot::{Slot, refusal_problem, slot};
pub(crate) use self::table::{
    Table, has_default_rows, largest_payload, missing_partition, stream_format, table,
    table_missing, table_names, textual_types,
};

/// The name that was probably meant: the same but for the case of letters, or a slip away.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const LIKENESS_MIN: f64 = 0.85;
    let lower = name.to_lowercase();
    let likeness = |candidate: &str| strsim::jaro_winkler(&lower, &candidate.to_lowercase());
    candidates
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// `1 table`, `2 tables`.
pub(crate) fn counted(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    }
}

/// Sizes as people say them.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_across_case_and_slips() {
        let names = ["Outbox", "orders", "payload_json"];
        assert_eq!(nearest("outbox", names), Some("Outbox"));
        assert_eq!(nearest("order", names), Some("orders"));
        assert_eq!(nearest("zebra", names), None);
    }

    #[test]
    fn sizes_are_said_in_the_largest_unit() {
        assert_eq!(bytes_text(512), "512 bytes");
        assert_eq!(bytes_text(1 << 20), "1.0 MiB");
        assert_eq!(bytes_text(u64::MAX), "17179869183.9 GiB");
    }
}
