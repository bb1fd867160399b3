//! Whose the slot is while a session streams from it, as it is seen on another connection.
//!
//! Only the walsender of a session moves its slot, and only to where the session told it to. A slot
//! that stands further on was read by somebody else: what lies between is in nobody's stream any
//! more.

use walpost_pgoutput::Lsn;

/// A row of `pg_replication_slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `active_pid`: the walsender that streams from it.
    pub active_pid: Option<i32>,
    /// `confirmed_flush_lsn`.
    pub confirmed: Option<Lsn>,
}

/// What a look at the slot says of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Ours,
    /// Another one streams from it, or did since our walsender ended. It may be ahead by right: a
    /// relay that took over while this one stood still has the row of the checkpoint move with it,
    /// and the start of the next session compares both.
    Taken,
    /// It was moved under the session's own walsender, to here.
    Moved(Lsn),
}

/// Judges what was seen. `ours`: the session's walsender, if it is known. `told`: the highest
/// position that the session told its server.
pub fn judge(seen: Seen, ours: Option<i32>, told: Lsn) -> Verdict {
    let ahead = seen.confirmed.filter(|confirmed| *confirmed > told);
    match (seen.active_pid, ours, ahead) {
        (Some(active), Some(ours), _) if active != ours => Verdict::Taken,
        (None, Some(_), Some(_)) => Verdict::Taken,
        (_, _, Some(confirmed)) => Verdict::Moved(confirmed),
        (_, _, None) => Verdict::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: i32 = 7;
    const OTHER: i32 = 8;

    fn judged(active_pid: Option<i32>, confirmed: Option<u64>, ours: Option<i32>) -> Verdict {
        let confirmed = confirmed.map(Lsn::new);
        let seen = Seen {
            active_pid,
            confirmed,
        };
        judge(seen, ours, Lsn::new(100))
    }

    #[test]
    fn a_slot_that_stands_where_its_own_walsender_was_told_is_ours() {
        for confirmed in [None, Some(50), Some(100)] {
            for active in [None, Some(OURS)] {
                assert_eq!(judged(active, confirmed, Some(OURS)), Verdict::Ours);
                assert_eq!(judged(active, confirmed, None), Verdict::Ours);
            }
        }
    }

    #[test]
    fn a_slot_that_another_walsender_streams_from_is_taken_wherever_it_stands() {
        for confirmed in [None, Some(50), Some(100), Some(101)] {
            let judged = judged(Some(OTHER), confirmed, Some(OURS));
            assert_eq!(judged, Verdict::Taken);
        }
    }

    #[test]
    fn a_slot_that_nobody_streams_from_and_that_is_ahead_was_taken() {
        assert_eq!(judged(None, Some(101), Some(OURS)), Verdict::Taken);
    }

    #[test]
    fn a_slot_that_is_ahead_under_our_walsender_was_moved() {
        let moved = Verdict::Moved(Lsn::new(101));
        assert_eq!(judged(Some(OURS), Some(101), Some(OURS)), moved);
    }

    #[test]
    fn without_our_walsenders_number_a_slot_that_is_ahead_was_moved() {
        let moved = Verdict::Moved(Lsn::new(101));
        for active in [None, Some(OTHER)] {
            assert_eq!(judged(active, Some(101), None), moved);
        }
    }
}
