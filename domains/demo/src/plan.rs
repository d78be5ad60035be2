//! [`Plan`]: what is to be done, from the command line.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use coppice_experiment::Failure;
use coppice_interfaces::block::BlockInfo;
use coppice_interfaces::{Control, Fault, Handle, Place, Text};

/// A way for a life of the driver to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    /// Killed by the kernel, at whatever instant that is.
    Kill,
    /// By its own fault.
    Fault(Fault),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("Kill"),
            Self::Fault(fault) => write!(f, "{fault:?}"),
        }
    }
}

impl Method {
    /// All that a word means.
    fn named(word: &str) -> Option<Vec<Self>> {
        match word {
            "all" => Some([Self::Kill].into_iter().chain(Fault::ALL.into_iter().map(Self::Fault)).collect()),
            "none" => Some(Vec::new()),
            "Kill" => Some(vec![Self::Kill]),
            name => Fault::named(name).map(|fault| vec![Self::Fault(fault)]),
        }
    }

    /// Where it is done the `turn`th time. A hang is found by the deadline for calls, so it has to be in one.
    pub(crate) fn place(self, turn: u64) -> Place {
        match self {
            Self::Fault(fault) if fault.is_a_hang() || fault == Fault::SpinAtTheEndOfTheStack => {
                [Place::Before, Place::Behind][(turn % 2) as usize]
            }
            _ => [Place::Behind, Place::Before, Place::Aside][(turn % 3) as usize],
        }
    }
}

/// What is to be done.
pub(crate) struct Plan {
    /// In turn.
    pub(crate) methods: Vec<Method>,
    /// From one crash to the next.
    pub(crate) every: Duration,
    /// How long.
    pub(crate) duration: Duration,
    /// Spans without crashes and with them take turns, so long each; zero is no turns.
    pub(crate) turn: Duration,
    /// As many of the disk's first bytes are hashed.
    pub(crate) image_bytes: u64,
    /// From this byte on the disk may be written.
    pub(crate) scratch_from: u64,
    /// What chance is made of.
    pub(crate) seed: u64,
}

impl Plan {
    /// From the kernel's options. Without any, the first half of the disk is the image.
    pub(crate) fn read(control: &Handle<dyn Control>, disk: &BlockInfo) -> Result<Self, Failure> {
        let half = disk.capacity_bytes() / 2;
        let mut numbers = [
            ("every_us", 100_000),
            ("duration_us", 10_000_000),
            ("turn_us", 0),
            ("image_bytes", half),
            ("scratch_from", half),
            ("seed", 0),
        ];
        for (name, value) in &mut numbers {
            if let Some(text) = control.option(Text::new(name))? {
                *value = text.parse().map_err(|_| Failure(format!("{name}={text}: a number is wanted")))?;
            }
        }
        let [every_us, duration_us, turn_us, image_bytes, scratch_from, seed] =
            numbers.map(|(_, value)| value);
        let word: Option<Text<128>> = control.option(Text::new("fault"))?;
        let word = word.as_deref().unwrap_or("all");
        let methods = Method::named(word).ok_or_else(|| {
            Failure(format!(
                "nothing ends by {word}: there are all, none, Kill, and those in interfaces/src/fault.rs"
            ))
        })?;
        if scratch_from < image_bytes || scratch_from >= disk.capacity_bytes() {
            return Err(Failure(format!(
                "a disk of {} bytes has no room for an image of {image_bytes} and a scratch area from {scratch_from} on",
                disk.capacity_bytes()
            )));
        }
        let us = Duration::from_micros;
        Ok(Self {
            methods,
            every: us(every_us),
            duration: us(duration_us),
            turn: us(turn_us),
            image_bytes,
            scratch_from,
            seed,
        })
    }

    /// Whether anything is crashed at all.
    pub(crate) fn has_crashes(&self) -> bool {
        !self.methods.is_empty() && !self.every.is_zero()
    }

    /// Whether that long after the beginning nothing is to be crashed.
    pub(crate) fn is_calm(&self, elapsed: Duration) -> bool {
        !self.turn.is_zero() && (elapsed.as_micros() / self.turn.as_micros()).is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    fn plan(turn: Duration, methods: Vec<Method>) -> Plan {
        let zero = Duration::ZERO;
        let every = Duration::from_millis(1);
        Plan { methods, every, duration: zero, turn, image_bytes: 0, scratch_from: 0, seed: 0 }
    }

    #[test]
    fn words_are_all_kinds_of_faults_a_kill_and_all_of_them() {
        let methods =
            |word| Method::named(word).map(|all| all.iter().map(Method::to_string).collect::<Vec<_>>());
        assert_eq!(methods("all").map(|all| all.len()), Some(1 + Fault::ALL.len()));
        assert_eq!(methods("Kill"), Some(vec![String::from("Kill")]));
        assert_eq!(methods("Abort"), Some(vec![String::from("Abort")]));
        assert_eq!(methods("none"), Some(vec![]));
        assert_eq!(methods("kill"), None);
        assert!(!plan(Duration::ZERO, Vec::new()).has_crashes());
    }

    #[test]
    fn turns_begin_with_a_calm_one() {
        let turns = plan(Duration::from_secs(2), Vec::new());
        assert!([0, 1999, 4000].iter().all(|&ms| turns.is_calm(Duration::from_millis(ms))));
        assert!(!turns.is_calm(Duration::from_millis(2000)));
        assert!(!plan(Duration::ZERO, Vec::new()).is_calm(Duration::ZERO));
    }

    #[test]
    fn a_hang_is_always_in_a_call() {
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_a_hang()) {
            assert!((0..9).all(|turn| Method::Fault(fault).place(turn) != Place::Aside));
        }
        assert!((0..3).any(|turn| Method::Fault(Fault::Panic).place(turn) == Place::Aside));
    }
}
