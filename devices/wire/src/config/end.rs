//! [`EndConfig`]: who is at a wire's end, as a text.

use crate::config::{ConfigError, OpenError};
use crate::{End, Loopback, Nobody, Tester};

/// Frames that a loopback holds if nobody says otherwise: some milliseconds' worth.
const LOOPBACK_FRAMES: usize = 4096;

/// An end before it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndConfig {
    /// Nobody: no link.
    Nobody,
    /// The wire comes back.
    Loopback {
        /// How many frames it holds.
        frames: usize,
    },
    /// A generator and sink.
    Tester {
        /// Its address.
        mac: [u8; 6],
    },
}

impl EndConfig {
    /// What [`Self::parse`] knows, for messages and help.
    pub const FORMS: &str = "none, loopback[:frames=N], tester[:mac=MAC]";

    /// Reads `KIND` or `KIND:OPTIONS`; options are joined by `+`.
    ///
    /// # Errors
    /// [`ConfigError`], which says what was meant to be there.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (kind, options) = text.split_once(':').unwrap_or((text, ""));
        let mut options = Options::read(kind, options)?;
        let end = match kind {
            "none" => Self::Nobody,
            "loopback" => Self::Loopback { frames: options.number("frames", LOOPBACK_FRAMES)? },
            "tester" => Self::Tester { mac: options.take("mac").map_or(Ok(Tester::MAC), parse_mac)? },
            _ => return Err(ConfigError::Kind(kind.into())),
        };
        options.end(end)
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self) -> Result<Box<dyn End>, OpenError> {
        Ok(match self {
            Self::Nobody => Box::new(Nobody),
            Self::Loopback { frames } => Box::new(Loopback::new(*frames)),
            Self::Tester { mac } => Box::new(Tester::new(*mac)),
        })
    }
}

/// `KEY=VALUE` joined by `+`, of which each is taken once.
struct Options<'a> {
    kind: &'a str,
    left: Vec<(&'a str, &'a str)>,
}

impl<'a> Options<'a> {
    fn read(kind: &'a str, text: &'a str) -> Result<Self, ConfigError> {
        let items = text.split('+').filter(|item| !item.is_empty());
        let pairs = items.map(|item| item.split_once('=').ok_or_else(|| ConfigError::NoValue(item.into())));
        Ok(Self { kind, left: pairs.collect::<Result<_, _>>()? })
    }

    /// The first with this key.
    fn take(&mut self, key: &str) -> Option<&'a str> {
        let index = self.left.iter().position(|(name, _)| *name == key)?;
        Some(self.left.remove(index).1)
    }

    fn number(&mut self, key: &'static str, default: usize) -> Result<usize, ConfigError> {
        let Some(text) = self.take(key) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (1..=1 << 20).contains(number));
        number.ok_or_else(|| ConfigError::Number { key, text: text.into(), most: 1 << 20 })
    }

    /// All have been taken.
    fn end<T>(self, value: T) -> Result<T, ConfigError> {
        match self.left.first() {
            None => Ok(value),
            Some((key, _)) => Err(ConfigError::Option { kind: self.kind.into(), key: (*key).into() }),
        }
    }
}

/// Six bytes, `02:c0:00:00:00:01`, of one station.
///
/// # Errors
/// [`ConfigError::Mac`] for a text that is none, or the address of a group or of nobody.
pub fn parse_mac(text: &str) -> Result<[u8; 6], ConfigError> {
    let wrong = || ConfigError::Mac(text.into());
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        // A sign would pass for a digit.
        let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let part = parts.next().filter(is_byte).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    let is_station = mac[0] & 1 == 0 && mac != [0; 6];
    if parts.next().is_none() && is_station { Ok(mac) } else { Err(wrong()) }
}
