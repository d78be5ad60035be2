//! The audit of devices: what is open or enabled belongs to a instance that goes on.

use core::fmt;

use super::{GRANTS, interrupts};
use crate::sched::liveness::FIRST_SLOT;
use crate::sched::world::Stopped;

/// The domain that devices are granted to, as far as the audit of devices has to know it.
pub(crate) struct Owner {
    pub(crate) name: &'static str,
    /// It has no instance, and its last one has been reclaimed.
    pub(crate) is_dead: bool,
}

/// Compares grants with the domains in their slots, and open vectors with the numbers that are in use.
pub(crate) fn audit(
    _: &Stopped,
    owner_of: impl Fn(usize) -> Owner,
    find: &mut dyn FnMut(fmt::Arguments<'_>),
) {
    let mut open = 0;
    for (index, grants) in GRANTS.get().into_iter().flatten().enumerate() {
        let Owner { name, is_dead } = owner_of(FIRST_SLOT + index);
        for (number, grant) in grants.iter().enumerate() {
            let Ok(grant) = grant else { continue };
            let Some(access) = grant.access.try_lock() else {
                find(format_args!(
                    "{name}: the lock of its device {number} is held while the world is stopped"
                ));
                continue;
            };
            let vectors = grant.open_vectors();
            open += vectors;
            // Between a domain's end and its death, quiescing closes vectors first.
            if is_dead && (access.enabled || vectors > 0) {
                let state = if access.enabled { "may reach memory" } else { "has vectors open" };
                find(format_args!("{name} is dead, and its device {number} {state}"));
            }
        }
    }
    let lines = interrupts::open_lines();
    if lines != open {
        find(format_args!("{lines} interrupt messages are given out, and {open} vectors have one"));
    }
}
