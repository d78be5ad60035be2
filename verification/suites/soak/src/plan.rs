//! [`Plan`]: how many cycles, by which chance, and how lives end.

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

use crate::victims::Role;

/// How a instance ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    /// By its own fault.
    Fault(Fault),
    /// Killed by a thread that is on any CPU, at any instant of its clients' calls.
    Kill,
    /// As [`Self::Kill`], while threads of its own are busy in the kernel.
    Labour,
    /// Ended by the restart.
    Restart,
}

impl Method {
    /// What callers are told then.
    pub(crate) fn kinds(self) -> &'static [CrashKind] {
        match self {
            Self::Fault(fault) => fault.kinds(),
            Self::Kill | Self::Labour | Self::Restart => &[CrashKind::Killed],
        }
    }

    /// Whether a domain of that role can end like that.
    fn suits(self, role: Role) -> bool {
        match self {
            Self::Kill | Self::Restart => true,
            Self::Fault(fault) if fault.is_hang() => matches!(role, Role::Brief(_)),
            // It may be found by a deadline first.
            Self::Fault(Fault::SpinAtTheEndOfTheStack) => matches!(role, Role::Brief(_)),
            // A thread of the victim's is no more urgent than clients that compute, and may wait for longer than a deadline.
            Self::Fault(Fault::PanicInThread) => matches!(role, Role::Subject(_)),
            Self::Fault(Fault::Panic) => !matches!(role, Role::Relay | Role::Keeper | Role::Factory),
            Self::Fault(_) => matches!(role, Role::Subject(_) | Role::Brief(_)),
            Self::Labour => matches!(role, Role::Subject(_)),
        }
    }
}

impl fmt::Display for Method {
    /// As the manifest spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{fault:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// One way to end, and what came of it.
pub(crate) struct Choice {
    pub(crate) method: Method,
    weight: u64,
    /// How many lives ended so.
    pub(crate) ended: AtomicU64,
    /// How often it was drawn for a instance that its deadline had ended first, or that had to be restarted instead since the
    /// fault is absent.
    pub(crate) missed: AtomicU64,
    /// The fault cannot be raised on this machine: it was tried, and the call came back.
    pub(crate) absent: AtomicBool,
}

/// What to do.
pub(crate) struct Plan {
    pub(crate) cycles: u64,
    pub(crate) seed: u64,
    /// The longest pause between a killer's cycles, in microseconds: it leaves the CPU to clients, and has the next end
    /// come at an instant that nobody chose.
    pub(crate) rest_us: u64,
    pub(crate) choices: Vec<Choice>,
}

/// Why there is no plan.
pub(crate) struct Senseless(pub(crate) String);

impl Plan {
    /// From the options `cycles` and `seed`, and from the manifest's `args`: `rest_us=N`, and a weight for each way to end.
    pub(crate) fn read(
        environment: &Environment<'_>,
        control: &Handle<dyn Control>,
    ) -> RpcResult<Result<Self, Senseless>> {
        let number = |name: &str, text: &str| {
            text.parse().map_err(|_| Senseless(format!("{name}={text}: a number is wanted")))
        };
        let mut options = [("cycles", 1000), ("seed", 0)];
        for (name, value) in &mut options {
            if let Some(text) = control.option(Text::new(name))? {
                match number(name, &text) {
                    Ok(given) => *value = given,
                    Err(senseless) => return Ok(Err(senseless)),
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
                (Ok(_), None) => return Ok(Err(Senseless(format!("nothing ends by \"{name}\"")))),
                (Err(senseless), _) => return Ok(Err(senseless)),
            }
        }
        // What suits every domain has to be there, or there is nothing to draw for some.
        let fallback = |choice: &Choice| choice.method == Method::Restart && choice.weight > 0;
        if !plan.choices.iter().any(fallback) {
            return Ok(Err(Senseless("Restart needs a weight".into())));
        }
        Ok(Ok(plan))
    }

    /// A way to end for a domain of that role, and its number; the weights decide how often each comes up.
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
        // In place of what is not there, so that the draws of a seed do not depend on when that was found out.
        drawn
            .filter(|(_, choice)| {
                let is_absent = choice.absent.load(Ordering::Relaxed);
                choice.missed.fetch_add(u64::from(is_absent), Ordering::Relaxed);
                !is_absent
            })
            .or_else(restart)
            .expect("`read` saw to it that there is one")
    }
}

fn method(name: &str) -> Option<Method> {
    let faults = Fault::ALL.into_iter().map(Method::Fault);
    [Method::Kill, Method::Labour, Method::Restart]
        .into_iter()
        .chain(faults)
        .find(|method| format!("{method}") == name)
}
