//! [`run_scenarios`]: runs scenarios one after the other and reports the result of each.

use alloc::sync::Arc;

use coppice_control::Control;
use coppice_interfaces::{Handle, Text};
use coppice_run_protocol::scenario::Outcome;
use coppice_runtime::time;

use crate::Failure;

/// A scenario: its name and its function.
pub type Scenario<S> = (&'static str, fn(&Arc<S>) -> Result<(), Failure>);

/// The context of a set of scenarios.
pub trait ScenarioContext {
    /// Checks the system after a scenario.
    ///
    /// # Errors
    /// [`Failure`] when the scenario has left a leak or a broken domain.
    fn check_after(&self) -> Result<(), Failure>;
    /// Restores the system for the next scenario after a failed one.
    fn clean_up(&self);
}

/// Runs those of `scenarios` whose name contains the kernel's option `scenario`, and prints a line for each,
/// which kernel/tests parses. Returns true if all succeed.
pub fn run_scenarios<S: ScenarioContext>(
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
