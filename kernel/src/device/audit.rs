//! The audit of devices: every open vector and every right to DMA belongs to a live instance.

use core::fmt;

use super::{GRANTS, interrupts};
use crate::sched::liveness::FIRST_SLOT;
use crate::sched::world::Stopped;

/// The domain that a device is granted to.
pub(crate) struct Owner {
    pub(crate) name: &'static str,
    /// The domain has no instance, and the last one has been reclaimed.
    pub(crate) is_dead: bool,
}

/// Checks that no dead domain has a vector or a right to DMA, and that each line in use has a vector.
pub(crate) fn audit(
    _: &Stopped,
    owner_of: impl Fn(usize) -> Owner,
    report: &mut dyn FnMut(fmt::Arguments<'_>),
) {
    let mut open = 0;
    for (index, grants) in GRANTS.get().into_iter().flatten().enumerate() {
        let Owner { name, is_dead } = owner_of(FIRST_SLOT + index);
        for (number, grant) in grants.iter().enumerate() {
            let Ok(grant) = grant else { continue };
            let Some(access) = grant.access.try_lock() else {
                report(format_args!(
                    "{name}: the lock of its device {number} is held while the world is stopped"
                ));
                continue;
            };
            let vectors = grant.open_vectors();
            open += vectors;
            // While a domain ends, before it is dead, quiescing closes its vectors first.
            if is_dead && (access.enabled || vectors > 0) {
                let state = if access.enabled { "may access memory" } else { "has vectors open" };
                report(format_args!("{name} is dead, and its device {number} {state}"));
            }
        }
    }
    let lines = interrupts::open_lines();
    if lines != open {
        report(format_args!("{lines} interrupt lines are in use, and {open} vectors are open"));
    }
}
