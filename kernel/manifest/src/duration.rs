//! Times as people write them: `500 ms`, `1s`, `200 us`.

use core::fmt;

const UNITS: [(&str, u64); 3] = [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// Why a text is no time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DurationError {
    /// It does not begin with a digit.
    NoNumber,
    /// It has a fraction.
    Fraction,
    /// What follows the number is not one of the units.
    Unit(alloc::string::String),
    /// More nanoseconds than 64 bits count.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("a time begins with a number, such as `5 ms`"),
            Self::Fraction => f.write_str("a time is a whole number: write `1500 ms`, not `1.5 s`"),
            Self::Unit(unit) => write!(f, "`{unit}` is no unit of time: use us, ms or s"),
            Self::TooLong => f.write_str("the time does not fit in 64 bits of nanoseconds"),
        }
    }
}

impl core::error::Error for DurationError {}

/// Reads a whole number of us, ms or s, as nanoseconds; a space before the unit is optional, the unit is not.
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
    // All digits, so the only way to fail is to be too long.
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(*scale).ok_or(DurationError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_of_a_unit() {
        assert_eq!(parse_duration("200 us"), Ok(200_000));
        assert_eq!(parse_duration(" 500ms "), Ok(500_000_000));
        assert_eq!(parse_duration("1 s"), Ok(1_000_000_000));
    }

    #[test]
    fn a_time_that_is_none_says_why() {
        assert_eq!(parse_duration("soon"), Err(DurationError::NoNumber));
        assert_eq!(parse_duration("1.5 s"), Err(DurationError::Fraction));
        assert_eq!(parse_duration("5"), Err(DurationError::Unit("".into())));
        assert_eq!(parse_duration("5 min"), Err(DurationError::Unit("min".into())));
        assert_eq!(parse_duration("18446744074 s"), Err(DurationError::TooLong));
        assert_eq!(parse_duration("18446744073709551616 us"), Err(DurationError::TooLong));
    }
}
