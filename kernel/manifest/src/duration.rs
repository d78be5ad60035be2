//! Durations as written in manifests: `500 us`, `5ms`, `10 s`.

use core::fmt;

const UNITS: [(&str, u64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// The reason why a text is no duration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DurationError {
    /// It does not start with a digit.
    NoNumber,
    /// It has a fraction.
    Fraction,
    /// The number has no unit, or an unknown one.
    Unit(alloc::string::String),
    /// More nanoseconds than 64 bits count.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("a duration begins with a number, such as `5 ms`"),
            Self::Fraction => f.write_str("a duration is a whole number: write `1500 us`, not `1.5 ms`"),
            Self::Unit(unit) if unit.is_empty() => f.write_str("a duration needs a unit: ns, us, ms or s"),
            Self::Unit(unit) => write!(f, "`{unit}` is no unit of time: use ns, us, ms or s"),
            Self::TooLong => f.write_str("the duration does not fit in 64 bits of nanoseconds"),
        }
    }
}

impl core::error::Error for DurationError {}

/// Reads a whole number of ns, us, ms or s, in nanoseconds; a space before the unit is optional.
pub fn parse_duration(text: &str) -> Result<u64, DurationError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(DurationError::NoNumber);
    }
    let (number, unit) = text.split_at(digits);
    if unit.starts_with(['.', ',']) {
        return Err(DurationError::Fraction);
    }
    let unit = unit.trim_start();
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(DurationError::Unit(unit.into()));
    };
    // All digits, so it can only be too long.
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(*scale).ok_or(DurationError::TooLong)
}

/// A duration in the largest unit that it is a whole number of, for messages.
pub struct Nanoseconds(pub u64);

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |scale: &u64| self.0.is_multiple_of(*scale);
        let (unit, scale) = UNITS.iter().rev().find(|(_, scale)| whole(scale)).unwrap_or(&UNITS[0]);
        write!(f, "{} {unit}", self.0 / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_of_a_unit() {
        assert_eq!(parse_duration("500 us"), Ok(500_000));
        assert_eq!(parse_duration(" 5ms "), Ok(5_000_000));
        assert_eq!(parse_duration("10 s"), Ok(10_000_000_000));
        assert_eq!(parse_duration("7ns"), Ok(7));
    }

    #[test]
    fn a_malformed_duration_is_refused_with_the_reason() {
        assert_eq!(parse_duration(""), Err(DurationError::NoNumber));
        assert_eq!(parse_duration("-1 ms"), Err(DurationError::NoNumber));
        assert_eq!(parse_duration("1.5 ms"), Err(DurationError::Fraction));
        assert_eq!(parse_duration("5"), Err(DurationError::Unit("".into())));
        assert_eq!(parse_duration("5 min"), Err(DurationError::Unit("min".into())));
        assert_eq!(parse_duration("18446744073709551616 ns"), Err(DurationError::TooLong));
        assert_eq!(parse_duration("18446744074 s"), Err(DurationError::TooLong));
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_whole_unit() {
        let shown = |ns| Nanoseconds(ns).to_string();
        assert_eq!(shown(20_000_000), "20 ms");
        assert_eq!(shown(1_500_000), "1500 us");
        assert_eq!(shown(10_000_000_000), "10 s");
        assert_eq!(shown(1_001), "1001 ns");
    }
}
