//! [`WireConfig`]: a wire as a device's options describe it.

mod end;
mod error;
#[cfg(test)]
mod tests;

pub use end::{EndConfig, parse_mac};
pub use error::{ConfigError, OpenError};

use std::path::PathBuf;
use std::sync::Arc;

use device_bus::parse_number;

use crate::{Capture, End, Rate, Trouble, TroubleRule, Wire};

/// A wire before it is made. A device's options are handed to [`set`](Self::set) one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WireConfig {
    /// How fast it is (default 10 Gb/s).
    pub rate: Rate,
    /// Who is at its other side (default nobody).
    pub end: EndConfig,
    /// Where all that passes before its end is recorded.
    pub capture: Option<PathBuf>,
    /// What happens to frames to the device.
    pub trouble_inward: Vec<TroubleRule>,
    /// What happens to frames from the device.
    pub trouble_outward: Vec<TroubleRule>,
    /// What chance in trouble is made of (default 1).
    pub trouble_seed: u64,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self {
            rate: Rate::TEN_GIGABIT,
            end: EndConfig::Nobody,
            capture: None,
            trouble_inward: Vec::new(),
            trouble_outward: Vec::new(),
            trouble_seed: 1,
        }
    }
}

impl WireConfig {
    /// The options that there are, for messages and help.
    pub const KEYS: &str = "rate, end, capture, trouble, trouble-in, trouble-out, trouble-seed";

    /// Takes one option, `KEY=VALUE`; whether it is one of a wire's.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that means nothing.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, ConfigError> {
        match key {
            "rate" => self.rate = parse_rate(value)?,
            "end" => self.end = EndConfig::parse(value)?,
            "capture" => self.capture = Some(value.into()),
            "trouble" | "trouble-in" | "trouble-out" => {
                let rules = TroubleRule::parse_all(value).map_err(ConfigError::Trouble)?;
                if key != "trouble-out" {
                    self.trouble_inward.extend(&rules);
                }
                if key != "trouble-in" {
                    self.trouble_outward.extend(&rules);
                }
            }
            "trouble-seed" => {
                self.trouble_seed = parse_number(value, u64::MAX)
                    .map_err(|error| ConfigError::Value { key: "trouble-seed", error })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Makes the wire: opens files and sockets.
    ///
    /// # Errors
    /// [`OpenError`] for what the host does not have, or does not allow.
    pub fn open(&self) -> Result<Wire, OpenError> {
        let mut end = self.end.open()?;
        if let Some(path) = &self.capture {
            let what = format!("the capture {}", path.display());
            end = Box::new(Capture::new(end, path).map_err(OpenError::of(what))?);
        }
        let wire = Wire::new(self.rate, end);
        if self.trouble_inward.is_empty() && self.trouble_outward.is_empty() {
            return Ok(wire);
        }
        let trouble = Trouble::new(self.trouble_seed, &self.trouble_inward, &self.trouble_outward);
        Ok(wire.with_trouble(Arc::new(trouble)))
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
