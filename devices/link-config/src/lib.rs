//! The options of a device that describe its Ethernet link: [`WireConfig`] for the wire, [`PeerConfig`] for
//! the peer.
//!
//! This crate is above `device-link` and `device-host-net`, since its texts name the peers of both. A
//! registry that a program passes in was rejected: each program with a device would have to assemble the same
//! list.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
mod peer;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, OpenError};
pub use peer::{PeerConfig, parse_mac};

use std::path::PathBuf;
use std::sync::Arc;

use device_bus::parse_number;
use device_link::{Capture, Impairment, ImpairmentRule, Peer, Rate, Wire};

/// The configuration of a wire. A device's options are passed to [`set`](Self::set) one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WireConfig {
    /// The rate of each direction (default 10 Gb/s).
    pub rate: Rate,
    /// The peer at its other side (default none).
    pub peer: PeerConfig,
    /// The file that records all frames between the wire and its peer.
    pub capture: Option<PathBuf>,
    /// The impairment of frames to the device.
    pub impair_inward: Vec<ImpairmentRule>,
    /// The impairment of frames from the device.
    pub impair_outward: Vec<ImpairmentRule>,
    /// The seed of the random numbers of the impairment (default 1).
    pub impair_seed: u64,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self {
            rate: Rate::TEN_GIGABIT,
            peer: PeerConfig::None,
            capture: None,
            impair_inward: Vec::new(),
            impair_outward: Vec::new(),
            impair_seed: 1,
        }
    }
}

impl WireConfig {
    /// The names of all options, for messages and help.
    pub const KEYS: &str = "rate, peer, capture, impair, impair-in, impair-out, impair-seed";

    /// Sets one option, `KEY=VALUE`. Returns false if `key` is not an option of a wire.
    ///
    /// # Errors
    /// [`ConfigError`] if `value` is not valid for `key`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, ConfigError> {
        match key {
            "rate" => self.rate = parse_rate(value)?,
            "peer" => self.peer = PeerConfig::parse(value)?,
            "capture" => self.capture = Some(value.into()),
            "impair" | "impair-in" | "impair-out" => {
                let rules = ImpairmentRule::parse_all(value).map_err(ConfigError::Impairment)?;
                if key != "impair-out" {
                    self.impair_inward.extend(&rules);
                }
                if key != "impair-in" {
                    self.impair_outward.extend(&rules);
                }
            }
            "impair-seed" => {
                self.impair_seed = parse_number(value, u64::MAX)
                    .map_err(|error| ConfigError::Value { key: "impair-seed", error })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Builds the wire, which opens its files and sockets.
    ///
    /// # Errors
    /// [`OpenError`] if a file, socket or interface is missing on the host or the host refuses to open it.
    pub fn open(&self) -> Result<Wire, OpenError> {
        let mut peer = self.peer.open()?;
        if let Some(path) = &self.capture {
            let what = format!("the capture {}", path.display());
            peer = Box::new(Capture::new(peer, path).map_err(OpenError::of(what))?);
        }
        let wire = Wire::new(self.rate, peer);
        if self.impair_inward.is_empty() && self.impair_outward.is_empty() {
            return Ok(wire);
        }
        let impairment = Impairment::new(self.impair_seed, &self.impair_inward, &self.impair_outward);
        Ok(wire.with_impairment(Arc::new(impairment)))
    }
}

/// Opens the peer that `text` describes.
///
/// # Errors
/// [`ConfigError`] if the text describes no peer, [`OpenError`] if the host cannot open it.
pub fn parse_peer(text: &str) -> Result<Box<dyn Peer>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(PeerConfig::parse(text)?.open()?)
}

/// Parses a rate in bits per second: `10G`, `2500M`, `unlimited`.
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
