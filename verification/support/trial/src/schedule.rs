//! [`Schedule`]: the plan of a trial, from the kernel's options.

use alloc::format;
use alloc::vec::Vec;
use core::str::FromStr;
use core::time::Duration;

use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::{Handle, Text};
use coppice_run_protocol::faults;

use crate::Method;

/// Returns an option of the kernel, a number or `true` or `false`; `otherwise` if it is absent.
///
/// # Errors
/// [`Failure`] when the value is malformed.
pub fn option<T: FromStr>(control: &Handle<dyn Control>, name: &str, otherwise: T) -> Result<T, Failure> {
    match control.option(Text::new(name))? {
        None => Ok(otherwise),
        Some(text) => text.parse().map_err(|_| Failure(format!("{name}={}: the value is malformed", &*text))),
    }
}

/// The plan of a trial.
pub struct Schedule {
    /// The methods, in the order of their turns.
    pub methods: Vec<Method>,
    /// The interval between two crashes.
    pub every: Duration,
    /// The duration of the run.
    pub duration: Duration,
    /// The length of the alternating spans without and with crashes; zero for no alternation.
    pub turn: Duration,
    /// The seed of the random numbers.
    pub seed: u64,
    /// The driver's device has faults, so the driver may end at any time.
    pub has_device_faults: bool,
    /// A domain that is ended in the middle of the run without an announcement. A test of the check for
    /// unexpected ends: the run has to fail.
    pub unannounced_kill: Option<Text<32>>,
}

impl Schedule {
    /// Reads the kernel's options.
    pub(crate) fn read(control: &Handle<dyn Control>) -> Result<Self, Failure> {
        let word: Option<Text<128>> = control.option(Text::new("fault"))?;
        let word = word.as_deref().unwrap_or(faults::ALL);
        let methods = Method::named(word).ok_or_else(|| {
            Failure(format!(
                "unknown fault {word}: expected all, none, Kill, or one of interfaces/testing/src/fault.rs"
            ))
        })?;
        let us = |name, otherwise| option(control, name, otherwise).map(Duration::from_micros);
        Ok(Self {
            methods,
            every: us("every_us", 100_000)?,
            duration: us("duration_us", 10_000_000)?,
            turn: us("turn_us", 0)?,
            seed: option(control, "seed", 0)?,
            has_device_faults: option(control, "device_faults", false)?,
            unannounced_kill: control.option(Text::new("unannounced_kill"))?.map(|name| Text::new(&name)),
        })
    }

    /// Returns true if the driver is crashed at all.
    pub fn has_crashes(&self) -> bool {
        !self.methods.is_empty() && !self.every.is_zero()
    }

    /// Returns true if no crash is due at that time after the start.
    pub(crate) fn is_calm(&self, elapsed: Duration) -> bool {
        !self.turn.is_zero() && (elapsed.as_micros() / self.turn.as_micros()).is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(turn: Duration) -> Schedule {
        let every = Duration::from_millis(1);
        Schedule {
            methods: Vec::new(),
            every,
            duration: Duration::ZERO,
            turn,
            seed: 0,
            has_device_faults: false,
            unannounced_kill: None,
        }
    }

    #[test]
    fn the_first_span_has_no_crashes() {
        let turns = schedule(Duration::from_secs(2));
        assert!([0, 1999, 4000].iter().all(|&ms| turns.is_calm(Duration::from_millis(ms))));
        assert!(!turns.is_calm(Duration::from_millis(2000)));
        assert!(!schedule(Duration::ZERO).is_calm(Duration::ZERO));
    }

    #[test]
    fn crashes_need_a_method_and_an_interval() {
        assert!(!schedule(Duration::ZERO).has_crashes());
        let methods = Method::named("Kill").expect("it is one");
        assert!(Schedule { methods, ..schedule(Duration::ZERO) }.has_crashes());
    }
}
