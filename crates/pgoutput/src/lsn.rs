//! Positions in the write-ahead log.

use std::{fmt, str::FromStr};

/// A log sequence number: the byte position in the write-ahead log.
///
/// It is written as Postgres writes a `pg_lsn`: the upper and the lower 32 bits in hexadecimal.
///
/// ```
/// use walpost_pgoutput::Lsn;
///
/// let lsn: Lsn = "16/B374D848".parse()?;
/// assert_eq!(lsn.as_u64(), 0x16_B374_D848);
/// assert_eq!(lsn.to_string(), "16/B374D848");
/// # Ok::<(), walpost_pgoutput::ParseLsnError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Position 0, which no record ever has: Postgres' `InvalidXLogRecPtr`, "unknown".
    pub const ZERO: Self = Self(0);

    /// The position `position` bytes into the log.
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The position in bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The bytes of log from `earlier` up to here; `None` when `earlier` is above.
    pub fn bytes_since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lsn({self})")
    }
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    /// Reads what the input function of the type `pg_lsn` takes: two groups of one to eight
    /// hexadecimal digits of either case with a slash between.
    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let (upper, lower) = text.split_once('/').ok_or(ParseLsnError(()))?;
        Ok(Self((half(upper)? << 32) | half(lower)?))
    }
}

/// The text is not a log sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a log sequence number: expected two hexadecimal numbers, as in 16/B374D848")]
pub struct ParseLsnError(());

fn half(digits: &str) -> Result<u64, ParseLsnError> {
    // from_str_radix alone would also take a sign.
    let is_valid =
        (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_valid {
        return Err(ParseLsnError(()));
    }
    u64::from_str_radix(digits, 16).map_err(|_| ParseLsnError(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_that_of_postgres() {
        for (position, text) in [
            (0, "0/0"),
            (0x016B_3748, "0/16B3748"),
            (0x16_B374_D848, "16/B374D848"),
            (0x1_0000_000A, "1/A"),
            (u64::MAX, "FFFFFFFF/FFFFFFFF"),
        ] {
            assert_eq!(Lsn::new(position).to_string(), text);
            assert_eq!(text.parse(), Ok(Lsn::new(position)));
        }
        assert_eq!("0000abcd/00000001".parse(), Ok(Lsn::new(0xABCD_0000_0001)));
    }

    #[test]
    fn anything_but_two_groups_of_hexadecimal_digits_is_refused() {
        for text in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "+1/2",
            "1/-2",
            "1/ 2",
            " 1/2",
            "1/2\n",
            "G/1",
            "123456789/1",
            "1/123456789",
            "1/٣",
        ] {
            assert_eq!(text.parse::<Lsn>(), Err(ParseLsnError(())), "{text:?}");
        }
    }

    #[test]
    fn the_position_that_says_nothing_is_zero_on_the_wire() {
        assert_eq!(Lsn::ZERO.as_u64(), 0);
    }

    #[test]
    fn distance_exists_only_forwards() {
        let (low, high) = (Lsn::new(10), Lsn::new(25));
        assert_eq!(high.bytes_since(low), Some(15));
        assert_eq!(low.bytes_since(low), Some(0));
        assert_eq!(low.bytes_since(high), None);
    }

    #[test]
    fn debug_form_is_readable() {
        assert_eq!(
            format!("{:?}", Lsn::new(0x16_B374_D848)),
            "Lsn(16/B374D848)"
        );
    }
}
