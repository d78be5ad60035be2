//! [`Plan`]: the number of cycles, the seed, and the ways to end instances.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coppice_control::Control;
use coppice_experiment::Random;
use coppice_interfaces::{CrashKind, Handle, RpcResult, Text};
use coppice_runtime::Environment;
use coppice_test_interfaces::Fault;

use crate::kill_targets::Role;

/// A way to end an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    /// Its own fault.
    Fault(Fault),
    /// A kill by a thread on any CPU, at any instant of its clients' calls.
    Kill,
    /// Like [`Self::Kill`], while its own threads are busy in the kernel.
    Stress,
    /// The restart, which ends it first.
    Restart,
}

impl Method {
    /// Returns the error kinds that callers may get.
    pub(crate) fn kinds(self) -> &'static [CrashKind] {
        match self {
            Self::Fault(fault) => fault.kinds(),
            Self::Kill | Self::Stress | Self::Restart => &[CrashKind::Killed],
        }
    }

    /// Returns true if a domain of that role can end this way.
    fn suits(self, role: Role) -> bool {
        match self {
            Self::Kill | Self::Restart => true,
            Self::Fault(fault) if fault.is_hang() => matches!(role, Role::FaultTargetWithDeadline(_)),
            // A deadline may find the fault first.
            Self::Fault(Fault::SpinAtTheEndOfTheStack) => matches!(role, Role::FaultTargetWithDeadline(_)),
            // A thread of the victim has no higher priority than computing clients, and may wait longer than
            // a deadline.
            Self::Fault(Fault::PanicInThread) => matches!(role, Role::FaultTarget(_)),
            Self::Fault(Fault::Panic) => !matches!(role, Role::Relay | Role::Holder | Role::Factory),
            Self::Fault(_) => matches!(role, Role::FaultTarget(_) | Role::FaultTargetWithDeadline(_)),
            Self::Stress => matches!(role, Role::FaultTarget(_)),
        }
    }
}

impl fmt::Display for Method {
    /// Writes the manifest's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{fault:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// One way to end, and its counters.
pub(crate) struct Choice {
    pub(crate) method: Method,
    weight: u64,
    /// The number of instances that ended this way.
    pub(crate) ended: AtomicU64,
    /// The number of draws without effect: the deadline had ended the instance first, or the fault is absent
    /// and a restart took its place.
    pub(crate) missed: AtomicU64,
    /// Set when this machine cannot raise the fault: it was tried, and the call came back.
    pub(crate) absent: AtomicBool,
}

/// The parameters of a run.
pub(crate) struct Plan {
    pub(crate) cycles: u64,
    pub(crate) seed: u64,
    /// The longest pause between a killer's cycles, in microseconds. It leaves CPU time to clients and makes
    /// the instant of the next end random.
    pub(crate) rest_us: u64,
    pub(crate) choices: Vec<Choice>,
}

/// A description of the invalid option or argument.
pub(crate) struct BadPlan(pub(crate) String);

impl Plan {
    /// Reads the options `cycles` and `seed`, and the manifest's `args`: `rest_us=N`, and a weight for each
    /// way to end.
    pub(crate) fn read(
        environment: &Environment<'_>,
        control: &Handle<dyn Control>,
    ) -> RpcResult<Result<Self, BadPlan>> {
        let number = |name: &str, text: &str| {
            text.parse().map_err(|_| BadPlan(format!("{name}={text}: not a number")))
        };
        let mut options = [("cycles", 1000), ("seed", 0)];
        for (name, value) in &mut options {
            if let Some(text) = control.option(Text::new(name))? {
                match number(name, &text) {
                    Ok(given) => *value = given,
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        let [(_, cycles), (_, seed)] = options;
        let mut plan = Self { cycles, seed, rest_us: 0, choices: Vec::new() };
        for (name, text) in environment.args().iter().filter_map(|word| word.split_once('=')) {
            match (number(name, text), method(name)) {
                (Ok(value), _) if name == "rest_us" => plan.rest_us = value,
                (Ok(weight), Some(method)) => plan.choices.push(Choice {
                    method,
                    weight,
                    ended: AtomicU64::new(0),
                    missed: AtomicU64::new(0),
                    absent: AtomicBool::new(false),
                }),
                (Ok(_), None) => return Ok(Err(BadPlan(format!("\"{name}\" is no way to end a domain")))),
                (Err(error), _) => return Ok(Err(error)),
            }
        }
        // A restart suits every role. Without it, nothing could be drawn for some roles.
        let fallback = |choice: &Choice| choice.method == Method::Restart && choice.weight > 0;
        if !plan.choices.iter().any(fallback) {
            return Ok(Err(BadPlan("Restart needs a weight".into())));
        }
        Ok(Ok(plan))
    }

    /// Draws a way to end for a domain of that role, by the weights, and returns it with its number.
    pub(crate) fn draw(&self, random: &mut Random, role: Role) -> (usize, &Choice) {
        let suiting = || self.choices.iter().enumerate().filter(|(_, choice)| choice.method.suits(role));
        let mut place = random.below(suiting().map(|(_, choice)| choice.weight).sum());
        let drawn = suiting().find(|(_, choice)| match place.checked_sub(choice.weight) {
            Some(rest) => {
                place = rest;
                false
            }
            None => true,
        });
        let restart = || suiting().find(|(_, choice)| choice.method == Method::Restart);
        // A restart takes the place of an absent fault, so that the draws of a seed do not depend on when the
        // absence was found.
        drawn
            .filter(|(_, choice)| {
                let is_absent = choice.absent.load(Ordering::Relaxed);
                choice.missed.fetch_add(u64::from(is_absent), Ordering::Relaxed);
                !is_absent
            })
            .or_else(restart)
            .expect("`read` requires a weight for Restart")
    }
}

fn method(name: &str) -> Option<Method> {
    let faults = Fault::ALL.into_iter().map(Method::Fault);
    [Method::Kill, Method::Stress, Method::Restart]
        .into_iter()
        .chain(faults)
        .find(|method| format!("{method}") == name)
}
