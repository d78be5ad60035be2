//! Sizes as written in manifests: `4 MiB`, `128KiB`, `65536`.

use core::fmt;

const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// The reason why a text is no size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SizeError {
    /// It does not start with a digit.
    NoNumber,
    /// It has a fraction.
    Fraction,
    /// The unit after the number is unknown.
    Unit(alloc::string::String),
    /// More bytes than 64 bits count.
    TooLarge,
    /// Below zero, which TOML's plain numbers can be.
    Negative(i64),
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("a size begins with a number, such as `4 MiB`"),
            Self::Fraction => f.write_str("a size is a whole number: write `1536 KiB`, not `1.5 MiB`"),
            Self::Unit(unit) => {
                write!(f, "`{unit}` is no unit of size: use KiB, MiB or GiB, or none for bytes")
            }
            Self::TooLarge => f.write_str("the size does not fit in 64 bits"),
            Self::Negative(bytes) => write!(f, "a size cannot be negative, but this is {bytes}"),
        }
    }
}

impl core::error::Error for SizeError {}

/// Reads a whole number of bytes, KiB, MiB or GiB; a space before the unit is optional.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(SizeError::NoNumber);
    }
    let (number, unit) = text.split_at(digits);
    if unit.starts_with(['.', ',']) {
        return Err(SizeError::Fraction);
    }
    let unit = unit.trim_start();
    let scale = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, scale)) => *scale,
        None if unit.is_empty() => 1,
        None => return Err(SizeError::Unit(unit.into())),
    };
    // All digits, so it can only be too long.
    let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
    number.checked_mul(scale).ok_or(SizeError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        assert_eq!(parse_size("65536"), Ok(65536));
        assert_eq!(parse_size("128 KiB"), Ok(128 << 10));
        assert_eq!(parse_size(" 4MiB "), Ok(4 << 20));
        assert_eq!(parse_size("8 GiB"), Ok(8 << 30));
    }

    #[test]
    fn a_malformed_size_is_refused_with_the_reason() {
        assert_eq!(parse_size(""), Err(SizeError::NoNumber));
        assert_eq!(parse_size("MiB"), Err(SizeError::NoNumber));
        assert_eq!(parse_size("-1"), Err(SizeError::NoNumber));
        assert_eq!(parse_size("1.5 MiB"), Err(SizeError::Fraction));
        assert_eq!(parse_size("4 MB"), Err(SizeError::Unit("MB".into())));
        assert_eq!(parse_size("4 mib"), Err(SizeError::Unit("mib".into())));
        assert_eq!(parse_size("18446744073709551616"), Err(SizeError::TooLarge));
        assert_eq!(parse_size("17179869184 GiB"), Err(SizeError::TooLarge));
    }
}
