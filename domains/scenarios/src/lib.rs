//! Runs scenarios inside a system: what the kernel promises, tried from where it matters.
//!
//! kernel/tests/scenarios.rs boots this on both machines and reads the lines that it prints, one for each scenario of
//! `list.rs`. The option `scenario=NAME` runs only those whose name contains NAME; `soak=N` makes them go on N times as
//! long, and `seed=N` gives those that leave something to chance another course.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod accounting;
mod blocks;
mod calls;
mod crashes;
mod desk;
mod devices;
mod faults;
mod hangs;
mod leaks;
mod lending;
mod locks;
mod memory;
mod nets;
mod objects;
mod quotas;
mod revocation;
mod shadows;
mod stage;
mod storm;
mod supervision;
mod threads;

use alloc::sync::Arc;

use coppice_interfaces::{Control, Handle, Text};
use coppice_runtime::{Domain, Environment, thread, time};

use stage::{Outcome, Stage, Wires};

/// What a scenario is: a function whose name is the claim.
type Scenario = fn(&Arc<Stage>) -> Outcome;

macro_rules! scenarios {
    ($($module:ident: [$($name:ident,)*])*) => {
        /// Name and function of each.
        pub(crate) const SCENARIOS: &[(&str, crate::Scenario)] =
            &[$($((stringify!($name), crate::$module::$name),)*)*];
    };
}

// After the macro, which it uses.
mod list;

/// The domain.
pub struct ScenariosDomain;

impl Domain for ScenariosDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) {
        let has_device = environment.device(0).is_some();
        let run = move || {
            let control = wires.control.clone();
            let success = run(wires, has_device);
            let _ = control.shut_down(success);
        };
        // More urgent than the threads that it starts, so that these do not hold it up.
        thread::Builder::new().priority(1).spawn(run).expect("the manifest allows a thread");
    }
}

fn run(wires: Wires, has_device: bool) -> bool {
    let stage = match Stage::new(wires, has_device) {
        Ok(stage) => Arc::new(stage),
        Err(failure) => {
            log::error!("the scenarios cannot begin: {failure}");
            return false;
        }
    };
    let wanted = stage.control.option(Text::new("scenario")).ok().flatten();
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(&*wanted));
    let mut failures = 0;
    for &(name, scenario) in list::SCENARIOS.iter().filter(|(name, _)| is_wanted(name)) {
        let began = time::now();
        let outcome = scenario(&stage).and_then(|()| stage.is_in_order());
        let took = (time::now() - began).as_millis();
        match outcome {
            Ok(()) => say(&stage.control, format_args!("scenario {name} ... ok ({took} ms)")),
            Err(failure) => {
                failures += 1;
                // A line of the console is not long.
                let failure = alloc::format!("{failure}");
                let mut lines = failure.lines();
                let first = lines.next().unwrap_or_default();
                say(&stage.control, format_args!("scenario {name} ... FAILED: {first}"));
                lines.for_each(|line| say(&stage.control, format_args!("    {line}")));
                stage.tidy();
            }
        }
    }
    failures == 0
}

fn say(control: &Handle<dyn Control>, line: core::fmt::Arguments<'_>) {
    // Without the kernel there is nobody to tell that it failed.
    let _ = control.print(Text::format(line));
}
