//! Parsers for the option values of models, such as the size `64M` and the duration `10us`.

use std::fmt;

const SIZES: [(&str, u64); 8] = [
    ("", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("T", 1 << 40),
];
const DURATIONS: [(&str, u64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// The error for a malformed size, with the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SizeError(pub String);

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no size: write a whole number of bytes, or of K, M, G or T, such as 64M", self.0)
    }
}

impl std::error::Error for SizeError {}

/// The error for a malformed duration, with the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DurationError(pub String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no duration: write a whole number of ns, us, ms or s, such as 10us", self.0)
    }
}

impl std::error::Error for DurationError {}

/// The error for a malformed option value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueError {
    /// A malformed size.
    Size(SizeError),
    /// A malformed duration.
    Duration(DurationError),
    /// A duration of more than an hour.
    TooLong(String),
    /// Not a whole number, or one above the limit.
    Number {
        /// The value.
        text: String,
        /// The largest number allowed.
        limit: u64,
    },
    /// A text other than `yes` and `no`.
    NeitherYesNorNo(String),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(error) => error.fmt(f),
            Self::Duration(error) => error.fmt(f),
            Self::TooLong(text) => write!(f, "`{text}` is more than an hour"),
            Self::Number { text, limit } => write!(f, "`{text}` is no whole number up to {limit}"),
            Self::NeitherYesNorNo(text) => write!(f, "`{text}` is neither yes nor no"),
        }
    }
}

impl std::error::Error for ValueError {}

/// Parses a number of at most `limit`.
///
/// # Errors
/// [`ValueError::Number`] if the text is no whole number, or one above `limit`.
pub fn parse_number(text: &str, limit: u64) -> Result<u64, ValueError> {
    let number = text.parse().ok().filter(|number| *number <= limit);
    number.ok_or_else(|| ValueError::Number { text: text.into(), limit })
}

/// Parses `yes` or `no`.
///
/// # Errors
/// [`ValueError::NeitherYesNorNo`] for any other text.
pub fn parse_yes_or_no(text: &str) -> Result<bool, ValueError> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(ValueError::NeitherYesNorNo(text.into())),
    }
}

/// Parses a duration of at most an hour, in nanoseconds, so that sums of a few do not overflow.
///
/// # Errors
/// [`ValueError::Duration`] if the text is no duration, [`ValueError::TooLong`] if it is more than an hour.
pub fn parse_wait(text: &str) -> Result<u64, ValueError> {
    const LIMIT_NS: u64 = 3_600_000_000_000;
    let duration = parse_duration(text).map_err(ValueError::Duration)?;
    if duration > LIMIT_NS { Err(ValueError::TooLong(text.into())) } else { Ok(duration) }
}

/// Parses a size, in bytes.
///
/// # Errors
/// [`SizeError`] if the text is no whole number with a known unit, or the size exceeds a `u64`.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    scaled(text, &SIZES).ok_or_else(|| SizeError(text.into()))
}

/// Parses a duration, in nanoseconds.
///
/// # Errors
/// [`DurationError`] if the text is no whole number with a known unit, or the duration exceeds a `u64`.
pub fn parse_duration(text: &str) -> Result<u64, DurationError> {
    if text == "0" {
        return Ok(0);
    }
    scaled(text, &DURATIONS).ok_or_else(|| DurationError(text.into()))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_duration("10us"), Ok(10_000));
        assert_eq!(parse_duration("0"), Ok(0));
        for wrong in ["", "M", "1.5M", "-1", "4MB", "99999999999999999999", "17000000T"] {
            assert_eq!(parse_size(wrong), Err(SizeError(wrong.into())), "{wrong}");
        }
        for wrong in ["", "5", "us", "1.5ms", "5 ms", "99999999999999s"] {
            assert_eq!(parse_duration(wrong), Err(DurationError(wrong.into())), "{wrong}");
        }
    }
}
