//! What the kernel says of itself in the middle of it all.

use alloc::format;

use coppice_interfaces::{Control, Handle};

use crate::soak::{Broken, Outcome};

/// Holds the kernel's accounting against itself, while everything goes on.
pub(crate) fn audit(control: &Handle<dyn Control>) -> Outcome {
    let memory = control.memory()?;
    let used = memory.free_bytes + memory.shared_bytes + memory.stack_bytes;
    if used > memory.total_bytes {
        return Err(Broken(format!("more memory than there is: {memory:?}")));
    }
    for number in 0..control.domain_count()? {
        let Some(info) = control.domain(number)? else {
            return Err(Broken(format!("domain {number} of the manifest is gone")));
        };
        if info.heap_bytes > info.heap_quota || info.shared_bytes > memory.total_bytes {
            return Err(Broken(format!("a domain over its quota: {info:?}")));
        }
    }
    Ok(())
}
