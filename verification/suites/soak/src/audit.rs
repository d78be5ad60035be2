//! What the kernel says of itself in the middle of it all.

use alloc::format;

use coppice_control::Control;
use coppice_interfaces::Handle;

use crate::soak::Outcome;
use coppice_experiment::Failure;

/// Has the kernel hold its books against each other, while everything goes on: every frame is somebody's, and what is
/// counted twice is counted alike.
pub(crate) fn audit(control: &Handle<dyn Control>) -> Outcome {
    let audit = control.audit()?;
    if audit.findings == 0 {
        return Ok(());
    }
    let first = control.audit_finding(0)?;
    let first = first.as_deref().unwrap_or("not kept");
    Err(Failure(format!("the kernel's audit has {} findings, the first: {first}", audit.findings)))
}
