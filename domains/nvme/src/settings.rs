//! [`Settings`]: the manifest's `args` of this domain.

use core::fmt;
use core::time::Duration;

/// Parameters of the controller and of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `namespace=N`: the id of the namespace; by default the first that can be used.
    pub namespace: Option<u32>,
    /// `depth=N`: the maximum depth of a queue; the controller may allow less.
    pub depth: u16,
    /// `queues=N`: the maximum number of queues; the controller may have fewer.
    pub queues: u16,
    /// `timeout=5s`: the time after which a command is aborted; after the same time again the controller is
    /// reset.
    pub timeout: Duration,
    /// `admin-timeout=5s`: the time after which an unanswered admin command makes the driver reset the
    /// controller.
    pub admin_timeout: Duration,
    /// `wait=20ms`: the longest wait of one exchange. It must be less than the domain's deadline.
    pub wait: Duration,
    /// `spin=20us`: the longest time that a wait spins before it sleeps.
    pub spin: Duration,
    /// `retries=3`: the number of times that a request is submitted again after a transient error or a reset.
    pub retries: u64,
    /// `resets=3`: the number of resets within ten seconds after which the next fault ends the domain.
    pub resets: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: None,
            depth: 256,
            queues: 64,
            timeout: Duration::from_secs(5),
            admin_timeout: Duration::from_secs(5),
            wait: Duration::from_millis(20),
            spin: Duration::from_micros(20),
            retries: 3,
            resets: 3,
        }
    }
}

/// An argument that is unknown or malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadArgument<'a> {
    /// The part before the equals sign.
    pub name: &'a str,
    /// The part behind it; empty if there is none.
    pub value: &'a str,
}

impl fmt::Display for BadArgument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "argument {}={}: ", self.name, self.value)?;
        match self.name {
            "namespace" | "depth" | "queues" | "retries" | "resets" => f.write_str("expected a number"),
            "timeout" | "admin-timeout" | "wait" | "spin" => f.write_str("expected a time such as 20ms"),
            _ => f.write_str("unknown argument"),
        }
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
            let (name, value) = arg.split_once('=').unwrap_or((arg, ""));
            settings.set(name, value).ok_or(BadArgument { name, value })?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "namespace" => self.namespace = Some(value.parse().ok()?),
            "depth" => self.depth = value.parse().ok()?,
            "queues" => self.queues = value.parse().ok()?,
            "timeout" => self.timeout = time(value)?,
            "admin-timeout" => self.admin_timeout = time(value)?,
            "wait" => self.wait = time(value)?,
            "spin" => self.spin = time(value)?,
            "retries" => self.retries = value.parse().ok()?,
            "resets" => self.resets = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

/// Parses a number followed by `ns`, `us`, `ms` or `s`.
fn time(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit_ns = match text[digits..].trim_start() {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit_ns).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed_or_named_in_the_error() {
        let args = ["namespace=2", "depth=32", "timeout=250ms", "spin=0us", "wait=5 ms"];
        let settings = Settings::parse(&args).expect("all are valid");
        assert_eq!((settings.namespace, settings.depth), (Some(2), 32));
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert_eq!((settings.spin, settings.wait), (Duration::ZERO, Duration::from_millis(5)));
        for arg in ["depth=", "depth=-1", "timeout=5", "timeout=99999999999999s", "colour=red", "namespace"] {
            let refused = Settings::parse(&["retries=1", arg]).expect_err("the second is malformed");
            assert!(arg.starts_with(refused.name), "{refused}");
        }
    }
}
