//! [`WireConfig`]: a wire as a device's options describe it.

mod end;
mod error;
#[cfg(test)]
mod tests;

pub use end::{EndConfig, parse_mac};
pub use error::{ConfigError, OpenError};

use crate::{End, Rate, Wire};

/// A wire before it is made. A device's options are handed to [`set`](Self::set) one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WireConfig {
    /// How fast it is (default 10 Gb/s).
    pub rate: Rate,
    /// Who is at its other side (default nobody).
    pub end: EndConfig,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self { rate: Rate::TEN_GIGABIT, end: EndConfig::Nobody }
    }
}

impl WireConfig {
    /// The options that there are, for messages and help.
    pub const KEYS: &str = "rate, end";

    /// Takes one option, `KEY=VALUE`; whether it is one of a wire's.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that means nothing.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, ConfigError> {
        match key {
            "rate" => self.rate = parse_rate(value)?,
            "end" => self.end = EndConfig::parse(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Makes the wire: opens files and sockets.
    ///
    /// # Errors
    /// [`OpenError`] for what the host does not have, or does not allow.
    pub fn open(&self) -> Result<Wire, OpenError> {
        Ok(Wire::new(self.rate, self.end.open()?))
    }
}

/// What is at a wire's end, by its text.
///
/// # Errors
/// [`ConfigError`] for a text that means nothing, [`OpenError`] for what the host does not have.
pub fn parse_end(text: &str) -> Result<Box<dyn End>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(EndConfig::parse(text)?.open()?)
}

/// Bits in a second: `10G`, `2500M`, `unlimited`.
fn parse_rate(text: &str) -> Result<Rate, ConfigError> {
    if text == "unlimited" {
        return Ok(Rate::Unlimited);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale =
        [("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)].into_iter().find(|(name, _)| *name == unit);
    let rate =
        scale.and_then(|(_, scale)| number.parse::<u64>().ok()?.checked_mul(scale)).filter(|rate| *rate > 0);
    rate.map(Rate::BitsPerSecond).ok_or_else(|| ConfigError::Rate(text.into()))
}
