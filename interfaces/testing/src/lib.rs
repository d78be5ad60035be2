//! Interfaces of test fixtures: domains that fail, hang, hold calls or use up quotas on request.
//!
//! Only kernels that are built for tests carry them (feature `testing` of `kernel/bare` and `kernel/hosted`).

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

mod fault;
mod fault_control;
mod fault_target;
mod holder;
mod quota_hog;
mod test_parent;

pub use fault::Fault;
pub use fault_control::{FaultControl, Injection, InjectionPoint, InjectionRecord, Poll};
pub use fault_target::FaultTarget;
pub use holder::Holder;
pub use quota_hog::QuotaHog;
pub use test_parent::{Behaviour, TestParent, Upcalls};

use coppice_interfaces::InterfaceEntry;

/// The interfaces of this family, for the list of a kernel image.
pub const ALL: &[InterfaceEntry] = &[
    InterfaceEntry::of::<dyn FaultControl>(),
    InterfaceEntry::of::<dyn FaultTarget>(),
    InterfaceEntry::of::<dyn Holder>(),
    InterfaceEntry::of::<dyn QuotaHog>(),
    InterfaceEntry::of::<dyn TestParent>(),
];
