//! The right to DMA. DMA memory comes from the private heap of the device's domain.

use alloc::vec::Vec;

use coppice_abi::{DeviceRefusal, STOP_LIMIT, StopStep};

use super::of_caller;
use crate::memory::heap::{self, Charge, Purpose};
use crate::sched::cpu::current_domain;

/// Allows the caller's device to access memory, and stores its stop order.
pub(crate) fn enable(device: u32, stop: &[StopStep]) -> Result<(), DeviceRefusal> {
    let grant = of_caller(device)?;
    let is_register = |step: &StopStep| match *step {
        StopStep::Update { bar, offset, .. } | StopStep::Await { bar, offset, .. } => {
            grant.has_register(bar, offset as usize, 4)
        }
    };
    let bad = stop.iter().position(|step| !is_register(step));
    if let Some(step) = bad.or((stop.len() > STOP_LIMIT).then_some(STOP_LIMIT)) {
        return Err(DeviceRefusal::BadStep { step });
    }
    let charge = Charge::to(current_domain(), Purpose::StopOrder);
    let order = heap::try_copy(charge, stop);
    let order = order.ok_or(DeviceRefusal::NoMemory { bytes: size_of_val(stop) })?;
    let mut access = grant.access.lock();
    // No waiting: the caller's domain may end during a wait, and the device must be enabled for a live
    // instance only.
    if !access.unfinished_stop.is_empty() && !grant.follow(&access.unfinished_stop, 0) {
        return Err(DeviceRefusal::NotQuiesced);
    }
    access.unfinished_stop = Vec::new();
    access.stop = order;
    access.enabled = true;
    grant.function.set_bus_master(true);
    Ok(())
}
