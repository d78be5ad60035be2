//! [`Settings`]: what the manifest's `args` say.

use core::fmt;
use core::time::Duration;

/// How the disk is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `namespace=N`: which namespace; the first that can be used if nothing is said.
    pub namespace: Option<u32>,
    /// `depth=N`: most requests of one queue at a time, if the controller allows as many.
    pub depth: u16,
    /// `queues=N`: most queues, if the controller has as many.
    pub queues: u16,
    /// `timeout=5s`: after so long a command is aborted, and after so long again the controller is reset.
    pub timeout: Duration,
    /// `admin-timeout=5s`: after so long without an answer to an admin command the controller is reset.
    pub admin_timeout: Duration,
    /// `wait=20ms`: longest wait of one exchange. Has to be less than the domain's deadline.
    pub wait: Duration,
    /// `spin=20us`: longest that a wait spins before it sleeps.
    pub spin: Duration,
    /// `retries=3`: how often a request is submitted again that the controller failed, or forgot in a reset.
    pub retries: u64,
    /// `resets=3`: how often the controller is reset within ten seconds before the domain gives up.
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

/// A word among the arguments that cannot be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadArgument<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
}

impl fmt::Display for BadArgument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "argument {}={}: ", self.name, self.value)?;
        match self.name {
            "namespace" | "depth" | "queues" | "retries" | "resets" => f.write_str("a number is wanted"),
            "timeout" | "admin-timeout" | "wait" | "spin" => f.write_str("a time is wanted, such as 20ms"),
            _ => f.write_str("there is no argument of that name"),
        }
    }
}

impl core::error::Error for BadArgument<'_> {}

impl Settings {
    /// From `name=value` words.
    ///
    /// # Errors
    /// The first that cannot be understood.
    pub fn parse<'a>(words: &[&'a str]) -> Result<Self, BadArgument<'a>> {
        let mut settings = Self::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
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

/// A number with `ns`, `us`, `ms` or `s`.
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
    fn words_are_understood_or_named() {
        let words = ["namespace=2", "depth=32", "timeout=250ms", "spin=0us", "wait=5 ms"];
        let settings = Settings::parse(&words).expect("all are good");
        assert_eq!((settings.namespace, settings.depth), (Some(2), 32));
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert_eq!((settings.spin, settings.wait), (Duration::ZERO, Duration::from_millis(5)));
        for word in ["depth=", "depth=-1", "timeout=5", "timeout=99999999999999s", "colour=red", "namespace"]
        {
            let refused = Settings::parse(&["retries=1", word]).expect_err("the second is bad");
            assert!(word.starts_with(refused.name), "{refused}");
        }
    }
}
