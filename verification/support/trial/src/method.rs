//! [`Method`]: a way to crash a driver.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use coppice_run_protocol::faults;
use coppice_test_interfaces::{Fault, InjectionPoint};

/// A way to crash a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// A kill by the kernel at an arbitrary instant.
    Kill,
    /// A fault in the driver.
    Fault(Fault),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str(faults::KILL),
            Self::Fault(fault) => write!(f, "{fault:?}"),
        }
    }
}

impl Method {
    /// Returns the methods that an option's word selects.
    pub(crate) fn named(word: &str) -> Option<Vec<Self>> {
        match word {
            faults::ALL => {
                Some([Self::Kill].into_iter().chain(Fault::ALL.into_iter().map(Self::Fault)).collect())
            }
            faults::NONE => Some(Vec::new()),
            faults::KILL => Some(vec![Self::Kill]),
            name => Fault::named(name).map(|fault| vec![Self::Fault(fault)]),
        }
    }

    /// Returns true if an instance with this fault occupies CPUs until its deadline.
    pub(crate) fn is_hang(self) -> bool {
        matches!(self, Self::Fault(fault) if fault.is_hang() || fault == Fault::SpinAtTheEndOfTheStack)
    }

    /// Returns the injection point of the `turn`th time. The deadline for calls detects a hang, so a hang
    /// must be inside a call.
    pub(crate) fn injection_point(self, turn: u64) -> InjectionPoint {
        match self {
            Self::Fault(_) if self.is_hang() => {
                [InjectionPoint::BeforeSubmit, InjectionPoint::AfterSubmit][(turn % 2) as usize]
            }
            _ => [InjectionPoint::AfterSubmit, InjectionPoint::BeforeSubmit, InjectionPoint::OwnThread]
                [(turn % 3) as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    #[test]
    fn each_word_selects_its_methods() {
        let methods =
            |word| Method::named(word).map(|all| all.iter().map(Method::to_string).collect::<Vec<_>>());
        assert_eq!(methods("all").map(|all| all.len()), Some(1 + Fault::ALL.len()));
        assert_eq!(methods("Kill"), Some(vec![String::from("Kill")]));
        assert_eq!(methods("Abort"), Some(vec![String::from("Abort")]));
        assert_eq!(methods("none"), Some(vec![]));
        assert_eq!(methods("kill"), None);
    }

    #[test]
    fn the_host_knows_the_names_of_all_faults() {
        assert_eq!(Fault::ALL.map(|fault| Method::Fault(fault).to_string()), faults::NAMES);
        let names = faults::NAMES.into_iter().chain([faults::ALL, faults::NONE, faults::KILL]);
        for name in names {
            assert!(Method::named(name).is_some(), "{name}");
            assert_eq!(faults::named(&name.to_uppercase()), Some(name));
        }
        assert_eq!(faults::named("Panik"), None);
    }

    #[test]
    fn a_hang_is_always_injected_in_a_call() {
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_hang()) {
            assert!(
                (0..9).all(|turn| Method::Fault(fault).injection_point(turn) != InjectionPoint::OwnThread)
            );
        }
        assert!(
            (0..3).any(|turn| Method::Fault(Fault::Panic).injection_point(turn) == InjectionPoint::OwnThread)
        );
    }
}
