//! DMA: memory for it, and the right to it.

use coppice_abi::{DeviceRefusal, DmaBlock, STOP_LIMIT, StopStep};

use super::of_caller;
use crate::cpu::current_domain;
use crate::domain;
use crate::machine::{PAGE_SIZE, machine};

/// Zeroed adjacent pages that the caller's device can reach: the caller's until its instance is over and the device has been
/// quiesced, and charged to its private heap.
pub(crate) fn take(device: u32, pages: usize) -> Result<DmaBlock, DeviceRefusal> {
    of_caller(device)?;
    let domain = domain::get(current_domain().slot());
    let memory = domain.and_then(|domain| domain.take_dma_memory(pages));
    let memory = memory.ok_or(DeviceRefusal::NoMemory { bytes: pages.saturating_mul(PAGE_SIZE) })?;
    let address = memory.addr().get() - machine().phys_offset();
    Ok(DmaBlock { memory: memory.as_ptr(), address: address as u64 })
}

/// Lets the caller's device reach memory, once it is known what makes it stop.
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
    let mut access = grant.access.lock();
    // No waiting: the caller's domain may be ended meanwhile, and what follows is for a instance that goes on.
    if !access.unrest.is_empty() && !grant.follow(&access.unrest, 0) {
        return Err(DeviceRefusal::NotQuiesced);
    }
    access.unrest.clear();
    access.stop.clear();
    access.stop.extend_from_slice(stop);
    access.enabled = true;
    grant.function.set_bus_master(true);
    Ok(())
}
