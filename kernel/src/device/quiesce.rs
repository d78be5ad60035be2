//! Quiescing: ends the access of a dead instance's devices to memory, and their messages.
//!
//! The order matters. Vectors are closed first, so no later step causes an interrupt. Then bus mastering
//! ends, which the kernel controls alone: from here on the device begins no new access. Then the driver's
//! stop order is executed, for accesses that have begun already. If the order is missing or fails, a function
//! level reset follows, which ensures the same for all devices that support it; a device that its driver has
//! not enabled is reset too. Last, the kernel waits for transactions that are still under way. All waits are
//! bounded, and spin on this CPU: other CPUs continue, and may stop the world during a wait.
//!
//! QEMU's NVMe controller needs both steps, in this order (measured on 7.2). Without bus mastering it
//! continues disk I/O that it has begun, directly into guest memory, and waits for that I/O only when it is
//! disabled. But during that wait it fetches further commands if it is still a bus master. Those survive the
//! reset and their queues: they write to memory that the kernel considers quiescent, and then QEMU dies of
//! SIGSEGV.

use coppice_abi::{DomainId, StopStep};

use super::{Grant, of_slot};
use crate::platform::machine::machine;
use crate::sched::{trace, world};

/// The timeout of a stop order.
const STOP_NS: u64 = 10_000_000;

/// The timeout of a function level reset (PCI Express Base Specification 3.0, section 6.6.2: 100 ms).
const RESET_NS: u64 = 100_000_000;

/// The timeout of transactions that are under way when bus mastering ends; by default a completion times out
/// in at most 50 ms (PCI Express Base Specification 3.0, section 2.8).
const DRAIN_NS: u64 = 50_000_000;

/// The outcome of quiescing a device, for the trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum QuiesceOutcome {
    /// The driver's stop order succeeded.
    Stopped,
    /// A function level reset succeeded.
    Reset,
    /// Only bus mastering was disabled.
    CutOff,
    /// Bus mastering is disabled, but the device reports pending transactions.
    StillBusy,
}

impl QuiesceOutcome {
    const ALL: [Self; 4] = [Self::Stopped, Self::Reset, Self::CutOff, Self::StillBusy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Reset => "reset",
            Self::CutOff => "cut off",
            Self::StillBusy => "cut off, with transactions pending",
        }
    }

    pub(crate) fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|&known| known as u64 == number)
    }
}

/// Quiesces the devices of the domain in `slot`, whose instance has ended and has no thread inside. In the
/// outermost section, holding no lock.
pub(crate) fn quiesce(slot: usize, name: &str, instance: DomainId) {
    for grant in of_slot(slot).into_iter().flatten().flatten() {
        grant.quiesce(name, instance);
    }
}

impl Grant {
    fn quiesce(&self, name: &str, instance: DomainId) {
        self.close_vectors();
        let (enabled, stop) = {
            let mut access = self.access.lock();
            (core::mem::take(&mut access.enabled), core::mem::take(&mut access.stop))
        };
        if !enabled {
            // The device has no access to memory. But a driver that did not enable it may have met a device
            // that no longer responds, and each later instance would meet the same. Only this reset helps
            // then, and no driver can request it.
            self.reset();
            return;
        }
        let began = machine().now_ns();
        // The function has no other user until its domain begins a new instance, so no lock is held.
        self.function.set_bus_master(false);
        let mut outcome = if !stop.is_empty() && self.follow(&stop, STOP_NS) {
            QuiesceOutcome::Stopped
        } else if self.reset() {
            QuiesceOutcome::Reset
        } else {
            QuiesceOutcome::CutOff
        };
        // A reset disables bus mastering as well (PCI Express Base Specification 3.0, section 6.6.2), but
        // that depends on the device.
        self.function.set_bus_master(false);
        if !spin_until(DRAIN_NS, || !self.function.has_transactions_pending()) {
            outcome = QuiesceOutcome::StillBusy;
        }
        let took = machine().now_ns() - began;
        if matches!(outcome, QuiesceOutcome::CutOff | QuiesceOutcome::StillBusy) {
            self.access.lock().unfinished_stop = stop;
        }
        trace::record(trace::Kind::Quiesce, instance, (took / 1000) << 8 | outcome as u64);
        if outcome != QuiesceOutcome::Stopped {
            log::warn!("{name}: its device did not complete its stop order, and was {}", outcome.name());
        }
    }

    /// Executes a stop order, for at most `timeout_ns`; returns true if the device completed it. Unless the
    /// timeout is 0, in the outermost section and holding no lock.
    pub(super) fn follow(&self, stop: &[StopStep], timeout_ns: u64) -> bool {
        let deadline = machine().now_ns() + timeout_ns;
        let read = |bar, offset: u32| {
            let value = self.function.read(bar, offset as usize, 4) as u32;
            // A device that is gone reads as all ones.
            (value != u32::MAX).then_some(value)
        };
        stop.iter().all(|step| match *step {
            StopStep::Update { bar, offset, clear, set } => match read(bar, offset) {
                Some(value) => {
                    self.function.write(bar, offset as usize, 4, (value & !clear | set).into());
                    true
                }
                None => false,
            },
            StopStep::Await { bar, offset, mask, value, timeout_ns } => {
                let timeout = timeout_ns.min(deadline.saturating_sub(machine().now_ns()));
                let mut is_present = true;
                let is_reached = spin_until(timeout, || {
                    let register = read(bar, offset);
                    is_present = register.is_some();
                    register.is_none_or(|register| register & mask == value)
                });
                is_present && is_reached
            }
        })
    }

    /// Resets the function, if it supports that.
    fn reset(&self) -> bool {
        self.function.begin_reset() && spin_until(RESET_NS, || self.function.end_reset())
    }
}

/// Waits until `condition` holds, for at most `timeout_ns`; returns true if it does.
fn spin_until(timeout_ns: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = machine().now_ns().saturating_add(timeout_ns);
    loop {
        if condition() {
            return true;
        }
        if machine().now_ns() >= deadline {
            return false;
        }
        // A CPU that stops the world need not wait for a device.
        world::park();
        machine().relax();
    }
}
