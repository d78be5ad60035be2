//! [`SuiteDomain`]: a domain that runs scenarios one after the other and reports the outcome of each.

use alloc::sync::Arc;
use core::marker::PhantomData;

use coppice_control::Control;
use coppice_interfaces::{Handle, Imports, Text};
use coppice_run_protocol::scenario::Outcome;
use coppice_runtime::thread::Builder;
use coppice_runtime::{Domain, Environment, StartError, time};

use crate::Failure;

/// A scenario: its name and its function.
pub type Scenario<S> = (&'static str, fn(&Arc<S>) -> Result<(), Failure>);

/// The context of a suite of scenarios.
pub trait ScenarioContext: Send + Sync + Sized + 'static {
    /// The imports of the suite's domain, among them the kernel's control interface.
    type Wires: Imports + AsRef<Handle<dyn Control>> + Send + 'static;
    /// The scenarios, in order.
    const SCENARIOS: &'static [Scenario<Self>];

    /// Sets up the context. `has_device` is true if the suite's domain itself was granted a device.
    ///
    /// # Errors
    /// [`Failure`] when the system does not support the scenarios.
    fn new(wires: Self::Wires, has_device: bool) -> Result<Self, Failure>;
    /// Checks the system after a scenario.
    ///
    /// # Errors
    /// [`Failure`] when the scenario has left a leak or a broken domain.
    fn check_after(&self) -> Result<(), Failure>;
    /// Restores the system for the next scenario after a failed one.
    fn clean_up(&self);
}

/// The domain of a suite: runs its scenarios on a thread, and then ends the system.
pub struct SuiteDomain<S>(PhantomData<S>);

impl<S: ScenarioContext> Domain for SuiteDomain<S> {
    type Imports = S::Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: S::Wires) -> Result<(), StartError> {
        let has_device = environment.device(0).is_some();
        let control = wires.as_ref().clone();
        let run = move || {
            let success = match S::new(wires, has_device) {
                Ok(context) => run_scenarios(&control, S::SCENARIOS, &Arc::new(context)),
                Err(failure) => {
                    log::error!("the scenarios cannot start: {failure}");
                    false
                }
            };
            let _ = control.shut_down(success);
        };
        // Runs at a higher priority than the threads that the scenarios start, so that they do not delay it.
        Builder::new().priority(1).spawn(run)?;
        Ok(())
    }
}

/// Runs those of `scenarios` whose name contains the kernel's option `scenario`, and prints a line for each,
/// which kernel/tests parses. Returns true if all succeed.
fn run_scenarios<S: ScenarioContext>(
    control: &Handle<dyn Control>,
    scenarios: &[Scenario<S>],
    context: &Arc<S>,
) -> bool {
    let wanted = control.option(Text::new("scenario")).ok().flatten();
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(&*wanted));
    let mut failures = 0;
    for &(name, scenario) in scenarios.iter().filter(|(name, _)| is_wanted(name)) {
        let began = time::now();
        let outcome = scenario(context).and_then(|()| context.check_after());
        let took = (time::now() - began).as_millis() as u64;
        let report = |result| say(control, format_args!("{}", Outcome { name: name.into(), result }));
        match outcome {
            Ok(()) => report(Ok(took)),
            Err(Failure(failure)) => {
                failures += 1;
                // A console line is short.
                let mut lines = failure.lines();
                report(Err(lines.next().unwrap_or_default().into()));
                lines.for_each(|line| say(control, format_args!("    {line}")));
                context.clean_up();
            }
        }
    }
    failures == 0
}

fn say(control: &Handle<dyn Control>, line: core::fmt::Arguments<'_>) {
    // Without the kernel there is no channel to report the failure.
    let _ = control.print(Text::format(line));
}
