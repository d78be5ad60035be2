//! [`Schedule`]: what is crashed how and when, from the command line.

use alloc::format;
use alloc::vec::Vec;
use core::str::FromStr;
use core::time::Duration;

use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::{Handle, Text};

use crate::Method;

/// A number that the kernel has among its options.
///
/// # Errors
/// It is none.
pub fn option<T: FromStr>(control: &Handle<dyn Control>, name: &str, otherwise: T) -> Result<T, Failure> {
    match control.option(Text::new(name))? {
        None => Ok(otherwise),
        Some(text) => text.parse().map_err(|_| Failure(format!("{name}={}: a number is wanted", &*text))),
    }
}

/// What is crashed how and when.
pub struct Schedule {
    /// In turn.
    pub methods: Vec<Method>,
    /// From one crash to the next.
    pub every: Duration,
    /// How long.
    pub duration: Duration,
    /// Spans without crashes and with them take turns, so long each; zero is no turns.
    pub turn: Duration,
    /// What chance is made of.
    pub seed: u64,
}

impl Schedule {
    /// From the kernel's options.
    pub(crate) fn read(control: &Handle<dyn Control>) -> Result<Self, Failure> {
        let word: Option<Text<128>> = control.option(Text::new("fault"))?;
        let word = word.as_deref().unwrap_or("all");
        let methods = Method::named(word).ok_or_else(|| {
            Failure(format!(
                "nothing ends by {word}: there are all, none, Kill, and those in interfaces/testing/src/fault.rs"
            ))
        })?;
        let us = |name, otherwise| option(control, name, otherwise).map(Duration::from_micros);
        Ok(Self {
            methods,
            every: us("every_us", 100_000)?,
            duration: us("duration_us", 10_000_000)?,
            turn: us("turn_us", 0)?,
            seed: option(control, "seed", 0)?,
        })
    }

    /// Whether anything is crashed at all.
    pub fn has_crashes(&self) -> bool {
        !self.methods.is_empty() && !self.every.is_zero()
    }

    /// Whether that long after the beginning nothing is to be crashed.
    pub(crate) fn is_calm(&self, elapsed: Duration) -> bool {
        !self.turn.is_zero() && (elapsed.as_micros() / self.turn.as_micros()).is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(turn: Duration) -> Schedule {
        let every = Duration::from_millis(1);
        Schedule { methods: Vec::new(), every, duration: Duration::ZERO, turn, seed: 0 }
    }

    #[test]
    fn turns_begin_with_a_calm_one() {
        let turns = schedule(Duration::from_secs(2));
        assert!([0, 1999, 4000].iter().all(|&ms| turns.is_calm(Duration::from_millis(ms))));
        assert!(!turns.is_calm(Duration::from_millis(2000)));
        assert!(!schedule(Duration::ZERO).is_calm(Duration::ZERO));
    }

    #[test]
    fn without_a_method_there_are_no_crashes() {
        assert!(!schedule(Duration::ZERO).has_crashes());
        let methods = Method::named("Kill").expect("it is one");
        assert!(Schedule { methods, ..schedule(Duration::ZERO) }.has_crashes());
    }
}
