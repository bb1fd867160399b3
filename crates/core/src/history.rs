//! Which way a server has come: its timelines, and where two histories part.

use walpost_pgoutput::Lsn;

/// The timelines of a server: those that it came from, each with where it was left, and its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    left: Vec<(u32, Lsn)>,
    timeline: u32,
}

impl History {
    /// Of a server on this timeline, of which nothing else is known, or that is its first one.
    pub fn new(timeline: u32) -> Self {
        Self {
            left: Vec::new(),
            timeline,
        }
    }

    /// By the history file of this timeline: each line has the number of an earlier one, where it
    /// was left, and why.
    pub fn parse(timeline: u32, file: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        Self {
            left: file.lines().filter_map(line).collect(),
            timeline,
        }
    }

    /// The server's own timeline.
    pub fn timeline(&self) -> u32 {
        self.timeline
    }

    /// Where a timeline was left that this one came from; `None` when it did not come from it.
    pub fn end_of(&self, timeline: u32) -> Option<Lsn> {
        let left = self.left.iter().find(|(number, _)| *number == timeline);
        left.map(|(_, end)| *end)
    }

    /// From where on the WAL of the two differs; `None` when it does not, or when they have no
    /// timeline in common.
    ///
    /// Two servers that were promoted without knowing of each other give their timelines the same
    /// number: what tells them apart is where they left the one before.
    pub fn parts_at(&self, other: &Self) -> Option<Lsn> {
        let mut common = None;
        for ((mine, my_end), (theirs, their_end)) in self.legs().zip(other.legs()) {
            if mine != theirs {
                return common;
            }
            if my_end != their_end {
                return [my_end, their_end].into_iter().flatten().min();
            }
            common = my_end;
        }
        None
    }

    /// All timelines in order; the last one has no end.
    fn legs(&self) -> impl Iterator<Item = (u32, Option<Lsn>)> {
        let left = self
            .left
            .iter()
            .map(|(timeline, end)| (*timeline, Some(*end)));
        left.chain([(self.timeline, None)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(number: u64) -> Lsn {
        Lsn::new(number)
    }

    fn history(left: &[(u32, u64)], timeline: u32) -> History {
        History {
            left: left.iter().map(|(left, end)| (*left, lsn(*end))).collect(),
            timeline,
        }
    }

    #[test]
    fn the_end_of_a_timeline_is_read_from_the_history_of_a_later_one() {
        let file = "1\t0/42000190\tno recovery target specified\n\n\
                    # a comment\n2\t1/5\tbefore 2026-11-26 10:00:00+00\n";
        let history = History::parse(3, file);
        assert_eq!(history.timeline(), 3);
        assert_eq!(history.end_of(1), Some(lsn(0x4200_0190)));
        assert_eq!(history.end_of(2), Some(lsn(0x1_0000_0005)));
        assert_eq!(history.end_of(3), None);
        assert_eq!(History::parse(2, "1\tnothing\n"), History::new(2));
        assert_eq!(History::parse(1, "").end_of(1), None);
    }

    #[test]
    fn two_histories_part_where_the_first_one_was_left_that_they_share() {
        let old = History::new(1);
        let cases = [
            // The same server, or one that follows it.
            (history(&[], 1), None),
            // A standby was promoted, once and twice.
            (history(&[(1, 50)], 2), Some(50)),
            (history(&[(1, 50), (2, 70)], 3), Some(50)),
            // Nothing is known of the way that it came.
            (history(&[], 2), None),
        ];
        for (new, at) in cases {
            assert_eq!(old.parts_at(&new), at.map(lsn), "{new:?}");
            assert_eq!(new.parts_at(&old), at.map(lsn), "{new:?}");
        }
    }

    #[test]
    fn servers_that_were_promoted_beside_each_other_part_at_the_earlier_promotion() {
        let one = history(&[(1, 50)], 2);
        let cases = [
            // The same number for another timeline.
            (history(&[(1, 40)], 2), Some(40)),
            (history(&[(1, 60)], 2), Some(50)),
            // Another number.
            (history(&[(1, 50)], 3), Some(50)),
            (history(&[(1, 60)], 3), Some(50)),
            // It came from the one.
            (history(&[(1, 50), (2, 90)], 3), Some(90)),
            (history(&[(1, 50)], 2), None),
        ];
        for (other, at) in cases {
            assert_eq!(one.parts_at(&other), at.map(lsn), "{other:?}");
            assert_eq!(other.parts_at(&one), at.map(lsn), "{other:?}");
        }
    }
}
