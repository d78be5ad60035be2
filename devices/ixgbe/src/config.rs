//! [`IxgbeConfig`]: the configuration of a device, and its text form.

use std::fmt;

use device_bus::{RuleError, ValueError, parse_number, parse_wait};
use device_link_config::{OpenError, WireConfig, parse_mac};

use crate::fault_injection::Rule;

/// The options of [`IxgbeConfig::parse`] beside those of a wire, for error messages and help.
const KEYS: &str = "id, mac, link, spin, faults, seed";

/// A controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chip {
    /// 82599 with an SFP+ port: 8086:10fb.
    I82599,
    /// X540 with a copper port: 8086:1528.
    X540,
}

impl Chip {
    /// The PCI device id.
    pub const fn device_id(self) -> u16 {
        match self {
            Self::I82599 => 0x10fb,
            Self::X540 => 0x1528,
        }
    }
}

/// The configuration of a device. [`parse`](Self::parse) reads it from text; all fields have defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IxgbeConfig {
    /// The controller (default the 82599).
    pub chip: Chip,
    /// The MAC address (default 02:00:00:00:00:01), which is not a group address.
    pub mac: [u8; 6],
    /// The wire at its port (default 10 Gb/s without a peer).
    pub wire: WireConfig,
    /// The time from a reset until the link is up (default 0).
    pub link_ns: u64,
    /// The time for which the device's thread polls after its last work before it sleeps (default 50 us).
    pub spin_ns: u64,
    /// The faults that it injects.
    pub faults: Vec<Rule>,
    /// The seed of the random numbers of fault injection (default 1).
    pub seed: u64,
}

impl Default for IxgbeConfig {
    fn default() -> Self {
        Self {
            chip: Chip::I82599,
            mac: [2, 0, 0, 0, 0, 1],
            wire: WireConfig::default(),
            link_ns: 0,
            spin_ns: 50_000,
            faults: Vec::new(),
            seed: 1,
        }
    }
}

impl IxgbeConfig {
    /// Parses `KEY=VALUE,...`, such as `peer=loopback,rate=unlimited,mac=02:00:00:00:00:07`.
    ///
    /// # Errors
    /// [`ConfigError`] if an option is unknown or its value is not valid.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').ok_or_else(|| ConfigError::NoValue(item.into()))?;
            let wrong = |error| ConfigError::Value { key: key.into(), error };
            match key {
                "id" => config.chip = chip(value)?,
                "mac" => config.mac = parse_mac(value).map_err(ConfigError::Wire)?,
                "link" => config.link_ns = parse_wait(value).map_err(wrong)?,
                "spin" => config.spin_ns = parse_wait(value).map_err(wrong)?,
                "seed" => config.seed = parse_number(value, u64::MAX).map_err(wrong)?,
                "faults" => config.faults.extend(Rule::parse_all(value).map_err(ConfigError::Faults)?),
                _ if config.wire.set(key, value).map_err(ConfigError::Wire)? => {}
                _ => return Err(ConfigError::Key(key.into())),
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Checks the fields that types do not limit.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        // No frame could be for the device alone.
        if self.mac[0] & 1 != 0 || self.mac == [0; 6] { Err(ConfigError::Mac(self.mac)) } else { Ok(()) }
    }
}

fn chip(text: &str) -> Result<Chip, ConfigError> {
    match text {
        "82599" => Ok(Chip::I82599),
        "x540" => Ok(Chip::X540),
        _ => Err(ConfigError::Chip(text.into())),
    }
}

/// A device that cannot be created.
#[derive(Debug)]
pub enum ConfigError {
    /// The option is not of the form `KEY=VALUE`.
    NoValue(String),
    /// The option is unknown.
    Key(String),
    /// The value is not valid for the option.
    Value {
        /// The option.
        key: String,
        /// The reason.
        error: ValueError,
    },
    /// The controller has no model.
    Chip(String),
    /// The MAC address is a group address or all zeros.
    Mac([u8; 6]),
    /// An option of the wire or the MAC address is not valid.
    Wire(device_link_config::ConfigError),
    /// The text is not a rule of fault injection.
    Faults(RuleError),
    /// The host cannot open the peer of the wire.
    Open(OpenError),
    /// The host cannot start the device's thread.
    Thread(std::io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(item) => write!(f, "`{item}` is not of the form KEY=VALUE"),
            Self::Key(key) => {
                write!(f, "an 82599 has no option `{key}`; there are {KEYS}, {}", WireConfig::KEYS)
            }
            Self::Value { key, error } => write!(f, "{key}: {error}"),
            Self::Chip(text) => write!(f, "id: `{text}` is not a controller: write 82599 or x540"),
            Self::Mac([a, b, c, d, e, last]) => {
                write!(
                    f,
                    "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x} is not the MAC address of a station"
                )
            }
            Self::Wire(error) => error.fmt(f),
            Self::Faults(error) => write!(f, "faults: {error}"),
            Self::Open(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start the device's thread: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use device_bus::Rate;
    use device_link_config::PeerConfig;

    use super::*;
    use crate::fault_injection::Fault;

    #[test]
    fn options_configure_a_device() {
        let text = "id=x540,mac=02:aa:00:00:00:ff,rate=1G,peer=loopback:frames=4,link=2ms,spin=0,\
                    faults=hang:#3+unplug:@9:5ms,seed=7";
        let expected = IxgbeConfig {
            chip: Chip::X540,
            mac: [2, 0xaa, 0, 0, 0, 0xff],
            wire: WireConfig {
                rate: device_link::Rate::BitsPerSecond(1_000_000_000),
                peer: PeerConfig::Loopback { frames: 4 },
                ..WireConfig::default()
            },
            link_ns: 2_000_000,
            spin_ns: 0,
            faults: vec![
                Rule { kind: Fault::Hang, rate: Rate::Once(3), duration_ns: None },
                Rule { kind: Fault::Unplug, rate: Rate::Every(9), duration_ns: Some(5_000_000) },
            ],
            seed: 7,
        };
        assert_eq!(IxgbeConfig::parse(text).expect("it is well-formed"), expected);
        assert_eq!(IxgbeConfig::parse("").expect("it says nothing wrong"), IxgbeConfig::default());
    }

    #[test]
    fn an_invalid_option_is_reported_with_its_reason() {
        for (text, message) in [
            ("mac", "`mac` is not of the form KEY=VALUE"),
            ("queues=2", "an 82599 has no option `queues`; there are id,"),
            ("mac=02:00:00:00:00", "`02:00:00:00:00` is not the MAC address of a station"),
            ("mac=02:00:00:00:00:+1", "`02:00:00:00:00:+1` is not the MAC address of a station"),
            ("id=82598", "id: `82598` is not a controller"),
            ("rate=5", "`5` is not a rate"),
            ("faults=explode:1/2", "faults: `explode` is no kind of fault"),
            ("faults=hang:1/2:5ms", "faults: `hang` takes no duration"),
            ("spin=1", "spin: `1` is no duration"),
        ] {
            let error = IxgbeConfig::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
        let group = IxgbeConfig { mac: [1, 0, 0, 0, 0, 1], ..IxgbeConfig::default() };
        assert!(group.check().is_err_and(|error| error.to_string().contains("01:00:00:00:00:01")));
    }
}
