//! [`Settings`]: what the manifest's `args` say.

use core::fmt;
use core::time::Duration;

use coppice_runtime::time;

/// How the device is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `packet=2048`: bytes that each packet to receive into has at least, in whole KiB. A longer frame goes on in the next.
    pub packet_bytes: u32,
    /// `wait=20ms`: longest wait of one exchange. Has to be less than the domain's deadline.
    pub wait: Duration,
    /// `spin=20us`: longest that a wait spins before it sleeps.
    pub spin: Duration,
    /// `gap=4us`: least time between two interrupts of a queue.
    pub gap: Duration,
    /// `timeout=100ms`: how long the device is waited for at each step of being set up.
    pub timeout: Duration,
    /// `settle=1ms`: how long the device is left alone after a reset. Models need none of it.
    pub settle: Duration,
    /// `hang=500ms`: after so long in which nothing was sent of what there is to be sent, the device is reset.
    pub hang: Duration,
    /// `resets=3`: how often the device is reset within ten seconds before the domain gives up.
    pub resets: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            packet_bytes: 2048,
            wait: Duration::from_millis(20),
            spin: Duration::from_micros(20),
            gap: Duration::from_micros(4),
            timeout: Duration::from_millis(100),
            settle: Duration::from_millis(1),
            hang: Duration::from_millis(500),
            resets: 3,
        }
    }
}

/// An argument that cannot be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadWord<'a>(pub &'a str);

impl fmt::Display for BadWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "argument {}: wanted are packet= and resets= with a number, \
             and wait=, spin=, gap=, timeout=, settle=, hang= with a time such as 20ms",
            self.0
        )
    }
}

impl core::error::Error for BadWord<'_> {}

impl Settings {
    /// From `name=value` words.
    ///
    /// # Errors
    /// The first that cannot be understood.
    pub fn parse<'a>(words: &[&'a str]) -> Result<Self, BadWord<'a>> {
        let mut settings = Self::default();
        for word in words {
            settings.set(word).ok_or(BadWord(word))?;
        }
        Ok(settings)
    }

    fn set(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        match name {
            "packet" => self.packet_bytes = value.parse().ok()?,
            "resets" => self.resets = value.parse().ok()?,
            "wait" => self.wait = time::parse(value)?,
            "spin" => self.spin = time::parse(value)?,
            "gap" => self.gap = time::parse(value)?,
            "timeout" => self.timeout = time::parse(value)?,
            "settle" => self.settle = time::parse(value)?,
            "hang" => self.hang = time::parse(value)?,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_named() {
        let settings = Settings::parse(&["packet=4096", "settle=0us", "hang=50ms"]).expect("all are good");
        assert_eq!((settings.packet_bytes, settings.settle), (4096, Duration::ZERO));
        assert_eq!((settings.hang, settings.wait), (Duration::from_millis(50), Duration::from_millis(20)));
        for word in ["packet=", "packet=-1", "hang=5", "colour=red", "packet"] {
            assert_eq!(Settings::parse(&["resets=1", word]), Err(BadWord(word)));
        }
    }
}
