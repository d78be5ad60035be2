//! [`Timeouts`]: the arguments of a shadow.

use core::fmt;
use core::time::Duration;

use coppice_runtime::{Environment, time};

/// The timeouts of a shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// `recovery-timeout=5s`: the length of an outage after which requests fail. The default is longer than a
    /// reset of the device, and the start of a link, take.
    pub recovery: Duration,
    /// `max-wait=50ms`: the maximum wait of one exchange for a driver. It must be less than the shadow's own
    /// deadline. The default is short compared with the deadlines of domains that wait for a call.
    pub max_wait: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { recovery: Duration::from_secs(5), max_wait: Duration::from_millis(50) }
    }
}

/// The error of [`Timeouts::parse`]: the named argument is no duration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadTimeout {
    /// The name of the argument.
    pub name: &'static str,
    /// Its value.
    pub value: &'static str,
}

impl fmt::Display for BadTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "argument {}={}: expected a time such as 500ms", self.name, self.value)
    }
}

impl core::error::Error for BadTimeout {}

impl Timeouts {
    /// Reads the timeouts from the arguments of a shadow; absent ones have their defaults.
    ///
    /// # Errors
    /// When an argument is no duration.
    pub fn parse(environment: &Environment<'_>) -> Result<Self, BadTimeout> {
        Self::parse_options(|name| environment.option(name))
    }

    fn parse_options(option: impl Fn(&str) -> Option<&'static str>) -> Result<Self, BadTimeout> {
        let parse = |name, default| match option(name) {
            Some(value) => time::parse(value).ok_or(BadTimeout { name, value }),
            None => Ok(default),
        };
        let default = Self::default();
        Ok(Self {
            recovery: parse("recovery-timeout", default.recovery)?,
            max_wait: parse("max-wait", default.max_wait)?,
        })
    }

    /// The end of the wait of a call that begins now and is not an exchange.
    pub fn deadline(&self) -> Duration {
        time::now().saturating_add(self.recovery)
    }

    /// The end of the wait of an exchange that begins at `now`, for a client that waits until
    /// `wait_until_ns`.
    pub fn wait_until(&self, wait_until_ns: u64, now: Duration) -> Duration {
        Duration::from_nanos(wait_until_ns).min(now.saturating_add(self.max_wait))
    }
}

/// Returns the time in nanoseconds since boot, as calls across domains take it; a time beyond their range is
/// the largest.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_defaults_and_a_malformed_one_is_named() {
        assert_eq!(Timeouts::parse_options(|_| None), Ok(Timeouts::default()));
        let given = Timeouts::parse_options(|name| (name == "recovery-timeout").then_some("80ms"));
        assert_eq!(given, Ok(Timeouts { recovery: Duration::from_millis(80), ..Timeouts::default() }));
        let refused = Timeouts::parse_options(|name| (name == "max-wait").then_some("soon"));
        assert_eq!(refused, Err(BadTimeout { name: "max-wait", value: "soon" }));
    }

    #[test]
    fn an_exchange_waits_as_long_as_its_client_but_no_longer_than_the_limit() {
        let timeouts = Timeouts { max_wait: Duration::from_millis(50), ..Timeouts::default() };
        let now = Duration::from_millis(1000);
        assert_eq!(timeouts.wait_until(0, now), Duration::ZERO);
        assert_eq!(timeouts.wait_until(1_020_000_000, now), Duration::from_millis(1020));
        assert_eq!(timeouts.wait_until(u64::MAX, now), Duration::from_millis(1050));
        assert_eq!(nanoseconds(Duration::MAX), u64::MAX);
    }
}
