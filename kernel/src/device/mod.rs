//! Devices: their grants to domains, the services on them, and the console.
//!
//! A [`Grant`] is one PCI function of one domain, for all instances of that domain. Services name it by its
//! number in the list of the calling domain, so a domain can only use its own devices. Services run in a
//! section, and a termination waits for sections, so only a live instance can use them. The resources that an
//! instance has of a device (DMA memory, open interrupt vectors, bus mastering) end with the instance, in an
//! order that keeps the device from writing to memory of another owner ([`quiesce`]).
//!
//! This is the one place where a device gains and loses access to memory. It knows domains by their slots
//! only.

mod audit;
pub(crate) mod console;
mod dma;
mod grants;
mod interrupts;
mod quiesce;
mod windows;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU8;

use coppice_abi::{DeviceInfo, DeviceRefusal, StopStep};
use coppice_manifest::{DeviceSelector, Manifest};
use spin::Once;

use crate::platform::pci::PciFunction;
use crate::platform::sync::Lock;
use crate::sched::cpu::current_domain;
use crate::sched::liveness::FIRST_SLOT;

pub(crate) use audit::{Owner, audit};
pub(crate) use dma::enable;
pub(crate) use interrupts::{await_message, deliver, message, message_here, open};
pub(crate) use quiesce::{QuiesceOutcome, quiesce};
pub(crate) use windows::{read, window, write};

/// A device of one domain.
pub(crate) struct Grant {
    function: &'static dyn PciFunction,
    info: DeviceInfo,
    /// For each vector of the device 1 + the number of the message that it is reported as; 0 while it is
    /// closed.
    messages: Box<[AtomicU8]>,
    /// Held during operations on the function, except for accesses to its registers.
    access: Lock<Access>,
}

/// The state of a device that its domain's instance has set.
#[derive(Default)]
struct Access {
    /// The device may access memory.
    enabled: bool,
    /// The stop order: the steps that make it leave memory alone.
    stop: Vec<StopStep>,
    /// The stop order of an earlier instance that the device was not seen to complete. The device may not
    /// access memory until it has completed it: it may still execute requests of that instance, into memory
    /// that has another owner now.
    unfinished_stop: Vec<StopStep>,
}

/// A domain's devices: for each entry of its manifest's `devices` the grant, or the entry itself if no
/// function is left for it.
type Grants = Box<[Result<Grant, DeviceSelector>]>;

/// The grants of all domains, in the manifest's order.
static GRANTS: Once<Vec<Grants>> = Once::new();

/// Grants the machine's functions to the domains of the manifest. Called once, before a domain starts.
pub(crate) fn init(manifest: &Manifest) {
    GRANTS.call_once(|| grants::assign(manifest));
}

fn of_slot(slot: usize) -> Option<&'static Grants> {
    GRANTS.get()?.get(slot.checked_sub(FIRST_SLOT)?)
}

/// The first device that the manifest grants to the domain in that slot and that the machine lacks, or has
/// too few of.
pub(crate) fn missing(slot: usize) -> Option<DeviceSelector> {
    of_slot(slot)?.iter().find_map(|grant| grant.as_ref().err().copied())
}

/// Device `device` of the domain whose code called the service. In a section.
fn of_caller(device: u32) -> Result<&'static Grant, DeviceRefusal> {
    let grants = of_slot(current_domain().slot());
    let grant = grants.and_then(|grants| grants.get(device as usize)?.as_ref().ok());
    grant.ok_or(DeviceRefusal::NotGranted { device })
}

/// The identity, BARs and vectors of a device of the caller.
pub(crate) fn info(device: u32) -> Result<DeviceInfo, DeviceRefusal> {
    of_caller(device).map(|grant| grant.info)
}

impl Grant {
    /// Returns true if `bytes` at `offset` of a BAR are an aligned register of the device.
    fn has_register(&self, bar: u8, offset: usize, bytes: usize) -> bool {
        let len = self.info.bars.get(usize::from(bar)).map_or(0, |&len| len as usize);
        let is_width = matches!(bytes, 1 | 2 | 4 | 8);
        is_width && offset.is_multiple_of(bytes) && len >= bytes && offset <= len - bytes
    }
}
