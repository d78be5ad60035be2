//! What a device is like.

use std::fmt;

use device_bus::{ValueError, parse_number, parse_wait};
use device_wire::{End, Loopback, Rate};

/// What [`IxgbeConfig::parse`] knows, for error messages and help.
const KEYS: &str = "id, mac, rate, end, link, spin";
/// How many frames a loopback holds: a packet buffer full of the shortest.
const LOOPBACK_FRAMES: usize = 8192;

/// Which controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chip {
    /// 82599 with an SFP+ port: 8086:10fb.
    I82599,
    /// X540 with a copper port: 8086:1528.
    X540,
}

impl Chip {
    /// Its PCI device id.
    pub const fn device_id(self) -> u16 {
        match self {
            Self::I82599 => 0x10fb,
            Self::X540 => 0x1528,
        }
    }
}

/// A device before it is made. [`parse`](Self::parse) reads it from text; all fields have defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IxgbeConfig {
    /// Which controller (default the 82599).
    pub chip: Chip,
    /// Its MAC address (default 02:00:00:00:00:01), no group's.
    pub mac: [u8; 6],
    /// How fast its wire is (default 10 Gb/s).
    pub rate: Rate,
    /// Who is at the other side (default `loopback`): see [`open_end`](Self::open_end).
    pub end: String,
    /// From a reset until there is a link (default 0).
    pub link_ns: u64,
    /// How long the device's thread polls after work before it sleeps (default 50 us).
    pub spin_ns: u64,
}

impl Default for IxgbeConfig {
    fn default() -> Self {
        Self {
            chip: Chip::I82599,
            mac: [2, 0, 0, 0, 0, 1],
            rate: Rate::TEN_GIGABIT,
            end: "loopback".into(),
            link_ns: 0,
            spin_ns: 50_000,
        }
    }
}

impl IxgbeConfig {
    /// Reads `KEY=VALUE,...`, such as `end=loopback,rate=unlimited,mac=02:00:00:00:00:07`.
    ///
    /// # Errors
    /// [`ConfigError`], which says what was meant to be there.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').ok_or_else(|| ConfigError::NoValue(item.into()))?;
            let wrong = |error| ConfigError::Value { key: key.into(), error };
            match key {
                "id" => config.chip = chip(value)?,
                "mac" => config.mac = mac(value)?,
                "rate" => config.rate = rate(value)?,
                "end" => config.end = value.into(),
                "link" => config.link_ns = parse_wait(value).map_err(wrong)?,
                "spin" => config.spin_ns = parse_wait(value).map_err(wrong)?,
                _ => return Err(ConfigError::Key(key.into())),
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Refuses what no device could be.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        // A group bit or nobody's address: no frame could be for the device alone.
        if self.mac[0] & 1 != 0 || self.mac == [0; 6] { Err(ConfigError::Group(self.mac)) } else { Ok(()) }
    }

    /// Makes what is at the other side of the wire.
    ///
    /// # Errors
    /// [`ConfigError`] if there is nothing of that name.
    pub fn open_end(&self) -> Result<Box<dyn End>, ConfigError> {
        match self.end.as_str() {
            "loopback" => Ok(Box::new(Loopback::new(LOOPBACK_FRAMES))),
            _ => Err(ConfigError::End(self.end.clone())),
        }
    }
}

fn chip(text: &str) -> Result<Chip, ConfigError> {
    match text {
        "82599" => Ok(Chip::I82599),
        "x540" => Ok(Chip::X540),
        _ => Err(ConfigError::Chip(text.into())),
    }
}

fn rate(text: &str) -> Result<Rate, ConfigError> {
    match text {
        "10G" => Ok(Rate::TEN_GIGABIT),
        "1G" => Ok(Rate::BitsPerSecond(1_000_000_000)),
        "unlimited" => Ok(Rate::Unlimited),
        _ => {
            let rate = parse_number(text, 1_000_000_000_000).ok().filter(|rate| *rate >= 1_000_000);
            rate.map(Rate::BitsPerSecond).ok_or_else(|| ConfigError::Rate(text.into()))
        }
    }
}

fn mac(text: &str) -> Result<[u8; 6], ConfigError> {
    let wrong = || ConfigError::Mac(text.into());
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        // Signs are no digits, whatever the standard library says.
        if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() { Err(wrong()) } else { Ok(mac) }
}

/// A device that cannot be made.
#[derive(Debug)]
pub enum ConfigError {
    /// Not of the form `KEY=VALUE`.
    NoValue(String),
    /// A key that means nothing.
    Key(String),
    /// A value that means nothing.
    Value {
        /// Whose.
        key: String,
        /// Why not.
        error: ValueError,
    },
    /// No controller that there is a model of.
    Chip(String),
    /// No MAC address.
    Mac(String),
    /// An address that no single device can have.
    Group([u8; 6]),
    /// No rate.
    Rate(String),
    /// Nothing that could be at the other side of a wire.
    End(String),
    /// The host has no thread to spare.
    Thread(std::io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(item) => write!(f, "`{item}` is not of the form KEY=VALUE"),
            Self::Key(key) => write!(f, "`{key}` means nothing to an 82599; there are {KEYS}"),
            Self::Value { key, error } => write!(f, "{key}: {error}"),
            Self::Chip(text) => write!(f, "id: `{text}` is no controller: write 82599 or x540"),
            Self::Mac(text) => {
                write!(f, "mac: `{text}` is no MAC address: write six bytes, such as 02:00:00:00:00:01")
            }
            Self::Group([a, b, c, d, e, g]) => write!(
                f,
                "mac: {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} is a group's address or nobody's"
            ),
            Self::Rate(text) => write!(
                f,
                "rate: `{text}` is no rate: write 10G, 1G, unlimited, or bits per second from 1000000 on"
            ),
            Self::End(text) => write!(f, "end: `{text}` is nothing at the end of a wire: write loopback"),
            Self::Thread(error) => write!(f, "cannot start the device's thread: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_what_a_device_is_like() {
        let text = "id=x540,mac=02:aa:00:00:00:ff,rate=1G,end=loopback,link=2ms,spin=0";
        let expected = IxgbeConfig {
            chip: Chip::X540,
            mac: [2, 0xaa, 0, 0, 0, 0xff],
            rate: Rate::BitsPerSecond(1_000_000_000),
            end: "loopback".into(),
            link_ns: 2_000_000,
            spin_ns: 0,
        };
        assert_eq!(IxgbeConfig::parse(text).expect("it is well-formed"), expected);
        assert_eq!(IxgbeConfig::parse("").expect("it says nothing wrong"), IxgbeConfig::default());
    }

    #[test]
    fn a_text_that_means_nothing_is_told_why() {
        for (text, said) in [
            ("mac", "`mac` is not of the form KEY=VALUE"),
            ("queues=2", "`queues` means nothing to an 82599; there are id,"),
            ("mac=02:00:00:00:00", "mac: `02:00:00:00:00` is no MAC address"),
            ("mac=02:00:00:00:00:+1", "mac: `02:00:00:00:00:+1` is no MAC address"),
            ("mac=01:00:00:00:00:01", "mac: 01:00:00:00:00:01 is a group's address"),
            ("id=82598", "id: `82598` is no controller"),
            ("rate=5", "rate: `5` is no rate"),
            ("spin=1", "spin: `1` is no duration"),
        ] {
            let error = IxgbeConfig::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(said), "{text}: {error}");
        }
        let nowhere = IxgbeConfig { end: "moon".into(), ..IxgbeConfig::default() };
        assert!(nowhere.open_end().is_err_and(|error| error.to_string().contains("`moon`")));
    }
}
