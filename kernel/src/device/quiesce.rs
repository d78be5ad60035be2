//! The end of a instance, for its devices: none of them reaches memory or sends a message when this is over.
//!
//! The order counts. Vectors are closed first, so that nobody is interrupted by what follows. Then bus mastering ends, which is
//! the kernel's own word and needs nobody's cooperation: from here on a device begins nothing new. Then the driver's stop order,
//! for what it has begun already. If the order is missing or fails, a function level reset, which promises the same for all
//! devices that have it; a device that its driver has not got to work is reset so, too. At last what is still under way is waited
//! for. All waiting is bounded, and on this CPU: others go on, and may stop the world meanwhile.
//!
//! QEMU's NVMe controller needs both, and in this order (measured on 7.2). Without bus mastering it goes on with disk I/O that it
//! has begun, straight into guest memory, and waits for it only when it is disabled. But while it waits for that it fetches
//! further commands, if it is a bus master still, and those outlive the reset and their queues: they write to memory that we
//! think is at rest, and then QEMU dies of SIGSEGV.

use coppice_abi::{DomainId, StopStep};

use super::{Grant, of_slot};
use crate::platform::machine::machine;
use crate::sched::{trace, world};

/// Longest time for a stop order.
const STOP_NS: u64 = 10_000_000;

/// Longest time for a function level reset (PCI Express Base Specification 3.0, section 6.6.2: 100 ms).
const RESET_NS: u64 = 100_000_000;

/// Longest time for transactions that are under way when bus mastering ends; a completion times out in 50 ms at most unless
/// told otherwise (PCI Express Base Specification 3.0, section 2.8).
const DRAIN_NS: u64 = 50_000_000;

/// How a device was brought to rest, for the trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum QuiesceOutcome {
    /// By the driver's stop order.
    Stopped,
    /// By a function level reset.
    Reset,
    /// By taking away bus mastering only.
    CutOff,
    /// Bus mastering is off, and the device says that it has something under way still.
    StillBusy,
}

impl QuiesceOutcome {
    const ALL: [Self; 4] = [Self::Stopped, Self::Reset, Self::CutOff, Self::StillBusy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Reset => "reset",
            Self::CutOff => "cut off",
            Self::StillBusy => "cut off, with something under way",
        }
    }

    pub(crate) fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|&known| known as u64 == number)
    }
}

/// Brings the devices of the domain in `slot` to rest, whose instance is over and has no thread inside. In the outermost
/// section, holding no lock.
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
            // It reaches no memory. But a driver that got no further may have met a device that answers to nothing of its own any
            // more, and each later instance would meet the same one: for that there is this reset, which is no driver's to ask for.
            self.reset();
            return;
        }
        let began = machine().now_ns();
        // Nobody else speaks to the function until its domain may begin a new instance, so no lock is held.
        self.function.set_bus_master(false);
        let mut outcome = if !stop.is_empty() && self.follow(&stop, STOP_NS) {
            QuiesceOutcome::Stopped
        } else if self.reset() {
            QuiesceOutcome::Reset
        } else {
            QuiesceOutcome::CutOff
        };
        // A reset leaves it off as well (PCI Express Base Specification 3.0, section 6.6.2), but that would be the device's word.
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
            log::warn!("{name}: its device did not stop as its driver had said, and was {}", outcome.name());
        }
    }

    /// Follows a stop order, for at most `timeout_ns`; answers whether the device did as it was told. Unless that is 0, in
    /// the outermost section and holding no lock.
    pub(super) fn follow(&self, stop: &[StopStep], timeout_ns: u64) -> bool {
        let deadline = machine().now_ns() + timeout_ns;
        let read = |bar, offset: u32| {
            let value = self.function.read(bar, offset as usize, 4) as u32;
            // What a device says that is gone.
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
                let mut is_there = true;
                let has_come = spin_until(timeout, || {
                    let now = read(bar, offset);
                    is_there = now.is_some();
                    now.is_none_or(|now| now & mask == value)
                });
                is_there && has_come
            }
        })
    }

    /// Resets the function, if it can be.
    fn reset(&self) -> bool {
        self.function.begin_reset() && spin_until(RESET_NS, || self.function.end_reset())
    }
}

/// Waits until `condition` holds, for at most `timeout_ns`; answers whether it does.
fn spin_until(timeout_ns: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = machine().now_ns().saturating_add(timeout_ns);
    loop {
        if condition() {
            return true;
        }
        if machine().now_ns() >= deadline {
            return false;
        }
        // Whoever wants to stop the world need not wait for a device.
        world::park();
        machine().relax();
    }
}
