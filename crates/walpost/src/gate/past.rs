//! What is said of a server whose history is another one than that of the server before.

use tracing::{error, info, warn};
use walpost_core::past::News;
use walpost_core::{EventId, Position};
use walpost_pgoutput::Lsn;

/// Ids in one line of the log.
const IDS_IN_LINE: usize = 50;

pub(super) fn log(news: &News) {
    match news {
        News::Parted {
            from,
            to,
            at,
            phantoms,
            ..
        } if phantoms.is_empty() => info!(
            from_timeline = from, to_timeline = to, parted_at = %at,
            "a standby was promoted: nothing was handed to Kafka that it has not got"
        ),
        News::Parted {
            from,
            to,
            at,
            phantoms,
            forgotten,
        } => {
            error!(
                from_timeline = from, to_timeline = to, parted_at = %at, count = phantoms.len(),
                "a standby was promoted that was behind: these events were handed to Kafka, and it \
                 has never had their commits"
            );
            for line in phantoms.chunks(IDS_IN_LINE) {
                log_line(line);
            }
            if let Some(forgotten) = forgotten {
                error!(
                    from_position = %first_at(*at), to_position = %forgotten,
                    "phantoms, more than there are ids kept of: records with these positions in \
                     the header walpost-position"
                );
            }
        }
        News::Untold { from, to } => warn!(
            from_timeline = from,
            to_timeline = to,
            "the server does not tell where its timeline began: events of commits that it has \
             never had may be in Kafka"
        ),
    }
}

fn log_line(events: &[(Position, EventId)]) {
    let ids: Vec<_> = events.iter().map(|(_, id)| id.to_string()).collect();
    if let [(first, _), ..] = events
        && let [.., (last, _)] = events
    {
        error!(
            from_position = %first, to_position = %last, ids = ids.join(" "),
            "phantoms"
        );
    }
}

/// The lowest position of an event whose commit lies at `lsn` or later.
pub(super) fn first_at(lsn: Lsn) -> Position {
    Position {
        commit_lsn: lsn,
        ordinal: 0,
    }
}
