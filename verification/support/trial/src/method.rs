//! [`Method`]: a way for a instance of a driver to end.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use coppice_test_interfaces::{Fault, InjectionPoint};

/// A way for a instance of the driver to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
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
    pub(crate) fn named(word: &str) -> Option<Vec<Self>> {
        match word {
            "all" => Some([Self::Kill].into_iter().chain(Fault::ALL.into_iter().map(Self::Fault)).collect()),
            "none" => Some(Vec::new()),
            "Kill" => Some(vec![Self::Kill]),
            name => Fault::named(name).map(|fault| vec![Self::Fault(fault)]),
        }
    }

    /// Where it is done the `turn`th time. A hang is found by the deadline for calls, so it has to be in one.
    pub(crate) fn place(self, turn: u64) -> InjectionPoint {
        match self {
            Self::Fault(fault) if fault.is_hang() || fault == Fault::SpinAtTheEndOfTheStack => {
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
    fn words_are_all_kinds_of_faults_a_kill_and_all_of_them() {
        let methods =
            |word| Method::named(word).map(|all| all.iter().map(Method::to_string).collect::<Vec<_>>());
        assert_eq!(methods("all").map(|all| all.len()), Some(1 + Fault::ALL.len()));
        assert_eq!(methods("Kill"), Some(vec![String::from("Kill")]));
        assert_eq!(methods("Abort"), Some(vec![String::from("Abort")]));
        assert_eq!(methods("none"), Some(vec![]));
        assert_eq!(methods("kill"), None);
    }

    #[test]
    fn a_hang_is_always_in_a_call() {
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_hang()) {
            assert!((0..9).all(|turn| Method::Fault(fault).place(turn) != InjectionPoint::OwnThread));
        }
        assert!((0..3).any(|turn| Method::Fault(Fault::Panic).place(turn) == InjectionPoint::OwnThread));
    }
}
