//! Points in time as Postgres sends them.

/// Microseconds from 1970-01-01 to 2000-01-01, both at midnight UTC: 10,957 days.
const UNIX_TO_POSTGRES_MICROS: i64 = 10_957 * 86_400 * 1_000_000;

/// A point in time: microseconds since 2000-01-01 00:00:00 UTC, negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTimestamp(i64);

impl PgTimestamp {
    /// The time `micros` microseconds after 2000-01-01 00:00:00 UTC.
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 2000-01-01 00:00:00 UTC.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Microseconds since 1970-01-01 00:00:00 UTC, clamped to what an `i64` holds.
    pub const fn unix_micros(self) -> i64 {
        self.0.saturating_add(UNIX_TO_POSTGRES_MICROS)
    }

    /// The time `micros` microseconds after 1970-01-01 00:00:00 UTC, clamped to what an `i64`
    /// holds.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(UNIX_TO_POSTGRES_MICROS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_thirty_years_apart() {
        // 2000-01-01 00:00:00 UTC is 946,684,800 seconds after the Unix epoch.
        assert_eq!(PgTimestamp::new(0).unix_micros(), 946_684_800_000_000);
        assert_eq!(
            PgTimestamp::from_unix_micros(0).as_micros(),
            -946_684_800_000_000
        );
        assert_eq!(
            PgTimestamp::from_unix_micros(1_700_000_000_000_001).unix_micros(),
            { 1_700_000_000_000_001 }
        );
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        assert_eq!(PgTimestamp::new(i64::MAX).unix_micros(), i64::MAX);
        assert_eq!(
            PgTimestamp::from_unix_micros(i64::MIN).as_micros(),
            i64::MIN
        );
    }
}
