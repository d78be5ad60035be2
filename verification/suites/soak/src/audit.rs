//! Audits of the kernel during the run.

use alloc::format;

use coppice_control::Control;
use coppice_interfaces::Handle;

use crate::soak::Outcome;
use coppice_experiment::Failure;

/// Runs the kernel's audit during the load: every frame has an owner, and counters kept in two places agree.
pub(crate) fn audit(control: &Handle<dyn Control>) -> Outcome {
    let audit = control.audit()?;
    if audit.findings == 0 {
        return Ok(());
    }
    let first = control.audit_finding(0)?;
    let first = first.as_deref().unwrap_or("not kept");
    Err(Failure(format!("the kernel's audit has {} findings, the first: {first}", audit.findings)))
}
