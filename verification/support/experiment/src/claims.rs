//! [`try_claims`]: runs claims one after the other, and says which of them hold.

use alloc::format;
use alloc::sync::Arc;

use coppice_control::Control;
use coppice_interfaces::{Handle, Text};
use coppice_runtime::time;

use crate::Failure;

/// A claim: its name and what tries it on a stage.
pub type Claim<S> = (&'static str, fn(&Arc<S>) -> Result<(), Failure>);

/// What claims are tried on.
pub trait Scene {
    /// Looks whether a claim has left everything in order.
    ///
    /// # Errors
    /// What is not.
    fn is_in_order(&self) -> Result<(), Failure>;
    /// Gives the next claim what a failed one has left behind.
    fn tidy(&self);
}

/// Tries those of `claims` whose name contains the kernel's option `scenario`, and prints a line for each, which
/// kernel/tests reads. Answers whether all hold.
pub fn try_claims<S: Scene>(control: &Handle<dyn Control>, claims: &[Claim<S>], stage: &Arc<S>) -> bool {
    let wanted = control.option(Text::new("scenario")).ok().flatten();
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(&*wanted));
    let mut failures = 0;
    for &(name, claim) in claims.iter().filter(|(name, _)| is_wanted(name)) {
        let began = time::now();
        let outcome = claim(stage).and_then(|()| stage.is_in_order());
        let took = (time::now() - began).as_millis();
        match outcome {
            Ok(()) => say(control, format_args!("scenario {name} ... ok ({took} ms)")),
            Err(failure) => {
                failures += 1;
                // A line of the console is not long.
                let failure = format!("{failure}");
                let mut lines = failure.lines();
                let first = lines.next().unwrap_or_default();
                say(control, format_args!("scenario {name} ... FAILED: {first}"));
                lines.for_each(|line| say(control, format_args!("    {line}")));
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
