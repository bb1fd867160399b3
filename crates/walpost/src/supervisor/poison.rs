//! A row that the server can't decode: the same error at the same place, session after session.

use std::time::Duration;

use walpost_pgoutput::Lsn;

/// After so many sessions that ended alike, more will.
const TIMES: u32 = 3;

/// The pause between tries from then on: each has the server decode the transaction again.
pub(super) const RETRY: Duration = Duration::from_secs(60);

/// How the last sessions ended.
#[derive(Debug, Default)]
pub(super) struct Poison {
    last: Option<(String, Lsn)>,
    times: u32,
}

impl Poison {
    /// A session ended with that error of the server while everything up to `confirmed` was
    /// delivered. Returns whether it is the row's fault by now.
    pub(super) fn see(&mut self, sqlstate: Option<&str>, confirmed: Lsn) -> bool {
        let Some(sqlstate) = sqlstate.filter(|code| can_be_of_a_row(code)) else {
            *self = Self::default();
            return false;
        };
        let seen = Some((sqlstate.to_owned(), confirmed));
        if self.last != seen {
            self.last = seen;
            self.times = 0;
        }
        self.times += 1;
        self.times >= TIMES
    }
}

/// Data exceptions (22021: bytes that are no text), limits of the program (54000), and what the
/// server has no other word for (XX000: a value whose text form is larger than a gigabyte).
fn can_be_of_a_row(sqlstate: &str) -> bool {
    ["22", "54", "XX"]
        .iter()
        .any(|class| sqlstate.starts_with(class))
}

/// What an operator can do.
pub(super) fn fix(slot: &str, confirmed: Lsn) -> String {
    format!(
        "the first transaction behind {confirmed} holds a value that the server can't send: find \
         its row in the outbox, and deliver that by hand. Then stop the relay, move the slot \
         behind \
         the transaction (select pg_replication_slot_advance('{slot}', LSN), with an LSN from \
         pg_waldump or from the time of the row), and start once with --accept-slot-position LSN"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Lsn = Lsn::new(8);

    #[test]
    fn the_third_time_at_the_same_place_it_is_the_row() {
        let mut poison = Poison::default();
        let seen = [(); 4].map(|()| poison.see(Some("XX000"), AT));
        assert_eq!(seen, [false, false, true, true]);
    }

    #[test]
    fn another_place_another_error_or_another_kind_of_end_begins_anew() {
        for (sqlstate, at) in [
            (Some("XX000"), Lsn::new(9)),
            (Some("22021"), AT),
            (Some("57P01"), AT),
            (None, AT),
        ] {
            let mut poison = Poison::default();
            poison.see(Some("XX000"), AT);
            poison.see(Some("XX000"), AT);
            assert!(!poison.see(sqlstate, at), "{sqlstate:?} at {at}");
            assert!(!poison.see(Some("XX000"), AT));
        }
    }
}
