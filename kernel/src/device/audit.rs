//! The audit of devices: what is open or enabled belongs to a instance that goes on.

use core::fmt;

use super::interrupts;
use crate::domain;
use crate::world::Stopped;

/// Compares grants with domains, and open vectors with the numbers that are in use.
pub(crate) fn audit(_: &Stopped, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let mut open = 0;
    for domain in domain::all() {
        for (number, grant) in domain.devices.iter().enumerate() {
            let Ok(grant) = grant else { continue };
            let name = &domain.manifest.name;
            let Some(access) = grant.access.try_lock() else {
                find(format_args!(
                    "{name}: the lock of its device {number} is held while the world is stopped"
                ));
                continue;
            };
            let vectors = grant.open_vectors();
            open += vectors;
            if domain.instance().is_none() && (access.enabled || vectors > 0) {
                let state = if access.enabled { "may reach memory" } else { "has vectors open" };
                // Between a domain's end and this, quiescing closes vectors first.
                if domain.state() == coppice_interfaces::DomainState::Dead {
                    find(format_args!("{name} is dead, and its device {number} {state}"));
                }
            }
        }
    }
    let lines = interrupts::open_lines();
    if lines != open {
        find(format_args!("{lines} interrupt messages are given out, and {open} vectors have one"));
    }
}
