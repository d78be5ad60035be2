//! [`Settings`]: the manifest's `args` of this domain.

use core::fmt;
use core::time::Duration;

use coppice_runtime::time;

/// Parameters of the device and of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `packet=2048`: the minimum size of a packet to receive into, in bytes, a multiple of 1024. A longer
    /// frame continues in the next packet.
    pub packet_bytes: u32,
    /// `wait=20ms`: the longest wait of one exchange. It must be less than the domain's deadline.
    pub wait: Duration,
    /// `spin=20us`: the longest time that a wait spins before it sleeps.
    pub spin: Duration,
    /// `gap=4us`: the minimum time between two interrupts of a queue.
    pub gap: Duration,
    /// `timeout=100ms`: the timeout of each step of the device's initialization.
    pub timeout: Duration,
    /// `settle=1ms`: the pause after a reset before the first access. Device models need none.
    pub settle: Duration,
    /// `hang=500ms`: the time without progress of a transmit ring with frames in it after which the device is
    /// reset.
    pub hang: Duration,
    /// `resets=3`: the number of resets within ten seconds after which the next fault ends the domain.
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

/// An argument that is unknown or malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadArgument<'a>(pub &'a str);

impl fmt::Display for BadArgument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "argument {}: expected packet= or resets= with a number, \
             or wait=, spin=, gap=, timeout=, settle=, hang= with a time such as 20ms",
            self.0
        )
    }
}

impl core::error::Error for BadArgument<'_> {}

impl Settings {
    /// Parses `name=value` arguments.
    ///
    /// # Errors
    /// The first argument that is unknown or malformed.
    pub fn parse<'a>(args: &[&'a str]) -> Result<Self, BadArgument<'a>> {
        let mut settings = Self::default();
        for arg in args {
            settings.set(arg).ok_or(BadArgument(arg))?;
        }
        Ok(settings)
    }

    fn set(&mut self, arg: &str) -> Option<()> {
        let (name, value) = arg.split_once('=')?;
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
    fn arguments_are_parsed_or_named_in_the_error() {
        let settings = Settings::parse(&["packet=4096", "settle=0us", "hang=50ms"]).expect("all are valid");
        assert_eq!((settings.packet_bytes, settings.settle), (4096, Duration::ZERO));
        assert_eq!((settings.hang, settings.wait), (Duration::from_millis(50), Duration::from_millis(20)));
        for arg in ["packet=", "packet=-1", "hang=5", "colour=red", "packet"] {
            assert_eq!(Settings::parse(&["resets=1", arg]), Err(BadArgument(arg)));
        }
    }
}
